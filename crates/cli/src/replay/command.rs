//! `millstream replay`: the command line of a replay.

use core::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use millstream_billing::FRAME_LINES_MAX;

use super::{CHANNELS_MAX, Prices, ReplayOptions, ReplayProgress, ReplaySession, ReplaySnapshot, Source, Trace, Workload, WorkloadOptions};
use crate::context::Context;
use crate::error::{CliError, CliResult, chain_of};
use crate::{progress, values};

/// How often progress is drawn.
const DRAW_INTERVAL: Duration = Duration::from_millis(200);

/// Payments of a generated workload when no number is given.
const GENERATED_PAYMENTS: u64 = 1_000_000;

/// `replay`.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = "\
Each request pays for its context with one payment and for each generated token with one. Requests are dealt to the channels in turn.
A channel's payments are a fixed sequence made from the trace, the seed, the number of channels and the prices; run the same command again
and the replay goes on where each channel stopped, with nothing paid twice. A channel is opened with what it will pay as its deposit.

Without --trace, requests of the shape of production chat traffic are generated from the seed: about 5.4 a second, with contexts of about
1,190 tokens and answers of about 200.")]
pub struct ReplayArgs {
    /// Requests to replay: CSV with the header TIMESTAMP,ContextTokens,GeneratedTokens
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Channels, each an agent of its own
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=i64::from(CHANNELS_MAX)))]
    pub channels: u32,
    /// Multiple of real time; without it, as fast as the node takes payments
    #[arg(long, value_name = "X", value_parser = values::speed)]
    pub speed: Option<NonZeroU32>,
    /// Payments under one signature, 1 to 1024
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = values::frame_lines)]
    pub sign_every: usize,
    /// Sets replays of the same requests apart; the seed of generated ones
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
    /// End after so many payments; 1000000 for generated requests, all of a trace
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub payments: Option<u64>,
    /// Price of a million context tokens, in whole tokens of the ledger's currency
    #[arg(long, value_name = "PRICE", default_value = "0.15")]
    pub price_context: String,
    /// Price of a million generated tokens; a multiple of 0.001
    #[arg(long, value_name = "PRICE", default_value = "0.60")]
    pub price_generated: String,
    /// Settle on-chain afterwards, and check that the provider is credited exactly what the tokens cost
    #[arg(long)]
    pub settle: bool,
}

const _: () = assert!(FRAME_LINES_MAX == 1_024, "the help of --sign-every says so");

impl ReplayArgs {
    /// What the command line asks for; reads the trace.
    ///
    /// # Errors
    /// The trace or a price is wrong.
    pub fn options(&self) -> CliResult<ReplayOptions> {
        let prices = Prices::per_million(&self.price_context, &self.price_generated);
        let prices = prices.map_err(|error| {
            CliError::usage("price", chain_of(&error))
                .hint("prices are per million tokens; a generated token costs whole nanos, so a multiple of 0.001")
        })?;
        let (source, payments_max) = match &self.trace {
            Some(file) => {
                let trace = Trace::open(file);
                let trace = trace.map_err(|error| CliError::usage("trace", format!("{}: {}", file.display(), chain_of(&error))))?;
                (Source::Trace(trace), self.payments)
            }
            None => (Source::Generated, Some(self.payments.unwrap_or(GENERATED_PAYMENTS))),
        };
        let options = WorkloadOptions { source, seed: self.seed, channels: self.channels, prices, payments_max };
        let workload = Workload::new(&options).map_err(|error| CliError::usage("workload", error.to_string()))?;
        Ok(ReplayOptions { workload: Arc::new(workload), speed: self.speed, lines_per_signature: self.sign_every, settle: self.settle })
    }
}

/// Runs the command.
///
/// # Errors
/// What stopped the replay; running it again goes on from there.
pub async fn command(context: &Context, args: &ReplayArgs) -> CliResult<()> {
    let options = args.options()?;
    let session = ReplaySession::open(&context.profile()?, options.settle).await?;
    let counts = Arc::new(ReplayProgress::new()?);
    let bar = progress::payments(&context.output, options.workload.payments());
    let drawing = tokio::spawn({
        let (bar, counts) = (bar.clone(), Arc::clone(&counts));
        async move {
            loop {
                draw(&bar, &counts.snapshot());
                tokio::time::sleep(DRAW_INTERVAL).await;
            }
        }
    });
    let report = super::run(&session, &options, &counts).await;
    drawing.abort();
    bar.finish_and_clear();
    let report = report?;
    context.output.show(&report)?;
    report.require_holds()
}

fn draw(bar: &indicatif::ProgressBar, now: &ReplaySnapshot) {
    bar.set_position(now.payments_before.saturating_add(now.payments));
    if now.is_paid {
        bar.set_message(format!("{} paid; settling", now.paid.to_tokens()));
        return;
    }
    bar.set_message(format!(
        "{:.0}/s, {} paid, ack p50 {:.1} ms p99 {:.1} ms, {} reconnects",
        now.payments_per_second,
        now.paid.to_tokens(),
        now.ack_p50_ms,
        now.ack_p99_ms,
        now.reconnects
    ));
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: ReplayArgs,
    }

    fn options(line: &str) -> CliResult<ReplayOptions> {
        Line::try_parse_from(format!("replay {line}").split_whitespace()).expect(line).args.options()
    }

    #[test]
    fn the_defaults_are_a_generated_million() {
        let options = options("").expect("a workload");
        assert_eq!((options.workload.payments(), options.workload.channels.len()), (1_000_000, 16));
        assert_eq!((options.speed, options.lines_per_signature, options.settle), (None, 256, false));
    }

    #[test]
    fn a_trace_is_replayed_whole_or_cut() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("trace.csv");
        std::fs::write(&file, "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,10,5\n2023-11-16 18:15:47,1,3\n")
            .expect("written");
        let payments =
            |more: &str| options(&format!("--trace {} --channels 2 {more}", file.display())).map(|options| options.workload.payments());
        assert_eq!(payments(""), Ok(10));
        assert_eq!(payments("--payments 8"), Ok(8));
        std::fs::write(&file, "TIMESTAMP,ContextTokens,GeneratedTokens\nx,10,5\n").expect("written");
        let error = payments("").expect_err("no time");
        assert!(error.message.contains("trace.csv: line 2: TIMESTAMP"), "{}", error.message);
    }

    #[test]
    fn wrong_prices_say_what_is_right() {
        assert_eq!(options("--price-generated 0.0001").expect_err("a tenth of a nano").code, "price");
        assert_eq!(options("--price-context x").expect_err("no number").code, "price");
    }
}
