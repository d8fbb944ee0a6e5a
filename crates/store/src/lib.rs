//! The durable side of a node: one ordered, atomic, synced batch of records per tick, and range reads at start-up.
//!
//! The store knows bytes, not meaning: what a record says, and how it is encoded, is the business of whoever writes it. The boundary
//! ([`Backend`], [`Read`]) is this narrow on purpose, so that a replicated log can stand behind it one day.
//!
//! # What a commit promises
//!
//! [`Backend::commit`] returns only after
//! 1. RocksDB has written the batch, with its number and a running SHA-256 chain over all batches, and synced its log, and
//! 2. the number and chain hash of that batch are synced in a file of their own (the *acknowledged head*).
//!
//! RocksDB alone cannot tell a torn tail, which a crash may leave, from a synced write that the disk lost: it recovers silently in both
//! cases. With the acknowledged head kept apart the store can, and [`RocksStore::open`] refuses to start below it.
//!
//! # Invariants
//!
//! - A batch is visible after a crash entirely or not at all, and only if every batch before it is.
//! - A number that `commit` returned is never missing after a later successful open.
//! - After a failed write or sync nothing works until the store is opened again ([`Durability::Lost`]).
//! - Nothing is deleted unless a batch deletes it: no time to live, no size limit. [`Read::reclaim`] only gives back space of what was.
//! - One writer: `commit` takes `&mut self` and a second process is refused the directory.

mod ack;
mod backend;
mod batch;
#[cfg(any(test, feature = "testkit"))]
mod crash;
mod error;
mod head;
mod layout;
mod log;
mod open;
mod options;
mod rocks;
mod table;
mod view;

pub use backend::{Backend, Durability, KeyRange, Read, Record, Visit};
pub use batch::{BATCH_BYTES_MAX, Batch, KEY_BYTES_MAX, VALUE_BYTES_MAX};
#[cfg(any(test, feature = "testkit"))]
pub use crash::{CrashDisk, CrashStore, Fault};
pub use error::StoreError;
pub use head::{CommitSeq, Head};
pub use layout::{LAYOUT_VERSION, SchemaVersion};
pub use open::accept_database_head;
pub use options::StoreOptions;
pub use rocks::{RocksReader, RocksStore};
pub use table::Table;
pub use view::StoreView;
