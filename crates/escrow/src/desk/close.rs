//! MPP's cooperative close: what was charged is paid, exactly, and the rest goes back.
//!
//! While it is under way the channel takes no requests. What the deliveries under way cost decides over what the close is, so they end first.

use std::sync::Arc;
use std::time::Duration;

use millstream_chain::session_escrow::VoucherRow;
use millstream_chain::{ChainError, ErrorKind, IntentId, TxReceipt};
use millstream_engine::escrow::{EscrowAnswer, EscrowSnapshot, EscrowStatus, EscrowTerms, FrozenWhy};
use millstream_gateway::port::{PortError, Rejection, Released};
use millstream_gateway::tender::Tender;
use millstream_types::{Amount, CumulativeAmount, EscrowChannelId};
use millstream_voucher::evm::VerifiedEscrowVoucher;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tracing::{info, warn};

use super::Inner;
use super::deposit::chain_failed;
use super::sent::{Errand, Kind, Resumed};
use crate::board::{fault, stopped, unavailable};
use crate::lock::lock;

/// How long a close waits for the deliveries under way, at most.
const DELIVERIES_WAIT: Duration = Duration::from_secs(30);
/// Between two looks whether they have ended.
const DELIVERIES_PAUSE: Duration = Duration::from_millis(50);
/// The pause after a try whose end is not known; it doubles.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Tries before the payer is told to come back; a transaction that was sent is waited for by the next.
const TRIES: u32 = 8;

impl Inner {
    pub(super) async fn close(self: &Arc<Self>, tender: Tender) -> Result<Released, PortError> {
        self.board.require_current()?;
        let channel = tender.channel;
        let voucher = self.verified(&tender).await?.ok_or(Rejection::BadSignature)?;
        let snapshot = self.board.snapshot(channel).await?.ok_or(Rejection::UnknownChannel)?;
        self.is_signed_for(&snapshot, &voucher)?;
        let permit = Arc::clone(&self.transactions).try_acquire_owned().map_err(|_| unavailable())?;
        if !lock(&self.releasing).insert(channel) {
            return Err(Rejection::ChannelBusy(Box::new(self.board.standing_of(&snapshot))).into());
        }
        // A task of its own: a client that leaves does not leave a close of which nobody knows the end.
        let inner = Arc::clone(self);
        let task = tokio::spawn(async move {
            let closed = inner.close_over(channel, &voucher).await;
            lock(&inner.releasing).remove(&channel);
            drop(permit);
            closed
        });
        match tokio::time::timeout(self.deposit_wait, task).await {
            Ok(ended) => ended.map_err(fault)?,
            // It goes on; until it has ended the channel is busy.
            Err(_) => Err(unavailable()),
        }
    }

    /// Whether a close's voucher is one of this channel, escrow and signer. The engine judges the vouchers that it takes; one over more than was
    /// charged is none of them.
    fn is_signed_for(&self, snapshot: &EscrowSnapshot, voucher: &VerifiedEscrowVoucher) -> Result<(), PortError> {
        let domain = self.sessions()?.operator.contract().domain();
        let same = voucher.statement().channel == snapshot.terms.channel
            && voucher.separator() == domain.separator()
            && voucher.signer() == snapshot.terms.signer;
        if same { Ok(()) } else { Err(Rejection::BadSignature.into()) }
    }

    async fn close_over(&self, channel: EscrowChannelId, voucher: &VerifiedEscrowVoucher) -> Result<Released, PortError> {
        let snapshot = self.ended_deliveries(channel).await?;
        match snapshot.status {
            EscrowStatus::Closed => return Err(Rejection::ChannelClosed.into()),
            // Until the chain has told everything again.
            EscrowStatus::Frozen(FrozenWhy::Reorganised) => return Err(unavailable()),
            EscrowStatus::Frozen(FrozenWhy::Uncovered | FrozenWhy::Behind) | EscrowStatus::Open => {}
        }
        let (charged, settled) = (snapshot.totals.charged, snapshot.totals.settled);
        let last = self.last_voucher(channel, charged, voucher).await?;
        if charged > settled && last.as_ref().is_none_or(|last| last.cumulative != charged) {
            let (found, standing) = (voucher.statement().cumulative, Box::new(self.board.standing_of(&snapshot)));
            return Err(Rejection::TotalMismatch { expected: charged, found, standing }.into());
        }
        // What is settled already is paid: then there is no voucher to show.
        let last = last.filter(|_| charged > settled);
        self.send_close(&snapshot.terms, last.as_ref()).await
    }

    /// The chain has closed it: waits until the engine knows.
    async fn closed(&self, terms: &EscrowTerms, errand: &Errand, receipt: TxReceipt) -> Result<Released, PortError> {
        let channel = errand.channel;
        let closed = self.sessions()?.operator.closed(channel, receipt).map_err(fault)?;
        self.look(terms.clone(), false, closed.receipt.block.height()).await?;
        self.sender.forget(errand).await.map_err(stopped)?;
        let standing = self.board.standing(channel).await?.ok_or(Rejection::UnknownChannel)?;
        self.board.tell(&standing);
        self.metrics.refunds.inc();
        let transaction = closed.receipt.transaction.to_string();
        info!(%channel, settled = %closed.settled, refunded = %closed.refunded, transaction, "closed");
        Ok(Released { transaction, amount: closed.refunded, standing })
    }

