//! Batches of the journal and what is in them, found in the store.

use std::ops::{ControlFlow, Range};

use millstream_billing::{BATCH_ENTRIES_MAX, BatchTree, ChargeEntry, FrameLeaf};
use millstream_engine::escrow::ChargesRecord;
use millstream_engine::{ChargeBatch, FrameBatch, Key, LeavesRecord, RecordError, Table};
use millstream_store::{KeyRange, Read};
use millstream_types::{EpochId, Hash256};

use super::BooksError;
use crate::core::{scan_records, store_table};

/// Entries before one that can be in its batch.
const BEFORE_MAX: u64 = BATCH_ENTRIES_MAX as u64 - 1;

/// A batch of charges and its entries.
pub(super) struct FoundCharges {
    pub(super) batch: ChargeBatch,
    pub(super) entries: Vec<ChargeEntry>,
    tree: BatchTree,
}

impl FoundCharges {
    /// An entry with its place and path.
    pub(super) fn entry(&self, index: usize) -> Option<(u32, Vec<Hash256>, &ChargeEntry)> {
        Some((u32::try_from(index).ok()?, self.tree.path(index)?, self.entries.get(index)?))
    }
}

/// Decodes each record of a range of a table.
pub(super) fn each<T>(
    reader: &dyn Read,
    table: Table,
    (from, to): (Vec<u8>, Vec<u8>),
    decode: impl Fn(&[u8], &[u8]) -> Result<T, RecordError>,
    take: impl FnMut(T) -> ControlFlow<()>,
) -> Result<(), BooksError> {
    scan_records(reader, table, &KeyRange::between(&from, &to), decode, take)
}

/// The batch of charges that begins with this one.
pub(super) fn charges_from(reader: &dyn Read, batch: ChargeBatch) -> Result<FoundCharges, BooksError> {
    let key = batch.first.to_be_bytes();
    let value = reader.get(store_table(Table::Charges), &key)?;
    let value = value.ok_or_else(|| anyhow::anyhow!("batch {} has no charges from {} on", batch.batch.number, batch.first))?;
    let entries = batch.entries(&ChargesRecord::decode(&key, &value)?);
    let entries = entries.ok_or_else(|| anyhow::anyhow!("batch {} is not over the charges from {} on", batch.batch.number, batch.first))?;
    let tree = BatchTree::new(entries.iter().map(|entry| *entry.hash().as_bytes()).collect());
    let tree = tree.filter(|tree| tree.root() == batch.batch.root);
    let tree = tree.ok_or_else(|| anyhow::anyhow!("the charges of batch {} are not those that were booked", batch.batch.number))?;
    Ok(FoundCharges { batch, entries, tree })
}

/// The batches of charges whose first charges have these numbers.
pub(super) fn charge_batches(reader: &dyn Read, firsts: Range<u64>) -> Result<Vec<ChargeBatch>, BooksError> {
    let mut batches = Vec::new();
    each(reader, Table::Accounts, Key::charge_batches(firsts), ChargeBatch::decode, |batch| {
        batches.push(batch);
        ControlFlow::Continue(())
    })?;
    Ok(batches)
}

/// The batch that has a charge.
pub(super) fn batch_of_charge(reader: &dyn Read, sequence: u64) -> Result<Option<ChargeBatch>, BooksError> {
    let firsts = sequence.saturating_sub(BEFORE_MAX)..sequence.saturating_add(1);
    let last = charge_batches(reader, firsts)?.pop();
    Ok(last.filter(|batch| sequence < batch.first.saturating_add(batch.batch.count.into())))
}

/// The first batch of charges from a number on.
pub(super) fn batch_from(reader: &dyn Read, first: u64) -> Result<Option<ChargeBatch>, BooksError> {
    let mut found = None;
    each(reader, Table::Accounts, Key::charge_batches(first..u64::MAX), ChargeBatch::decode, |batch| {
        found = Some(batch);
        ControlFlow::Break(())
    })?;
    Ok(found)
}

/// A batch of frames and its leaves.
pub(super) struct FoundFrames {
    pub(super) batch: FrameBatch,
    pub(super) leaves: Vec<FrameLeaf>,
    tree: BatchTree,
}

impl FoundFrames {
    /// A frame by its position in the epoch, with its place in the batch and path.
    pub(super) fn frame(&self, position: u32) -> Option<(u32, Vec<Hash256>, FrameLeaf)> {
        let index = position.checked_sub(self.batch.first)?;
        let at = usize::try_from(index).ok()?;
        Some((index, self.tree.path(at)?, *self.leaves.get(at)?))
    }
}

fn frame_batches_key(epoch: EpochId, first: u32) -> Vec<u8> {
    Key::FrameBatch(epoch, first).to_bytes()
}

/// The batches of frames of an epoch, in order.
pub(super) fn frame_batches(reader: &dyn Read, epoch: EpochId, positions: Range<u32>) -> Result<Vec<FrameBatch>, BooksError> {
    let mut batches = Vec::new();
    let range = (frame_batches_key(epoch, positions.start), frame_batches_key(epoch, positions.end));
    each(reader, Table::Batches, range, FrameBatch::decode, |batch| {
        batches.push(batch);
        ControlFlow::Continue(())
    })?;
    Ok(batches)
}

/// When the first frame of an epoch was booked: the first that was, where a journal began in the middle of it.
pub(super) fn epoch_began_at(reader: &dyn Read, epoch: EpochId) -> Result<Option<u64>, BooksError> {
    let mut began = None;
    let range = (frame_batches_key(epoch, 0), frame_batches_key(epoch, u32::MAX));
    each(reader, Table::Batches, range, FrameBatch::decode, |batch| {
        began = Some(batch.batch.at_millis);
        ControlFlow::Break(())
    })?;
    Ok(began)
}

/// The leaves of a batch of frames.
pub(super) fn frames_of(reader: &dyn Read, batch: FrameBatch) -> Result<FoundFrames, BooksError> {
    let key = Key::Leaves(batch.epoch, batch.first);
    let value = reader.get(store_table(Table::Leaves), &key.to_bytes())?;
    let value = value.ok_or_else(|| anyhow::anyhow!("batch {} has no frames", batch.batch.number))?;
    let mut leaves = Vec::new();
    LeavesRecord::decode_leaves(&value, &mut leaves)?;
    let tree = BatchTree::of_frames(&leaves).filter(|tree| tree.root() == batch.batch.root);
    let tree = tree.ok_or_else(|| anyhow::anyhow!("the frames of batch {} are not those that were booked", batch.batch.number))?;
    Ok(FoundFrames { batch, leaves, tree })
}

/// The batch that has the frame at a position of an epoch.
pub(super) fn batch_of_frame(reader: &dyn Read, epoch: EpochId, position: u32) -> Result<Option<FrameBatch>, BooksError> {
    let before = u32::try_from(BEFORE_MAX).unwrap_or(u32::MAX);
    let last = frame_batches(reader, epoch, position.saturating_sub(before)..position.saturating_add(1))?.pop();
    Ok(last.filter(|batch| position < batch.first.saturating_add(batch.batch.count)))
}
