//! What the chain says of escrows, applied.

use bytes::Bytes;
use millstream_types::{Amount, EscrowChannelId, Timestamp};

use super::channel::{EscrowState, EscrowStatus, FrozenWhy};
use super::claim::PaymentState;
use super::input::EscrowFact;
use super::record::{EscrowKey, EscrowRecord};
use super::state::{Escrows, delete, put};
use super::terms::ClaimRule;
use super::{EscrowId, EscrowTerms};
use crate::input::Effect;
use crate::{ChainCursor, Fault};

impl Escrows {
    /// Applies what an escrow's logs say.
    pub(crate) fn fact(&mut self, fact: EscrowFact, effects: &mut Vec<Effect>) -> Result<(), Fault> {
        match fact {
            EscrowFact::Opened(terms) => self.opened(terms, effects),
            EscrowFact::Deposited { channel, deposit } => self.change(&channel, |state| {
                state.deposit = deposit.units();
                if state.announced <= state.deposit {
                    state.announced = 0;
                }
                Ok(())
            }),
            EscrowFact::Claimed { channel, total } => self.claimed(&channel, total.units(), effects),
            EscrowFact::ExitRequested { channel, exit } => self.change(&channel, |state| {
                state.exit = Some(exit);
                Ok(())
            }),
            EscrowFact::ExitCancelled { channel } => self.change(&channel, |state| {
                state.exit = None;
                Ok(())
            }),
            EscrowFact::Withdrawn { channel, amount } => self.lowered(&channel, amount, |state| state.exit = None),
            EscrowFact::Refunded { channel, amount, exit } => self.lowered(&channel, amount, |state| state.exit = exit),
            EscrowFact::Closed { channel } => {
                self.change(&channel, |state| {
                    state.status = EscrowStatus::Closed;
                    state.exit = None;
                    state.announced = 0;
                    Ok(())
                })?;
                // Nothing can be claimed any more, whatever is under way.
                self.claim_over(&channel, |_, _| true)
            }
            EscrowFact::Swept { escrow, receiver, amount } => self.count_sweep(escrow, receiver, (Amount::ZERO, amount), effects),
            EscrowFact::Paid { authorization } => {
                // One that nobody delivered for, or that is forgotten, is none of ours.
                drop(self.payment_step(
                    authorization,
                    PaymentState::Paid { transaction: Bytes::new() },
                    Timestamp::from_millis(0),
                    effects,
                ));
                Ok(())
            }
            EscrowFact::Seen { escrow, cursor } => self.seen(escrow, cursor, effects),
            EscrowFact::Reset { escrow } => self.reset(escrow, effects),
        }
    }

    /// Changes a channel by what the chain says, and judges it unless the chain is still telling again what it took back.
    fn change(&mut self, id: &EscrowChannelId, change: impl FnOnce(&mut EscrowState) -> Result<(), Fault>) -> Result<(), Fault> {
        let channel = self.get(id).ok_or(Fault::UnknownEscrowChannel { channel: *id })?;
        let told = self.is_told(channel);
        self.update(id, |state| {
            change(state)?;
            if told {
                state.judge();
            }
            Ok(())
        })?
    }

    fn opened(&mut self, terms: EscrowTerms, effects: &mut Vec<Effect>) -> Result<(), Fault> {
        let Some(service) = self.services.get(&terms.escrow) else { return Err(Fault::UnknownEscrow { escrow: terms.escrow }) };
        let is_retelling = service.retelling.is_some();
        let id = terms.channel;
        match self.get(&id) {
            Some(channel) if *channel.terms != terms => Err(Fault::EscrowTerms { channel: id }),
            Some(_) => Ok(()),
            None => {
                self.open(terms, effects);
                self.update(&id, |state| {
                    if is_retelling {
                        state.status = EscrowStatus::Frozen(FrozenWhy::Reorganised);
                    }
                })
            }
        }
    }

