//! The money of HTTP 402 on escrow contracts: the gateway's port over the durable engine.
//!
//! `follower` reads the chain into the engine, `desk` answers the gateway, `claimer` carries out what the engine says there is to claim, to
//! sweep and to send. [`Rail`] starts and ends them. [`Facilitator`] puts on the chain what other people's servers ask for.
//!
//! **Invariants.** Nothing is answered that is not durable. A deposit is credit once the chain has it at the confirmation depth, by what the
//! contract says and not by who sent it; before that only one that this side sent, and within limits that are 0 unless the operator sets them. No lock is held over an await. No request waits for the chain but one that brings a deposit, asks
//! for a refund, or is signed by an account whose code has to be looked at.

#![allow(clippy::result_large_err, reason = "an error of the chain is large, and rare beside what it costs to get one")]

mod admin;
mod board;
mod claimer;
mod config;
mod desk;
mod facilitator;
mod follower;
mod lock;
mod metrics;
mod policy;
mod rail;
mod report;
mod single;
mod terms;

pub use claimer::{
    ClaimContract, ClaimMetrics, ClaimSection, ClaimView, ClaimableView, ClaimedEscrow, Claimer, ClaimerError, ClaimerHandle, ClaimerParts,
    ClaimsDesk, ContractFuture, PAGE_ROWS_MAX, QuarantineView, Report, Row, SessionClaims, SortedRows, SweepView, X402Claims,
};
pub use config::{ChannelsConfig, EscrowSection, RailConfig, RailConfigError, SessionsConfig};
pub use facilitator::{Facilitator, FacilitatorRooms, FacilitatorTerms};
pub use metrics::EscrowMetrics;
pub use policy::policy_of;
pub use rail::{Parts, Rail};
pub use terms::{ForeignTerms, escrow_id, read_session_config, read_x402_config, session_config, x402_config};
