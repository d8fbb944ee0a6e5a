//! Reading a ledger from the chain, and comparing what comes out with the contract.

use std::time::Duration;

use millstream_chain::{ChainError, Cursor, Indexer, IndexerOptions, Ledger, LedgerAt, Poll};
use millstream_circuit::field_to_word;
use millstream_types::{BlockNumber, Hash256};

use crate::error::RebuildError;
use crate::state::RebuiltLedger;

/// Answers in a row that may be retried, until the last one is believed. Ranges of blocks are halved by them, from the largest to one.
const RETRIES_MAX: u32 = 24;
/// The first pause between two of them; it doubles.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// How to read.
#[derive(Clone, Copy, Debug)]
pub struct RebuildOptions {
    /// The ledger's deployment, or any block before it. Without it the deployment is looked for, and where that does not work the chain is
    /// read from its beginning.
    pub from: Option<BlockNumber>,
    /// The last block to read; the newest one without it.
    pub until: Option<BlockNumber>,
    /// Blocks, its own included, that a block must have to be read; at least 1.
    pub confirmations: u64,
    /// The most blocks that one question asks for. Endpoints that refuse so many are asked for fewer.
    pub blocks_max: u64,
}

impl Default for RebuildOptions {
    fn default() -> Self {
        Self { from: None, until: None, confirmations: 1, blocks_max: 20_000 }
    }
}

/// How far the reading got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RebuildProgress {
    /// The block read last.
    pub block: BlockNumber,
    /// The last block there is to read, as it looks now.
    pub until: BlockNumber,
    /// Events applied so far.
    pub events: u64,
}

/// A ledger that is being rebuilt. It remembers how far it got: [`Rebuild::catch_up`] reads on from there, after a failure too.
pub struct Rebuild {
    indexer: Indexer,
    origin: Cursor,
    cursor: Cursor,
    until: BlockNumber,
    rebuilt: RebuiltLedger,
}

impl Rebuild {
    /// Nothing is read yet but where the ledger begins.
    ///
    /// # Errors
    /// [`RebuildError::Chain`], [`RebuildError::Tier`].
    pub async fn start(ledger: Ledger, options: RebuildOptions) -> Result<Self, RebuildError> {
        let rebuilt = RebuiltLedger::new(ledger.id(), ledger.config())?;
        let from = match options.from {
            Some(block) => block,
            None => ledger.deployed_at().await.map_err(RebuildError::Chain)?.unwrap_or_default(),
        };
        if let Some(until) = options.until {
            // The chain must have it, or nothing would ever be read to its end.
            ledger.at(Some(until)).await.map_err(RebuildError::Chain)?;
        }
        let indexer = Indexer::new(ledger, IndexerOptions { confirmations: options.confirmations, blocks_max: options.blocks_max });
        let origin = indexer.start(from).await.map_err(RebuildError::Chain)?;
        let until = options.until.unwrap_or(BlockNumber::new(u64::MAX));
        Ok(Self { indexer, cursor: origin.clone(), origin, until, rebuilt })
    }

    /// The ledger as far as it was read.
    #[must_use]
    pub const fn rebuilt(&self) -> &RebuiltLedger {
        &self.rebuilt
    }

    /// The contract and its endpoint.
    #[must_use]
    pub const fn ledger(&self) -> &Ledger {
        self.indexer.ledger()
    }

