//! `millstream bench`: a node under load, measured from outside.
//!
//! The node runs as a process of its own and the load in this one, so the two can be told apart. The payers keep nothing of what they
//! sign, so only development chains are aimed at.

mod args;
mod channels;
mod metrics;
mod network;
mod scenario;
mod suite;
mod sweep;
mod view;

use std::time::Duration;

use millstream_load::ceilings::Ceilings;
use millstream_load::process::{self, Machine};
use millstream_load::report::{BenchReport, Failure, ScenarioReport};
use millstream_load::{LoadError, Payer};

use crate::context::Context;
use crate::error::{CliError, CliResult, Exit, chain_of};

pub use args::BenchArgs;

use self::network::Network;
use self::scenario::{Load, Scenario};

/// What one command works with.
struct Bench<'a> {
    context: &'a Context,
    args: &'a BenchArgs,
    network: Network,
    /// The channels that are open, with what was paid on them.
    payers: Vec<Payer>,
    ceilings: Ceilings,
    report: BenchReport,
}

/// Runs the command.
///
/// # Errors
/// What cannot be set up; a run that failed; or totals that differ, which is the one thing that must never happen.
pub async fn command(context: &Context, args: &BenchArgs) -> CliResult<()> {
    let stop = millstream_node::stop_signal()?;
    tokio::pin!(stop);
    let interrupted = || CliError::failed("interrupted", "interrupted: nothing is reported");
    let mut bench = tokio::select! {
        started = Bench::start(context, args) => started?,
        () = &mut stop => return Err(interrupted()),
    };
    let outcome = tokio::select! {
        outcome = bench.measure() => outcome,
        () = &mut stop => Err(interrupted()),
    };
    let report = bench.report.clone();
    bench.network.remove();
    outcome?;
    context.output.show(&view::BenchView(&report))?;
    let inexact: Vec<&str> = report.scenarios.iter().filter(|run| !run.exactness.holds).map(|run| run.name.as_str()).collect();
    if !inexact.is_empty() {
        let message = format!("the node's totals are not what it acknowledged: {}", inexact.join(", "));
        return Err(CliError::check_failed("totals_differ", message));
    }
    match report.failures.first() {
        None => Ok(()),
        Some(Failure { scenario, reason }) => Err(CliError::failed("bench_failed", format!("{scenario}: {reason}"))),
    }
}

impl<'a> Bench<'a> {
    async fn start(context: &'a Context, args: &'a BenchArgs) -> CliResult<Self> {
        if args.is_suite() {
            suite::check(args)?;
        }
        let network = Network::start(context, args).await?;
        context.output.note("measuring what this machine could do");
        let directory = network.measured_directory();
        let measured = tokio::task::spawn_blocking({
            let directory = directory.clone();
            move || Ceilings::measure(&directory)
        });
        let ceilings = match measured.await {
            Ok(Ok(ceilings)) => ceilings,
            Ok(Err(error)) => {
                network.remove();
                return Err(error.into());
            }
            Err(panic) => {
                network.remove();
                return Err(CliError::failed("internal", panic.to_string()));
            }
        };
        let report = BenchReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            build: crate::BUILD.to_owned(),
            durability: "each batch is synced before its frames are acknowledged".to_owned(),
            file_system: process::file_system(&directory),
            machine: Machine::this(),
            command: std::env::args().collect(),
            ceilings: ceilings.clone(),
            scenarios: Vec::new(),
            targets: Vec::new(),
            failures: Vec::new(),
        };
        Ok(Self { context, args, network, payers: Vec::new(), ceilings, report })
    }

    async fn measure(&mut self) -> CliResult<()> {
        if self.args.is_suite() {
            return suite::run(self).await;
        }
        let scenario = self.args.scenario()?;
        self.payers = self.network.open(scenario.channels, self.args, self.lines_max(std::slice::from_ref(&scenario))).await?;
        if self.args.sweeps() {
            return sweep::run(self, &scenario).await;
        }
        let report = self.run(&scenario).await?;
        self.report.scenarios.push(report);
        Ok(())
    }

    /// Lines that a channel has to have a deposit for, at most, over all of these runs.
    fn lines_max(&self, scenarios: &[Scenario]) -> u64 {
        let lines = scenarios.iter().map(|scenario| {
            let frames = scenario.frames_per_channel(self.args, &self.ceilings);
            frames.saturating_mul(scenario.lines as u64)
        });
        lines.fold(0, u64::saturating_add)
    }

    async fn run(&mut self, scenario: &Scenario) -> CliResult<ScenarioReport> {
        Load { bench: self, scenario }.run().await
    }

    fn note(&self, text: &str) {
        self.context.output.note(text);
    }
}

/// How long the node may take to see what is on its own machine's chain.
const PATIENCE: Duration = Duration::from_secs(120);

impl From<LoadError> for CliError {
    fn from(error: LoadError) -> Self {
        let message = chain_of(&error);
        match error {
            LoadError::Interrupted { source, .. } => Self { message, ..Self::from(*source) },
            LoadError::Setting { .. } | LoadError::FrameLimit { .. } => Self::usage("setting", message),
            LoadError::Rejected { code, .. } => Self::new(Exit::Refused, code.name(), message),
            LoadError::WrongAck { .. } => Self::check_failed("wrong_ack", message),
            LoadError::Channel { .. } => Self::refused("channel", message),
            LoadError::Connect(_) | LoadError::AttachTimeout { .. } | LoadError::Ended { .. } | LoadError::Stream { .. } => {
                Self::unavailable("node_unreachable", message)
            }
            LoadError::TooMuch { .. }
            | LoadError::Key(_)
            | LoadError::Sign(_)
            | LoadError::Lines(_)
            | LoadError::Encode(_)
            | LoadError::Endpoint(_)
            | LoadError::Message { .. }
            | LoadError::Unexpected { .. }
            | LoadError::File { .. }
            | LoadError::Internal { .. } => Self::failed("load", message),
        }
    }
}

#[cfg(test)]
mod tests {
    use millstream_load::LaneEnd;
    use millstream_types::ChannelId;

    use super::*;

    #[test]
    fn an_interrupted_load_fails_as_its_cause_does_and_tells_its_totals() {
        let cause = || LoadError::Ended { channel: ChannelId::from_uid(&[7; 31]) };
        let lanes = vec![LaneEnd { sent: 30, acked: 26 }, LaneEnd { sent: 12, acked: 11 }];
        let error = CliError::from(LoadError::Interrupted { lanes, source: Box::new(cause()) });
        assert_eq!((error.exit, error.code.as_str()), (Exit::Unavailable, "node_unreachable"));
        assert_eq!(error.message, format!("the load ended with 42 frames sent and 37 of them acknowledged: {}", cause()));
    }
}
