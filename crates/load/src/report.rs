//! What a measurement found, with field names that stay. Amounts of money are nanos in decimal strings; everything else is a number with
//! its unit in its name. A figure that nobody could measure is `null`.

use millstream_types::Amount;
use serde::{Deserialize, Serialize};

use crate::ceilings::Ceilings;
use crate::process::Machine;
use crate::stats::Latency;

/// Everything that one command measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BenchReport {
    /// The version of the binary.
    pub version: String,
    /// How it was built.
    pub build: String,
    /// What a payment's durability is before it is acknowledged.
    pub durability: String,
    /// The file system of the node's data directory.
    pub file_system: Option<String>,
    /// The machine.
    pub machine: Machine,
    /// The command line.
    pub command: Vec<String>,
    /// What the machine could do at best, measured before the load.
    pub ceilings: Ceilings,
    /// The runs, in order.
    pub scenarios: Vec<ScenarioReport>,
    /// Targets and whether they were met, of a suite.
    pub targets: Vec<TargetRow>,
    /// What could not be run, and why.
    pub failures: Vec<Failure>,
}

/// One run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ScenarioReport {
    /// Its name.
    pub name: String,
    /// `saturated`, `offered` or `one_at_a_time`.
    pub mode: String,
    /// Payments under one signature.
    pub lines_per_signature: usize,
    /// Channels that pay.
    pub channels: usize,
    /// Connections that they are dealt to.
    pub connections: usize,
    /// Channels that the node knows besides.
    pub known_channels: u64,
    /// Frames that may be under way on a channel.
    pub frames_in_flight: u64,
    /// Payments a second that were offered, in an open loop.
    pub offered_payments_per_second: Option<u64>,
    /// Seconds of load before the window.
    pub warmup_seconds: f64,
    /// Seconds of the window.
    pub seconds: f64,
    /// Payments acknowledged in the window.
    pub payments: u64,
    /// Frames acknowledged in the window.
    pub frames: u64,
    /// Payments acknowledged in a second.
    pub payments_per_second: f64,
    /// Frames acknowledged in a second.
    pub frames_per_second: f64,
    /// Bytes of the frames acknowledged in the window, as they went over the wire.
    pub acked_bytes: u64,
    /// Of these, millions in a second.
    pub acked_megabytes_per_second: f64,
    /// Latencies of the frames that started in the window: from the intended time in an open loop, from the sending otherwise.
    pub latency: Latency,
    /// Payments acknowledged in the whole run.
    pub payments_of_run: u64,
    /// Frames sent and never acknowledged.
    pub unacked_frames: u64,
    /// Frames that were meant to be sent and never were.
    pub unsent_frames: u64,
    /// Frames of the window that waited because the node had as many as it allows.
    pub held_frames: u64,
    /// Frames of the window that the load generator itself sent more than a millisecond late.
    pub late_sends: u64,
    /// The longest that the load generator itself kept a frame.
    pub worst_lateness_ms: f64,
    /// The node's process.
    pub node: Option<SideReport>,
    /// The load generator's process.
    pub load: Option<SideReport>,
    /// The chain's process.
    pub chain: Option<SideReport>,
    /// Seconds from the start of the node's process until it listened.
    pub node_start_seconds: Option<f64>,
    /// What the node's memory grew by for each connection, when all were attached and nothing was sent.
    pub node_rss_bytes_per_connection: Option<f64>,
    /// What the node wrote.
    pub disk: Option<DiskReport>,
    /// The node's batches.
    pub commits: Option<CommitReport>,
    /// What was settled on the chain meanwhile, in a run that settles.
    pub settling: Option<SettlingReport>,
    /// Payments a second over what the cores could take if they did nothing but check and hash.
    pub ratio_to_ceiling: Option<f64>,
    /// The median latency over the median synced overwrite of the disk.
    pub p50_to_synced_write: Option<f64>,
    /// Whether the node's totals are what was acknowledged.
    pub exactness: Exactness,
    /// What somebody who reads the figures should know.
    pub notes: Vec<String>,
}

/// What one process used in the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SideReport {
    /// Processor seconds, in hundredths.
    pub cpu_seconds: f64,
    /// Processor nanoseconds for each payment.
    pub cpu_ns_per_payment: f64,
    /// Bytes in memory at the end.
    pub rss_bytes: u64,
    /// The most bytes that were in memory at one time, since the process began.
    pub rss_peak_bytes: u64,
}

/// What the node wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DiskReport {
    /// Bytes written to disks in the window.
    pub written_bytes: Option<u64>,
    /// Of these, for each payment.
    pub written_bytes_per_payment: Option<f64>,
    /// Bytes of the files of the data directory after the run.
    pub directory_bytes: Option<u64>,
    /// Of these, for each payment of the run.
    pub directory_bytes_per_payment: Option<f64>,
    /// Bytes of the data directory over bytes of the lines themselves, 24 each.
    pub directory_to_lines: Option<f64>,
    /// Whether the database was compacted before the directory was measured.
    pub compacted: bool,
}

