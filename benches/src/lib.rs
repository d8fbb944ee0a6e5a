//! Workloads of the payment path, shared by the benches and run tiny under test so that they cannot rot.
//!
//! Each stage alone: decode, hash, verify, apply, commit, seal, prove inclusion. The whole path is measured by `cargo xtask demo` and
//! `millstream replay`, against a real node. `cargo bench --package millstream-benches` runs all; `cargo test` runs each once.

use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use millstream_billing::{FrameLeaf, genesis_head, next_head};
use millstream_circuit::{Book, BookSize, Operation, Place, RegisterStatement, SettleStatement, field_from_word};
use millstream_engine::escrow::EscrowConfig;
use millstream_engine::{ChainFact, Effect, Engine, EngineConfig, FrameInput, Input, Key, Record, ReplyId, Restoring};
use millstream_load::Workload;
use millstream_load::workload::LINE_NANOS;
use millstream_store::Batch;
use millstream_types::{
    Address, Amount, BillHead, BookId, ChainId, ChannelId, CumulativeAmount, EpochId, Hash256, LedgerId, Tier, Timestamp,
};
use millstream_voucher::{SecretKey, SignedVoucher, VerifiedVoucher, VoucherBody};
use millstream_wire::FrameMessage;

/// Lines under one signature: each line, a few, and the sizes that are recommended.
pub const LINES_PER_FRAME: [usize; 4] = [1, 16, 64, 256];

/// A deposit that no bench exhausts.
const DEPOSIT: Amount = Amount::from_units(u64::MAX as u128);

/// The ledger of the workloads.
#[must_use]
pub fn ledger() -> LedgerId {
    LedgerId { chain: ChainId::new(31_337), contract: Address::from_bytes([0x11; 20]) }
}

/// The voucher key of every channel.
///
/// # Panics
/// Never: the entropy is fixed.
#[must_use]
pub fn secret() -> SecretKey {
    SecretKey::from_entropy(&[7; 64]).expect("fixed entropy makes a key")
}

/// The channel with a number.
#[must_use]
pub fn channel(number: u32) -> ChannelId {
    let mut uid = [0; 31];
    uid[..4].copy_from_slice(&number.to_be_bytes());
    ChannelId::from_uid(&uid)
}

/// A payer that signs frames on one channel: the load tool's, with a number of lines for each frame.
pub struct Payer(millstream_load::Payer);

impl Payer {
    /// A payer that has paid nothing.
    #[must_use]
    pub fn new(number: u32) -> Self {
        Self(millstream_load::Payer::new(channel(number), secret()))
    }

    /// The next frame, of `lines` payments of [`LINE_NANOS`], as it arrives: kind and body.
    ///
    /// # Panics
    /// For a number of lines that no frame has.
    pub fn frame(&mut self, lines: usize) -> Bytes {
        let workload = Workload::new(0, lines).expect("a frame");
        let frames = workload.sign(&self.0, 1, &AtomicU64::new(0)).expect("64 bits");
        self.0.advance(&frames, 1);
        frames.message(0)
    }
}

/// What a session makes of a frame: decoded, hashed, and taken as verified.
///
/// # Panics
/// For bytes that are no frame of an honest payer.
#[must_use]
pub fn verified(bytes: Bytes) -> FrameInput {
    let frame = FrameMessage::decode(bytes).expect("a frame");
    let voucher = frame.voucher().verify(&secret().public_key()).expect("honest");
    FrameInput {
        reply: ReplyId(0),
        voucher,
        root: frame.root().expect("at least one line"),
        lines: u32::from(frame.count()),
        amount: frame.amount(),
        bytes: frame.into_bytes(),
    }
}

/// Whether this run measures; under test every workload runs once, and the large ones are left out.
#[must_use]
pub fn is_measured() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// Numbers of channels: those of a small provider up to a large one; a few under test.
#[must_use]
pub fn channel_counts() -> &'static [u32] {
    if is_measured() { &[10_000, 100_000, 1_000_000] } else { &[100] }
}

