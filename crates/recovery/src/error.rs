//! Everything that can go wrong. Unavailable and final answers of the chain keep their kind: [`ChainError::kind`].

use millstream_chain::ChainError;
use millstream_circuit::CircuitError;
use millstream_prover::ProverError;
use millstream_types::{Address, Amount, BlockNumber, BookId, ChannelId, Hash256, Timestamp};

/// Why a ledger was not rebuilt.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The chain cannot be read.
    #[error("the chain cannot be read")]
    Chain(#[source] ChainError),
    /// A tier whose books have no or too many slots: no ledger of ours.
    #[error("tier {tier} has books of {slots} slots")]
    Tier {
        /// The tier.
        tier: usize,
        /// Its slots.
        slots: u16,
    },
    /// The first event read is not the ledger's first.
    #[error("reading began after the ledger's deployment: start at an earlier block")]
    LateStart,
    /// The rebuilt book has another root than the event tells.
    #[error("book {book} has the root {rebuilt} after transaction {transaction} in block {}; the event says {told}", .block.height())]
    Root {
        /// The book.
        book: BookId,
        /// The block of the event.
        block: BlockNumber,
        /// Its transaction.
        transaction: Hash256,
        /// The event's root.
        told: Hash256,
        /// Ours.
        rebuilt: Hash256,
    },
    /// The rebuilt book has another root than the contract.
    #[error("book {book} has the root {rebuilt} at the end of block {}; the contract says {contract}", .block.height())]
    ContractRoot {
        /// The book.
        book: BookId,
        /// The block that was read last.
        block: BlockNumber,
        /// The contract's root.
        contract: Hash256,
        /// Ours.
        rebuilt: Hash256,
    },
    /// Something else than a root is different in the contract.
    #[error("at the end of block {} the contract has {what} {contract}, the events lead to {rebuilt}", .block.height())]
    Contract {
        /// The block that was read last.
        block: BlockNumber,
        /// What.
        what: String,
        /// The contract's value.
        contract: String,
        /// Ours.
        rebuilt: String,
    },
    /// The deltas of a settlement cannot be read: a contract called the ledger, and the endpoint gives no traces.
    #[error(
        "the deltas of book {book} in transaction {transaction}, block {}, cannot be read: a contract called the ledger; \
         use an endpoint with debug_traceTransaction", .block.height()
    )]
    Deltas {
        /// The book.
        book: BookId,
        /// The block.
        block: BlockNumber,
        /// The transaction.
        transaction: Hash256,
    },
    /// The events contradict each other, or the rules of the ledger.
    #[error("transaction {transaction} in block {} contradicts what came before it: {detail}", .block.height())]
    Contradiction {
        /// The block.
        block: BlockNumber,
        /// The transaction.
        transaction: Hash256,
        /// What contradicts what.
        detail: String,
    },
}

/// Why requests were not served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The chain refuses, or is not available.
    #[error("the chain did not take the registration")]
    Chain(#[source] ChainError),
    /// There is no proof.
    #[error("the registration cannot be proved")]
    Prover(#[source] ProverError),
    /// Fault: the rebuilt books do not take what the queue asks.
    #[error("the queue cannot be applied to the books")]
    Circuit(#[source] CircuitError),
    /// Fault: an invariant of ours broke.
    #[error("internal: {detail}")]
    Internal {
        /// What happened.
        detail: String,
    },
}

/// Why a payer did not get out.
#[derive(Debug, thiserror::Error)]
pub enum ExitError {
    /// The ledger was not rebuilt.
    #[error("the ledger cannot be rebuilt from the chain")]
    Rebuild(#[from] RebuildError),
    /// The requests were not served.
    #[error("the close was not served")]
    Serve(#[from] ServeError),
    /// The chain refuses, or is not available.
    #[error("the chain did not take it")]
    Chain(#[from] ChainError),
    /// The ledger never opened the channel.
    #[error("the ledger has no channel {channel}")]
    UnknownChannel {
        /// The channel.
        channel: ChannelId,
    },
    /// Only a channel's payer may leave it.
    #[error("channel {channel} is of payer {payer}, not of {account}")]
    NotPayer {
        /// The channel.
        channel: ChannelId,
        /// Its payer.
        payer: Address,
        /// The account that asked.
        account: Address,
    },
    /// The ledger refuses the registration again and again, although nothing that it rests on changed.
    #[error("the ledger refuses the registration, and nothing changed meanwhile")]
    Refused(#[source] ServeError),
    /// The ledger is not halted, and may not be halted yet.
    #[error("the ledger is not halted; anyone may halt it after {} (Unix seconds) when request {index} still waits", .deadline.as_secs_down())]
    NotHalted {
        /// The oldest request that waits.
        index: u64,
        /// The last moment of its halt window.
        deadline: Timestamp,
    },
    /// The ledger is not halted, and nobody waits for anything.
    #[error("the ledger is not halted, and no request waits: close channels instead")]
    NothingWaits,
    /// The ledger may be halted, which is for good and for everyone: the caller has to want it.
    #[error("the ledger is not halted; it may be, for good and for everyone: request {index} waits for too long")]
    HaltNotWanted {
        /// The oldest request that waits.
        index: u64,
    },
    /// Fault: the rebuilt book has no path for a channel that is in it.
    #[error("the book has no path for channel {channel}")]
    Path {
        /// The channel.
        channel: ChannelId,
        /// Why.
        #[source]
        source: CircuitError,
    },
    /// No request before the channel's close can be put into any book.
    #[error("request {index} cannot be placed in any book")]
    Unplaceable {
        /// The request at the head of the queue.
        index: u64,
    },
    /// The payer did not receive what was deposited and not settled.
    #[error("channel {channel}: {expected} nanos were due, {actual} were credited")]
    Amount {
        /// The channel.
        channel: ChannelId,
        /// Deposited less settled, in nanos.
        expected: Amount,
        /// The refund, in nanos.
        actual: Amount,
    },
    /// The account's token balance did not grow by what the ledger says that it paid.
    #[error("the ledger paid {paid} base units; the account's balance grew by {received}")]
    Payout {
        /// By the ledger's event.
        paid: u128,
        /// By the token.
        received: u128,
    },
}
