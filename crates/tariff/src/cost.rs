//! Exact costs, and how they become amounts that can be paid.

use millstream_types::Amount;

use crate::CostError;

/// Attos in one base unit of a token: costs are exact in these.
pub const ATTOS_PER_BASE_UNIT: u64 = 1_000_000_000_000_000_000;

/// An exact cost: whole base units, and attos below one more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cost {
    base_units: u128,
    attos: u64,
}

/// What a payer has paid too much on a channel, by rounding: below one base unit, and taken off the next charge.
///
/// Kept with the channel, in the batch of the charge that made it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Carry {
    attos: u64,
}

impl Cost {
    /// Nothing.
    pub const ZERO: Self = Self { base_units: 0, attos: 0 };

    /// A whole number of base units.
    #[must_use]
    pub const fn whole(amount: Amount) -> Self {
        Self { base_units: amount.units(), attos: 0 }
    }

    /// Whole base units and attos, of which any number is allowed.
    ///
    /// # Errors
    /// [`CostError`].
    pub fn new(base_units: u128, attos: u128) -> Result<Self, CostError> {
        let (whole, attos) = split(attos)?;
        Ok(Self { base_units: base_units.checked_add(whole).ok_or(CostError)?, attos })
    }

    /// Whole base units, the rest left aside.
    #[must_use]
    pub const fn down(self) -> Amount {
        Amount::from_units(self.base_units)
    }

    /// Whole base units, the rest taken for one more.
    ///
    /// # Errors
    /// [`CostError`].
    pub fn up(self) -> Result<Amount, CostError> {
        let more = u128::from(self.attos > 0);
        self.base_units.checked_add(more).map(Amount::from_units).ok_or(CostError)
    }

    /// The attos above [`Cost::down`], fewer than one base unit has.
    #[must_use]
    pub const fn attos(self) -> u64 {
        self.attos
    }

    /// Whether this is nothing.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.base_units == 0 && self.attos == 0
    }

    /// # Errors
    /// [`CostError`].
    pub fn checked_add(self, other: Self) -> Result<Self, CostError> {
        let base_units = self.base_units.checked_add(other.base_units).ok_or(CostError)?;
        Self::new(base_units, u128::from(self.attos).checked_add(u128::from(other.attos)).ok_or(CostError)?)
    }

    /// # Errors
    /// [`CostError`] when the other is more.
    pub fn checked_sub(self, other: Self) -> Result<Self, CostError> {
        let (base_units, attos) = match self.attos.checked_sub(other.attos) {
            Some(attos) => (self.base_units, attos),
            None => {
                let borrowed = self.attos.checked_add(ATTOS_PER_BASE_UNIT).and_then(|attos| attos.checked_sub(other.attos));
                (self.base_units.checked_sub(1).ok_or(CostError)?, borrowed.ok_or(CostError)?)
            }
        };
        Ok(Self { base_units: base_units.checked_sub(other.base_units).ok_or(CostError)?, attos })
    }

    /// `quantity` times this.
    ///
    /// # Errors
    /// [`CostError`].
    pub fn checked_mul(self, quantity: u64) -> Result<Self, CostError> {
        let quantity = u128::from(quantity);
        let base_units = self.base_units.checked_mul(quantity).ok_or(CostError)?;
        Self::new(base_units, u128::from(self.attos).checked_mul(quantity).ok_or(CostError)?)
    }
}

impl Carry {
    /// Nothing is carried.
    pub const ZERO: Self = Self { attos: 0 };

    /// From the attos that were kept; `None` for a base unit and more, which is never carried.
    #[must_use]
    pub const fn from_attos(attos: u64) -> Option<Self> {
        if attos < ATTOS_PER_BASE_UNIT { Some(Self { attos }) } else { None }
    }

    /// The attos to keep.
    #[must_use]
    pub const fn attos(self) -> u64 {
        self.attos
    }

