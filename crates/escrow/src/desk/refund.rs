//! x402's cooperative refund: what is charged is claimed, and what is free is paid back, in one transaction.
//!
//! While it is under way the channel takes no payments: what they would rest on is leaving.

use std::sync::Arc;
use std::time::Duration;

use millstream_chain::x402::ClaimRow;
use millstream_chain::{ChainError, ErrorKind, IntentId, TxReceipt};
use millstream_dialect::x402::Reason;
use millstream_engine::escrow::{EscrowAnswer, EscrowSnapshot, EscrowTerms};
use millstream_gateway::port::{PortError, Rejection, Released};
use millstream_gateway::tender::Tender;
use millstream_types::{Amount, EscrowChannelId};
use sha2::{Digest, Sha256};
use tracing::{info, warn};

use super::deposit::chain_failed;
use super::sent::{Errand, Kind, Resumed};
use super::{Inner, unexpected};
use crate::board::{fault, stopped, unavailable};
use crate::lock::lock;
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
        match tokio::time::timeout(self.deposit_wait, task).await {
            Ok(ended) => ended.map_err(fault)?,
            // It goes on; until it has ended the channel is busy.
            Err(_) => Err(unavailable()),
        }
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
        let call = self.channels()?.operator.refund_call(&config, amount, claim.as_ref()).map_err(|error| chain_failed(&error))?;
        let intent_bytes = intent(&channel, self.board.on_chain(&channel).refund_nonce, amount);
        let intent = IntentId::from_bytes(intent_bytes);
        let errand = Errand { kind: Kind::Refund, channel, intent, intent_bytes, amount, call };
        let mut pause = RETRY_PAUSE;
        for _ in 0..TRIES {
            match self.sender.send(&errand).await {
                Ok(receipt) => return self.refunded(&snapshot.terms, &errand, &receipt).await,
                Err(ChainError::Reverted { transaction: Some(_), revert, .. }) => {
                    warn!(%channel, %revert, "a refund was reverted");
                    self.sender.forget(&errand).await.map_err(stopped)?;
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

    /// The chain has paid it back: waits until the engine knows.
    async fn refunded(&self, terms: &EscrowTerms, errand: &Errand, receipt: &TxReceipt) -> Result<Released, PortError> {
        let channel = errand.channel;
        self.look(terms.clone(), false, receipt.block.height()).await?;
        self.sender.forget(errand).await.map_err(stopped)?;
        let standing = self.board.standing(channel).await?.ok_or(Rejection::UnknownChannel)?;
        self.board.tell(&standing);
        self.metrics.refunds.inc();
        let amount = self.channels()?.operator.refunded(receipt);
        info!(%channel, %amount, transaction = %receipt.transaction, "refunded");
        Ok(Released { transaction: receipt.transaction.to_string(), amount, standing })
    }

    /// Goes on with a refund of an earlier process. Until it has ended the channel takes no payments.
    pub(super) fn go_on_with_refund(self: &Arc<Self>, resumed: Resumed) {
        let channel = resumed.errand.channel;
        lock(&self.releasing).insert(channel);
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            let (errand, sent) = resumed.end().await;
            let ended = match (sent, inner.board.snapshot(channel).await) {
                (Ok(receipt), Ok(Some(snapshot))) => inner.refunded(&snapshot.terms, &errand, &receipt).await.map(drop),
                (Ok(_), Ok(None)) => Err(Rejection::UnknownChannel.into()),
                (Ok(_), Err(error)) => Err(error),
                (Err(error), _) => {
                    warn!(%channel, %error, "a refund of before the start did not happen");
                    inner.sender.forget(&errand).await.map_err(stopped)
                }
            };
            if let Err(error) = ended {
                warn!(%channel, %error, "the end of a refund is not known to the engine yet");
            }
            lock(&inner.releasing).remove(&channel);
        });
    }
}

/// The contract counts refunds, so the next one has another intent.
fn intent(channel: &EscrowChannelId, refund_nonce: u64, amount: Amount) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"millstream/x402-refund");
    hash.update(channel.as_bytes());
    hash.update(refund_nonce.to_be_bytes());
    hash.update(amount.units().to_be_bytes());
    hash.finalize().into()
}
