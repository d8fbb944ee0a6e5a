//! Carrying out what was promised: sent on the lane, followed to its end, kept on the way.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use millstream_chain::x402::ChannelState;
use millstream_chain::{ChainError, ErrorKind, GasBounds, Journal, Kept, Pace, TxReceipt, TxStage, TxVersion, TxWatch};
use millstream_dialect::x402::Reason;
use millstream_types::Amount;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tracing::{error, info, warn};

use super::budget::GWEI;
use super::record::{Kind, REVERT_BYTES_MAX, State, WorkId};
use super::{Refusal, Shared, now};

/// The pause after a failure that may pass.
const PAUSE: Duration = Duration::from_secs(1);
/// Tries after which transactions of an earlier process, which hold everything up, are replaced. Until then they may still be mined.
const INHERITED_TRIES: u32 = 120;

/// Sends what is promised, in its order, so many at a time.
pub(super) async fn run(shared: Weak<Shared>, sending: Arc<Semaphore>, mut queue: mpsc::UnboundedReceiver<WorkId>) {
    while let Some(id) = queue.recv().await {
        let Ok(place) = Arc::clone(&sending).acquire_owned().await else { return };
        let Some(shared) = shared.upgrade() else { return };
        tokio::spawn(shared.carry(id, place));
    }
}

/// What to do next.
enum Next {
    /// Nothing: it is final, forgotten, or the node is stopping.
    Done,
    /// Send it, or send it again.
    Send,
}

/// Keeps the versions of one transaction with its record.
struct Versions {
    shared: Weak<Shared>,
    id: WorkId,
}

impl fmt::Debug for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Versions").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Journal for Versions {
    fn keep(&self, version: TxVersion) -> Kept<'_> {
        Box::pin(async move {
            let stopped = || ChainError::Stopped { operation: "facilitator" };
            let shared = self.shared.upgrade().ok_or_else(stopped)?;
            shared.keep(self.id, |record| record.signed(version)).await.map_err(|_| stopped())
        })
    }
}

impl Shared {
    fn journal(self: &Arc<Self>, id: WorkId) -> Arc<dyn Journal> {
        Arc::new(Versions { shared: Arc::downgrade(self), id })
    }

    fn bounds(&self, gas_max: u64) -> GasBounds {
        let fee_per_gas_max = u128::from(self.terms.section.gas.fee_gwei_max).saturating_mul(GWEI);
        GasBounds { gas_max, fee_per_gas_max, pace: Pace::AtLeisure }
    }

    /// Follows on what an earlier process had signed.
    pub(super) async fn resume(self: Arc<Self>, id: WorkId, versions: Vec<TxVersion>) -> anyhow::Result<()> {
        let Some(record) = self.record(id) else { return Ok(()) };
        let watch = self.submitter().resume(record.call(id), &versions, self.journal(id)).await?;
        let place = Arc::clone(&self.sending).try_acquire_owned().ok();
        tokio::spawn(async move {
            let next = self.follow(id, watch).await;
            drop(place);
            if matches!(next, Next::Send) {
                self.enqueue(id);
            }
        });
        Ok(())
    }

