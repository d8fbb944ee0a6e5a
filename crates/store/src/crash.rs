//! A store in memory whose disk crashes, tears, fails and lies on demand, for the tests of what stands on a store.
//!
//! [`CrashDisk`] is the disk and outlives [`CrashStore`], the process writing to it. What recovers after a crash, and what is refused, is
//! decided by the same rules as in [`crate::RocksStore`]: batches are replayed from their bytes, a torn one ends the replay, and less than
//! the acknowledged head does not open.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::backend::{Backend, Durability, KeyRange, Read, Record, Visit};
use crate::batch::{Batch, Op, Ops};
use crate::error::StoreError;
use crate::head::{CommitSeq, Head, judge};
use crate::table::Table;

/// What goes wrong at the next commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The write fails; nothing of the batch reaches the disk.
    FailedWrite,
    /// The write reaches the disk's cache and the sync fails: the batch is gone after a crash.
    FailedSync,
    /// The sync fails although the batch reached the disk: it is there after a crash, unacknowledged.
    FailedSyncKept,
    /// Power goes while the batch is being written: this many of its bytes are on the disk.
    TornBatch(usize),
    /// Power goes between the two syncs: the batch is durable, the acknowledged head does not name it.
    CrashBeforeAck,
    /// The disk claims to have synced and has not: the commit succeeds, a crash loses the batch. An honest sync later saves it.
    LostSync,
}

/// The disk under a [`CrashStore`]; clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct CrashDisk {
    inner: Arc<Mutex<Disk>>,
}

#[derive(Debug, Default)]
struct Disk {
    log: Vec<Entry>,
    acknowledged: Option<Head>,
    next_fault: Option<Fault>,
    /// Counts openings and crashes: a process from before the last one is dead.
    generation: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    head: Head,
    bytes: Vec<u8>,
    synced: bool,
}

type Tables = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

/// A store on a [`CrashDisk`].
#[derive(Debug)]
pub struct CrashStore {
    disk: CrashDisk,
    generation: u64,
    head: Head,
    shared: Arc<Mutex<Memory>>,
}

#[derive(Debug)]
struct Memory {
    tables: Tables,
    durability: Durability,
}

struct CrashReader {
    shared: Arc<Mutex<Memory>>,
}

impl CrashDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the next commit go wrong.
    pub fn inject(&self, fault: Fault) {
        self.lock().next_fault = Some(fault);
    }

    /// Power failure: what was not synced is gone, and the store that was open is dead.
    pub fn crash(&self) {
        let mut disk = self.lock();
        disk.log.retain(|entry| entry.synced);
        disk.next_fault = None;
        disk.generation += 1;
    }

    /// Starts a new process on the disk as it is; a store still open on it is dead from then on.
    ///
    /// # Errors
    /// What is on the disk is less than, or something else than, what was acknowledged.
    pub fn open(&self) -> Result<CrashStore, StoreError> {
        let mut disk = self.lock();
        let (mut tables, mut head) = (Tables::new(), Head::EMPTY);
        let mut intact = 0;
        for entry in &disk.log {
            // A torn batch does not hash to its head; replay ends before it.
            if head.advance(&entry.bytes)? != entry.head {
                break;
            }
            head = entry.head;
            apply(&mut tables, Ops::of_bytes(&entry.bytes));
            intact += 1;
        }
        judge(&head, &disk.acknowledged.unwrap_or(Head::EMPTY))?;
        disk.log.truncate(intact);
        for entry in &mut disk.log {
            entry.synced = true;
        }
        disk.acknowledged = Some(head);
        disk.generation += 1;
        let memory = Memory { tables, durability: Durability::Durable(head.seq) };
        Ok(CrashStore { disk: self.clone(), generation: disk.generation, head, shared: Arc::new(Mutex::new(memory)) })
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk {
    /// Writes and syncs one batch, or does what the injected fault says. An error is what the process sees.
    fn write(&mut self, head: Head, bytes: &[u8]) -> Result<(), &'static str> {
        let mut append = |bytes: &[u8], synced| self.log.push(Entry { head, bytes: bytes.to_vec(), synced });
        match self.next_fault.take() {
            None => {
                append(bytes, true);
                self.log.iter_mut().for_each(|entry| entry.synced = true);
                self.acknowledged = Some(head);
                Ok(())
            }
            Some(Fault::LostSync) => {
                append(bytes, false);
                self.acknowledged = Some(head);
                Ok(())
            }
            Some(Fault::FailedWrite) => Err("injected: the write failed"),
            Some(Fault::FailedSync) => {
                append(bytes, false);
                Err("injected: the sync failed")
            }
            Some(Fault::FailedSyncKept) => {
                append(bytes, true);
                Err("injected: the sync failed, the batch is on the disk")
            }
            Some(Fault::TornBatch(written)) => {
                append(bytes.get(..written.min(bytes.len().saturating_sub(1))).unwrap_or_default(), true);
                Err("injected: power failed during the write")
            }
            Some(Fault::CrashBeforeAck) => {
                append(bytes, true);
                Err("injected: power failed before the acknowledgement")
            }
        }
    }
}

