//! One run: sign, connect, load, measure, compare.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use millstream_billing::LINE_BYTES;
use millstream_load::ceilings::Ceilings;
use millstream_load::driver::{Mode, Phase, Plan, run};
use millstream_load::process::Usage;
use millstream_load::report::{DiskReport, Exactness, ScenarioReport, SettlingReport, SideReport};
use millstream_load::{Frames, Lane, LoadError, Outcome, Payer, Workload};
use millstream_types::Amount;
use tokio::task::JoinHandle;

use super::metrics::NodeCounters;
use super::{Bench, BenchArgs};
use crate::admin::Admin;
use crate::error::{CliError, CliResult};
use crate::progress;

/// The part of what cores could check and hash at best that a closed loop has frames signed for.
const EXPECTED_PART: f64 = 0.7;

/// How long the node has at least to acknowledge what is under way in the end.
const DRAIN_MIN: Duration = Duration::from_secs(10);

/// The shortest window that is measured.
const WINDOW_MIN: Duration = Duration::from_millis(100);

/// From the last attach to reading the node's memory: its buffers are in place by then. And from a settlement that found nothing to the next.
const SETTLE: Duration = Duration::from_millis(300);

/// Channels that the node knows up to which it is asked for each one's totals; above, for the sums.
const LISTED_MAX: u64 = 100_000;

/// A load to run.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scenario {
    pub(super) name: String,
    pub(super) lines: usize,
    pub(super) channels: usize,
    pub(super) connections: usize,
    pub(super) known_channels: u32,
    pub(super) mode: Mode,
    /// Settles on the chain again and again meanwhile.
    pub(super) is_settling: bool,
    pub(super) warmup: Duration,
    pub(super) duration: Duration,
}

impl Scenario {
    fn time(&self) -> Duration {
        self.warmup + self.duration
    }

    /// Frames that each channel needs, at most.
    pub(super) fn frames_per_channel(&self, args: &BenchArgs, ceilings: &Ceilings) -> u64 {
        let seconds = self.time().as_secs_f64();
        match self.mode {
            Mode::Offered(schedule) => schedule.frames_before(0, u64::try_from(self.time().as_nanos()).unwrap_or(u64::MAX)).max(1),
            Mode::OneAtATime { pause } => (seconds / pause.as_secs_f64()) as u64 + 16,
            Mode::Saturated { in_flight } => {
                let cores = std::thread::available_parallelism().map_or(1, usize::from);
                let estimate = ceilings.payments_per_second(cores, self.lines) * EXPECTED_PART;
                let rate = args.expect.map_or(estimate, |rate| rate as f64);
                (rate * seconds / (self.lines * self.channels) as f64) as u64 + 2 * u64::from(in_flight)
            }
        }
    }

    /// The same load, shorter if its frames would need more memory than allowed.
    fn fitting(&self, args: &BenchArgs, ceilings: &Ceilings, notes: &mut Vec<String>) -> CliResult<Self> {
        let workload = Workload::new(args.seed, self.lines)?;
        let frames = self.frames_per_channel(args, ceilings) as f64;
        let needed = frames * self.channels as f64 * workload.frame_bytes() as f64;
        let part = args.memory_max as f64 * 1_048_576.0 / needed;
        if part >= 1.0 {
            return Ok(self.clone());
        }
        let duration = self.time().mul_f64(part).saturating_sub(self.warmup);
        let mib = needed / 1_048_576.0;
        if duration < WINDOW_MIN {
            let message =
                format!("signed frames would need {mib:.0} MiB, {} are allowed, and little would be left of the run", args.memory_max);
            return Err(CliError::usage("memory", message).hint("raise --memory-max, or shorten --warmup and --duration"));
        }
        notes.push(format!(
            "shortened from {:.1} to {:.1} seconds: signed frames would have needed {mib:.0} MiB, {} are allowed",
            self.duration.as_secs_f64(),
            duration.as_secs_f64(),
            args.memory_max
        ));
        Ok(Self { duration, ..self.clone() })
    }
}

