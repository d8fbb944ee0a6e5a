//! What is wrong with rules, records and orders.

use millstream_types::Amount;

/// Why a configuration is not a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A setting has a value that it cannot have.
    #[error("policy.{key}: {reason}")]
    Setting {
        /// The setting, as in the file.
        key: String,
        /// What is wrong.
        reason: String,
    },
}

/// Why bytes are no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A version that is not read here.
    #[error("a record of the policy has version {actual}, this build reads 1")]
    Version {
        /// The version found.
        actual: u8,
    },
    /// Bytes that were not written here.
    #[error("the policy's records are damaged: {0} cannot be")]
    Damaged(&'static str),
}

/// Why an order is not carried out. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// Nothing is held under this id.
    #[error("nothing is held for this request")]
    UnknownHold,
    /// More was used than is held.
    #[error("{wanted} was to be settled and {held} is held")]
    AboveHeld {
        /// What is held, in base units.
        held: Amount,
        /// What was to be settled, in base units.
        wanted: Amount,
    },
    /// No such approval, or it was decided or has ended.
    #[error("approval {number} does not wait: it is unknown, decided or over")]
    NotWaiting {
        /// Its number.
        number: u64,
    },
    /// No such pause.
    #[error("{scope} is not paused")]
    NotPaused {
        /// What was to be resumed.
        scope: String,
    },
    /// A sub-budget that cannot be given.
    #[error("the sub-budget cannot be given: {0}")]
    Grant(&'static str),
    /// No such sub-budget, or it was revoked before.
    #[error("sub-budget {number} is unknown or revoked")]
    UnknownGrant {
        /// Its number.
        number: u64,
    },
}
