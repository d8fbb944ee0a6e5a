//! Counting latencies from many tasks at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::LoadError;

/// The largest latency that is told apart, in nanoseconds: an hour.
const LATENCY_MAX_NANOS: u64 = 3_600_000_000_000;

/// Significant digits of a latency.
const LATENCY_DIGITS: u8 = 3;

/// Latencies of frames. Times in milliseconds; zero when there is no sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Frames.
    pub samples: u64,
    /// The arithmetic mean.
    pub mean_ms: f64,
    /// Half of the frames took no longer.
    pub p50_ms: f64,
    /// 90 % of the frames took no longer.
    pub p90_ms: f64,
    /// 99 % of the frames took no longer.
    pub p99_ms: f64,
    /// 99.9 % of the frames took no longer.
    pub p999_ms: f64,
    /// The slowest frame.
    pub max_ms: f64,
}

impl Latency {
    /// What a histogram of nanoseconds says.
    #[must_use]
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| millis(histogram.value_at_quantile(quantile));
        Self {
            samples: histogram.len(),
            mean_ms: histogram.mean() / 1e6,
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: millis(histogram.max()),
        }
    }
}

/// An empty histogram of nanoseconds.
///
/// # Errors
/// [`LoadError::Internal`] when the library refuses the bounds.
pub fn histogram() -> Result<Histogram<u64>, LoadError> {
    Histogram::new_with_max(LATENCY_MAX_NANOS, LATENCY_DIGITS).map_err(|error| LoadError::Internal { what: error.to_string() })
}

fn millis(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}

/// Histograms that tasks write to, a task always to the same one, and the window of time that counts.
#[derive(Debug)]
pub(crate) struct Recorder {
    shards: Vec<Mutex<Histogram<u64>>>,
    /// Frames that start from here on count, in nanoseconds from the start of the run.
    from: AtomicU64,
    /// Frames that start before this count.
    to: AtomicU64,
}

impl Recorder {
    /// So many histograms; the window is closed.
    pub(crate) fn new(shards: usize) -> Result<Self, LoadError> {
        let shards = (0..shards.max(1)).map(|_| histogram().map(Mutex::new)).collect::<Result<_, _>>()?;
        Ok(Self { shards, from: AtomicU64::new(u64::MAX), to: AtomicU64::new(u64::MAX) })
    }

    /// Frames that start at or after `from` count, until [`Recorder::close`].
    pub(crate) fn open(&self, from: u64) {
        self.from.store(from, Ordering::Relaxed);
    }

    /// Frames that start at or after `to` do not count.
    pub(crate) fn close(&self, to: u64) {
        self.to.store(to, Ordering::Relaxed);
    }

    /// Whether a frame that starts then counts.
    pub(crate) fn counts(&self, start: u64) -> bool {
        (self.from.load(Ordering::Relaxed)..self.to.load(Ordering::Relaxed)).contains(&start)
    }

    /// Records a frame that was acknowledged at `now`, if it counts.
    pub(crate) fn record(&self, shard: usize, start: u64, now: u64) {
        if self.counts(start)
            && let Some(shard) = self.shards.get(shard % self.shards.len())
        {
            lock(shard).saturating_record(now.saturating_sub(start).max(1));
        }
    }

    /// Everything recorded.
    pub(crate) fn latency(&self) -> Result<Latency, LoadError> {
        let mut all = histogram()?;
        for shard in &self.shards {
            all.add(&*lock(shard)).map_err(|error| LoadError::Internal { what: error.to_string() })?;
        }
        Ok(Latency::of(&all))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_starts_in_the_window_counts() {
        let recorder = Recorder::new(4).expect("bounds");
        recorder.record(0, 5, 10);
        recorder.open(1_000);
        for start in [0, 999, 1_000, 1_999_999, 2_000_000] {
            if start >= 2_000_000 {
                recorder.close(2_000_000);
            }
            recorder.record(start as usize, start, start + 3_000_000);
        }
        let latency = recorder.latency().expect("bounds");
        assert_eq!(latency.samples, 2);
        assert!((latency.p50_ms - 3.0).abs() < 0.01 && (latency.max_ms - 3.0).abs() < 0.01, "{latency:?}");
    }

    #[test]
    fn nothing_is_zero() {
        assert_eq!(Recorder::new(0).expect("bounds").latency().expect("bounds"), Latency::default());
    }
}