/// What is looked at beside a run.
struct Probe {
    admin: Admin,
    node_pid: Option<u32>,
    chain_pid: Option<u32>,
    connecting: Option<Usage>,
    attached: Option<Usage>,
    begin: Look,
    end: Look,
    failed: Option<CliError>,
}

#[derive(Clone, Copy, Default)]
struct Look {
    node: Option<Usage>,
    load: Option<Usage>,
    chain: Option<Usage>,
    counters: Option<NodeCounters>,
}

impl Probe {
    async fn at(&mut self, phase: Phase) {
        match phase {
            Phase::Connecting => self.connecting = self.node(),
            Phase::Attached => {
                tokio::time::sleep(SETTLE).await;
                self.attached = self.node();
            }
            Phase::WindowBegins => self.begin = self.look().await,
            Phase::WindowEnds => self.end = self.look().await,
            Phase::Drained => {}
        }
    }

    fn node(&self) -> Option<Usage> {
        self.node_pid.and_then(Usage::of)
    }

    async fn look(&mut self) -> Look {
        let (node, load, chain) = (self.node(), Usage::of(std::process::id()), self.chain_pid.and_then(Usage::of_group));
        let counters = match self.admin.metrics().await {
            Ok(text) => Some(NodeCounters::parse(&text)),
            Err(error) => {
                self.failed = Some(error);
                None
            }
        };
        Look { node, load, chain, counters }
    }
}

/// Settlements beside a load, one after the other.
struct Settling {
    is_over: Arc<AtomicBool>,
    task: JoinHandle<CliResult<SettlingReport>>,
}

impl Settling {
    fn start(admin: Admin) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(Self::run(admin, Arc::clone(&is_over)));
        Self { is_over, task }
    }

    async fn run(admin: Admin, is_over: Arc<AtomicBool>) -> CliResult<SettlingReport> {
        let mut report = SettlingReport::default();
        while !is_over.load(Ordering::Relaxed) {
            let run = admin.settle_run().await?;
            report.runs += 1;
            report.transactions += run.transactions.len() as u64;
            for transaction in &run.transactions {
                report.prove_seconds += transaction.prove_seconds;
                report.prove_seconds_max = report.prove_seconds_max.max(transaction.prove_seconds);
            }
            if run.transactions.is_empty() {
                tokio::time::sleep(SETTLE).await;
            }
        }
        Ok(report)
    }

    /// Waits for the settlement under way.
    async fn end(self) -> CliResult<SettlingReport> {
        self.is_over.store(true, Ordering::Relaxed);
        self.task.await.map_err(|error| CliError::failed("internal", error.to_string()))?
    }
}

/// A load on a bench's network.
pub(super) struct Load<'b, 'a> {
    pub(super) bench: &'b mut Bench<'a>,
    pub(super) scenario: &'b Scenario,
}

impl Load<'_, '_> {
    pub(super) async fn run(&mut self) -> CliResult<ScenarioReport> {
        let mut notes = Vec::new();
        let scenario = self.scenario.fitting(self.bench.args, &self.bench.ceilings, &mut notes)?;
        let scenario = &scenario;
        let started = self.bench.network.reset(scenario).await?;
        if started.is_some() {
            // An empty node has accepted nothing.
            self.bench.payers.iter_mut().for_each(|payer| *payer = Payer::new(payer.channel(), payer.secret().clone()));
        }
        let frames = self.sign(scenario).await?;
        let before = self.others().await?;
        self.bench.note(&format!("{}: {} channels on {} connections", scenario.name, scenario.channels, scenario.connections));
        let settling = scenario.is_settling.then(|| Settling::start(self.bench.network.admin().clone()));
        let (outcome, probe) = self.load(scenario, &frames).await?;
        let settling = match settling {
            Some(settling) => Some(settling.end().await?),
            None => None,
        };
        if let Some(error) = probe.failed {
            return Err(error);
        }
        if outcome.ran_out && outcome.seconds < WINDOW_MIN.as_secs_f64() {
            let message = format!("{}: the signed frames were used up before anything could be measured", scenario.name);
            return Err(CliError::failed("ran_out", message).hint("sign for a higher rate with --expect"));
        }
        let lanes = outcome.lanes.iter().zip(&frames);
        for (payer, (end, frames)) in self.bench.payers.iter_mut().zip(lanes) {
            payer.advance(frames, end.acked);
        }
        let exactness = self.exactness(scenario, &outcome, before).await?;
        let mut report = ScenarioReport {
            exactness,
            settling,
            node_start_seconds: started.map(|took| took.as_secs_f64()),
            ..self.report(scenario, &outcome, &probe, notes)?
        };
        if let Some(bytes) = self.bench.network.stop_and_weigh()? {
            weigh(&mut report, bytes);
        }
        Ok(report)
    }

