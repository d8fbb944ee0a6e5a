//! What is stored, under which key, in which bytes. Every value starts with its version, but that of a frame: it is what the payer sent, and
//! is stored without being copied.

use millstream_billing::FrameLeaf;
use millstream_types::{Address, BillHead, BlockNumber, ChannelId, EpochId, EscrowChannelId, Hash256};

use crate::codec::Reader;
use crate::escrow::{EscrowKey, EscrowRecord};
use crate::journal::{charge_batch_key, payer_batch_key};
use crate::{ChainCursor, Channel, ChargeBatch, Count, EpochRecord, FrameBatch, IndexRecord, JournalHead, OpenEpoch, Request, TallyKey};

/// Why stored bytes are not a record: a fault, since we wrote them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Written by another version.
    #[error("{what} record of version {version}: this program reads version 1")]
    Version {
        /// The kind of record.
        what: &'static str,
        /// The version found.
        version: u8,
    },
    /// Too short or too long.
    #[error("{what} record has a wrong length")]
    Length {
        /// The kind of record.
        what: &'static str,
    },
    /// A value outside of its range.
    #[error("{what} record has a value that cannot be")]
    Value {
        /// The kind of record.
        what: &'static str,
    },
}

/// Where a record belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Singletons.
    Meta,
    /// Channel by id.
    Channels,
    /// Frame by epoch and position.
    Frames,
    /// Frame leaves by epoch and first position.
    Leaves,
    /// Epoch by number.
    Epochs,
    /// Unserved request by position.
    Requests,
    /// Where a channel's frames are, by epoch, channel and first line.
    Index,
    /// Escrows, their channels, and what is under way on them.
    Escrows,
    /// Charges by first number.
    Charges,
    /// Outcomes of requests by generation and request.
    Outcomes,
    /// Batches of frames by epoch and first position.
    Batches,
    /// Batches of charges by first number, and by payer and first number.
    Accounts,
    /// Tallies by span, asset and whose they are.
    Tallies,
}

/// The key of a record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// How far the chain was read.
    Cursor,
    /// How far the chain has to tell again what it took back.
    Retelling,
    /// The open epoch.
    OpenEpoch,
    /// A channel.
    Channel(ChannelId),
    /// The frame at a position of an epoch.
    Frame(EpochId, u32),
    /// Leaves of an epoch, from a position on.
    Leaves(EpochId, u32),
    /// An epoch.
    Epoch(EpochId),
    /// A request.
    Request(u64),
    /// A channel's frames in an epoch, from the one that starts after so many lines on.
    Index(EpochId, ChannelId, u64),
    /// Something about escrows.
    Escrow(EscrowKey),
    /// The end of the journal.
    Journal,
    /// A batch of frames, by the key of its leaves.
    FrameBatch(EpochId, u32),
    /// A batch of charges, by the number of the first.
    ChargeBatch(u64),
    /// That a payer has charges in a batch.
    PayerBatch(Address, u64),
    /// A tally.
    Tally(TallyKey),
}

impl Key {
    /// The table.
    #[must_use]
    pub const fn table(&self) -> Table {
        match self {
            Self::Cursor | Self::Retelling | Self::OpenEpoch | Self::Journal => Table::Meta,
            Self::Channel(_) => Table::Channels,
            Self::Frame(..) => Table::Frames,
            Self::Leaves(..) => Table::Leaves,
            Self::Epoch(_) => Table::Epochs,
            Self::Request(_) => Table::Requests,
            Self::Index(..) => Table::Index,
            Self::Escrow(key) => key.table(),
            Self::FrameBatch(..) => Table::Batches,
            Self::ChargeBatch(_) | Self::PayerBatch(..) => Table::Accounts,
            Self::Tally(_) => Table::Tallies,
        }
    }

