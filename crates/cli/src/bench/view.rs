//! A bench's report on a terminal.

use millstream_load::report::{BenchReport, ScenarioReport, SettlingReport, SideReport};
use serde::Serialize;

use crate::output::{View, columns, pairs};

/// The report as it is.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct BenchView<'a>(pub(super) &'a BenchReport);

impl View for BenchView<'_> {
    fn table(&self) -> String {
        let Self(report) = self;
        let mut parts = vec![surroundings(report)];
        match report.scenarios.as_slice() {
            [scenario] if report.targets.is_empty() => parts.push(pairs(details(scenario))),
            scenarios => parts.push(overview(scenarios)),
        }
        if !report.targets.is_empty() {
            parts.push(targets(report));
        }
        let notes: Vec<String> = report
            .scenarios
            .iter()
            .flat_map(|scenario| scenario.notes.iter().map(|note| format!("{}: {note}", scenario.name)))
            .chain(report.failures.iter().map(|failure| format!("{}: FAILED: {}", failure.scenario, failure.reason)))
            .collect();
        if !notes.is_empty() {
            parts.push(notes.join("\n"));
        }
        parts.join("\n\n")
    }
}

fn surroundings(report: &BenchReport) -> String {
    let (machine, ceilings) = (&report.machine, &report.ceilings);
    let file_system = report.file_system.as_deref().unwrap_or("an unknown file system");
    pairs([
        ("build", format!("{}, {}", report.version, report.build)),
        (
            "machine",
            format!("{}, {} cores, {} MiB, Linux {}", machine.processor, machine.cores, machine.memory_bytes >> 20, machine.kernel),
        ),
        ("durability", format!("{}; {file_system}", report.durability)),
        (
            "synced write",
            format!(
                "append p50 {:.0} µs p99 {:.0} µs, one in 5 ms p50 {:.0} µs, overwrite p50 {:.0} µs p99 {:.0} µs",
                ceilings.append_sync_p50_us,
                ceilings.append_sync_p99_us,
                ceilings.paced_sync_p50_us,
                ceilings.overwrite_sync_p50_us,
                ceilings.overwrite_sync_p99_us
            ),
        ),
        (
            "one core",
            format!(
                "{:.0} voucher checks/s ({}), {:.0} ns to hash a line",
                ceilings.voucher_checks_per_core_second, ceilings.checker, ceilings.hash_line_ns
            ),
        ),
    ])
}

