//! `millstream ledger leave`: out of a halted ledger, with nothing but the chain.

use std::time::Duration;

use millstream_recovery::{EarlyExit, Exit, ExitOptions, ExitOutcome, HaltChoice, RebuildOptions};
use millstream_types::BlockNumber;
use serde::Serialize;

use super::LeaveArgs;
use crate::channel::exit::{ExitView, tell};
use crate::context::{self, Context};
use crate::error::{CliError, CliResult};
use crate::output::View;
use crate::{profile, progress, wallet};

/// The pause after an answer that may be another one next time.
const PAUSE: Duration = Duration::from_secs(1);

/// The channels that left, in the order of their ids.
#[derive(Serialize)]
#[serde(transparent)]
struct LeftView(Vec<ExitView>);

pub(super) async fn run(context: &Context, args: &LeaveArgs) -> CliResult<()> {
    let profile = context.profile()?;
    let ledger = context::ledger(&profile).await?;
    let secret = profile::read_secret(&profile.payer_key_file()?)?;
    let options = ExitOptions {
        rebuild: RebuildOptions { from: args.from_block.map(BlockNumber::new), ..RebuildOptions::default() },
        keys_dir: millstream_prover::default_keys_dir().map_err(|error| CliError::failed("keys_dir", error.to_string()))?,
        early: EarlyExit::Return,
        pause: PAUSE,
    };
    let spinner = progress::spinner(&context.output, "reading the chain");
    let left = async {
        let mut exit = Exit::new(ledger.clone(), wallet::lane(&ledger, &secret)?, options).await?;
        let own = exit.channels().await?;
        let channels = match &args.channel {
            Some(pick) => vec![pick.among(own)?],
            None => own,
        };
        let halt = if args.halt { HaltChoice::WhenPossible } else { HaltChoice::Never };
        let mut left = Vec::new();
        for channel in channels {
            let outcome: ExitOutcome = exit.leave(channel, halt, &mut |step| tell(context, &spinner, step)).await?;
            left.push(ExitView::of(channel, &outcome));
        }
        CliResult::Ok(left)
    };
    let left = left.await;
    spinner.finish_and_clear();
    context.output.show(&LeftView(left?))
}

impl View for LeftView {
    fn table(&self) -> String {
        if self.0.is_empty() {
            return "the account has no channel on this ledger that is not closed".to_owned();
        }
        self.0.iter().map(View::table).collect::<Vec<_>>().join("\n\n")
    }
}