    /// Reads on to the end, compares everything with the contract at the end of the block read last, and returns the contract at that block.
    /// After a reorganisation of the chain everything is read again. What may be retried is retried, for about a minute.
    ///
    /// # Errors
    /// [`RebuildError`]. After [`RebuildError::Chain`] the same call reads on; any other is final.
    pub async fn catch_up(&mut self, progress: &mut (dyn FnMut(RebuildProgress) + Send)) -> Result<LedgerAt, RebuildError> {
        let (mut failures, mut pause) = (0, PAUSE_FIRST);
        loop {
            match self.step(progress).await {
                Ok(Some(at)) => return Ok(at),
                Ok(None) => (failures, pause) = (0, PAUSE_FIRST),
                Err(RebuildError::Chain(error)) if error.is_retryable() && failures < RETRIES_MAX => {
                    tracing::debug!(%error, "the chain cannot be read now");
                    failures += 1;
                    // A range that was too large is asked for in halves at once.
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// One look at the chain; the contract once there is nothing more to read and it says the same.
    async fn step(&mut self, progress: &mut (dyn FnMut(RebuildProgress) + Send)) -> Result<Option<LedgerAt>, RebuildError> {
        match self.indexer.poll_until(&self.cursor, self.until).await.map_err(RebuildError::Chain)? {
            Poll::Idle(_) => {
                let last = self.cursor.last();
                let at = self.ledger().at(Some(last.number)).await.map_err(RebuildError::Chain)?;
                if at.hash() != last.hash {
                    return Err(RebuildError::Chain(ChainError::Moved));
                }
                compare(&self.rebuilt, &at).await?;
                Ok(Some(at))
            }
            Poll::Batch(batch) => {
                self.rebuilt.apply(&batch.events)?;
                self.cursor = batch.cursor;
                progress(RebuildProgress { block: batch.to, until: batch.head.number.min(self.until), events: self.rebuilt.events() });
                Ok(None)
            }
            Poll::Reorg(_) => {
                let ledger = self.ledger();
                self.rebuilt = RebuiltLedger::new(ledger.id(), ledger.config())?;
                self.cursor = self.origin.clone();
                Ok(None)
            }
        }
    }
}

/// Compares a rebuilt ledger with the contract at the end of the block that was read last: every book's root, the queue with each waiting
/// request, the operator, and the number of epochs.
///
/// # Errors
/// [`RebuildError::ContractRoot`], [`RebuildError::Contract`], [`RebuildError::Chain`].
async fn compare(rebuilt: &RebuiltLedger, at: &LedgerAt) -> Result<(), RebuildError> {
    let block = at.number();
    for (id, book) in rebuilt.books() {
        let (ours, contract) = (field_to_word(book.root()), at.book_root(*id).await.map_err(RebuildError::Chain)?);
        if ours != contract {
            let (contract, rebuilt) = (Hash256::from_bytes(contract), Hash256::from_bytes(ours));
            return Err(RebuildError::ContractRoot { book: *id, block, contract, rebuilt });
        }
    }
    let differs = |what: String, contract: String, rebuilt: String| Err(RebuildError::Contract { block, what, contract, rebuilt });
    let queue = at.queue().await.map_err(RebuildError::Chain)?;
    let ours = (rebuilt.queue_head(), rebuilt.queue_tail());
    if (queue.head, queue.tail) != ours {
        return differs("a queue of requests".to_owned(), format!("{} to {}", queue.head, queue.tail), format!("{} to {}", ours.0, ours.1));
    }
    for request in rebuilt.queue() {
        let index = request.index;
        let kept = at.request(index).await.map_err(RebuildError::Chain)?;
        let same = kept.is_some_and(|kept| kept.digest == rebuilt.digest(request) && kept.requested_at == request.requested_at);
        if !same {
            return differs(format!("request {index}"), "another digest or time".to_owned(), request.asked.name().to_owned());
        }
    }
    let halted = at.halted().await.map_err(RebuildError::Chain)?;
    if halted != rebuilt.halted().is_some() {
        return differs("a halt:".to_owned(), halted.to_string(), rebuilt.halted().is_some().to_string());
    }
    let operator = at.operator().await.map_err(RebuildError::Chain)?;
    if rebuilt.operator().is_some_and(|ours| ours != operator) {
        let ours = rebuilt.operator().map(|ours| ours.to_string()).unwrap_or_default();
        return differs("the operator".to_owned(), operator.to_string(), ours);
    }
    let next = at.next_epoch().await.map_err(RebuildError::Chain)?.number();
    let ours = rebuilt.epochs().len();
    if usize::try_from(next) != Ok(ours) {
        return differs("anchored epochs:".to_owned(), next.to_string(), ours.to_string());
    }
    Ok(())
}
