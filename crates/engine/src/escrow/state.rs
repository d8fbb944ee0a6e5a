//! Everything about escrows in memory, and the one way in which a channel changes.

use core::ops::Bound;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use millstream_types::{Address, BlockNumber, EscrowChannelId, Timestamp};

use super::channel::{EscrowChannel, EscrowState, EscrowStatus, cut_reason};
use super::charge::{Generation, Outcome, Reservation, Subject};
use super::claim::{Claim, Payment, PaymentState, Sweep};
use super::desk::Judged;
use super::id::{AuthorizationId, ClaimId, EscrowId, RequestId};
use super::input::{EscrowAnswer, EscrowFact, EscrowInput, EscrowSnapshot};
use super::record::{Counters, EscrowKey, EscrowRecord, StoredState};
use super::rejection::EscrowRejection;
use super::terms::{Escrow, EscrowTerms};
use crate::engine::Engine;
use crate::input::{Effect, ReplyId};
use crate::journal::NewCharge;
use crate::record::{Key, Record};
use crate::{ChainCursor, Fault};

/// What the operator decides about escrows. Milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EscrowConfig {
    /// Outcomes are kept for at least so long, and at most twice.
    pub outcome_millis: u64,
    /// A reservation that nobody resolved for so long is resolved by what was marked as delivered.
    pub reservation_millis_max: u64,
    /// What a claim takes, from being sent to being beyond doubt: payments that a withdrawal could overtake are not taken.
    pub claim_margin_millis: u64,
    /// What sending a single payment takes: it is not taken when its authorisation ends earlier.
    pub payment_margin_millis: u64,
    /// Single payments are remembered until they end, so one that is valid for longer is not taken.
    pub payment_millis_max: u64,
}

impl Default for EscrowConfig {
    fn default() -> Self {
        Self {
            outcome_millis: 600_000,
            reservation_millis_max: 600_000,
            claim_margin_millis: 300_000,
            payment_margin_millis: 6_000,
            payment_millis_max: 3_600_000,
        }
    }
}

/// Figures over all escrows. Amounts are in different tokens, so there are none here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EscrowSummary {
    /// Channels known.
    pub channels: u64,
    /// Frozen ones.
    pub frozen: u64,
    /// In quarantine.
    pub quarantined: u64,
    /// With something charged that is not claimed.
    pub owing: u64,
    /// Reservations under way.
    pub reservations: u64,
    /// Claims under way.
    pub claims: u64,
    /// Charges ever made.
    pub charges: u64,
}

/// An escrow that is served.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub(crate) escrow: Escrow,
    pub(crate) cursor: Option<ChainCursor>,
    /// Set by a reset: until this block was read again, frozen channels stay frozen.
    pub(crate) retelling: Option<BlockNumber>,
    /// What rests on deposits that are not confirmed.
    pub(crate) exposed: u128,
}

/// All escrows, their channels, and what is under way on them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Escrows {
    pub(crate) services: BTreeMap<EscrowId, Service>,
    /// In the order in which they came.
    channels: Vec<EscrowChannel>,
    /// Positions in `channels`. Its order is random and decides nothing, so that payers cannot make many channels meet in one place.
    places: HashMap<EscrowChannelId, u32>,
    /// Channels with something charged that is not claimed.
    pub(crate) owing: BTreeSet<(EscrowId, EscrowChannelId)>,
    pub(crate) reservations: HashMap<RequestId, Reservation>,
    pub(crate) expiries: BTreeSet<(Timestamp, RequestId)>,
    pub(crate) payments: HashMap<AuthorizationId, Payment>,
    /// Those that were delivered and are not paid.
    pub(crate) unpaid: BTreeSet<AuthorizationId>,
    /// Those that were delivered and could not be collected, by who owes them.
    pub(crate) defaults: BTreeSet<(Address, AuthorizationId)>,
    /// When those that are over may be forgotten.
    pub(crate) payment_ends: BTreeSet<(Timestamp, AuthorizationId)>,
    pub(crate) claims: BTreeMap<ClaimId, Claim>,
    pub(crate) sweeps: BTreeMap<(EscrowId, Address), Sweep>,
    pub(crate) counters: Counters,
    pub(crate) generation: Generation,
    frozen: u64,
    /// Channels in quarantine.
    pub(crate) quarantined: BTreeSet<(EscrowId, EscrowChannelId)>,
    /// Outcomes of this tick: the store does not have them yet.
    pub(crate) fresh: HashMap<RequestId, Outcome>,
    /// Charges of this tick.
    pub(crate) new_charges: Vec<NewCharge>,
    /// Token and payer of what ended in this tick without a charge.
    pub(crate) new_voids: Vec<(Address, Address)>,
    changed: BTreeSet<EscrowChannelId>,
    /// Claims that were made, changed or ended in this tick: each is written once, however many of its rows the chain confirmed.
    pub(crate) changed_claims: BTreeSet<ClaimId>,
    pub(crate) counters_changed: bool,
    /// When the engine is to be woken.
    pub(crate) wanted: Option<Timestamp>,
    /// States that were restored before their terms.
    early: BTreeMap<EscrowChannelId, StoredState>,
}

