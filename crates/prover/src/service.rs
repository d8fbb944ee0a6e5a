//! Proving in the background of a program that has something better to do.
//!
//! The threads are this service's own, one fewer than there are cores; memory and the number of waiting statements are bounded; whoever
//! asked can see how far its proof is, and take the wish back.
//!
//! The threads have the priority of all others, and that is no oversight: a proof maps and unmaps memory all the time, under locks that
//! the whole process shares, and a thread that is seldom let run keeps such a lock for long (`docs/adr/0014`).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use millstream_circuit::{RegisterStatement, SettleStatement};
use millstream_types::BookId;
use rayon::ThreadPool;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::arithmetic::ProofStep;
use crate::circuit_id::CircuitId;
use crate::error::ProverError;
use crate::groth16::Blinding;
use crate::proof::Proof;
use crate::prover::Prover;

/// One unit of the memory bound.
const MIB: u64 = 1 << 20;

/// How a service works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceOptions {
    /// Threads that prove; 0 for all cores but one, and one at least.
    pub threads: usize,
    /// Statements that are proved at once. A proof is parallel inside, so more than one pays from about sixteen threads on.
    pub jobs_max: usize,
    /// Statements that wait besides.
    pub waiting_max: usize,
    /// Bytes that the proofs under way may take together, by [`Prover::memory_bytes`]. Keys are not part of it.
    pub memory_bytes_max: u64,
}

impl Default for ServiceOptions {
    fn default() -> Self {
        Self { threads: 0, jobs_max: 1, waiting_max: 64, memory_bytes_max: 4 << 30 }
    }
}

/// Why there is no proof, or no service.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Unavailable: as many wait as may; ask again later.
    #[error("{waiting} statements are waiting to be proved already")]
    Busy {
        /// Those that wait.
        waiting: usize,
    },
    /// Rejection: the proof alone would take more than all proofs may.
    #[error("a proof of {circuit} takes {needed} bytes; all proofs together may take {bound}")]
    Memory {
        /// The circuit.
        circuit: CircuitId,
        /// Bytes it needs.
        needed: u64,
        /// The service's bound.
        bound: u64,
    },
    /// Unavailable or fault, as the cause says.
    #[error("the statement was not proved")]
    Prover(#[source] ProverError),
    /// Fault: proving panicked. The service goes on.
    #[error("proving panicked")]
    Panicked,
    /// Unavailable: the system starts no threads.
    #[error("the prover's threads cannot be started")]
    Threads(#[source] rayon::ThreadPoolBuildError),
}

/// What a job is waiting for or doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    /// Others are proved first.
    Waiting,
    /// It is being proved.
    Proving {
        /// For how long.
        since: Duration,
        /// The step that runs.
        step: ProofStep,
    },
}

/// A statement on its way to a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// Which one: numbered from 0 as they came.
    pub id: u64,
    /// What is proved.
    pub circuit: CircuitId,
    /// About which book.
    pub book: BookId,
    /// How far it is.
    pub state: JobState,
}

struct Entry {
    circuit: CircuitId,
    book: BookId,
    is_wanted: AtomicBool,
    proving: Mutex<Option<(Instant, ProofStep)>>,
}

struct Inner {
    prover: Arc<Prover>,
    pool: ThreadPool,
    options: ServiceOptions,
    memory: Arc<Semaphore>,
    places: Arc<Semaphore>,
    next: AtomicU64,
    jobs: Mutex<BTreeMap<u64, Arc<Entry>>>,
}

/// Proves statements on threads of its own, in the order they came.
///
/// Dropping the future of a call takes the statement back, waiting or half proved. Cheap to clone; the threads end with the last clone.
#[derive(Clone)]
pub struct ProverService {
    inner: Arc<Inner>,
}

/// A job's place in the list, for as long as somebody waits for it.
struct Listed<'a> {
    inner: &'a Inner,
    id: u64,
    entry: Arc<Entry>,
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.entry.is_wanted.store(false, Ordering::Relaxed);
        self.inner.jobs.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

enum Statement {
    Settle(Box<SettleStatement>),
    Register(Box<RegisterStatement>),
}

impl Statement {
    fn circuit_and_book(&self) -> (CircuitId, BookId) {
        match self {
            Self::Settle(statement) => (CircuitId::settle(statement.book_after.size()), statement.place.book),
            Self::Register(statement) => (CircuitId::register(statement.book_after.size()), statement.place.book),
        }
    }
}

