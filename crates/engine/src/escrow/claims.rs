//! Claims and sweeps: what can be taken on the chain, what is under way, what failed (spec ).

use core::ops::{Bound, RangeBounds};
use std::collections::BTreeSet;

use bytes::Bytes;
use millstream_types::{Address, Amount, CumulativeAmount, EscrowChannelId, Timestamp};

use super::channel::{EscrowChannel, cut_reason, within};
use super::claim::{Claim, Claimable};
use super::desk::{Judged, transaction_within};
use super::id::{ClaimId, EscrowId};
use super::input::{ClaimRow, EscrowAnswer};
use super::record::EscrowRecord;
use super::rejection::EscrowRejection;
use super::state::{Escrows, put};
use super::terms::ClaimRule;
use crate::Fault;
use crate::engine::Engine;
use crate::input::Effect;

/// Rows of one claim, at most.
pub const CLAIM_ROWS_MAX: usize = 1_024;

/// Bytes of what finds a claim's transaction again, at most.
pub const CLAIM_BYTES_MAX: usize = 65_535;

impl Engine {
    /// What can be claimed on an escrow now, by channel, after one of them or from the first: charged, not claimed, not being claimed, not in
    /// quarantine.
    pub fn claimable(&self, escrow: EscrowId, after: Option<EscrowChannelId>) -> impl Iterator<Item = Claimable<'_>> {
        let rules = self.escrow(escrow);
        self.escrows.owing.range(of_escrow(escrow, after)).filter_map(move |(_, id)| {
            let (rules, channel) = (rules?, self.escrows.get(id)?);
            let (total, kept) = channel.state.claimable(rules.claim)?;
            Some(Claimable {
                terms: channel.terms(),
                total: CumulativeAmount::from_units(total),
                gain: Amount::from_units(total.saturating_sub(channel.state.settled)),
                voucher: channel.verified(rules, kept),
                deadline: channel.state.exit.map(|exit| exit.finalises_at),
            })
        })
    }

    /// The channels of an escrow that are in quarantine, after one of them or from the first.
    pub fn quarantined(&self, escrow: EscrowId, after: Option<EscrowChannelId>) -> impl Iterator<Item = &EscrowChannel> {
        self.escrows.quarantined.range(of_escrow(escrow, after)).filter_map(|(_, id)| self.escrows.get(id))
    }
}

/// The channels of an escrow, after one of them or from the first.
fn of_escrow(escrow: EscrowId, after: Option<EscrowChannelId>) -> impl RangeBounds<(EscrowId, EscrowChannelId)> {
    let from = after.map_or(Bound::Included((escrow, EscrowChannelId::from_bytes([0; 32]))), |id| Bound::Excluded((escrow, id)));
    (from, Bound::Included((escrow, EscrowChannelId::from_bytes([u8::MAX; 32]))))
}

impl Escrows {
    pub(crate) fn claim_submitted(
        &mut self,
        now: Timestamp,
        escrow: EscrowId,
        rows: Vec<ClaimRow>,
        transaction: Bytes,
    ) -> Result<Judged, Fault> {
        if let Err(rejection) = self.judge_claim(escrow, &rows, &transaction) {
            return Ok(Err(rejection));
        }
        let id = ClaimId(self.counters.claim);
        self.counters.claim = id.0.checked_add(1).ok_or(Fault::EscrowTables)?;
        self.counters_changed = true;
        for row in &rows {
            self.update(&row.channel, |state| state.claiming = Some((id, row.total.units())))?;
        }
        let claim = Claim { id, escrow, submitted_at: now, is_landed: false, transaction, rows };
        self.claims.insert(id, claim);
        self.changed_claims.insert(id);
        Ok(Ok(EscrowAnswer::Claim(id)))
    }

    pub(crate) fn claim_signed(&mut self, id: ClaimId, transaction: Bytes) -> Judged {
        within(&transaction, CLAIM_BYTES_MAX)?;
        let claim = self.claims.get_mut(&id).ok_or(EscrowRejection::UnknownClaim { claim: id })?;
        claim.transaction = transaction;
        self.changed_claims.insert(id);
        Ok(EscrowAnswer::Done)
    }

    fn judge_claim(&self, escrow: EscrowId, rows: &[ClaimRow], transaction: &Bytes) -> Result<(), EscrowRejection> {
        within(transaction, CLAIM_BYTES_MAX)?;
        let service = self.services.get(&escrow).ok_or(EscrowRejection::UnknownEscrow { escrow })?;
        let channels: BTreeSet<_> = rows.iter().map(|row| row.channel).collect();
        if rows.is_empty() || rows.len() > CLAIM_ROWS_MAX || channels.len() != rows.len() {
            return Err(EscrowRejection::ClaimRows { max: CLAIM_ROWS_MAX });
        }
        for row in rows {
            let channel = self.get(&row.channel).filter(|channel| channel.terms.escrow == escrow);
            let best = channel.and_then(|channel| channel.state.claimable(service.escrow.claim).map(|(total, _)| (channel, total)));
            // Less than what is charged by now is what was read a moment ago.
            let is_claimable = best.is_some_and(|(channel, total)| is_within(channel, service.escrow.claim, row.total.units(), total));
            if !is_claimable {
                return Err(EscrowRejection::NotClaimable { channel: row.channel, total: row.total });
            }
        }
        Ok(())
    }

