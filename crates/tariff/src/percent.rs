//! Parts of a whole, exact.

use core::fmt;

use crate::number::Decimal;
use crate::{ATTOS_PER_BASE_UNIT, Cost};

/// Parts of a million: a percentage with at most four digits after the point, 0 to 100.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent(u32);

/// The whole, in parts of a million.
pub(crate) const WHOLE: u32 = 1_000_000;

impl Percent {
    /// Nothing of it.
    pub const ZERO: Self = Self(0);
    /// All of it.
    pub const ALL: Self = Self(WHOLE);

    /// From parts of a million; `None` above the whole.
    #[must_use]
    pub const fn from_parts(parts: u32) -> Option<Self> {
        if parts <= WHOLE { Some(Self(parts)) } else { None }
    }

    /// Reads `12.5`; `None` for what is no such number, finer than a part of a million, or more than 100.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let decimal = Decimal::parse(text.trim()).ok()?;
        let scale = 10u128.checked_pow(4u32.checked_sub(decimal.fraction_digits)?)?;
        let parts = u32::try_from(decimal.digits.checked_mul(scale)?).ok()?;
        Self::from_parts(parts)
    }

    /// Parts of a million.
    #[must_use]
    pub const fn parts(self) -> u32 {
        self.0
    }

    /// What is left of the whole.
    #[must_use]
    pub const fn rest(self) -> Self {
        Self(WHOLE.saturating_sub(self.0))
    }

    /// The sum; `None` above the whole.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        Self::from_parts(self.0.checked_add(other.0)?)
    }

    /// This part of a cost; `None` when that is no whole number of attos: nothing is rounded.
    #[must_use]
    pub fn of_exactly(self, cost: Cost) -> Option<Cost> {
        let (parts, whole) = (u128::from(self.0), u128::from(WHOLE));
        let units = cost.down().units();
        let (quotient, rest) = (units.checked_div(whole)?, units.checked_rem(whole)?);
        // units × parts / whole: the quotient's part is whole, the rest's is whole base units and attos.
        let rest = rest.checked_mul(parts)?;
        let base_units = quotient.checked_mul(parts)?.checked_add(rest.checked_div(whole)?)?;
        let below = rest.checked_rem(whole)?.checked_mul(u128::from(ATTOS_PER_BASE_UNIT).checked_div(whole)?)?;
        let attos = u128::from(cost.attos()).checked_mul(parts)?;
        if attos.checked_rem(whole)? != 0 {
            return None;
        }
        Cost::new(base_units, below.checked_add(attos.checked_div(whole)?)?).ok()
    }
}

/// `12.5`.
impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Decimal { digits: u128::from(self.0), fraction_digits: 4 }, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_read_and_written_exactly() {
        let check = |text: &str, parts: Option<u32>| assert_eq!(Percent::parse(text).map(Percent::parts), parts, "{text}");
        check("0", Some(0));
        check("12.5", Some(125_000));
        check("0.0001", Some(1));
        check("100", Some(1_000_000));
        check("33.3333", Some(333_333));
        for refused in ["", "100.0001", "101", "-1", "0.00001", "5%", "1e1"] {
            check(refused, None);
        }
        for text in ["0", "12.5", "0.0001", "100"] {
            assert_eq!(Percent::parse(text).map(|percent| percent.to_string()).as_deref(), Some(text));
        }
        assert_eq!(Percent::parse("60").and_then(|sixty| sixty.checked_add(sixty)), None);
    }

    #[test]
    fn a_part_is_exact_or_not_taken() {
        let cost = |units, attos| Cost::new(units, attos).expect("small");
        let check = |percent: &str, of: Cost, expected: Option<Cost>| {
            assert_eq!(Percent::parse(percent).expect("a percentage").of_exactly(of), expected, "{percent} of {of:?}");
        };
        check("90", cost(1, 0), Some(cost(0, 900_000_000_000_000_000)));
        check("90", cost(0, 400_000_000_000_000_000), Some(cost(0, 360_000_000_000_000_000)));
        check("12.5", cost(1_000_001, 0), Some(cost(125_000, 125_000_000_000_000_000)));
        check("99.9999", cost(0, 1), None);
        check("100", cost(u128::MAX, 1), Some(cost(u128::MAX, 1)));
        check("50", cost(u128::MAX, 0), Some(cost(u128::MAX / 2, 500_000_000_000_000_000)));
    }
}
