//! Finding one payment in the stored records and proving it.

use std::ops::ControlFlow;

use millstream_billing::{EpochTree, LineProof};
use millstream_engine::{Engine, IndexRecord, Key, LeavesRecord, Record, Table};
use millstream_store::{KeyRange, Read};
use millstream_types::{ChannelId, EpochId, LedgerId, Timestamp};
use millstream_wire::FrameMessage;

use crate::core::{scan_records, store_table};
use crate::errands::read_leaves;

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProofFailure {
    #[error("channel {channel} has no line {line}")]
    NoSuchLine { channel: ChannelId, line: u64 },
    #[error("the line is in epoch {epoch}, which is not sealed yet: cut it, or wait until it is sealed")]
    EpochOpen { epoch: EpochId },
    #[error(
        "the line was billed in epoch {epoch} or before; what it was billed with is deleted, of epoch {epoch} at {} milliseconds of Unix time \
         (billing.retention_secs)", at.as_millis()
    )]
    Pruned { epoch: EpochId, at: Timestamp },
    #[error("the stored records of the line cannot be read: {0}")]
    Records(#[from] anyhow::Error),
}

/// What the engine knows that a proof begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bill {
    pub(crate) ledger: LedgerId,
    /// The channel's lines.
    pub(crate) lines_total: u64,
    /// The newest pruned epoch, with every one before it, and when that was.
    pub(crate) pruned: Option<(EpochId, Timestamp)>,
}

impl Bill {
    pub(crate) fn of(engine: &Engine, channel: &ChannelId) -> Self {
        let lines_total = engine.channel(channel).map_or(0, |channel| channel.lines_total());
        Self { ledger: engine.config().ledger, lines_total, pruned: engine.pruned() }
    }
}

/// The proof of a channel's line, counted from 0 over the channel's life.
pub(crate) fn make(reader: &dyn Read, bill: Bill, channel: ChannelId, line: u64) -> Result<LineProof, ProofFailure> {
    if line >= bill.lines_total {
        return Err(ProofFailure::NoSuchLine { channel, line });
    }
    let first_kept = bill.pruned.map_or(EpochId::new(0), |(epoch, _)| epoch.next());
    let sealed = sealed_epochs(reader, first_kept)?;
    let Some((epoch, index, lines_before)) = find_in_index(reader, &sealed, channel, line)? else {
        let mut unsealed = first_kept;
        while sealed.binary_search(&unsealed).is_ok() {
            unsealed = unsealed.next();
        }
        return Err(match (find_in_leaves(reader, unsealed, channel, line)?, bill.pruned) {
            (Some(epoch), _) => ProofFailure::EpochOpen { epoch },
            (None, Some((epoch, at))) => ProofFailure::Pruned { epoch, at },
            (None, None) => ProofFailure::Records(anyhow::anyhow!("channel {channel} has line {line}, and no epoch has it")),
        });
    };
    let key = Key::Frame(epoch, index);
    let frame = reader.get(store_table(key.table()), &key.to_bytes()).map_err(anyhow::Error::from)?;
    let frame = frame.ok_or_else(|| anyhow::anyhow!("epoch {epoch} has no frame {index}"))?;
    let message = FrameMessage::decode(frame.into()).map_err(anyhow::Error::from)?;
    let line_index = usize::try_from(line - lines_before).map_err(anyhow::Error::from)?;
    let leaves = read_leaves(reader, epoch)?;
    let leaf = *leaves.get(index as usize).ok_or_else(|| anyhow::anyhow!("epoch {epoch} has no leaf {index}"))?;
    let tree = EpochTree::new(bill.ledger, epoch, &leaves).map_err(anyhow::Error::from)?;
    let lines: Vec<_> = message.lines().collect();
    Ok(LineProof::new(&tree, index as usize, leaf, &lines, line_index).map_err(anyhow::Error::from)?)
}

/// The sealed epochs from `first` on, oldest first: their index is complete.
pub(crate) fn sealed_epochs(reader: &dyn Read, first: EpochId) -> anyhow::Result<Vec<EpochId>> {
    let mut sealed = Vec::new();
    let range = KeyRange::starting_at(&Key::Epoch(first).to_bytes());
    let decode = |key: &[u8], value: &[u8]| Record::decode(Table::Epochs, key, value);
    scan_records::<_, anyhow::Error>(reader, Table::Epochs, &range, decode, |record| {
        if let Record::Epoch(epoch) = record
            && epoch.top.is_some()
        {
            sealed.push(epoch.id);
        }
        ControlFlow::Continue(())
    })?;
    Ok(sealed)
}

/// Where a line is with regard to one epoch.
enum Place {
    /// Billed in an earlier one.
    Before,
    /// The frame at this position has it, after so many lines of the channel.
    Here(u32, u64),
    /// Billed in a later one.
    After,
}

/// The frame with a line: epoch, position, and the channel's lines before it. Lines grow with epochs, so the search halves what is left; epochs
/// in which the channel paid nothing are stepped over.
pub(crate) fn find_in_index(
    reader: &dyn Read,
    sealed: &[EpochId],
    channel: ChannelId,
    line: u64,
) -> anyhow::Result<Option<(EpochId, u32, u64)>> {
    let mut left = sealed;
    while !left.is_empty() {
        let middle = left.len() / 2;
        let mut at = middle;
        let place = loop {
            match place_in(reader, left[at], channel, line)? {
                None if at > 0 => at -= 1,
                place => break place,
            }
        };
        match place {
            Some(Place::Here(index, lines_before)) => return Ok(Some((left[at], index, lines_before))),
            Some(Place::Before) => left = &left[..at],
            Some(Place::After) | None => left = &left[middle + 1..],
        }
    }
    Ok(None)
}

/// `None` when the channel paid nothing in the epoch.
fn place_in(reader: &dyn Read, epoch: EpochId, channel: ChannelId, line: u64) -> anyhow::Result<Option<Place>> {
    let prefix = [epoch.number().to_be_bytes().as_slice(), channel.as_bytes()].concat();
    let (mut place, mut outcome) = (None, Ok(()));
    reader.scan(store_table(Table::Index), &KeyRange::with_prefix(&prefix), &mut |key, value| match IndexRecord::decode(key, value) {
        Ok(record) if line < record.lines_before => {
            place = Some(Place::Before);
            ControlFlow::Break(())
        }
        Ok(record) => match record.find(line) {
            Some((index, lines_before)) => {
                place = Some(Place::Here(index, lines_before));
                ControlFlow::Break(())
            }
            None => {
                place = Some(Place::After);
                ControlFlow::Continue(())
            }
        },
        Err(error) => {
            outcome = Err(error);
            ControlFlow::Break(())
        }
    })?;
    outcome?;
    Ok(place)
}

/// The epoch from `first` on whose leaves have a line.
fn find_in_leaves(reader: &dyn Read, first: EpochId, channel: ChannelId, line: u64) -> anyhow::Result<Option<EpochId>> {
    let (mut found, mut leaves, mut outcome) = (None, Vec::new(), Ok(()));
    let range = KeyRange::starting_at(&first.number().to_be_bytes());
    reader.scan(store_table(Table::Leaves), &range, &mut |key, value| {
        leaves.clear();
        outcome = LeavesRecord::decode_leaves(value, &mut leaves);
        let has_line = leaves.iter().any(|leaf| leaf.channel == channel && (leaf.lines_before..leaf.lines_after).contains(&line));
        if has_line {
            found = key.first_chunk().map(|epoch| EpochId::new(u64::from_be_bytes(*epoch)));
        }
        if has_line || outcome.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    outcome?;
    Ok(found)
}