    /// Signs the frames of a run on all cores.
    async fn sign(&self, scenario: &Scenario) -> CliResult<Vec<Frames>> {
        let workload = Workload::new(self.bench.args.seed, scenario.lines)?;
        let each = usize::try_from(scenario.frames_per_channel(self.bench.args, &self.bench.ceilings)).unwrap_or(usize::MAX);
        let payers: Vec<Payer> = self.bench.payers.iter().take(scenario.channels).cloned().collect();
        if payers.len() < scenario.channels {
            return Err(CliError::failed("channels", format!("{} channels are open, {} are needed", payers.len(), scenario.channels)));
        }
        let total = (each as u64).saturating_mul(payers.len() as u64);
        self.bench.note(&format!("{}: signing {total} frames", scenario.name));
        let bar = progress::counted(&self.bench.context.output, total, "frames signed");
        let signed = Arc::new(AtomicU64::new(0));
        let drawing = tokio::spawn({
            let (bar, signed) = (bar.clone(), Arc::clone(&signed));
            async move {
                loop {
                    bar.set_position(signed.load(Ordering::Relaxed));
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        });
        let frames = tokio::task::spawn_blocking(move || workload.sign_all(&payers, |_| each, &signed)).await;
        drawing.abort();
        bar.finish_and_clear();
        Ok(frames.map_err(|error| CliError::failed("internal", error.to_string()))??)
    }

    /// Runs the load on a runtime of its own, with as many threads as asked for.
    async fn load(&self, scenario: &Scenario, frames: &[Frames]) -> CliResult<(Outcome, Probe)> {
        let network = &self.bench.network;
        let target = network.target().await?;
        let lanes: Vec<Lane> = self
            .bench
            .payers
            .iter()
            .zip(frames)
            .map(|(payer, frames)| Lane { payer: payer.clone(), frames: frames.clone() })
            .collect();
        let plan = Plan {
            connections: scenario.connections,
            mode: scenario.mode,
            warmup: scenario.warmup,
            duration: scenario.duration,
            drain: scenario.duration.max(DRAIN_MIN),
        };
        let mut probe = Probe {
            admin: network.admin().clone(),
            node_pid: network.node_pid(),
            chain_pid: network.chain_pid(),
            connecting: None,
            attached: None,
            begin: Look::default(),
            end: Look::default(),
            failed: None,
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = self.bench.args.workers.map_or(cores, usize::from);
        let loaded = tokio::task::spawn_blocking(move || -> Result<(Outcome, Probe), LoadError> {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build();
            let runtime = runtime.map_err(|error| LoadError::Internal { what: error.to_string() })?;
            let outcome = runtime.block_on(run(&target, lanes, &plan, async |phase| probe.at(phase).await))?;
            Ok((outcome, probe))
        });
        Ok(loaded.await.map_err(|error| CliError::failed("internal", error.to_string()))??)
    }

    /// Lines and nanos that the node has and the bench's payers have not paid.
    async fn others(&self) -> CliResult<(u64, u128)> {
        let status = self.bench.network.admin().status().await?.channels;
        let lines: u64 = self.bench.payers.iter().map(Payer::lines_total).sum();
        let nanos: u128 = self.bench.payers.iter().map(|payer| u128::from(payer.cumulative())).sum();
        Ok((status.lines.saturating_sub(lines), status.accepted.units().saturating_sub(nanos)))
    }

    /// Compares what the node has with what it acknowledged; `others` is what it had from others before the run.
    async fn exactness(&self, scenario: &Scenario, outcome: &Outcome, others: (u64, u128)) -> CliResult<Exactness> {
        let lines = scenario.lines as u64;
        let line_nanos = u128::from(Workload::new(self.bench.args.seed, scenario.lines)?.line_nanos);
        let payers: Vec<&Payer> = self.bench.payers.iter().collect();
        // Channels of the bench that did not take part in this run count too: nothing may have moved there.
        let unacked = |position: usize| outcome.lanes.get(position).map_or(0, |lane| (lane.sent - lane.acked) * lines);
        let acknowledged_lines: u64 = payers.iter().map(|payer| payer.lines_total()).sum();
        let acknowledged: u128 = payers.iter().map(|payer| u128::from(payer.cumulative())).sum();
        let sent_lines = acknowledged_lines + outcome.unacked() * lines;
        let status = self.bench.network.admin().status().await?.channels;
        let mut exactness =
            Exactness { acknowledged_lines, sent_lines, acknowledged_nanos: Amount::from_units(acknowledged), ..Exactness::default() };
        if status.channels <= LISTED_MAX {
            let listed = self.bench.network.admin().channels().await?;
            let listed: HashMap<_, _> = listed.into_iter().map(|row| (row.channel, (row.lines, row.accepted))).collect();
            let mut accepted = 0u128;
            for (position, payer) in payers.iter().enumerate() {
                let (has_lines, has_nanos) = listed.get(&payer.channel()).copied().unwrap_or((0, Amount::ZERO));
                exactness.node_lines += has_lines;
                accepted += has_nanos.units();
                // What is sent and not acknowledged may be there or not, whole frames of it, and nothing else may.
                let more =
                    has_lines.checked_sub(payer.lines_total()).filter(|more| *more <= unacked(position) && more.is_multiple_of(lines));
                let is_equal = more.is_some_and(|more| has_nanos.units() == u128::from(payer.cumulative()) + u128::from(more) * line_nanos);
                exactness.channels_that_differ += u64::from(!is_equal);
            }
            exactness.node_nanos = Amount::from_units(accepted);
            exactness.holds = exactness.channels_that_differ == 0;
        } else {
            // Too many to ask for one by one: the sums, less what others had paid before the run.
            let (node_lines, accepted) = (status.lines.saturating_sub(others.0), status.accepted.units().saturating_sub(others.1));
            (exactness.node_lines, exactness.node_nanos) = (node_lines, Amount::from_units(accepted));
            let more = node_lines.checked_sub(acknowledged_lines).filter(|more| *more <= outcome.unacked() * lines);
            exactness.holds = more.is_some_and(|more| accepted == acknowledged + u128::from(more) * line_nanos);
        }
        Ok(exactness)
    }

    fn report(&self, scenario: &Scenario, outcome: &Outcome, probe: &Probe, mut notes: Vec<String>) -> CliResult<ScenarioReport> {
        let workload = Workload::new(self.bench.args.seed, scenario.lines)?;
        let (frames, lines) = (outcome.window_frames, scenario.lines as u64);
        let payments = frames * lines;
        let acked_bytes = frames * workload.frame_bytes() as u64;
        let rate = |count: u64| if outcome.seconds > 0.0 { count as f64 / outcome.seconds } else { 0.0 };
        let of_payment = |sum: f64| if payments > 0 { sum / payments as f64 } else { 0.0 };
        let side = |begin: Option<Usage>, end: Option<Usage>| {
            let (begin, end) = (begin?, end?);
            let cpu_seconds = end.cpu_seconds - begin.cpu_seconds;
            let cpu_ns_per_payment = of_payment(cpu_seconds * 1e9);
            Some(SideReport { cpu_seconds, cpu_ns_per_payment, rss_bytes: end.rss_bytes, rss_peak_bytes: end.rss_peak_bytes })
        };
        let (begin, end) = (&probe.begin, &probe.end);
        let written = begin.node.zip(end.node).and_then(|(begin, end)| end.written_bytes?.checked_sub(begin.written_bytes?));
        let cores = self.bench.report.machine.cores;
        let ceiling = self.bench.ceilings.payments_per_second(cores, scenario.lines);
        let (mode, offered) = match scenario.mode {
            Mode::Saturated { .. } => ("saturated", None),
            Mode::OneAtATime { .. } => ("one_at_a_time", None),
            Mode::Offered(schedule) => ("offered", Some(schedule.payments_per_second())),
        };
        if outcome.ran_out {
            notes.push("ended early: a channel had no more signed frames; --expect signs for a higher rate".to_owned());
        }
        if outcome.unacked() > 0 {
            notes.push(format!("{} frames were sent and never acknowledged", outcome.unacked()));
        }
        if outcome.unsent > 0 {
            notes.push(format!("{} frames were due and never sent: their latency is in no percentile", outcome.unsent));
        }
        if outcome.late > 0 {
            let worst = outcome.worst_lateness.as_secs_f64() * 1e3;
            notes.push(format!(
                "the load generator itself sent {} frames late, by up to {worst:.1} ms; their latency counts it",
                outcome.late
            ));
        }
        let disk = written.map(|bytes| DiskReport {
            written_bytes: Some(bytes),
            written_bytes_per_payment: Some(of_payment(bytes as f64)),
            ..DiskReport::default()
        });
        let per_connection = probe
            .connecting
            .zip(probe.attached)
            .map(|(before, after)| (after.rss_bytes as f64 - before.rss_bytes as f64) / scenario.connections as f64);
        let synced_write_ms = self.bench.ceilings.paced_sync_p50_us / 1e3;
        Ok(ScenarioReport {
            name: scenario.name.clone(),
            mode: mode.to_owned(),
            lines_per_signature: scenario.lines,
            channels: scenario.channels,
            connections: scenario.connections,
            known_channels: scenario.known_channels.into(),
            frames_in_flight: outcome.window,
            offered_payments_per_second: offered,
            warmup_seconds: scenario.warmup.as_secs_f64(),
            seconds: outcome.seconds,
            payments,
            frames,
            payments_per_second: rate(payments),
            frames_per_second: rate(frames),
            acked_bytes,
            acked_megabytes_per_second: rate(acked_bytes) / 1e6,
            latency: outcome.latency,
            payments_of_run: outcome.lanes.iter().map(|lane| lane.acked).sum::<u64>() * lines,
            unacked_frames: outcome.unacked(),
            unsent_frames: outcome.unsent,
            held_frames: outcome.held,
            late_sends: outcome.late,
            worst_lateness_ms: outcome.worst_lateness.as_secs_f64() * 1e3,
            node: side(begin.node, end.node),
            load: side(begin.load, end.load),
            chain: side(begin.chain, end.chain),
            node_start_seconds: None,
            node_rss_bytes_per_connection: per_connection,
            disk,
            settling: None,
            commits: begin.counters.zip(end.counters).map(|(begin, end)| end.since(&begin)),
            ratio_to_ceiling: (mode == "saturated" && ceiling > 0.0).then(|| rate(payments) / ceiling),
            p50_to_synced_write: (mode == "one_at_a_time" && synced_write_ms > 0.0).then(|| outcome.latency.p50_ms / synced_write_ms),
            exactness: Exactness::default(),
            notes,
        })
    }
}

/// Adds what the stopped node's data directory weighs, compacted.
fn weigh(report: &mut ScenarioReport, bytes: u64) {
    let lines = report.payments_of_run as f64;
    let over = |whole: f64| (whole > 0.0).then(|| bytes as f64 / whole);
    let disk = report.disk.unwrap_or_default();
    report.disk = Some(DiskReport {
        directory_bytes: Some(bytes),
        directory_bytes_per_payment: over(lines),
        directory_to_lines: over(lines * LINE_BYTES as f64),
        compacted: true,
        ..disk
    });
}
