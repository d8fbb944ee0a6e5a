//! `millstream receipt` and `millstream statement`: what finance asks, and what anybody can check without the provider.

mod check;
mod moment;
pub mod receipt;
mod reconcile;
mod render;
pub mod statement;

use clap::Args;
use millstream_types::{Address, Amount};
use serde::{Deserialize, Serialize};

use crate::admin::Admin;
use crate::context::{self, Context};
use crate::error::CliResult;
use crate::gateway::ADMIN_LISTEN;

/// Bytes of a statement that is read, at most: its rows are bounded, and so are their proofs.
const DOCUMENT_BYTES_MAX: u64 = 256 << 20;

/// Which node or gateway is asked.
#[derive(Args, Clone, Debug, Default)]
pub struct AskArgs {
    /// The admin listener; the profile's gateway.admin_url or admin_url without this, else http://127.0.0.1:4403
    #[arg(long, value_name = "URL")]
    pub admin: Option<String>,
}

impl AskArgs {
    fn connect(&self, context: &Context) -> CliResult<Admin> {
        if let Some(url) = &self.admin {
            return context::admin_named("--admin", url);
        }
        let profile = context.profile_if_any()?;
        let gateway = profile.as_ref().and_then(|profile| profile.gateway.admin_url.clone());
        let node = || profile.as_ref().and_then(|profile| profile.admin_url().ok().map(str::to_owned));
        Admin::new(&gateway.or_else(node).unwrap_or_else(|| format!("http://{ADMIN_LISTEN}")))
    }
}

/// `GET /books`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// The account of the key that signs receipts and statements.
    pub key: Address,
    /// Number of the last batch.
    pub batch: u64,
    /// The link up to and with it.
    pub link: millstream_types::Hash256,
    /// Charges of HTTP 402 so far.
    pub charges: u64,
}

/// One of `GET /books/tallies`, of all payers and routes together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Milliseconds of Unix time at which the hour or the day begins.
    pub start_millis: u64,
    /// The token, or the ledger whose nanos they are.
    pub asset: Address,
    /// Charges of HTTP 402.
    pub charges: u64,
    /// Lines of the native protocol.
    pub lines: u64,
    /// Reservations that ended without a charge.
    pub voids: u64,
    /// What was charged.
    pub amount: Amount,
    /// Charges that were taken back.
    pub reversals: u64,
    /// What was taken back; not taken off the amount.
    pub reversed: Amount,
}
