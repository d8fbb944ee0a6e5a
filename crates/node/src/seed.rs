//! Work on the database of a node that does not run: filling an empty one with channels, to see how a node behaves with many; and compacting.

use anyhow::Context;
use bytes::Bytes;
use millstream_billing::{genesis_head, next_head};
use millstream_engine::escrow::EscrowConfig;
use millstream_engine::{ChainFact, Effect, EngineConfig, FrameInput, Input, Record, ReplyId, Restoring, Table};
use millstream_store::{Backend, Batch, KeyRange, Read, RocksStore, StoreOptions};
use millstream_types::{Address, Amount, ChainId, ChannelId, CumulativeAmount, Hash256, LedgerId, Timestamp};
use millstream_voucher::{Signature, SignedVoucher, VerifiedVoucher, VoucherBody};
use sha2::{Digest, Sha256};

use crate::config::NodeConfig;
use crate::core::{SCHEMA, Served, bind, store_table};
use crate::database;

/// Channels in one batch.
const BATCH_CHANNELS: u32 = 4_096;

/// What each channel has deposited, in nanos.
const DEPOSIT_NANOS: u64 = 5_000_000_000;

/// Writes `count` open channels into the empty database of a node that does not run, as if they had been read from the chain. Every other one
/// has an accepted voucher. Ids, payers, keys and signatures are derived from their numbers and belong to nobody; the ledger has none of
/// these channels, so they are in no book and in no queue, and no settlement touches them. For measurements.
///
/// # Errors
/// The database has channels, belongs to another ledger, is in use or cannot be written.
pub fn seed_channels(config: &NodeConfig, count: u32) -> anyhow::Result<()> {
    let contract = config.chain.ledger.context("chain.ledger is missing: channels are of a ledger")?;
    let mut store = open(config)?;
    let ledger = LedgerId { chain: ChainId::new(config.chain.chain_id), contract };
    bind(&mut store, Served::Ledger(ledger))?;
    let mut is_empty = true;
    for table in [Table::Channels, Table::Epochs, Table::Requests, Table::Frames] {
        store.scan(store_table(table), &KeyRange::all(), &mut |_, _| {
            is_empty = false;
            std::ops::ControlFlow::Break(())
        })?;
    }
    anyhow::ensure!(is_empty, "{} is not empty: channels are seeded into the database of a new node", database(config).display());
    let (mut batch, mut next) = (Batch::new(), 0);
    while next < count {
        let end = next.saturating_add(BATCH_CHANNELS).min(count);
        batch.clear();
        for record in channel_records(ledger, next..end)? {
            batch.put(store_table(record.key().table()), &record.key().to_bytes(), &record.encode());
        }
        store.commit(&batch)?;
        next = end;
    }
    Ok(())
}

/// Compacts the database of a node that does not run: what was deleted takes no space afterwards, nor do logs; the next start makes them again.
///
/// # Errors
/// There is no database, it is in use, or it cannot be written.
pub fn compact(config: &NodeConfig) -> anyhow::Result<()> {
    anyhow::ensure!(database(config).is_dir(), "{} is no database", database(config).display());
    let options = StoreOptions { log_bytes: 0, ..StoreOptions::new(SCHEMA) };
    Ok(RocksStore::open(&database(config), &options)?.compact()?)
}

fn open(config: &NodeConfig) -> anyhow::Result<RocksStore> {
    std::fs::create_dir_all(&config.server.data_dir).with_context(|| format!("cannot create {}", config.server.data_dir.display()))?;
    Ok(RocksStore::open(&database(config), &StoreOptions::new(SCHEMA))?)
}

/// The records that an engine writes for channels which the chain opened and, every other one, payers paid on.
fn channel_records(ledger: LedgerId, numbers: std::ops::Range<u32>) -> anyhow::Result<Vec<Record>> {
    let config = EngineConfig {
        ledger,
        epoch_frames_max: u32::MAX,
        epoch_millis_max: u64::MAX,
        retention_millis: None,
        escrow: EscrowConfig::default(),
    };
    let (mut effects, mut unbilled) = (Vec::new(), Vec::new());
    let mut engine = Restoring::new(config).finish(&mut unbilled);
    let now = Timestamp::default();
    for number in numbers {
        let (identity, signature) = (derive(b"identity", number), derive(b"signature", number));
        let mut uid = [0; 31];
        uid.copy_from_slice(&identity[..31]);
        let channel = ChannelId::from_uid(&uid);
        let mut payer = [0; 20];
        payer.copy_from_slice(&signature[..20]);
        let opened = ChainFact::Opened {
            channel,
            payer: Address::from_bytes(payer),
            key_x: derive(b"key", number),
            deposit: Amount::from_nanos(DEPOSIT_NANOS),
            request: number.into(),
            at: now,
        };
        engine.apply(now, Input::Chain(opened), &mut unbilled)?;
        if number % 2 == 0 {
            let (root, lines_total) = (Hash256::from_bytes(identity), 1 + number % 1_024);
            let nanos = u64::from(lines_total) * 150;
            let body = VoucherBody {
                channel,
                lines_total: lines_total.into(),
                cumulative: CumulativeAmount::from_nanos(nanos),
                bill_head: next_head(&genesis_head(&channel), &root, lines_total.into(), nanos),
            };
            let mut bytes = [0; 48];
            bytes[..16].copy_from_slice(&identity[..16]);
            bytes[16..].copy_from_slice(&signature);
            // Nobody paid: the record has the size of a real one, and nothing ever proves or settles it.
            let voucher = VerifiedVoucher::assume_verified(SignedVoucher::new(body, Signature::from_bytes(bytes))?);
            let amount = Amount::from_nanos(nanos);
            let frame = FrameInput { reply: ReplyId(0), voucher, root, lines: lines_total, amount, bytes: Bytes::new() };
            engine.apply(now, Input::Frame(frame), &mut unbilled)?;
        }
    }
    engine.end_tick(&mut effects)?;
    Ok(effects
        .into_iter()
        .filter_map(|effect| match effect {
            Effect::Put(record @ Record::Channel(_)) => Some(record),
            _ => None,
        })
        .collect())
}

fn derive(what: &[u8], number: u32) -> [u8; 32] {
    Sha256::new().chain_update(b"millstream/seed").chain_update(what).chain_update(number.to_be_bytes()).finalize().into()
}
