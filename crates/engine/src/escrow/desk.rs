//! Reserve, extend, mark, capture, void: what a payer asks for and what is charged. The order of the checks is part of the contract (spec
//!

use bytes::Bytes;
use millstream_tariff::Cost;
use millstream_types::{Address, Amount, CumulativeAmount, EscrowChannelId, Timestamp};
use millstream_voucher::evm::VerifiedEscrowVoucher;

use super::channel::{EscrowChannel, EscrowState, EscrowStatus, EscrowTotals, Step, within};
use super::charge::{Cause, Charge, Generation, Outcome, Reservation, Subject};
use super::claim::{Payment, PaymentState};
use super::id::{AuthorizationId, EscrowId, Fingerprint, RequestId};
use super::input::{EscrowAnswer, Meter, Reserve, ReserveOnce};
use super::record::{EscrowKey, EscrowRecord};
use super::rejection::EscrowRejection;
use super::state::{EscrowConfig, Escrows, delete, put};
use super::terms::{ClaimRule, ESCROW_CONFIG_BYTES_MAX, Escrow, EscrowTerms, StepRule};
use crate::Fault;
use crate::input::Effect;
use crate::journal::NewCharge;

/// Requests under way on one channel, at most.
pub const REQUESTS_PER_CHANNEL_MAX: u32 = 1_024;

/// Bytes of [`Meter::units`], at most.
pub const METER_BYTES_MAX: usize = 1_024;

/// Bytes of a payment's transfer and of what finds a transaction again, at most.
pub const TRANSFER_BYTES_MAX: usize = 8_192;

/// Reservations that one tick resolves because they were held for too long, at most.
const EXPIRED_PER_TICK_MAX: usize = 4_096;

/// An answer or a rejection. Either leaves the engine; a fault stops it.
pub(crate) type Judged = Result<EscrowAnswer, EscrowRejection>;

/// What a request needs of a channel.
#[derive(Clone, Copy)]
struct Ask {
    /// What it may cost, all in all.
    total: u128,
    /// The least of it that is to be reserved now.
    more: u128,
    /// Requests that it adds.
    requests: u32,
}

/// What was judged.
struct Judgement {
    escrow: EscrowId,
    step: Step,
    /// What can be reserved now, at least what was asked for.
    room: u128,
}

/// What is held from now on.
#[derive(Clone, Copy, Default)]
struct Hold {
    more: u128,
    requests: u32,
}

/// Everything that a resolution needs to know besides the reservation.
struct Ending {
    cost: Cost,
    cause: Cause,
    meter: Meter,
}

impl Escrows {
    /// An escrow is served from now on, or with another smallest step or limit.
    pub(crate) fn serve(&mut self, escrow: Escrow, effects: &mut Vec<Effect>) -> Result<Judged, Fault> {
        match self.services.get(&escrow.id) {
            Some(service) if service.escrow == escrow => return Ok(Ok(EscrowAnswer::Done)),
            Some(service) if !service.escrow.is_same(&escrow) => {
                return Ok(Err(EscrowRejection::EscrowChanged { escrow: escrow.id }));
            }
            Some(_) | None => {}
        }
        self.restore(EscrowRecord::Escrow(escrow));
        effects.push(put(EscrowRecord::Escrow(escrow)));
        Ok(Ok(EscrowAnswer::Done))
    }

    /// A deposit was sent that the chain has not confirmed.
    pub(crate) fn announce(&mut self, terms: EscrowTerms, deposit: Amount, effects: &mut Vec<Effect>) -> Result<Judged, Fault> {
        if let Err(rejection) = within(&terms.config, ESCROW_CONFIG_BYTES_MAX) {
            return Ok(Err(rejection));
        }
        let id = terms.channel;
        match self.get(&id) {
            Some(channel) if *channel.terms != terms => return Ok(Err(EscrowRejection::OtherTerms)),
            Some(channel) if channel.state.status == EscrowStatus::Closed => return Ok(Err(EscrowRejection::Closed)),
            Some(_) => {}
            None if !self.services.contains_key(&terms.escrow) => {
                return Ok(Err(EscrowRejection::UnknownEscrow { escrow: terms.escrow }));
            }
            None => self.open(terms, effects),
        }
        self.update(&id, |state| {
            if deposit.units() > state.backing() {
                state.announced = deposit.units();
            }
        })?;
        Ok(Ok(self.channel_answer(&id)))
    }

