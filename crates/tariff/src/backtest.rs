//! What requests that were made would have cost under an entry of a card, computed in three ways that must agree.

use crate::{Carry, Cost, CostError, Entry, Unit, Usage};
use millstream_types::Amount;

/// What one payer's requests of one period come to, cut in three ways. Without a minimum and without discounts they are the same (T-6), because
/// nothing is rounded on the way; with a minimum only the second is what is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreeSums {
    /// Each line by itself: what was read, and each unit of what came out, on top of what was before it.
    pub by_line: Amount,
    /// Lines.
    pub lines: u64,
    /// Each request by itself.
    pub by_request: Amount,
    /// Everything of a step together, priced once.
    pub in_one: Amount,
    /// What all of it costs, exactly.
    pub cost: Cost,
}

impl ThreeSums {
    /// Prices requests at an entry's steps, discounts and minimum left aside.
    ///
    /// # Errors
    /// [`CostError`].
    pub fn of(entry: &Entry, requests: &[Usage]) -> Result<Self, CostError> {
        let (schedule, over) = (entry.tariff().schedule(), entry.tariff().over());
        let (mut by_line, mut by_request) = (Charges::default(), Charges::default());
        let mut quantities = schedule.no_quantities();
        let mut used = Usage::default();
        for request in requests {
            if over.is_none() {
                used = Usage::default();
            }
            by_request.charge(schedule.cost(&used, request)?)?;
            schedule.add_quantities(&mut quantities, &used, request)?;
            for line in lines_of(request) {
                by_line.charge(schedule.cost(&used, &line)?)?;
                used = used.checked_add(&line).ok_or(CostError)?;
            }
        }
        let cost = schedule.cost_of(&quantities)?;
        let mut in_one = Charges::default();
        in_one.charge(cost)?;
        Ok(Self { by_line: by_line.amount, lines: by_line.count, by_request: by_request.amount, in_one: in_one.amount, cost })
    }

    /// Whether all three are the same.
    #[must_use]
    pub fn agree(&self) -> bool {
        self.by_line == self.by_request && self.by_request == self.in_one
    }
}

/// Charges one after the other, rounded as a channel's are.
#[derive(Default)]
struct Charges {
    amount: Amount,
    carry: Carry,
    count: u64,
}

impl Charges {
    fn charge(&mut self, cost: Cost) -> Result<(), CostError> {
        let (amount, carry) = self.carry.charge_up(cost)?;
        self.amount = self.amount.checked_add(amount).map_err(|_| CostError)?;
        self.carry = carry;
        self.count = self.count.checked_add(1).ok_or(CostError)?;
        Ok(())
    }
}

/// A request as a stream of payments has it: one line for what is known at its beginning, one for each token that is written.
fn lines_of(request: &Usage) -> impl Iterator<Item = Usage> {
    let first = Usage { output_tokens: 0, ..*request };
    let token = Usage { output_tokens: 1, ..Usage::default() };
    core::iter::once(first).chain((0..request.metered(Unit::OutputToken)).map(move |_| token))
}
