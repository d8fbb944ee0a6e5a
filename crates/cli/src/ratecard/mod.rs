//! `millstream ratecard`: prices as signed files, from the first draft to what a running gateway sells by.
//!
//! `file` reads, checks and signs cards; `publish` brings them into use; `backtest` says what they would have earned.

mod args;
mod backtest;
mod file;
mod publish;
mod template;

pub use args::{BacktestArgs, DiffArgs, LintArgs, ListArgs, NewArgs, PublishArgs, RatecardCommand, ShowArgs, SignArgs};

pub(crate) use publish::published;
pub use publish::{CardView, PublishedCard};
pub(crate) use template::now;

use crate::context::Context;
use crate::error::CliResult;

/// Runs the command.
///
/// # Errors
/// What is wrong with a card, or why it is not taken.
pub async fn run(context: &Context, command: &RatecardCommand) -> CliResult<()> {
    match command {
        RatecardCommand::New(args) => template::new(context, args),
        RatecardCommand::Lint(args) => file::lint(context, args),
        RatecardCommand::Sign(args) => file::sign(context, args),
        RatecardCommand::Publish(args) => publish::publish(context, args).await,
        RatecardCommand::List(args) => publish::list(context, args).await,
        RatecardCommand::Show(args) => publish::show(context, args).await,
        RatecardCommand::Diff(args) => publish::diff(context, args).await,
        RatecardCommand::Backtest(args) => backtest::backtest(context, args),
    }
}
