//! `millstream gateway`: sells any HTTP service for payments of HTTP 402, and what its operator asks of a running one.
//!
//! `settings` reads what the operator wants; `ready` compares it with the chain and fills in what only the chain knows; `run` starts node, rail
//! and gateway, and stops them in order; `operate` asks the admin listener of a running one.

mod args;
mod cards;
mod operate;
mod ready;
mod run;
mod settings;

pub use args::{AskArgs, ClaimArgs, GatewayArgs, GatewayCommand, ReleaseArgs, RoutePrice, RunArgs};
pub(crate) use operate::admin;
pub use operate::{ClaimUnderWay, Claimable, ClaimableChannel, Claimed, EscrowStatus, EscrowSums, Quarantined, SweepState};
pub use run::{Selling, Sold};
pub(crate) use settings::Settings;

use crate::context::Context;
use crate::error::CliResult;

/// Runs the command.
///
/// # Errors
/// What is wrong, what failed, or what the running gateway refuses.
pub async fn command(context: &Context, args: &GatewayArgs) -> CliResult<()> {
    match &args.command {
        None => run::run(context, &args.run).await,
        Some(GatewayCommand::Status(args)) => operate::status(context, args).await,
        Some(GatewayCommand::Claim(args)) => operate::claim(context, args).await,
        Some(GatewayCommand::Release(args)) => operate::release(context, args).await,
    }
}