    /// Goes on with a close of an earlier process. Until it has ended the channel takes no requests.
    pub(super) fn go_on_with_close(self: &Arc<Self>, resumed: Resumed) {
        let channel = resumed.errand.channel;
        lock(&self.releasing).insert(channel);
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            let (errand, sent) = resumed.end().await;
            let ended = match (sent, inner.board.snapshot(channel).await) {
                (Ok(receipt), Ok(Some(snapshot))) => inner.closed(&snapshot.terms, &errand, receipt).await.map(drop),
                // Closed, and put away: the engine knew before the last process ended.
                (Ok(_), Ok(None)) => inner.sender.forget(&errand).await.map_err(stopped),
                (Ok(_), Err(error)) => Err(error),
                (Err(error), _) => {
                    warn!(%channel, %error, "a close of before the start did not happen");
                    inner.sender.forget(&errand).await.map_err(stopped)
                }
            };
            if let Err(error) = ended {
                warn!(%channel, %error, "the end of a close is not known to the engine yet");
            }
            lock(&inner.releasing).remove(&channel);
        });
    }

    /// Waits until nothing is delivered on the channel any more: none begins meanwhile.
    async fn ended_deliveries(&self, channel: EscrowChannelId) -> Result<Box<EscrowSnapshot>, PortError> {
        let until = Instant::now() + DELIVERIES_WAIT;
        loop {
            let snapshot = self.board.snapshot(channel).await?.ok_or(Rejection::UnknownChannel)?;
            if snapshot.requests == 0 {
                return Ok(snapshot);
            }
            if Instant::now() >= until {
                return Err(Rejection::ChannelBusy(Box::new(self.board.standing_of(&snapshot))).into());
            }
            tokio::time::sleep(DELIVERIES_PAUSE).await;
        }
    }

    /// The best voucher that the charges have reached, that of the close among them: the engine keeps it first, so that a crash loses none.
    async fn last_voucher(
        &self,
        channel: EscrowChannelId,
        charged: CumulativeAmount,
        voucher: &VerifiedEscrowVoucher,
    ) -> Result<Option<VoucherRow>, PortError> {
        let own = (voucher.statement().cumulative <= charged).then(|| VoucherRow {
            channel,
            cumulative: voucher.statement().cumulative,
            signature: voucher.signature().clone(),
        });
        if own.is_some() {
            match self.board.payments.voucher(voucher.clone()).await.map_err(stopped)? {
                EscrowAnswer::Channel(_) => {}
                // A channel that its payer is leaving anyway, or that takes no payments, can still be closed with it.
                EscrowAnswer::Rejected { rejection, .. } => info!(%channel, %rejection, "the voucher of a close is not kept"),
                other => return Err(super::unexpected("a voucher", &other)),
            }
        }
        let reached = self.board.payments.read(move |engine| engine.escrow_channel(&channel).and_then(|channel| channel.reached()));
        let reached = reached.await.map_err(stopped)?;
        let reached = reached.map(|(cumulative, signature)| VoucherRow { channel, cumulative, signature });
        Ok([reached, own].into_iter().flatten().max_by_key(|row| row.cumulative))
    }

    async fn send_close(&self, terms: &EscrowTerms, last: Option<&VoucherRow>) -> Result<Released, PortError> {
        let channel = terms.channel;
        let call = self.sessions()?.operator.close_call(channel, last).map_err(fault)?;
        let intent_bytes = intent(&channel);
        let intent = IntentId::from_bytes(intent_bytes);
        let errand = Errand { kind: Kind::Close, channel, intent, intent_bytes, amount: Amount::ZERO, call };
        let mut pause = RETRY_PAUSE;
        for _ in 0..TRIES {
            match self.sender.send(&errand).await {
                Ok(receipt) => return self.closed(terms, &errand, receipt).await,
                Err(ChainError::Reverted { revert, .. }) => {
                    warn!(%channel, %revert, "a close is refused by the contract");
                    self.sender.forget(&errand).await.map_err(stopped)?;
                    return Err(match revert.name() {
                        Some("ChannelFinalized") => Rejection::ChannelClosed,
                        Some("ChannelNotFound") => Rejection::UnknownChannel,
                        _ => Rejection::Reverted { reason: revert.to_string() },
                    }
                    .into());
                }
                Err(error) if error.kind() == ErrorKind::Unavailable && !matches!(error, ChainError::Stopped { .. }) => {
                    warn!(%channel, %error, "a close is not confirmed yet");
                    tokio::time::sleep(pause).await;
                    pause = pause.saturating_mul(2);
                }
                Err(error) => return Err(chain_failed(&error)),
            }
        }
        Err(unavailable())
    }
}

/// A channel is closed once.
fn intent(channel: &EscrowChannelId) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"millstream/session-close");
    hash.update(channel.as_bytes());
    hash.finalize().into()
}
