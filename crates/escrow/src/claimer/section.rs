//! What an operator decides about claims and sweeps.

use serde::{Deserialize, Serialize};

/// Gas that one claim or sweep has to be allowed at least.
const GAS_MIN: u64 = 200_000;

/// `[escrow.claim]`: when what was charged is put on the chain, and what that may cost. A nano is 10^-9 of a whole token, whatever its decimals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClaimSection {
    /// Seconds between two rounds of claims; 0 leaves them to value at risk, withdrawals and the operator.
    pub interval_secs: u64,
    /// Nanos that a channel must have unclaimed for a round at the interval, or for value at risk, to claim them.
    pub row_min_nanos: u64,
    /// Nanos unclaimed on all channels of one escrow from which they are claimed without waiting for the interval, whatever gas costs; 0 for no
    /// such bound.
    pub risk_max_nanos: u64,
    /// Channels in one claim.
    pub rows_max: u16,
    /// Percent of what a claim or a sweep at an interval brings that its gas may cost, where gas is weighed.
    pub gas_percent_max: u8,
    /// What a unit of gas may cost, in gwei, where nothing is urgent.
    pub fee_gwei_max: u64,
    /// Gas that one transaction may take.
    pub gas_max: u64,
    /// Seconds between two sweeps to one receiver; 0 leaves them to the operator.
    pub sweep_interval_secs: u64,
    /// Nanos that a sweep must move.
    pub sweep_min_nanos: u64,
}

impl Default for ClaimSection {
    fn default() -> Self {
        Self {
            interval_secs: 3_600,
            row_min_nanos: 100_000_000,
            risk_max_nanos: 1_000_000_000_000,
            rows_max: 100,
            gas_percent_max: 5,
            fee_gwei_max: 100,
            gas_max: 4_000_000,
            sweep_interval_secs: 21_600,
            sweep_min_nanos: 1_000_000_000,
        }
    }
}

impl ClaimSection {
    /// Whether the values can be worked with.
    ///
    /// # Errors
    /// The first that cannot, by its name.
    pub fn check(&self) -> anyhow::Result<()> {
        let rows_max = millstream_chain::x402::CLAIM_ROWS_MAX;
        anyhow::ensure!((1..=rows_max).contains(&usize::from(self.rows_max)), "escrow.claim.rows_max is 1 to {rows_max}");
        anyhow::ensure!((1..=100).contains(&self.gas_percent_max), "escrow.claim.gas_percent_max is 1 to 100");
        anyhow::ensure!(self.fee_gwei_max > 0, "escrow.claim.fee_gwei_max must not be 0");
        anyhow::ensure!(self.gas_max >= GAS_MIN, "escrow.claim.gas_max is at least {GAS_MIN}, what one row may take");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_hold_and_nonsense_does_not() {
        ClaimSection::default().check().expect("the defaults hold");
        let nonsense: [fn(&mut ClaimSection); 5] = [
            |section| section.rows_max = 0,
            |section| section.rows_max = 101,
            |section| section.gas_percent_max = 0,
            |section| section.fee_gwei_max = 0,
            |section| section.gas_max = GAS_MIN - 1,
        ];
        for spoil in nonsense {
            let mut section = ClaimSection::default();
            spoil(&mut section);
            assert!(section.check().is_err(), "{section:?}");
        }
        assert!(serde_json::from_str::<ClaimSection>(r#"{"rows": 3}"#).is_err());
    }
}
