//! Carries out what the engine says there is to claim and to sweep.
//!
//! One loop goes through a list of kinds of work, again and again: first each follows on what nobody follows, then each does what is due. What
//! is sent is followed by a task of its own. Of a transaction every version is in the engine before the chain can see it, with all that is
//! needed to sign it again: after a crash the same transaction is followed on under the same nonce, and replaced, or declared failed
//! ([ADR 24](../../../docs/adr/0024-claims-are-kept-whole-before-they-leave.md)).
//!
//! **Invariants.** Nothing is sent that is not durable. A row is in one claim at a time. Nothing is claimed that was not charged. A contract's
//! refusal quarantines the channel it is about and no other; what does not answer quarantines none. One nonce lane: the submitter's.
//! Source: `docs/spec/reservations.md`, R-20 to.

mod claims;
mod contract;
mod kept;
mod lane;
mod metrics;
mod plan;
mod section;
mod sessions;
mod sweeps;
mod view;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_chain::Submitter;
use millstream_engine::escrow::{ClaimId, EscrowAnswer, EscrowId, EscrowInput, EscrowRejection};
use millstream_node::{Payments, Stopped};
use millstream_types::{AssetUnit, EscrowChannelId};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::{info, warn};

use self::claims::Claims;
pub use self::contract::{ClaimContract, ContractFuture, Row, SortedRows, X402Claims};
use self::lane::{Lane, WorkError};
pub use self::metrics::ClaimMetrics;
pub use self::section::ClaimSection;
pub use self::sessions::SessionClaims;
use self::sweeps::Sweeps;
pub use self::view::{ClaimView, ClaimableView, ClaimsDesk, PAGE_ROWS_MAX, QuarantineView, SweepView};

/// The longest pause between rounds while the chain does not answer.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// An escrow that is claimed on.
#[derive(Clone)]
pub struct ClaimedEscrow {
    /// Its number in the engine.
    pub id: EscrowId,
    /// Its token's.
    pub unit: AssetUnit,
    /// Its contract.
    pub contract: Arc<dyn ClaimContract>,
}

/// What the claimer rests on.
pub struct ClaimerParts {
    /// The engine.
    pub payments: Payments,
    /// The operator's lane: the only one of its account.
    pub submitter: Submitter,
    /// The escrows; the engine serves them already.
    pub escrows: Vec<ClaimedEscrow>,
    /// What the operator decided.
    pub section: ClaimSection,
    /// What a claim takes from being sent to being beyond doubt: from twice this before a withdrawal on, its channel is claimed on whenever
    /// there is something new.
    pub claim_margin: Duration,
    /// Nanos of the tokens that a whole coin of the chain is worth; 0 does not weigh gas.
    pub coin_nanos: u64,
    /// The pause between two rounds.
    pub poll: Duration,
    /// What is counted.
    pub metrics: Arc<ClaimMetrics>,
}

/// What a round did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Claims that were sent.
    pub claims: Vec<ClaimId>,
    /// Rows in them.
    pub rows: usize,
    /// Channels that were put into quarantine.
    pub quarantined: Vec<EscrowChannelId>,
    /// Sweeps that were sent.
    pub sweeps: usize,
    /// Until the nearest withdrawal.
    nearest_secs: Option<u64>,
}

/// Why the claimer does not do what it is asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClaimerError {
    /// It has stopped.
    #[error("the claimer has stopped")]
    Stopped,
    /// The chain does not answer, or says what cannot be.
    #[error("nothing could be found out: {0}")]
    Unavailable(String),
    /// The engine does not take it.
    #[error(transparent)]
    Rejected(EscrowRejection),
}

/// A future of a kind of work.
type Working<T> = Pin<Box<dyn Future<Output = Result<T, WorkError>> + Send>>;

/// A kind of work: something that the engine says there is to do on the chain.
trait Work: Send + Sync {
    /// Follows on what was sent and nobody follows: all of it at a start, before anything else is sent on the lane, and later what the chain
    /// took back.
    fn resume(self: Arc<Self>) -> Working<()>;

    /// Does what is due; when the operator asks, whatever there is.
    fn round(self: Arc<Self>, is_asked: bool) -> Working<Report>;
}

/// What the operator asks the loop for.
struct Order {
    kind: Kind,
    done: oneshot::Sender<Result<Report, ClaimerError>>,
}

/// The kinds of work that the operator can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Claims,
    Sweeps,
}

/// The running claimer. Dropping it ends it at once: what it had sent is followed on by the next.
pub struct Claimer {
    handle: ClaimerHandle,
    lane: Arc<Lane>,
    task: JoinHandle<Stopped>,
}

/// Asks a running claimer. Cheap to clone.
#[derive(Clone)]
pub struct ClaimerHandle {
    desk: ClaimsDesk,
    payments: Payments,
    orders: mpsc::Sender<Order>,
}

