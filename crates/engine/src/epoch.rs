//! Epochs: the open one, and those that were cut, sealed and anchored.

use millstream_billing::{EpochHeader, SumNode};
use millstream_types::{Amount, EpochId, Hash256, LedgerId, Timestamp};

use crate::RecordError;
use crate::codec::Reader;

/// The epoch that frames are billed in now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenEpoch {
    /// Its number.
    pub id: EpochId,
    /// Frames so far.
    pub frames: u32,
    /// When its first frame was accepted; nothing runs while there is none.
    pub first_frame_at: Option<Timestamp>,
}

impl OpenEpoch {
    pub(crate) const fn starting(id: EpochId) -> Self {
        Self { id, frames: 0, first_frame_at: None }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(22);
        bytes.push(1);
        bytes.extend_from_slice(&self.id.number().to_be_bytes());
        bytes.extend_from_slice(&self.frames.to_be_bytes());
        encode_time(self.first_frame_at, &mut bytes);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::new("open epoch", bytes)?;
        let id = EpochId::new(reader.u64()?);
        let frames = reader.u32()?;
        let first_frame_at = decode_time(&mut reader)?;
        reader.finish()?;
        Ok(Self { id, frames, first_frame_at })
    }
}

fn encode_time(at: Option<Timestamp>, bytes: &mut Vec<u8>) {
    match at {
        None => bytes.push(0),
        Some(at) => {
            bytes.push(1);
            bytes.extend_from_slice(&at.as_millis().to_be_bytes());
        }
    }
}

fn decode_time(reader: &mut Reader<'_>) -> Result<Option<Timestamp>, RecordError> {
    match reader.u8()? {
        0 => Ok(None),
        1 => Ok(Some(Timestamp::from_millis(reader.u64()?))),
        _ => Err(reader.invalid()),
    }
}

/// An epoch that takes no more frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochRecord {
    /// Its number.
    pub id: EpochId,
    /// Frames in it.
    pub frames: u32,
    /// The top of its tree, once that was built.
    pub top: Option<SumNode>,
    /// When the chain was seen to have confirmed its root.
    pub anchored_at: Option<Timestamp>,
    /// When its frames, leaves and index were deleted; this record stays.
    pub pruned_at: Option<Timestamp>,
}

impl EpochRecord {
    /// What the root commits to, once the tree was built.
    #[must_use]
    pub fn header(&self, ledger: LedgerId) -> Option<EpochHeader> {
        self.top.map(|top| EpochHeader { ledger, epoch: self.id, leaf_count: u64::from(self.frames), top })
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(72);
        bytes.push(1);
        bytes.extend_from_slice(&self.frames.to_be_bytes());
        encode_time(self.anchored_at, &mut bytes);
        encode_time(self.pruned_at, &mut bytes);
        match self.top {
            None => bytes.push(0),
            Some(top) => {
                bytes.push(1);
                bytes.extend_from_slice(top.hash.as_bytes());
                bytes.extend_from_slice(&top.sum.units().to_be_bytes());
            }
        }
        bytes
    }

    pub(crate) fn decode(id: EpochId, bytes: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::new("epoch", bytes)?;
        let frames = reader.u32()?;
        let (anchored_at, pruned_at) = (decode_time(&mut reader)?, decode_time(&mut reader)?);
        let top = match reader.u8()? {
            0 => None,
            1 => Some(SumNode { hash: Hash256::from_bytes(reader.bytes()?), sum: Amount::from_units(reader.u128()?) }),
            _ => return Err(reader.invalid()),
        };
        reader.finish()?;
        Ok(Self { id, frames, top, anchored_at, pruned_at })
    }
}
