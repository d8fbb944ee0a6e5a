//! What a use of something costs: units, prices, usage, and the exact cost.
//!
//! This crate knows no HTTP and no storage. It reads prices from text, and computes.
//!
//! **Invariants.** Everything is an integer. A price is refused when it is not a whole number of *attos* (10^-18 of a base unit) for one unit,
//! so a [`Cost`] is always exact. A cost is rounded once, when it is charged ([`Carry::charge_up`]), up; what the payer paid too much is carried
//! on, so that many small charges come to exactly what one large charge would.

#![warn(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::wildcard_enum_match_arm)]

mod cost;
mod error;
mod number;
mod price;
mod tariff;
mod token;
mod unit;
mod usage;

pub use cost::{ATTOS_PER_BASE_UNIT, Carry, Cost};
pub use error::{CostError, PriceError};
pub use price::{Price, Rate};
pub use tariff::{Tariff, TariffVersion};
pub use token::Token;
pub use unit::Unit;
pub use usage::Usage;