impl CrashStore {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backend for CrashStore {
    fn commit(&mut self, batch: &Batch) -> Result<CommitSeq, StoreError> {
        let mut disk = self.disk.lock();
        if disk.generation != self.generation {
            self.memory().durability = Durability::Lost(self.head.seq);
        }
        self.memory().readable()?;
        batch.check()?;
        if batch.is_empty() {
            return Ok(self.head.seq);
        }
        let next = self.head.advance(batch.as_bytes())?;
        let written = disk.write(next, batch.as_bytes());
        drop(disk);
        if let Err(cause) = written {
            self.memory().durability = Durability::Lost(self.head.seq);
            return Err(StoreError::CommitFailed { seq: next.seq, source: cause.into() });
        }
        let mut memory = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        apply(&mut memory.tables, batch.ops());
        memory.durability = Durability::Durable(next.seq);
        self.head = next;
        Ok(next.seq)
    }

    fn head(&self) -> Head {
        self.head
    }

    fn durability(&self) -> Durability {
        self.memory().durability
    }

    fn reader(&self) -> Arc<dyn Read> {
        Arc::new(CrashReader { shared: Arc::clone(&self.shared) })
    }
}

impl Read for CrashStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.memory().get(table, key)
    }

    fn scan(&self, table: Table, range: &KeyRange, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        let records = self.memory().records(table, range)?;
        show(&records, visit);
        Ok(())
    }
}

impl Read for CrashReader {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).get(table, key)
    }

    fn scan(&self, table: Table, range: &KeyRange, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        let records = self.shared.lock().unwrap_or_else(PoisonError::into_inner).records(table, range)?;
        show(&records, visit);
        Ok(())
    }
}

impl Memory {
    fn readable(&self) -> Result<(), StoreError> {
        match self.durability {
            Durability::Durable(_) | Durability::InFlight(_) => Ok(()),
            Durability::Lost(last) => Err(StoreError::Lost { last }),
        }
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.readable()?;
        Ok(self.tables.get(&(table, key.to_vec())).cloned())
    }

    /// A copy, so that a visitor may use the store while it is shown records of one moment.
    fn records(&self, table: Table, range: &KeyRange) -> Result<Vec<Record>, StoreError> {
        self.readable()?;
        let from = Bound::Included((table, range.from().to_vec()));
        let below_end = |key: &[u8]| range.to().is_none_or(|to| key < to);
        let in_table = self.tables.range((from, Bound::Unbounded)).take_while(|((of, key), _)| *of == table && below_end(key));
        Ok(in_table.map(|((_, key), value)| (key.clone(), value.clone())).collect())
    }
}

fn apply(tables: &mut Tables, ops: Ops<'_>) {
    for op in ops {
        match op {
            Op::Put { table, key, value } => {
                tables.insert((table, key.to_vec()), value.to_vec());
            }
            Op::Delete { table, key } => {
                tables.remove(&(table, key.to_vec()));
            }
            Op::DeleteRange { table, from, to } => {
                tables.retain(|(of, key), _| *of != table || key.as_slice() < from || key.as_slice() >= to);
            }
        }
    }
}

