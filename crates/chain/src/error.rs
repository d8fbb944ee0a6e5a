//! Everything that can go wrong, in three kinds that are never mixed.

use std::time::Duration;

use millstream_types::{Address, BlockNumber, ChainId, Hash256};

use crate::{ContractRole, Revert};

/// What a caller may do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Final: the chain, the node or this crate said no, and asking again gets the same answer.
    Rejection,
    /// The answer is not known: retry.
    Unavailable,
    /// What the chain or the node says contradicts itself or this crate's idea of the ledger: stop and look.
    Fault,
}

/// Why a call, a transaction or a poll failed. [`ChainError::kind`] says what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// A contract refused. Final, whether it was found in simulation (`transaction` is none, nothing was spent) or mined.
    #[error("{operation} was refused by the contract: {revert}")]
    Reverted {
        /// What was asked.
        operation: &'static str,
        /// The contract's reason.
        revert: Revert,
        /// The mined transaction, when there is one.
        transaction: Option<Hash256>,
    },
    /// The node refused the request itself, such as for want of funds for gas.
    #[error("{operation} was refused by the RPC node: {message} (code {code})")]
    Refused {
        /// What was asked.
        operation: &'static str,
        /// The JSON-RPC code.
        code: i64,
        /// The node's message, cut and without secrets.
        message: String,
    },
    /// The endpoint is no `http` or `https` URL. The text is not repeated: it may hold a key.
    #[error("the RPC endpoint is not an http or https URL")]
    InvalidEndpoint,
    /// The endpoint serves another chain.
    #[error("the RPC endpoint serves chain {actual}, expected {expected}")]
    WrongChain {
        /// The chain that was configured.
        expected: ChainId,
        /// The chain of the endpoint.
        actual: ChainId,
    },
    /// There is no contract at the address.
    #[error("there is no contract at {address} on chain {chain}")]
    NoContract {
        /// The address.
        address: Address,
        /// The chain.
        chain: ChainId,
    },
    /// Development keys on a chain that is not for development (spec L-23).
    #[error("insecure development keys are refused on chain {chain}: anyone can forge proofs with them (only 31337 and 1337 take them)")]
    InsecureKeys {
        /// The chain.
        chain: ChainId,
    },
    /// A verifying key under which anyone, or whoever knows a ratio, can forge (spec L-22).
    #[error("the key for the {role} is degenerate: {reason}")]
    DegenerateKey {
        /// Of which verifier.
        role: ContractRole,
        /// In which way.
        reason: &'static str,
    },
    /// The chain lacks the contract that deploys by CREATE2.
    #[error(
        "chain {chain} has no deterministic deployment proxy at 0x4e59b44847b379578588920ca78fbf26c0b4956c, which everything is deployed through"
    )]
    NoCreate2Proxy {
        /// The chain.
        chain: ChainId,
    },
    /// Other code than what belongs there.
    #[error("at {address}, the place of the {what}, is other code: keccak-256 {actual}, not {expected}")]
    ForeignCode {
        /// What belongs there.
        what: String,
        /// Where.
        address: Address,
        /// The hash of what belongs there.
        expected: Hash256,
        /// The hash of what is there.
        actual: Hash256,
    },
    /// The transaction needs more gas than is allowed.
    #[error("{operation} needs {needed} gas, more than the limit of {limit}")]
    GasLimit {
        /// What was asked.
        operation: &'static str,
        /// The estimate with its margin.
        needed: u64,
        /// The configured limit.
        limit: u64,
    },
    /// A unit of gas costs more than is allowed for this call.
    #[error("{operation} would pay {needed} wei for a unit of gas, more than the limit of {limit}")]
    FeeLimit {
        /// What was asked.
        operation: &'static str,
        /// What it costs now, in wei.
        needed: u128,
        /// The limit, in wei.
        limit: u128,
    },
    /// An argument that cannot be sent.
    #[error("invalid {what}: {detail}")]
    InvalidInput {
        /// The argument.
        what: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// The node did not answer, or not usefully.
    #[error("{operation}: the RPC endpoint {endpoint} is unavailable: {detail}")]
    Unavailable {
        /// What was asked.
        operation: &'static str,
        /// The endpoint, without its secrets.
        endpoint: String,
        /// What happened, cut and without secrets.
        detail: String,
    },
    /// The node did not answer in time.
    #[error("{operation}: no answer within {after:?}")]
    TimedOut {
        /// What was asked.
        operation: &'static str,
        /// The deadline.
        after: Duration,
    },
    /// The transaction is on its way but not confirmed yet. Sending the same intent again waits on for the same transaction.
    #[error("{operation}: the transaction with nonce {tx_nonce} is not confirmed after {after:?}")]
    Unconfirmed {
        /// What was asked.
        operation: &'static str,
        /// Its nonce.
        tx_nonce: u64,
        /// How long was waited.
        after: Duration,
    },
    /// Another transaction of the same account, not sent through this submitter, took the nonce. Nothing of this one happened.
    #[error("{operation}: nonce {tx_nonce} was used by another transaction of the same account")]
    Displaced {
        /// What was asked.
        operation: &'static str,
        /// The nonce.
        tx_nonce: u64,
    },
    /// The account has transactions in the pool from before this submitter started, and they are not mined yet.
    #[error("nonces {mined} to {pending} (exclusive) of this account wait in the pool since before the start")]
    Inherited {
        /// The first nonce that is not mined.
        mined: u64,
        /// The first nonce that is free.
        pending: u64,
    },
    /// The submitter was dropped while the transaction was on its way.
    #[error("{operation}: the submitter stopped")]
    Stopped {
        /// What was asked.
        operation: &'static str,
    },
    /// The node has fewer blocks than were already read: it lags, or the chain was cut shorter and did not grow again yet.
    #[error("the chain's head is {}, below block {} that was already read", .head.height(), .cursor.height())]
    Behind {
        /// The node's newest block.
        head: BlockNumber,
        /// The newest block that was read.
        cursor: BlockNumber,
    },
    /// The chain changed while it was being read.
    #[error("the chain changed while it was being read")]
    Moved,
    /// The node left out logs: the queue's numbers have a gap, or stop before the tail that the ledger has.
    #[error("the node left out logs: expected request {expected}, found {found}")]
    IncompleteLogs {
        /// The request index that must come next.
        expected: u64,
        /// The one found.
        found: u64,
    },
    /// A value of the chain that our types cannot hold.
    #[error("{what} is not representable: {detail}")]
    Unrepresentable {
        /// The value's name.
        what: &'static str,
        /// The value, or what is wrong with it.
        detail: String,
    },
    /// The node's answers contradict each other or the ledger's rules.
    #[error("the chain's data contradict themselves: {detail}")]
    Inconsistent {
        /// What contradicts what.
        detail: String,
    },
    /// Something that this crate builds itself did not work, such as signing.
    #[error("internal: {detail}")]
    Internal {
        /// What happened.
        detail: String,
    },
}

