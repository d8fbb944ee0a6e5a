//! Reading stored bytes back, exactly: too short or too long is an error.

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
