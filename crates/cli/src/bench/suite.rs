//! Every figure that the product promises, each on a node that was started empty.

use std::time::Duration;

use millstream_load::Schedule;
use millstream_load::ceilings::PACE;
use millstream_load::driver::Mode;
use millstream_load::report::{Better, Failure, ScenarioReport, TargetRow};

use super::scenario::Scenario;
use super::{Bench, BenchArgs};
use crate::error::{CliError, CliResult};

/// The rows, in order. The load at 70 % needs the rate of the first.
const NAMES: [&str; 10] = [
    "saturated_256",
    "saturated_64",
    "saturated_1",
    "offered_500k",
    "offered_70",
    "idle",
    "connections_10k",
    "restart",
    "disk",
    "settling",
];

/// The part of the saturated rate that is offered for the latency under load, in percent.
const LOADED_PERCENT: u64 = 70;

/// Channels known in the restart.
const KNOWN_CHANNELS: u32 = 1_000_000;

/// Rows of the suite with what they need.
fn scenario(name: &str, args: &BenchArgs, saturated: f64) -> CliResult<Scenario> {
    let (short, usual) = (Duration::from_secs(1), Duration::from_secs(2));
    let base = |lines: usize, channels: usize, mode: Mode| Scenario {
        name: name.to_owned(),
        lines,
        channels,
        connections: channels,
        known_channels: 0,
        mode,
        is_settling: false,
        warmup: args.warmup.unwrap_or(usual),
        duration: args.duration.unwrap_or(Duration::from_secs(10)),
    };
    let closed = Mode::Saturated { in_flight: args.in_flight.unwrap_or(4) };
    let open = |channels: usize, lines: usize, rate: u64| Schedule::new(channels, lines, rate).map(Mode::Offered);
    Ok(match name {
        "saturated_256" => base(256, 64, closed),
        "saturated_64" => base(64, 1_000, closed),
        // Of one payment many fit: as many as the node allows.
        "saturated_1" => base(1, 100, Mode::Saturated { in_flight: args.in_flight.unwrap_or(16) }),
        "offered_500k" => base(64, 100, open(100, 64, 500_000)?),
        "offered_70" => base(256, 64, open(64, 256, (saturated * LOADED_PERCENT as f64 / 100.0) as u64)?),
        "idle" => base(1, 1, Mode::OneAtATime { pause: PACE }),
        "connections_10k" => base(64, 10_000, open(10_000, 64, 100_000)?),
        "restart" => {
            // Restarting is what is measured; a little load shows that the node works then.
            Scenario { known_channels: KNOWN_CHANNELS, warmup: short, duration: usual, ..base(64, 1, open(1, 64, 64_000)?) }
        }
        // Enough lines that what a database has at least does not count.
        "disk" => base(64, 100, open(100, 64, 500_000)?),
        // A book of 96 full of channels that pay, so that each proof is of all of them; long enough for several.
        "settling" => Scenario {
            is_settling: true,
            duration: args.duration.unwrap_or(Duration::from_secs(30)),
            ..base(64, 96, open(96, 64, 100_000)?)
        },
        _ => {
            let message = format!("the suite has no scenario {name}; it has {}", NAMES.join(", "));
            return Err(CliError::usage("no_such_scenario", message));
        }
    })
}

/// Whether the rows that are asked for exist.
pub(super) fn check(args: &BenchArgs) -> CliResult<()> {
    args.only.as_deref().map_or(Ok(()), |name| scenario(name, args, 1_000_000.0).map(drop))
}

/// Runs the rows that are asked for, in order. A row that cannot run is a failure in the report, and the others run all the same.
pub(super) async fn run(bench: &mut Bench<'_>) -> CliResult<()> {
    let wanted: Vec<&str> = match &bench.args.only {
        None => NAMES.to_vec(),
        // The rate that the load is a part of.
        Some(only) if only == "offered_70" => vec!["saturated_256", "offered_70"],
        Some(only) => vec![only.as_str()],
    };
    let mut scenarios = Vec::new();
    for name in &wanted {
        // Any rate does to count the channels.
        scenarios.push(scenario(name, bench.args, 1_000_000.0)?);
    }
    let channels = scenarios.iter().map(|scenario| scenario.channels).max().unwrap_or(1);
    bench.payers = bench.network.open(channels, bench.args, bench.lines_max(&scenarios)).await?;
    let mut saturated = 0.0;
    for name in wanted {
        if name == "offered_70" && saturated == 0.0 {
            let reason = "the saturated rate is not known".to_owned();
            bench.report.failures.push(Failure { scenario: name.to_owned(), reason });
            continue;
        }
        let scenario = scenario(name, bench.args, saturated)?;
        match bench.run(&scenario).await {
            Ok(report) => {
                if name == "saturated_256" {
                    saturated = report.payments_per_second;
                }
                bench.report.targets.extend(targets(&report, &bench.report.ceilings));
                bench.report.scenarios.push(report);
            }
            Err(error) => bench.report.failures.push(Failure { scenario: name.to_owned(), reason: error.message }),
        }
    }
    Ok(())
}

/// What a row promises, against what it did.
fn targets(report: &ScenarioReport, ceilings: &millstream_load::ceilings::Ceilings) -> Vec<TargetRow> {
    let name = report.name.as_str();
    let row = |what: &str, better, target, figure, unit: &str| TargetRow::new(name, what, better, target, figure, unit);
    let rate = |target| row("payments acknowledged", Better::More, target, report.payments_per_second, "1/s");
    let latency = &report.latency;
    let p50 = |target| row("p50", Better::Less, target, latency.p50_ms, "ms");
    let p99 = |target| row("p99", Better::Less, target, latency.p99_ms, "ms");
    match name {
        "saturated_256" | "saturated_64" => vec![rate(1_000_000.0)],
        "saturated_1" => vec![rate(if ceilings.checker == "scalar" { 30_000.0 } else { 100_000.0 })],
        "offered_500k" => vec![p50(1.5), p99(10.0)],
        "offered_70" => vec![p50(10.0), p99(50.0)],
        "idle" => vec![p50(2.0 * ceilings.paced_sync_p50_us / 1e3)],
        "settling" => vec![p99(50.0)],
        "connections_10k" => {
            let memory = report.node_rss_bytes_per_connection.unwrap_or(f64::INFINITY) / 1024.0;
            vec![p99(50.0), row("memory of a connection", Better::Less, 40.0, memory, "KiB")]
        }
        "restart" => {
            let seconds = report.node_start_seconds.unwrap_or(f64::INFINITY);
            vec![row("from the start to listening", Better::Less, 5.0, seconds, "s")]
        }
        "disk" => {
            let factor = report.disk.as_ref().and_then(|disk| disk.directory_to_lines).unwrap_or(f64::INFINITY);
            vec![row("data directory over lines", Better::Less, 1.3, factor, "x")]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use millstream_load::ceilings::Ceilings;

    use super::*;
    use crate::bench::args::tests::args;

    #[test]
    fn every_row_is_a_scenario_with_a_target() {
        let args = args("");
        for name in NAMES {
            let scenario = scenario(name, &args, 1e6).expect(name);
            assert!(scenario.connections <= scenario.channels && scenario.connections <= 10_000, "{name}");
            let report = ScenarioReport { name: name.to_owned(), ..ScenarioReport::default() };
            assert!(!targets(&report, &Ceilings::default()).is_empty(), "{name}");
        }
        assert_eq!(scenario("other", &args, 1.0).expect_err("none").code, "no_such_scenario");
    }
}
