//! Finding one payment in the stored records and proving it.

use millstream_billing::{EpochTree, LineProof};
use millstream_engine::{Key, StoredFrame};
use millstream_store::{KeyRange, Read};
use millstream_types::{ChannelId, LedgerId};
use millstream_wire::FrameMessage;

use crate::core::store_table;
use crate::errands::read_leaves;

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProofFailure {
    #[error("channel {channel} has no line {line}")]
    NoSuchLine { channel: ChannelId, line: u64 },
    #[error("the line is in epoch {epoch}, which is still open: cut it, or wait until it is sealed")]
    EpochOpen { epoch: u64 },
    #[error("the stored records of the line cannot be read: {0}")]
    Records(#[from] anyhow::Error),
}

/// The proof of a channel's line, counted from 0 over the channel's life. `open_epoch` is the first that is not cut.
pub(crate) fn make(reader: &dyn Read, ledger: LedgerId, open_epoch: u64, channel: ChannelId, line: u64) -> Result<LineProof, ProofFailure> {
    let (lines_before, frame) = find_frame(reader, channel, line)?.ok_or(ProofFailure::NoSuchLine { channel, line })?;
    if frame.epoch.number() >= open_epoch {
        return Err(ProofFailure::EpochOpen { epoch: frame.epoch.number() });
    }
    let message = FrameMessage::decode(frame.bytes).map_err(anyhow::Error::from)?;
    let index = usize::try_from(line - lines_before).map_err(anyhow::Error::from)?;
    if index >= usize::from(message.count()) {
        return Err(ProofFailure::NoSuchLine { channel, line });
    }
    let leaves = read_leaves(reader, frame.epoch)?;
    let leaf = *leaves.get(frame.index as usize).ok_or_else(|| anyhow::anyhow!("epoch {} has no leaf {}", frame.epoch, frame.index))?;
    let tree = EpochTree::new(ledger, frame.epoch, &leaves).map_err(anyhow::Error::from)?;
    let lines: Vec<_> = message.lines().collect();
    Ok(LineProof::new(&tree, frame.index as usize, leaf, &lines, index).map_err(anyhow::Error::from)?)
}

/// The frame with the line: the last one that starts at or before it.
fn find_frame(reader: &dyn Read, channel: ChannelId, line: u64) -> anyhow::Result<Option<(u64, StoredFrame)>> {
    // A frame has at most 1,024 lines, so it starts at most so many before the line.
    let from = Key::Frame(channel, line.saturating_sub(millstream_billing::FRAME_LINES_MAX as u64 - 1));
    let to = Key::Frame(channel, line.saturating_add(1));
    let frames = reader.collect(store_table(from.table()), &KeyRange::between(&from.to_bytes(), &to.to_bytes()))?;
    let Some((key, value)) = frames.last() else { return Ok(None) };
    let start = key.last_chunk().copied().map(u64::from_be_bytes).ok_or_else(|| anyhow::anyhow!("a frame with a short key"))?;
    Ok(Some((start, StoredFrame::decode(value)?)))
}
