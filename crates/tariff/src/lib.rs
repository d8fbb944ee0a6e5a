//! What a use of something costs: units, prices, rate cards, usage, and the exact cost.
//!
//! This crate knows no HTTP, no keys and no storage. It reads prices from text and cards from what a file has, and computes. The rules are
//! `docs/spec/tariff.md`.
//!
//! **Invariants.** Everything is an integer. A price is refused when it is not a whole number of *attos* (10^-18 of a base unit) for one unit, and so
//! is a discount that would leave something else; so a [`Cost`] is always exact. A cost is rounded once, when it is charged ([`Carry::charge_up`]),
//! up; what the payer paid too much is carried on, so that many small charges come to exactly what one large charge would.

#![warn(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::wildcard_enum_match_arm)]

mod account;
mod backtest;
mod card;
mod cost;
mod credit;
mod diff;
mod discount;
mod error;
mod file;
mod moment;
mod number;
mod percent;
mod price;
mod refund;
mod schedule;
mod split;
mod tariff;
mod token;
mod unit;
mod usage;
mod wide;

pub use account::{Account, Charged};
pub use backtest::ThreeSums;
pub use card::{Entry, ModelPattern, NotSold, RateCard};
pub use cost::{ATTOS_PER_BASE_UNIT, Carry, Cost};
pub use credit::{Credit, Promo};
pub use diff::{Change, differences};
pub use discount::{Discount, DiscountOf, History};
pub use error::{CardError, CostError, PriceError};
pub use file::{
    CardFile, CardSection, CreditSection, DiscountKind, DiscountSection, EntrySection, SignatureSection, SplitSection, TierSection,
    TiersOver,
};
pub use moment::{Period, moment};
pub use percent::Percent;
pub use price::{Price, Rate};
pub use refund::{Refund, RefundReason, Refundable};
pub use schedule::{Schedule, Step};
pub use split::{PAYEES_MAX, Payee, Share, SplitBook, SplitError, Splits};
pub use tariff::{Tariff, TariffVersion};
pub use token::Token;
pub use unit::Unit;
pub use usage::Usage;
