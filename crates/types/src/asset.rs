//! A token's base unit against the nano.

use crate::Amount;

/// How a token's base units and nanos relate (spec L-1): one is always a whole multiple of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AssetUnit {
    decimals: u8,
}

/// Why an amount does not convert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// More decimals than a 128-bit amount can be scaled by.
    #[error("a token of {decimals} decimals is not supported (at most 27 are)")]
    Decimals {
        /// The token's decimals.
        decimals: u8,
    },
    /// A deposit of part of a nano: refused, not rounded.
    #[error("{base_units} base units are not a whole number of nanos")]
    NotWholeNanos {
        /// The refused amount.
        base_units: u128,
    },
    /// The result does not fit.
    #[error("the amount is too large to convert")]
    TooLarge,
}

impl AssetUnit {
    /// The unit of a token with so many decimals.
    ///
    /// # Errors
    /// [`UnitError::Decimals`] above 27.
    pub const fn new(decimals: u8) -> Result<Self, UnitError> {
        if decimals > 27 { Err(UnitError::Decimals { decimals }) } else { Ok(Self { decimals }) }
    }

    /// The token's decimals.
    #[must_use]
    pub const fn decimals(self) -> u8 {
        self.decimals
    }

    /// Base units as nanos, exactly.
    ///
    /// # Errors
    /// [`UnitError::NotWholeNanos`] or [`UnitError::TooLarge`].
    #[allow(clippy::arithmetic_side_effects, reason = "a power of ten is not zero")]
    pub fn nanos(self, base_units: u128) -> Result<Amount, UnitError> {
        match 9u32.checked_sub(u32::from(self.decimals)) {
            Some(zeros) => base_units.checked_mul(10u128.pow(zeros)).map(Amount::from_units).ok_or(UnitError::TooLarge),
            None => {
                let scale = self.base_units_per_nano();
                if base_units.is_multiple_of(scale) {
                    Ok(Amount::from_units(base_units / scale))
                } else {
                    Err(UnitError::NotWholeNanos { base_units })
                }
            }
        }
    }

    /// What base units are worth in whole nanos, for weighing them: what is below a nano counts for nothing, and what does not fit for the
    /// most there is.
    #[must_use]
    #[allow(clippy::arithmetic_side_effects, reason = "a power of ten is not zero")]
    pub fn nanos_down(self, base_units: Amount) -> Amount {
        match 9u32.checked_sub(u32::from(self.decimals)) {
            Some(zeros) => Amount::from_units(base_units.units().saturating_mul(10u128.pow(zeros))),
            None => Amount::from_units(base_units.units() / self.base_units_per_nano()),
        }
    }

    /// The whole base units in an amount of nanos, and the nanos left over (spec L-2).
    ///
    /// # Errors
    /// [`UnitError::TooLarge`].
    #[allow(clippy::arithmetic_side_effects, reason = "a power of ten is not zero")]
    pub fn base_units_down(self, nanos: Amount) -> Result<(u128, Amount), UnitError> {
        match 9u32.checked_sub(u32::from(self.decimals)) {
            Some(zeros) => {
                let scale = 10u128.pow(zeros);
                Ok((nanos.units() / scale, Amount::from_units(nanos.units() % scale)))
            }
            None => {
                let base_units = nanos.units().checked_mul(self.base_units_per_nano()).ok_or(UnitError::TooLarge)?;
                Ok((base_units, Amount::ZERO))
            }
        }
    }

    fn base_units_per_nano(self) -> u128 {
        10u128.pow(u32::from(self.decimals).saturating_sub(9))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions_are_exact() {
        let check = |decimals: u8, base_units: u128, nanos: Option<u128>| {
            let unit = AssetUnit::new(decimals).expect("in range");
            assert_eq!(unit.nanos(base_units).ok().map(Amount::units), nanos, "{base_units} of {decimals} decimals");
        };
        check(6, 1, Some(1_000));
        check(0, 2, Some(2_000_000_000));
        check(9, 7, Some(7));
        check(18, 1_000_000_000, Some(1));
        check(18, 1_000_000_001, None);
        check(0, u128::MAX, None);

        let usdc = AssetUnit::new(6).expect("in range");
        assert_eq!(usdc.base_units_down(Amount::from_nanos(1_999)), Ok((1, Amount::from_nanos(999))));
        let wei = AssetUnit::new(18).expect("in range");
        assert_eq!(wei.base_units_down(Amount::from_nanos(3)), Ok((3_000_000_000, Amount::ZERO)));
        assert!(AssetUnit::new(28).is_err());
    }

    #[test]
    fn weighing_rounds_down_and_never_fails() {
        let check = |decimals, base_units, nanos| {
            let unit = AssetUnit::new(decimals).expect("supported");
            assert_eq!(unit.nanos_down(Amount::from_units(base_units)), Amount::from_units(nanos), "{decimals} {base_units}");
        };
        check(6, 1, 1_000);
        check(9, 7, 7);
        check(18, 1_999_999_999, 1);
        check(18, 999_999_999, 0);
        check(0, u128::MAX, u128::MAX);
    }
}
