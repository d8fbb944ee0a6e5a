//! `millstream channel exit`: out of a ledger without its provider.

use std::time::Duration;

use indicatif::ProgressBar;
use millstream_recovery::{EarlyExit, Exit, ExitOptions, ExitOutcome, ExitReport, ExitStep, ExitWay, RebuildOptions};
use millstream_types::{Amount, BlockNumber, ChannelId, Hash256, Timestamp};
use serde::Serialize;

use super::ExitArgs;
use crate::context::{self, Context};
use crate::error::{CliError, CliResult};
use crate::ledger::for_people;
use crate::output::{View, pairs};
use crate::{profile, progress, wallet};

/// How often `--wait` looks at the chain.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// The pause after an answer that may be another one next time.
const PAUSE: Duration = Duration::from_secs(1);

/// Where an exit stands. Amounts in nanos unless named otherwise.
#[derive(Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(crate) enum ExitView {
    /// The provider still has time.
    Waiting {
        channel: ChannelId,
        /// Unix seconds.
        deadline_secs: u64,
        /// Until then, by the chain's clock.
        remaining_secs: u64,
        /// What comes back if nothing is settled before then.
        expected: Amount,
    },
    /// The channel is closed and its money is out.
    Left {
        channel: ChannelId,
        deposited: Amount,
        settled: Amount,
        refunded: Amount,
        /// How the channel ended: `own_proof`, `others` when somebody else served the close, `cancelled` before it was in a book, `halt`.
        ended_by: &'static str,
        paid_base_units: u128,
        credit_left: Amount,
        transactions: Vec<Hash256>,
    },
}

pub(super) async fn run(context: &Context, args: &ExitArgs) -> CliResult<()> {
    let profile = context.profile()?;
    let ledger = context::ledger(&profile).await?;
    let secret = profile::read_secret(&profile.payer_key_file()?)?;
    let options = ExitOptions {
        rebuild: RebuildOptions { from: args.from_block.map(BlockNumber::new), ..RebuildOptions::default() },
        keys_dir: millstream_prover::default_keys_dir().map_err(|error| CliError::failed("keys_dir", error.to_string()))?,
        early: if args.wait { EarlyExit::Wait(LOOK_INTERVAL) } else { EarlyExit::Return },
        pause: PAUSE,
    };
    let spinner = progress::spinner(&context.output, "reading the chain");
    let outcome = go(context, args, Exit::new(ledger.clone(), wallet::lane(&ledger, &secret)?, options).await?, &spinner).await;
    spinner.finish_and_clear();
    let (channel, outcome) = outcome?;
    context.output.show(&ExitView::of(channel, &outcome))?;
    match outcome {
        ExitOutcome::Left(_) => Ok(()),
        ExitOutcome::Waiting { deadline, now, .. } => {
            let remaining = for_people(deadline.millis_since(now) / 1_000);
            Err(CliError::unavailable("exit_waits", format!("the provider has {remaining} left to serve the close"))
                .hint("run the command again after that; it continues from here"))
        }
    }
}

async fn go(context: &Context, args: &ExitArgs, mut exit: Exit, spinner: &ProgressBar) -> CliResult<(ChannelId, ExitOutcome)> {
    let channel = match args.channel.as_ref().and_then(super::ChannelPick::whole) {
        Some(channel) => channel,
        None => pick(args, &exit.channels().await?)?,
    };
    let outcome = exit
        .run(channel, &mut |step| {
            tell(context, spinner, step);
        })
        .await?;
    Ok((channel, outcome))
}

/// Says what happens, while it happens and afterwards.
pub(crate) fn tell(context: &Context, spinner: &ProgressBar, step: ExitStep) {
    spinner.set_message(doing(step));
    context.output.note(&done(step));
}

/// The channel that is meant, of those that are not closed.
fn pick(args: &ExitArgs, own: &[ChannelId]) -> CliResult<ChannelId> {
    match (&args.channel, own) {
        (Some(pick), _) => pick.among(own.iter().copied()),
        (None, [channel]) => Ok(*channel),
        (None, []) => Err(CliError::refused("no_channel", "the account has no channel on this ledger that is not closed")
            .hint("`millstream channel withdraw` pays out what closed channels gave back")),
        (None, several) => {
            Err(CliError::usage("channel_ambiguous", format!("the account has {} channels", several.len())).hint("name one with --channel"))
        }
    }
}

fn doing(step: ExitStep) -> &'static str {
    match step {
        ExitStep::CloseRequested { .. }
        | ExitStep::Overtaken { .. }
        | ExitStep::Registered { .. }
        | ExitStep::Cancelled { .. }
        | ExitStep::Halted { .. }
        | ExitStep::Left { .. } => "reading the chain",
        ExitStep::Waiting { .. } => "waiting for the provider's time to end",
        ExitStep::Proving { .. } => "proving and sending",
        ExitStep::Withdrawn { .. } => "checking",
    }
}

