//! EIP-1559 fees: estimated, capped, and raised by enough that pools accept a replacement.

use alloy::eips::eip1559::Eip1559Estimation;

use super::SubmitterOptions;

/// The fees of one version of a transaction, in wei per gas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fees {
    pub(super) max: u128,
    pub(super) priority: u128,
}

impl Fees {
    /// The node's estimate under the caps.
    pub(super) fn from_estimate(estimate: Eip1559Estimation, options: &SubmitterOptions) -> Self {
        Self { max: estimate.max_fee_per_gas, priority: estimate.max_priority_fee_per_gas }.capped(options)
    }

    /// Fees for a replacement: the newer estimate, and at least an eighth above the present ones, as pools demand (they ask for a tenth).
    /// `None` when the caps leave no room for that.
    pub(super) fn raised(self, estimate: Self, options: &SubmitterOptions) -> Option<Self> {
        let least = Self { max: eighth_up(self.max), priority: eighth_up(self.priority) };
        let wanted = Self { max: least.max.max(estimate.max), priority: least.priority.max(estimate.priority) }.capped(options);
        (wanted.max >= least.max && wanted.priority >= least.priority).then_some(wanted)
    }

    /// Twice these fees, under the caps.
    pub(super) fn doubled(self, options: &SubmitterOptions) -> Self {
        Self { max: self.max.saturating_mul(2), priority: self.priority.max(1).saturating_mul(2) }.capped(options)
    }

    fn capped(self, options: &SubmitterOptions) -> Self {
        let max = self.max.min(options.max_fee_per_gas_max);
        Self { max, priority: self.priority.min(options.priority_fee_per_gas_max).min(max) }
    }
}

fn eighth_up(fee: u128) -> u128 {
    fee.saturating_add(fee.div_ceil(8)).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(max: u128, priority: u128) -> SubmitterOptions {
        SubmitterOptions { max_fee_per_gas_max: max, priority_fee_per_gas_max: priority, ..SubmitterOptions::default() }
    }

    #[test]
    fn a_replacement_is_raised_by_an_eighth_or_to_the_estimate() {
        let check = |old: (u128, u128), estimate: (u128, u128), caps: (u128, u128), expected: Option<(u128, u128)>| {
            let fees = |(max, priority)| Fees { max, priority };
            assert_eq!(fees(old).raised(fees(estimate), &options(caps.0, caps.1)), expected.map(fees), "{old:?} {estimate:?}");
        };
        check((800, 80), (10, 1), (10_000, 10_000), Some((901, 91)));
        check((800, 80), (2_000, 300), (10_000, 10_000), Some((2_000, 300)));
        check((800, 80), (2_000, 300), (1_000, 100), Some((1_000, 100)));
        check((800, 80), (10, 1), (900, 10_000), None);
        check((800, 80), (10, 1), (10_000, 90), None);
        check((0, 0), (0, 0), (10, 10), Some((1, 1)));
    }

    #[test]
    fn the_priority_fee_never_exceeds_the_whole() {
        let estimate = Eip1559Estimation { max_fee_per_gas: 5, max_priority_fee_per_gas: 9 };
        assert_eq!(Fees::from_estimate(estimate, &options(100, 100)), Fees { max: 5, priority: 5 });
        assert_eq!(Fees { max: 5, priority: 0 }.doubled(&options(8, 8)), Fees { max: 8, priority: 2 });
    }
}
