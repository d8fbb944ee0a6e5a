//! How far a replay is: written by the tasks that pay, read by whoever shows it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use millstream_types::Amount;

use crate::error::{CliError, CliResult};

/// The largest latency that is told apart, in microseconds: ten minutes.
const LATENCY_MAX_MICROS: u64 = 600_000_000;

/// Significant digits of a latency.
const LATENCY_DIGITS: u8 = 3;

/// The live counts of one replay. Share it with an [`Arc`](std::sync::Arc).
#[derive(Debug)]
pub struct ReplayProgress {
    lines_before: AtomicU64,
    acked_lines: AtomicU64,
    acked_nanos: AtomicU64,
    reconnects: AtomicU64,
    resent_frames: AtomicU64,
    span: Mutex<Span>,
    latency: Mutex<Histogram<u64>>,
}

/// When the payments began, and how long they took once they ended.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    started: Option<Instant>,
    took: Option<Duration>,
}

/// A look at the counts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ReplaySnapshot {
    /// Whether everything is paid and acked.
    pub is_paid: bool,
    /// Payments of earlier runs.
    pub payments_before: u64,
    /// Payments of this run that are durable at the node.
    pub payments: u64,
    /// What they paid.
    pub paid: Amount,
    /// Seconds since the first payment; to the last ack, once all is paid.
    pub seconds: f64,
    /// Payments a second so far.
    pub payments_per_second: f64,
    /// Half of the frames were acked within this.
    pub ack_p50_ms: f64,
    /// 99 % of the frames were acked within this.
    pub ack_p99_ms: f64,
    /// 99.9 % of the frames were acked within this.
    pub ack_p999_ms: f64,
    /// Connections after the first.
    pub reconnects: u64,
    /// Frames that were sent again after a connection was lost.
    pub resent_frames: u64,
}

impl ReplayProgress {
    /// Nothing yet.
    ///
    /// # Errors
    /// The histogram of latencies cannot be made.
    pub fn new() -> CliResult<Self> {
        let latency = Histogram::new_with_max(LATENCY_MAX_MICROS, LATENCY_DIGITS);
        let latency = latency.map_err(|error| CliError::failed("histogram", error.to_string()))?;
        Ok(Self {
            lines_before: AtomicU64::new(0),
            acked_lines: AtomicU64::new(0),
            acked_nanos: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
            resent_frames: AtomicU64::new(0),
            span: Mutex::default(),
            latency: Mutex::new(latency),
        })
    }

    /// The counts now.
    #[must_use]
    pub fn snapshot(&self) -> ReplaySnapshot {
        let payments = self.acked_lines.load(Ordering::Relaxed);
        let Span { started, took } = *lock(&self.span);
        let seconds = took.or_else(|| started.map(|started| started.elapsed())).unwrap_or_default().as_secs_f64();
        let latency = lock(&self.latency);
        let quantile = |quantile| millis(latency.value_at_quantile(quantile));
        ReplaySnapshot {
            is_paid: took.is_some(),
            payments_before: self.lines_before.load(Ordering::Relaxed),
            payments,
            paid: Amount::from_nanos(self.acked_nanos.load(Ordering::Relaxed)),
            seconds,
            payments_per_second: rate(payments, seconds),
            ack_p50_ms: quantile(0.5),
            ack_p99_ms: quantile(0.99),
            ack_p999_ms: quantile(0.999),
            reconnects: self.reconnects.load(Ordering::Relaxed),
            resent_frames: self.resent_frames.load(Ordering::Relaxed),
        }
    }

    pub(super) fn start(&self, lines_before: u64) {
        self.lines_before.store(lines_before, Ordering::Relaxed);
        *lock(&self.span) = Span { started: Some(Instant::now()), took: None };
    }

    pub(super) fn finish(&self) {
        let mut span = lock(&self.span);
        span.took = span.started.map(|started| started.elapsed());
    }

    pub(super) fn acked(&self, lines: u64, since_sent: Option<Duration>) {
        self.acked_lines.fetch_add(lines, Ordering::Relaxed);
        if let Some(took) = since_sent {
            let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            lock(&self.latency).saturating_record(micros);
        }
    }

    /// What this run's acked payments come to, over all channels.
    pub(super) fn set_paid(&self, nanos: u64) {
        self.acked_nanos.store(nanos, Ordering::Relaxed);
    }

    pub(super) fn set_connection(&self, reconnects: u64, resent_frames: u64) {
        self.reconnects.store(reconnects, Ordering::Relaxed);
        self.resent_frames.store(resent_frames, Ordering::Relaxed);
    }
}

fn rate(count: u64, seconds: f64) -> f64 {
    // Counts of payments are far below 2^52.
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

/// Microseconds as milliseconds.
fn millis(micros: u64) -> f64 {
    micros as f64 / 1_000.0
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
