//! Following the chain: confirmed logs become facts for the engine, with the cursor in the same batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use millstream_chain::{ChainBatch, ChainError, Cursor, ErrorKind, EventPosition, Indexer, LedgerEvent, Poll};
use millstream_engine::{ChainCursor, ChainFact, Input};
use millstream_types::{Amount, BlockNumber, Timestamp};
use tokio::sync::{Notify, watch};
use tracing::{error, info, warn};

use crate::clock::ChainClock;
use crate::core::{Core, now, stopped};
use crate::metrics::Metrics;

/// The longest pause between two tries of an endpoint that does not answer.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(30);

/// How current the engine's view of the chain is. Payments on a view that is too old are not taken: a payer could have closed meanwhile.
pub(crate) struct ChainView {
    stale_after_millis: u64,
    /// The last block that the engine knows; 0 for none.
    block: watch::Receiver<u64>,
    /// When the engine last knew everything that was deep enough, by this machine's clock; 0 for never.
    caught_up_at: AtomicU64,
    /// Told the time of the chain's newest block.
    clock: ChainClock,
    changed: Notify,
}

impl ChainView {
    /// A view that is not current yet, and where its follower says which block the engine knows.
    pub(crate) fn new(stale_after: Duration, clock: ChainClock) -> (Self, watch::Sender<u64>) {
        let stale_after_millis = u64::try_from(stale_after.as_millis()).unwrap_or(u64::MAX);
        let (followed, block) = watch::channel(0);
        (Self { stale_after_millis, block, caught_up_at: AtomicU64::new(0), clock, changed: Notify::new() }, followed)
    }

    /// Whether payments may rest on the view.
    pub(crate) fn is_current(&self) -> bool {
        self.is_current_at(now())
    }

    fn is_current_at(&self, now: Timestamp) -> bool {
        let caught_up_at = Timestamp::from_millis(self.caught_up_at.load(Ordering::Relaxed));
        caught_up_at.as_millis() > 0 && now.millis_since(caught_up_at) <= self.stale_after_millis
    }

    /// The last block that the engine knows; 0 for none.
    pub(crate) fn block(&self) -> u64 {
        *self.block.borrow()
    }

    /// Waits until the engine knows a block.
    pub(crate) async fn reached(&self, block: u64) -> anyhow::Result<()> {
        let mut known = self.block.clone();
        known.wait_for(|known| *known >= block).await.context("the chain follower has stopped")?;
        Ok(())
    }

    /// Waits until the engine knows everything that the chain had at this moment.
    pub(crate) async fn caught_up(&self, at: Timestamp) {
        loop {
            let changed = self.changed.notified();
            if self.caught_up_at.load(Ordering::Relaxed) >= at.as_millis() {
                return;
            }
            changed.await;
        }
    }

    /// The time of the chain's newest block, as last seen.
    pub(crate) fn head_time(&self) -> Timestamp {
        self.clock.now()
    }

    /// There was nothing new at `asked_at`.
    fn seen(&self, asked_at: Timestamp, head_time: Timestamp) {
        self.clock.saw(head_time);
        self.caught_up_at.store(asked_at.as_millis(), Ordering::Relaxed);
        self.changed.notify_waiters();
    }
}

/// Reads the chain into the core.
pub(crate) struct Follower {
    pub(crate) core: Core,
    pub(crate) indexer: Indexer,
    pub(crate) start_block: BlockNumber,
    pub(crate) poll_interval: Duration,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) view: Arc<ChainView>,
    /// Told the last block that the engine knows.
    pub(crate) followed: watch::Sender<u64>,
    pub(crate) stopping: watch::Receiver<bool>,
}