/// What of a channel is counted over all of them.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Tally {
    exposed: u128,
    is_owing: bool,
    is_frozen: bool,
    is_quarantined: bool,
}

impl Tally {
    fn of(state: &EscrowState) -> Self {
        Self {
            exposed: state.exposed(),
            is_owing: state.is_owing(),
            is_frozen: matches!(state.status, EscrowStatus::Frozen(_)),
            is_quarantined: state.quarantined.is_some(),
        }
    }
}

fn recount(count: &mut u64, before: bool, after: bool) {
    *count = count.wrapping_sub(before.into()).wrapping_add(after.into());
}

impl Escrows {
    pub(crate) fn get(&self, id: &EscrowChannelId) -> Option<&EscrowChannel> {
        let place = usize::try_from(*self.places.get(id)?).ok()?;
        self.channels.get(place)
    }

    fn all(&self) -> &[EscrowChannel] {
        &self.channels
    }

    fn place(&self, id: &EscrowChannelId) -> Result<usize, Fault> {
        let place = self.places.get(id).and_then(|place| usize::try_from(*place).ok());
        place.ok_or(Fault::UnknownEscrowChannel { channel: *id })
    }

    /// Changes a channel; what is counted over all channels follows, and its totals are seen to be in order.
    pub(crate) fn update<R>(&mut self, id: &EscrowChannelId, change: impl FnOnce(&mut EscrowState) -> R) -> Result<R, Fault> {
        let place = self.place(id)?;
        self.update_at(place, change)
    }

    fn update_at<R>(&mut self, place: usize, change: impl FnOnce(&mut EscrowState) -> R) -> Result<R, Fault> {
        let channel = self.channels.get_mut(place).ok_or(Fault::EscrowTables)?;
        let (id, escrow) = (channel.terms.channel, channel.terms.escrow);
        let before = Tally::of(&channel.state);
        let result = change(&mut channel.state);
        let after = Tally::of(&channel.state);
        if !channel.state.is_ordered() {
            return Err(Fault::EscrowTotals { channel: id });
        }
        if before != after {
            self.count(escrow, id, before, after);
        }
        self.changed.insert(id);
        Ok(result)
    }

    fn count(&mut self, escrow: EscrowId, id: EscrowChannelId, before: Tally, after: Tally) {
        if let Some(service) = self.services.get_mut(&escrow) {
            service.exposed = service.exposed.saturating_sub(before.exposed).saturating_add(after.exposed);
        }
        recount(&mut self.frozen, before.is_frozen, after.is_frozen);
        for (is_member, members) in [(after.is_owing, &mut self.owing), (after.is_quarantined, &mut self.quarantined)] {
            if is_member {
                members.insert((escrow, id));
            } else {
                members.remove(&(escrow, id));
            }
        }
    }

    /// Changes every channel of an escrow.
    pub(crate) fn update_each(&mut self, escrow: EscrowId, mut change: impl FnMut(&mut EscrowState)) -> Result<(), Fault> {
        for place in 0..self.channels.len() {
            if self.channels.get(place).is_some_and(|channel| channel.terms.escrow == escrow) {
                self.update_at(place, &mut change)?;
            }
        }
        Ok(())
    }

    /// Terms of the channels of an escrow that are closed.
    pub(crate) fn closed(&self, escrow: EscrowId) -> Vec<EscrowTerms> {
        let closed = self.channels.iter().filter(|channel| channel.terms.escrow == escrow && channel.state.status == EscrowStatus::Closed);
        closed.map(|channel| (*channel.terms).clone()).collect()
    }