/// Puts so many open channels into an empty store, every other one with an accepted voucher.
///
/// # Errors
/// The store refuses.
///
/// # Panics
/// When the engine faults.
pub fn fill(store: &mut impl millstream_store::Backend, channels: u32) -> Result<(), millstream_store::StoreError> {
    // The signature is not looked at again, so one payer's will do for all.
    let mut frame = verified(Payer::new(0).frame(1));
    let signature = *frame.voucher.signature();
    for first in (0..channels).step_by(4_096) {
        let (mut engine, numbers) = (Engine::restore(config(), [], &mut Vec::new()), first..channels.min(first + 4_096));
        for number in numbers {
            open(&mut engine, number);
            if number % 2 == 0 {
                let mut body = *frame.voucher.body();
                body.channel = channel(number);
                body.bill_head = next_head(&genesis_head(&body.channel), &frame.root, 1, LINE_NANOS);
                let voucher = SignedVoucher::new(body, signature).expect("64 bits");
                frame.voucher = VerifiedVoucher::assume_verified(voucher);
                engine.apply(Timestamp::default(), Input::Frame(frame.clone()), &mut Vec::new()).expect("honest");
            }
        }
        let mut effects = Vec::new();
        engine.end_tick(&mut effects).expect("books");
        effects.retain(|effect| matches!(effect, Effect::Put(Record::Channel(_))));
        store.commit(&batch(&effects))?;
    }
    Ok(())
}

/// The engine from the channels of a store, as a node reads them at its start.
///
/// # Panics
/// When the store holds what an engine did not write.
pub fn recover(store: &impl millstream_store::Read) -> Engine {
    let mut restoring = Restoring::new(config());
    let visit = &mut |key: &[u8], value: &[u8]| {
        restoring.record(Record::decode(millstream_engine::Table::Channels, key, value).expect("an engine wrote it"));
        std::ops::ControlFlow::Continue(())
    };
    store.scan(millstream_store::Table::Channels, &millstream_store::KeyRange::all(), visit).expect("reads");
    restoring.finish(&mut Vec::new())
}

fn config() -> EngineConfig {
    EngineConfig {
        ledger: ledger(),
        epoch_frames_max: 1 << 20,
        epoch_millis_max: 3_600_000,
        retention_millis: None,
        escrow: EscrowConfig::default(),
    }
}

fn open(engine: &mut Engine, number: u32) {
    let (payer, key_x) = (Address::from_bytes([0x22; 20]), secret_x());
    let (request, at) = (number.into(), Timestamp::default());
    let opened = ChainFact::Opened { channel: channel(number), payer, key_x, deposit: DEPOSIT, request, at };
    engine.apply(at, Input::Chain(opened), &mut Vec::new()).expect("opened once");
}

fn secret_x() -> [u8; 32] {
    static X: std::sync::LazyLock<[u8; 32]> = std::sync::LazyLock::new(|| secret().public_key().x());
    *X
}

/// An engine with so many open channels.
///
/// # Panics
/// Never: the chain's story is a plain one.
#[must_use]
pub fn engine(channels: u32) -> Engine {
    let mut engine = Engine::restore(config(), [], &mut Vec::new());
    (0..channels).for_each(|number| open(&mut engine, number));
    engine.end_tick(&mut Vec::new()).expect("books");
    engine
}

/// Applies one tick of frames, and gives back its effects.
///
/// # Panics
/// When the engine faults.
pub fn tick(engine: &mut Engine, frames: Vec<FrameInput>) -> Vec<Effect> {
    let mut effects = Vec::new();
    for frame in frames {
        engine.apply(Timestamp::from_millis(1), Input::Frame(frame), &mut effects).expect("honest frames");
    }
    engine.end_tick(&mut effects).expect("books");
    effects
}

/// A tick's effects as they would be in another epoch.
#[must_use]
pub fn billed_in(effects: &[Effect], epoch: EpochId) -> Vec<Effect> {
    let mut effects = effects.to_vec();
    for effect in &mut effects {
        match effect {
            Effect::PutFrame { epoch: of, .. } => *of = epoch,
            Effect::Put(Record::Leaves(leaves)) => leaves.epoch = epoch,
            Effect::Put(Record::FrameBatch(batch)) => batch.epoch = epoch,
            _ => {}
        }
    }
    effects
}

/// The batch that a node commits for a tick's effects.
#[must_use]
pub fn batch(effects: &[Effect]) -> Batch {
    let mut batch = Batch::new();
    for effect in effects {
        match effect {
            Effect::Put(record) => batch.put(table(&record.key()), &record.key().to_bytes(), &record.encode()),
            Effect::PutFrame { epoch, index, bytes, .. } => {
                let key = Key::Frame(*epoch, *index);
                batch.put(table(&key), &key.to_bytes(), bytes);
            }
            Effect::Delete(key) => batch.delete(table(key), &key.to_bytes()),
            Effect::DeleteThrough(_)
            | Effect::ReclaimThrough(_)
            | Effect::ForgetOutcomesBefore(_)
            | Effect::ForgetTalliesBefore(_)
            | Effect::Answer { .. }
            | Effect::EscrowAnswer { .. }
            | Effect::SealEpoch { .. }
            | Effect::WakeAt(_) => {}
        }
    }
    batch
}