impl Claimer {
    /// Follows on what an earlier process had sent, and starts to work. Before anything else is sent on the lane.
    ///
    /// # Errors
    /// The settings, or the chain does not answer.
    pub async fn start(parts: ClaimerParts) -> anyhow::Result<Self> {
        let ClaimerParts { payments, submitter, escrows, section, claim_margin, coin_nanos, poll, metrics } = parts;
        section.check()?;
        let escrows: Arc<[ClaimedEscrow]> = escrows.into();
        let lane = Arc::new(Lane::new(payments.clone(), submitter, section, coin_nanos, metrics));
        let claims = Claims::new(Arc::clone(&lane), Arc::clone(&escrows), claim_margin);
        let sweeps = Sweeps::new(Arc::clone(&lane), Arc::clone(&escrows));
        let desk = ClaimsDesk::new(payments.clone(), escrows, Arc::clone(&sweeps));
        let works: Vec<(Kind, Arc<dyn Work>)> = vec![(Kind::Claims, claims), (Kind::Sweeps, sweeps)];
        for (_, work) in &works {
            if let Err(error) = Arc::clone(work).resume().await {
                lane.end();
                return Err(error.into());
            }
        }
        let (orders, queue) = mpsc::channel(1);
        let task = tokio::spawn(run(works, queue, poll));
        Ok(Self { handle: ClaimerHandle { desk, payments, orders }, lane, task })
    }

    /// To ask it.
    #[must_use]
    pub fn handle(&self) -> ClaimerHandle {
        self.handle.clone()
    }

    /// Ends it, and waits until it has let go of the core. What it had sent is followed on by the next.
    pub async fn stop(mut self) {
        self.task.abort();
        // Aborted, or ended by itself: it is gone.
        let _ = (&mut self.task).await;
        self.lane.ended().await;
    }

    /// Waits until it ends by itself, and says why: the node's core has stopped.
    pub async fn failed(&mut self) -> anyhow::Error {
        match (&mut self.task).await {
            Ok(stopped) => stopped.into(),
            Err(panic) => anyhow::Error::from(panic).context("the claimer failed"),
        }
    }
}

impl Drop for Claimer {
    fn drop(&mut self) {
        self.task.abort();
        self.lane.end();
    }
}

impl ClaimerHandle {
    /// What there is to see.
    #[must_use]
    pub const fn desk(&self) -> &ClaimsDesk {
        &self.desk
    }

    /// Claims whatever there is to claim, without regard to least values and gas, and says what was sent; it is not confirmed by then.
    ///
    /// # Errors
    /// [`ClaimerError::Stopped`], [`ClaimerError::Unavailable`].
    pub async fn claim_now(&self) -> Result<Report, ClaimerError> {
        self.ask(Kind::Claims).await
    }

    /// Sweeps whatever is due, likewise.
    ///
    /// # Errors
    /// As [`Self::claim_now`].
    pub async fn sweep_now(&self) -> Result<Report, ClaimerError> {
        self.ask(Kind::Sweeps).await
    }

    async fn ask(&self, kind: Kind) -> Result<Report, ClaimerError> {
        let (done, answer) = oneshot::channel();
        self.orders.send(Order { kind, done }).await.map_err(|_| ClaimerError::Stopped)?;
        answer.await.map_err(|_| ClaimerError::Stopped)?
    }

    /// Lets a channel out of quarantine: the next round claims on it again.
    ///
    /// # Errors
    /// [`ClaimerError::Rejected`] for a channel that is not known, [`ClaimerError::Stopped`].
    pub async fn release(&self, channel: EscrowChannelId) -> Result<(), ClaimerError> {
        match self.payments.apply(EscrowInput::Release { channel }).await {
            Ok(EscrowAnswer::Rejected { rejection, .. }) => Err(ClaimerError::Rejected(rejection)),
            Ok(_) => {
                info!(%channel, "a channel was released from quarantine");
                Ok(())
            }
            Err(Stopped) => Err(ClaimerError::Stopped),
        }
    }
}

/// Goes through the kinds of work until the core is gone.
async fn run(works: Vec<(Kind, Arc<dyn Work>)>, mut orders: mpsc::Receiver<Order>, poll: Duration) -> Stopped {
    let mut pause = poll;
    loop {
        let mut order = tokio::select! {
            order = orders.recv() => order,
            () = tokio::time::sleep(pause) => None,
        };
        let started = Instant::now();
        let mut is_well = true;
        for (kind, work) in &works {
            let asked = order.take_if(|order| order.kind == *kind);
            let outcome = async {
                Arc::clone(work).resume().await?;
                Arc::clone(work).round(asked.is_some()).await
            };
            let answer = match outcome.await {
                Ok(report) => Ok(report),
                Err(WorkError::Stopped(stopped)) => return stopped,
                Err(WorkError::Chain(error)) => {
                    is_well = false;
                    warn!(%error, ?kind, "this kind of work has to wait");
                    Err(ClaimerError::Unavailable(error.to_string()))
                }
            };
            if let Some(Order { done, .. }) = asked {
                // Who asked may be gone.
                let _ = done.send(answer);
            }
        }
        // Looking takes no more than half of the time, however many channels there are.
        pause = if is_well { poll.max(started.elapsed()) } else { (pause * 2).min(PAUSE_MAX).max(poll) };
    }
}
