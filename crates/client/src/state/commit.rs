//! The one thread that writes: it takes all that is queued, writes it in one synced transaction, and only then releases it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use millstream_types::ChannelId;
use millstream_voucher::{SignedVoucher, VoucherBody};
use redb::{Database, Durability};

use super::record::Totals;
use super::{FRAMES, StateError, TOTALS, frame_key, lock};

/// Bytes of frames in one transaction, at most; what is queued beyond waits for the next.
const BATCH_BYTES_MAX: usize = 16 * 1024 * 1024;

/// One thing to make durable.
pub(crate) struct Put {
    /// The last voucher of its channel, with this put.
    pub(crate) voucher: SignedVoucher,
    /// The frame under that voucher, whole message; `None` when only totals change.
    pub(crate) frame: Option<Bytes>,
    /// What the node has acked by the time of the write; frames it covers are deleted with it.
    pub(crate) acked: Arc<Mutex<VoucherBody>>,
    /// Called once, on the writing thread, when the write is durable or has failed.
    pub(crate) release: Box<dyn FnOnce(Result<(), StateError>) + Send>,
}

/// The way to the writing thread. Puts are written in the order they are queued.
#[derive(Clone)]
pub(crate) struct CommitQueue {
    /// `None` ends the thread, after what was queued before.
    sender: mpsc::Sender<Option<Put>>,
}

impl CommitQueue {
    /// Queues a put; never blocks.
    ///
    /// # Errors
    /// [`StateError::Closed`] when the thread is gone; the put is dropped unreleased.
    pub(crate) fn put(&self, put: Put) -> Result<(), StateError> {
        self.sender.send(Some(put)).map_err(|_| StateError::Closed)
    }
}

pub(super) struct Committer {
    queue: CommitQueue,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Committer {
    pub(super) fn start(database: Arc<Database>) -> Result<Self, StateError> {
        let (sender, receiver) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("millstream-state".to_owned())
            .spawn(move || run(&database, &receiver))
            .map_err(|error| StateError::storage(redb::StorageError::Io(error)))?;
        Ok(Self { queue: CommitQueue { sender }, thread: Mutex::new(Some(thread)) })
    }

    pub(super) fn queue(&self) -> CommitQueue {
        self.queue.clone()
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        // A send fails only when the thread has ended, which is what is wanted.
        let _ = self.queue.sender.send(None);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the state's writing thread panicked");
        }
    }
}

fn run(database: &Database, queue: &mpsc::Receiver<Option<Put>>) {
    let mut lost: Option<StateError> = None;
    let mut deleted = BTreeMap::new();
    while let Ok(Some(first)) = queue.recv() {
        let mut bytes = first.frame.as_ref().map_or(0, Bytes::len);
        let mut batch = vec![first];
        let mut stop = false;
        while bytes < BATCH_BYTES_MAX && !stop {
            match queue.try_recv() {
                Ok(Some(put)) => {
                    bytes += put.frame.as_ref().map_or(0, Bytes::len);
                    batch.push(put);
                }
                Ok(None) => stop = true,
                Err(mpsc::TryRecvError::Empty | mpsc::TryRecvError::Disconnected) => break,
            }
        }
        // After a failed write nothing is known of the file, so nothing is released any more.
        let result = match &lost {
            Some(error) => Err(error.clone()),
            None => commit(database, &batch, &mut deleted),
        };
        if let Err(error) = &result {
            lost = Some(error.clone());
        }
        for put in batch {
            (put.release)(result.clone());
        }
        if stop {
            break;
        }
    }
}

/// Writes a batch in one transaction. `deleted` has, for each channel, the line up to which its frames are gone from the file.
fn commit(database: &Database, batch: &[Put], deleted: &mut BTreeMap<ChannelId, u64>) -> Result<(), StateError> {
    let mut write = database.begin_write().map_err(StateError::storage)?;
    write.set_durability(Durability::Immediate).map_err(StateError::storage)?;
    let mut totals: BTreeMap<ChannelId, &Put> = BTreeMap::new();
    {
        let mut frames = write.open_table(FRAMES).map_err(StateError::storage)?;
        for put in batch {
            let body = put.voucher.body();
            if let Some(frame) = &put.frame {
                let key = frame_key(body.channel, body.lines_total);
                frames.insert(&key, frame.as_ref()).map_err(StateError::storage)?;
            }
            totals.insert(body.channel, put);
        }
        let mut records = write.open_table(TOTALS).map_err(StateError::storage)?;
        for (channel, put) in totals {
            let acked = *lock(&put.acked);
            let record = Totals { signed: Some(put.voucher), acked }.to_bytes();
            records.insert(channel.as_bytes(), record.as_slice()).map_err(StateError::storage)?;
            let through = deleted.entry(channel).or_default();
            if acked.lines_total > *through {
                let (first, last) = (frame_key(channel, 0), frame_key(channel, acked.lines_total));
                frames.retain_in::<&[u8; 40], _>(&first..=&last, |_, _| false).map_err(StateError::storage)?;
                *through = acked.lines_total;
            }
        }
    }
    write.commit().map_err(StateError::storage)
}
