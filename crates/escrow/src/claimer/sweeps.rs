//! Sweeps: what was claimed for a receiver, and is beyond doubt, is sent to it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use millstream_chain::{ChainError, ErrorKind, Pace, TxReceipt, TxWatch};
use millstream_engine::Engine;
use millstream_engine::escrow::{EscrowAnswer, EscrowId, EscrowInput};
use millstream_node::Stopped;
use millstream_types::{Address, Amount, BlockNumber};
use tracing::{error, info, warn};

use super::kept::{Of, Sent, Versions};
use super::lane::{Lane, WorkError, ended, not_sent};
use super::{ClaimedEscrow, Report, Work, Working};
use crate::lock::lock;

/// The pause after a sweep that failed; doubled with each further one.
const RETRY: Duration = Duration::from_secs(60);
const RETRY_MAX: Duration = Duration::from_secs(86_400);

/// A receiver on an escrow.
type Place = (EscrowId, Address);

/// Where a sweep is.
#[derive(Clone, Copy, Debug)]
enum Way {
    Followed,
    /// Mined in this block, and confirmed.
    Landed(BlockNumber),
}

#[derive(Default)]
struct State {
    ways: BTreeMap<Place, Way>,
    /// When the next sweep may be sent.
    next: BTreeMap<Place, Instant>,
    /// How often in a row one failed, and why.
    failed: BTreeMap<Place, (u32, String)>,
}

/// A sweep as the engine has it.
struct Known {
    place: Place,
    due: Amount,
    transaction: Option<Bytes>,
    /// How far the chain was read.
    read: Option<BlockNumber>,
}

/// The kind of work.
pub(super) struct Sweeps {
    lane: Arc<Lane>,
    escrows: Arc<[ClaimedEscrow]>,
    state: Mutex<State>,
}

