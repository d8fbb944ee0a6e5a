//! Prometheus metrics. No channel or payer labels: their number has no bound.

use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millstream_engine::Summary;
use millstream_policy::{Decision, Verdict};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// The node's metrics.
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    pub(crate) connections: Gauge<i64, AtomicI64>,
    pub(crate) streams: Gauge<i64, AtomicI64>,
    frames: Counter<u64, AtomicU64>,
    lines: Counter<u64, AtomicU64>,
    pub(crate) rejects: Counter<u64, AtomicU64>,
    pub(crate) closed_streams: Counter<u64, AtomicU64>,
    pub(crate) check_disagreements: Gauge<i64, AtomicI64>,
    commits: Counter<u64, AtomicU64>,
    commit_bytes: Counter<u64, AtomicU64>,
    commit_seconds: Histogram,
    channels: Gauge<i64, AtomicI64>,
    channels_open: Gauge<i64, AtomicI64>,
    channels_frozen: Gauge<i64, AtomicI64>,
    accepted: Gauge<i64, AtomicI64>,
    settled: Gauge<i64, AtomicI64>,
    pub(crate) chain_block: Gauge<i64, AtomicI64>,
    pub(crate) chain_errors: Counter<u64, AtomicU64>,
    pub(crate) settlements: Counter<u64, AtomicU64>,
    pub(crate) registrations: Counter<u64, AtomicU64>,
    pub(crate) moved_channels: Counter<u64, AtomicU64>,
    pub(crate) settlement_failures: Counter<u64, AtomicU64>,
    pub(crate) settlement_gas: Counter<u64, AtomicU64>,
    pub(crate) prove_seconds: Histogram,
    pub(crate) wrong_proofs: Gauge<i64, AtomicI64>,
    pub(crate) unserved_requests: Gauge<i64, AtomicI64>,
    pub(crate) relays_accepted: Counter<u64, AtomicU64>,
    pub(crate) relays_confirmed: Counter<u64, AtomicU64>,
    pub(crate) relays_reverted: Counter<u64, AtomicU64>,
    pub(crate) relays_refused: Counter<u64, AtomicU64>,
    pub(crate) relays_pending: Gauge<i64, AtomicI64>,
    pub(crate) relay_gwei: Counter<u64, AtomicU64>,
    pub(crate) relay_budget_left: Gauge<i64, AtomicI64>,
    pub(crate) policy_allowed: Counter<u64, AtomicU64>,
    pub(crate) policy_refused: Counter<u64, AtomicU64>,
    pub(crate) policy_held: Counter<u64, AtomicU64>,
    pub(crate) policy_shadowed: Counter<u64, AtomicU64>,
    pub(crate) policy_pauses: Gauge<i64, AtomicI64>,
    pub(crate) policy_approvals: Gauge<i64, AtomicI64>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("millstream");
        macro_rules! metric {
            ($kind:ty, $name:literal, $help:literal) => {{
                let metric = <$kind>::default();
                registry.register($name, $help, metric.clone());
                metric
            }};
        }
        let commit_seconds = Histogram::new(exponential_buckets(0.000_1, 2.0, 16));
        registry.register("commit_seconds", "Time to write and sync one batch", commit_seconds.clone());
        let prove_seconds = Histogram::new(exponential_buckets(0.1, 2.0, 12));
        registry.register("prove_seconds", "Time to make one proof", prove_seconds.clone());
        Self {
            connections: metric!(Gauge, "connections", "Open QUIC connections"),
            streams: metric!(Gauge, "streams", "Open channel streams"),
            frames: metric!(Counter, "frames", "Frames accepted and durable"),
            lines: metric!(Counter, "payments", "Payments accepted and durable"),
            rejects: metric!(Counter, "rejects", "Messages rejected"),
            closed_streams: metric!(Counter, "closed_streams", "Streams closed for a message that does not parse"),
            check_disagreements: metric!(
                Gauge,
                "check_disagreements",
                "Answers of the fast check of vouchers that the exact one did not confirm; above 0 the fast one is off"
            ),
            commits: metric!(Counter, "commits", "Batches committed"),
            commit_bytes: metric!(Counter, "commit_bytes", "Bytes of committed batches"),
            commit_seconds,
            channels: metric!(Gauge, "channels", "Channels known"),
            channels_open: metric!(Gauge, "channels_open", "Channels that take payments"),
            channels_frozen: metric!(Gauge, "channels_frozen", "Channels frozen by the chain"),
            accepted: metric!(Gauge, "accepted_nanos", "Accepted over all channels, in nanos"),
            settled: metric!(Gauge, "settled_nanos", "Settled on-chain over all channels, in nanos"),
            chain_block: metric!(Gauge, "chain_block", "Last block whose logs were applied"),
            chain_errors: metric!(Counter, "chain_errors", "Failed reads of the chain"),
            wrong_proofs: metric!(
                Gauge,
                "wrong_proofs",
                "Proofs that were made wrong and again by arkworks, which makes all of them from the first one on"
            ),
            settlements: metric!(Counter, "settlements", "Books settled on-chain"),
            registrations: metric!(Counter, "registrations", "Books registered on-chain"),
            moved_channels: metric!(Counter, "moved_channels", "Channels moved to another slot, so that fewer books are settled"),
            settlement_failures: metric!(Counter, "settlement_failures", "Settlement runs that failed"),
            settlement_gas: metric!(Counter, "settlement_gas", "Gas used by settle and register"),
            prove_seconds,
            unserved_requests: metric!(Gauge, "unserved_requests", "Requests of the ledger's queue that are not served"),
            relays_accepted: metric!(Counter, "relays_accepted", "Deposits whose gas was promised"),
            relays_confirmed: metric!(Counter, "relays_confirmed", "Relayed deposits that were confirmed"),
            relays_reverted: metric!(Counter, "relays_reverted", "Relayed deposits whose transaction reverted"),
            relays_refused: metric!(Counter, "relays_refused", "Deposits that were not relayed"),
            relays_pending: metric!(Gauge, "relays_pending", "Deposits that are accepted and not confirmed"),
            relay_gwei: metric!(Counter, "relay_gwei", "What relayed deposits cost, in gwei"),
            relay_budget_left: metric!(Gauge, "relay_budget_left_gwei", "What may still be spent on relaying now, in gwei"),
            policy_allowed: metric!(Counter, "policy_allowed", "Requests of HTTP 402 that the policy allowed"),
            policy_refused: metric!(Counter, "policy_refused", "Requests of HTTP 402 that the policy refused"),
            policy_held: metric!(Counter, "policy_held", "Requests of HTTP 402 that were told to wait for an approval"),
            policy_shadowed: metric!(Counter, "policy_shadowed", "Requests of HTTP 402 that a rule in shadow mode would have refused"),
            policy_pauses: metric!(Gauge, "policy_pauses", "What is paused, by breakers and by order"),
            policy_approvals: metric!(Gauge, "policy_approvals_waiting", "Requests that wait for an approval"),
            registry: Mutex::new(registry),
        }
    }

    pub(crate) fn committed(&self, took: Duration, bytes: usize, frames: u64, lines: u64) {
        self.commits.inc();
        self.commit_bytes.inc_by(bytes as u64);
        self.commit_seconds.observe(took.as_secs_f64());
        self.frames.inc_by(frames);
        self.lines.inc_by(lines);
    }

    /// One decision of the policy.
    pub(crate) fn decided(&self, decision: &Decision) {
        match decision.verdict {
            Verdict::Allow => self.policy_allowed.inc(),
            Verdict::Refuse(_) => self.policy_refused.inc(),
            Verdict::Wait { .. } => self.policy_held.inc(),
        };
        if !decision.shadowed.is_empty() {
            self.policy_shadowed.inc();
        }
    }

    pub(crate) fn state(&self, summary: &Summary) {
        let gauge = |units: u128| i64::try_from(units).unwrap_or(i64::MAX);
        self.channels.set(gauge(summary.channels.into()));
        self.channels_open.set(gauge(summary.open.into()));
        self.channels_frozen.set(gauge(summary.frozen.into()));
        self.accepted.set(gauge(summary.accepted.units()));
        self.settled.set(gauge(summary.settled.units()));
    }

    /// Where other parts of the process enter metrics of theirs.
    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The text that Prometheus reads.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry());
        text
    }
}
