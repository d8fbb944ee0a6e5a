//! What anyone can do from the chain alone: rebuild a ledger's books, audit them, and leave without the provider.
//!
//! Knows the chain's client, the circuits and the prover; knows no node, no store and no transport: nothing here needs the provider's help, or
//! a database of ours. What is rebuilt is compared with what the contract says, so an endpoint that leaves out or changes logs is found
//! out; one that makes up a whole chain is not.
//!
//! - [`RebuiltLedger`] applies events to books, channels, the queue and credits. It does no I/O.
//! - [`Rebuild`] reads the events from the chain, and compares the result with the contract at one block.
//! - [`audit`] says what is wrong with a ledger.
//! - [`Exit`] takes a payer out of a ledger whose provider does not answer.
//!
//! **Invariants.** After each event that tells a root the rebuilt book has that root. Every step of an exit may be repeated: what to do next
//! is read from the chain each time. The payer receives what was deposited and not settled, to the last base unit.
//!
//! Spec: `docs/spec/ledger.md`.

#![allow(clippy::result_large_err, reason = "an error of the chain is large, and rare beside what it costs to get one")]

mod audit;
mod error;
mod exit;
mod rebuild;
mod serve;
mod state;

pub use audit::{AuditOptions, AuditReport, Finding, KeyOrigin, LateRequest, Severity, TierReport, Totals, audit};
pub use error::{ExitError, RebuildError, ServeError};
pub use exit::{EarlyExit, Exit, ExitOptions, ExitOutcome, ExitReport, ExitStep, ExitWay, HaltChoice};
pub use rebuild::{Rebuild, RebuildOptions, RebuildProgress};
pub use serve::{Served, Server, plan_requests};
pub use state::{AnchoredEpoch, Asked, ChannelPlace, RebuiltChannel, RebuiltLedger, RebuiltRequest, ServedAt};