    pub(crate) fn open(&mut self, terms: EscrowTerms, effects: &mut Vec<Effect>) {
        effects.push(put(EscrowRecord::Terms(terms.clone())));
        self.insert(EscrowChannel::new(terms));
    }

    pub(crate) fn announcement_failed(&mut self, id: &EscrowChannelId) -> Result<Judged, Fault> {
        let Some(channel) = self.get(id) else { return Ok(Err(EscrowRejection::UnknownChannel)) };
        let told = self.is_told(channel);
        self.update(id, |state| {
            state.announced = 0;
            if told {
                state.judge();
            }
        })?;
        Ok(Ok(self.channel_answer(id)))
    }

    /// Whether the chain told everything of the channel's escrow; while it tells it again, nothing is judged by a part of it.
    pub(crate) fn is_told(&self, channel: &EscrowChannel) -> bool {
        self.services.get(&channel.terms.escrow).is_some_and(|service| service.retelling.is_none())
    }

    fn channel_answer(&self, id: &EscrowChannelId) -> EscrowAnswer {
        self.snapshot(id).map_or(EscrowAnswer::Done, EscrowAnswer::Channel)
    }

    /// A voucher without a request. Under the exact rule it can only repeat what was charged, as a refund does.
    pub(crate) fn voucher(&mut self, now: Timestamp, config: &EscrowConfig, voucher: &VerifiedEscrowVoucher) -> Result<Judged, Fault> {
        let id = voucher.statement().channel;
        let ask = Ask { total: 0, more: 0, requests: 0 };
        match self.judge_voucher(&id, Some(voucher)).and_then(|()| self.judge_ask(now, config, &id, ask, Some(voucher))) {
            Err(rejection) => Ok(Err(rejection)),
            Ok(judged) => {
                if judged.step.is_raised {
                    self.raise(&id, Hold::default(), &judged.step, Some(voucher))?;
                } else if self.is_claimed_whole(judged.escrow) {
                    self.update(&id, |state| state.keep_reached(voucher))?;
                }
                Ok(Ok(self.channel_answer(&id)))
            }
        }
    }

    pub(crate) fn reserve(
        &mut self,
        now: Timestamp,
        config: &EscrowConfig,
        reserve: Reserve,
        effects: &mut Vec<Effect>,
    ) -> Result<Judged, Fault> {
        let Reserve { channel: id, request, fingerprint, ceiling, at_least, voucher, stored } = reserve;
        let (subject, voucher) = (Subject::Channel(id), voucher.as_ref());
        if let Err(rejection) = self.judge_voucher(&id, voucher) {
            return Ok(Err(rejection));
        }
        if let Some(known) = self.known(&request, subject, fingerprint, stored) {
            return Ok(known);
        }
        let ask = Ask { total: ceiling.units(), more: at_least.min(ceiling).units(), requests: 1 };
        let Judgement { escrow, step, room } = match self.judge_ask(now, config, &id, ask, voucher) {
            Ok(judged) => judged,
            Err(rejection) => return Ok(Err(rejection)),
        };
        let ceiling = Amount::from_units(room.min(ceiling.units()));
        let totals = self.raise(&id, Hold { more: ceiling.units(), requests: 1 }, &step, voucher)?;
        let (delivered, meter) = (Cost::ZERO, Meter::default());
        let expires_at = now.plus_millis(config.reservation_millis_max);
        let reservation = Reservation { request, subject, escrow, fingerprint, ceiling, delivered, meter, expires_at };
        self.hold(reservation, effects);
        Ok(Ok(EscrowAnswer::Reserved { ceiling, totals: Some(totals) }))
    }

    fn hold(&mut self, reservation: Reservation, effects: &mut Vec<Effect>) {
        self.want(reservation.expires_at);
        self.expiries.insert((reservation.expires_at, reservation.request));
        effects.push(put(EscrowRecord::Reservation(reservation.clone())));
        self.reservations.insert(reservation.request, reservation);
    }

    /// What is known of a request: under way, ended, or used for something else. Nothing for a new one.
    fn known(&self, request: &RequestId, subject: Subject, fingerprint: Fingerprint, stored: Option<Outcome>) -> Option<Judged> {
        if let Some(open) = self.reservations.get(request) {
            let is_same = open.subject == subject && open.fingerprint == fingerprint;
            let answer = EscrowAnswer::UnderWay { ceiling: open.ceiling, delivered: open.delivered };
            return Some(if is_same { Ok(answer) } else { Err(EscrowRejection::Conflict) });
        }
        let outcome = self.fresh.get(request).copied().or(stored)?;
        let is_same = outcome.subject == subject && outcome.fingerprint == fingerprint;
        Some(if is_same { Ok(repeated(outcome)) } else { Err(EscrowRejection::Conflict) })
    }