    /// The bytes of the key within its table. They sort as the values do.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Cursor => b"cursor".to_vec(),
            Self::Retelling => b"retelling".to_vec(),
            Self::OpenEpoch => b"open-epoch".to_vec(),
            Self::Channel(channel) => channel.as_bytes().to_vec(),
            Self::Journal => b"journal".to_vec(),
            Self::Frame(epoch, index) | Self::Leaves(epoch, index) | Self::FrameBatch(epoch, index) => {
                [epoch.number().to_be_bytes().as_slice(), &index.to_be_bytes()].concat()
            }
            Self::Epoch(epoch) => epoch.number().to_be_bytes().to_vec(),
            Self::Request(index) => index.to_be_bytes().to_vec(),
            Self::Index(epoch, channel, lines_before) => {
                [epoch.number().to_be_bytes().as_slice(), channel.as_bytes(), &lines_before.to_be_bytes()].concat()
            }
            Self::Escrow(key) => key.to_bytes(),
            Self::ChargeBatch(first) => charge_batch_key(*first),
            Self::PayerBatch(payer, first) => payer_batch_key(payer, *first),
            Self::Tally(key) => key.to_bytes(),
        }
    }

    /// The tables of what an epoch's bill consists of. Their keys begin with the epoch.
    pub const BILL_TABLES: [Table; 4] = [Table::Frames, Table::Leaves, Table::Index, Table::Batches];

    /// The range of [`Key::BILL_TABLES`] that [`crate::Effect::DeleteThrough`] deletes: from the first key, included, to the second, excluded.
    /// It begins at the first epoch of all, so that it also covers what an earlier one left.
    #[must_use]
    pub const fn through(epoch: EpochId) -> ([u8; 8], [u8; 8]) {
        ([0; 8], epoch.next().number().to_be_bytes())
    }

    /// The key of a channel on an escrow that is done with.
    #[must_use]
    pub const fn archived(channel: EscrowChannelId) -> Self {
        Self::Escrow(EscrowKey::Archived(channel))
    }

    /// The range of [`Table::Outcomes`] that [`crate::Effect::ForgetOutcomesBefore`] deletes: from the first key, included, to the second,
    /// excluded.
    #[must_use]
    pub const fn outcomes_before(generation: u32) -> ([u8; 4], [u8; 4]) {
        ([0; 4], generation.to_be_bytes())
    }
}

/// A record of the engine's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// How far the chain was read.
    Cursor(ChainCursor),
    /// How far the chain has to tell again what it took back.
    Retelling(BlockNumber),
    /// The open epoch.
    OpenEpoch(OpenEpoch),
    /// A channel.
    Channel(Box<Channel>),
    /// Leaves of an epoch.
    Leaves(LeavesRecord),
    /// An epoch that was cut.
    Epoch(EpochRecord),
    /// An unserved request.
    Request(u64, Request),
    /// Where a channel's frames are in an epoch.
    Index(IndexRecord),
    /// Something about escrows.
    Escrow(EscrowRecord),
    /// The end of the journal.
    Journal(JournalHead),
    /// A batch of frames.
    FrameBatch(FrameBatch),
    /// A batch of charges.
    ChargeBatch(ChargeBatch),
    /// A payer has charges in the batch that begins with this one.
    PayerBatch(Address, u64),
    /// A tally.
    Tally(TallyKey, Count),
}

impl Record {
    /// The key.
    #[must_use]
    pub fn key(&self) -> Key {
        match self {
            Self::Cursor(_) => Key::Cursor,
            Self::Retelling(_) => Key::Retelling,
            Self::OpenEpoch(_) => Key::OpenEpoch,
            Self::Channel(channel) => Key::Channel(channel.id),
            Self::Leaves(leaves) => Key::Leaves(leaves.epoch, leaves.first),
            Self::Epoch(epoch) => Key::Epoch(epoch.id),
            Self::Request(index, _) => Key::Request(*index),
            Self::Index(record) => record.key(),
            Self::Escrow(record) => Key::Escrow(record.key()),
            Self::Journal(_) => Key::Journal,
            Self::FrameBatch(batch) => Key::FrameBatch(batch.epoch, batch.first),
            Self::ChargeBatch(batch) => Key::ChargeBatch(batch.first),
            Self::PayerBatch(payer, first) => Key::PayerBatch(*payer, *first),
            Self::Tally(key, _) => Key::Tally(key.clone()),
        }
    }