    /// Carries one piece of work to its end.
    async fn carry(self: Arc<Self>, id: WorkId, _place: OwnedSemaphorePermit) {
        let mut tries = 0u32;
        loop {
            let Some(record) = self.record(id) else { return };
            let waited = now().millis_since(record.accepted_at);
            if tries > 0 && waited >= self.terms.section.wait_secs.saturating_mul(1_000) {
                // Nobody waits for it any more. Who asks again gets a new promise, at the price of that time.
                return self.drop_unsent(id, Refusal::new(failed(record.kind), "it could not be sent in time")).await;
            }
            let bounds = self.bounds(self.gas_max(record.kind, record.data.len()));
            let next = match self.submitter().send_kept(record.call(id), bounds, self.journal(id)).await {
                Ok(watch) => self.follow(id, watch).await,
                Err(error) => self.not_sent(id, record.kind, &error, tries).await,
            };
            match next {
                Next::Done => return,
                Next::Send => tries = tries.saturating_add(1),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// What follows when nothing was sent.
    async fn not_sent(&self, id: WorkId, kind: Kind, error: &ChainError, tries: u32) -> Next {
        match (error, error.kind()) {
            (ChainError::Stopped { .. }, _) => Next::Done,
            (ChainError::Inherited { .. }, _) => {
                if tries == INHERITED_TRIES
                    && let Err(error) = self.submitter().cancel_inherited().await
                {
                    error!(%error, "transactions of an earlier process cannot be replaced");
                }
                Next::Send
            }
            (_, ErrorKind::Unavailable) => {
                warn!(operation = kind.operation(), %error, "nothing can be sent for a facilitator's server now");
                Next::Send
            }
            (ChainError::Reverted { revert, .. }, _) => {
                self.drop_unsent(id, Refusal::new(unsimulated(kind), revert.to_string())).await;
                Next::Done
            }
            (_, ErrorKind::Rejection) => {
                self.drop_unsent(id, Refusal::new(failed(kind), error.to_string())).await;
                Next::Done
            }
            (_, ErrorKind::Fault) => {
                error!(operation = kind.operation(), %error, "a facilitator's transaction cannot be sent");
                self.drop_unsent(id, Refusal::new(failed(kind), "the facilitator failed")).await;
                Next::Done
            }
        }
    }

    /// Follows a transaction to its end.
    async fn follow(&self, id: WorkId, mut watch: TxWatch) -> Next {
        loop {
            if let TxStage::Ended { outcome, fee_wei } = watch.stage() {
                return match self.ended(id, outcome, fee_wei).await {
                    Ok(next) => next,
                    Err(fault) => {
                        // It is in the store as it was, so the next start finds its end again.
                        error!(fault = format!("{fault:#}"), "a facilitator's transaction cannot be carried on");
                        Next::Done
                    }
                };
            }
            if !watch.changed().await {
                return Next::Done;
            }
        }
    }

    async fn ended(&self, id: WorkId, outcome: Result<TxReceipt, ChainError>, fee_wei: u128) -> anyhow::Result<Next> {
        let Some(record) = self.record(id) else { return Ok(Next::Done) };
        let operation = record.kind.operation();
        match outcome {
            Ok(receipt) => {
                let transaction = receipt.transaction;
                let (amount, channel) = self.outcome(&record, &receipt).await;
                self.keep(id, |record| {
                    record.state = State::Done { transaction, amount, channel };
                    record.wei = fee_wei;
                })
                .await?;
                info!(operation, %transaction, gas_gwei = fee_wei / GWEI, "a facilitator's transaction is confirmed");
                self.tell(id);
                Ok(Next::Done)
            }
            Err(ChainError::Reverted { revert, transaction: Some(transaction), .. }) => {
                let mut bytes = revert.to_bytes();
                bytes.truncate(REVERT_BYTES_MAX);
                self.keep(id, |record| {
                    record.state = State::Reverted { transaction, revert: bytes };
                    record.wei = fee_wei;
                })
                .await?;
                warn!(operation, %transaction, %revert, gas_gwei = fee_wei / GWEI, "a facilitator's transaction reverted");
                self.tell(id);
                Ok(Next::Done)
            }
            Err(ChainError::Displaced { tx_nonce, .. }) => {
                // Nothing of it happened, and under this nonce nothing will.
                warn!(operation, tx_nonce, "a facilitator's transaction was displaced: it is sent again");
                self.keep(id, |record| record.state = State::Promised).await?;
                Ok(Next::Send)
            }
            Err(ChainError::Stopped { .. }) => Ok(Next::Done),
            Err(error) => Err(error.into()),
        }
    }

    /// What a confirmed transaction moved, and the channel after it.
    async fn outcome(&self, record: &super::record::Record, receipt: &TxReceipt) -> (Amount, Option<ChannelState>) {
        let subject = &record.subject;
        let amount = match record.kind {
            Kind::Deposit => self.operator.deposited_by(receipt, subject.channel).unwrap_or(Amount::ZERO),
            Kind::Claim => Amount::ZERO,
            Kind::Sweep => self.operator.swept_by(receipt, subject.receiver, subject.token),
            Kind::Refund => self.operator.refunded_by(receipt, subject.channel),
            Kind::Exact if receipt.moved(subject.token, subject.payer, subject.receiver, subject.amount) => subject.amount,
            Kind::Exact => Amount::ZERO,
        };
        let channel = match record.kind {
            Kind::Deposit | Kind::Refund => self.state_after(subject, receipt).await,
            Kind::Claim | Kind::Sweep | Kind::Exact => None,
        };
        (amount, channel)
    }

    /// The channel at the end of the transaction's block. The endpoint may lag behind itself: then it is asked again, and at last left out.
    async fn state_after(&self, subject: &super::record::Subject, receipt: &TxReceipt) -> Option<ChannelState> {
        for _ in 0..3 {
            match self.operator.contract().states_at(&[subject.channel], receipt.block_hash).await {
                Ok(states) => return states.first().copied(),
                Err(error) => warn!(%error, "the channel cannot be read after a facilitator's transaction"),
            }
            tokio::time::sleep(PAUSE).await;
        }
        None
    }
}

/// What is said when the chain would not take it.
pub(super) const fn unsimulated(kind: Kind) -> Reason {
    match kind {
        Kind::Deposit => Reason::BatchDepositSimulationFailed,
        Kind::Claim => Reason::BatchClaimSimulationFailed,
        Kind::Sweep => Reason::BatchSettleSimulationFailed,
        Kind::Refund => Reason::BatchRefundSimulationFailed,
        Kind::Exact => Reason::ExactTransactionSimulationFailed,
    }
}

/// What is said when it was sent and did not do it, or could not be sent.
pub(super) const fn failed(kind: Kind) -> Reason {
    match kind {
        Kind::Deposit => Reason::BatchDepositTransactionFailed,
        Kind::Claim => Reason::BatchClaimTransactionFailed,
        Kind::Sweep => Reason::BatchSettleTransactionFailed,
        Kind::Refund => Reason::BatchRefundTransactionFailed,
        Kind::Exact => Reason::ExactTransactionFailed,
    }
}
