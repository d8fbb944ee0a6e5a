//! Bytes of records: integers big-endian, a text is `length u16 ‖ bytes`.

use millstream_types::{Address, Amount, ChainId, Hash256, Timestamp};

use crate::ask::{AssetKey, Subject};
use crate::error::RecordError;

/// The version of all records.
pub(crate) const VERSION: u8 = 1;

#[derive(Default)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    /// A key of a kind of record.
    pub(crate) fn key(tag: u8) -> Self {
        Self(vec![tag])
    }

    /// A value.
    pub(crate) fn value() -> Self {
        Self(vec![VERSION])
    }

    pub(crate) fn u8(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    pub(crate) fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    pub(crate) fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    pub(crate) fn amount(&mut self, value: Amount) -> &mut Self {
        self.bytes(&value.units().to_be_bytes())
    }

    pub(crate) fn time(&mut self, value: Timestamp) -> &mut Self {
        self.u64(value.as_millis())
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Texts are names, which are checked when they come in, and sentences of ours: a longer one is cut.
    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
        self.bytes(&length.to_be_bytes()).bytes(text.as_bytes().get(..usize::from(length)).unwrap_or_default())
    }

    pub(crate) fn texts<'a>(&mut self, texts: impl ExactSizeIterator<Item = &'a str>) -> &mut Self {
        self.u32(u32::try_from(texts.len()).unwrap_or(u32::MAX));
        for text in texts {
            self.text(text);
        }
        self
    }

    pub(crate) fn asset(&mut self, asset: AssetKey) -> &mut Self {
        self.u64(asset.chain.get()).bytes(asset.token.as_bytes())
    }

    pub(crate) fn subject(&mut self, subject: &Subject) -> &mut Self {
        self.text(&subject.agent).text(&subject.key).text(&subject.payee).text(&subject.category).text(&subject.route)
    }

    pub(crate) fn maybe_time(&mut self, value: Option<Timestamp>) -> &mut Self {
        match value {
            None => self.u8(0),
            Some(value) => self.u8(1).time(value),
        }
    }

    pub(crate) fn take(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.0)
    }
}

pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    /// A value, whose version is one that is read here.
    pub(crate) fn value(bytes: &'a [u8]) -> Result<Self, RecordError> {
        match bytes.split_first() {
            Some((&VERSION, rest)) => Ok(Self(rest)),
            Some((&actual, _)) => Err(RecordError::Version { actual }),
            None => Err(RecordError::Damaged("a record without a version")),
        }
    }

    fn split(&mut self, length: usize) -> Result<&'a [u8], RecordError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(RecordError::Damaged("a record's length"))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        self.split(N)?.try_into().map_err(|_| RecordError::Damaged("a record's length"))
    }

    pub(crate) fn u8(&mut self) -> Result<u8, RecordError> {
        self.array().map(|[byte]: [u8; 1]| byte)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, RecordError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, RecordError> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn amount(&mut self) -> Result<Amount, RecordError> {
        self.array().map(|bytes| Amount::from_units(u128::from_be_bytes(bytes)))
    }

    pub(crate) fn time(&mut self) -> Result<Timestamp, RecordError> {
        self.u64().map(Timestamp::from_millis)
    }

    pub(crate) fn hash(&mut self) -> Result<Hash256, RecordError> {
        self.array().map(Hash256::from_bytes)
    }

    pub(crate) fn text(&mut self) -> Result<String, RecordError> {
        let length = usize::from(u16::from_be_bytes(self.array()?));
        String::from_utf8(self.split(length)?.to_vec()).map_err(|_| RecordError::Damaged("a text"))
    }

    /// A list, of which no length is believed before its entries are there.
    pub(crate) fn list<T>(&mut self, mut one: impl FnMut(&mut Self) -> Result<T, RecordError>) -> Result<Vec<T>, RecordError> {
        let count = self.u32()?;
        let mut list = Vec::new();
        for _ in 0..count {
            list.push(one(self)?);
        }
        Ok(list)
    }

    pub(crate) fn asset(&mut self) -> Result<AssetKey, RecordError> {
        Ok(AssetKey { chain: ChainId::new(self.u64()?), token: Address::from_bytes(self.array()?) })
    }

    pub(crate) fn subject(&mut self) -> Result<Subject, RecordError> {
        Ok(Subject { agent: self.text()?, key: self.text()?, payee: self.text()?, category: self.text()?, route: self.text()? })
    }

    pub(crate) fn maybe_time(&mut self) -> Result<Option<Timestamp>, RecordError> {
        match self.u8()? {
            0 => Ok(None),
            1 => self.time().map(Some),
            _ => Err(RecordError::Damaged("a moment")),
        }
    }

    pub(crate) fn end(&self) -> Result<(), RecordError> {
        if self.0.is_empty() { Ok(()) } else { Err(RecordError::Damaged("a record's end")) }
    }
}
