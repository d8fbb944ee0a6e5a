//! Reading a ledger's events from the chain, at a depth, in order, each once.
//!
//! The indexer keeps no state that matters: the caller holds the [`Cursor`], stores it in the same batch as what the events changed, and
//! hands it to the next [`Indexer::poll`]. So a restart neither skips nor repeats.
//!
//! **Depth.** Only blocks with `confirmations` blocks, their own included, are read; 1 reads the newest block.
//!
//! **Reorganisations.** Each poll first compares the hash of the block read last with the chain's. When it changed, nothing is read and
//! [`Poll::Reorg`] names the newest block that the cursor went through and that is still there. The caller freezes what rested on later
//! blocks, undoes their events, and polls on with [`Reorg::resume`]. A shorter chain than was read is [`ChainError::Behind`], which is
//! retryable: a lagging node looks the same. A chain that changes during a poll is [`ChainError::Moved`], retryable too.
//!
//! **Completeness.** The ledger numbers its requests. A gap in the numbers, or an end short of the ledger's own count, means that the node
//! left out logs, and is [`ChainError::IncompleteLogs`]; the cursor stays where it was. When it lasts, logs of an earlier batch were left
//! out, far from the head where the count cannot be asked for: then only reading from [`Cursor::restarted`] helps.

mod calldata;
mod cursor;
mod event;
mod logs;
mod pending;
mod walk;

use std::collections::BTreeMap;

use alloy::rpc::types::{BlockNumberOrTag, Header, Log};
use millstream_types::{BlockNumber, Hash256, Timestamp};

pub use self::cursor::{Checkpoint, Cursor};
pub use self::event::{ChainEvent, EventPosition, LedgerEvent};
pub(crate) use self::logs::LogReader;
pub use self::pending::PendingClose;
pub(crate) use self::walk::{Step, Walk};
use crate::{ChainError, Ledger, convert};

/// Nodes keep the state of about 128 blocks; the ledger's own count of requests is asked for within this many.
const STATE_DEPTH_MAX: u64 = 64;

/// How to read the chain.
#[derive(Clone, Copy, Debug)]
pub struct IndexerOptions {
    /// Blocks, its own included, that a block must have to be read; at least 1.
    pub confirmations: u64,
    /// The most blocks that one poll reads.
    pub blocks_max: u64,
}

/// Blocks that are read at once where the logs of a few are looked for in a long time.
pub(crate) const FAR_BLOCKS_MAX: u64 = 10_000;

impl Default for IndexerOptions {
    fn default() -> Self {
        Self { confirmations: 1, blocks_max: 2_000 }
    }
}

/// A reader of one ledger's events.
pub struct Indexer {
    ledger: Ledger,
    walk: Walk,
    logs: LogReader,
}

/// What one poll found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Poll {
    /// No block is deep enough yet.
    Idle(Head),
    /// Blocks were read.
    Batch(ChainBatch),
    /// The chain no longer has the block read last.
    Reorg(Reorg),
}

/// The chain's newest block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its height.
    pub number: BlockNumber,
    /// Its hash.
    pub hash: Hash256,
    /// Its time.
    pub timestamp: Timestamp,
}

/// The events of some blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainBatch {
    /// The first block read.
    pub from: BlockNumber,
    /// The last block read.
    pub to: BlockNumber,
    /// The hash of the last block read.
    pub to_hash: Hash256,
    /// The chain's newest block when the poll began. Later than `to` means that there may be more to read.
    pub head: Head,
    /// The events, in the order of the chain.
    pub events: Vec<ChainEvent>,
    /// Where to read on; to be stored with what the events changed.
    pub cursor: Cursor,
}

/// A fork below what was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reorg {
    /// The block read last, which the chain no longer has.
    pub lost: Checkpoint,
    /// The hash that the chain has in its place.
    pub found: Hash256,
    /// Where to read on: at the newest checkpoint that the chain still has. Every event of a later block is void. It may lie below the
    /// fork, because the cursor keeps not every block. None when the chain has not even the first block: it is another chain.
    pub resume: Option<Cursor>,
    /// The chain's newest block.
    pub head: Head,
}

impl Indexer {
    /// A reader of `ledger`.
    #[must_use]
    pub fn new(ledger: Ledger, options: IndexerOptions) -> Self {
        let logs = LogReader::new(ledger.rpc().clone(), ledger.address(), options.blocks_max);
        let walk = Walk::new(ledger.rpc().clone(), options.confirmations);
        Self { ledger, walk, logs }
    }

