//! What is coming: requests that are on the chain but not deep enough to count.

use alloy::sol_types::SolEvent;
use millstream_types::{BlockNumber, ChannelId};

use super::{Cursor, Indexer, LedgerEvent};
use crate::bindings::ILedger;
use crate::{ChainError, convert};

/// The newest blocks that are looked at when the cursor is further behind.
const BLOCKS_MAX: u64 = 256;

/// A close that was requested in a block that the cursor did not reach yet. It may still vanish in a reorganisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingClose {
    /// The channel; its payer is leaving, so nothing more should be accepted on it.
    pub channel: ChannelId,
    /// The block.
    pub block: BlockNumber,
}

impl Indexer {
    /// The closes requested after the cursor, up to the newest block: a hint to stop accepting early, nothing to book.
    ///
    /// # Errors
    /// As any read.
    pub async fn pending_closes(&self, cursor: &Cursor) -> Result<Vec<PendingClose>, ChainError> {
        let newest = self.ledger.rpc().newest().await?.number;
        let mut from = cursor.last().number.height().saturating_add(1).max(newest.saturating_sub(BLOCKS_MAX));
        let mut closes = Vec::new();
        while from <= newest {
            let to = self.logs.end(from, newest);
            for log in self.logs.read(from, to, Some(ILedger::CloseRequested::SIGNATURE_HASH)).await? {
                if let LedgerEvent::CloseRequested { channel, .. } = LedgerEvent::decode(log.data())? {
                    closes.push(PendingClose { channel, block: convert::block(log.block_number.unwrap_or(to)) });
                }
            }
            from = to.saturating_add(1);
        }
        Ok(closes)
    }
}
