//! What the machine could do at best: the disk's synced writes, and the two costs that every payment has at the node.
//!
//! Measured in the same run as the load and before it, so that a figure can be read as a part of what was possible there and then.

use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use millstream_billing::{FRAME_LINES_MAX, LINE_BYTES, raw_frame_root};
use millstream_types::ChannelId;
use millstream_voucher::{CheckingKey, SignedVoucher, best_checker};
use serde::{Deserialize, Serialize};

use crate::workload::secret;
use crate::{LoadError, Payer, Workload, stats};

/// How long each measurement takes.
const MEASURE: Duration = Duration::from_millis(400);

/// The fewest samples that make a percentile, however slow the disk is.
const SAMPLES_MIN: u64 = 20;

/// The pause between two paced writes, and between two payments of an idle channel.
pub const PACE: Duration = Duration::from_millis(5);

/// One write.
const BLOCK_BYTES: usize = 4_096;

/// The preallocated file.
const PREALLOCATED_BLOCKS: u64 = 1_024;

/// Vouchers that are checked in one go.
const CHECK_BATCH: usize = 256;

/// Lines of the frame that is hashed.
const HASH_LINES: usize = 256;

/// What the machine could do. Times in microseconds unless named otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ceilings {
    /// Half of the 4 KiB appends to a growing file, each with fdatasync, took no longer.
    pub append_sync_p50_us: f64,
    /// 99 % of them took no longer.
    pub append_sync_p99_us: f64,
    /// Half of the 4 KiB appends with fdatasync that are made one every [`PACE`] took no longer: disk and processor sleep between them, as on
    /// an idle channel.
    pub paced_sync_p50_us: f64,
    /// Half of the 4 KiB overwrites of a file of zeros, each with fdatasync, took no longer.
    pub overwrite_sync_p50_us: f64,
    /// 99 % of them took no longer.
    pub overwrite_sync_p99_us: f64,
    /// The checker that was measured.
    pub checker: String,
    /// Vouchers that one core checks in a second of its time, whatever else runs on it.
    pub voucher_checks_per_core_second: f64,
    /// Time of one check.
    pub voucher_check_us: f64,
    /// Nanoseconds to hash one line into its frame's root.
    pub hash_line_ns: f64,
}

impl Ceilings {
    /// Measures all, with files in a directory that is removed of them afterwards. Takes about two seconds and one core.
    ///
    /// # Errors
    /// [`LoadError::File`] when the directory cannot be written to.
    pub fn measure(directory: &Path) -> Result<Self, LoadError> {
        let (append_sync_p50_us, append_sync_p99_us) = appends(directory, Duration::ZERO)?;
        let (paced_sync_p50_us, _) = appends(directory, PACE)?;
        let (overwrite_sync_p50_us, overwrite_sync_p99_us) = overwrites(directory)?;
        let (checker, voucher_check_us) = checks()?;
        Ok(Self {
            append_sync_p50_us,
            append_sync_p99_us,
            paced_sync_p50_us,
            overwrite_sync_p50_us,
            overwrite_sync_p99_us,
            checker,
            voucher_checks_per_core_second: 1e6 / voucher_check_us,
            voucher_check_us,
            hash_line_ns: hashes()?,
        })
    }

    /// Payments a second that so many cores could take if they did nothing but check and hash, with so many lines under a signature.
    #[must_use]
    pub fn payments_per_second(&self, cores: usize, lines: usize) -> f64 {
        let nanos = self.voucher_check_us * 1e3 / lines.max(1) as f64 + self.hash_line_ns;
        if nanos > 0.0 { cores as f64 * 1e9 / nanos } else { 0.0 }
    }
}

/// A file that is gone when this is dropped.
struct Scratch {
    path: PathBuf,
    file: File,
}

impl Scratch {
    fn new(directory: &Path, name: &str) -> Result<Self, LoadError> {
        let path = directory.join(format!("{name}.{}", std::process::id()));
        match OpenOptions::new().write(true).create(true).truncate(true).open(&path) {
            Ok(file) => Ok(Self { path, file }),
            Err(source) => Err(LoadError::File { action: "write", path, source }),
        }
    }

