//! The store over RocksDB.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rocksdb::checkpoint::Checkpoint;
use rocksdb::{ColumnFamily, DB, WaitForCompactOptions, WriteBatch};

use crate::ack::AckFile;
use crate::backend::{Backend, Durability, KeyRange, Read, Visit};
use crate::batch::{Batch, Op};
use crate::error::StoreError;
use crate::head::{CommitSeq, HEAD_KEY, Head};
use crate::layout::{DirLock, Layout, ensure_dir, parent_of, sync_dir};
use crate::open::{self, create_ack, inspect};
use crate::options::{StoreOptions, scanning, synced};
use crate::table::Table;

/// The writer: owns the directory until it and all its readers are dropped.
pub struct RocksStore {
    shared: Arc<Shared>,
    ack: AckFile,
    head: Head,
}

/// Reads and backups from any thread.
#[derive(Clone)]
pub struct RocksReader {
    shared: Arc<Shared>,
}

struct Shared {
    // The database closes before the directory is let go: fields drop in this order.
    db: DB,
    durability: Mutex<Durability>,
    options: StoreOptions,
    _lock: DirLock,
}

impl RocksStore {
    /// Opens the store in `dir`, or creates it there.
    ///
    /// # Errors
    /// Another process has it; its versions are not this build's; or what is there is less than, or something else than, what was
    /// acknowledged. A refused store is left as it was found.
    pub fn open(dir: &Path, options: &StoreOptions) -> Result<Self, StoreError> {
        let opened = open::open(dir, options)?;
        let durability = Mutex::new(Durability::Durable(opened.head.seq));
        let shared = Shared { db: opened.db, durability, options: options.clone(), _lock: opened.lock };
        Ok(Self { shared: Arc::new(shared), ack: opened.ack, head: opened.head })
    }

    /// A handle for reading and for backups from other threads.
    #[must_use]
    pub fn rocks_reader(&self) -> RocksReader {
        RocksReader { shared: Arc::clone(&self.shared) }
    }

    /// Rewrites every table so that what was deleted takes no space. For a store that nobody pays on at the moment: it can take minutes.
    ///
    /// # Errors
    /// The store is lost, or RocksDB cannot write.
    pub fn compact(&self) -> Result<(), StoreError> {
        self.shared.writable()?;
        for table in Table::ALL {
            self.shared.db.compact_range_cf(self.shared.family(table)?, None::<&[u8]>, None::<&[u8]>);
        }
        self.shared.db.wait_for_compact(&WaitForCompactOptions::default()).map_err(StoreError::rocks("compact"))
    }

    fn write(&mut self, batch: &Batch, next: &Head) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.shared.db.write_opt(self.shared.encode(batch, next)?, &synced())?;
        Ok(self.ack.acknowledge(next)?)
    }
}

impl Backend for RocksStore {
    fn commit(&mut self, batch: &Batch) -> Result<CommitSeq, StoreError> {
        self.shared.writable()?;
        batch.check()?;
        if batch.is_empty() {
            return Ok(self.head.seq);
        }
        let next = self.head.advance(batch.as_bytes())?;
        let shared = Arc::clone(&self.shared);
        let in_flight = InFlight::begin(&shared, self.head.seq, next.seq);
        self.write(batch, &next).map_err(|source| {
            tracing::error!(batch = %next.seq, error = %source, "commit failed; the store is lost until it is opened again");
            StoreError::CommitFailed { seq: next.seq, source }
        })?;
        self.head = next;
        in_flight.complete();
        Ok(next.seq)
    }

    fn head(&self) -> Head {
        self.head
    }

    fn durability(&self) -> Durability {
        self.shared.durability()
    }

    fn reader(&self) -> Arc<dyn Read> {
        Arc::new(self.rocks_reader())
    }
}

impl Read for RocksStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.shared.get(table, key)
    }

    fn scan(&self, table: Table, range: &KeyRange, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        self.shared.scan(table, range, visit)
    }

    fn reclaim(&self, table: Table, range: &KeyRange) -> Result<(), StoreError> {
        self.shared.reclaim(table, range)
    }
}

impl Read for RocksReader {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.shared.get(table, key)
    }

    fn scan(&self, table: Table, range: &KeyRange, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        self.shared.scan(table, range, visit)
    }

    fn reclaim(&self, table: Table, range: &KeyRange) -> Result<(), StoreError> {
        self.shared.reclaim(table, range)
    }
}

