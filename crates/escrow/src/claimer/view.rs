//! What an operator sees of claims and sweeps. Amounts in base units of the escrow's token, as decimal strings.

use std::sync::Arc;

use millstream_engine::Engine;
use millstream_engine::escrow::{Claimable, EscrowId};
use millstream_node::{Payments, Stopped};
use millstream_types::{Address, Amount, CumulativeAmount, EscrowChannelId, Hash256, Timestamp};
use serde::Serialize;

use super::ClaimedEscrow;
use super::kept::Sent;
use super::sweeps::Sweeps;

/// Rows of one page, at most.
pub const PAGE_ROWS_MAX: usize = 1_000;

/// A channel with something to claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClaimableView {
    /// The channel.
    pub channel: EscrowChannelId,
    /// Who pays.
    pub payer: Address,
    /// Who is paid.
    pub receiver: Address,
    /// What will have been claimed.
    pub total: CumulativeAmount,
    /// What of it is new.
    pub gain: Amount,
    /// When the payer can take it away, in milliseconds of the chain's time, if it is leaving.
    pub deadline_millis: Option<u64>,
}

/// A claim under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClaimView {
    /// Its number.
    pub claim: u64,
    /// The escrow.
    pub escrow: u32,
    /// When it was written down.
    pub submitted_at_millis: u64,
    /// `sent`, or `landed`: mined, and not confirmed as deep as counts.
    pub stage: &'static str,
    /// The newest version of its transaction.
    pub transaction: Option<Hash256>,
    /// Rows that the chain has not confirmed.
    pub rows: usize,
    /// Versions that were sent: more than one when it was stuck.
    pub versions: usize,
}

/// A channel in quarantine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QuarantineView {
    /// The channel.
    pub channel: EscrowChannelId,
    /// Who pays.
    pub payer: Address,
    /// The contract's reason.
    pub reason: String,
    /// Charged and not claimed.
    pub unclaimed: Amount,
}

/// A receiver on an escrow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SweepView {
    /// The escrow.
    pub escrow: u32,
    /// Who is paid.
    pub receiver: Address,
    /// Claimed for it.
    pub claimed: Amount,
    /// Swept to it.
    pub swept: Amount,
    /// What a sweep would pay.
    pub due: Amount,
    /// The newest version of the sweep under way.
    pub transaction: Option<Hash256>,
    /// Why the last one failed, if it did.
    pub failure: Option<String>,
}

/// What an operator may ask for.
#[derive(Clone)]
pub struct ClaimsDesk {
    payments: Payments,
    escrows: Arc<[ClaimedEscrow]>,
    sweeps: Arc<Sweeps>,
}

impl ClaimsDesk {
    pub(super) const fn new(payments: Payments, escrows: Arc<[ClaimedEscrow]>, sweeps: Arc<Sweeps>) -> Self {
        Self { payments, escrows, sweeps }
    }

    /// The escrows that are claimed on.
    pub fn escrows(&self) -> impl Iterator<Item = EscrowId> {
        self.escrows.iter().map(|escrow| escrow.id)
    }

    /// Channels with something to claim, by channel, after one of them or from the first; at most [`PAGE_ROWS_MAX`].
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn claimable(&self, escrow: EscrowId, after: Option<EscrowChannelId>, limit: usize) -> Result<Vec<ClaimableView>, Stopped> {
        let view = |claimable: Claimable<'_>| ClaimableView {
            channel: claimable.terms.channel,
            payer: claimable.terms.payer,
            receiver: claimable.terms.receiver,
            total: claimable.total,
            gain: claimable.gain,
            deadline_millis: claimable.deadline.map(Timestamp::as_millis),
        };
        let limit = limit.min(PAGE_ROWS_MAX);
        self.payments.read(move |engine: &Engine| engine.claimable(escrow, after).take(limit).map(view).collect()).await
    }

    /// Channels in quarantine, by channel, after one of them or from the first; at most [`PAGE_ROWS_MAX`].
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn quarantined(
        &self,
        escrow: EscrowId,
        after: Option<EscrowChannelId>,
        limit: usize,
    ) -> Result<Vec<QuarantineView>, Stopped> {
        let limit = limit.min(PAGE_ROWS_MAX);
        let page = move |engine: &Engine| -> Vec<QuarantineView> {
            let view = |channel: &millstream_engine::escrow::EscrowChannel| QuarantineView {
                channel: channel.terms().channel,
                payer: channel.terms().payer,
                reason: channel.quarantined().unwrap_or_default().to_owned(),
                unclaimed: channel.totals().charged.delta_since(channel.totals().settled).unwrap_or(Amount::ZERO),
            };
            engine.quarantined(escrow, after).take(limit).map(view).collect()
        };
        self.payments.read(page).await
    }

    /// Claims under way, oldest first.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn claims(&self) -> Result<Vec<ClaimView>, Stopped> {
        let claims = self.payments.read(|engine: &Engine| engine.escrow_claims().cloned().collect::<Vec<_>>()).await?;
        let view = |claim: millstream_engine::escrow::Claim| {
            let sent = Sent::decode(&claim.transaction).unwrap_or_default();
            ClaimView {
                claim: claim.id.0,
                escrow: claim.escrow.0,
                submitted_at_millis: claim.submitted_at.as_millis(),
                stage: if claim.is_landed { "landed" } else { "sent" },
                transaction: sent.transaction(),
                rows: claim.rows.len(),
                versions: sent.versions.len(),
            }
        };
        Ok(claims.into_iter().map(view).collect())
    }

    /// What was claimed for each receiver and swept to it.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn sweeps(&self) -> Result<Vec<SweepView>, Stopped> {
        let sweeps =
            |engine: &Engine| engine.sweeps().map(|(escrow, receiver, sweep)| (escrow, receiver, sweep.clone())).collect::<Vec<_>>();
        let sweeps = self.payments.read(sweeps).await?;
        let view = |(escrow, receiver, sweep): (EscrowId, Address, millstream_engine::escrow::Sweep)| SweepView {
            escrow: escrow.0,
            receiver,
            claimed: sweep.claimed,
            swept: sweep.swept,
            due: sweep.due(),
            transaction: sweep.transaction.as_ref().and_then(|sent| Sent::decode(sent).ok()?.transaction()),
            failure: self.sweeps.failure(escrow, receiver),
        };
        Ok(sweeps.into_iter().map(view).collect())
    }
}
