//! The boundary: what a store does for the node, and all a second back-end has to implement.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::batch::Batch;
use crate::error::StoreError;
use crate::head::{CommitSeq, Head};
use crate::table::Table;

/// Key and value.
pub type Record = (Vec<u8>, Vec<u8>);

/// Is shown key and value, and says whether to go on.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// How far a store's promises go at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Everything up to this batch is durable, and nothing is under way.
    Durable(CommitSeq),
    /// This batch is being written; everything before it is durable.
    InFlight(CommitSeq),
    /// A write or sync failed: whether a batch after this one survives is unknown. Final until the store is opened again.
    Lost(CommitSeq),
}

/// A range of keys in byte order: from a first key, included, up to an end, excluded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    from: Vec<u8>,
    to: Option<Vec<u8>>,
}

impl KeyRange {
    /// Every key.
    #[must_use]
    pub fn all() -> Self {
        Self { from: Vec::new(), to: None }
    }

    /// Keys at or above `from`.
    #[must_use]
    pub fn starting_at(from: &[u8]) -> Self {
        Self { from: from.to_vec(), to: None }
    }

    /// Keys at or above `from` and below `to`; none if `to` is not above `from`.
    #[must_use]
    pub fn between(from: &[u8], to: &[u8]) -> Self {
        Self { from: from.to_vec(), to: Some(to.to_vec()) }
    }

    /// Keys that begin with `prefix`.
    #[must_use]
    pub fn with_prefix(prefix: &[u8]) -> Self {
        let mut end = prefix.to_vec();
        while let Some(last) = end.last_mut() {
            if let Some(next) = last.checked_add(1) {
                *last = next;
                return Self { from: prefix.to_vec(), to: Some(end) };
            }
            end.pop();
        }
        Self::starting_at(prefix)
    }

    /// First key, included.
    #[must_use]
    pub fn from(&self) -> &[u8] {
        &self.from
    }

    /// End, excluded; `None` if the range is open.
    #[must_use]
    pub fn to(&self) -> Option<&[u8]> {
        self.to.as_deref()
    }

    /// Whether no key can be in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.to.as_ref().is_some_and(|to| *to <= self.from)
    }
}

/// Reading, from any thread. What is read is durable: a batch shows only after it is synced.
pub trait Read: Send + Sync {
    /// The value under `key`.
    ///
    /// # Errors
    /// The store is lost, or the data cannot be read intact.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Shows every record in `range` to `visit`, in ascending byte order of keys, until it breaks off.
    ///
    /// The scan is of one moment: batches committed meanwhile are not seen.
    ///
    /// # Errors
    /// The store is lost, or the data cannot be read intact.
    fn scan(&self, table: Table, range: &KeyRange, visit: &mut Visit<'_>) -> Result<(), StoreError>;

    /// The records in `range`, for ranges known to be small.
    ///
    /// # Errors
    /// As [`Read::scan`].
    fn collect(&self, table: Table, range: &KeyRange) -> Result<Vec<Record>, StoreError> {
        let mut records = Vec::new();
        self.scan(table, range, &mut |key, value| {
            records.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        })?;
        Ok(records)
    }

    /// Gives back the space of `range`, all of which a committed batch has deleted. Nothing that can be read changes, and a back-end
    /// that gives space back by itself need not do anything.
    ///
    /// # Errors
    /// The store is lost, or its files cannot be changed.
    fn reclaim(&self, table: Table, range: &KeyRange) -> Result<(), StoreError> {
        let _ = (table, range);
        Ok(())
    }
}

/// A store with its one writer.
pub trait Backend: Read {
    /// Makes the batch durable as the next one, and says its number once it is: only then may anything that rests on it leave the node.
    ///
    /// An empty batch is not written; the number is then that of the last batch.
    ///
    /// # Errors
    /// A batch beyond a limit is refused and changes nothing. Any other error means the batch may or may not survive: the store is
    /// [`Durability::Lost`] and every later call fails.
    fn commit(&mut self, batch: &Batch) -> Result<CommitSeq, StoreError>;

    /// Number and chain hash of the last durable batch.
    fn head(&self) -> Head;

    /// How far promises go.
    fn durability(&self) -> Durability;

    /// A handle for reading from other threads; it keeps the store open.
    fn reader(&self) -> Arc<dyn Read>;
}

#[cfg(test)]
mod tests {
    use super::KeyRange;

    #[test]
    fn prefix_ranges_end_after_the_last_key_with_it() {
        let end = |prefix: &[u8]| KeyRange::with_prefix(prefix).to().map(<[u8]>::to_vec);
        assert_eq!(end(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(end(&[1, 0xff]), Some(vec![2]));
        assert_eq!(end(&[0xff, 0xff]), None);
        assert_eq!(end(b""), None);
        assert!(KeyRange::between(b"b", b"b").is_empty());
        assert!(!KeyRange::all().is_empty());
    }
}