    /// The ledger.
    #[must_use]
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// A cursor from which everything is read. `deployed` is the block of the ledger's deployment, or any before it.
    ///
    /// # Errors
    /// [`ChainError::InvalidInput`] for a block that the chain does not have; or the endpoint is unavailable.
    pub async fn start(&self, deployed: BlockNumber) -> Result<Cursor, ChainError> {
        let number = deployed.height().saturating_sub(1);
        let header = self.ledger.rpc().header(BlockNumberOrTag::Number(number)).await?;
        let header = header.ok_or_else(|| ChainError::invalid("deployment block", format!("the chain has no block {number}")))?;
        Ok(Cursor::at(Checkpoint { number: BlockNumber::new(number), hash: convert::hash(header.hash), requests: 0 }))
    }

    /// Reads what is deep enough and comes after the cursor, up to the limit of blocks.
    ///
    /// # Errors
    /// Retryable: [`ChainError::Behind`], [`ChainError::Moved`], [`ChainError::IncompleteLogs`], an unavailable endpoint. Faults:
    /// [`ChainError::Inconsistent`], [`ChainError::Unrepresentable`]. The cursor stays good in every case.
    pub async fn poll(&self, cursor: &Cursor) -> Result<Poll, ChainError> {
        self.poll_until(cursor, BlockNumber::new(u64::MAX)).await
    }

    /// As [`Indexer::poll`], but reads no block after `until`: [`Poll::Idle`] there means that everything up to it was read, or as much of
    /// it as is deep enough.
    ///
    /// # Errors
    /// As [`Indexer::poll`].
    pub async fn poll_until(&self, cursor: &Cursor, until: BlockNumber) -> Result<Poll, ChainError> {
        match self.walk.step(cursor, until).await? {
            Step::Idle(head) => Ok(Poll::Idle(head)),
            Step::Reorg(reorg) => Ok(Poll::Reorg(reorg)),
            Step::Forward { head, from, deep } => self.read(cursor, from, self.logs.end(from, deep), head).await.map(Poll::Batch),
        }
    }

    async fn read(&self, cursor: &Cursor, from: u64, to: u64, head: Head) -> Result<ChainBatch, ChainError> {
        let to_hash = self.walk.hash_of(to).await?;
        let logs = self.logs.read(from, to, None).await?;
        let mut events = self.events(&logs).await?;
        calldata::fill_deltas(&self.ledger, &mut events).await?;
        let requests = count_requests(cursor.last().requests, &events)?;
        if head.number.height().saturating_sub(to) < STATE_DEPTH_MAX {
            let tail = self.ledger.queue_tail_at(BlockNumber::new(to)).await?;
            if tail != requests {
                return Err(ChainError::IncompleteLogs { expected: tail, found: requests });
            }
        }
        // Both ends are looked at again: what was read lies between them.
        if self.walk.hash_of(to).await? != to_hash || self.walk.hash_of(cursor.last().number.height()).await? != cursor.last().hash {
            return Err(ChainError::Moved);
        }
        let (from, to) = (BlockNumber::new(from), BlockNumber::new(to));
        let cursor = cursor.advanced(Checkpoint { number: to, hash: to_hash, requests });
        Ok(ChainBatch { from, to, to_hash, head, events, cursor })
    }

    /// Decodes logs, each of a block whose hash and time are the chain's.
    async fn events(&self, logs: &[Log]) -> Result<Vec<ChainEvent>, ChainError> {
        let mut blocks: BTreeMap<u64, Header> = BTreeMap::new();
        let mut events = Vec::with_capacity(logs.len());
        for log in logs {
            let (Some(number), Some(hash), Some(transaction), Some(log_index)) =
                (log.block_number, log.block_hash, log.transaction_hash, log.log_index)
            else {
                return Err(ChainError::inconsistent("a mined log without its place"));
            };
            if let std::collections::btree_map::Entry::Vacant(entry) = blocks.entry(number) {
                entry.insert(self.ledger.rpc().header(BlockNumberOrTag::Number(number)).await?.ok_or(ChainError::Moved)?);
            }
            let header = blocks.get(&number).filter(|header| header.hash == hash).ok_or(ChainError::Moved)?;
            let position = EventPosition {
                block: BlockNumber::new(number),
                block_hash: convert::hash(hash),
                block_time: convert::timestamp(header.timestamp),
                transaction: convert::hash(transaction),
                log_index,
            };
            events.push(ChainEvent { position, event: LedgerEvent::decode(log.data())? });
        }
        Ok(events)
    }
}

/// The requests after these events; their numbers must follow without a gap.
fn count_requests(before: u64, events: &[ChainEvent]) -> Result<u64, ChainError> {
    events.iter().filter_map(|event| event.event.request_index()).try_fold(before, |expected, found| {
        if found == expected { Ok(expected.saturating_add(1)) } else { Err(ChainError::IncompleteLogs { expected, found }) }
    })
}
