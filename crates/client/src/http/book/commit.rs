//! The one thread that writes the book: it takes all that is queued, writes it in one synced transaction, and only then says so.

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use redb::{Database, Durability, Table};
use tokio::sync::oneshot;

use super::{BookError, CHANNELS, PAYEES, POLICY, REQUESTS};

/// Changes in one transaction, at most.
const BATCH_CHANGES_MAX: usize = 4_096;

/// One record to write. Keys and values are those of [`super::record`].
pub(super) enum Change {
    Channel([u8; 32], Vec<u8>),
    Request([u8; 32], Vec<u8>),
    Policy(millstream_policy::Change),
    Payee(Vec<u8>),
}

struct Job {
    changes: Vec<Change>,
    done: oneshot::Sender<Result<(), BookError>>,
}

/// The thread, and the way to it. Changes are written in the order they are queued.
pub(super) struct Committer {
    sender: mpsc::Sender<Option<Job>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Resolves when what was queued is durable.
pub(crate) struct Durable(oneshot::Receiver<Result<(), BookError>>);

impl Durable {
    /// Waits.
    ///
    /// # Errors
    /// [`BookError`]: nothing is known of what was queued, and nothing may leave that relies on it.
    pub(crate) async fn wait(self) -> Result<(), BookError> {
        self.0.await.unwrap_or(Err(BookError::Closed))
    }
}

impl Committer {
    pub(super) fn start(database: Arc<Database>) -> Result<Self, BookError> {
        let (sender, receiver) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("millstream-payments".to_owned())
            .spawn(move || run(&database, &receiver))
            .map_err(|error| BookError::storage(redb::StorageError::Io(error)))?;
        Ok(Self { sender, thread: Mutex::new(Some(thread)) })
    }

    /// Queues changes that belong together; never blocks.
    pub(super) fn queue(&self, changes: Vec<Change>) -> Durable {
        let (done, receiver) = oneshot::channel();
        // A send fails only when the thread is gone; then `done` is dropped, which the receiver sees.
        let _ = self.sender.send(Some(Job { changes, done }));
        Durable(receiver)
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        let _ = self.sender.send(None);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that writes the book of payments panicked");
        }
    }
}

fn run(database: &Database, queue: &mpsc::Receiver<Option<Job>>) {
    let mut lost: Option<BookError> = None;
    while let Ok(Some(first)) = queue.recv() {
        let mut changes = first.changes.len();
        let mut batch = vec![first];
        let mut stop = false;
        while changes < BATCH_CHANGES_MAX && !stop {
            match queue.try_recv() {
                Ok(Some(job)) => {
                    changes = changes.saturating_add(job.changes.len());
                    batch.push(job);
                }
                Ok(None) => stop = true,
                Err(_) => break,
            }
        }
        // After a failed write nothing is known of the file, so nothing is promised any more.
        let result = lost.clone().map_or_else(|| commit(database, &batch), Err);
        lost = result.as_ref().err().cloned();
        for job in batch {
            // Whoever asked may be gone; what was signed is written all the same.
            let _ = job.done.send(result.clone());
        }
        if stop {
            break;
        }
    }
}

fn commit(database: &Database, batch: &[Job]) -> Result<(), BookError> {
    let mut write = database.begin_write().map_err(BookError::storage)?;
    write.set_durability(Durability::Immediate).map_err(BookError::storage)?;
    {
        let mut channels = write.open_table(CHANNELS).map_err(BookError::storage)?;
        let mut requests = write.open_table(REQUESTS).map_err(BookError::storage)?;
        let mut policy = write.open_table(POLICY).map_err(BookError::storage)?;
        let mut payees = write.open_table(PAYEES).map_err(BookError::storage)?;
        for change in batch.iter().flat_map(|job| &job.changes) {
            match change {
                Change::Channel(key, value) => drop(channels.insert(key, value.as_slice()).map_err(BookError::storage)?),
                Change::Request(key, value) => drop(requests.insert(key, value.as_slice()).map_err(BookError::storage)?),
                Change::Policy(change) => put_policy(&mut policy, change)?,
                Change::Payee(key) => drop(payees.insert(key.as_slice(), ()).map_err(BookError::storage)?),
            }
        }
    }
    write.commit().map_err(BookError::storage)
}

/// Writes one record of the policy.
pub(super) fn put_policy(table: &mut Table<'_, &'static [u8], &'static [u8]>, change: &millstream_policy::Change) -> Result<(), BookError> {
    let key = change.key.as_slice();
    match &change.value {
        Some(value) => drop(table.insert(key, value.as_slice()).map_err(BookError::storage)?),
        None => drop(table.remove(key).map_err(BookError::storage)?),
    }
    Ok(())
}
