//! Going forward along a chain that may fork: at a depth, from where reading stopped.

use alloy::rpc::types::{BlockNumberOrTag, Header};
use millstream_types::{BlockNumber, Hash256};

use super::{Cursor, Head, Reorg};
use crate::{ChainError, Rpc, convert};

/// What there is to do next.
pub(crate) enum Step {
    /// No block is deep enough yet.
    Idle(Head),
    /// The chain no longer has the block read last.
    Reorg(Reorg),
    /// The blocks from `from` to `deep` can be read.
    Forward { head: Head, from: u64, deep: u64 },
}

/// Compares a cursor with the chain.
pub(crate) struct Walk {
    rpc: Rpc,
    confirmations: u64,
}

impl Walk {
    /// Blocks count as read when they have so many, their own included; at least 1.
    pub(crate) fn new(rpc: Rpc, confirmations: u64) -> Self {
        Self { rpc, confirmations: confirmations.max(1) }
    }

    /// What comes after the cursor, up to a block.
    pub(crate) async fn step(&self, cursor: &Cursor, until: BlockNumber) -> Result<Step, ChainError> {
        let newest = self.rpc.newest().await?;
        let head = head(&newest);
        let last = cursor.last();
        let found = self.hash_at(last.number, &newest).await?;
        if found != last.hash {
            let resume = self.resume(cursor, &newest).await?;
            return Ok(Step::Reorg(Reorg { lost: last, found, resume, head }));
        }
        let deep = newest.number.saturating_add(1).saturating_sub(self.confirmations).min(until.height());
        let from = last.number.height().saturating_add(1);
        Ok(if deep < from { Step::Idle(head) } else { Step::Forward { head, from, deep } })
    }

    /// The newest block that is deep enough.
    pub(crate) async fn deepest(&self) -> Result<Header, ChainError> {
        let newest = self.rpc.newest().await?;
        let number = newest.number.saturating_add(1).saturating_sub(self.confirmations);
        if number == newest.number {
            return Ok(newest);
        }
        self.rpc.header(BlockNumberOrTag::Number(number)).await?.ok_or(ChainError::Moved)
    }

    /// The cursor at its newest checkpoint that the chain still has.
    async fn resume(&self, cursor: &Cursor, newest: &Header) -> Result<Option<Cursor>, ChainError> {
        for checkpoint in cursor.newest_first() {
            if checkpoint.number.height() <= newest.number && self.hash_at(checkpoint.number, newest).await? == checkpoint.hash {
                return Ok(cursor.rewound(checkpoint.number));
            }
        }
        Ok(None)
    }

    /// The hash of a block that was read before.
    async fn hash_at(&self, number: BlockNumber, newest: &Header) -> Result<Hash256, ChainError> {
        let behind = ChainError::Behind { head: BlockNumber::new(newest.number), cursor: number };
        if number.height() == newest.number {
            return Ok(convert::hash(newest.hash));
        }
        if number.height() > newest.number {
            return Err(behind);
        }
        let header = self.rpc.header(BlockNumberOrTag::Number(number.height())).await?;
        header.map(|header| convert::hash(header.hash)).ok_or(behind)
    }

    /// The hash of a block that the chain had a moment ago.
    pub(crate) async fn hash_of(&self, number: u64) -> Result<Hash256, ChainError> {
        let header = self.rpc.header(BlockNumberOrTag::Number(number)).await?;
        header.map(|header| convert::hash(header.hash)).ok_or(ChainError::Moved)
    }
}

fn head(header: &Header) -> Head {
    Head { number: BlockNumber::new(header.number), hash: convert::hash(header.hash), timestamp: convert::timestamp(header.timestamp) }
}
