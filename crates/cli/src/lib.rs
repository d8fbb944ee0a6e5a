//! The `millstream` binary, as a library for its own commands and for tests.

pub mod admin;
pub mod args;
pub mod bench;
pub mod books;
pub mod ceremony;
pub mod channel;
pub mod config;
pub mod context;
pub mod database;
pub mod demo;
pub mod deploy;
pub mod dev;
pub mod doctor;
mod document;
pub mod error;
pub mod examples;
pub mod gateway;
pub mod init;
pub mod keys;
pub mod ledger;
pub mod logging;
pub mod manual;
pub mod node;
pub mod output;
pub mod pay;
pub mod payer;
pub mod profile;
pub mod progress;
pub mod proof;
pub mod ratecard;
pub mod replay;
pub mod settle;
pub mod spend;
pub mod status;
pub mod token;
pub mod top;
pub mod values;
pub mod wallet;

/// How this binary was built; the node of a demo or a bench is the same file.
pub(crate) const BUILD: &str = if cfg!(debug_assertions) { "development build" } else { "release build" };
