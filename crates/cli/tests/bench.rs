//! `millstream bench`, tiny, against a real network: closed and open loop, and the totals that must be exact. No timing is looked at.

mod common;

use std::process::Command;

use common::Net;
use millstream_load::report::{BenchReport, ScenarioReport};

/// Runs `millstream ARGUMENTS` and gives back its report.
fn bench(arguments: &[&str]) -> BenchReport {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    let output = command.args(arguments).env_remove("MILLSTREAM_PROFILE").output().expect("the command runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|what| panic!("{arguments:?}: {what}"))
}

/// What every run must be: all that was sent is acknowledged, and the node has exactly that.
fn is_exact(run: &ScenarioReport) {
    let exactness = &run.exactness;
    assert!(exactness.holds && exactness.channels_that_differ == 0, "{run:?}");
    assert!(run.payments_of_run > 0 && run.latency.samples > 0, "{run:?}");
    assert_eq!((run.unacked_frames, run.unsent_frames), (0, 0), "{run:?}");
    assert_eq!((exactness.node_lines, exactness.node_nanos), (exactness.acknowledged_lines, exactness.acknowledged_nanos), "{run:?}");
    assert_eq!(exactness.node_nanos.units(), u128::from(exactness.node_lines) * 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_network_is_loaded_and_its_totals_are_exact() {
    let net = Net::start().await;
    let profile = net.dev.info().profile;
    let (profile, pid) = (profile.to_str().expect("a path"), net.dev.info().node_pid.to_string());
    let base = ["--profile", profile, "bench", "--json", "--lines", "64", "--channels", "4", "--connections", "2"];
    let time = ["--duration", "1", "--warmup", "0.2"];

    let closed = bench(&[&base[..], &time, &["--expect", "1500000", "--node-pid", &pid]].concat());
    let run = &closed.scenarios[0];
    is_exact(run);
    assert_eq!((run.mode.as_str(), run.channels, run.connections, run.lines_per_signature), ("saturated", 4, 2, 64));
    assert!(run.node.is_some() && run.load.is_some() && run.commits.is_some_and(|commits| commits.commits > 0), "{run:?}");
    // The network's own node keeps running, and on channels of its own this run is all there was.
    let status = net.admin.status().await.expect("the node still runs");
    assert_eq!((status.channels.channels, status.channels.lines), (4, run.exactness.node_lines));

    let open = bench(&[&base[..], &time, &["--rate", "8000"]].concat());
    let run = &open.scenarios[0];
    is_exact(run);
    assert_eq!((run.mode.as_str(), run.offered_payments_per_second), ("offered", Some(8_000)));
    // 8,000 a second for 1.2 seconds in frames of 64: what was meant to be sent was, not more and not less.
    assert_eq!(run.payments_of_run, 9_600);
    assert!(run.node.is_none(), "nobody said which process the node is");
    assert_eq!(net.admin.status().await.expect("status").channels.channels, 8);
}

#[test]
fn a_sweep_on_a_network_of_its_own_draws_its_chart() {
    let directory = tempfile::tempdir().expect("a directory");
    let chart = directory.path().join("curve.svg");
    let (chart, place) = (chart.to_str().expect("a path"), directory.path().to_str().expect("a path"));
    let report = bench(&[
        "bench",
        "--json",
        "--lines",
        "64",
        "--channels",
        "4",
        "--connections",
        "2",
        "--duration",
        "0.5",
        "--warmup",
        "0.1",
        "--expect",
        "1500000",
        "--sweep",
        "20,60",
        "--chart",
        chart,
        "--dir",
        place,
    ]);
    assert_eq!(report.scenarios.len(), 3);
    report.scenarios.iter().for_each(is_exact);
    let weighed = |run: &ScenarioReport| run.disk.is_some_and(|disk| disk.directory_bytes.is_some_and(|bytes| bytes > 0));
    assert!(report.scenarios.iter().all(weighed), "{report:?}");
    let svg = std::fs::read_to_string(chart).expect("the chart");
    assert_eq!(svg.matches("<circle").count(), 6, "{svg}");
    let left: Vec<_> = std::fs::read_dir(place).expect("read").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["curve.svg"], "the network's state is removed");
}

#[test]
fn the_suite_needs_a_network_of_its_own() {
    let output = Command::new(env!("CARGO_BIN_EXE_millstream"))
        .args(["--profile", "somewhere.toml", "bench", "--suite", "--json"])
        .output()
        .expect("the command runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("own_network"));
    let output = Command::new(env!("CARGO_BIN_EXE_millstream"))
        .args(["bench", "--only", "nothing", "--json"])
        .env_remove("MILLSTREAM_PROFILE")
        .output()
        .expect("the command runs");
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
}