    /// The first checks of R-6: the channel is known, and the voucher is its signer's for it.
    fn judge_voucher(&self, id: &EscrowChannelId, voucher: Option<&VerifiedEscrowVoucher>) -> Result<(), EscrowRejection> {
        let channel = self.get(id).ok_or(EscrowRejection::UnknownChannel)?;
        let service = self.services.get(&channel.terms.escrow).ok_or(EscrowRejection::UnknownChannel)?;
        voucher.map_or(Ok(()), |voucher| judge_signature(&service.escrow, &channel.terms, voucher))
    }

    /// The last checks of R-6: the channel takes payments, the voucher steps as it has to, and the totals cover what is asked.
    fn judge_ask(
        &self,
        now: Timestamp,
        config: &EscrowConfig,
        id: &EscrowChannelId,
        ask: Ask,
        voucher: Option<&VerifiedEscrowVoucher>,
    ) -> Result<Judgement, EscrowRejection> {
        let channel = self.get(id).ok_or(EscrowRejection::UnknownChannel)?;
        let service = self.services.get(&channel.terms.escrow).ok_or(EscrowRejection::UnknownChannel)?;
        let (escrow, state) = (&service.escrow, &channel.state);
        judge_status(state)?;
        match escrow.step {
            StepRule::Exact if ask.requests > 0 && state.requests > 0 => return Err(EscrowRejection::Busy),
            StepRule::Monotone { .. } if ask.requests > 0 && state.requests >= REQUESTS_PER_CHANNEL_MAX => {
                return Err(EscrowRejection::TooManyRequests { max: REQUESTS_PER_CHANNEL_MAX });
            }
            StepRule::Exact | StepRule::Monotone { .. } => {}
        }
        let step = state.step(escrow.step, ask.total, voucher.map(|voucher| voucher.statement().cumulative.units()))?;
        let limit = self.limit(now, config, channel);
        judge_limit(state, &step, ask.more, limit)?;
        // What passed is there, whatever else is; beyond it only what is signed and may be rested on.
        let room = step.accepted.min(limit).saturating_sub(state.owed()).max(ask.more);
        Ok(Judgement { escrow: escrow.id, step, room })
    }

    fn is_claimed_whole(&self, escrow: EscrowId) -> bool {
        self.services.get(&escrow).is_some_and(|service| service.escrow.claim == ClaimRule::Whole)
    }

    /// What payments on a channel may rest on now.
    fn limit(&self, now: Timestamp, config: &EscrowConfig, channel: &EscrowChannel) -> u128 {
        let Some(service) = self.services.get(&channel.terms.escrow) else { return 0 };
        let optimistic = service.escrow.optimistic;
        let others = service.exposed.saturating_sub(channel.state.exposed());
        let room = optimistic.total_max.units().saturating_sub(others).min(optimistic.channel_max.units());
        let until = now.plus_millis(config.reservation_millis_max.saturating_add(config.claim_margin_millis));
        channel.state.limit(until, room)
    }

    /// Takes a judged voucher, and holds what was asked for.
    fn raise(
        &mut self,
        id: &EscrowChannelId,
        hold: Hold,
        step: &Step,
        voucher: Option<&VerifiedEscrowVoucher>,
    ) -> Result<EscrowTotals, Fault> {
        let service = self.get(id).and_then(|channel| self.services.get(&channel.terms.escrow));
        let claim = service.map(|service| service.escrow.claim);
        self.update(id, |state| {
            state.accepted = step.accepted;
            state.reserved = state.reserved.saturating_add(hold.more);
            state.requests = state.requests.saturating_add(hold.requests);
            if let (true, Some(voucher), Some(claim)) = (step.is_raised, voucher, claim) {
                state.keep(claim, voucher);
            }
            state.totals()
        })
    }

