//! What a payer must not forget: its channels, the last voucher it signed on each, and every frame that no ack covers yet.
//!
//! **Invariants.** A frame is released to the network only after the transaction that holds it, and the voucher over it, is on disk:
//! whatever left this machine can be sent again byte for byte, and nothing smaller is ever signed after it. Vouchers of a channel only
//! grow. One process at a time has the file.

mod commit;
mod record;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use millstream_types::ChannelId;
use millstream_voucher::{ChannelTerms, PublicKey, SecretKey, SignedVoucher, VoucherBody};
use millstream_wire::LENGTH_BYTES;
use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::private_file::open_private;

pub(crate) use commit::{CommitQueue, Put};
pub use record::StoredKey;
pub(crate) use record::genesis;
use record::{Terms, Totals};

/// `channel (32)` to [`Terms`].
const TERMS: TableDefinition<&[u8; 32], &[u8]> = TableDefinition::new("terms");
/// `channel (32)` to [`Totals`].
const TOTALS: TableDefinition<&[u8; 32], &[u8]> = TableDefinition::new("totals");
/// `channel (32) ‖ lines_total (8)` to the whole frame message, length included.
const FRAMES: TableDefinition<&[u8; 40], &[u8]> = TableDefinition::new("frames");
/// `"schema"` to [`SCHEMA`].
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

/// The layout of the file. Another number is refused.
const SCHEMA: u64 = 1;
/// Pages that redb keeps in memory, in bytes.
const CACHE_BYTES: usize = 32 * 1024 * 1024;

/// Why the state cannot be read or written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StateError {
    /// Another process, or another [`StateDb`] of this one, has the file.
    #[error("{} is in use: another payer runs on this state; two would sign over each other", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A channel is attached already.
    #[error("channel {channel} is in use in this process: two streams would sign over each other")]
    ChannelInUse {
        /// The channel.
        channel: ChannelId,
    },
    /// The file cannot be opened or created.
    #[error("cannot open {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The database refuses or fails.
    #[error("the state cannot be read or written")]
    Storage(#[source] Arc<redb::Error>),
    /// The file was written by another version.
    #[error("the state has layout {actual}, this version reads {SCHEMA}")]
    Schema {
        /// The layout found.
        actual: u64,
    },
    /// No such channel in the state.
    #[error("channel {channel} is not in the state: add it with its terms and key")]
    UnknownChannel {
        /// The channel.
        channel: ChannelId,
    },
    /// A record that this version cannot have written.
    #[error("the record of channel {channel} is damaged: {what}")]
    Damaged {
        /// The channel.
        channel: ChannelId,
        /// What is wrong.
        what: &'static str,
    },
    /// The key is not the channel's.
    #[error("the key given is not the one of channel {channel}")]
    WrongKey {
        /// The channel.
        channel: ChannelId,
    },
    /// The channel's key was not stored and not given.
    #[error("the key of channel {channel} is not stored: give it, or derive it from the wallet")]
    KeyNeeded {
        /// The channel.
        channel: ChannelId,
    },
    /// The thread that writes is gone.
    #[error("the state is closed")]
    Closed,
}

impl StateError {
    pub(crate) fn storage(error: impl Into<redb::Error>) -> Self {
        Self::Storage(Arc::new(error.into()))
    }
}

/// A channel as the state knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelSummary {
    /// What its uid is made of.
    pub terms: ChannelTerms,
    /// Whether its key is in the state.
    pub key_stored: bool,
    /// The last voucher signed, if any was.
    pub signed: Option<SignedVoucher>,
    /// What the node had made durable when this was last written; it may have gone further.
    pub acked: VoucherBody,
    /// Frames signed and not covered by `acked`.
    pub unacked_frames: usize,
}

/// All of a channel, to go on with it.
pub(crate) struct Loaded {
    pub(crate) terms: ChannelTerms,
    pub(crate) key: SecretKey,
    pub(crate) signed: Option<SignedVoucher>,
    pub(crate) acked: VoucherBody,
    /// Whole messages, in the order they were signed.
    pub(crate) frames: Vec<Bytes>,
    pub(crate) guard: ChannelGuard,
}

/// Holds a channel for one owner; dropping it gives the channel back.
pub(crate) struct ChannelGuard {
    owned: Arc<Mutex<BTreeSet<ChannelId>>>,
    channel: ChannelId,
}

impl Drop for ChannelGuard {
    fn drop(&mut self) {
        lock(&self.owned).remove(&self.channel);
    }
}