impl ProverService {
    /// Starts the threads.
    ///
    /// # Errors
    /// [`ServiceError::Threads`].
    pub fn start(prover: Arc<Prover>, options: ServiceOptions) -> Result<Self, ServiceError> {
        let all_but_one = || std::thread::available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1).max(1));
        let threads = if options.threads == 0 { all_but_one() } else { options.threads };
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("prover-{index}"))
            .build()
            .map_err(ServiceError::Threads)?;
        let units = usize::try_from(options.memory_bytes_max / MIB).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Ok(Self {
            inner: Arc::new(Inner {
                prover,
                pool,
                options,
                memory: Arc::new(Semaphore::new(units)),
                places: Arc::new(Semaphore::new(options.jobs_max.max(1))),
                next: AtomicU64::new(0),
                jobs: Mutex::default(),
            }),
        })
    }

    /// Proves a settlement with fresh randomness.
    ///
    /// # Errors
    /// [`ServiceError`]; [`ProverError::Cancelled`] within when [`Self::cancel`] was called.
    pub async fn settle(&self, statement: SettleStatement) -> Result<Proof, ServiceError> {
        self.prove(Statement::Settle(Box::new(statement))).await
    }

    /// Proves a registration with fresh randomness.
    ///
    /// # Errors
    /// As [`Self::settle`].
    pub async fn register(&self, statement: RegisterStatement) -> Result<Proof, ServiceError> {
        self.prove(Statement::Register(Box::new(statement))).await
    }

    /// The prover, for whoever only wants to check a proof.
    #[must_use]
    pub fn prover(&self) -> &Prover {
        &self.inner.prover
    }

    /// The statements that wait or are being proved, the oldest first.
    #[must_use]
    pub fn jobs(&self) -> Vec<Job> {
        let jobs = self.inner.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let view = |(id, entry): (&u64, &Arc<Entry>)| {
            let proving = *entry.proving.lock().unwrap_or_else(PoisonError::into_inner);
            let state = proving.map_or(JobState::Waiting, |(began, step)| JobState::Proving { since: began.elapsed(), step });
            Job { id: *id, circuit: entry.circuit, book: entry.book, state }
        };
        jobs.iter().map(view).collect()
    }

    /// Takes a statement back: whoever asked for its proof gets [`ProverError::Cancelled`], when the step that runs is done. Says whether
    /// there was such a job.
    #[must_use]
    pub fn cancel(&self, id: u64) -> bool {
        let jobs = self.inner.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.get(&id).is_some_and(|entry| entry.is_wanted.swap(false, Ordering::Relaxed))
    }

    async fn prove(&self, statement: Statement) -> Result<Proof, ServiceError> {
        let (circuit, book) = statement.circuit_and_book();
        let needed = self.inner.prover.memory_bytes(circuit);
        let (bound, units) = (self.inner.options.memory_bytes_max, needed.div_ceil(MIB));
        // In units: a job that asked for one more than there are would wait for ever.
        if units > bound / MIB {
            return Err(ServiceError::Memory { circuit, needed, bound });
        }
        let listed = self.list(circuit, book)?;
        // Both are fair, and every job takes them in this order: none is overtaken, and none waits for itself.
        let place = take(&self.inner.places, 1).await?;
        let memory = take(&self.inner.memory, u32::try_from(units).unwrap_or(u32::MAX)).await?;
        if !listed.entry.is_wanted.load(Ordering::Relaxed) {
            return Err(ServiceError::Prover(ProverError::Cancelled));
        }
        let began = Instant::now();
        *listed.entry.proving.lock().unwrap_or_else(PoisonError::into_inner) = Some((began, ProofStep::Witness));
        let (inner, entry) = (Arc::clone(&self.inner), Arc::clone(&listed.entry));
        let proving = tokio::task::spawn_blocking(move || {
            // Held until it has ended, which is later than the wish for it when that is taken back.
            let _held = (place, memory);
            inner.pool.install(|| prove(&inner.prover, &statement, &entry, began))
        });
        proving.await.map_err(|_| ServiceError::Panicked)?.map_err(ServiceError::Prover)
    }

    fn list(&self, circuit: CircuitId, book: BookId) -> Result<Listed<'_>, ServiceError> {
        let inner = &*self.inner;
        let mut jobs = inner.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = jobs.len().saturating_sub(inner.options.jobs_max.max(1));
        if jobs.len() >= inner.options.jobs_max.max(1).saturating_add(inner.options.waiting_max) {
            return Err(ServiceError::Busy { waiting });
        }
        let id = inner.next.fetch_add(1, Ordering::Relaxed);
        let entry = Arc::new(Entry { circuit, book, is_wanted: AtomicBool::new(true), proving: Mutex::new(None) });
        jobs.insert(id, Arc::clone(&entry));
        Ok(Listed { inner, id, entry })
    }
}

async fn take(semaphore: &Arc<Semaphore>, permits: u32) -> Result<OwnedSemaphorePermit, ServiceError> {
    // Nobody closes them.
    Arc::clone(semaphore).acquire_many_owned(permits).await.map_err(|_| ServiceError::Prover(ProverError::Cancelled))
}

fn prove(prover: &Prover, statement: &Statement, entry: &Entry, began: Instant) -> Result<Proof, ProverError> {
    let blinding = Blinding::from_os()?;
    let wanted = |step| {
        *entry.proving.lock().unwrap_or_else(PoisonError::into_inner) = Some((began, step));
        entry.is_wanted.load(Ordering::Relaxed)
    };
    match statement {
        Statement::Settle(statement) => prover.prove_settle_while(statement, &blinding, &wanted),
        Statement::Register(statement) => prover.prove_register_while(statement, &blinding, &wanted),
    }
}