    /// Adds a channel that is not there yet.
    pub(crate) fn insert(&mut self, channel: EscrowChannel) {
        let place = u32::try_from(self.channels.len()).unwrap_or(u32::MAX);
        let (id, escrow) = (channel.terms.channel, channel.terms.escrow);
        let nothing = Tally { exposed: 0, is_owing: false, is_frozen: false, is_quarantined: false };
        self.count(escrow, id, nothing, Tally::of(&channel.state));
        self.places.insert(id, place);
        self.channels.push(channel);
    }

    pub(crate) fn snapshot(&self, id: &EscrowChannelId) -> Option<Box<EscrowSnapshot>> {
        let channel = self.get(id)?;
        let escrow = &self.services.get(&channel.terms.escrow)?.escrow;
        Some(Box::new(EscrowSnapshot {
            terms: (*channel.terms).clone(),
            status: channel.status(),
            totals: channel.totals(),
            exit: channel.exit(),
            requests: channel.requests(),
            voucher: channel.voucher(escrow),
        }))
    }

    pub(crate) fn want(&mut self, at: Timestamp) {
        self.wanted = Some(self.wanted.map_or(at, |wanted| wanted.min(at)));
    }

    fn want_next(&mut self, config: &EscrowConfig) {
        let expiry = self.expiries.first().map(|(at, _)| *at);
        let payment = self.payment_ends.first().map(|(at, _)| *at);
        let Generation { since, is_used, was_used, .. } = self.generation;
        let turn = (is_used || was_used).then(|| since.plus_millis(config.outcome_millis));
        for at in [expiry, payment, turn].into_iter().flatten() {
            self.want(at);
        }
    }

    pub(crate) fn summary(&self) -> EscrowSummary {
        let count = |len: usize| u64::try_from(len).unwrap_or(u64::MAX);
        EscrowSummary {
            channels: count(self.channels.len()),
            frozen: self.frozen,
            quarantined: count(self.quarantined.len()),
            owing: count(self.owing.len()),
            reservations: count(self.reservations.len()),
            claims: count(self.claims.len()),
            charges: self.counters.charge,
        }
    }

    /// Takes a record at the start.
    pub(crate) fn restore(&mut self, record: EscrowRecord) {
        match record {
            EscrowRecord::Escrow(escrow) => {
                let service = Service { escrow, cursor: None, retelling: None, exposed: 0 };
                self.services.entry(escrow.id).or_insert(service).escrow = escrow;
            }
            EscrowRecord::Cursor(id, cursor) => {
                if let Some(service) = self.services.get_mut(&id) {
                    service.cursor = Some(cursor);
                }
            }
            EscrowRecord::Retelling(id, until) => {
                if let Some(service) = self.services.get_mut(&id) {
                    service.retelling = Some(until);
                }
            }
            EscrowRecord::Terms(terms) => {
                let state = self.early.remove(&terms.channel).map(|state| *state.0);
                self.insert(EscrowChannel { terms: Box::new(terms), state: state.unwrap_or_default() });
            }
            EscrowRecord::Channel(id, state) => match self.place(&id) {
                Ok(place) => self.set(place, *state.0),
                Err(_) => drop(self.early.insert(id, state)),
            },
            EscrowRecord::Reservation(reservation) => {
                self.expiries.insert((reservation.expires_at, reservation.request));
                self.reservations.insert(reservation.request, reservation);
            }
            EscrowRecord::Payment(payment) => self.put_payment(payment),
            EscrowRecord::Claim(claim) => drop(self.claims.insert(claim.id, claim)),
            EscrowRecord::Sweep(escrow, receiver, sweep) => drop(self.sweeps.insert((escrow, receiver), sweep)),
            EscrowRecord::Counters(counters) => self.counters = counters,
            EscrowRecord::Generation(generation) => self.generation = generation,
            EscrowRecord::Archived(_) | EscrowRecord::Charges(_) | EscrowRecord::Outcome(..) => {}
        }
    }

    fn set(&mut self, place: usize, state: EscrowState) {
        if let Some(channel) = self.channels.get_mut(place) {
            let (id, escrow, before) = (channel.terms.channel, channel.terms.escrow, Tally::of(&channel.state));
            let after = Tally::of(&state);
            channel.state = state;
            self.count(escrow, id, before, after);
        }
    }

