//! Opening: look without touching, decide, then open for writing.
//!
//! RocksDB drops what it does not accept of its log as soon as it opens for writing. The database is therefore opened read-only first:
//! a store that is refused keeps every byte it had.

use std::fs;
use std::path::Path;

use rocksdb::{ColumnFamilyDescriptor, DB, Options, WriteBatch};

use crate::ack::{AckFile, AckState};
use crate::error::StoreError;
use crate::head::{HEAD_KEY, Head, SCHEMA_KEY, judge};
use crate::layout::{DirLock, Layout, Versions, ensure_dir, sync_dir};
use crate::log;
use crate::options::{StoreOptions, base, synced};
use crate::table::Table;

const DEFAULT_FAMILY: &str = "default";

/// An opened database, proven to hold everything that was acknowledged.
pub(crate) struct Opened {
    pub db: DB,
    pub ack: AckFile,
    pub head: Head,
    pub lock: DirLock,
}

/// Opens or creates the store in `dir`.
///
/// Checks in this order: lock, tables, versions, acknowledged head.
pub(crate) fn open(dir: &Path, options: &StoreOptions) -> Result<Opened, StoreError> {
    ensure_dir(dir)?;
    let layout = Layout::of(dir);
    let lock = DirLock::acquire(&layout)?;
    let found = inspect(&layout.db, options)?;
    let acknowledged = AckFile::read(&layout.head).map_err(StoreError::io("read", &layout.head))?;
    match (found, acknowledged) {
        (Some(found), AckState::Known(acknowledged)) => {
            judge(&found, &acknowledged)?;
            let db = open_for_writing(&layout, options)?;
            let reread = head_of(&db)?;
            if reread != found {
                return Err(StoreError::Damaged { what: "its head changed between two reads" });
            }
            if found.seq > acknowledged.seq {
                tracing::warn!(acknowledged = %acknowledged.seq, found = %found.seq, "kept complete batches beyond the acknowledged head");
            }
            let ack = AckFile::open(&layout.head, &found).map_err(StoreError::io("write", &layout.head))?;
            Ok(Opened { db, ack, head: found, lock })
        }
        (None, AckState::Known(acknowledged)) if acknowledged.seq > Head::EMPTY.seq => {
            Err(StoreError::AcknowledgedLost { acknowledged: acknowledged.seq, found: Head::EMPTY.seq })
        }
        (None, AckState::Absent | AckState::Known(_)) => create(&layout, options, lock),
        (Some(_), AckState::Absent) | (_, AckState::Unreadable) => Err(StoreError::HeadUnreadable { path: layout.head }),
    }
}

/// Declares the database in `dir` to be all there is: what was acknowledged beyond it counts as lost from then on.
///
/// The way out of [`StoreError::AcknowledgedLost`], [`StoreError::Diverged`] and [`StoreError::HeadUnreadable`] when no backup is better
/// than the damaged store. Vouchers that were acknowledged and are not in the database are gone on this side; reconcile first.
///
/// # Errors
/// The store is in use, there is no database, or it cannot be read.
pub fn accept_database_head(dir: &Path, options: &StoreOptions) -> Result<Head, StoreError> {
    let layout = Layout::of(dir);
    if !layout.db.is_dir() {
        return Err(StoreError::Target { path: layout.db, problem: "is no database" });
    }
    let _lock = DirLock::acquire(&layout)?;
    let found = inspect(&layout.db, options)?.ok_or(StoreError::Damaged { what: "it holds no head" })?;
    tracing::warn!(head = %found.seq, dir = %dir.display(), "accepting the database as it is; what was acknowledged beyond it is lost");
    create_ack(&layout, &found)?;
    Ok(found)
}

/// Reads versions and head without changing anything. `None`: there is no database, or its creation did not finish.
pub(crate) fn inspect(db_dir: &Path, options: &StoreOptions) -> Result<Option<Head>, StoreError> {
    if !db_dir.join("CURRENT").exists() {
        return Ok(None);
    }
    let names = DB::list_cf(&Options::default(), db_dir).map_err(StoreError::rocks("list its tables"))?;
    if let Some(name) = names.iter().find(|name| *name != DEFAULT_FAMILY && Table::ALL.iter().all(|table| table.name() != *name)) {
        return Err(StoreError::UnknownTable { name: name.clone() });
    }
    let families = names.iter().map(|name| ColumnFamilyDescriptor::new(name, Options::default()));
    let db = DB::open_cf_descriptors_read_only(&base(), db_dir, families, false).map_err(StoreError::rocks("open for inspection"))?;
    let Some(versions) = own_record(&db, SCHEMA_KEY)? else { return Ok(None) };
    let versions = Versions::from_bytes(&versions).ok_or(StoreError::Damaged { what: "its version record is malformed" })?;
    versions.check(Versions::of_this_build(options.schema))?;
    head_of(&db).map(Some)
}

fn create(layout: &Layout, options: &StoreOptions, lock: DirLock) -> Result<Opened, StoreError> {
    // The head comes first and says zero. A database without a version record beside it is then known to be an unfinished creation,
    // and a database without a head never is.
    let ack = create_ack(layout, &Head::EMPTY)?;
    let db = open_for_writing(layout, options)?;
    let meta = db.cf_handle(Table::Meta.name()).ok_or(StoreError::Damaged { what: "the table meta is missing" })?;
    let mut batch = WriteBatch::default();
    batch.put_cf(meta, SCHEMA_KEY, Versions::of_this_build(options.schema).to_bytes());
    batch.put_cf(meta, HEAD_KEY, Head::EMPTY.to_bytes());
    db.write_opt(batch, &synced()).map_err(StoreError::rocks("write its first records"))?;
    sync_dir(&layout.dir)?;
    Ok(Opened { db, ack, head: Head::EMPTY, lock })
}

/// Puts an acknowledged head in place at once: other readers see the old file or the new one, whole.
pub(crate) fn create_ack(layout: &Layout, head: &Head) -> Result<AckFile, StoreError> {
    let staged = layout.dir.join("head.new");
    let ack = AckFile::create(&staged, head).map_err(StoreError::io("write", &staged))?;
    fs::rename(&staged, &layout.head).map_err(StoreError::io("replace", &layout.head))?;
    sync_dir(&layout.dir)?;
    Ok(ack)
}

fn open_for_writing(layout: &Layout, options: &StoreOptions) -> Result<DB, StoreError> {
    let db = DB::open_cf_descriptors(&options.database()?, &layout.db, options.tables()).map_err(StoreError::rocks("open"))?;
    log::prepare(&db, options.log_bytes)?;
    Ok(db)
}

fn head_of(db: &DB) -> Result<Head, StoreError> {
    let bytes = own_record(db, HEAD_KEY)?.ok_or(StoreError::Damaged { what: "its head is missing" })?;
    Head::from_bytes(&bytes).ok_or(StoreError::Damaged { what: "its head is malformed" })
}

fn own_record(db: &DB, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
    match db.cf_handle(Table::Meta.name()) {
        Some(meta) => db.get_cf(meta, key).map_err(StoreError::rocks("read its own records")),
        None => Ok(None),
    }
}
