//! `millstream pay`: payments on one channel, the same amount many times, or line by line from standard input; or one request to a URL.

mod input;
mod url;

use std::io;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::ProgressBar;
use millstream_billing::Line;
use millstream_client::{ChannelHandle, ChannelSummary, PayOptions, StateDb};
use millstream_types::{Amount, ChannelId};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::channel::ChannelPick;
use crate::context::{self, Context};
use crate::error::{CliError, CliResult};
use crate::output::{View, pairs};
use crate::{payer, progress, values};

use input::{LineReader, References};
use url::UrlArgs;

/// Payments that are prepared and handed over at a time.
const SLICE_LINES: usize = 1_024;

/// Slices of input that wait to be paid.
const SLICES_QUEUED: usize = 4;

/// `pay`.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = "\
Without --amount, payments are read from standard input, a line each: amount[,reference]. An amount is in whole tokens, such as 0.00000015;
a reference is 32 hexadecimal digits, a UUID or a ULID. Payments go out as lines arrive.")]
pub struct PayArgs {
    /// The channel: its id, or enough of its first digits; not needed when there is only one
    #[arg(long, value_name = "CHANNEL")]
    pub channel: Option<ChannelPick>,
    /// Pay this much with each payment, in whole tokens
    #[arg(long, value_name = "AMOUNT", value_parser = values::tokens)]
    pub amount: Option<Amount>,
    /// How many payments
    #[arg(long, value_name = "N", requires = "amount", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub count: u64,
    /// Payments under one signature, 1 to 1024
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = values::frame_lines)]
    pub sign_every: usize,
    /// Give up when the node does not take or confirm payments for so long
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    pub wait: u64,
    /// A request that is paid for.
    #[command(flatten)]
    pub url: UrlArgs,
}

/// What was paid. Amounts in nanos.
#[derive(Clone, Debug, Serialize)]
struct PaidView {
    channel: ChannelId,
    /// Of this command.
    payments: u64,
    /// Of this command.
    paid: Amount,
    /// Of the channel, since it was opened.
    lines_total: u64,
    /// Of the channel, since it was opened.
    cumulative: Amount,
    deposit: Amount,
    /// What the deposit leaves to be paid.
    available: Amount,
    seconds: f64,
}

/// Runs the command.
///
/// # Errors
/// What stopped the payments; the message says how much was paid.
pub async fn run(context: &Context, args: &PayArgs) -> CliResult<()> {
    if let Some(url) = &args.url.url {
        return url::run(context, &args.url, url).await;
    }
    let profile = context.profile()?;
    let state = payer::open_state(&profile)?;
    let channel = choose(&state, args.channel.as_ref())?;
    let key = if channel.key_stored { None } else { Some(context::wallet(&profile).await?.key_of(&channel)?) };
    let wait = Duration::from_secs(args.wait);
    let client = payer::connect(&profile, state, None).await?;
    let options = PayOptions { frame_lines: args.sign_every, ..PayOptions::default() };
    let handle = payer::attach(&client, channel.terms.uid(), key, options, wait).await?;
    let before = handle.position().signed;
    let started = Instant::now();
    let bar = match args.amount {
        Some(_) => progress::payments(&context.output, args.count),
        None => progress::spinner(&context.output, "paying what arrives on standard input"),
    };
    let till = Till { handle: &handle, wait, bar: &bar };
    let outcome = match args.amount {
        Some(amount) => till.pay_equal(amount, args.count).await,
        None => till.pay_input().await,
    };
    // What was taken before a failure is signed and paid all the same.
    let flushed = till.within(handle.flush()).await;
    bar.finish_and_clear();
    let position = handle.position();
    let cumulative = position.acked.cumulative.as_amount();
    let view = PaidView {
        channel: handle.id(),
        payments: position.acked.lines_total.saturating_sub(before.lines_total),
        paid: position.acked.cumulative.delta_since(before.cumulative).unwrap_or(Amount::ZERO),
        lines_total: position.acked.lines_total,
        cumulative,
        deposit: position.deposit,
        available: position.deposit.checked_sub(cumulative).unwrap_or(Amount::ZERO),
        seconds: started.elapsed().as_secs_f64(),
    };
    if let Err(error) = outcome.and(flushed.and_then(|flushed| Ok(flushed.map(drop)?))) {
        let message = format!("{} ({} payments of this command are paid, {} in all)", error.message, view.payments, view.paid.to_tokens());
        return Err(CliError { message, ..error });
    }
    if let Err(error) = handle.close().await {
        tracing::warn!(%error, "the channel did not close in order");
    }
    client.close().await;
    context.output.show(&view)
}