/// Settlements beside the load, one after the other from before it to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SettlingReport {
    /// Settlements that ended.
    pub runs: u64,
    /// Transactions that were mined.
    pub transactions: u64,
    /// Seconds in which somebody waited for proofs.
    pub prove_seconds: f64,
    /// The longest that a transaction waited for its proofs.
    pub prove_seconds_max: f64,
}

/// The node's batches in the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CommitReport {
    /// Batches committed.
    pub commits: u64,
    /// Frames in a batch, on average.
    pub frames_per_commit: f64,
    /// Time to write and sync one batch, on average.
    pub mean_commit_ms: f64,
    /// Bytes of the batches.
    pub bytes: u64,
}

/// The node's totals against the load generator's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exactness {
    /// Payments acknowledged over all channels.
    pub acknowledged_lines: u64,
    /// Payments sent.
    pub sent_lines: u64,
    /// Payments that the node has.
    pub node_lines: u64,
    /// Nanos acknowledged.
    pub acknowledged_nanos: Amount,
    /// Nanos that the node has.
    pub node_nanos: Amount,
    /// Channels whose totals at the node differ from what was acknowledged.
    pub channels_that_differ: u64,
    /// Whether all of it is equal.
    pub holds: bool,
}

/// One target of the suite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TargetRow {
    /// The scenario.
    pub scenario: String,
    /// What is measured.
    pub what: String,
    /// The target.
    pub target: f64,
    /// What was measured.
    pub figure: f64,
    /// The unit of both.
    pub unit: String,
    /// How much of the target was reached: figure over target where more is better, target over figure where less is.
    pub ratio: f64,
    /// Whether the target was met.
    pub met: bool,
}

/// Whether more of a figure is better, or less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// The target is the least.
    More,
    /// The target is the most.
    Less,
}

impl TargetRow {
    /// A row.
    #[must_use]
    pub fn new(scenario: &str, what: &str, better: Better, target: f64, figure: f64, unit: &str) -> Self {
        let over = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
        let (ratio, met) = match better {
            Better::More => (over(figure, target), figure >= target),
            Better::Less => (over(target, figure), figure < target),
        };
        Self { scenario: scenario.to_owned(), what: what.to_owned(), target, figure, unit: unit.to_owned(), ratio, met }
    }
}

/// What could not be run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The scenario.
    pub scenario: String,
    /// Why.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> BenchReport {
        let side = Some(SideReport { cpu_seconds: 4.0, cpu_ns_per_payment: 800.0, rss_bytes: 1, rss_peak_bytes: 2 });
        BenchReport {
            version: "0.1.0".to_owned(),
            build: "release build".to_owned(),
            durability: "synced".to_owned(),
            file_system: Some("ext4".to_owned()),
            machine: Machine { processor: "x".to_owned(), cores: 2, memory_bytes: 3, kernel: "6".to_owned() },
            command: vec!["millstream".to_owned(), "bench".to_owned()],
            ceilings: Ceilings { checker: "scalar".to_owned(), ..Ceilings::default() },
            scenarios: vec![ScenarioReport {
                name: "offered".to_owned(),
                offered_payments_per_second: Some(500_000),
                node: side,
                load: side,
                chain: side,
                node_rss_bytes_per_connection: Some(36_000.0),
                disk: Some(DiskReport::default()),
                commits: Some(CommitReport::default()),
                settling: Some(SettlingReport::default()),
                ratio_to_ceiling: Some(0.5),
                p50_to_synced_write: Some(1.9),
                ..ScenarioReport::default()
            }],
            targets: vec![TargetRow::new("offered", "p99", Better::Less, 10.0, 5.0, "ms")],
            failures: vec![Failure { scenario: "restart".to_owned(), reason: "x".to_owned() }],
        }
    }

    /// Every field name of a document, with its parents.
    fn names(value: &serde_json::Value, path: &str, names: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(object) => {
                for (name, value) in object {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    names.push(path.clone());
                    self::names(value, &path, names);
                }
            }
            serde_json::Value::Array(items) => items.iter().take(1).for_each(|item| self::names(item, &format!("{path}[]"), names)),
            _ => {}
        }
    }

    #[test]
    fn the_field_names_are_as_they_were() {
        let mut found = Vec::new();
        names(&serde_json::to_value(report()).expect("JSON"), "", &mut found);
        assert_eq!(found.join("\n"), include_str!("../tests/snapshots/report_fields.txt").trim_end());
    }

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let text = serde_json::to_string(&report()).expect("JSON");
        assert_eq!(serde_json::from_str::<BenchReport>(&text).expect("read"), report());
    }

    #[test]
    fn targets_are_met_from_the_right_side() {
        let row = |better, target, figure| {
            let row = TargetRow::new("s", "w", better, target, figure, "u");
            (row.ratio, row.met)
        };
        assert_eq!(row(Better::More, 100.0, 150.0), (1.5, true));
        assert_eq!(row(Better::More, 100.0, 50.0), (0.5, false));
        assert_eq!(row(Better::Less, 10.0, 5.0), (2.0, true));
        assert_eq!(row(Better::Less, 10.0, 20.0), (0.5, false));
        assert_eq!(row(Better::Less, 10.0, 0.0), (0.0, true));
    }
}