/// The payer's state file. A clone is the same file; the last one to be dropped writes what is queued and closes it.
#[derive(Clone)]
pub struct StateDb {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    owned: Arc<Mutex<BTreeSet<ChannelId>>>,
    // Dropped in this order: the thread ends, then the file is closed.
    committer: commit::Committer,
    database: Arc<Database>,
}

impl core::fmt::Debug for StateDb {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("StateDb").field("path", &self.inner.path).finish_non_exhaustive()
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl StateDb {
    /// Opens the state in a file, which is made, readable by its owner alone, if it does not exist.
    ///
    /// # Errors
    /// [`StateError::InUse`], [`StateError::File`], [`StateError::Schema`] or [`StateError::Storage`].
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let file = open_private(path).map_err(|source| StateError::File { path: path.to_owned(), source: Arc::new(source) })?;
        let database = Builder::new().set_cache_size(CACHE_BYTES).create_file(file).map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => StateError::InUse { path: path.to_owned() },
            other => StateError::storage(other),
        })?;
        prepare(&database)?;
        let database = Arc::new(database);
        let committer = commit::Committer::start(Arc::clone(&database))?;
        let inner = Inner { path: path.to_owned(), owned: Arc::default(), committer, database };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Adds a channel; one that is there already keeps its vouchers and frames. Blocks for one write to disk.
    ///
    /// # Errors
    /// [`StateError::WrongKey`] when a key is given that is not the terms' one, [`StateError::Storage`].
    pub fn add_channel(&self, terms: &ChannelTerms, key: &StoredKey) -> Result<ChannelId, StateError> {
        let channel = terms.uid();
        if let StoredKey::Stored(secret) = key
            && secret.public_key().x() != terms.key_x
        {
            return Err(StateError::WrongKey { channel });
        }
        let record = Terms { terms: *terms, key: key.clone() }.to_bytes();
        let write = self.inner.database.begin_write().map_err(StateError::storage)?;
        {
            let mut table = write.open_table(TERMS).map_err(StateError::storage)?;
            table.insert(channel.as_bytes(), record.as_slice()).map_err(StateError::storage)?;
        }
        write.commit().map_err(StateError::storage)?;
        Ok(channel)
    }

    /// Every channel of the state, in the order of the ids.
    ///
    /// # Errors
    /// [`StateError::Storage`] or [`StateError::Damaged`].
    pub fn channels(&self) -> Result<Vec<ChannelSummary>, StateError> {
        let read = self.inner.database.begin_read().map_err(StateError::storage)?;
        let table = read.open_table(TERMS).map_err(StateError::storage)?;
        let mut found = Vec::new();
        for entry in table.iter().map_err(StateError::storage)? {
            let (id, record) = entry.map_err(StateError::storage)?;
            let channel = channel_of(id.value())?;
            let Terms { terms, key } = Terms::from_bytes(channel, record.value())?;
            let totals = read_totals(&read, channel)?;
            let frames = read_frames(&read, channel, totals.acked.lines_total)?;
            found.push(ChannelSummary {
                terms,
                key_stored: matches!(key, StoredKey::Stored(_)),
                signed: totals.signed,
                acked: totals.acked,
                unacked_frames: frames.len(),
            });
        }
        Ok(found)
    }

    /// The frames of a channel that no recorded ack covers, whole messages in the order they were signed.
    ///
    /// # Errors
    /// [`StateError::Storage`] or [`StateError::Damaged`].
    pub fn unacked_frames(&self, channel: ChannelId) -> Result<Vec<Bytes>, StateError> {
        let read = self.inner.database.begin_read().map_err(StateError::storage)?;
        let acked = read_totals(&read, channel)?.acked.lines_total;
        read_frames(&read, channel, acked)
    }

    /// Takes a channel for one owner, with all that is needed to go on.
    pub(crate) fn take(&self, channel: ChannelId, given: Option<SecretKey>) -> Result<Loaded, StateError> {
        if !lock(&self.inner.owned).insert(channel) {
            return Err(StateError::ChannelInUse { channel });
        }
        let guard = ChannelGuard { owned: Arc::clone(&self.inner.owned), channel };
        let read = self.inner.database.begin_read().map_err(StateError::storage)?;
        let table = read.open_table(TERMS).map_err(StateError::storage)?;
        let record = table.get(channel.as_bytes()).map_err(StateError::storage)?;
        let record = record.ok_or(StateError::UnknownChannel { channel })?;
        let Terms { terms, key: stored } = Terms::from_bytes(channel, record.value())?;
        let key = match (given, stored) {
            (Some(key), StoredKey::Stored(_) | StoredKey::Supplied) | (None, StoredKey::Stored(key)) => key,
            (None, StoredKey::Supplied) => return Err(StateError::KeyNeeded { channel }),
        };
        if key.public_key().x() != terms.key_x {
            return Err(StateError::WrongKey { channel });
        }
        let totals = read_totals(&read, channel)?;
        let frames = read_frames(&read, channel, totals.acked.lines_total)?;
        check_continuity(channel, &totals, &frames, &key.public_key())?;
        Ok(Loaded { terms, key, signed: totals.signed, acked: totals.acked, frames, guard })
    }

    pub(crate) fn writes(&self) -> CommitQueue {
        self.inner.committer.queue()
    }
}

