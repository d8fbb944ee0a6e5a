//! Amounts, identities, time and canonical bytes: the words every other crate speaks in.
//!
//! This crate knows no other crate of ours, does no I/O, reads no clock and draws no randomness.
//!
//! **Invariants.** Amounts are integers in the channel's own unit (nanos on the native rail, base units elsewhere); arithmetic on
//! them is checked and never rounds unless the name says `_down` or `_up`. Canonical bytes are big-endian.

#![warn(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::wildcard_enum_match_arm)]

mod amount;
mod asset;
mod id;
mod network;
mod time;
mod uint256;

pub use amount::{Amount, AmountError, CumulativeAmount, ParseAmountError, Price};
pub use asset::{AssetUnit, UnitError};
pub use id::{Address, BillHead, BookId, ChainId, ChannelId, EpochId, EscrowChannelId, Hash256, IdError, LedgerId, Reference, Tier};
pub use network::{Network, NetworkError};
pub use time::{BlockNumber, Timestamp};
pub use uint256::{ParseUintError, Uint256, parse_base_units};