    /// A single payment.
    pub(crate) fn reserve_once(
        &mut self,
        now: Timestamp,
        config: &EscrowConfig,
        reserve: ReserveOnce,
        effects: &mut Vec<Effect>,
    ) -> Judged {
        let ReserveOnce { authorization, escrow, payer, receiver, amount, valid_until, transfer, request, fingerprint, stored } = reserve;
        let subject = Subject::Once(authorization);
        within(&transfer, TRANSFER_BYTES_MAX)?;
        if !self.services.contains_key(&escrow) {
            return Err(EscrowRejection::UnknownEscrow { escrow });
        }
        if let Some(known) = self.known(&request, subject, fingerprint, stored) {
            return known;
        }
        if self.payments.contains_key(&authorization) {
            return Err(EscrowRejection::AuthorizationUsed);
        }
        if let Some(authorization) = self.defaulted(&payer) {
            return Err(EscrowRejection::PayerInDefault { authorization });
        }
        if now.plus_millis(config.payment_margin_millis) >= valid_until {
            return Err(EscrowRejection::AuthorizationEnding { valid_until });
        }
        if valid_until > now.plus_millis(config.payment_millis_max) {
            return Err(EscrowRejection::AuthorizationTooLong { max_millis: config.payment_millis_max });
        }
        let state = PaymentState::Reserved { is_paid: false };
        let payment = Payment { authorization, escrow, payer, receiver, amount, valid_until, transfer, request, state };
        effects.push(put(EscrowRecord::Payment(payment.clone())));
        self.put_payment(payment);
        // When it ends, what was not delivered can not be paid for any more.
        let last = valid_until.as_millis().saturating_sub(config.payment_margin_millis);
        let expires_at = now.plus_millis(config.reservation_millis_max).min(Timestamp::from_millis(last));
        let (delivered, meter) = (Cost::ZERO, Meter::default());
        let reservation = Reservation { request, subject, escrow, fingerprint, ceiling: amount, delivered, meter, expires_at };
        self.hold(reservation, effects);
        Ok(EscrowAnswer::Reserved { ceiling: amount, totals: None })
    }

    /// A delivery under way may cost more: up to a ceiling, or at least something.
    pub(crate) fn extend(
        &mut self,
        now: Timestamp,
        config: &EscrowConfig,
        request: &RequestId,
        (ceiling, at_least): (Amount, Amount),
        voucher: Option<VerifiedEscrowVoucher>,
        effects: &mut Vec<Effect>,
    ) -> Result<Judged, Fault> {
        let Some(reservation) = self.reservations.get(request) else {
            return Ok(Err(EscrowRejection::UnknownRequest { request: *request }));
        };
        let id = match reservation.subject {
            Subject::Channel(id) => id,
            Subject::Once(_) => {
                return Ok(Err(EscrowRejection::BeyondReserved { reserved: reservation.ceiling, actual: ceiling }));
            }
        };
        let Ok(more) = ceiling.checked_sub(reservation.ceiling) else {
            return Ok(Ok(EscrowAnswer::Reserved { ceiling: reservation.ceiling, totals: self.get(&id).map(EscrowChannel::totals) }));
        };
        let held = reservation.ceiling;
        let least = at_least.min(ceiling).checked_sub(held).unwrap_or_default();
        // The exact rule counts from what was charged; the other one looks at what a voucher adds.
        let ask = Ask { total: ceiling.units(), more: least.units(), requests: 0 };
        let voucher = voucher.as_ref();
        let judged = self.judge_voucher(&id, voucher).and_then(|()| self.judge_ask(now, config, &id, ask, voucher));
        let Judgement { step, room, .. } = match judged {
            Ok(judged) => judged,
            Err(rejection) => return Ok(Err(rejection)),
        };
        let more = room.min(more.units());
        let ceiling = Amount::from_units(held.units().saturating_add(more));
        let totals = self.raise(&id, Hold { more, requests: 0 }, &step, voucher)?;
        if let Some(reservation) = self.reservations.get_mut(request) {
            reservation.ceiling = ceiling;
            effects.push(put(EscrowRecord::Reservation(reservation.clone())));
        }
        Ok(Ok(EscrowAnswer::Reserved { ceiling, totals: Some(totals) }))
    }

    /// What is delivered next will be charged, whatever happens.
    pub(crate) fn mark(&mut self, request: &RequestId, delivered: Cost, meter: Meter, effects: &mut Vec<Effect>) -> Judged {
        within(&meter.units, METER_BYTES_MAX)?;
        let reservation = self.reservations.get_mut(request).ok_or(EscrowRejection::UnknownRequest { request: *request })?;
        let ceiling = Cost::whole(reservation.ceiling);
        if delivered > ceiling {
            return Err(EscrowRejection::BeyondReserved { reserved: reservation.ceiling, actual: up(delivered) });
        }
        let whole = !delivered.is_zero() && delivered != ceiling;
        if whole && matches!(reservation.subject, Subject::Once(_)) {
            return Err(EscrowRejection::NotWhole { expected: reservation.ceiling, actual: up(delivered) });
        }
        if delivered > reservation.delivered {
            reservation.delivered = delivered;
            reservation.meter = meter;
            effects.push(put(EscrowRecord::Reservation(reservation.clone())));
        }
        Ok(EscrowAnswer::Marked { delivered: reservation.delivered })
    }

