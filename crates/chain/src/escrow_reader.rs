//! Following the channels of an escrow contract at a depth, whichever contract it is.
//!
//! This side follows the channels that it is told of: their logs say *that* something happened, and what is true then is read from the contract
//! at the same block. A log that an endpoint leaves out can delay what is learned until the next look, and falsify nothing.

use std::collections::BTreeSet;
use std::future::Future;

use millstream_types::{Address, BlockNumber, EscrowChannelId, Hash256, Timestamp};

use crate::indexer::{LogReader, Step, Walk};
use crate::{ChainError, Checkpoint, Cursor, Head, IndexerOptions, Reorg, Rpc, convert};

/// Channels that a question for logs names. Of more the contract's logs are read whole, a bounded range of blocks at a time, and sorted out here:
/// one question a range however many channels there are, and endpoints bound what a filter may name.
const CHANNELS_PER_FILTER_MAX: usize = 256;

/// A contract whose events name a channel by their first indexed argument, and that tells the state of channels at a block.
pub trait EscrowContract: Send + Sync {
    /// A channel at the end of a block.
    type State: Send;

    /// The endpoint.
    fn rpc(&self) -> &Rpc;

    /// Where it is.
    fn address(&self) -> Address;

    /// The states of channels at the end of a block that is named by its hash, in the order asked.
    ///
    /// # Errors
    /// [`ChainError::Unrepresentable`] when the contract answers something else; or the endpoint is unavailable.
    fn states_at(&self, channels: &[EscrowChannelId], block: Hash256) -> impl Future<Output = Result<Vec<Self::State>, ChainError>> + Send;
}

/// A reader of a contract's channels. The caller keeps the cursor, in the batch that holds what was learned.
pub struct EscrowReader<C> {
    contract: C,
    walk: Walk,
    logs: LogReader,
}

/// What one poll found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EscrowPoll<S> {
    /// No block is deep enough yet.
    Idle(Head),
    /// Blocks were read.
    Batch(EscrowBatch<S>),
    /// The chain no longer has the block read last: what was learned since the place to resume from is void.
    Reorg(Reorg),
}

/// Channels as they were at the end of a block that is deep enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen<S> {
    /// The block.
    pub block: BlockNumber,
    /// Its hash.
    pub block_hash: Hash256,
    /// Its time.
    pub block_time: Timestamp,
    /// The channels, in the order of their ids.
    pub states: Vec<S>,
}

/// What happened in some blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EscrowBatch<S> {
    /// The first block read.
    pub from: BlockNumber,
    /// The channels that something happened to, as they are at the end of the last block read.
    pub seen: Seen<S>,
    /// The chain's newest block when the poll began.
    pub head: Head,
    /// Where to read on; to be stored with what was learned.
    pub cursor: Cursor,
}

impl<C: EscrowContract> EscrowReader<C> {
    /// A reader of the contract.
    #[must_use]
    pub fn new(contract: C, options: IndexerOptions) -> Self {
        let logs = LogReader::new(contract.rpc().clone(), contract.address(), options.blocks_max);
        let walk = Walk::new(contract.rpc().clone(), options.confirmations);
        Self { contract, walk, logs }
    }

    /// The contract.
    #[must_use]
    pub const fn contract(&self) -> &C {
        &self.contract
    }

    /// A cursor at the newest block that is deep enough: what came before is learned by looking at each channel once.
    ///
    /// # Errors
    /// The endpoint is unavailable.
    pub async fn start(&self) -> Result<Cursor, ChainError> {
        let header = self.walk.deepest().await?;
        Ok(Cursor::at(Checkpoint { number: BlockNumber::new(header.number), hash: convert::hash(header.hash), requests: 0 }))
    }

    /// Channels as they are at the newest block that is deep enough: for those that one hears of, and for another look at all of them now and
    /// then, in case that the endpoint left out logs.
    ///
    /// # Errors
    /// As [`EscrowContract::states_at`].
    pub async fn look(&self, channels: &BTreeSet<EscrowChannelId>) -> Result<Seen<C::State>, ChainError> {
        let header = self.walk.deepest().await?;
        let (block, block_time) = (BlockNumber::new(header.number), convert::timestamp(header.timestamp));
        self.seen(block, convert::hash(header.hash), block_time, channels).await
    }

    /// Reads what is deep enough and comes after the cursor, about the channels that are followed.
    ///
    /// # Errors
    /// Retryable: [`ChainError::Behind`], [`ChainError::Moved`], an unavailable endpoint. Faults: [`ChainError::Inconsistent`],
    /// [`ChainError::Unrepresentable`]. The cursor stays good in every case.
    pub async fn poll(&self, cursor: &Cursor, followed: &BTreeSet<EscrowChannelId>) -> Result<EscrowPoll<C::State>, ChainError> {
        let (head, from, deep) = match self.walk.step(cursor, BlockNumber::new(u64::MAX)).await? {
            Step::Idle(head) => return Ok(EscrowPoll::Idle(head)),
            Step::Reorg(reorg) => return Ok(EscrowPoll::Reorg(reorg)),
            Step::Forward { head, from, deep } => (head, from, deep),
        };
        let to = self.logs.end(from, deep);
        let header = self.contract.rpc().header(to.into()).await?.ok_or(ChainError::Moved)?;
        let touched = self.touched(from, to, followed).await?;
        let (block, block_hash) = (BlockNumber::new(to), convert::hash(header.hash));
        let seen = self.seen(block, block_hash, convert::timestamp(header.timestamp), &touched).await?;
        // Both ends are looked at again: what was read lies between them.
        if self.walk.hash_of(to).await? != block_hash || self.walk.hash_of(cursor.last().number.height()).await? != cursor.last().hash {
            return Err(ChainError::Moved);
        }
        let cursor = cursor.advanced(Checkpoint { number: block, hash: block_hash, requests: 0 });
        Ok(EscrowPoll::Batch(EscrowBatch { from: BlockNumber::new(from), seen, head, cursor }))
    }

    /// The followed channels that have a log in a range.
    async fn touched(&self, from: u64, to: u64, followed: &BTreeSet<EscrowChannelId>) -> Result<BTreeSet<EscrowChannelId>, ChainError> {
        if followed.is_empty() {
            return Ok(BTreeSet::new());
        }
        let logs = if followed.len() <= CHANNELS_PER_FILTER_MAX {
            let channels = followed.iter().map(|channel| (*channel.as_bytes()).into()).collect();
            self.logs.read_about(from, to, channels).await?
        } else {
            self.logs.read(from, to, None).await?
        };
        // An endpoint that ignores the filter tells of others too, and not every event's first argument is a channel.
        let named = logs.iter().filter_map(|log| log.topics().get(1)).map(|topic| EscrowChannelId::from_bytes(topic.0));
        let touched: BTreeSet<EscrowChannelId> = named.filter(|channel| followed.contains(channel)).collect();
        Ok(touched)
    }

    async fn seen(
        &self,
        block: BlockNumber,
        block_hash: Hash256,
        block_time: Timestamp,
        channels: &BTreeSet<EscrowChannelId>,
    ) -> Result<Seen<C::State>, ChainError> {
        let channels: Vec<EscrowChannelId> = channels.iter().copied().collect();
        let states = self.contract.states_at(&channels, block_hash).await?;
        Ok(Seen { block, block_hash, block_time, states })
    }
}
