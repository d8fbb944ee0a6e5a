//! The wire formats of HTTP 402: what x402 and MPP put into headers and bodies, for providers, payers and facilitators.
//!
//! Strings and bytes in, typed values out, and back. This crate opens no socket, knows no HTTP library, no engine and no store, reads no
//! clock and draws no randomness. Rules: `docs/spec/http402.md`; the numbers `H-n` in item docs are its requirements. Signatures are not
//! checked here: what a payload says becomes a statement of [`millstream_voucher::evm`], which checks itself.
//!
//! An envelope keeps what the other side has to get back unchanged, so it is lenient: amounts and networks of a scheme that is not ours
//! stay text. A scheme's own view of it is strict: addresses are addresses, amounts are integers of base units.
//!
//! **Invariants.** What is written can be read, and reads the same. No input makes a reader panic or allocate much more than the input;
//! every length and depth has a named limit. No amount is ever a float, signed, rounded, or written with leading zeros.

#![warn(clippy::as_conversions, clippy::arithmetic_side_effects, clippy::wildcard_enum_match_arm)]

mod codec;
mod error;
mod fields;
mod json;
pub mod limits;
pub mod mpp;
pub mod x402;

pub use error::DialectError;
pub use json::{Object, canonical_json};
