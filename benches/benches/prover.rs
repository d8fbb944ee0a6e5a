//! Prove a settlement of a full book, witness and native check included: lanes against arkworks, on rayon's threads.
//!
//! Keys come from the directory of development keys; the first time for a size, making them takes up to a minute. A filter, such as
//! `prove/lanes/96`, leaves out what it does not name.
#![allow(missing_docs, reason = "criterion's macros")]

use std::sync::LazyLock;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use millstream_benches::ledger;
use millstream_circuit::{Book, BookSize, Operation, Place, RegisterStatement, SettleStatement, field_from_word};
use millstream_prover::{Arithmetic, Blinding, CircuitId, InsecureDevKeys, Prover, default_keys_dir};
use millstream_types::{BillHead, BookId, ChannelId, CumulativeAmount, Tier};
use millstream_voucher::{SecretKey, VoucherBody};

/// Slots of the books: those that fill the smallest domain in use, the default one and the largest.
const SLOTS: [usize; 3] = [24, 96, 384];

fn secret(slot: u16) -> SecretKey {
    let mut entropy = [7; 64];
    entropy[..2].copy_from_slice(&slot.to_be_bytes());
    SecretKey::from_entropy(&entropy).expect("fixed entropy makes a key")
}

fn uid(slot: u16) -> ChannelId {
    let mut bytes = [9; 31];
    bytes[..2].copy_from_slice(&slot.to_be_bytes());
    ChannelId::from_uid(&bytes)
}

/// A voucher for every slot of a book of channels, with deltas of five bytes.
fn settlement(size: BookSize) -> SettleStatement {
    let place = Place { ledger: ledger(), book: BookId::new(Tier::new(0), 7).expect("small") };
    let open = |slot: u16| {
        let key_x = field_from_word(&secret(slot).public_key().x()).expect("below the order");
        Operation::Open { slot, uid: uid(slot), key_x, amount_nanos: 1 << 42 }
    };
    let slots = 0..size.slots();
    let opens: Vec<Operation> = slots.clone().map(open).collect();
    let book = RegisterStatement::new(place, &Book::empty(size), &opens).expect("requests that can be served").book_after;
    let voucher = |slot: u16| {
        let nanos = (1 << 39) + 0x1234_5678 * (u64::from(slot) + 1);
        let (cumulative, bill_head) = (CumulativeAmount::from_nanos(nanos), BillHead::from_bytes([0xb1; 32]));
        Some(secret(slot).sign(VoucherBody { channel: uid(slot), lines_total: 1, cumulative, bill_head }).expect("64 bits"))
    };
    let vouchers: Vec<_> = slots.map(voucher).collect();
    SettleStatement::new(place, &book, &vouchers).expect("vouchers that settle")
}

fn prove(criterion: &mut Criterion) {
    // Cargo says so when it measures. Under test, the smallest book does: its keys are made in an instant.
    let measuring = std::env::args().any(|argument| argument == "--bench");
    let sizes: &[usize] = if measuring { &SLOTS } else { &[1] };
    let mut group = criterion.benchmark_group("prove");
    group.sample_size(10);
    for slots in sizes {
        let size = BookSize::new(*slots).expect("a size of book");
        let circuit = CircuitId::settle(size);
        // Made when they are first used: a filter may leave this size out.
        let keys = LazyLock::new(|| {
            let keys = if measuring {
                InsecureDevKeys::load_or_generate(circuit, &default_keys_dir().expect("a directory for keys"))
            } else {
                InsecureDevKeys::generate(circuit)
            };
            keys.expect("development keys")
        });
        let statement = LazyLock::new(|| settlement(size));
        group.bench_function(BenchmarkId::new("witness", slots), |bencher| bencher.iter(|| statement.witness()));
        for (name, arithmetic) in [("lanes", Arithmetic::Fastest), ("ark", Arithmetic::Ark)] {
            group.bench_function(BenchmarkId::new(name, slots), |bencher| {
                let prover = Prover::insecure_dev_with([keys.clone()], arithmetic);
                let blinding = Blinding::from_entropy(&[5; 128]);
                bencher.iter(|| prover.prove_settle(&statement, &blinding).expect("an honest statement"));
                assert_eq!(prover.lane_failures(), 0, "lanes and arkworks agree");
            });
        }
    }
    group.finish();
}

criterion_group!(benches, prove);
criterion_main!(benches);