fn details(run: &ScenarioReport) -> Vec<(&'static str, String)> {
    let latency = &run.latency;
    let mut rows = vec![
        (
            "load",
            format!(
                "{}, {} payments a signature, {} channels on {} connections, {:.1} s after {:.1} s",
                run.mode.replace('_', " "),
                run.lines_per_signature,
                run.channels,
                run.connections,
                run.seconds,
                run.warmup_seconds
            ),
        ),
        (
            "payments",
            format!(
                "{:.0}/s in {:.0} frames/s, {:.1} MB/s",
                run.payments_per_second, run.frames_per_second, run.acked_megabytes_per_second
            ),
        ),
        (
            "ack",
            format!(
                "p50 {:.3} ms, p90 {:.3} ms, p99 {:.3} ms, p99.9 {:.3} ms, max {:.3} ms",
                latency.p50_ms, latency.p90_ms, latency.p99_ms, latency.p999_ms, latency.max_ms
            ),
        ),
    ];
    if let Some(offered) = run.offered_payments_per_second {
        rows.push((
            "offered",
            format!(
                "{offered}/s; {} frames held back by the node's window, {} sent late by the load generator, {} never acknowledged, {} never sent",
                run.held_frames, run.late_sends, run.unacked_frames, run.unsent_frames
            ),
        ));
    }
    for (name, side) in [("node", &run.node), ("load", &run.load), ("chain", &run.chain)] {
        if let Some(side) = side {
            rows.push((name, used(side, run.seconds)));
        }
    }
    if let Some(seconds) = run.node_start_seconds {
        rows.push(("start", format!("the node listened {seconds:.2} s after its process began")));
    }
    if let Some(bytes) = run.node_rss_bytes_per_connection {
        rows.push(("connection", format!("{:.1} KiB of the node's memory", bytes / 1024.0)));
    }
    if let Some(commits) = &run.commits {
        rows.push((
            "commits",
            format!("{}, {:.1} frames each, {:.3} ms each", commits.commits, commits.frames_per_commit, commits.mean_commit_ms),
        ));
    }
    if let Some(disk) = &run.disk {
        let number = |value: Option<f64>, digits: usize| value.map_or("?".to_owned(), |value| format!("{value:.digits$}"));
        rows.push((
            "disk",
            format!(
                "{} bytes written a payment; the directory has {} bytes a payment, {} times the lines{}",
                number(disk.written_bytes_per_payment, 1),
                number(disk.directory_bytes_per_payment, 1),
                number(disk.directory_to_lines, 2),
                if disk.compacted { "" } else { " (not compacted)" }
            ),
        ));
    }
    if let Some(settling) = &run.settling {
        let SettlingReport { runs, transactions, prove_seconds, prove_seconds_max } = settling;
        let text =
            format!("{runs} runs, {transactions} transactions, {prove_seconds:.1} s of proofs, {prove_seconds_max:.1} s the longest");
        rows.push(("settled", text));
    }
    if let Some(ratio) = run.ratio_to_ceiling {
        rows.push(("of the ceiling", format!("{:.0} % of what the cores could check and hash", ratio * 100.0)));
    }
    if let Some(ratio) = run.p50_to_synced_write {
        rows.push(("of the disk", format!("p50 is {ratio:.2} synced writes")));
    }
    let exactness = &run.exactness;
    let verdict = if exactness.holds { "exactly what was acknowledged" } else { "NOT what was acknowledged" };
    rows.push(("totals", format!("{} payments and {} nanos at the node, {verdict}", exactness.node_lines, exactness.node_nanos)));
    rows
}

fn used(side: &SideReport, seconds: f64) -> String {
    let cores = if seconds > 0.0 { side.cpu_seconds / seconds } else { 0.0 };
    let mib = |bytes: u64| bytes >> 20;
    format!(
        "{:.2} cores, {:.0} ns a payment, {} MiB now, {} MiB at most",
        cores,
        side.cpu_ns_per_payment,
        mib(side.rss_bytes),
        mib(side.rss_peak_bytes)
    )
}

fn overview(scenarios: &[ScenarioReport]) -> String {
    let rows = scenarios.iter().map(|run| {
        let nanos = |side: &Option<SideReport>| side.map_or("?".to_owned(), |side| format!("{:.0}", side.cpu_ns_per_payment));
        vec![
            run.name.clone(),
            run.lines_per_signature.to_string(),
            run.connections.to_string(),
            format!("{:.0}", run.payments_per_second),
            format!("{:.3}", run.latency.p50_ms),
            format!("{:.3}", run.latency.p99_ms),
            format!("{:.3}", run.latency.p999_ms),
            nanos(&run.node),
            nanos(&run.load),
            if run.exactness.holds { "yes" } else { "NO" }.to_owned(),
        ]
    });
    let header = ["scenario", "lines", "connections", "payments/s", "p50 ms", "p99 ms", "p99.9 ms", "node ns", "load ns", "exact"];
    columns(&header, &[1, 2, 3, 4, 5, 6, 7, 8], rows)
}

fn targets(report: &BenchReport) -> String {
    let rows = report.targets.iter().map(|row| {
        vec![
            row.scenario.clone(),
            row.what.clone(),
            format!("{} {}", short(row.target), row.unit),
            format!("{} {}", short(row.figure), row.unit),
            format!("{:.2}", row.ratio),
            if row.met { "met" } else { "NOT met" }.to_owned(),
        ]
    });
    columns(&["scenario", "figure", "target", "measured", "ratio", ""], &[2, 3, 4], rows)
}

fn short(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}