impl RocksReader {
    /// How far promises go at this moment.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.shared.durability()
    }

    /// Writes a backup to `target`, which must not exist: a store of its own that opens like any other. Commits go on meanwhile.
    ///
    /// It holds at least everything acknowledged before the call; its head is returned. Files are linked where the file system allows,
    /// so a target on the same disk costs little space and does not protect against losing that disk.
    ///
    /// # Errors
    /// The store is lost, `target` (or `target` with `.partial`, left by an interrupted backup) exists, or a file operation failed.
    pub fn checkpoint(&self, target: &Path) -> Result<Head, StoreError> {
        let acknowledged = self.shared.readable()?;
        let mut staging = target.as_os_str().to_owned();
        staging.push(".partial");
        let staging = Layout::of(Path::new(&staging));
        if target.exists() {
            return Err(StoreError::Target { path: target.to_owned(), problem: "already exists" });
        }
        if staging.dir.exists() {
            return Err(StoreError::Target { path: staging.dir, problem: "is left from an interrupted backup; remove it" });
        }
        ensure_dir(&staging.dir)?;
        let checkpoint = Checkpoint::new(&self.shared.db).map_err(StoreError::rocks("begin a checkpoint"))?;
        // Logs are copied and nothing is flushed: tables flushed one after the other, with a crash between two of them, are what RocksDB cannot
        // tell from a damaged log when logs are written over.
        checkpoint.create_checkpoint_with_log_size(&staging.db, u64::MAX).map_err(StoreError::rocks("write a checkpoint"))?;
        let head = inspect(&staging.db, &self.shared.options)?.ok_or(StoreError::Damaged { what: "the checkpoint holds no head" })?;
        if head.seq < acknowledged {
            return Err(StoreError::AcknowledgedLost { acknowledged, found: head.seq });
        }
        create_ack(&staging, &head)?;
        fs::rename(&staging.dir, target).map_err(StoreError::io("put in place", target))?;
        sync_dir(&parent_of(target))?;
        Ok(head)
    }
}

impl Shared {
    fn durability(&self) -> Durability {
        *self.durability.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_durability(&self, durability: Durability) {
        *self.durability.lock().unwrap_or_else(PoisonError::into_inner) = durability;
    }

    /// The last batch known to be durable, unless the store is lost.
    fn readable(&self) -> Result<CommitSeq, StoreError> {
        match self.durability() {
            Durability::Durable(last) => Ok(last),
            Durability::InFlight(next) => Ok(CommitSeq::from_u64(next.as_u64().saturating_sub(1))),
            Durability::Lost(last) => Err(StoreError::Lost { last }),
        }
    }

    fn writable(&self) -> Result<(), StoreError> {
        self.readable().map(|_| ())
    }

    fn family(&self, table: Table) -> Result<&ColumnFamily, StoreError> {
        self.db.cf_handle(table.name()).ok_or(StoreError::Damaged { what: "a table is missing" })
    }

    fn encode(&self, batch: &Batch, next: &Head) -> Result<WriteBatch, StoreError> {
        let mut families = [self.family(Table::Meta)?; Table::ALL.len()];
        for (family, table) in families.iter_mut().zip(Table::ALL) {
            *family = self.family(table)?;
        }
        let family = |table: Table| families[usize::from(table.number())];
        let mut encoded = WriteBatch::with_capacity_bytes(batch.size_bytes() + 256);
        for op in batch.ops() {
            match op {
                Op::Put { table, key, value } => encoded.put_cf(family(table), key, value),
                Op::Delete { table, key } => encoded.delete_cf(family(table), key),
                Op::DeleteRange { table, from, to } => encoded.delete_range_cf(family(table), from, to),
            }
        }
        encoded.put_cf(family(Table::Meta), HEAD_KEY, next.to_bytes());
        Ok(encoded)
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.readable()?;
        self.db.get_cf(self.family(table)?, key).map_err(StoreError::rocks("read"))
    }

    fn scan(&self, table: Table, range: &KeyRange, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        self.readable()?;
        scan_family(&self.db, self.family(table)?, range, visit)
    }

    /// Drops files that lie in the range entirely. What is left of it, in files that hold other keys too, goes when those are compacted
    /// or with the next range.
    fn reclaim(&self, table: Table, range: &KeyRange) -> Result<(), StoreError> {
        self.writable()?;
        let Some(last) = range.to().and_then(below).filter(|last| last.as_slice() >= range.from()) else { return Ok(()) };
        let family = self.family(table)?;
        self.db.delete_file_in_range_cf(family, range.from(), &last).map_err(StoreError::rocks("drop files"))
    }
}

/// A key below `end`. RocksDB includes the end of a range of files, and ours is excluded; keys between the two only keep their files.
fn below(end: &[u8]) -> Option<Vec<u8>> {
    let mut key = end.to_vec();
    let last = key.last_mut()?;
    match last.checked_sub(1) {
        Some(lower) => {
            *last = lower;
            key.extend_from_slice(&[u8::MAX; 16]);
        }
        None => drop(key.pop()),
    }
    Some(key)
}

/// A commit under way. Dropped before completion, by an error or a panic, it leaves the store lost.
struct InFlight<'a> {
    shared: &'a Shared,
    outcome: Durability,
    next: CommitSeq,
}

impl<'a> InFlight<'a> {
    fn begin(shared: &'a Shared, last: CommitSeq, next: CommitSeq) -> Self {
        shared.set_durability(Durability::InFlight(next));
        Self { shared, outcome: Durability::Lost(last), next }
    }

    fn complete(mut self) {
        self.outcome = Durability::Durable(self.next);
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.shared.set_durability(self.outcome);
    }
}

/// Shows every record of a table in a range, in the order of the keys, until `visit` breaks off.
pub(crate) fn scan_family(db: &DB, family: &ColumnFamily, range: &KeyRange, visit: &mut Visit<'_>) -> Result<(), StoreError> {
    if range.is_empty() {
        return Ok(());
    }
    let mut options = scanning();
    if let Some(to) = range.to() {
        options.set_iterate_upper_bound(to);
    }
    let mut cursor = db.raw_iterator_cf_opt(family, options);
    cursor.seek(range.from());
    while let Some((key, value)) = cursor.item() {
        if visit(key, value).is_break() {
            return Ok(());
        }
        cursor.next();
    }
    cursor.status().map_err(StoreError::rocks("scan"))
}
