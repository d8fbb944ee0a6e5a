//! Promotional credit: what a provider gives a payer for nothing. It only ever makes charges smaller.
//!
//! **Invariant.** Nothing here turns credit into an amount that is paid to anyone: a charge is what credit leaves of a cost, deposits are untouched
//! by it, and what is refunded of a charge in credit is credit again. So it can never be withdrawn (T-11).

use millstream_types::{Amount, Timestamp};

use crate::{Cost, CostError};

/// The credit that a card gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promo {
    /// For each payer, once, in base units.
    pub amount: Amount,
    /// Days from the payer's first request on, in which it can be used.
    pub days: u32,
}

/// A payer's credit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credit {
    granted: Amount,
    used: Cost,
    ends: Timestamp,
}

impl Promo {
    /// The credit of a payer whose first request is at `now`.
    #[must_use]
    pub fn grant(&self, now: Timestamp) -> Credit {
        const DAY_MILLIS: u64 = 86_400_000;
        Credit { granted: self.amount, used: Cost::ZERO, ends: now.plus_millis(u64::from(self.days).saturating_mul(DAY_MILLIS)) }
    }
}

impl Credit {
    /// What was given, in base units.
    #[must_use]
    pub const fn granted(&self) -> Amount {
        self.granted
    }

    /// What of it was used, exactly.
    #[must_use]
    pub const fn used(&self) -> Cost {
        self.used
    }

    /// When it can no longer be used.
    #[must_use]
    pub const fn ends(&self) -> Timestamp {
        self.ends
    }

    /// Uses it for a cost: what is left of the cost to be charged, and what of it is paid in credit. Nothing from its end on.
    ///
    /// # Errors
    /// [`CostError`].
    pub fn spend(&mut self, now: Timestamp, cost: Cost) -> Result<(Cost, Cost), CostError> {
        let left = Cost::whole(self.granted).checked_sub(self.used)?;
        let paid = if now < self.ends { cost.min(left) } else { Cost::ZERO };
        let rest = cost.checked_sub(paid)?;
        self.used = self.used.checked_add(paid)?;
        Ok((rest, paid))
    }

    /// Gives back what of a refunded charge was paid in credit, as credit with the same end.
    ///
    /// # Errors
    /// [`CostError`] for more than was used.
    pub fn give_back(&mut self, paid: Cost) -> Result<(), CostError> {
        self.used = self.used.checked_sub(paid)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_makes_charges_smaller_until_it_is_used_or_over() {
        let promo = Promo { amount: Amount::from_units(10), days: 1 };
        let cost = |units, halves: u32| {
            let half = if halves == 1 { 500_000_000_000_000_000 } else { 0 };
            Cost::new(units, half).expect("small")
        };
        let (begin, end) = (Timestamp::from_millis(1_000), Timestamp::from_millis(86_401_000));
        let mut credit = promo.grant(begin);
        assert_eq!(credit.ends(), end);
        let mut check = |at: Timestamp, of: Cost, rest: Cost| {
            assert_eq!(credit.spend(at, of).map(|(rest, _)| rest), Ok(rest), "{of:?}");
        };
        check(begin, cost(4, 1), cost(0, 0));
        check(end, cost(1, 0), cost(1, 0));
        check(begin, cost(7, 0), cost(1, 1));
        check(begin, cost(7, 0), cost(7, 0));
        assert_eq!(credit.used(), cost(10, 0));
        credit.give_back(cost(2, 1)).expect("was used");
        assert_eq!(credit.spend(begin, cost(3, 0)), Ok((cost(0, 1), cost(2, 1))));
        assert_eq!(credit.give_back(cost(10, 1)), Err(CostError));
    }
}