    #[allow(clippy::too_many_arguments, reason = "the fields of one input")]
    pub(crate) fn capture(
        &mut self,
        now: Timestamp,
        config: &EscrowConfig,
        request: &RequestId,
        cost: Cost,
        meter: Meter,
        stored: Option<Outcome>,
        effects: &mut Vec<Effect>,
    ) -> Result<Judged, Fault> {
        if let Err(rejection) = within(&meter.units, METER_BYTES_MAX) {
            return Ok(Err(rejection));
        }
        let Some(reservation) = self.reservations.get(request) else { return Ok(self.ended(request, stored)) };
        let (ceiling, delivered) = (reservation.ceiling, reservation.delivered);
        if cost > Cost::whole(ceiling) {
            return Ok(Err(EscrowRejection::BeyondReserved { reserved: ceiling, actual: up(cost) }));
        }
        if cost < delivered {
            return Ok(Err(EscrowRejection::BelowDelivered { delivered: up(delivered), actual: cost.down() }));
        }
        if cost != Cost::whole(ceiling) && matches!(reservation.subject, Subject::Once(_)) {
            return Ok(Err(EscrowRejection::NotWhole { expected: ceiling, actual: up(cost) }));
        }
        self.end(now, config, request, Some(Ending { cost, cause: Cause::Captured, meter }), effects).map(Ok)
    }

    /// A single payment is charged, and about to be sent.
    #[allow(clippy::too_many_arguments, reason = "the fields of one input")]
    pub(crate) fn collect_once(
        &mut self,
        now: Timestamp,
        config: &EscrowConfig,
        request: &RequestId,
        meter: Meter,
        transaction: Bytes,
        effects: &mut Vec<Effect>,
    ) -> Result<Judged, Fault> {
        if let Err(rejection) = within(&meter.units, METER_BYTES_MAX).and_then(|()| within(&transaction, TRANSFER_BYTES_MAX)) {
            return Ok(Err(rejection));
        }
        let reservation = self.reservations.get(request);
        let Some((authorization, ceiling)) = reservation.and_then(|held| match held.subject {
            Subject::Once(authorization) => Some((authorization, held.ceiling)),
            Subject::Channel(_) => None,
        }) else {
            return Ok(Err(EscrowRejection::UnknownRequest { request: *request }));
        };
        let ending = Ending { cost: Cost::whole(ceiling), cause: Cause::Captured, meter };
        let answer = self.end(now, config, request, Some(ending), effects)?;
        let step = self.payment_step(authorization, PaymentState::Submitted { transaction }, now, effects);
        Ok(step.map(|_| answer))
    }

    pub(crate) fn void(
        &mut self,
        now: Timestamp,
        config: &EscrowConfig,
        request: &RequestId,
        stored: Option<Outcome>,
        effects: &mut Vec<Effect>,
    ) -> Result<Judged, Fault> {
        if !self.reservations.contains_key(request) {
            return Ok(self.ended(request, stored));
        }
        self.resolve(now, config, request, Cause::Voided, effects).map(Ok)
    }

    /// A request that is not under way: how it ended, if that is known.
    fn ended(&self, request: &RequestId, stored: Option<Outcome>) -> Judged {
        let outcome = self.fresh.get(request).copied().or(stored);
        outcome.map(repeated).ok_or(EscrowRejection::UnknownRequest { request: *request })
    }

    /// The rule for a delivery that nobody says the end of: what was marked as delivered is captured, the rest is released.
    fn resolve(
        &mut self,
        now: Timestamp,
        config: &EscrowConfig,
        request: &RequestId,
        cause: Cause,
        effects: &mut Vec<Effect>,
    ) -> Result<EscrowAnswer, Fault> {
        let reservation = self.reservations.get(request);
        let ending = reservation.filter(|reservation| !reservation.delivered.is_zero()).map(|reservation| Ending {
            cost: reservation.delivered,
            cause,
            meter: reservation.meter.clone(),
        });
        self.end(now, config, request, ending, effects)
    }

