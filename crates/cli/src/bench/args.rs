//! The command line of a bench.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use millstream_load::Schedule;
use millstream_load::driver::Mode;

use super::scenario::Scenario;
use crate::error::CliResult;
use crate::values;

/// Loads of a sweep when none are named, in percent of the saturated rate.
const SWEEP: &str = "10,30,50,70,90,100,110";

/// `millstream bench`.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = "\
Without options that describe a load, the whole suite runs: every figure that the product promises, with its target.

A load is closed by default: as many frames under way on each channel as --in-flight says, the next as soon as one is acknowledged. That is
how the most that the node takes is found. With --rate it is open: frames are due by a fixed schedule, and the latency of a frame counts from
the time it was due, also when it could not be sent then.

Every frame is signed before the clock starts, because signing costs as much as checking and would be measured instead.

With --profile the node of a running network is measured instead of one of its own. Only development chains are aimed at, because the payers
of a bench keep nothing of what they sign.")]
pub struct BenchArgs {
    /// Payments under one signature, 1 to 1024 [default: 256]
    #[arg(long, value_name = "N", value_parser = values::frame_lines)]
    pub lines: Option<usize>,
    /// Channels that pay [default: as many as connections, else 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub channels: Option<u32>,
    /// Connections that the channels are dealt to, 1 to 10000 [default: as many as channels]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub connections: Option<u32>,
    /// Payments a second to offer, whatever the node does; without it, as many as the node takes
    #[arg(long, value_name = "PAYMENTS", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000), conflicts_with_all = ["in_flight", "one_at_a_time"])]
    pub rate: Option<u64>,
    /// Frames under way on each channel of a closed loop [default: 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1_024))]
    pub in_flight: Option<u16>,
    /// One frame on each channel: send, wait for the ack, pause for so many milliseconds, repeat
    #[arg(long, value_name = "MILLIS", value_parser = clap::value_parser!(u64).range(1..=60_000), conflicts_with = "in_flight")]
    pub one_at_a_time: Option<u64>,
    /// Seconds that count [default: 10]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub duration: Option<Duration>,
    /// Seconds of load before those that count [default: 2]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub warmup: Option<Duration>,
    /// Idle channels that the node knows besides
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub known_channels: Option<u32>,
    /// Settle on the chain again and again meanwhile: how the load fares beside proofs
    #[arg(long)]
    pub settle: bool,
    /// Find the saturated rate, then offer these loads in percent of it
    #[arg(long, value_name = "PERCENT,...", num_args = 0..=1, default_missing_value = SWEEP, value_delimiter = ',',
          value_parser = clap::value_parser!(u32).range(1..=1_000), conflicts_with_all = ["rate", "one_at_a_time"])]
    pub sweep: Option<Vec<u32>>,
    /// Draw latency against load into an SVG file; sweeps with the usual loads unless --sweep names others
    #[arg(long, value_name = "FILE", conflicts_with_all = ["rate", "one_at_a_time", "suite"])]
    pub chart: Option<PathBuf>,
    /// Run every scenario of the suite with its target
    #[arg(long)]
    pub suite: bool,
    /// Of the suite, only the scenario with this name
    #[arg(long, value_name = "NAME")]
    pub only: Option<String>,
    /// What references and keys are made from
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
    /// Payments a second to sign frames for, in a closed loop; without it, an estimate from what the machine could do
    #[arg(long, value_name = "PAYMENTS", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub expect: Option<u64>,
    /// Memory for signed frames, in MiB; a run that needs more is made shorter, and says so
    #[arg(long, value_name = "MIB", default_value_t = 4_096, value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    pub memory_max: u64,
    /// Threads of the load generator [default: cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1_024))]
    pub workers: Option<u16>,
    /// Where the network's state goes, removed afterwards; choose the disk that is to be measured [default: the system's temporary directory]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// With --profile: the node's process on this machine, to measure its processor time and memory
    #[arg(long, value_name = "PID")]
    pub node_pid: Option<u32>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let wrong = || "expected seconds from 0.1 to 86400, such as 10 or 0.5".to_owned();
    let seconds: f64 = text.parse().map_err(|_| wrong())?;
    if (0.1..=86_400.0).contains(&seconds) { Ok(Duration::from_secs_f64(seconds)) } else { Err(wrong()) }
}