/// Makes the tables and checks the layout.
fn prepare(database: &Database) -> Result<(), StateError> {
    let write = database.begin_write().map_err(StateError::storage)?;
    {
        let mut meta = write.open_table(META).map_err(StateError::storage)?;
        let found = meta.get("schema").map_err(StateError::storage)?.map(|schema| schema.value());
        match found {
            None => drop(meta.insert("schema", SCHEMA).map_err(StateError::storage)?),
            Some(SCHEMA) => {}
            Some(actual) => return Err(StateError::Schema { actual }),
        }
        write.open_table(TERMS).map_err(StateError::storage)?;
        write.open_table(TOTALS).map_err(StateError::storage)?;
        write.open_table(FRAMES).map_err(StateError::storage)?;
    }
    write.commit().map_err(StateError::storage)
}

fn channel_of(bytes: &[u8; 32]) -> Result<ChannelId, StateError> {
    ChannelId::from_bytes(*bytes)
        .map_err(|_| StateError::Damaged { channel: ChannelId::from_uid(&[0; 31]), what: "a key is no channel id" })
}

fn read_totals(read: &redb::ReadTransaction, channel: ChannelId) -> Result<Totals, StateError> {
    let table = read.open_table(TOTALS).map_err(StateError::storage)?;
    match table.get(channel.as_bytes()).map_err(StateError::storage)? {
        Some(record) => Totals::from_bytes(channel, record.value()),
        None => Ok(Totals::of_new_channel(channel)),
    }
}

fn read_frames(read: &redb::ReadTransaction, channel: ChannelId, after: u64) -> Result<Vec<Bytes>, StateError> {
    let table = read.open_table(FRAMES).map_err(StateError::storage)?;
    let first = frame_key(channel, after.saturating_add(1));
    let last = frame_key(channel, u64::MAX);
    let mut frames = Vec::new();
    for entry in table.range::<&[u8; 40]>(&first..=&last).map_err(StateError::storage)? {
        let (_, frame) = entry.map_err(StateError::storage)?;
        frames.push(Bytes::copy_from_slice(frame.value()));
    }
    Ok(frames)
}

/// `channel (32) ‖ lines_total (8)`.
fn frame_key(channel: ChannelId, lines_total: u64) -> [u8; 40] {
    let mut key = [0; 40];
    key[..32].copy_from_slice(channel.as_bytes());
    key[32..].copy_from_slice(&lines_total.to_be_bytes());
    key
}

/// The frames lead from what was acked to what was signed last, and that signature is the key's.
fn check_continuity(channel: ChannelId, totals: &Totals, frames: &[Bytes], key: &PublicKey) -> Result<(), StateError> {
    let damaged = |what| StateError::Damaged { channel, what };
    let mut last = totals.acked;
    for frame in frames {
        let message = frame.slice(LENGTH_BYTES.min(frame.len())..);
        let frame = millstream_wire::FrameMessage::decode(message).map_err(|_| damaged("a frame does not parse"))?;
        let body = *frame.voucher().body();
        let root = frame.root().map_err(|_| damaged("a frame has no root"))?;
        let nanos = body.cumulative.to_u64().map_err(|_| damaged("a total is too wide"))?;
        let head = millstream_billing::next_head(&last.bill_head, &root, body.lines_total, nanos);
        if body.channel != channel || body.bill_head != head {
            return Err(damaged("the frames do not follow from what was acked"));
        }
        last = body;
    }
    let signed = totals.signed.as_ref().map_or(totals.acked, |voucher| *voucher.body());
    if last != signed {
        return Err(damaged("the frames do not lead to the last voucher"));
    }
    match totals.signed {
        Some(voucher) => voucher.verify(key).map(drop).map_err(|_| damaged("the last voucher's signature does not hold")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