    /// Ends a reservation: charged, or as if it had never been.
    fn end(
        &mut self,
        now: Timestamp,
        config: &EscrowConfig,
        request: &RequestId,
        ending: Option<Ending>,
        effects: &mut Vec<Effect>,
    ) -> Result<EscrowAnswer, Fault> {
        let Some(reservation) = self.reservations.remove(request) else { return Err(Fault::EscrowTables) };
        self.expiries.remove(&(reservation.expires_at, *request));
        effects.push(delete(EscrowKey::Reservation(*request)));
        let cost = ending.as_ref().map_or(Cost::ZERO, |ending| ending.cost);
        let (amount, totals) = match reservation.subject {
            Subject::Channel(id) => {
                let (amount, totals) = self.release_and_charge(&id, reservation.ceiling, cost)?;
                (amount, Some(totals))
            }
            // All of it or nothing.
            Subject::Once(_) => (cost.down(), None),
        };
        let account = self.account(&reservation)?;
        if let Subject::Once(authorization) = reservation.subject
            && let Some(mut payment) = self.payments.remove(&authorization)
        {
            if ending.is_some() {
                let is_paid = payment.state == PaymentState::Reserved { is_paid: true };
                payment.state = if is_paid { PaymentState::Paid { transaction: Bytes::new() } } else { PaymentState::Captured };
                effects.push(put(EscrowRecord::Payment(payment.clone())));
                self.put_payment(payment);
            } else {
                effects.push(delete(EscrowKey::Payment(authorization)));
            }
        }
        let Some(Ending { cost: _, cause, meter }) = ending else {
            self.new_voids.push(account);
            return Ok(EscrowAnswer::Voided);
        };
        let charged_after = totals.map_or(CumulativeAmount::from_units(amount.units()), |totals| totals.charged);
        let Reservation { subject, escrow, fingerprint, .. } = reservation;
        let sequence = self.counters.charge;
        self.counters.charge = sequence.checked_add(1).ok_or(Fault::EscrowTables)?;
        self.counters_changed = true;
        let charge = Charge { sequence, escrow, subject, request: *request, amount, charged_after, at: now, cause, meter };
        self.new_charges.push(NewCharge { charge, account });
        let outcome = Outcome { subject, fingerprint, sequence, amount, charged_after, cause };
        self.remember(now, config, request, outcome, effects);
        Ok(EscrowAnswer::Charged { outcome, is_repeated: false, totals })
    }

    /// The token that a reservation is in, and who pays.
    fn account(&self, reservation: &Reservation) -> Result<(Address, Address), Fault> {
        let token = self.services.get(&reservation.escrow).map(|service| service.escrow.token);
        let payer = match reservation.subject {
            Subject::Channel(channel) => self.get(&channel).map(|channel| channel.terms.payer),
            Subject::Once(authorization) => self.payments.get(&authorization).map(|payment| payment.payer),
        };
        token.zip(payer).ok_or(Fault::EscrowTables)
    }

    /// Frees what is held, and charges a cost, at most that: what the carry leaves of it, rounded up.
    fn release_and_charge(&mut self, id: &EscrowChannelId, ceiling: Amount, cost: Cost) -> Result<(Amount, EscrowTotals), Fault> {
        let is_told = self.get(id).is_some_and(|channel| self.is_told(channel));
        let totals = self.update(id, |state| {
            let (amount, carry) = state.carry.charge_up(cost).ok()?;
            state.carry = carry;
            state.reserved = state.reserved.checked_sub(ceiling.units())?;
            state.charged = state.charged.checked_add(amount.units())?;
            state.requests = state.requests.saturating_sub(1);
            state.trim_vouchers();
            if is_told && matches!(state.status, EscrowStatus::Frozen(_)) {
                state.judge();
            }
            Some((amount, state.totals()))
        })?;
        totals.ok_or(Fault::EscrowTotals { channel: *id })
    }

    /// Keeps an outcome, in the generation that is written to.
    fn remember(&mut self, now: Timestamp, config: &EscrowConfig, request: &RequestId, outcome: Outcome, effects: &mut Vec<Effect>) {
        if now >= self.generation.since.plus_millis(config.outcome_millis) {
            self.turn_generation(now, config, effects);
        }
        if !self.generation.is_used {
            self.generation.is_used = true;
            effects.push(put(EscrowRecord::Generation(self.generation)));
            self.want(self.generation.since.plus_millis(config.outcome_millis));
        }
        effects.push(put(EscrowRecord::Outcome(self.generation.number, *request, outcome)));
        self.fresh.insert(*request, outcome);
    }