impl Sweeps {
    pub(super) fn new(lane: Arc<Lane>, escrows: Arc<[ClaimedEscrow]>) -> Arc<Self> {
        Arc::new(Self { lane, escrows, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Why the last sweep to a receiver failed, if it did.
    pub(super) fn failure(&self, escrow: EscrowId, receiver: Address) -> Option<String> {
        self.state().failed.get(&(escrow, receiver)).map(|(_, reason)| reason.clone())
    }

    async fn apply(&self, input: EscrowInput) -> Result<(), Stopped> {
        if let EscrowAnswer::Rejected { rejection, .. } = self.lane.payments.apply(input).await? {
            warn!(%rejection, "the engine does not take what became of a sweep");
        }
        Ok(())
    }

    async fn known(&self) -> Result<Vec<Known>, Stopped> {
        let known = |engine: &Engine| -> Vec<Known> {
            let sweeps = engine.sweeps().map(|(escrow, receiver, sweep)| Known {
                place: (escrow, receiver),
                due: sweep.due(),
                transaction: sweep.transaction.clone(),
                read: engine.escrow_cursor(escrow).map(|cursor| cursor.block),
            });
            sweeps.collect()
        };
        self.lane.payments.read(known).await
    }

    /// Follows on what an earlier process had sent.
    async fn resume_all(self: &Arc<Self>) -> Result<(), WorkError> {
        for Known { place, transaction, read, .. } in self.known().await? {
            let way = self.state().ways.get(&place).copied();
            match (way, transaction) {
                (None, Some(transaction)) => self.resume(place, &transaction).await?,
                // The chain has told of it: so it is done.
                (Some(Way::Landed(_)), None) => drop(self.state().ways.remove(&place)),
                // Its block was read, and nothing was paid in it: the chain took it back, or somebody else was faster.
                (Some(Way::Landed(block)), Some(_)) if read.is_some_and(|read| read >= block) => {
                    self.lane.submitter.resynchronise().await;
                    self.apply(EscrowInput::SweepFailed { escrow: place.0, receiver: place.1 }).await?;
                    self.state().ways.remove(&place);
                }
                (Some(Way::Followed | Way::Landed(_)), _) | (None, None) => {}
            }
        }
        Ok(())
    }

    async fn resume(self: &Arc<Self>, place: Place, transaction: &[u8]) -> Result<(), WorkError> {
        let (escrow, receiver) = place;
        let Some(served) = self.escrows.iter().find(|served| served.id == escrow) else { return Ok(()) };
        let resumed = async {
            let unknown = |detail: String| ChainError::Inconsistent { detail };
            let sent = Sent::decode(transaction).map_err(|fault| unknown(fault.to_string()))?;
            let call = served.contract.sweep_call(receiver).ok_or_else(|| unknown("this contract is not swept".to_owned()))?;
            let versions = Versions::new(&self.lane, Of::Sweep(escrow, receiver), sent.clone());
            self.lane.submitter.resume(call, &sent.versions, versions).await
        };
        match resumed.await {
            Ok(watch) => {
                info!(%receiver, "a sweep is followed on");
                self.follow(place, watch);
                Ok(())
            }
            Err(fault) if fault.kind() == ErrorKind::Unavailable => Err(fault.into()),
            // If it is mined all the same, another finds less to pay.
            Err(fault) => {
                error!(%receiver, %fault, "a sweep of an earlier process cannot be followed: it is made anew");
                Ok(self.apply(EscrowInput::SweepFailed { escrow, receiver }).await?)
            }
        }
    }

    async fn sweep(self: &Arc<Self>, known: &Known, is_asked: bool, report: &mut Report) -> Result<(), WorkError> {
        let (escrow, receiver) = known.place;
        let Some(served) = self.escrows.iter().find(|served| served.id == escrow) else { return Ok(()) };
        let Some(call) = served.contract.sweep_call(receiver) else { return Ok(()) };
        let section = &self.lane.section;
        if !is_asked {
            let is_early = self.state().next.get(&known.place).is_some_and(|at| *at > Instant::now());
            let is_small = served.unit.nanos_down(known.due) < Amount::from_nanos(section.sweep_min_nanos);
            if section.sweep_interval_secs == 0 || is_early || is_small || !self.lane.market(served.unit).await?.pays_for_sweep(known.due) {
                return Ok(());
            }
        }
        if served.contract.due(receiver).await?.is_zero() {
            // Somebody else did it; the chain will tell.
            return Ok(());
        }
        let versions = Versions::new(&self.lane, Of::Sweep(escrow, receiver), Sent::default());
        match self.lane.send(call, Pace::AtLeisure, Arc::clone(&versions)).await {
            Ok(watch) => {
                info!(%receiver, due = %known.due, "a sweep was sent");
                report.sweeps = report.sweeps.saturating_add(1);
                self.wait(known.place, Duration::from_secs(section.sweep_interval_secs));
                self.follow(known.place, watch);
                Ok(())
            }
            Err(ChainError::Stopped { .. }) => Err(Stopped.into()),
            Err(error) => {
                not_sent("sweep", &error);
                if versions.is_kept() {
                    self.apply(EscrowInput::SweepFailed { escrow, receiver }).await?;
                }
                if error.is_retryable() {
                    self.wait(known.place, RETRY);
                } else {
                    self.failed(known.place, error.to_string());
                }
                Ok(())
            }
        }
    }

    fn wait(&self, place: Place, pause: Duration) {
        if let Some(at) = Instant::now().checked_add(pause) {
            self.state().next.insert(place, at);
        }
    }

    /// The token refuses, say: it is tried again, less and less often, and whenever the operator asks.
    fn failed(&self, place: Place, reason: String) {
        self.lane.metrics.sweep_failures.inc();
        let mut state = self.state();
        let failed = state.failed.entry(place).or_default();
        *failed = (failed.0.saturating_add(1), reason);
        let pause = RETRY.saturating_mul(1 << failed.0.min(16)).min(RETRY_MAX);
        drop(state);
        self.wait(place, pause);
    }

    fn follow(self: &Arc<Self>, place: Place, watch: TxWatch) {
        self.state().ways.insert(place, Way::Followed);
        let sweeps = Arc::clone(self);
        self.lane.spawn(async move {
            let Some((outcome, fee_wei)) = ended(watch).await else { return };
            // A core that is gone leaves the sweep as it was: the next start finds its end again.
            let _: Result<(), Stopped> = sweeps.ended(place, outcome, fee_wei).await;
        });
    }

    async fn ended(&self, place: Place, outcome: Result<TxReceipt, ChainError>, fee_wei: u128) -> Result<(), Stopped> {
        let (escrow, receiver) = place;
        let metrics = &self.lane.metrics;
        let error = match outcome {
            Ok(receipt) => {
                metrics.sweeps.inc();
                metrics.spent(receipt.gas_used, receipt.fee_wei);
                info!(%receiver, transaction = %receipt.transaction, gas = receipt.gas_used, "a sweep landed");
                let mut state = self.state();
                state.failed.remove(&place);
                state.ways.insert(place, Way::Landed(receipt.block));
                return Ok(());
            }
            Err(error) => error,
        };
        match &error {
            ChainError::Reverted { .. } | ChainError::Displaced { .. } => {
                metrics.spent(0, fee_wei);
                warn!(%receiver, %error, "a sweep failed");
                self.apply(EscrowInput::SweepFailed { escrow, receiver }).await?;
                if error.is_retryable() {
                    metrics.sweep_failures.inc();
                    self.state().next.remove(&place);
                } else {
                    self.failed(place, error.to_string());
                }
            }
            error => warn!(%receiver, %error, "a sweep cannot be followed now"),
        }
        self.state().ways.remove(&place);
        Ok(())
    }
}

impl Work for Sweeps {
    fn resume(self: Arc<Self>) -> Working<()> {
        Box::pin(async move { self.resume_all().await })
    }

    fn round(self: Arc<Self>, is_asked: bool) -> Working<Report> {
        Box::pin(async move {
            let mut report = Report::default();
            for known in self.known().await? {
                let is_under_way = known.transaction.is_some() || self.state().ways.contains_key(&known.place);
                if !is_under_way && !known.due.is_zero() {
                    self.sweep(&known, is_asked, &mut report).await?;
                }
            }
            Ok(report)
        })
    }
}