impl Follower {
    /// Follows until the node stops, or the chain says what cannot be.
    pub(crate) async fn run(mut self) -> anyhow::Result<()> {
        let mut cursor = self.stored_cursor().await?;
        let mut pause = self.poll_interval;
        loop {
            match self.step(&mut cursor).await {
                // There may be more to read at once.
                Ok(true) => continue,
                Ok(false) => pause = self.poll_interval,
                Err(failure) => match failure.downcast_ref::<ChainError>() {
                    // Whatever an endpoint answers may be another one tomorrow; only a chain that contradicts itself ends the node.
                    Some(chain) if chain.kind() != ErrorKind::Fault => {
                        self.metrics.chain_errors.inc();
                        pause = (pause * 2).min(RETRY_PAUSE_MAX);
                        warn!(%chain, retry_in_millis = pause.as_millis(), "the chain cannot be read now");
                    }
                    _ => {
                        error!(fault = format!("{failure:#}"), "the chain cannot be followed");
                        return Err(failure);
                    }
                },
            }
            tokio::select! {
                biased;
                () = stopped(&mut self.stopping) => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn stored_cursor(&self) -> anyhow::Result<Option<Cursor>> {
        let stored = self.core.query(|engine| engine.cursor().cloned()).await?;
        let Some(stored) = stored else { return Ok(None) };
        self.followed.send_replace(stored.block.height());
        self.metrics.chain_block.set(i64::try_from(stored.block.height()).unwrap_or(i64::MAX));
        Ok(Some(Cursor::from_bytes(&stored.state).context("the stored cursor of the chain cannot be read")?))
    }

    /// One look at the chain; whether there was something.
    async fn step(&self, cursor: &mut Option<Cursor>) -> anyhow::Result<bool> {
        let at = match cursor {
            Some(cursor) => cursor,
            None => cursor.insert(self.indexer.start(self.start_block).await?),
        };
        let asked_at = now();
        match self.indexer.poll(at).await? {
            Poll::Idle(head) => {
                self.view.seen(asked_at, head.timestamp);
                Ok(false)
            }
            Poll::Batch(batch) => {
                let next = batch.cursor.clone();
                self.apply(batch).await?;
                *cursor = Some(next);
                Ok(true)
            }
            Poll::Reorg(reorg) => {
                // Deeper than the confirmations: whatever the chain had said is void until it says it again. What payers signed is not.
                error!(lost = %reorg.lost.hash, found = %reorg.found, "the chain was reorganised below the confirmation depth: reading it anew");
                self.core.inputs(vec![Input::Chain(ChainFact::Reset)]).await?;
                *cursor = None;
                Ok(true)
            }
        }
    }

    async fn apply(&self, batch: ChainBatch) -> anyhow::Result<()> {
        let mut inputs = Vec::with_capacity(batch.events.len() + 1);
        for event in batch.events {
            if let Some(fact) = fact(event.position, event.event)? {
                inputs.push(Input::Chain(fact));
            }
        }
        let events = inputs.len();
        inputs.push(Input::ChainSeen(ChainCursor { block: batch.to, state: batch.cursor.to_bytes() }));
        self.core.inputs(inputs).await?;
        let (unserved, summary) = self.core.query(|engine| (engine.queue().len(), engine.summary())).await?;
        self.metrics.unserved_requests.set(i64::try_from(unserved).unwrap_or(i64::MAX));
        self.metrics.state(&summary);
        self.metrics.chain_block.set(i64::try_from(batch.to.height()).unwrap_or(i64::MAX));
        self.followed.send_replace(batch.to.height());
        if events > 0 {
            info!(block = batch.to.height(), events, "chain events applied");
        }
        Ok(())
    }
}

/// What an event means to the engine; `None` for those that it does not keep.
fn fact(position: EventPosition, event: LedgerEvent) -> anyhow::Result<Option<ChainFact>> {
    let at = position.block_time;
    Ok(Some(match event {
        LedgerEvent::Opened { channel, payer, key_x, salt: _, deposit, request_index } => {
            ChainFact::Opened { channel, payer, key_x, deposit, request: request_index, at }
        }
        LedgerEvent::ToppedUp { channel, amount, deposit: _, request_index } => {
            ChainFact::ToppedUp { channel, amount, request: request_index, at }
        }
        LedgerEvent::CloseRequested { channel, request_index } => ChainFact::CloseRequested { channel, request: request_index, at },
        LedgerEvent::Included { channel, book, slot } => ChainFact::Included { channel, book, slot },
        LedgerEvent::MovedOut { channel, book } => ChainFact::MovedOut { channel, book },
        LedgerEvent::MovedIn { channel, book, slot } => ChainFact::MovedIn { channel, book, slot },
        LedgerEvent::Closed { channel, book: _, refund } => ChainFact::Closed { channel, refund },
        LedgerEvent::Registered { book: _, new_root: _, queue_head } => ChainFact::QueueServed { head: queue_head },
        LedgerEvent::Settled { book, new_root: _, total: _, deltas } => {
            let deltas = deltas.context("a settlement was sent by a contract: its deltas cannot be read from the chain")?;
            ChainFact::Settled { book, deltas: deltas.into_iter().map(Amount::from_nanos).collect() }
        }
        LedgerEvent::EpochAnchored { epoch, root } => ChainFact::EpochAnchored { epoch, root },
        // Taken back before it was in a book: closed, with nothing settled. Its requests wait on, and are void.
        LedgerEvent::OpenCancelled { channel, refund } => ChainFact::Closed { channel, refund },
        LedgerEvent::RequestVoided { channel: _, request_index } => ChainFact::QueueServed { head: request_index.saturating_add(1) },
        LedgerEvent::Left { channel, book: _, refund } => ChainFact::Closed { channel, refund },
        LedgerEvent::Halted { request_index } => {
            anyhow::bail!("the ledger was halted, for good: request {request_index} was left unserved; nothing can be settled any more")
        }
        LedgerEvent::Withdrawn { .. } | LedgerEvent::OperatorChanged { .. } => return Ok(None),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_is_current_once_it_caught_up_and_until_it_is_too_old() {
        let ((view, _followed), at) = (ChainView::new(Duration::from_secs(10), ChainClock::default()), Timestamp::from_millis);
        assert!(!view.is_current_at(at(5_000)));
        view.seen(at(5_000), at(4_000));
        assert_eq!(view.head_time(), at(4_000));
        assert!(view.is_current_at(at(5_000)) && view.is_current_at(at(15_000)));
        assert!(!view.is_current_at(at(15_001)));
    }
}