    pub(crate) fn claim_landed(&mut self, id: ClaimId) -> Judged {
        match self.claims.get_mut(&id) {
            Some(claim) => {
                claim.is_landed = true;
                self.changed_claims.insert(id);
                Ok(EscrowAnswer::Done)
            }
            // Confirmed already, or never made.
            None if id.0 < self.counters.claim => Ok(EscrowAnswer::Done),
            None => Err(EscrowRejection::UnknownClaim { claim: id }),
        }
    }

    pub(crate) fn claim_failed(&mut self, id: ClaimId, row: Option<EscrowChannelId>, reason: String) -> Result<Judged, Fault> {
        let Some(claim) = self.claims.remove(&id) else { return Ok(Err(EscrowRejection::UnknownClaim { claim: id })) };
        self.changed_claims.insert(id);
        let reason = cut_reason(reason);
        for ClaimRow { channel, .. } in claim.rows {
            self.update(&channel, |state| {
                state.claiming = None;
                if row == Some(channel) {
                    state.quarantined = Some(reason.clone());
                }
            })?;
        }
        Ok(Ok(EscrowAnswer::Done))
    }

    pub(crate) fn quarantine(&mut self, id: &EscrowChannelId, reason: String) -> Result<Judged, Fault> {
        if self.get(id).is_none() {
            return Ok(Err(EscrowRejection::UnknownChannel));
        }
        self.update(id, |state| state.quarantined = Some(cut_reason(reason)))?;
        Ok(Ok(EscrowAnswer::Done))
    }

    pub(crate) fn release(&mut self, id: &EscrowChannelId) -> Result<Judged, Fault> {
        if self.get(id).is_none() {
            return Ok(Err(EscrowRejection::UnknownChannel));
        }
        self.update(id, |state| state.quarantined = None)?;
        Ok(Ok(EscrowAnswer::Done))
    }

    /// A channel's row is done when the chain has confirmed its total, or the channel is closed: by its total and what is settled.
    pub(crate) fn claim_over(&mut self, channel: &EscrowChannelId, is_over: impl Fn(u128, u128) -> bool) -> Result<(), Fault> {
        let done = self.update(channel, |state| state.claiming.take_if(|(_, total)| is_over(*total, state.settled)))?;
        let Some((id, _)) = done else { return Ok(()) };
        if let Some(claim) = self.claims.get_mut(&id) {
            claim.rows.retain(|row| row.channel != *channel);
            if claim.rows.is_empty() {
                self.claims.remove(&id);
            }
            self.changed_claims.insert(id);
        }
        Ok(())
    }

    pub(crate) fn sweep_submitted(
        &mut self,
        escrow: EscrowId,
        receiver: Address,
        transaction: Option<Bytes>,
        effects: &mut Vec<Effect>,
    ) -> Judged {
        if let Some(transaction) = &transaction {
            transaction_within(transaction)?;
        }
        if !self.services.contains_key(&escrow) {
            return Err(EscrowRejection::UnknownEscrow { escrow });
        }
        let sweep = self.sweeps.entry((escrow, receiver)).or_default();
        sweep.transaction = transaction;
        effects.push(put(EscrowRecord::Sweep(escrow, receiver, sweep.clone())));
        Ok(EscrowAnswer::Done)
    }

    /// Counts what the chain claimed for a receiver and paid out to it.
    pub(crate) fn count_sweep(
        &mut self,
        escrow: EscrowId,
        receiver: Address,
        (claimed, swept): (Amount, Amount),
        effects: &mut Vec<Effect>,
    ) -> Result<(), Fault> {
        let sweep = self.sweeps.entry((escrow, receiver)).or_default();
        let overflow = |_| Fault::EscrowSweep { escrow };
        sweep.claimed = sweep.claimed.checked_add(claimed).map_err(overflow)?;
        sweep.swept = sweep.swept.checked_add(swept).map_err(overflow)?;
        if !swept.is_zero() {
            sweep.transaction = None;
        }
        effects.push(put(EscrowRecord::Sweep(escrow, receiver, sweep.clone())));
        Ok(())
    }
}

fn is_within(channel: &EscrowChannel, rule: ClaimRule, total: u128, best: u128) -> bool {
    let is_new = total > channel.state.settled;
    match rule {
        ClaimRule::UpTo => is_new && total <= best,
        ClaimRule::Whole => is_new && total == best,
    }
}
