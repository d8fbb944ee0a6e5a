//! How RocksDB is set up, and why. Figures: 2 cores, NVMe-like virtual disk, one writer, measured.

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode, Env, LogLevel, Options, ReadOptions, WriteOptions,
};

use crate::error::StoreError;
use crate::layout::SchemaVersion;
use crate::log::LOGS_KEPT;
use crate::table::Table;

const MIB: usize = 1 << 20;
const SMALL_WRITE_BUFFER_BYTES: usize = 8 * MIB;
const BLOCK_CACHE_BYTES: usize = 64 * MIB;
/// Values from this size live in blob files. A frame of a few lines stays in the table; signed frames of 64 lines go out.
const BLOB_BYTES_MIN: u64 = 1024;
const BLOB_FILE_BYTES: u64 = 256 << 20;
const SCAN_READAHEAD_BYTES: usize = 2 * MIB;

/// Settings of a store.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Version of the record encodings; a database of any other version is refused.
    pub schema: SchemaVersion,
    /// Memory table of `Channels`. Larger is slower: deeper skip list, more cache misses.
    pub channels_buffer_bytes: usize,
    /// Memory table of `Frames`.
    pub frames_buffer_bytes: usize,
    /// Log size at which RocksDB flushes, so that at most this much is replayed at start-up. It has to be so small that logs become free as
    /// fast as new ones begin.
    pub log_bytes_max: u64,
    /// Size of the logs that are made ready at start-up, to be written over: about what is written before a memory table is full.
    /// 0 makes none.
    pub log_bytes: usize,
}

impl StoreOptions {
    /// The measured settings: 64 MiB, 32 MiB, and 192 MiB of log in pieces of 40 MiB.
    #[must_use]
    pub fn new(schema: SchemaVersion) -> Self {
        Self { schema, channels_buffer_bytes: 64 * MIB, frames_buffer_bytes: 32 * MIB, log_bytes_max: 192 << 20, log_bytes: 40 * MIB }
    }

    /// For the database as a whole.
    pub(crate) fn database(&self) -> Result<Options, StoreError> {
        let mut options = base();
        options.create_if_missing(true);
        // Tables are appended over the releases; an older database gets the new ones empty.
        options.create_missing_column_families(true);
        options.set_max_total_wal_size(self.log_bytes_max);
        options.set_recycle_log_file_num(LOGS_KEPT);
        options.set_max_background_jobs(2);
        // Compaction yields to the committer, which would otherwise wait for a scheduler tick after each sync. Flushes keep their
        // priority: a starved flush stalls writes.
        let mut env = Env::new().map_err(StoreError::rocks("create its environment"))?;
        env.lower_thread_pool_cpu_priority();
        options.set_env(&env);
        Ok(options)
    }

    /// One descriptor per table.
    pub(crate) fn tables(&self) -> Vec<ColumnFamilyDescriptor> {
        let cache = Cache::new_lru_cache(BLOCK_CACHE_BYTES);
        Table::ALL.into_iter().map(|table| ColumnFamilyDescriptor::new(table.name(), self.table(table, &cache))).collect()
    }

    fn table(&self, table: Table, cache: &Cache) -> Options {
        let mut options = Options::default();
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(cache);
        options.set_compression_type(DBCompressionType::None);
        match table {
            Table::Channels => {
                options.set_write_buffer_size(self.channels_buffer_bytes);
                // Closed channels are looked up by key and mostly absent.
                blocks.set_bloom_filter(10.0, false);
            }
            Table::Frames => {
                options.set_write_buffer_size(self.frames_buffer_bytes);
                // Keys only grow, so flushed files never overlap and move down the levels without being rewritten. In 64 frames a
                // synced batch, 384 MiB in all, CPU of the whole process per frame and bytes written per payload byte:
                //
                // | frame   | scattered keys, blobs | growing keys, blobs | growing keys, levels |
                // |---------|-----------------------|---------------------|----------------------|
                // | 160 B   | 8.4 µs, 4.65          | 2.4 µs, 2.61        | 1.7 µs, 2.61         |
                // | 1,700 B | 8.2 µs, 2.16          | 3.5 µs, 2.09        | 3.3 µs, 2.07         |
                // | 6,200 B | 18.3 µs, 2.05         | 14.8 µs, 2.03       | 15.9 µs, 2.02        |
                //
                // So blobs cost nothing and gain nothing, until epochs are deleted: the tombstone of a range shares a file with the
                // newest frames, that file overlaps every one between, and levels rewrite them. 1 GiB of 1,700 B frames, all but the
                // newest 256 MiB deleted on the way: 2.11 bytes written per payload byte with blobs, 3.32 with levels (2.83 with a
                // first level of 64 MiB). A frame below the blob size is in the table in either case.
                options.set_enable_blob_files(true);
                options.set_min_blob_size(BLOB_BYTES_MIN);
                options.set_blob_file_size(BLOB_FILE_BYTES);
                options.set_blob_compression_type(DBCompressionType::None);
                // A blob file goes when its last value was deleted; moving live values out of half-dead ones is not worth a rewrite.
                options.set_enable_blob_gc(false);
            }
            // As hot as channels, and fewer of them.
            Table::Escrows => options.set_write_buffer_size(self.frames_buffer_bytes),
            // Nearly every request is new, and looked for before it is taken.
            Table::Outcomes => {
                options.set_write_buffer_size(self.frames_buffer_bytes);
                blocks.set_bloom_filter(10.0, false);
            }
            // Growing keys too, and small values: 2.6 bytes written per payload byte, most of it the log.
            Table::Leaves | Table::Index | Table::Charges | Table::Batches | Table::Accounts => {
                options.set_write_buffer_size(self.frames_buffer_bytes)
            }
            Table::Meta | Table::Epochs | Table::Books | Table::Chain | Table::Relays | Table::Submissions | Table::Tallies => {
                options.set_write_buffer_size(SMALL_WRITE_BUFFER_BYTES);
            }
        }
        options.set_block_based_table_factory(&blocks);
        options
    }
}

/// What inspecting and opening a database have in common: everything about integrity.
pub(crate) fn base() -> Options {
    let mut options = Options::default();
    options.set_paranoid_checks(true);
    // The log may end in a torn write of a batch that nobody was told about; that is what an ordinary crash leaves, so refusing it
    // (AbsoluteConsistency) would refuse ordinary restarts. PointInTime recovers up to the first record that is not intact and nothing
    // after it. Whether that point lies below what was acknowledged, RocksDB cannot know; the acknowledged head can.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    // A whole log file that is missing or short, and not the last, is found by name and size.
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(4);
    options.set_max_log_file_size(16 * MIB);
    options.set_stats_dump_period_sec(0);
    options
}

/// Every write is in the log and synced when it returns.
pub(crate) fn synced() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    options.disable_wal(false);
    options
}

/// Reads verify checksums; a scan does not displace what is hot in the cache.
pub(crate) fn scanning() -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_verify_checksums(true);
    options.fill_cache(false);
    options.set_readahead_size(SCAN_READAHEAD_BYTES);
    options
}