const fn table(key: &Key) -> millstream_store::Table {
    match key.table() {
        millstream_engine::Table::Meta => millstream_store::Table::Meta,
        millstream_engine::Table::Channels => millstream_store::Table::Channels,
        millstream_engine::Table::Frames => millstream_store::Table::Frames,
        millstream_engine::Table::Leaves => millstream_store::Table::Leaves,
        millstream_engine::Table::Epochs => millstream_store::Table::Epochs,
        millstream_engine::Table::Requests => millstream_store::Table::Chain,
        millstream_engine::Table::Index => millstream_store::Table::Index,
        millstream_engine::Table::Escrows => millstream_store::Table::Escrows,
        millstream_engine::Table::Charges => millstream_store::Table::Charges,
        millstream_engine::Table::Outcomes => millstream_store::Table::Outcomes,
        millstream_engine::Table::Batches => millstream_store::Table::Batches,
        millstream_engine::Table::Accounts => millstream_store::Table::Accounts,
        millstream_engine::Table::Tallies => millstream_store::Table::Tallies,
    }
}

/// The leaves of an epoch of so many frames.
#[must_use]
pub fn leaves(frames: u64) -> Vec<FrameLeaf> {
    let leaf = |index: u64| FrameLeaf {
        channel: channel(u32::try_from(index % 96).unwrap_or_default()),
        lines_before: index * 256,
        lines_after: (index + 1) * 256,
        cumulative_before: index * 153_600,
        cumulative_after: (index + 1) * 153_600,
        bill_head: BillHead::from_bytes([3; 32]),
        frame_root: Hash256::from_bytes([4; 32]),
    };
    (0..frames).map(leaf).collect()
}

/// The number of the epoch of [`leaves`].
#[must_use]
pub const fn epoch() -> EpochId {
    EpochId::new(0)
}

fn slot_secret(slot: u16) -> SecretKey {
    let mut entropy = [7; 64];
    entropy[..2].copy_from_slice(&slot.to_be_bytes());
    SecretKey::from_entropy(&entropy).expect("fixed entropy makes a key")
}

fn slot_channel(slot: u16) -> ChannelId {
    let mut bytes = [9; 31];
    bytes[..2].copy_from_slice(&slot.to_be_bytes());
    ChannelId::from_uid(&bytes)
}

/// A settlement of a full book: a voucher for every slot, with deltas of five bytes.
///
/// # Panics
/// Never: the book is made to be settled.
#[must_use]
pub fn full_settlement(size: BookSize) -> SettleStatement {
    let place = Place { ledger: ledger(), book: BookId::new(Tier::new(0), 7).expect("small") };
    let open = |slot: u16| {
        let key_x = field_from_word(&slot_secret(slot).public_key().x()).expect("below the order");
        Operation::Open { slot, uid: slot_channel(slot), key_x, amount_nanos: 1 << 42 }
    };
    let slots = 0..size.slots();
    let opens: Vec<Operation> = slots.clone().map(open).collect();
    let book = RegisterStatement::new(place, &Book::empty(size), &opens).expect("requests that can be served").book_after;
    let voucher = |slot: u16| {
        let nanos = (1 << 39) + 0x1234_5678 * (u64::from(slot) + 1);
        let (cumulative, bill_head) = (CumulativeAmount::from_nanos(nanos), BillHead::from_bytes([0xb1; 32]));
        Some(
            slot_secret(slot)
                .sign(VoucherBody { channel: slot_channel(slot), lines_total: 1, cumulative, bill_head })
                .expect("64 bits"),
        )
    };
    let vouchers: Vec<_> = slots.map(voucher).collect();
    SettleStatement::new(place, &book, &vouchers).expect("vouchers that settle")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workloads_are_honest() {
        for lines in LINES_PER_FRAME {
            let (mut payer, mut engine) = (Payer::new(0), engine(2));
            let frames = (0..3).map(|_| verified(payer.frame(lines))).collect();
            let effects = tick(&mut engine, frames);
            assert_eq!(effects.iter().filter(|effect| matches!(effect, Effect::PutFrame { .. })).count(), 3);
            assert!(batch(&effects).size_bytes() > 3 * 24 * lines);
        }
        assert!(millstream_billing::EpochTree::new(ledger(), epoch(), &leaves(5)).is_ok());
    }
}