fn show(records: &[Record], visit: &mut Visit<'_>) {
    for (key, value) in records {
        if visit(key, value).is_break() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{CrashDisk, Fault};
    use crate::{Backend, Batch, Durability, KeyRange, Read, StoreError, Table};

    fn batch(key: u8) -> Batch {
        let mut batch = Batch::new();
        batch.put(Table::Channels, &[key], b"state");
        batch.put(Table::Frames, &[key], b"frame");
        batch
    }

    /// Commits two batches, the second under `fault`, and says how the second went.
    fn two_commits(disk: &CrashDisk, fault: Fault) -> Result<(), StoreError> {
        let mut store = disk.open().expect("opens");
        store.commit(&batch(1)).expect("commits");
        disk.inject(fault);
        let outcome = store.commit(&batch(2)).map(|_| ());
        assert_eq!(matches!(store.durability(), Durability::Lost(_)), outcome.is_err());
        outcome
    }

    #[test]
    fn after_a_crash_a_batch_is_there_whole_or_not_at_all() {
        for (fault, survives) in [
            (Fault::FailedWrite, false),
            (Fault::FailedSync, false),
            (Fault::FailedSyncKept, true),
            (Fault::TornBatch(0), false),
            (Fault::TornBatch(13), false),
            (Fault::TornBatch(usize::MAX), false),
            (Fault::CrashBeforeAck, true),
        ] {
            let disk = CrashDisk::new();
            assert!(two_commits(&disk, fault).is_err(), "{fault:?}");
            disk.crash();
            let mut store = disk.open().expect("nothing acknowledged is missing");
            for table in [Table::Channels, Table::Frames] {
                assert!(store.get(table, &[1]).expect("reads").is_some(), "{fault:?}");
                assert_eq!(store.get(table, &[2]).expect("reads").is_some(), survives, "{fault:?}");
            }
            let next = if survives { 3 } else { 2 };
            assert_eq!(store.commit(&batch(3)).expect("works again").as_u64(), next, "{fault:?}");
        }
    }

    #[test]
    fn a_range_is_deleted_with_its_batch_or_not_at_all() {
        for (fault, survives) in [(Fault::TornBatch(30), false), (Fault::CrashBeforeAck, true)] {
            let disk = CrashDisk::new();
            let mut store = disk.open().expect("opens");
            for key in 1..=4 {
                store.commit(&batch(key)).expect("commits");
            }
            let mut deletion = Batch::new();
            deletion.put(Table::Frames, &[2, 1], b"of this batch");
            deletion.delete_range(Table::Frames, &KeyRange::between(&[2], &[4]));
            disk.inject(fault);
            assert!(store.commit(&deletion).is_err());
            disk.crash();
            let store = disk.open().expect("opens");
            let keys =
                |table| store.collect(table, &KeyRange::all()).expect("reads").into_iter().map(|(key, _)| key[0]).collect::<Vec<_>>();
            assert_eq!(keys(Table::Frames), if survives { vec![1, 4] } else { vec![1, 2, 3, 4] });
            assert_eq!(keys(Table::Channels), [1, 2, 3, 4]);
        }
    }

    #[test]
    fn a_lost_sync_is_noticed_at_the_next_start() {
        let disk = CrashDisk::new();
        two_commits(&disk, Fault::LostSync).expect("the disk says it synced");
        disk.crash();
        let refused = disk.open().map(|_| ());
        assert!(matches!(refused, Err(StoreError::AcknowledgedLost { .. })), "{refused:?}");
    }

    #[test]
    fn a_lost_sync_is_repaired_by_the_next_honest_one() {
        let disk = CrashDisk::new();
        let mut store = disk.open().expect("opens");
        disk.inject(Fault::LostSync);
        store.commit(&batch(1)).expect("the disk says it synced");
        store.commit(&batch(2)).expect("commits");
        disk.crash();
        assert!(disk.open().expect("opens").get(Table::Channels, &[1]).expect("reads").is_some());
    }

    #[test]
    fn a_failed_commit_poisons_writer_and_readers() {
        let disk = CrashDisk::new();
        let mut store = disk.open().expect("opens");
        let reader = store.reader();
        store.commit(&batch(1)).expect("commits");
        disk.inject(Fault::FailedSync);
        assert!(matches!(store.commit(&batch(2)), Err(StoreError::CommitFailed { seq, .. }) if seq.as_u64() == 2));
        assert!(matches!(store.commit(&batch(3)), Err(StoreError::Lost { last }) if last.as_u64() == 1));
        assert!(matches!(store.get(Table::Channels, &[1]), Err(StoreError::Lost { .. })));
        assert!(matches!(reader.collect(Table::Channels, &crate::KeyRange::all()), Err(StoreError::Lost { .. })));
    }

    #[test]
    fn a_process_from_before_a_crash_is_dead() {
        let disk = CrashDisk::new();
        let mut before = disk.open().expect("opens");
        before.commit(&batch(1)).expect("commits");
        disk.crash();
        assert!(matches!(before.commit(&batch(2)), Err(StoreError::Lost { .. })));
    }
}
