//! The EVM side of a node and of a payer: bindings, deployment, payer transactions, the indexer and the submitter.
//!
//! Knows alloy and the ABI of `contracts/`; knows no storage, no proof system and no channel state. Amounts with decimals of the token are
//! *base units*; amounts of the ledger are *nanos* (`docs/spec/ledger.md`, L-1).
//!
//! **Invariants.** Every await has a deadline. A revert is a final answer. The three kinds of error ([`ErrorKind`]) are never mixed.
//! No message holds a key or more of an RPC URL than scheme, host and port.

mod artifacts;
mod at;
mod authorization;
pub mod bindings;
mod convert;
mod deploy;
mod endpoint;
mod error;
mod escrow_reader;
mod indexer;
mod inspect;
mod key;
mod ledger;
mod operator;
mod payer;
mod relay;
mod remote;
mod revert;
mod rpc;
pub mod session_escrow;
mod settlements;
mod signer;
mod submitter;
mod token;
mod used;
pub mod x402;

pub use at::LedgerAt;
pub use authorization::OpenAuthorization;
pub use deploy::{
    Blueprint, CREATE2_PROXY, Comparison, ContractRole, DeployPlan, Deployment, Difference, Forecast, Inventory, KeyProvenance, KnownPath,
    LedgerTerms, Located, MinedTransaction, PERMIT2, PlannedContract, Presence, SentStep, Simulation, StepForecast, TierInventory,
    TierPlan, TokenChoice, VerifierInventory, VerifyingKeyWords, block_hash, deploy, mined_transaction, place_development_permit2,
};
pub use error::{ChainError, ErrorKind};
pub use escrow_reader::{EscrowBatch, EscrowContract, EscrowPoll, EscrowReader, Seen};
pub use indexer::{
    ChainBatch, ChainEvent, Checkpoint, Cursor, EventPosition, Head, Indexer, IndexerOptions, LedgerEvent, PendingClose, Poll, Reorg,
};
pub use key::ChainKey;
pub use ledger::{ChannelRecord, Ledger, LedgerConfig, QueueBounds, QueuedRequest, TierConfig};
pub use operator::{Asked, BookRegistration, BookSettlement, EpochRoot, Operator, ProofWords, ServedRequest, SlotRow};
pub use payer::{OpenRequest, Opening, Payer, Refund, SlotPath, VoucherKeyWitness, Withdrawal};
pub use relay::{DepositPurpose, DepositWay, Relayed, RelayedDeposit, SignedDeposit, TokenDomain};
pub use revert::Revert;
pub use rpc::{Rpc, RpcOptions};
pub use settlements::{pack_settlements, unpack_settlements};
pub use signer::ask_contract;
pub use submitter::{
    Call, GasBounds, GasQuote, IntentId, Journal, Kept, Pace, Submitter, SubmitterOptions, TxReceipt, TxStage, TxVersion, TxWatch,
};
pub use token::{
    TokenFacts, approve, coin_balance, mint, token_allowance, token_balance, token_decimals, token_domain, token_facts, token_titles,
};
