//! Reading stored bytes back, exactly: too short or too long is an error.

use bytes::Bytes;

use crate::RecordError;

pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// Starts reading a record of version 1.
    pub(crate) fn new(what: &'static str, bytes: &'a [u8]) -> Result<Self, RecordError> {
        let mut reader = Self { rest: bytes, what };
        match reader.u8()? {
            1 => Ok(reader),
            version => Err(RecordError::Version { what, version }),
        }
    }

    /// Starts reading a key, which has no version.
    pub(crate) const fn key(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { rest: bytes, what }
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(RecordError::Length { what: self.what })?;
        self.rest = rest;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, RecordError> {
        self.bytes().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, RecordError> {
        self.bytes().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, RecordError> {
        self.bytes().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, RecordError> {
        self.bytes().map(u64::from_be_bytes)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn u128(&mut self) -> Result<u128, RecordError> {
        self.bytes().map(u128::from_be_bytes)
    }

    pub(crate) fn invalid(&self) -> RecordError {
        RecordError::Value { what: self.what }
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn finish(self) -> Result<(), RecordError> {
        if self.rest.is_empty() { Ok(()) } else { Err(RecordError::Length { what: self.what }) }
    }
}

impl Reader<'_> {
    /// An amount as [`put_amount`] writes it, in its one form.
    pub(crate) fn amount(&mut self) -> Result<u128, RecordError> {
        let length = usize::from(self.u8()?);
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(RecordError::Length { what: self.what })?;
        if length > 16 || bytes.first() == Some(&0) {
            return Err(self.invalid());
        }
        self.rest = rest;
        Ok(bytes.iter().fold(0, |amount, byte| amount << 8 | u128::from(*byte)))
    }

    /// Bytes as [`put_blob`] writes them.
    pub(crate) fn blob(&mut self) -> Result<Bytes, RecordError> {
        let length = usize::from(self.u16()?);
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(RecordError::Length { what: self.what })?;
        self.rest = rest;
        Ok(Bytes::copy_from_slice(bytes))
    }

    /// Text as [`put_blob`] writes it.
    pub(crate) fn text(&mut self) -> Result<String, RecordError> {
        String::from_utf8(self.blob()?.into()).map_err(|_| self.invalid())
    }

    /// What a byte of 0 or 1 says is there.
    pub(crate) fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, RecordError>) -> Result<Option<T>, RecordError> {
        match self.u8()? {
            0 => Ok(None),
            1 => read(self).map(Some),
            _ => Err(self.invalid()),
        }
    }
}

/// An amount: `length u8 ‖ big-endian bytes without leading zeros`. Most amounts are small, and there are several in every record.
pub(crate) fn put_amount(bytes: &mut Vec<u8>, amount: u128) {
    let digits = amount.to_be_bytes();
    let significant = digits.iter().position(|byte| *byte != 0).and_then(|start| digits.get(start..)).unwrap_or_default();
    bytes.push(u8::try_from(significant.len()).unwrap_or(u8::MAX));
    bytes.extend_from_slice(significant);
}

/// Bytes whose number was checked when they came: `length u16 ‖ bytes`.
pub(crate) fn put_blob(bytes: &mut Vec<u8>, blob: &[u8]) {
    let length = u16::try_from(blob.len()).unwrap_or(u16::MAX);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(blob.get(..usize::from(length)).unwrap_or(blob));
}

/// `0`, or `1` and what `put` writes.
pub(crate) fn put_option<T>(bytes: &mut Vec<u8>, value: Option<T>, put: impl FnOnce(&mut Vec<u8>, T)) {
    match value {
        None => bytes.push(0),
        Some(value) => {
            bytes.push(1);
            put(bytes, value);
        }
    }
}
