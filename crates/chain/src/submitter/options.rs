//! How a submitter behaves.

use std::time::Duration;

use millstream_types::ChainId;

/// The gas that one transaction may have at most on Ethereum (EIP-7825).
const TRANSACTION_GAS_MAX: u64 = 16_777_216;
const GWEI: u128 = 1_000_000_000;

/// The limits and intervals of a submitter.
#[derive(Clone, Copy, Debug)]
pub struct SubmitterOptions {
    /// Blocks that must hold the transaction before it counts; 1 is the block it is in.
    pub confirmations: u64,
    /// How often a transaction under way is looked at.
    pub poll_interval: Duration,
    /// How long a transaction may wait to be mined before it is replaced by one with higher fees.
    pub replace_after: Duration,
    /// How long a send waits. The transaction is followed on after that; see `ChainError::Unconfirmed`.
    pub wait_max: Duration,
    /// What is added to the estimated gas, in percent.
    pub gas_margin_percent: u64,
    /// The largest gas limit that is sent.
    pub gas_limit_max: u64,
    /// The gas limit to send with instead of a simulation's estimate: for many equal calls on a development chain, because a call that
    /// reverts is then found out only when it is mined.
    pub gas_limit_unsimulated: Option<u64>,
    /// The largest `maxFeePerGas`, in wei. Below the chain's base fee, transactions wait.
    pub max_fee_per_gas_max: u128,
    /// The largest `maxPriorityFeePerGas`, in wei.
    pub priority_fee_per_gas_max: u128,
}

impl Default for SubmitterOptions {
    fn default() -> Self {
        Self {
            confirmations: 1,
            poll_interval: Duration::from_secs(1),
            replace_after: Duration::from_secs(30),
            wait_max: Duration::from_secs(600),
            gas_margin_percent: 25,
            gas_limit_max: TRANSACTION_GAS_MAX,
            gas_limit_unsimulated: None,
            max_fee_per_gas_max: 500 * GWEI,
            priority_fee_per_gas_max: 50 * GWEI,
        }
    }
}

impl SubmitterOptions {
    /// What suits a chain: [`Self::for_development`] on a development chain, the default elsewhere.
    #[must_use]
    pub fn on(chain: ChainId) -> Self {
        if chain.is_development() { Self::for_development() } else { Self::default() }
    }

    /// For a chain on this machine: looks often, confirms at once.
    #[must_use]
    pub fn for_development() -> Self {
        Self { poll_interval: Duration::from_millis(25), wait_max: Duration::from_secs(60), ..Self::default() }
    }
}
