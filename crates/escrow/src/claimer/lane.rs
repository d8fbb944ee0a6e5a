//! Sending: the operator's lane to the chain, shared with everything else that the node sends, and the tasks that follow what was sent.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use millstream_chain::{Call, ChainError, GasBounds, Pace, Submitter, TxReceipt, TxStage, TxWatch};
use millstream_node::{GasTerms, Payments, Stopped};
use millstream_types::AssetUnit;
use tokio::task::JoinSet;
use tracing::{info, warn};

use super::kept::Versions;
use super::metrics::ClaimMetrics;
use super::plan::Market;
use super::section::ClaimSection;
use crate::lock::lock;

const GWEI: u128 = 1_000_000_000;

/// How long transactions of an earlier process that nobody follows may hold everything up before they are replaced. Until then they may still
/// be mined.
const INHERITED_PATIENCE: Duration = Duration::from_secs(120);

/// Why a round of work broke off.
#[derive(Debug, thiserror::Error)]
pub(super) enum WorkError {
    /// The node's core is gone.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The chain does not answer, or says what cannot be. Nothing is decided by it: the next round tries again.
    #[error(transparent)]
    Chain(#[from] ChainError),
}

/// What every kind of work rests on.
pub(super) struct Lane {
    pub(super) payments: Payments,
    pub(super) submitter: Submitter,
    pub(super) section: ClaimSection,
    pub(super) metrics: Arc<ClaimMetrics>,
    gas: GasTerms,
    /// Those that follow what was sent; they end with the claimer.
    tasks: Mutex<JoinSet<()>>,
    /// Since when strangers' transactions hold everything up.
    inherited_since: Mutex<Option<Instant>>,
}

impl Lane {
    pub(super) fn new(
        payments: Payments,
        submitter: Submitter,
        section: ClaimSection,
        coin_nanos: u64,
        metrics: Arc<ClaimMetrics>,
    ) -> Self {
        let gas = GasTerms::new(coin_nanos, section.gas_percent_max);
        Self { payments, submitter, section, metrics, gas, tasks: Mutex::default(), inherited_since: Mutex::default() }
    }

    /// Values and gas as they are now; the price of gas is asked for only where it is weighed.
    pub(super) async fn market(&self, unit: AssetUnit) -> Result<Market, ChainError> {
        let wei_per_gas = if self.gas.weighs() { self.submitter.rpc().gas_price().await? } else { 0 };
        Ok(Market { unit, gas: self.gas, wei_per_gas })
    }

    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        lock(&self.tasks)
    }

    /// Runs a task until its end or the claimer's.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// Ends all tasks. What they followed is in the engine, and is followed on by the next claimer.
    pub(super) fn end(&self) {
        self.tasks().abort_all();
    }

    /// As [`Self::end`], and waits until they are gone.
    pub(super) async fn ended(&self) {
        let mut tasks = std::mem::take(&mut *self.tasks());
        tasks.shutdown().await;
    }

    /// Sends a call whose versions are kept.
    ///
    /// # Errors
    /// As [`Submitter::send_kept`]: nothing was sent.
    pub(super) async fn send(&self, call: Call, pace: Pace, versions: Arc<Versions>) -> Result<TxWatch, ChainError> {
        let fee_per_gas_max = match pace {
            Pace::AtLeisure => u128::from(self.section.fee_gwei_max).saturating_mul(GWEI),
            // The submitter's own cap holds.
            Pace::Urgent => u128::MAX,
        };
        let bounds = GasBounds { gas_max: self.section.gas_max, fee_per_gas_max, pace };
        let sent = self.submitter.send_kept(call, bounds, versions).await;
        if let Err(ChainError::Inherited { .. }) = &sent {
            self.await_inherited(pace).await?;
        } else {
            *lock(&self.inherited_since) = None;
        }
        sent
    }

    /// Replaces what an earlier process left in the pool and nobody follows, when it was waited for long enough. What is urgent does not wait.
    async fn await_inherited(&self, pace: Pace) -> Result<(), ChainError> {
        let since = *lock(&self.inherited_since).get_or_insert_with(Instant::now);
        if since.elapsed() >= INHERITED_PATIENCE || pace == Pace::Urgent {
            let cancelled = self.submitter.cancel_inherited().await?;
            info!(cancelled, "transactions of an earlier process were replaced");
        }
        Ok(())
    }
}

/// Waits for a transaction's end; what it cost, in wei, with it. `None` when the submitter is gone.
pub(super) async fn ended(mut watch: TxWatch) -> Option<(Result<TxReceipt, ChainError>, u128)> {
    loop {
        if let TxStage::Ended { outcome, fee_wei } = watch.stage() {
            return match outcome {
                Err(ChainError::Stopped { .. }) => None,
                outcome => Some((outcome, fee_wei)),
            };
        }
        if !watch.changed().await {
            return None;
        }
    }
}

/// What failed to be sent is said once, in one place.
pub(super) fn not_sent(what: &'static str, error: &ChainError) {
    if error.is_retryable() {
        info!(%error, "a {what} is not sent now");
    } else {
        warn!(%error, "a {what} cannot be sent");
    }
}
