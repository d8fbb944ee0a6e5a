//! What an audit can find, and how bad it is.

use millstream_types::{Address, Amount, ChannelId, Hash256};
use serde::Serialize;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Not wrong by itself.
    Warning,
    /// The provider does not do what it must, or something cannot be judged.
    Error,
    /// Money is not safe.
    Critical,
}

/// A request that was answered too late, or not yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LateRequest {
    /// Its number in the queue.
    pub index: u64,
    /// The channel.
    pub channel: ChannelId,
    /// `open`, `top up` or `close`.
    pub asked: &'static str,
    /// The last second in which it was in time, Unix.
    pub deadline_secs: u64,
    /// Seconds after the deadline: when it was served, or until now.
    pub late_secs: u64,
    /// The transaction that served it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transaction: Option<Hash256>,
}

/// Something that an audit found. Amounts in nanos unless named otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "finding", rename_all = "snake_case")]
pub enum Finding {
    /// The chain's logs and calldata do not lead to what the contract says; nothing else could be checked.
    NotRebuilt {
        /// Book, block, transaction, and what differs.
        detail: String,
    },
    /// The contract is not the one that this build deploys: what it promises is not known.
    UnknownLedgerCode {
        /// The contract.
        ledger: Address,
    },
    /// What checks the paths of a halted ledger is not what this build deploys, or computes another root: nobody could leave, or too much.
    UnknownPathsCode {
        /// The contract.
        book_paths: Address,
    },
    /// A verifier is not the one that this build deploys: it may accept anything.
    UnknownVerifierCode {
        /// The circuit, such as `settle-96`.
        circuit: String,
        /// The contract.
        verifier: Address,
    },
    /// Anyone can forge proofs: the key comes from a public seed (L-23).
    InsecureKey {
        /// The circuit.
        circuit: String,
        /// Whether the chain is one for development, where that does no harm.
        development_chain: bool,
    },
    /// Nobody named this key as the one of a ceremony, so whoever made it may be able to forge proofs.
    UnknownKey {
        /// The circuit.
        circuit: String,
        /// The key's hash.
        key: Hash256,
    },
    /// The key is another than the one that was named.
    AnotherKey {
        /// The circuit.
        circuit: String,
        /// The key that was named.
        expected: Hash256,
        /// The ledger's.
        actual: Hash256,
    },
    /// The tier's books did not begin empty: they may hold channels that nobody paid for.
    EmptyRoot {
        /// The tier.
        tier: usize,
        /// The contract's root.
        contract: Hash256,
        /// That of an empty book.
        computed: Hash256,
    },
    /// The response window leaves little time to settle, or keeps payers for long.
    ResponseWindow {
        /// The window.
        secs: u64,
        /// The least that is usual.
        min_secs: u64,
        /// The most.
        max_secs: u64,
    },
    /// The ledger has less of its token than it owes.
    Underfunded {
        /// What it has, in base units of the token.
        balance_base_units: u128,
        /// Unsettled deposits and unpaid credits.
        owed: Amount,
    },
    /// Totals do not add up: deposited must be settled, refunded or still held; settled and refunded must be withdrawn or credit.
    Unbalanced {
        /// The left side.
        expected: Amount,
        /// The right side.
        actual: Amount,
        /// Which sum.
        sum: &'static str,
    },
    /// The contract has a channel otherwise than its events.
    Channel {
        /// The channel.
        channel: ChannelId,
        /// Which field.
        field: &'static str,
        /// The contract's value.
        contract: String,
        /// The events'.
        rebuilt: String,
    },
    /// The contract has a credit otherwise than its events.
    Credit {
        /// The account.
        account: Address,
        /// The contract's.
        contract: Amount,
        /// The events'.
        rebuilt: Amount,
    },
    /// The contract has an epoch's root otherwise than its event.
    Epoch {
        /// The epoch.
        epoch: u64,
        /// The contract's root; none when it has none.
        contract: Option<Hash256>,
        /// The event's.
        rebuilt: Hash256,
    },
    /// The ledger was halted, for good: everyone leaves with `millstream ledger leave`.
    Halted {
        /// The block.
        block: u64,
        /// The transaction.
        transaction: Hash256,
    },
    /// A request waits past its deadline: the ledger settles nothing, and anyone may serve it.
    Overdue(LateRequest),
    /// A request was served after its deadline.
    ServedLate(LateRequest),
}

