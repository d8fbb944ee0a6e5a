//! Payments that were sent, followed to their end, after a restart too.

use std::sync::Arc;
use std::time::Duration;

use millstream_chain::{ChainError, GasBounds, IntentId, Pace, TxStage, TxWatch};
use millstream_engine::Engine;
use millstream_engine::escrow::{AuthorizationId, EscrowFact, Payment, PaymentState};
use millstream_types::Hash256;
use tokio::sync::watch;
use tracing::{info, warn};

use super::keeper::Keeper;
use super::record::{KeptTransfer, Sent};
use super::{Inner, Singles, Way};
use crate::lock::lock;

/// Payments that are read from the engine at a time.
const PAGE: usize = 256;
/// Rounds are not closer together: each looks at the chain for every payment that nobody follows.
const ROUND_PAUSE_MIN: Duration = Duration::from_millis(200);

impl Singles {
    /// Follows on what an earlier process had sent.
    pub(super) async fn resume(&self) -> anyhow::Result<()> {
        for payment in self.inner.unpaid().await? {
            let PaymentState::Submitted { transaction } = &payment.state else { continue };
            let Ok((kept, sent)) = read(&payment, transaction) else {
                warn!(authorization = %payment.authorization, "what was kept of a single payment cannot be read");
                continue;
            };
            if sent.versions.is_empty() || sent.made.is_some() {
                continue;
            }
            let keeper = Keeper::of(self.inner.parts.payments.clone(), payment.authorization, sent.clone());
            for call in kept.transfer.calls() {
                let call = call.with_intent(intent(payment.authorization));
                match self.inner.parts.submitter.resume(call, &sent.versions, Arc::clone(&keeper) as _).await {
                    Ok(watch) => {
                        info!(authorization = %payment.authorization, "a single payment is followed on");
                        self.inner.follow(payment.authorization, watch, Arc::clone(&keeper));
                        break;
                    }
                    // It was sent by the other call.
                    Err(ChainError::Inconsistent { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Goes through what nobody follows, until told to stop.
    pub(crate) async fn run(self, poll: Duration, mut stopping: watch::Receiver<bool>) -> anyhow::Result<()> {
        let pause = poll.max(ROUND_PAUSE_MIN);
        loop {
            tokio::select! {
                biased;
                _ = stopping.wait_for(|stopping| *stopping) => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
            let Ok(unpaid) = self.inner.unpaid().await else { return Ok(()) };
            for payment in unpaid {
                if let Err(error) = self.inner.settle(&payment).await {
                    info!(authorization = %payment.authorization, error = format!("{error:#}"), "a single payment has to wait");
                    break;
                }
            }
        }
    }
}

fn read(payment: &Payment, transaction: &[u8]) -> anyhow::Result<(KeptTransfer, Sent)> {
    Ok((KeptTransfer::decode(&payment.transfer)?, Sent::decode(transaction)?))
}

fn intent(authorization: AuthorizationId) -> IntentId {
    IntentId::from_bytes(*authorization.as_bytes())
}

impl Inner {
    /// What was delivered or is about to be, and what the chain has not confirmed.
    async fn unpaid(&self) -> anyhow::Result<Vec<Payment>> {
        let mut all: Vec<Payment> = Vec::new();
        loop {
            let after = all.last().map(|payment| payment.authorization);
            let page = move |engine: &Engine| engine.unpaid_payments(after).take(PAGE).cloned().collect::<Vec<_>>();
            let page = self.parts.payments.read(page).await?;
            let is_last = page.len() < PAGE;
            all.extend(page);
            if is_last {
                return Ok(all);
            }
        }
    }

    /// Follows a transaction to the confirmation depth.
    pub(super) fn follow(self: &Arc<Self>, authorization: AuthorizationId, mut watch: TxWatch, keeper: Arc<Keeper>) {
        lock(&self.ways).insert(authorization, Way::Task(Arc::clone(&keeper)));
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            let outcome = loop {
                if let TxStage::Ended { outcome, .. } = watch.stage() {
                    break outcome;
                }
                if !watch.changed().await {
                    break Err(ChainError::Stopped { operation: "follow" });
                }
            };
            match outcome {
                Ok(receipt) => {
                    // A core that is gone leaves it as it was: the next start finds its end again.
                    let _: anyhow::Result<()> = inner.paid(authorization, receipt.transaction, &keeper).await;
                }
                Err(ChainError::Stopped { .. }) => {}
                // The next round finds out what became of it.
                Err(error) => warn!(%authorization, %error, "a single payment's transaction came to nothing"),
            }
            lock(&inner.ways).remove(&authorization);
        });
    }

    /// The chain has the payment, at the confirmation depth.
    async fn paid(&self, authorization: AuthorizationId, transaction: Hash256, keeper: &Keeper) -> anyhow::Result<()> {
        keeper.made(transaction).await?;
        self.parts.payments.facts(vec![EscrowFact::Paid { authorization }]).await?;
        lock(&self.strange).remove(&authorization);
        info!(%authorization, %transaction, "a single payment is confirmed");
        Ok(())
    }

    /// Finds out what became of a payment that nobody follows, and sends it again if nothing did.
    async fn settle(self: &Arc<Self>, payment: &Payment) -> anyhow::Result<()> {
        let authorization = payment.authorization;
        if lock(&self.ways).contains_key(&authorization) {
            return Ok(());
        }
        let transaction = match &payment.state {
            PaymentState::Submitted { transaction } => transaction.as_ref(),
            _ => &[],
        };
        let (kept, sent) = match read(payment, transaction) {
            Ok(read) => read,
            Err(error) => {
                // Nothing that this program wrote; it is said once, and the payment is given up.
                warn!(%authorization, %error, "a single payment cannot be collected");
                return self.give_up(authorization, error.to_string(), false).await;
            }
        };
        let rpc = self.rpc();
        let head = rpc.head_height().await?;
        if let Some(made) = kept.transfer.made_by(rpc, kept.since).await? {
            let depth = head.saturating_sub(made.block.height()).saturating_add(1);
            if depth >= self.parts.confirmations {
                let keeper = Keeper::of(self.parts.payments.clone(), authorization, sent);
                self.paid(authorization, made.transaction, &keeper).await?;
            }
            return Ok(());
        }
        if kept.transfer.is_used(rpc).await? {
            // By something else. The chain may still take that back.
            let first = *lock(&self.strange).entry(authorization).or_insert(head);
            if head.saturating_sub(first).saturating_add(1) > self.parts.confirmations {
                self.give_up(authorization, "the authorisation was used for something else".to_owned(), sent.is_answered).await?;
            }
            return Ok(());
        }
        lock(&self.strange).remove(&authorization);
        // As the chain's clock goes: by then no block takes it.
        if rpc.head_time().await? >= payment.valid_until {
            return self.give_up(authorization, "the authorisation ended before it was collected".to_owned(), sent.is_answered).await;
        }
        let call = match kept.transfer.call(&self.parts.submitter).await {
            Ok(call) => call.with_intent(intent(authorization)),
            // The payer's balance, say: it may be there again before the end.
            Err(ChainError::Reverted { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let keeper = Keeper::of(self.parts.payments.clone(), authorization, sent);
        let bounds = GasBounds { gas_max: u64::MAX, fee_per_gas_max: u128::MAX, pace: Pace::AtLeisure };
        let watch = self.parts.submitter.send_kept(call, bounds, Arc::clone(&keeper) as _).await?;
        info!(%authorization, "a single payment was sent again");
        self.follow(authorization, watch, keeper);
        Ok(())
    }

    async fn give_up(&self, authorization: AuthorizationId, reason: String, is_owed: bool) -> anyhow::Result<()> {
        warn!(%authorization, reason, is_owed, "a single payment cannot be collected");
        lock(&self.strange).remove(&authorization);
        self.fail(authorization, reason, is_owed).await.map_err(anyhow::Error::from)
    }
}
