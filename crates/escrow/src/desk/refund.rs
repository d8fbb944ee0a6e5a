//! x402's cooperative refund: what is charged is claimed, and what is free is paid back, in one transaction.
//!
//! While it is under way the channel takes no payments: what they would rest on is leaving.

use std::sync::Arc;
use std::time::Duration;

use millstream_chain::x402::ClaimRow;
use millstream_chain::{ChainError, ErrorKind, IntentId};
use millstream_dialect::x402::Reason;
use millstream_engine::escrow::{EscrowAnswer, EscrowSnapshot};
use millstream_gateway::port::{PortError, Rejection, Released};
use millstream_gateway::tender::Tender;
use millstream_types::{Amount, EscrowChannelId};
use sha2::{Digest, Sha256};
use tracing::{info, warn};

use super::deposit::chain_failed;
use super::{Inner, lock, unexpected};
use crate::board::{fault, stopped, unavailable};
use crate::terms::read_x402_config;

/// The pause after a try whose end is not known; it doubles.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Tries before the payer is told to come back; a transaction that was sent is waited for by the next.
const TRIES: u32 = 8;

impl Inner {
    pub(super) async fn refund(self: &Arc<Self>, tender: Tender, amount: Option<Amount>) -> Result<Released, PortError> {
        self.board.require_current()?;
        let channel = tender.channel;
        let voucher = self.verified(&tender).await?.ok_or(Rejection::BadSignature)?;
        if self.board.snapshot(channel).await?.is_none() && !self.look_for(&tender).await? {
            return Err(Rejection::UnknownChannel.into());
        }
        let permit = Arc::clone(&self.transactions).try_acquire_owned().map_err(|_| unavailable())?;
        if !lock(&self.releasing).insert(channel) {
            let standing = self.board.standing(channel).await?.ok_or(Rejection::UnknownChannel)?;
            return Err(Rejection::ChannelBusy(Box::new(standing)).into());
        }
        // A task of its own: a client that leaves does not leave a refund of which nobody knows the end.
        let inner = Arc::clone(self);
        let task = tokio::spawn(async move {
            let released = match inner.board.payments.voucher(voucher).await.map_err(stopped) {
                Ok(EscrowAnswer::Channel(snapshot)) => inner.pay_back(&snapshot, amount).await,
                Ok(EscrowAnswer::Rejected { rejection, channel }) => Err(inner.refuse(rejection, channel)),
                Ok(other) => Err(unexpected("a voucher", &other)),
                Err(error) => Err(error),
            };
            lock(&inner.releasing).remove(&channel);
            drop(permit);
            released
        });
        task.await.map_err(fault)?
    }

    async fn pay_back(&self, snapshot: &EscrowSnapshot, wanted: Option<Amount>) -> Result<Released, PortError> {
        let channel = snapshot.terms.channel;
        let refuse = |reason: Reason| PortError::from(Rejection::DepositRefused { reason: reason.as_str().to_owned() });
        if snapshot.requests > 0 {
            return Err(Rejection::ChannelBusy(Box::new(self.board.standing_of(snapshot))).into());
        }
        let totals = &snapshot.totals;
        let free = totals.deposit.checked_sub(totals.charged.as_amount()).unwrap_or(Amount::ZERO);
        if free.is_zero() {
            return Err(refuse(Reason::BatchRefundNoBalance));
        }
        let amount = wanted.unwrap_or(free);
        if amount.is_zero() || amount > free {
            return Err(refuse(Reason::BatchRefundAmountInvalid));
        }
        let config = read_x402_config(&snapshot.terms.config).map_err(fault)?;
        let claim = match &snapshot.voucher {
            Some(voucher) if totals.charged > totals.settled => Some(ClaimRow {
                channel,
                config,
                ceiling: voucher.statement().cumulative,
                signature: voucher.signature().clone(),
                total: totals.charged,
            }),
            Some(_) | None => None,
        };
        let intent = intent(&channel, self.board.on_chain(&channel).refund_nonce, amount);
        let mut pause = RETRY_PAUSE;
        for _ in 0..TRIES {
            match self.operator.refund(intent, &config, amount, claim.as_ref()).await {
                Ok((receipt, refunded)) => {
                    self.look(snapshot.terms.clone(), false, receipt.block.height()).await?;
                    let standing = self.board.standing(channel).await?.ok_or(Rejection::UnknownChannel)?;
                    self.board.tell(&standing);
                    self.metrics.refunds.inc();
                    info!(%channel, amount = %refunded, transaction = %receipt.transaction, "refunded");
                    return Ok(Released { transaction: receipt.transaction.to_string(), amount: refunded, standing });
                }
                Err(ChainError::Reverted { transaction: Some(_), revert, .. }) => {
                    warn!(%channel, %revert, "a refund was reverted");
                    return Err(refuse(Reason::BatchRefundTransactionFailed));
                }
                Err(ChainError::Reverted { revert, .. }) => {
                    warn!(%channel, %revert, "a refund would be reverted");
                    return Err(refuse(Reason::BatchRefundSimulationFailed));
                }
                Err(error) if error.kind() == ErrorKind::Unavailable && !matches!(error, ChainError::Stopped { .. }) => {
                    warn!(%channel, %error, "a refund is not confirmed yet");
                    tokio::time::sleep(pause).await;
                    pause = pause.saturating_mul(2);
                }
                Err(error) => return Err(chain_failed(&error)),
            }
        }
        Err(unavailable())
    }
}

/// The contract counts refunds, so the next one has another intent.
fn intent(channel: &EscrowChannelId, refund_nonce: u64, amount: Amount) -> IntentId {
    let mut hash = Sha256::new();
    hash.update(b"millstream/x402-refund");
    hash.update(channel.as_bytes());
    hash.update(refund_nonce.to_be_bytes());
    hash.update(amount.units().to_be_bytes());
    IntentId::from_bytes(hash.finalize().into())
}
