//! Signatures of all sessions, checked together.
//!
//! A processor with lanes checks eight signatures for little more than the price of one, but a session seldom has eight at once. So sessions put what they
//! have in one queue, and whichever checking task runs next takes all that has gathered. Nothing waits for a group to fill: under little
//! load groups are small and answers fast, under much load they are full.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use millstream_voucher::{CheckingKey, ScalarChecker, SignedVoucher, VerifiedVoucher, VoucherChecker, VoucherError, best_checker};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tracing::error;

use crate::metrics::Metrics;

/// Vouchers that a checking task takes at a time: as long as it checks them, its worker does nothing else.
const GROUP_MAX: usize = 32;

/// One voucher's answer.
pub(crate) type Verdict = Result<VerifiedVoucher, VoucherError>;

struct Job {
    key: Arc<CheckingKey>,
    vouchers: Vec<SignedVoucher>,
    done: oneshot::Sender<Vec<Verdict>>,
}

struct Inner {
    checker: &'static dyn VoucherChecker,
    metrics: Arc<Metrics>,
    queue: Mutex<VecDeque<Job>>,
    work: Notify,
    /// Sessions that wait for a check or are at one.
    under_way: AtomicUsize,
    /// The checker failed: vouchers are checked one by one.
    is_off: AtomicBool,
}

/// A session's part in [`Inner::under_way`], also when it is given up in the middle.
struct Place<'a> {
    under_way: &'a AtomicUsize,
    is_alone: bool,
}

impl<'a> Place<'a> {
    fn take(under_way: &'a AtomicUsize) -> Self {
        Self { under_way, is_alone: under_way.fetch_add(1, Ordering::Relaxed) == 0 }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Checks signatures. Dropped, its tasks end.
pub(crate) struct Verifier {
    inner: Arc<Inner>,
    tasks: Vec<JoinHandle<()>>,
}

impl Verifier {
    /// Starts as many checking tasks as the runtime has workers.
    pub(crate) fn start(metrics: Arc<Metrics>) -> Self {
        Self::with_checker(best_checker(), metrics)
    }

    fn with_checker(checker: &'static dyn VoucherChecker, metrics: Arc<Metrics>) -> Self {
        let inner = Arc::new(Inner {
            checker,
            metrics,
            queue: Mutex::default(),
            work: Notify::new(),
            under_way: AtomicUsize::new(0),
            is_off: AtomicBool::new(false),
        });
        let workers = tokio::runtime::Handle::current().metrics().num_workers();
        let tasks = (0..workers).map(|_| tokio::spawn(Arc::clone(&inner).run())).collect();
        Self { inner, tasks }
    }

    /// How signatures are checked.
    pub(crate) fn name(&self) -> &'static str {
        self.inner.checker.name()
    }

    /// Checks vouchers of one key: an answer for each, in order. Enough of them for the checker are checked here and now, and so are those of a
    /// session that is alone: it would wait for nobody.
    pub(crate) async fn check(&self, key: &Arc<CheckingKey>, vouchers: Vec<SignedVoucher>) -> Vec<Verdict> {
        let place = Place::take(&self.inner.under_way);
        if place.is_alone || vouchers.len() >= self.inner.checker.lanes() {
            return self.inner.check(&of_one_key(vouchers, key));
        }
        let (done, verdicts) = oneshot::channel();
        self.inner.push(Job { key: Arc::clone(key), vouchers: vouchers.clone(), done });
        match verdicts.await {
            Ok(verdicts) => verdicts,
            // The node stops, and the tasks are gone before this session.
            Err(_) => ScalarChecker.check(&of_one_key(vouchers, key)),
        }
    }
}

fn of_one_key(vouchers: Vec<SignedVoucher>, key: &CheckingKey) -> Vec<(SignedVoucher, &CheckingKey)> {
    vouchers.into_iter().map(|voucher| (voucher, key)).collect()
}

impl Drop for Verifier {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Inner {
    fn check(&self, batch: &[(SignedVoucher, &CheckingKey)]) -> Vec<Verdict> {
        if self.is_off.load(Ordering::Relaxed) {
            return ScalarChecker.check(batch);
        }
        // A checker keeps no state between two batches that a panic could leave half changed.
        let Ok(verdicts) = std::panic::catch_unwind(AssertUnwindSafe(|| self.checker.check(batch))) else {
            self.is_off.store(true, Ordering::Relaxed);
            self.metrics.check_disagreements.inc();
            error!(checker = self.checker.name(), "the fast check of vouchers failed and is off");
            return ScalarChecker.check(batch);
        };
        let disagreements = i64::try_from(self.checker.disagreements()).unwrap_or(i64::MAX);
        if disagreements > 0 && self.metrics.check_disagreements.set(disagreements) == 0 {
            error!(
                checker = self.checker.name(),
                "the fast check of vouchers was wrong and is off: this processor computes wrongly, or the program does"
            );
        }
        verdicts
    }

    fn push(&self, job: Job) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push_back(job);
        self.work.notify_one();
    }

    /// Jobs of about [`GROUP_MAX`] vouchers together, the oldest first.
    fn take(&self) -> Vec<Job> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let mut vouchers = 0;
        let mut jobs = Vec::with_capacity(queue.len().min(GROUP_MAX));
        while vouchers < GROUP_MAX
            && let Some(job) = queue.pop_front()
        {
            vouchers += job.vouchers.len();
            jobs.push(job);
        }
        if !queue.is_empty() {
            // For another task, if one is idle.
            self.work.notify_one();
        }
        jobs
    }

    async fn run(self: Arc<Self>) {
        loop {
            self.work.notified().await;
            // Sessions that are ready now go first: what they bring is checked with what is here.
            tokio::task::yield_now().await;
            let jobs = self.take();
            let batch: Vec<_> = jobs.iter().flat_map(|job| job.vouchers.iter().map(|voucher| (*voucher, &*job.key))).collect();
            let mut verdicts = self.check(&batch).into_iter();
            for job in jobs {
                // A session that is gone does not wait.
                let _ = job.done.send(verdicts.by_ref().take(job.vouchers.len()).collect());
            }
        }
    }
}
