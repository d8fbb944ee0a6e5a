//! What is stored, under which key, in which bytes. Every value starts with its version.

use bytes::{Bytes, BytesMut};
use millstream_billing::FrameLeaf;
use millstream_types::{BillHead, BlockNumber, ChannelId, EpochId, Hash256};

use crate::codec::Reader;
use crate::{ChainCursor, Channel, EpochRecord, OpenEpoch, Request};

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
    /// Frame by channel and first line.
    Frames,
    /// Frame leaf by epoch and position.
    Leaves,
    /// Epoch by number.
    Epochs,
    /// Unserved request by position.
    Requests,
}

/// The key of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// How far the chain was read.
    Cursor,
    /// How far the chain has to tell again what it took back.
    Retelling,
    /// The open epoch.
    OpenEpoch,
    /// A channel.
    Channel(ChannelId),
    /// The frame of a channel that starts after so many lines.
    Frame(ChannelId, u64),
    /// A leaf of an epoch.
    Leaf(EpochId, u32),
    /// An epoch.
    Epoch(EpochId),
    /// A request.
    Request(u64),
}

impl Key {
    /// The table.
    #[must_use]
    pub const fn table(&self) -> Table {
        match self {
            Self::Cursor | Self::Retelling | Self::OpenEpoch => Table::Meta,
            Self::Channel(_) => Table::Channels,
            Self::Frame(..) => Table::Frames,
            Self::Leaf(..) => Table::Leaves,
            Self::Epoch(_) => Table::Epochs,
            Self::Request(_) => Table::Requests,
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
            Self::Frame(channel, lines_before) => [channel.as_bytes().as_slice(), &lines_before.to_be_bytes()].concat(),
            Self::Leaf(epoch, index) => [epoch.number().to_be_bytes().as_slice(), &index.to_be_bytes()].concat(),
            Self::Epoch(epoch) => epoch.number().to_be_bytes().to_vec(),
            Self::Request(index) => index.to_be_bytes().to_vec(),
        }
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
    /// A leaf of an epoch.
    Leaf(LeafRecord),
    /// An epoch that was cut.
    Epoch(EpochRecord),
    /// An unserved request.
    Request(u64, Request),
}

impl Record {
    /// The key.
    #[must_use]
    pub const fn key(&self) -> Key {
        match self {
            Self::Cursor(_) => Key::Cursor,
            Self::Retelling(_) => Key::Retelling,
            Self::OpenEpoch(_) => Key::OpenEpoch,
            Self::Channel(channel) => Key::Channel(channel.id),
            Self::Leaf(leaf) => Key::Leaf(leaf.epoch, leaf.index),
            Self::Epoch(epoch) => Key::Epoch(epoch.id),
            Self::Request(index, _) => Key::Request(*index),
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
            Self::Leaf(leaf) => leaf.encode(),
            Self::Epoch(epoch) => epoch.encode(),
            Self::Request(_, request) => request.encode(),
        }
    }

    /// A record of a table that is read whole at start-up: everything but frames and leaves.
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
            Table::Meta if key == b"open-epoch" => OpenEpoch::decode(value).map(Self::OpenEpoch),
            Table::Channels => {
                let id = key.try_into().map_err(|_| RecordError::Length { what: "channel" })?;
                let id = ChannelId::from_bytes(id).map_err(|_| RecordError::Value { what: "channel" })?;
                Channel::decode(id, value).map(Box::new).map(Self::Channel)
            }
            Table::Epochs => EpochRecord::decode(EpochId::new(number("epoch")?), value).map(Self::Epoch),
            Table::Requests => Ok(Self::Request(number("request")?, Request::decode(value)?)),
            Table::Meta | Table::Frames | Table::Leaves => Err(RecordError::Value { what: "unexpected" }),
        }
    }
}

/// The leaf of a frame, at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeafRecord {
    /// The epoch.
    pub epoch: EpochId,
    /// The position in it.
    pub index: u32,
    /// The leaf.
    pub leaf: FrameLeaf,
}

impl LeafRecord {
    fn encode(&self) -> Vec<u8> {
        let leaf = &self.leaf;
        let mut bytes = Vec::with_capacity(129);
        bytes.push(1);
        bytes.extend_from_slice(leaf.channel.as_bytes());
        for number in [leaf.lines_before, leaf.lines_after, leaf.cumulative_before, leaf.cumulative_after] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(leaf.bill_head.as_bytes());
        bytes.extend_from_slice(leaf.frame_root.as_bytes());
        bytes
    }

    /// The leaf that a value of [`Table::Leaves`] holds.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn decode_leaf(value: &[u8]) -> Result<FrameLeaf, RecordError> {
        let mut reader = Reader::new("leaf", value)?;
        let channel = ChannelId::from_bytes(reader.bytes()?).map_err(|_| RecordError::Value { what: "leaf" })?;
        let leaf = FrameLeaf {
            channel,
            lines_before: reader.u64()?,
            lines_after: reader.u64()?,
            cumulative_before: reader.u64()?,
            cumulative_after: reader.u64()?,
            bill_head: BillHead::from_bytes(reader.bytes()?),
            frame_root: Hash256::from_bytes(reader.bytes()?),
        };
        reader.finish()?;
        Ok(leaf)
    }
}

/// A stored frame: where it is billed, and the bytes that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFrame {
    /// The epoch.
    pub epoch: EpochId,
    /// The position in it.
    pub index: u32,
    /// The frame message's body.
    pub bytes: Bytes,
}

impl StoredFrame {
    /// The value in [`Table::Frames`].
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut value = BytesMut::with_capacity(self.bytes.len().saturating_add(13));
        value.extend_from_slice(&[1]);
        value.extend_from_slice(&self.epoch.number().to_be_bytes());
        value.extend_from_slice(&self.index.to_be_bytes());
        value.extend_from_slice(&self.bytes);
        value.freeze()
    }

    /// # Errors
    /// [`RecordError`].
    pub fn decode(value: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::new("frame", value)?;
        let epoch = EpochId::new(reader.u64()?);
        let index = reader.u32()?;
        Ok(Self { epoch, index, bytes: Bytes::copy_from_slice(reader.rest()) })
    }
}
