//! What a payer computes to leave alone: the statement that closes its channel in a book of the smallest standard size, and the proof.
#![allow(missing_docs, reason = "criterion's macros")]

use criterion::{Criterion, criterion_group, criterion_main};
use millstream_benches::{channel, ledger, secret};
use millstream_circuit::{Book, BookSize, Operation, Place, RegisterStatement};
use millstream_prover::{Arithmetic, Blinding, CircuitId, InsecureDevKeys, Prover, default_keys_dir};
use millstream_types::BookId;

/// Deposits of the book's channels, in nanos.
const DEPOSIT: u64 = 1_000_000_000;

/// A book that is full, and the close of one of its channels.
fn full_book(size: BookSize) -> (Book, [Operation; 1]) {
    let key_x = secret().public_key().point().x;
    let open = |slot: u16| Operation::Open { slot, uid: channel(u32::from(slot) + 1), key_x, amount_nanos: DEPOSIT };
    let opens: Vec<Operation> = (0..size.slots()).map(open).collect();
    let mut book = Book::empty(size);
    let rows = book.rows_for(&opens).expect("empty slots");
    book.apply_rows(&rows).expect("rows of this book");
    (book, [Operation::Close { uid: channel(1) }])
}

fn exit(criterion: &mut Criterion) {
    let [size, ..] = BookSize::STANDARD;
    let (book, close) = full_book(size);
    let place = Place { ledger: ledger(), book: BookId::from_u32(0) };
    let directory = default_keys_dir().expect("a directory for keys");
    let keys = InsecureDevKeys::load_or_generate(CircuitId::register(size), &directory).expect("keys");
    let statement = || RegisterStatement::new(place, &book, &close).expect("the channel is in the book");
    let blinding = Blinding::from_os().expect("randomness");
    let mut group = criterion.benchmark_group("exit");
    group.sample_size(10);
    group.bench_function("statement", |bencher| bencher.iter(statement));
    // The first is what a payer's machine does: lanes where it has them.
    for (name, arithmetic) in [("fastest", Arithmetic::Fastest), ("affine", Arithmetic::Affine), ("ark", Arithmetic::Ark)] {
        let prover = Prover::insecure_dev_with([keys.clone()], arithmetic);
        group.bench_function(format!("statement_and_proof/{name}"), |bencher| {
            bencher.iter(|| prover.prove_register(&statement(), &blinding).expect("a proof"));
        });
    }
    group.finish();
}

criterion_group!(benches, exit);
criterion_main!(benches);
