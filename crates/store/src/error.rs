//! Why the store refuses or fails.

use std::io;
use std::path::PathBuf;

use crate::head::CommitSeq;

/// Every error of the store. Display says what happened and, where the operator must act, what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the directory.
    #[error("{} is in use by another process{}; a store has one owner: stop it first", path.display(), holder.map(|pid| format!(" (pid {pid})")).unwrap_or_default())]
    Locked {
        /// The store's directory.
        path: PathBuf,
        /// The owner's process id, if it could be read.
        holder: Option<u32>,
    },
    /// RocksDB recovered less than was acknowledged: a synced write was lost.
    #[error(
        "the store recovered up to batch {found}, but batch {acknowledged} was acknowledged as durable: the disk lost synced writes, or files were \
         changed from outside; do not delete anything; restore the newest backup, or accept the loss with `millstream node --accept-database-head` after reconciling with \
         the payers"
    )]
    AcknowledgedLost {
        /// Last batch that was promised.
        acknowledged: CommitSeq,
        /// Last batch that is there.
        found: CommitSeq,
    },
    /// The database and the acknowledged head are from different histories.
    #[error(
        "batch {seq} in the database is not the batch that was acknowledged under that number; files of two stores or of two backups were mixed"
    )]
    Diverged {
        /// The number both have.
        seq: CommitSeq,
    },
    /// The database is there, the record of what was acknowledged is not.
    #[error(
        "{} is missing or damaged in both copies, so it cannot be shown that no acknowledged batch is lost; restore it from the same backup as the \
         database, or accept the database as it is with `millstream node --accept-database-head`", path.display()
    )]
    HeadUnreadable {
        /// The file.
        path: PathBuf,
    },
    /// On-disk data of an older version.
    #[error("{what} on disk has version {found}, this build reads {expected}; run the migration of a build in between")]
    SchemaTooOld {
        /// Which version number: the store's layout or the records.
        what: &'static str,
        /// Version on disk.
        found: u32,
        /// Version of this build.
        expected: u32,
    },
    /// On-disk data of a newer version.
    #[error("{what} on disk has version {found}, this build reads {expected}; use the newer build that wrote it")]
    SchemaTooNew {
        /// Which version number: the store's layout or the records.
        what: &'static str,
        /// Version on disk.
        found: u32,
        /// Version of this build.
        expected: u32,
    },
    /// A column family this build does not know.
    #[error("the database has a table {name:?} that this build does not know; use the newer build that wrote it")]
    UnknownTable {
        /// Its name.
        name: String,
    },
    /// The store's own records are missing or malformed.
    #[error("the database is damaged: {what}; restore the newest backup")]
    Damaged {
        /// What is wrong.
        what: &'static str,
    },
    /// The target of a checkpoint or repair is not as it must be.
    #[error("{} {problem}", path.display())]
    Target {
        /// The path in question.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A key longer than the limit.
    #[error("a key of {bytes} bytes exceeds {max}")]
    KeyTooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// A value longer than the limit.
    #[error("a value of {bytes} bytes exceeds {max}")]
    ValueTooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// A batch larger than the limit.
    #[error("a batch of {bytes} bytes exceeds {max}")]
    BatchTooLarge {
        /// Its encoded size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// A batch writes a key that is the store's own.
    #[error("keys starting with \"store/\" in the table meta are reserved")]
    ReservedKey,
    /// A range without an end.
    #[error("a range of keys to delete needs an end")]
    OpenRange,
    /// No batch number is left.
    #[error("the batch number is exhausted")]
    SequenceExhausted,
    /// A batch could not be written or synced. The store is lost from here on.
    #[error(
        "batch {seq} could not be made durable; whether it survives is unknown, and the store accepts nothing more until it is opened again"
    )]
    CommitFailed {
        /// Number the batch would have had.
        seq: CommitSeq,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An earlier write or sync failed.
    #[error("the store is lost: a write after batch {last} failed, and nothing works until it is opened again")]
    Lost {
        /// Last batch known to be durable.
        last: CommitSeq,
    },
    /// RocksDB refused.
    #[error("RocksDB failed to {action}")]
    Rocks {
        /// What was attempted.
        action: &'static str,
        /// The cause.
        #[source]
        source: rocksdb::Error,
    },
    /// A file operation failed.
    #[error("failed to {action} {}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

impl StoreError {
    pub(crate) fn rocks(action: &'static str) -> impl FnOnce(rocksdb::Error) -> Self {
        move |source| Self::Rocks { action, source }
    }

    pub(crate) fn io(action: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}