    /// Keeps a payment, and what is to be done about it next.
    pub(crate) fn put_payment(&mut self, payment: Payment) {
        let id = payment.authorization;
        match payment.state {
            PaymentState::Captured | PaymentState::Submitted { .. } => {
                self.unpaid.insert(id);
            }
            PaymentState::Reserved { .. } => {}
            PaymentState::Paid { .. } | PaymentState::Failed { .. } => {
                self.unpaid.remove(&id);
                self.payment_ends.insert((payment.valid_until, id));
            }
        }
        if matches!(payment.state, PaymentState::Failed { is_owed: true, .. }) {
            self.defaults.insert((payment.payer, id));
        } else {
            self.defaults.remove(&(payment.payer, id));
        }
        self.payments.insert(id, payment);
    }

    pub(crate) fn finish_restoring(&mut self, config: &EscrowConfig) {
        self.want_next(config);
    }

    /// What of this tick is to be booked: charges, and token and payer of what ended without one.
    pub(crate) fn take_booked(&mut self) -> (Vec<NewCharge>, Vec<(Address, Address)>) {
        (core::mem::take(&mut self.new_charges), core::mem::take(&mut self.new_voids))
    }

    pub(crate) fn end_tick(&mut self, effects: &mut Vec<Effect>) {
        for id in core::mem::take(&mut self.changed) {
            let Some(channel) = self.get(&id) else { continue };
            let is_over = channel.state.status == EscrowStatus::Closed && !channel.state.is_owing() && channel.state.requests == 0;
            if is_over {
                effects.push(put(EscrowRecord::Archived(channel.clone())));
                effects.push(delete(EscrowKey::Channel(id)));
                effects.push(delete(EscrowKey::Terms(id)));
            } else {
                effects.push(put(EscrowRecord::Channel(id, StoredState(Box::new(channel.state.clone())))));
            }
        }
        for id in core::mem::take(&mut self.changed_claims) {
            effects.push(match self.claims.get(&id) {
                Some(claim) => put(EscrowRecord::Claim(claim.clone())),
                None => delete(EscrowKey::Claim(id)),
            });
        }
        if core::mem::take(&mut self.counters_changed) {
            effects.push(put(EscrowRecord::Counters(self.counters)));
        }
        self.fresh.clear();
    }
}

pub(crate) fn put(record: EscrowRecord) -> Effect {
    Effect::Put(Record::Escrow(record))
}

pub(crate) const fn delete(key: EscrowKey) -> Effect {
    Effect::Delete(Key::Escrow(key))
}