    /// The 50th and the 99th percentile of a write with its sync, in microseconds.
    fn syncs(&self, pause: Duration, mut offset: impl FnMut(u64) -> u64) -> Result<(f64, f64), LoadError> {
        let mut times = stats::histogram()?;
        let block = [0x5a; BLOCK_BYTES];
        let started = Instant::now();
        while started.elapsed() < MEASURE || times.len() < SAMPLES_MIN {
            let at = offset(times.len());
            let begun = Instant::now();
            self.done(self.file.write_all_at(&block, at).and_then(|()| self.file.sync_data()))?;
            times.saturating_record(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
            std::thread::sleep(pause);
        }
        let micros = |quantile| times.value_at_quantile(quantile) as f64 / 1e3;
        Ok((micros(0.5), micros(0.99)))
    }

    fn done(&self, outcome: io::Result<()>) -> Result<(), LoadError> {
        outcome.map_err(|source| LoadError::File { action: "write", path: self.path.clone(), source })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Somebody may have removed the directory.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn appends(directory: &Path, pause: Duration) -> Result<(f64, f64), LoadError> {
    Scratch::new(directory, "append")?.syncs(pause, |count| count * BLOCK_BYTES as u64)
}

fn overwrites(directory: &Path) -> Result<(f64, f64), LoadError> {
    let scratch = Scratch::new(directory, "overwrite")?;
    let zeros = vec![0; BLOCK_BYTES];
    for block in 0..PREALLOCATED_BLOCKS {
        scratch.done(scratch.file.write_all_at(&zeros, block * BLOCK_BYTES as u64))?;
    }
    scratch.done(scratch.file.sync_all())?;
    scratch.syncs(Duration::ZERO, |count| count % PREALLOCATED_BLOCKS * BLOCK_BYTES as u64)
}

/// The checker's name, and microseconds for one voucher on one core, of vouchers by different keys.
fn checks() -> Result<(String, f64), LoadError> {
    let checker = best_checker();
    let workload = Workload::new(0, 1)?;
    let mut signed: Vec<(SignedVoucher, CheckingKey)> = Vec::with_capacity(CHECK_BATCH);
    for number in 0..CHECK_BATCH as u64 {
        let mut uid = [0; 31];
        uid[23..].copy_from_slice(&number.to_be_bytes());
        let payer = Payer::new(ChannelId::from_uid(&uid), secret(0, number)?);
        let voucher = workload.sign(&payer, 1, &AtomicU64::new(0))?.voucher(0);
        signed.extend(voucher.map(|voucher| (voucher, CheckingKey::new(&payer.secret().public_key()))));
    }
    let batch: Vec<(SignedVoucher, &CheckingKey)> = signed.iter().map(|(voucher, key)| (*voucher, key)).collect();
    let nanos = cost(|| {
        let answers = checker.check(black_box(&batch));
        match answers.iter().find_map(|answer| answer.as_ref().err()) {
            Some(error) => Err(LoadError::Sign(*error)),
            None => Ok(answers.len()),
        }
    })?;
    Ok((checker.name().to_owned(), nanos / 1e3))
}

/// Nanoseconds to hash a line into its frame's root.
fn hashes() -> Result<f64, LoadError> {
    const _: () = assert!(HASH_LINES <= FRAME_LINES_MAX);
    let lines = vec![[0x5a; LINE_BYTES]; HASH_LINES];
    cost(|| {
        black_box(raw_frame_root::<LINE_BYTES>(black_box(&lines))?);
        Ok(HASH_LINES)
    })
}

/// Processor nanoseconds of one of the things that `work` does and counts, on this thread. Other programs on the same core take no part in
/// it, as far as the system tells how long a thread ran.
fn cost(mut work: impl FnMut() -> Result<usize, LoadError>) -> Result<f64, LoadError> {
    let (begun, started, mut done) = (thread_nanos(), Instant::now(), 0usize);
    while started.elapsed() < MEASURE {
        done += work()?;
    }
    let elapsed = started.elapsed().as_secs_f64() * 1e9;
    let ran = begun.zip(thread_nanos()).map(|(begun, ended)| ended.saturating_sub(begun) as f64);
    // The kernel counts in ticks of some milliseconds; a count that cannot be is not believed.
    let nanos = ran.filter(|ran| (elapsed / 100.0..=elapsed).contains(ran)).unwrap_or(elapsed);
    Ok(nanos / done.max(1) as f64)
}

/// Nanoseconds that this thread has run.
fn thread_nanos() -> Option<u64> {
    std::fs::read_to_string("/proc/thread-self/schedstat").ok()?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_measured_and_nothing_is_left() {
        let directory = tempfile::tempdir().expect("a directory");
        let ceilings = Ceilings::measure(directory.path()).expect("measured");
        assert!(ceilings.append_sync_p50_us > 0.0 && ceilings.append_sync_p50_us <= ceilings.append_sync_p99_us, "{ceilings:?}");
        assert!(ceilings.overwrite_sync_p50_us > 0.0 && ceilings.voucher_checks_per_core_second > 0.0 && ceilings.hash_line_ns > 0.0);
        assert_eq!(std::fs::read_dir(directory.path()).expect("read").count(), 0);
        assert!(Ceilings::measure(&directory.path().join("none")).is_err());
    }

    #[test]
    fn the_ceiling_is_cores_over_the_cost_of_a_line() {
        let ceilings = Ceilings { voucher_check_us: 25.6, hash_line_ns: 100.0, ..Ceilings::default() };
        // 25,600 / 256 + 100 = 200 ns a line.
        assert!((ceilings.payments_per_second(2, 256) - 10_000_000.0).abs() < 1e-3);
        assert!((ceilings.payments_per_second(1, 1) - 1e9 / 25_700.0).abs() < 1e-3);
    }
}