/// The channel that is named, or the only one there is.
fn choose(state: &StateDb, pick: Option<&ChannelPick>) -> CliResult<ChannelSummary> {
    let mut channels = state.channels()?;
    match pick {
        Some(pick) => {
            let channel = pick.among(channels.iter().map(|channel| channel.terms.uid()))?;
            channels.retain(|known| known.terms.uid() == channel);
        }
        None if channels.len() > 1 => {
            let message = format!("the state has {} channels: name one with --channel", channels.len());
            return Err(CliError::usage("channel_ambiguous", message).hint("see `millstream channel list`"));
        }
        None => {}
    }
    channels.pop().ok_or_else(|| {
        CliError::usage("channel_unknown", "there is no channel to pay on").hint("open one with `millstream channel open --deposit AMOUNT`")
    })
}

/// Hands payments over.
struct Till<'a> {
    handle: &'a ChannelHandle,
    wait: Duration,
    bar: &'a ProgressBar,
}

impl Till<'_> {
    async fn pay_equal(&self, amount: Amount, count: u64) -> CliResult<()> {
        let mut references = References::random()?;
        let mut left = count;
        while left > 0 {
            let slice = usize::try_from(left).map_or(SLICE_LINES, |left| left.min(SLICE_LINES));
            let lines: Vec<Line> = (0..slice).map(|_| references.line(amount)).collect();
            self.pay(&lines).await?;
            left = left.saturating_sub(slice as u64);
        }
        Ok(())
    }

    async fn pay_input(&self) -> CliResult<()> {
        let (sender, mut slices) = mpsc::channel(SLICES_QUEUED);
        let mut reader = LineReader::new(io::stdin(), References::random()?);
        // Reading blocks. The thread ends with the input, or with the first slice that nobody takes any more.
        let reading = tokio::task::spawn_blocking(move || {
            while let Some(batch) = reader.next_batch(SLICE_LINES)? {
                if sender.blocking_send(batch).is_err() {
                    break;
                }
            }
            CliResult::Ok(())
        });
        while let Some(lines) = slices.recv().await {
            self.pay(&lines).await?;
        }
        reading.await.map_err(|error| CliError::failed("input", error.to_string()))?
    }

    async fn pay(&self, lines: &[Line]) -> CliResult<()> {
        self.within(self.handle.pay_lines(lines)).await??;
        self.bar.inc(lines.len() as u64);
        Ok(())
    }

    /// Waits for the node, but not for ever.
    async fn within<T>(&self, waiting: impl Future<Output = T>) -> CliResult<T> {
        tokio::time::timeout(self.wait, waiting).await.map_err(|_| {
            let message = format!("the node did not answer within {} seconds", self.wait.as_secs());
            CliError::unavailable("node_stalled", message)
                .hint("what was signed is kept in the state and goes out with the next payment on this channel")
        })
    }
}

impl View for PaidView {
    fn table(&self) -> String {
        pairs([
            ("channel", self.channel.to_string()),
            ("payments", format!("{}, {} in all", self.payments, self.lines_total)),
            ("paid", format!("{}, {} in all", self.paid.to_tokens(), self.cumulative.to_tokens())),
            ("available", format!("{} of {}", self.available.to_tokens(), self.deposit.to_tokens())),
            ("time", format!("{:.2} s", self.seconds)),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_paid_is_said_for_the_command_and_the_channel() {
        let view = PaidView {
            channel: ChannelId::from_uid(&[1; 31]),
            payments: 10,
            paid: Amount::from_nanos(1_500),
            lines_total: 110,
            cumulative: Amount::from_nanos(16_500),
            deposit: Amount::from_nanos(1_000_000_000),
            available: Amount::from_nanos(999_983_500),
            seconds: 0.25,
        };
        let expected = "payments   10, 110 in all\npaid       0.0000015, 0.0000165 in all\navailable  0.9999835 of 1\ntime       0.25 s";
        assert_eq!(view.table().split_once('\n').expect("lines").1, expected);
    }

    #[test]
    fn without_a_channel_there_is_nothing_to_pay_on() {
        let directory = tempfile::tempdir().expect("a directory");
        let state = StateDb::open(&directory.path().join("payer.redb")).expect("a state");
        assert_eq!(choose(&state, None).expect_err("none").code, "channel_unknown");
        assert_eq!(choose(&state, Some(&"0x00".parse().expect("digits"))).expect_err("none").code, "channel_unknown");
    }
}
