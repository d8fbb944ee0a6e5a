//! Fixed-width big-endian fields, read with every length checked and written in one order.

use bytes::{BufMut, BytesMut};
use millstream_types::{Address, Amount, BillHead, ChannelId, CumulativeAmount};
use millstream_voucher::{SignedVoucher, VOUCHER_BYTES};

use crate::limits::LENGTH_BYTES;
use crate::{DecodeError, EncodeError, ErrorCode, Kind};

/// Reads the fields of one message of a known length, in order.
pub(crate) struct Fields<'a> {
    kind: Kind,
    expected: usize,
    actual: usize,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The fields after the kind of a `message` that must have `expected` bytes, kind and body.
    pub(crate) fn exactly(kind: Kind, message: &'a [u8], expected: usize) -> Result<Self, DecodeError> {
        let fields = Self::at_least(kind, message, expected)?;
        if fields.actual == expected { Ok(fields) } else { Err(fields.wrong_length()) }
    }

    /// The fields after the kind of a `message` that must have `least` bytes or more.
    pub(crate) fn at_least(kind: Kind, message: &'a [u8], least: usize) -> Result<Self, DecodeError> {
        let actual = message.len();
        let short = DecodeError::Length { kind, expected: least, actual };
        let rest = message.get(1..).ok_or(short)?;
        if actual < least { Err(short) } else { Ok(Self { kind, expected: least, actual, rest }) }
    }

    /// Raises what the message must have at least, once more of it is known.
    pub(crate) fn must_have(&mut self, least: usize) -> Result<(), DecodeError> {
        self.expected = least;
        if self.actual < least { Err(self.wrong_length()) } else { Ok(()) }
    }

    /// The rest of the message: a 16-bit length within its range, and exactly so many bytes.
    pub(crate) fn counted(mut self, field: &'static str, min: u16, max: u16) -> Result<Vec<u8>, DecodeError> {
        let length = self.u16()?;
        let length = usize::from(self.within(field, length, min.into(), max.into())?);
        self.expected = self.actual.saturating_sub(self.rest.len()).saturating_add(length);
        if self.rest.len() == length { Ok(self.rest.to_vec()) } else { Err(self.wrong_length()) }
    }

    /// The number of an error, one that this version has.
    pub(crate) fn code(&mut self) -> Result<ErrorCode, DecodeError> {
        let number = self.u16()?;
        ErrorCode::from_number(number).ok_or(DecodeError::OutOfRange {
            kind: self.kind,
            field: "code",
            min: 1,
            max: ErrorCode::LAST.number().into(),
            actual: number.into(),
        })
    }

    fn wrong_length(&self) -> DecodeError {
        DecodeError::Length { kind: self.kind, expected: self.expected, actual: self.actual }
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (field, rest) = self.rest.split_first_chunk::<N>().ok_or(self.wrong_length())?;
        self.rest = rest;
        Ok(*field)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.bytes().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.bytes().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.bytes().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.bytes().map(u64::from_be_bytes)
    }

    pub(crate) fn u128(&mut self) -> Result<u128, DecodeError> {
        self.bytes().map(u128::from_be_bytes)
    }

    pub(crate) fn amount(&mut self) -> Result<Amount, DecodeError> {
        self.u64().map(Amount::from_nanos)
    }

    pub(crate) fn cumulative(&mut self) -> Result<CumulativeAmount, DecodeError> {
        self.u64().map(CumulativeAmount::from_nanos)
    }

    pub(crate) fn address(&mut self) -> Result<Address, DecodeError> {
        self.bytes().map(Address::from_bytes)
    }

    pub(crate) fn head(&mut self) -> Result<BillHead, DecodeError> {
        self.bytes().map(BillHead::from_bytes)
    }

    pub(crate) fn channel(&mut self) -> Result<ChannelId, DecodeError> {
        let bytes = self.bytes::<32>()?;
        ChannelId::from_bytes(bytes).map_err(|_| DecodeError::ChannelId { actual: bytes[0] })
    }

    pub(crate) fn voucher(&mut self, channel: ChannelId) -> Result<SignedVoucher, DecodeError> {
        self.bytes::<VOUCHER_BYTES>().map(|bytes| SignedVoucher::from_bytes(channel, &bytes))
    }

    /// A 16-bit field whose bits are reserved.
    pub(crate) fn reserved_u16(&mut self) -> Result<(), DecodeError> {
        match self.u16()? {
            0 => Ok(()),
            actual => Err(DecodeError::Reserved { kind: self.kind, actual }),
        }
    }

    /// An 8-bit field whose bits are reserved.
    pub(crate) fn reserved_u8(&mut self) -> Result<(), DecodeError> {
        match self.u8()? {
            0 => Ok(()),
            actual => Err(DecodeError::Reserved { kind: self.kind, actual: actual.into() }),
        }
    }

    /// A byte of which only bit 0 is assigned.
    pub(crate) fn flag(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            flags => Err(DecodeError::Reserved { kind: self.kind, actual: u16::from(flags & !1) }),
        }
    }

    /// The field just read, if it is within its range.
    pub(crate) fn within<T: Copy + Into<u64>>(&self, field: &'static str, value: T, min: u64, max: u64) -> Result<T, DecodeError> {
        let actual = value.into();
        if (min..=max).contains(&actual) { Ok(value) } else { Err(DecodeError::OutOfRange { kind: self.kind, field, min, max, actual }) }
    }
}

/// Starts a message of `bytes` bytes, kind and body: writes its length and its kind.
pub(crate) fn start(out: &mut BytesMut, kind: Kind, bytes: usize) -> Result<(), EncodeError> {
    let length = u32::try_from(bytes).map_err(|_| EncodeError::Oversized { max: 0xffff_ffff, actual: bytes })?;
    out.reserve(bytes.saturating_add(LENGTH_BYTES));
    out.put_u32(length);
    out.put_u8(kind.to_u8());
    Ok(())
}

/// The 64 bits of an amount.
pub(crate) fn nanos(field: &'static str, amount: Amount) -> Result<u64, EncodeError> {
    amount.to_u64().map_err(|source| EncodeError::Amount { field, source })
}

/// The 64 bits of a total.
pub(crate) fn total(field: &'static str, total: CumulativeAmount) -> Result<u64, EncodeError> {
    total.to_u64().map_err(|source| EncodeError::Amount { field, source })
}
