//! What an audit says: the ledger, its sums, and what was found.

use millstream_types::{Address, Amount, Hash256};
use serde::Serialize;

use super::{Finding, Severity};

/// Where a verifying key comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyOrigin {
    /// It is the key that was named for the circuit.
    Named,
    /// It is the key that this version has pinned for the circuit.
    Pinned,
    /// It is the development key: anyone can forge proofs.
    InsecureDevelopment,
    /// It is not known.
    Unknown,
}

/// A size of book, with its keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TierReport {
    /// Slots of a book.
    pub slots: u16,
    /// The hash of the key of `settle-N`.
    pub settle_key: Hash256,
    /// Where it comes from.
    pub settle_key_origin: KeyOrigin,
    /// The hash of the key of `register-N`.
    pub register_key: Hash256,
    /// Where it comes from.
    pub register_key_origin: KeyOrigin,
}

/// The sums. Amounts in nanos unless named otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Channels that were ever opened.
    pub channels: usize,
    /// Channels that wait to be put in a book.
    pub channels_queued: usize,
    /// Channels that were closed.
    pub channels_closed: usize,
    /// Books that were ever written.
    pub books: usize,
    /// Everything deposited.
    pub deposited: Amount,
    /// Taken by the provider.
    pub settled: Amount,
    /// Credited to payers.
    pub refunded: Amount,
    /// Deposited, and neither settled nor refunded.
    pub held: Amount,
    /// Credits that were not withdrawn.
    pub credits: Amount,
    /// Credits that were withdrawn.
    pub withdrawn: Amount,
    /// What the ledger has of its token, in base units.
    pub balance_base_units: u128,
    /// Requests ever made.
    pub requests: usize,
    /// Requests that wait.
    pub requests_waiting: usize,
    /// Requests that wait past their deadline.
    pub requests_overdue: usize,
    /// Requests that were served past their deadline.
    pub requests_served_late: usize,
    /// Epochs anchored.
    pub epochs: usize,
}

/// What an audit says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditReport {
    /// The chain.
    pub chain_id: u64,
    /// The contract.
    pub ledger: Address,
    /// The block that everything is about.
    pub block: u64,
    /// Its hash.
    pub block_hash: Hash256,
    /// Its time, Unix seconds.
    pub block_time_secs: u64,
    /// Whom settlements pay.
    pub provider: Address,
    /// The account that may settle and register.
    pub operator: Option<Address>,
    /// The token.
    pub token: Address,
    /// Its decimals.
    pub token_decimals: u8,
    /// Seconds from a request until it is overdue.
    pub response_window_secs: u64,
    /// What an opening or a top-up must deposit at least, in nanos.
    pub deposit_min: Amount,
    /// The sizes of book.
    pub tiers: Vec<TierReport>,
    /// The sums.
    pub totals: Totals,
    /// What was found, worst first.
    pub findings: Vec<Finding>,
}

impl AuditReport {
    /// Whether nothing of [`Severity::Error`] or worse was found.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity() < Severity::Error)
    }
}