    /// The value.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Cursor(cursor) => [&[1], cursor.block.height().to_be_bytes().as_slice(), &cursor.state].concat(),
            Self::Retelling(until) => [&[1], until.height().to_be_bytes().as_slice()].concat(),
            Self::OpenEpoch(epoch) => epoch.encode(),
            Self::Channel(channel) => channel.encode(),
            Self::Leaves(leaves) => leaves.encode(),
            Self::Epoch(epoch) => epoch.encode(),
            Self::Request(_, request) => request.encode(),
            Self::Index(record) => record.encode(),
            Self::Escrow(record) => record.encode(),
            Self::Journal(head) => head.encode(),
            Self::FrameBatch(batch) => batch.encode(),
            Self::ChargeBatch(batch) => batch.encode(),
            // That it is there is all that it says.
            Self::PayerBatch(..) => vec![1],
            Self::Tally(_, count) => count.encode(),
        }
    }

    /// A record of a table that is read at start-up, whole or of tallies the open ones: everything but frames, leaves, index, charges,
    /// outcomes, and the batches of the journal.
    ///
    /// # Errors
    /// [`RecordError`]: the bytes are not what this program wrote.
    pub fn decode(table: Table, key: &[u8], value: &[u8]) -> Result<Self, RecordError> {
        let number = |what| key.try_into().map(u64::from_be_bytes).map_err(|_| RecordError::Length { what });
        match table {
            Table::Meta if key == b"cursor" => {
                let mut reader = Reader::new("cursor", value)?;
                let block = BlockNumber::new(reader.u64()?);
                Ok(Self::Cursor(ChainCursor { block, state: reader.rest().to_vec() }))
            }
            Table::Meta if key == b"retelling" => {
                let mut reader = Reader::new("retelling", value)?;
                let until = BlockNumber::new(reader.u64()?);
                reader.finish()?;
                Ok(Self::Retelling(until))
            }
            Table::Meta if key == b"journal" => JournalHead::decode(value).map(Self::Journal),
            Table::Meta if key == b"open-epoch" => OpenEpoch::decode(value).map(Self::OpenEpoch),
            Table::Channels => {
                let id = key.try_into().map_err(|_| RecordError::Length { what: "channel" })?;
                let id = ChannelId::from_bytes(id).map_err(|_| RecordError::Value { what: "channel" })?;
                Channel::decode(id, value).map(Box::new).map(Self::Channel)
            }
            Table::Epochs => EpochRecord::decode(EpochId::new(number("epoch")?), value).map(Self::Epoch),
            Table::Requests => Ok(Self::Request(number("request")?, Request::decode(value)?)),
            Table::Escrows => EscrowRecord::decode(key, value).map(Self::Escrow),
            Table::Tallies => Count::decode(key, value).map(|(key, count)| Self::Tally(key, count)),
            Table::Meta
            | Table::Frames
            | Table::Leaves
            | Table::Index
            | Table::Charges
            | Table::Outcomes
            | Table::Batches
            | Table::Accounts => Err(RecordError::Value { what: "unexpected" }),
        }
    }
}

/// Leaves in one record, at most: a value of 124 KiB.
pub const LEAVES_PER_RECORD_MAX: usize = 1_024;

/// Leaves of frames that follow each other in an epoch and were accepted in one tick. One record for all of them: a record of its own for
/// each costs more than its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeavesRecord {
    /// The epoch.
    pub epoch: EpochId,
    /// The position of the first in it.
    pub first: u32,
    /// The leaves, 1 to [`LEAVES_PER_RECORD_MAX`].
    pub leaves: Vec<FrameLeaf>,
}

/// Bytes of a leaf in a record: `channel 32 ‖ lines before u64 ‖ lines u32 ‖ nanos before u64 ‖ nanos after u64 ‖ head 32 ‖ root 32`.
const LEAF_BYTES: usize = 124;

impl LeavesRecord {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.leaves.len().saturating_mul(LEAF_BYTES).saturating_add(1));
        bytes.push(1);
        for leaf in &self.leaves {
            bytes.extend_from_slice(leaf.channel.as_bytes());
            bytes.extend_from_slice(&leaf.lines_before.to_be_bytes());
            // A frame counts its lines in 32 bits.
            let lines = u32::try_from(leaf.lines_after.saturating_sub(leaf.lines_before)).unwrap_or(u32::MAX);
            bytes.extend_from_slice(&lines.to_be_bytes());
            bytes.extend_from_slice(&leaf.cumulative_before.to_be_bytes());
            bytes.extend_from_slice(&leaf.cumulative_after.to_be_bytes());
            bytes.extend_from_slice(leaf.bill_head.as_bytes());
            bytes.extend_from_slice(leaf.frame_root.as_bytes());
        }
        bytes
    }

    /// Appends the leaves that a value of [`Table::Leaves`] holds.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn decode_leaves(value: &[u8], leaves: &mut Vec<FrameLeaf>) -> Result<(), RecordError> {
        let mut reader = Reader::new("leaves", value)?;
        if reader.is_empty() {
            return Err(RecordError::Length { what: "leaves" });
        }
        while !reader.is_empty() {
            let channel = ChannelId::from_bytes(reader.bytes()?).map_err(|_| RecordError::Value { what: "leaves" })?;
            let (lines_before, lines) = (reader.u64()?, reader.u32()?);
            leaves.push(FrameLeaf {
                channel,
                lines_before,
                lines_after: lines_before.checked_add(lines.into()).ok_or(RecordError::Value { what: "leaves" })?,
                cumulative_before: reader.u64()?,
                cumulative_after: reader.u64()?,
                bill_head: BillHead::from_bytes(reader.bytes()?),
                frame_root: Hash256::from_bytes(reader.bytes()?),
            });
        }
        Ok(())
    }
}