impl Engine {
    /// Applies one input about an escrow.
    pub(crate) fn escrow_input(
        &mut self,
        now: Timestamp,
        reply: Option<ReplyId>,
        input: EscrowInput,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Fault> {
        let config = self.config.escrow;
        let escrows = &mut self.escrows;
        let channel = escrows.concerned(&input);
        let answer = match input {
            EscrowInput::Serve(escrow) => escrows.serve(escrow, effects),
            EscrowInput::Resume => escrows.resume(now, &config, effects).map(|()| Ok(EscrowAnswer::Done)),
            EscrowInput::Announce { terms, deposit } => escrows.announce(terms, deposit, effects),
            EscrowInput::AnnouncementFailed { channel } => escrows.announcement_failed(&channel),
            EscrowInput::Show { channel } => Ok(escrows.show(&channel)),
            EscrowInput::Voucher { voucher } => escrows.voucher(now, &config, &voucher),
            EscrowInput::Reserve(reserve) => escrows.reserve(now, &config, reserve, effects),
            EscrowInput::ReserveOnce(reserve) => Ok(escrows.reserve_once(now, &config, reserve, effects)),
            EscrowInput::Extend { request, ceiling, at_least, voucher } => {
                escrows.extend(now, &config, &request, (ceiling, at_least), voucher, effects)
            }
            EscrowInput::Mark { request, delivered, meter } => Ok(escrows.mark(&request, delivered, meter, effects)),
            EscrowInput::Capture { request, cost, meter, stored } => escrows.capture(now, &config, &request, cost, meter, stored, effects),
            EscrowInput::Void { request, stored } => escrows.void(now, &config, &request, stored, effects),
            EscrowInput::ClaimSubmitted { escrow, rows, transaction } => escrows.claim_submitted(now, escrow, rows, transaction),
            EscrowInput::ClaimSigned { claim, transaction } => Ok(escrows.claim_signed(claim, transaction)),
            EscrowInput::ClaimLanded { claim } => Ok(escrows.claim_landed(claim)),
            EscrowInput::ClaimFailed { claim, row, reason } => escrows.claim_failed(claim, row, reason),
            EscrowInput::Quarantine { channel, reason } => escrows.quarantine(&channel, reason),
            EscrowInput::Release { channel } => escrows.release(&channel),
            EscrowInput::SweepSubmitted { escrow, receiver, transaction } => {
                Ok(escrows.sweep_submitted(escrow, receiver, Some(transaction), effects))
            }
            EscrowInput::SweepFailed { escrow, receiver } => Ok(escrows.sweep_submitted(escrow, receiver, None, effects)),
            EscrowInput::CollectOnce { request, meter, transaction } => {
                escrows.collect_once(now, &config, &request, meter, transaction, effects)
            }
            EscrowInput::PaymentSubmitted { authorization, transaction } => {
                Ok(escrows.payment_step(authorization, PaymentState::Submitted { transaction }, now, effects))
            }
            EscrowInput::PaymentFailed { authorization, reason, is_owed } => {
                let state = PaymentState::Failed { reason: cut_reason(reason), is_owed };
                let until = if is_owed { now.plus_millis(config.outcome_millis) } else { now };
                let was_charged = escrows.is_charged(&authorization);
                let step = escrows.payment_step(authorization, state, until, effects);
                if was_charged && !is_owed && step.is_ok() {
                    escrows.reverse(now, authorization)?;
                }
                Ok(step)
            }
        }?;
        if let Some(at) = self.escrows.wanted.take() {
            self.wake(now, at, effects);
        }
        if let Some(reply) = reply {
            let answer = answer.unwrap_or_else(|rejection| EscrowAnswer::Rejected {
                rejection,
                channel: channel.and_then(|channel| self.escrows.snapshot(&channel)),
            });
            effects.push(Effect::EscrowAnswer { reply, answer });
        }
        Ok(())
    }

    /// Applies what an escrow's logs say.
    pub(crate) fn escrow_fact(&mut self, now: Timestamp, fact: EscrowFact, effects: &mut Vec<Effect>) -> Result<(), Fault> {
        self.escrows.fact(fact, effects)?;
        if let Some(at) = self.escrows.wanted.take() {
            self.wake(now, at, effects);
        }
        Ok(())
    }

    /// What is due about escrows, and when to look again.
    pub(crate) fn escrow_tick(&mut self, now: Timestamp, chain_time: Timestamp, effects: &mut Vec<Effect>) -> Result<(), Fault> {
        let config = self.config.escrow;
        let escrows = &mut self.escrows;
        escrows.expire(now, &config, effects)?;
        escrows.forget_payments(now.min(chain_time), effects);
        if escrows.generation.is_used || escrows.generation.was_used {
            escrows.turn_generation(now, &config, effects);
        }
        escrows.want_next(&config);
        if let Some(at) = escrows.wanted.take() {
            // Due here and not on the chain, or more than one tick resolves: soon.
            self.wake(now, if at > now { at } else { now.plus_millis(1_000) }, effects);
        }
        Ok(())
    }

    /// The keys under which the store may have the outcome of the request that an input names. None when the engine knows the request itself
    /// and when there is nothing to look for; what is found under one of them goes into the input's `stored`, before it is applied.
    #[must_use]
    pub fn needs_outcome(&self, input: &EscrowInput) -> Option<[Key; 2]> {
        let request = match input {
            EscrowInput::Reserve(reserve) => &reserve.request,
            EscrowInput::ReserveOnce(reserve) => &reserve.request,
            EscrowInput::Capture { request, .. } | EscrowInput::Void { request, .. } => request,
            EscrowInput::Serve(_)
            | EscrowInput::Resume
            | EscrowInput::Announce { .. }
            | EscrowInput::AnnouncementFailed { .. }
            | EscrowInput::Show { .. }
            | EscrowInput::Voucher { .. }
            | EscrowInput::Extend { .. }
            | EscrowInput::Mark { .. }
            | EscrowInput::ClaimSubmitted { .. }
            | EscrowInput::ClaimSigned { .. }
            | EscrowInput::ClaimLanded { .. }
            | EscrowInput::ClaimFailed { .. }
            | EscrowInput::Quarantine { .. }
            | EscrowInput::Release { .. }
            | EscrowInput::SweepSubmitted { .. }
            | EscrowInput::SweepFailed { .. }
            | EscrowInput::CollectOnce { .. }
            | EscrowInput::PaymentSubmitted { .. }
            | EscrowInput::PaymentFailed { .. } => return None,
        };
        let escrows = &self.escrows;
        if escrows.reservations.contains_key(request) || escrows.fresh.contains_key(request) {
            return None;
        }
        let Generation { number, is_used, was_used, .. } = escrows.generation;
        let key = |generation| Key::Escrow(EscrowKey::Outcome(generation, *request));
        (is_used || was_used).then(|| [key(number), key(number.wrapping_sub(1))])
    }

    /// The channels of an escrow, in the order in which they came.
    pub fn escrow_channels(&self, escrow: EscrowId) -> impl Iterator<Item = &EscrowChannel> {
        self.escrows.all().iter().filter(move |channel| channel.terms.escrow == escrow)
    }

    /// A channel on an escrow.
    #[must_use]
    pub fn escrow_channel(&self, id: &EscrowChannelId) -> Option<&EscrowChannel> {
        self.escrows.get(id)
    }

    /// An escrow.
    #[must_use]
    pub fn escrow(&self, id: EscrowId) -> Option<&Escrow> {
        self.escrows.services.get(&id).map(|service| &service.escrow)
    }

    /// How far an escrow's logs were read.
    #[must_use]
    pub fn escrow_cursor(&self, id: EscrowId) -> Option<&ChainCursor> {
        self.escrows.services.get(&id)?.cursor.as_ref()
    }

    /// A reservation under way.
    #[must_use]
    pub fn reservation(&self, request: &RequestId) -> Option<&Reservation> {
        self.escrows.reservations.get(request)
    }

    /// Claims under way, oldest first.
    pub fn escrow_claims(&self) -> impl Iterator<Item = &Claim> {
        self.escrows.claims.values()
    }

    /// Sweeps: what was claimed and paid out, by escrow and receiver.
    pub fn sweeps(&self) -> impl Iterator<Item = (EscrowId, Address, &Sweep)> {
        self.escrows.sweeps.iter().map(|((escrow, receiver), sweep)| (*escrow, *receiver, sweep))
    }

    /// Single payments that were delivered and that the chain has not confirmed, after one of them or from the first.
    pub fn unpaid_payments(&self, after: Option<AuthorizationId>) -> impl Iterator<Item = &Payment> {
        let range = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        self.escrows.unpaid.range(range).filter_map(|id| self.escrows.payments.get(id))
    }

    /// A single payment.
    #[must_use]
    pub fn payment(&self, id: &AuthorizationId) -> Option<&Payment> {
        self.escrows.payments.get(id)
    }

    /// Figures over all escrows.
    #[must_use]
    pub fn escrow_summary(&self) -> EscrowSummary {
        self.escrows.summary()
    }
}

impl Escrows {
    /// The channel that an input is about, for the answer to one that is rejected.
    fn concerned(&self, input: &EscrowInput) -> Option<EscrowChannelId> {
        let of_request = |request: &RequestId| match self.reservations.get(request)?.subject {
            Subject::Channel(channel) => Some(channel),
            Subject::Once(_) => None,
        };
        match input {
            EscrowInput::Announce { terms, .. } => Some(terms.channel),
            EscrowInput::AnnouncementFailed { channel }
            | EscrowInput::Show { channel }
            | EscrowInput::Quarantine { channel, .. }
            | EscrowInput::Release { channel } => Some(*channel),
            EscrowInput::Voucher { voucher } => Some(voucher.statement().channel),
            EscrowInput::Reserve(reserve) => Some(reserve.channel),
            EscrowInput::Extend { request, .. }
            | EscrowInput::Mark { request, .. }
            | EscrowInput::Capture { request, .. }
            | EscrowInput::Void { request, .. } => of_request(request),
            EscrowInput::Serve(_)
            | EscrowInput::Resume
            | EscrowInput::ReserveOnce(_)
            | EscrowInput::ClaimSubmitted { .. }
            | EscrowInput::ClaimSigned { .. }
            | EscrowInput::ClaimLanded { .. }
            | EscrowInput::ClaimFailed { .. }
            | EscrowInput::SweepSubmitted { .. }
            | EscrowInput::SweepFailed { .. }
            | EscrowInput::CollectOnce { .. }
            | EscrowInput::PaymentSubmitted { .. }
            | EscrowInput::PaymentFailed { .. } => None,
        }
    }

    fn show(&self, channel: &EscrowChannelId) -> Judged {
        self.snapshot(channel).map(EscrowAnswer::Channel).ok_or(EscrowRejection::UnknownChannel)
    }
}
