//! Where a channel's lines are in a sealed epoch, so that one can be found without reading the epoch.
//!
//! Built from the leaves when an epoch is sealed, off the payment path. Keys begin with the epoch: an epoch's records are written in
//! their order and deleted as one range.

use millstream_billing::FrameLeaf;
use millstream_types::{ChannelId, EpochId};

use crate::RecordError;
use crate::codec::Reader;
use crate::record::Key;

/// Frames in one index record, at most: a value of 8 KiB.
pub const INDEX_ENTRIES_MAX: usize = 1_024;

/// The frames of one channel in one epoch, or a run of them, in the order of their lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexRecord {
    /// The epoch.
    pub epoch: EpochId,
    /// The channel.
    pub channel: ChannelId,
    /// The channel's lines before the first frame.
    pub lines_before: u64,
    /// The channel's lines with the last frame.
    pub lines_after: u64,
    /// Each frame's first line, counted from `lines_before`, and its position in the epoch.
    frames: Vec<(u32, u32)>,
}

impl IndexRecord {
    fn starting(epoch: EpochId, leaf: &FrameLeaf, index: u32) -> Self {
        let FrameLeaf { channel, lines_before, lines_after, .. } = *leaf;
        Self { epoch, channel, lines_before, lines_after, frames: vec![(0, index)] }
    }

    /// Adds the channel's next frame; whether there was room.
    fn push(&mut self, leaf: &FrameLeaf, index: u32) -> bool {
        let offset = leaf.lines_before.checked_sub(self.lines_before).and_then(|offset| u32::try_from(offset).ok());
        match offset {
            Some(offset)
                if leaf.channel == self.channel && leaf.lines_before == self.lines_after && self.frames.len() < INDEX_ENTRIES_MAX =>
            {
                self.frames.push((offset, index));
                self.lines_after = leaf.lines_after;
                true
            }
            Some(_) | None => false,
        }
    }

    /// The frame with a line: its position in the epoch, and the channel's lines before it.
    #[must_use]
    pub fn find(&self, line: u64) -> Option<(u32, u64)> {
        let offset = line.checked_sub(self.lines_before).filter(|_| line < self.lines_after)?;
        let after = self.frames.partition_point(|(start, _)| u64::from(*start) <= offset);
        let (start, index) = self.frames.get(after.checked_sub(1)?)?;
        Some((*index, self.lines_before.saturating_add((*start).into())))
    }

    /// The positions of the frames in the epoch.
    pub fn positions(&self) -> impl Iterator<Item = u32> {
        self.frames.iter().map(|(_, index)| *index)
    }

    /// The key.
    #[must_use]
    pub const fn key(&self) -> Key {
        Key::Index(self.epoch, self.channel, self.lines_before)
    }

    /// Bytes of key and value.
    #[must_use]
    pub const fn size_bytes(&self) -> usize {
        self.frames.len().saturating_mul(8).saturating_add(57)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.size_bytes());
        bytes.push(1);
        bytes.extend_from_slice(&self.lines_after.to_be_bytes());
        for (start, index) in &self.frames {
            bytes.extend_from_slice(&start.to_be_bytes());
            bytes.extend_from_slice(&index.to_be_bytes());
        }
        bytes
    }

    /// The record of a key and a value of [`crate::Table::Index`].
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn decode(key: &[u8], value: &[u8]) -> Result<Self, RecordError> {
        let length = || RecordError::Length { what: "index" };
        let (epoch, rest) = key.split_first_chunk().ok_or_else(length)?;
        let (channel, rest) = rest.split_first_chunk().ok_or_else(length)?;
        let lines_before = u64::from_be_bytes(rest.try_into().map_err(|_| length())?);
        let channel = ChannelId::from_bytes(*channel).map_err(|_| RecordError::Value { what: "index" })?;
        let mut reader = Reader::new("index", value)?;
        let lines_after = reader.u64()?;
        let mut frames = Vec::new();
        while !reader.is_empty() {
            frames.push((reader.u32()?, reader.u32()?));
        }
        if frames.is_empty() {
            return Err(length());
        }
        Ok(Self { epoch: EpochId::new(u64::from_be_bytes(*epoch)), channel, lines_before, lines_after, frames })
    }
}

/// The index of an epoch from its leaves, in the order of the keys.
#[must_use]
pub fn index_records(epoch: EpochId, leaves: &[FrameLeaf]) -> Vec<IndexRecord> {
    let mut order: Vec<(u32, &FrameLeaf)> = (0..).zip(leaves).collect();
    order.sort_unstable_by_key(|(_, leaf)| (leaf.channel, leaf.lines_before));
    let mut records: Vec<IndexRecord> = Vec::new();
    for (index, leaf) in order {
        if !records.last_mut().is_some_and(|last| last.push(leaf, index)) {
            records.push(IndexRecord::starting(epoch, leaf, index));
        }
    }
    records
}
