//! A batch: puts and deletes in order, in one reusable buffer.
//!
//! Bytes of a record: `kind u8 (1 put, 2 delete, 3 delete range) ‖ table u8 ‖ key length u32 ‖ value length u32 ‖ key ‖ value`, big-endian;
//! of a range, the key is its first key and the value its end, excluded. The chain hash covers exactly these bytes, so any back-end
//! computes the same one.

use crate::backend::KeyRange;
use crate::error::StoreError;
use crate::head::RESERVED_PREFIX;
use crate::table::Table;

/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 1024;
/// Longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 16 << 20;
/// Most bytes in a batch, counted as encoded. An ordinary tick has a few MiB; one that changes every channel at once, as after a deep
/// reorganisation, has about 240 bytes for each.
pub const BATCH_BYTES_MAX: usize = 1 << 30;

const RECORD_HEADER_BYTES: usize = 10;
const PUT: u8 = 1;
const DELETE: u8 = 2;
const DELETE_RANGE: u8 = 3;

/// What a record does to its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op<'a> {
    Put { table: Table, key: &'a [u8], value: &'a [u8] },
    Delete { table: Table, key: &'a [u8] },
    DeleteRange { table: Table, from: &'a [u8], to: &'a [u8] },
}

/// An ordered list of puts and deletes that is committed whole or not at all. Reuse it: [`Batch::clear`] keeps the memory.
///
/// Later records win over earlier ones on the same key.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    records: usize,
    refusal: Option<Refusal>,
}

#[derive(Clone, Copy, Debug)]
enum Refusal {
    Key(usize),
    Value(usize),
    Reserved,
    OpenRange,
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty batch with room for `bytes` of encoded records (ten bytes each beside key and value).
    #[must_use]
    pub fn with_capacity_bytes(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), records: 0, refusal: None }
    }

    /// Stores `value` under `key`.
    ///
    /// A key or value beyond its limit, or a key that is the store's own, makes `commit` refuse the batch as a whole.
    pub fn put(&mut self, table: Table, key: &[u8], value: &[u8]) {
        self.push(PUT, table, key, value);
    }

    /// Removes `key`, if it is there. The same limits hold as for [`Batch::put`].
    pub fn delete(&mut self, table: Table, key: &[u8]) {
        self.push(DELETE, table, key, &[]);
    }

    /// Removes every key in `range` that is there when the batch is applied, puts of the same batch before it included.
    ///
    /// The range must have an end; one that no key can be in is left out. The same limits hold for its two keys as for [`Batch::put`].
    pub fn delete_range(&mut self, table: Table, range: &KeyRange) {
        if range.is_empty() {
            return;
        }
        match range.to() {
            None => self.refuse(Refusal::OpenRange),
            Some(to) if to.len() > KEY_BYTES_MAX => self.refuse(Refusal::Key(to.len())),
            Some(to)
                if table == Table::Meta && to > RESERVED_PREFIX && range.from() <= [RESERVED_PREFIX, &[u8::MAX]].concat().as_slice() =>
            {
                self.refuse(Refusal::Reserved);
            }
            Some(to) => self.push(DELETE_RANGE, table, range.from(), to),
        }
    }

    /// Forgets all records and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.records = 0;
        self.refusal = None;
    }

    /// How many records it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records
    }

    /// Whether it holds no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Encoded size in bytes; what queues and ticks are bounded by.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    fn push(&mut self, kind: u8, table: Table, key: &[u8], value: &[u8]) {
        self.records += 1;
        match (u32::try_from(key.len()), u32::try_from(value.len())) {
            (_, _) if key.len() > KEY_BYTES_MAX => self.refuse(Refusal::Key(key.len())),
            (_, _) if value.len() > VALUE_BYTES_MAX => self.refuse(Refusal::Value(value.len())),
            (_, _) if table == Table::Meta && key.starts_with(RESERVED_PREFIX) => self.refuse(Refusal::Reserved),
            (Ok(key_len), Ok(value_len)) => {
                self.bytes.reserve(RECORD_HEADER_BYTES + key.len() + value.len());
                self.bytes.extend_from_slice(&[kind, table.number()]);
                self.bytes.extend_from_slice(&key_len.to_be_bytes());
                self.bytes.extend_from_slice(&value_len.to_be_bytes());
                self.bytes.extend_from_slice(key);
                self.bytes.extend_from_slice(value);
            }
            (Err(_), _) => self.refuse(Refusal::Key(key.len())),
            (_, Err(_)) => self.refuse(Refusal::Value(value.len())),
        }
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.refusal.get_or_insert(refusal);
    }

    /// Whether a back-end may commit it.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        match self.refusal {
            Some(Refusal::Key(bytes)) => Err(StoreError::KeyTooLong { bytes, max: KEY_BYTES_MAX }),
            Some(Refusal::Value(bytes)) => Err(StoreError::ValueTooLong { bytes, max: VALUE_BYTES_MAX }),
            Some(Refusal::Reserved) => Err(StoreError::ReservedKey),
            Some(Refusal::OpenRange) => Err(StoreError::OpenRange),
            None if self.bytes.len() > BATCH_BYTES_MAX => Err(StoreError::BatchTooLarge { bytes: self.bytes.len(), max: BATCH_BYTES_MAX }),
            None => Ok(()),
        }
    }

    /// The encoded records, which the chain hash covers.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The records in order.
    pub(crate) fn ops(&self) -> Ops<'_> {
        Ops { rest: &self.bytes }
    }
}