    fn claimed(&mut self, id: &EscrowChannelId, total: u128, effects: &mut Vec<Effect>) -> Result<(), Fault> {
        let channel = self.get(id).ok_or(Fault::UnknownEscrowChannel { channel: *id })?;
        let (escrow, receiver) = (channel.terms.escrow, channel.terms.receiver);
        let gain = total.checked_sub(channel.state.settled).ok_or(Fault::EscrowFell { channel: *id })?;
        self.change(id, |state| {
            state.settled = total;
            // Claimed by who served the channel before this node did: it counts, and nobody charges it again.
            if state.accepted == state.inherited && state.vouchers.is_empty() && state.charged < total {
                (state.inherited, state.charged, state.accepted) = (total, total, total);
            }
            Ok(())
        })?;
        self.claim_over(id, |total, settled| total <= settled)?;
        let is_swept = self.services.get(&escrow).is_some_and(|service| service.escrow.claim == ClaimRule::UpTo);
        if is_swept && gain > 0 {
            self.count_sweep(escrow, receiver, (Amount::from_units(gain), Amount::ZERO), effects)?;
        }
        Ok(())
    }

    /// Money left the channel.
    fn lowered(&mut self, id: &EscrowChannelId, amount: Amount, after: impl FnOnce(&mut EscrowState)) -> Result<(), Fault> {
        self.change(id, |state| {
            state.deposit = state.deposit.checked_sub(amount.units()).ok_or(Fault::EscrowFell { channel: *id })?;
            after(state);
            Ok(())
        })
    }

    fn seen(&mut self, escrow: EscrowId, cursor: ChainCursor, effects: &mut Vec<Effect>) -> Result<(), Fault> {
        let service = self.services.get_mut(&escrow).ok_or(Fault::UnknownEscrow { escrow })?;
        service.cursor = Some(cursor.clone());
        let is_told_again = service.retelling.take_if(|until| cursor.block >= *until).is_some();
        effects.push(put(EscrowRecord::Cursor(escrow, cursor)));
        if is_told_again {
            effects.push(delete(EscrowKey::Retelling(escrow)));
            self.update_each(escrow, EscrowState::judge)?;
        }
        Ok(())
    }

    fn reset(&mut self, escrow: EscrowId, effects: &mut Vec<Effect>) -> Result<(), Fault> {
        let service = self.services.get_mut(&escrow).ok_or(Fault::UnknownEscrow { escrow })?;
        if let Some(cursor) = service.cursor.take() {
            let until = service.retelling.map_or(cursor.block, |until| until.max(cursor.block));
            service.retelling = Some(until);
            effects.push(put(EscrowRecord::Retelling(escrow, until)));
        }
        effects.push(delete(EscrowKey::Cursor(escrow)));
        // What was put away is needed again.
        let closed = self.closed(escrow);
        effects.extend(closed.into_iter().map(|terms| put(EscrowRecord::Terms(terms))));
        self.update_each(escrow, |state| {
            state.status = EscrowStatus::Frozen(FrozenWhy::Reorganised);
            (state.deposit, state.announced, state.settled, state.exit) = (0, 0, 0, None);
        })?;
        for ((_, receiver), sweep) in self.sweeps.iter_mut().filter(|((of, _), _)| *of == escrow) {
            (sweep.claimed, sweep.swept) = (Amount::ZERO, Amount::ZERO);
            effects.push(put(EscrowRecord::Sweep(escrow, *receiver, sweep.clone())));
        }
        // Whether these landed has to be found out again.
        for claim in self.claims.values_mut().filter(|claim| claim.escrow == escrow && claim.is_landed) {
            claim.is_landed = false;
            self.changed_claims.insert(claim.id);
        }
        let paid: Vec<_> = self.payment_ends.iter().map(|(_, id)| *id).collect();
        for id in paid {
            let paid = self.payments.get(&id).filter(|payment| payment.escrow == escrow).cloned();
            if let Some(mut payment) = paid
                && let PaymentState::Paid { transaction } = payment.state
            {
                self.payment_ends.remove(&(payment.valid_until, id));
                // Whether it is on the chain still has to be found out.
                payment.state = PaymentState::Submitted { transaction };
                effects.push(put(EscrowRecord::Payment(payment.clone())));
                self.put_payment(payment);
            }
        }
        Ok(())
    }
}