    /// Begins a new generation of outcomes when the one that is written to is old enough, and deletes all but the one before it.
    pub(crate) fn turn_generation(&mut self, now: Timestamp, config: &EscrowConfig, effects: &mut Vec<Effect>) {
        let Generation { number, since, is_used, .. } = self.generation;
        if now < since.plus_millis(config.outcome_millis) {
            return;
        }
        self.generation = Generation { number: number.saturating_add(1), since: now, is_used: false, was_used: is_used };
        effects.push(put(EscrowRecord::Generation(self.generation)));
        effects.push(Effect::ForgetOutcomesBefore(number));
    }

    /// Resolves everything that a crash left open.
    pub(crate) fn resume(&mut self, now: Timestamp, config: &EscrowConfig, effects: &mut Vec<Effect>) -> Result<(), Fault> {
        let open: Vec<RequestId> = self.expiries.iter().map(|(_, request)| *request).collect();
        for request in open {
            self.resolve(now, config, &request, Cause::Recovered, effects)?;
        }
        Ok(())
    }

    /// Resolves what was held for too long.
    pub(crate) fn expire(&mut self, now: Timestamp, config: &EscrowConfig, effects: &mut Vec<Effect>) -> Result<(), Fault> {
        for _ in 0..EXPIRED_PER_TICK_MAX {
            let Some((_, request)) = self.expiries.first().copied().filter(|(at, _)| *at <= now) else { break };
            self.resolve(now, config, &request, Cause::Expired, effects)?;
        }
        Ok(())
    }

    /// Moves a payment that was delivered on. `until`: it is remembered until then at least.
    pub(crate) fn payment_step(
        &mut self,
        authorization: AuthorizationId,
        state: PaymentState,
        until: Timestamp,
        effects: &mut Vec<Effect>,
    ) -> Judged {
        if let PaymentState::Submitted { transaction } = &state {
            within(transaction, TRANSFER_BYTES_MAX)?;
        }
        let unknown = EscrowRejection::UnknownAuthorization { authorization };
        let mut payment = self.payments.get(&authorization).cloned().ok_or(unknown)?;
        match (&payment.state, &state) {
            // Whoever holds an authorisation may be able to send it, so the chain may be first.
            (PaymentState::Reserved { .. }, PaymentState::Paid { .. }) => {
                payment.state = PaymentState::Reserved { is_paid: true };
                effects.push(put(EscrowRecord::Payment(payment.clone())));
                self.put_payment(payment);
                return Ok(EscrowAnswer::Done);
            }
            // A payment that nothing was delivered for is not sent.
            (PaymentState::Reserved { .. }, _) => return Err(unknown),
            // The chain's word stands; only what finds the transaction may be told better.
            (PaymentState::Paid { .. }, PaymentState::Submitted { transaction }) => {
                payment.state = PaymentState::Paid { transaction: transaction.clone() };
                effects.push(put(EscrowRecord::Payment(payment.clone())));
                self.put_payment(payment);
                return Ok(EscrowAnswer::Done);
            }
            (PaymentState::Paid { .. }, _) => return Ok(EscrowAnswer::Done),
            (PaymentState::Captured | PaymentState::Submitted { .. } | PaymentState::Failed { .. }, _) => {}
        }
        payment.state = match (state, payment.state) {
            (PaymentState::Paid { .. }, PaymentState::Submitted { transaction }) => PaymentState::Paid { transaction },
            (state, _) => state,
        };
        self.payment_ends.remove(&(payment.valid_until, authorization));
        payment.valid_until = payment.valid_until.max(until);
        self.want(payment.valid_until);
        effects.push(put(EscrowRecord::Payment(payment.clone())));
        self.put_payment(payment);
        Ok(EscrowAnswer::Done)
    }

    /// Whether a payment was charged, and what became of it is not known.
    pub(crate) fn is_charged(&self, authorization: &AuthorizationId) -> bool {
        let state = self.payments.get(authorization).map(|payment| &payment.state);
        matches!(state, Some(PaymentState::Captured | PaymentState::Submitted { .. }))
    }