fn done(step: ExitStep) -> String {
    match step {
        ExitStep::CloseRequested { transaction } => format!("asked for the close: {transaction}"),
        ExitStep::Waiting { deadline } => format!("the provider has until {} (Unix seconds)", deadline.as_secs_down()),
        ExitStep::Proving { requests, left: 0 } => format!("proving {requests} requests, the close the last of them"),
        ExitStep::Proving { requests, left } => format!("proving {requests} requests; {left} more up to the close"),
        ExitStep::Overtaken { served } => format!("somebody served {served} requests meanwhile; proving again"),
        ExitStep::Registered { transaction, requests, gas_used } => format!("served {requests} requests for {gas_used} gas: {transaction}"),
        ExitStep::Cancelled { transaction } => format!("took the opening back: {transaction}"),
        ExitStep::Halted { transaction } => format!("halted the ledger: {transaction}"),
        ExitStep::Left { transaction } => format!("left the halted ledger: {transaction}"),
        ExitStep::Withdrawn { transaction, base_units } => format!("withdrew {base_units} base units: {transaction}"),
    }
}

impl ExitView {
    pub(crate) fn of(channel: ChannelId, outcome: &ExitOutcome) -> Self {
        match outcome {
            ExitOutcome::Waiting { deadline, now, expected } => Self::waiting(channel, *deadline, *now, *expected),
            ExitOutcome::Left(report) => Self::left(report),
        }
    }

    const fn waiting(channel: ChannelId, deadline: Timestamp, now: Timestamp, expected: Amount) -> Self {
        let remaining_secs = deadline.millis_since(now) / 1_000;
        Self::Waiting { channel, deadline_secs: deadline.as_secs_down(), remaining_secs, expected }
    }

    fn left(report: &ExitReport) -> Self {
        let ExitReport { channel, deposited, settled, refunded, way, paid_base_units, credit_left, transactions } = report.clone();
        let ended_by = match way {
            ExitWay::OwnProof => "own_proof",
            ExitWay::Others => "others",
            ExitWay::Cancelled => "cancelled",
            ExitWay::Halt => "halt",
        };
        Self::Left { channel, deposited, settled, refunded, ended_by, paid_base_units, credit_left, transactions }
    }
}

impl View for ExitView {
    fn table(&self) -> String {
        match self {
            Self::Waiting { channel, deadline_secs, remaining_secs, expected } => pairs([
                ("channel", channel.to_string()),
                ("provider's time", format!("until {deadline_secs} (Unix seconds), {} left", for_people(*remaining_secs))),
                ("comes back", format!("{} if nothing is settled until then", expected.to_tokens())),
            ]),
            Self::Left { channel, deposited, settled, refunded, ended_by, paid_base_units, credit_left, transactions } => pairs([
                ("channel", channel.to_string()),
                ("deposited", deposited.to_tokens()),
                ("settled", settled.to_tokens()),
                ("refunded", refunded.to_tokens()),
                ("ended by", ended_by_words(ended_by).to_owned()),
                ("paid out now", format!("{paid_base_units} base units")),
                ("credit left", credit_left.to_tokens()),
                ("transactions", transactions.iter().map(Hash256::to_string).collect::<Vec<_>>().join(" ")),
            ]),
        }
    }
}

fn ended_by_words(ended_by: &str) -> &'static str {
    match ended_by {
        "own_proof" => "its close, served by this account's own proof",
        "cancelled" => "taking its opening back: it was in no book",
        "halt" => "leaving the halted ledger",
        _ => "its close, served by somebody else",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_channel_need_not_be_named() {
        let [one, other] = [1, 2].map(|byte| ChannelId::from_uid(&[byte; 31]));
        let args =
            |channel: Option<&str>| ExitArgs { channel: channel.map(|text| text.parse().expect(text)), wait: false, from_block: None };
        let code = |channel: Option<&str>, own: &[ChannelId]| pick(&args(channel), own).map_err(|error| error.code);
        assert_eq!(code(None, &[one]), Ok(one));
        assert_eq!(code(None, &[]), Err("no_channel".to_owned()));
        assert_eq!(code(None, &[one, other]), Err("channel_ambiguous".to_owned()));
        assert_eq!(code(Some("0x0002"), &[one, other]), Ok(other));
    }

    #[test]
    fn a_waiting_exit_says_for_how_long() {
        let at = |secs: u64| Timestamp::from_millis(secs * 1_000);
        let view = ExitView::waiting(ChannelId::from_uid(&[1; 31]), at(100_000), at(13_600), Amount::from_nanos(1_500_000_000));
        assert!(
            view.table().contains("until 100000 (Unix seconds), 1 d left") && view.table().contains("1.5 if nothing"),
            "{}",
            view.table()
        );
        assert_eq!(serde_json::to_value(&view).expect("JSON")["state"], "waiting");
    }
}
