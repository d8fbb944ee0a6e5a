//! A queue in front of the prover for async callers.

use std::sync::Arc;

use millstream_circuit::{RegisterStatement, SettleStatement};
use tokio::sync::{mpsc, oneshot};

use crate::error::ProverError;
use crate::groth16::Blinding;
use crate::proof::Proof;
use crate::prover::Prover;

/// Why the worker has no proof.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// Unavailable: the queue is full; ask again later.
    #[error("{waiting} statements are waiting to be proved already")]
    Busy {
        /// The length of the queue.
        waiting: usize,
    },
    /// Unavailable or fault, as the cause says.
    #[error("the statement was not proved")]
    Prover(#[source] ProverError),
    /// Fault: the worker has stopped, which it does only when proving panicked or the runtime shuts down.
    #[error("the prover has stopped")]
    Stopped,
}

enum Statement {
    Settle(Box<SettleStatement>),
    Register(Box<RegisterStatement>),
}

struct Job {
    statement: Statement,
    reply: oneshot::Sender<Result<Proof, ProverError>>,
}

/// Proves one statement at a time, in the order they came: a proof is parallel inside, two at once would only hold more memory.
///
/// Dropping the future of a call cancels its proof, queued or running. The worker ends when the last handle is dropped.
#[derive(Clone, Debug)]
pub struct ProverWorker {
    jobs: mpsc::Sender<Job>,
}

impl ProverWorker {
    /// Starts a worker on the current runtime, with a queue of at most `queue_max` waiting statements.
    ///
    /// # Panics
    /// Outside a tokio runtime, and for a queue of none.
    #[must_use]
    pub fn spawn(prover: Arc<Prover>, queue_max: usize) -> Self {
        let (jobs, queue) = mpsc::channel(queue_max);
        tokio::spawn(run(prover, queue));
        Self { jobs }
    }

    /// Proves a settlement with fresh randomness.
    ///
    /// # Errors
    /// [`WorkerError`].
    pub async fn settle(&self, statement: SettleStatement) -> Result<Proof, WorkerError> {
        self.prove(Statement::Settle(Box::new(statement))).await
    }

    /// Proves a registration with fresh randomness.
    ///
    /// # Errors
    /// [`WorkerError`].
    pub async fn register(&self, statement: RegisterStatement) -> Result<Proof, WorkerError> {
        self.prove(Statement::Register(Box::new(statement))).await
    }

    async fn prove(&self, statement: Statement) -> Result<Proof, WorkerError> {
        let (reply, answer) = oneshot::channel();
        self.jobs.try_send(Job { statement, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => WorkerError::Busy { waiting: self.jobs.max_capacity() },
            mpsc::error::TrySendError::Closed(_) => WorkerError::Stopped,
        })?;
        answer.await.map_err(|_| WorkerError::Stopped)?.map_err(WorkerError::Prover)
    }
}

async fn run(prover: Arc<Prover>, mut queue: mpsc::Receiver<Job>) {
    while let Some(Job { statement, reply }) = queue.recv().await {
        if reply.is_closed() {
            continue;
        }
        let prover = Arc::clone(&prover);
        let proving = tokio::task::spawn_blocking(move || {
            let proof = prove(&prover, &statement, &|| !reply.is_closed());
            // Nobody is left to hear it when this fails.
            let _ = reply.send(proof);
        });
        if let Err(error) = proving.await {
            tracing::error!(%error, "proving panicked; the prover stops");
            return;
        }
    }
}

fn prove(prover: &Prover, statement: &Statement, wanted: &dyn Fn() -> bool) -> Result<Proof, ProverError> {
    let blinding = Blinding::from_os()?;
    match statement {
        Statement::Settle(statement) => prover.prove_settle_while(statement, &blinding, wanted),
        Statement::Register(statement) => prover.prove_register_while(statement, &blinding, wanted),
    }
}
