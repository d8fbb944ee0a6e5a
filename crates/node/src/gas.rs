//! What gas costs, weighed against what it brings: one rule for settlements, relayed deposits and claims.

use millstream_types::Amount;

/// A coin of the chain, in wei.
const COIN: u128 = 1_000_000_000_000_000_000;

/// What a coin of the chain is worth in tokens, and what part of a value its gas may take. Values are in nanos (10^-9 of a whole token).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GasTerms {
    coin_nanos: u64,
    percent_max: u8,
}

impl GasTerms {
    /// Gas that costs nothing.
    pub const FREE: Self = Self { coin_nanos: 0, percent_max: 100 };

    /// `coin_nanos`: nanos that a whole coin is worth; 0 does not weigh gas. `percent_max`: the part of a value, in percent, that its gas may
    /// be worth; at least 1.
    #[must_use]
    pub const fn new(coin_nanos: u64, percent_max: u8) -> Self {
        Self { coin_nanos, percent_max: if percent_max == 0 { 1 } else { percent_max } }
    }

    /// Whether gas is weighed at all. Where it is not, its price need not be known.
    #[must_use]
    pub const fn weighs(self) -> bool {
        self.coin_nanos > 0
    }

    /// What so much of the chain's coin is worth, in nanos. What does not fit is too much for any value.
    #[must_use]
    pub fn cost_up(self, wei: u128) -> Amount {
        Amount::from_units(wei.saturating_mul(self.coin_nanos.into()).div_ceil(COIN))
    }

    /// The least value, in nanos, that pays for so much.
    #[must_use]
    pub fn least_up(self, wei: u128) -> Amount {
        Amount::from_units(self.cost_up(wei).units().saturating_mul(100).div_ceil(self.percent_max.into()))
    }

    /// Whether a value, in nanos, pays for so much.
    #[must_use]
    pub fn pay(self, nanos: Amount, wei: u128) -> bool {
        nanos >= self.least_up(wei)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_pays_for_the_share_of_it_that_gas_may_take() {
        // A coin is worth 3,000 tokens.
        const COIN_NANOS: u64 = 3_000_000_000_000;
        let check = |terms: GasTerms, wei: u128, least: u128| {
            assert_eq!(terms.least_up(wei), Amount::from_units(least), "{terms:?} {wei}");
            assert!(terms.pay(Amount::from_units(least), wei));
            assert!(least == 0 || !terms.pay(Amount::from_units(least - 1), wei));
        };
        let gwei = 1_000_000_000;
        check(GasTerms::new(COIN_NANOS, 5), 24_000 * gwei, 1_440_000_000);
        check(GasTerms::new(COIN_NANOS, 100), 24_000 * gwei, 72_000_000);
        check(GasTerms::new(COIN_NANOS, 200), 24_000 * gwei, 36_000_000);
        // Rounded up, twice.
        check(GasTerms::new(1, 3), 1, 34);
        check(GasTerms::new(COIN_NANOS, 0), gwei, 300_000);
        check(GasTerms::FREE, u128::MAX, 0);
        let absurd = GasTerms::new(u64::MAX, 100);
        assert!(!absurd.pay(Amount::from_nanos(u64::MAX), u128::MAX));
        assert!(absurd.weighs() && !GasTerms::FREE.weighs());
    }
}