/// The records of encoded batch bytes; ends early at bytes that are not a whole record.
pub(crate) struct Ops<'a> {
    rest: &'a [u8],
}

impl<'a> Ops<'a> {
    #[cfg(any(test, feature = "testkit"))]
    pub(crate) fn of_bytes(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'a> Iterator for Ops<'a> {
    type Item = Op<'a>;

    fn next(&mut self) -> Option<Op<'a>> {
        let ([kind, table], rest) = self.rest.split_first_chunk::<2>()?;
        let (key_len, rest) = rest.split_first_chunk::<4>()?;
        let (value_len, rest) = rest.split_first_chunk::<4>()?;
        let (key, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*key_len)).ok()?)?;
        let (value, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*value_len)).ok()?)?;
        self.rest = rest;
        let table = Table::from_number(*table)?;
        match *kind {
            PUT => Some(Op::Put { table, key, value }),
            DELETE => Some(Op::Delete { table, key }),
            DELETE_RANGE => Some(Op::DeleteRange { table, from: key, to: value }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Batch, KEY_BYTES_MAX, Op};
    use crate::{KeyRange, StoreError, Table};

    #[test]
    fn records_come_back_in_order() {
        let mut batch = Batch::with_capacity_bytes(256);
        batch.put(Table::Frames, b"k1", b"value");
        batch.delete(Table::Channels, b"k2");
        batch.put(Table::Meta, b"", b"");
        batch.delete_range(Table::Leaves, &KeyRange::between(b"b", b"d"));
        batch.delete_range(Table::Leaves, &KeyRange::between(b"d", b"b"));
        let ops: Vec<_> = batch.ops().collect();
        let expected = [
            Op::Put { table: Table::Frames, key: b"k1", value: b"value" },
            Op::Delete { table: Table::Channels, key: b"k2" },
            Op::Put { table: Table::Meta, key: b"", value: b"" },
            Op::DeleteRange { table: Table::Leaves, from: b"b", to: b"d" },
        ];
        assert_eq!(ops, expected);
        assert_eq!((batch.len(), batch.size_bytes()), (4, 4 * 10 + 7 + 2 + 2));
        batch.clear();
        assert!(batch.is_empty() && batch.ops().next().is_none());
    }

    #[test]
    fn limits_are_sticky_until_cleared() {
        let mut batch = Batch::new();
        batch.put(Table::Chain, &[0; KEY_BYTES_MAX + 1], b"");
        batch.put(Table::Chain, b"fine", b"");
        assert!(matches!(batch.check(), Err(StoreError::KeyTooLong { bytes: 1025, .. })));
        batch.clear();
        batch.delete(Table::Meta, b"store/head");
        assert!(matches!(batch.check(), Err(StoreError::ReservedKey)));
        batch.clear();
        for range in [KeyRange::between(b"a", b"store/i"), KeyRange::between(b"store/head", b"z"), KeyRange::between(b"", b"zz")] {
            batch.delete_range(Table::Meta, &range);
            assert!(matches!(batch.check(), Err(StoreError::ReservedKey)), "{range:?}");
            batch.clear();
        }
        batch.delete_range(Table::Frames, &KeyRange::starting_at(b"a"));
        assert!(matches!(batch.check(), Err(StoreError::OpenRange)));
        batch.clear();
        batch.delete_range(Table::Frames, &KeyRange::between(b"a", &[0xff; KEY_BYTES_MAX + 1]));
        assert!(matches!(batch.check(), Err(StoreError::KeyTooLong { .. })));
        batch.clear();
        batch.delete_range(Table::Meta, &KeyRange::between(b"a", b"store/"));
        batch.delete_range(Table::Meta, &KeyRange::between(b"store0", b"z"));
        batch.put(Table::Channels, b"store/head", b"only Meta has reserved keys");
        assert!(batch.check().is_ok());
    }
}