impl BenchArgs {
    /// Whether no load is described, or the suite is asked for.
    pub(super) const fn is_suite(&self) -> bool {
        let is_described = self.lines.is_some()
            || self.channels.is_some()
            || self.connections.is_some()
            || self.rate.is_some()
            || self.in_flight.is_some()
            || self.one_at_a_time.is_some()
            || self.duration.is_some()
            || self.warmup.is_some()
            || self.known_channels.is_some()
            || self.settle
            || self.sweeps();
        self.suite || self.only.is_some() || !is_described
    }

    pub(super) const fn sweeps(&self) -> bool {
        self.sweep.is_some() || self.chart.is_some()
    }

    /// Loads of the sweep, in percent.
    pub(super) fn percents(&self) -> Vec<u32> {
        self.sweep.clone().unwrap_or_else(|| SWEEP.split(',').filter_map(|percent| percent.parse().ok()).collect())
    }

    /// The load that is described.
    pub(super) fn scenario(&self) -> CliResult<Scenario> {
        let count = |number: Option<u32>| number.and_then(|number| usize::try_from(number).ok());
        let lines = self.lines.unwrap_or(256);
        let channels = count(self.channels).or(count(self.connections)).unwrap_or(if self.one_at_a_time.is_some() { 1 } else { 64 });
        let connections = count(self.connections).unwrap_or(channels).min(10_000);
        let (name, mode) = match (self.rate, self.one_at_a_time) {
            (Some(rate), _) => ("offered", Mode::Offered(Schedule::new(channels, lines, rate)?)),
            (None, Some(millis)) => ("one_at_a_time", Mode::OneAtATime { pause: Duration::from_millis(millis) }),
            (None, None) => ("saturated", Mode::Saturated { in_flight: self.in_flight.unwrap_or(4) }),
        };
        Ok(Scenario {
            name: name.to_owned(),
            lines,
            channels,
            connections,
            known_channels: self.known_channels.unwrap_or(0),
            mode,
            is_settling: self.settle,
            warmup: self.warmup.unwrap_or(Duration::from_secs(2)),
            duration: self.duration.unwrap_or(Duration::from_secs(10)),
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: BenchArgs,
    }

    /// What a command line after `bench` says.
    pub(crate) fn args(line: &str) -> BenchArgs {
        Line::try_parse_from(format!("bench {line}").split_whitespace()).expect(line).args
    }

    #[test]
    fn without_a_load_the_suite_runs() {
        assert!(args("").is_suite() && args("--suite").is_suite() && args("--only idle").is_suite() && args("--memory-max 100").is_suite());
        assert!(
            !args("--lines 1").is_suite()
                && !args("--settle").is_suite()
                && !args("--sweep").is_suite()
                && !args("--duration 0.5").is_suite()
        );
    }

    #[test]
    fn a_load_has_sensible_defaults() {
        let scenario = |line| args(line).scenario().expect("a scenario");
        let shape = |line| (scenario(line).lines, scenario(line).channels, scenario(line).connections);
        assert_eq!(shape("--lines 64"), (64, 64, 64));
        assert_eq!(shape("--connections 100"), (256, 100, 100));
        assert_eq!(shape("--channels 4 --connections 2"), (256, 4, 2));
        assert_eq!(shape("--one-at-a-time 3 --lines 1"), (1, 1, 1));
        assert_eq!(scenario("--lines 1").mode, Mode::Saturated { in_flight: 4 });
        assert_eq!(args("--sweep").percents(), [10, 30, 50, 70, 90, 100, 110]);
        assert_eq!(args("--sweep 5,20").percents(), [5, 20]);
        assert_eq!(args("--chart x.svg").percents().len(), 7);
    }
}
