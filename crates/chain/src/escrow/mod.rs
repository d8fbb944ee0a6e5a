//! x402's `batch-settlement` contract: reading its channels at a depth, depositing into them, claiming from many at once, sweeping, refunding.
//!
//! The contract is shared by all the world, and says of a channel nothing but its id. So this side follows the channels that it is told of:
//! their logs say *that* something happened, and what is true then is read from the contract at the same block, balance and all. A log that an
//! endpoint leaves out can delay what is learned until the next look, and falsify nothing.
//!
//! Amounts are base units of the channel's token. Spec: `docs/spec/escrows.md`.

pub mod bindings;
mod claims;
mod contract;
mod exact;
mod reader;
mod signer;

pub use claims::{BadClaim, BatchOperator, CLAIM_ROWS_MAX, ClaimRow, Claimed, DepositAuthorization, Sorted, Sweep};
pub use contract::{BatchSettlement, ChannelState, PendingWithdrawal, ReceiverTotals};
pub use exact::ExactTransfer;
pub use reader::{EscrowBatch, EscrowPoll, EscrowReader, Seen};
pub use signer::{ask_contract, is_contract};