    /// Takes back what was charged for a payment that failed before anything had left: the charge stays in the log, and this after it.
    pub(crate) fn reverse(&mut self, now: Timestamp, authorization: AuthorizationId) -> Result<(), Fault> {
        let payment = self.payments.get(&authorization).ok_or(Fault::EscrowTables)?;
        let service = self.services.get(&payment.escrow).ok_or(Fault::EscrowTables)?;
        let account = (service.escrow.token, payment.payer);
        let sequence = self.counters.charge;
        let charge = Charge {
            sequence,
            escrow: payment.escrow,
            subject: Subject::Once(authorization),
            request: payment.request,
            amount: payment.amount,
            charged_after: CumulativeAmount::ZERO,
            at: now,
            cause: Cause::Reversed,
            meter: Meter::default(),
        };
        self.counters.charge = sequence.checked_add(1).ok_or(Fault::EscrowTables)?;
        self.counters_changed = true;
        self.new_charges.push(NewCharge { charge, account });
        Ok(())
    }

    /// A payment of this payer that was delivered for and could not be collected, if there is one.
    fn defaulted(&self, payer: &Address) -> Option<AuthorizationId> {
        let from = (*payer, AuthorizationId::from_bytes([0; 32]));
        self.defaults.range(from..).next().filter(|(of, _)| of == payer).map(|(_, id)| *id)
    }

    /// Forgets payments that are over and cannot be shown again.
    pub(crate) fn forget_payments(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        for _ in 0..EXPIRED_PER_TICK_MAX {
            let Some((at, id)) = self.payment_ends.first().copied().filter(|(at, _)| *at < now) else { break };
            self.payment_ends.remove(&(at, id));
            if let Some(payment) = self.payments.remove(&id) {
                self.defaults.remove(&(payment.payer, id));
            }
            effects.push(delete(EscrowKey::Payment(id)));
        }
    }
}

/// Whole base units, for a rejection's text.
fn up(cost: Cost) -> Amount {
    cost.up().unwrap_or(cost.down())
}

const fn repeated(outcome: Outcome) -> EscrowAnswer {
    EscrowAnswer::Charged { outcome, is_repeated: true, totals: None }
}

fn judge_signature(escrow: &Escrow, terms: &EscrowTerms, voucher: &VerifiedEscrowVoucher) -> Result<(), EscrowRejection> {
    let actual = voucher.statement().channel;
    if actual != terms.channel {
        return Err(EscrowRejection::WrongChannel { actual });
    }
    if *voucher.separator() != escrow.separator {
        return Err(EscrowRejection::WrongEscrow { expected: escrow.separator, actual: *voucher.separator() });
    }
    if voucher.signer() != terms.signer {
        return Err(EscrowRejection::WrongSigner { expected: terms.signer, actual: voucher.signer() });
    }
    Ok(())
}

fn judge_status(state: &EscrowState) -> Result<(), EscrowRejection> {
    match state.status {
        EscrowStatus::Closed => return Err(EscrowRejection::Closed),
        EscrowStatus::Frozen(why) => return Err(EscrowRejection::Frozen { why }),
        EscrowStatus::Open => {}
    }
    if state.quarantined.is_some() {
        return Err(EscrowRejection::Quarantined);
    }
    match state.exit {
        Some(exit) if exit.amount.is_none() => Err(EscrowRejection::Closing { finalises_at: exit.finalises_at }),
        Some(_) | None => Ok(()),
    }
}

fn judge_limit(state: &EscrowState, step: &Step, more: u128, limit: u128) -> Result<(), EscrowRejection> {
    let beyond = |total: u128| {
        let (limit, actual) = (Amount::from_units(limit), CumulativeAmount::from_units(total));
        match state.exit {
            Some(exit) => EscrowRejection::Withdrawing { limit, actual, finalises_at: exit.finalises_at },
            None => EscrowRejection::DepositExceeded { limit, actual },
        }
    };
    if step.is_raised && step.accepted > limit {
        return Err(beyond(step.accepted));
    }
    let owed = state.owed().checked_add(more).ok_or(EscrowRejection::TooLarge)?;
    if owed > step.accepted {
        return Err(EscrowRejection::Insufficient {
            required: CumulativeAmount::from_units(owed),
            accepted: CumulativeAmount::from_units(step.accepted),
        });
    }
    if more > 0 && owed > limit {
        return Err(beyond(owed));
    }
    Ok(())
}

/// What a caller gives to find a transaction again.
pub(crate) fn transaction_within(transaction: &Bytes) -> Result<(), EscrowRejection> {
    within(transaction, TRANSFER_BYTES_MAX)
}
