//! The escrow of MPP `evm/session` channels: where it is and how it gets there; and what both sides do with it. A payee reads channels at a depth,
//! submits the deposits that payers signed, settles vouchers and closes; a payer opens, tops up, asks for the close and leaves.
//!
//! The contract keeps a channel's record for ever, so its state at a block is all there is to know ([`SessionState`]). Logs only say that a
//! look is worth it.
//!
//! Amounts are base units of the channel's token. Source: `docs/spec/escrows.md`, E-20 to E-30, and the draft that it names.

pub mod bindings;
mod contract;
mod operator;
mod payer;
mod place;

pub use contract::{OpenedSession, SentDeposit, SessionEscrow, SessionParties, SessionPhase, SessionState};
pub use operator::{
    BadVoucher, Closed, PayeeAuthorization, SETTLE_ROWS_MAX, SessionFunding, SessionOpening, SessionOperator, SessionTopUp, SettledMany,
    SettledRow, VoucherRow,
};
pub use payer::SessionPayer;
pub use place::{deploy_session_escrow, session_escrow_address};

/// A reader of the contract's channels.
pub type SessionReader = crate::EscrowReader<SessionEscrow>;
/// What one poll of it found.
pub type SessionPoll = crate::EscrowPoll<SessionState>;
/// What happened in some blocks.
pub type SessionBatch = crate::EscrowBatch<SessionState>;
/// Channels at the end of a block.
pub type SessionSeen = crate::Seen<SessionState>;
