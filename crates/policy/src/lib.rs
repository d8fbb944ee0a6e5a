//! Who may spend what, and why not: one policy for payers and providers. Numbers `G-n` are rules of `docs/spec/policy.md`.
//!
//! A [`Policy`] is the rules, and never changes. A [`Ledger`] is what was held and spent under them, and what tripped, waits or was granted.
//! [`Ledger::ask`] decides one payment and holds what it may cost, [`Ledger::settle`] takes what it did cost, [`Ledger::end`] frees the rest.
//! Each gives the [`Change`]s of its records, which the caller writes in the same batch as the money.
//!
//! This crate knows no asker, no clock and no storage: time is an argument, and records are bytes.
//!
//! **Invariants.** What is held and spent of a budget never exceeds its maximum while the budget is enforced. A decision that refuses changes no
//! sum. The records of all changes, read back, are the same ledger ([`Ledger::from_records`]). A token that is not listed is refused, in every
//! mode.

#![warn(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::wildcard_enum_match_arm)]

mod ask;
mod breaker;
mod codec;
mod config;
mod decide;
mod decision;
mod error;
mod gauge;
mod ledger;
mod order;
mod orders;
mod pattern;
mod record;
mod rules;
mod window;

pub use ask::{Ask, AssetKey, Dimension, Ended, Scope, Subject};
pub use config::{
    BreakerConfig, BudgetConfig, CategoryConfig, ErrorsConfig, ListConfig, LoopConfig, PayeesConfig, PolicyConfig, PriceConfig, RateConfig,
    VelocityConfig, WhenConfig,
};
pub use decision::{Check, Decision, Reason, ReasonKind, Verdict};
pub use error::{ConfigError, LedgerError, RecordError};
pub use ledger::{Change, Counted, Ledger, Outcome};
pub use order::{
    ApprovalView, CheckView, CounterView, DecisionView, GrantView, OrderError, PauseView, PolicyOrder, PolicyReply, PolicyView, ReasonView,
};
pub use orders::{GrantOrder, Waiting};
pub use pattern::Pattern;
pub use record::{CounterKey, Grant, Hold, HoldState, Pause};
pub use rules::{AssetRules, Breakers, Budget, Lists, Mode, Policy, Rate, When};
pub use window::Window;