    /// What to charge for `cost`, in whole base units, rounded up after the carry is taken off; and what is carried on.
    ///
    /// However a cost is cut into charges, they come to the whole cost, rounded up once.
    ///
    /// # Errors
    /// [`CostError`].
    pub fn charge_up(self, cost: Cost) -> Result<(Amount, Self), CostError> {
        let covered = cost.base_units == 0 && cost.attos <= self.attos;
        if covered {
            return Ok((Amount::ZERO, Self { attos: self.attos.checked_sub(cost.attos).ok_or(CostError)? }));
        }
        // What is due is `base_units` and `attos - carried` attos, of which the second may be below zero.
        let short = cost.attos.checked_sub(self.attos).filter(|short| *short > 0);
        match short {
            Some(short) => {
                let left = ATTOS_PER_BASE_UNIT.checked_sub(short).ok_or(CostError)?;
                Ok((Amount::from_units(cost.base_units.checked_add(1).ok_or(CostError)?), Self { attos: left }))
            }
            None => {
                let left = self.attos.checked_sub(cost.attos).ok_or(CostError)?;
                Ok((Amount::from_units(cost.base_units), Self { attos: left }))
            }
        }
    }
}

/// Whole base units in attos, and what is left.
#[allow(clippy::arithmetic_side_effects, reason = "the divisor is not zero")]
fn split(attos: u128) -> Result<(u128, u64), CostError> {
    let scale = u128::from(ATTOS_PER_BASE_UNIT);
    Ok((attos / scale, u64::try_from(attos % scale).map_err(|_| CostError)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF: u128 = 500_000_000_000_000_000;

    fn cost(base_units: u128, attos: u128) -> Cost {
        Cost::new(base_units, attos).expect("small")
    }

    #[test]
    fn a_charge_is_rounded_up_after_the_carry() {
        let check = |carried: u128, due: Cost, charged: u128, left: u128| {
            let carry = Carry::from_attos(u64::try_from(carried).expect("small")).expect("below a base unit");
            let (amount, after) = carry.charge_up(due).expect("small");
            assert_eq!((amount.units(), u128::from(after.attos())), (charged, left), "{carried} {due:?}");
        };
        check(0, cost(0, 0), 0, 0);
        check(0, cost(0, 1), 1, 2 * HALF - 1);
        check(0, cost(1, 0), 1, 0);
        check(0, cost(1, HALF), 2, HALF);
        check(HALF, cost(0, HALF), 0, 0);
        check(HALF, cost(0, 1), 0, HALF - 1);
        check(HALF, cost(1, HALF), 1, 0);
        check(HALF, cost(1, HALF + 1), 2, 2 * HALF - 1);
        check(HALF, cost(3, 1), 3, HALF - 1);
    }

    #[test]
    fn costs_are_exact_and_never_wrap() {
        assert_eq!(cost(1, 3 * HALF), cost(2, HALF));
        assert_eq!(cost(0, 1).checked_mul(u64::MAX), Ok(cost(18, 446_744_073_709_551_615)));
        assert_eq!((cost(1, 1).down().units(), cost(1, 1).up().map(Amount::units)), (1, Ok(2)));
        assert_eq!(Cost::new(u128::MAX, 2 * HALF), Err(CostError));
        assert_eq!(cost(u128::MAX, 1).up(), Err(CostError));
        assert_eq!(cost(2, HALF).checked_sub(cost(1, HALF + 1)), Ok(cost(0, 2 * HALF - 1)));
        assert_eq!(cost(2, HALF).checked_sub(cost(2, HALF + 1)), Err(CostError));
        assert_eq!(cost(1, 0).checked_sub(cost(2, 0)), Err(CostError));
        assert_eq!(cost(u128::MAX, 0).checked_mul(2), Err(CostError));
        assert_eq!(Carry::ZERO.charge_up(cost(u128::MAX, 1)), Err(CostError));
        assert_eq!(Carry::from_attos(ATTOS_PER_BASE_UNIT), None);
    }
}
