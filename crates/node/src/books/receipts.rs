//! Receipts: made from the kept batch when somebody asks.

use std::ops::ControlFlow;
use std::sync::Arc;

use millstream_billing::{Entry, FrameTree, Receipt, ReceiptLine, SignedBatch};
use millstream_engine::{Key, LeavesRecord, Table};
use millstream_store::{KeyRange, Read};
use millstream_types::{ChannelId, EpochId, Hash256, LedgerId};
use millstream_wire::FrameMessage;

use super::find::{batch_of_charge, batch_of_frame, charges_from, frames_of};
use super::{Books, BooksError};
use crate::core::store_table;
use crate::proofs::{self, Bill};

impl Books {
    /// The receipt of a charge, by its number in the charge log.
    pub(crate) async fn charge_receipt(self: &Arc<Self>, sequence: u64) -> Result<Receipt, BooksError> {
        let made = self.core.query(|engine| engine.escrow_summary().charges).await?;
        if sequence >= made {
            return Err(BooksError::NoCharge { sequence });
        }
        let books = Arc::clone(self);
        blocking(move || {
            let batch = batch_of_charge(&*books.reader, sequence)?.ok_or(BooksError::BeforeJournal { sequence })?;
            let found = charges_from(&*books.reader, batch)?;
            let index = sequence.checked_sub(found.batch.first).and_then(|index| usize::try_from(index).ok());
            let (index, path, entry) = index.and_then(|index| found.entry(index)).ok_or(BooksError::NoCharge { sequence })?;
            let entry = Entry::Charge(entry.clone());
            Ok(books.receipt(books.signed(found.batch.batch)?, (index, path), entry, None))
        })
        .await
    }

    /// The receipt of one line of a channel of the ledger, counted from 0 over the channel's life.
    pub(crate) async fn line_receipt(self: &Arc<Self>, channel: ChannelId, line: u64) -> Result<Receipt, BooksError> {
        let bill = self.core.query(move |engine| Bill::of(engine, &channel)).await?;
        if line >= bill.lines_total {
            return Err(BooksError::NoLine { channel, line });
        }
        let books = Arc::clone(self);
        blocking(move || {
            let Some((epoch, position)) = find_line(&*books.reader, &bill, channel, line)? else {
                return Err(match bill.pruned {
                    Some((epoch, at)) => BooksError::Pruned { channel, line, epoch, at },
                    None => BooksError::NoLine { channel, line },
                });
            };
            let batch = batch_of_frame(&*books.reader, epoch, position)?;
            // Billed before there was a journal, and not deleted yet.
            let found = frames_of(&*books.reader, batch.ok_or(BooksError::NoLine { channel, line })?)?;
            let (index, path, leaf) = found.frame(position).ok_or(BooksError::NoLine { channel, line })?;
            let key = Key::Frame(epoch, position);
            let frame = books.reader.get(store_table(key.table()), &key.to_bytes())?;
            let frame = frame.ok_or_else(|| anyhow::anyhow!("epoch {epoch} has no frame {position}"))?;
            let message = FrameMessage::decode(frame.into()).map_err(anyhow::Error::from)?;
            let lines: Vec<_> = message.lines().collect();
            let at = usize::try_from(line.saturating_sub(leaf.lines_before)).map_err(anyhow::Error::from)?;
            let path_of_line = FrameTree::new(&lines).and_then(|tree| tree.path(at)).map_err(anyhow::Error::from)?;
            let of_line = *lines.get(at).ok_or(BooksError::NoLine { channel, line })?;
            let line = ReceiptLine { index: u32::try_from(at).map_err(anyhow::Error::from)?, line: of_line, path: path_of_line };
            let signed = books.signed(found.batch.batch)?;
            Ok(books.receipt(signed, (index, path), Entry::Frame(leaf), Some(line)))
        })
        .await
    }

    fn receipt(&self, signed: SignedBatch, (index, path): (u32, Vec<Hash256>), entry: Entry, line: Option<ReceiptLine>) -> Receipt {
        let LedgerId { chain, contract } = self.ledger;
        Receipt { version: 1, chain_id: chain.get(), ledger: contract, key: self.key(), signed, index, path, entry, line }
    }
}

/// Work on the store, away from the runtime's workers.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, BooksError> + Send + 'static) -> Result<T, BooksError> {
    tokio::task::spawn_blocking(work).await.map_err(anyhow::Error::from)?
}

/// The epoch and the position of the frame with a line: from the index of sealed epochs, else from the leaves of those after them.
fn find_line(reader: &dyn Read, bill: &Bill, channel: ChannelId, line: u64) -> Result<Option<(EpochId, u32)>, BooksError> {
    let first_kept = bill.pruned.map_or(EpochId::new(0), |(epoch, _)| epoch.next());
    let sealed = proofs::sealed_epochs(reader, first_kept)?;
    if let Some((epoch, position, _)) = proofs::find_in_index(reader, &sealed, channel, line)? {
        return Ok(Some((epoch, position)));
    }
    let mut unsealed = first_kept;
    while sealed.binary_search(&unsealed).is_ok() {
        unsealed = unsealed.next();
    }
    let (mut found, mut leaves, mut outcome) = (None, Vec::new(), Ok(()));
    let range = KeyRange::starting_at(&unsealed.number().to_be_bytes());
    reader.scan(store_table(Table::Leaves), &range, &mut |key, value| {
        leaves.clear();
        outcome = LeavesRecord::decode_leaves(value, &mut leaves);
        let has_line =
            |leaf: &millstream_billing::FrameLeaf| leaf.channel == channel && (leaf.lines_before..leaf.lines_after).contains(&line);
        if let (Some(at), Some((epoch, first))) = (leaves.iter().position(has_line), key.split_first_chunk()) {
            let first = first.try_into().map(u32::from_be_bytes).ok();
            let position = first.zip(u32::try_from(at).ok()).and_then(|(first, at)| first.checked_add(at));
            found = position.map(|position| (EpochId::new(u64::from_be_bytes(*epoch)), position));
        }
        if found.is_some() || outcome.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    outcome?;
    Ok(found)
}