impl Finding {
    /// How bad it is.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        match self {
            Self::InsecureKey { development_chain: true, .. } | Self::ResponseWindow { .. } | Self::ServedLate(_) => Severity::Warning,
            Self::UnknownKey { .. } | Self::Halted { .. } | Self::Overdue(_) => Severity::Error,
            Self::NotRebuilt { .. }
            | Self::UnknownLedgerCode { .. }
            | Self::UnknownPathsCode { .. }
            | Self::UnknownVerifierCode { .. }
            | Self::InsecureKey { development_chain: false, .. }
            | Self::AnotherKey { .. }
            | Self::EmptyRoot { .. }
            | Self::Underfunded { .. }
            | Self::Unbalanced { .. }
            | Self::Channel { .. }
            | Self::Credit { .. }
            | Self::Epoch { .. } => Severity::Critical,
        }
    }
}

impl core::fmt::Display for Finding {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotRebuilt { detail } => write!(f, "the ledger cannot be rebuilt: {detail}"),
            Self::UnknownLedgerCode { ledger } => write!(f, "the code of {ledger} is not that of the ledger this program knows"),
            Self::UnknownPathsCode { book_paths } => write!(f, "the code of {book_paths}, which checks paths, is unknown"),
            Self::UnknownVerifierCode { circuit, verifier } => write!(f, "the code of {verifier}, the verifier of {circuit}, is unknown"),
            Self::InsecureKey { circuit, development_chain: true } => {
                write!(f, "INSECURE development key for {circuit}: anyone can forge proofs; this is a development chain")
            }
            Self::InsecureKey { circuit, development_chain: false } => {
                write!(f, "INSECURE development key for {circuit}: anyone can forge proofs and take every deposit")
            }
            Self::UnknownKey { circuit, key } => write!(f, "nobody named the key {key} of {circuit}: whoever made it may forge proofs"),
            Self::AnotherKey { circuit, expected, actual } => write!(f, "the key of {circuit} is {actual}, not {expected}"),
            Self::EmptyRoot { tier, contract, computed } => {
                write!(f, "books of tier {tier} began with the root {contract}; an empty one has {computed}")
            }
            Self::ResponseWindow { secs, min_secs, max_secs } => {
                write!(f, "the response window is {secs} s; {min_secs} to {max_secs} are usual")
            }
            Self::Underfunded { balance_base_units, owed } => {
                write!(f, "the ledger has {balance_base_units} base units and owes {} tokens", owed.to_tokens())
            }
            Self::Unbalanced { expected, actual, sum } => {
                write!(f, "{sum}: {} against {}", expected.to_tokens(), actual.to_tokens())
            }
            Self::Channel { channel, field, contract, rebuilt } => {
                write!(f, "channel {channel}: {field} is {contract} in the contract, {rebuilt} by its events")
            }
            Self::Credit { account, contract, rebuilt } => {
                write!(f, "the credit of {account} is {contract} nanos in the contract, {rebuilt} by its events")
            }
            Self::Epoch { epoch, contract, rebuilt } => match contract {
                Some(contract) => write!(f, "epoch {epoch} has the root {contract} in the contract, {rebuilt} by its event"),
                None => write!(f, "epoch {epoch} has no root in the contract"),
            },
            Self::Halted { block, transaction } => write!(f, "the ledger was halted for good in block {block} by {transaction}"),
            Self::Overdue(late) => {
                let LateRequest { index, channel, asked, deadline_secs, late_secs, .. } = late;
                write!(f, "request {index} ({asked}, channel {channel}) is overdue since {deadline_secs}, for {late_secs} s")
            }
            Self::ServedLate(late) => {
                let LateRequest { index, channel, asked, late_secs, .. } = late;
                write!(f, "request {index} ({asked}, channel {channel}) was served {late_secs} s after its deadline")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_has_a_stable_name_and_says_what_it_is() {
        let finding = Finding::InsecureKey { circuit: "settle-24".to_owned(), development_chain: false };
        assert_eq!(finding.severity(), Severity::Critical);
        assert!(finding.to_string().contains("INSECURE"));
        let late = LateRequest {
            index: 3,
            channel: ChannelId::from_uid(&[1; 31]),
            asked: "close",
            deadline_secs: 10,
            late_secs: 5,
            transaction: None,
        };
        assert_eq!(Finding::Overdue(late.clone()).severity(), Severity::Error);
        assert_eq!(Finding::ServedLate(late).severity(), Severity::Warning);
    }
}