impl ChainError {
    /// Which of the three kinds this is.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Reverted { .. }
            | Self::Refused { .. }
            | Self::InvalidEndpoint
            | Self::WrongChain { .. }
            | Self::NoContract { .. }
            | Self::InsecureKeys { .. }
            | Self::DegenerateKey { .. }
            | Self::NoCreate2Proxy { .. }
            | Self::ForeignCode { .. }
            | Self::GasLimit { .. }
            | Self::InvalidInput { .. } => ErrorKind::Rejection,
            Self::Unavailable { .. }
            | Self::TimedOut { .. }
            | Self::Unconfirmed { .. }
            | Self::Displaced { .. }
            | Self::Inherited { .. }
            | Self::Stopped { .. }
            | Self::FeeLimit { .. }
            | Self::Behind { .. }
            | Self::Moved
            | Self::IncompleteLogs { .. } => ErrorKind::Unavailable,
            Self::Unrepresentable { .. } | Self::Inconsistent { .. } | Self::Internal { .. } => ErrorKind::Fault,
        }
    }

    /// Whether asking again can get another answer.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self.kind(), ErrorKind::Unavailable)
    }

    /// The contract's reason, when a contract refused.
    #[must_use]
    pub const fn revert(&self) -> Option<&Revert> {
        match self {
            Self::Reverted { revert, .. } => Some(revert),
            _ => None,
        }
    }

    pub(crate) fn invalid(what: &'static str, detail: impl ToString) -> Self {
        Self::InvalidInput { what, detail: detail.to_string() }
    }

    pub(crate) fn unrepresentable(what: &'static str, detail: impl ToString) -> Self {
        Self::Unrepresentable { what, detail: detail.to_string() }
    }

    pub(crate) fn inconsistent(detail: impl ToString) -> Self {
        Self::Inconsistent { detail: detail.to_string() }
    }
}
