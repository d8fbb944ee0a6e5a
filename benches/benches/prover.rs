//! Prove a settlement of a full book, witness and native check included: our own arithmetic against that of arkworks, on rayon's threads.
//!
//! Keys come from the directory of development keys; the first time for a size, making them takes up to a minute. A filter, such as
//! `prove/fastest/96`, leaves out what it does not name.
#![allow(missing_docs, reason = "criterion's macros")]

use std::sync::LazyLock;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use millstream_benches::full_settlement;
use millstream_circuit::BookSize;
use millstream_prover::{Arithmetic, Blinding, CircuitId, InsecureDevKeys, Prover, default_keys_dir};

/// Slots of the books: those that fill the smallest domain in use, the default one and the largest.
const SLOTS: [usize; 3] = [24, 96, 384];

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
        let statement = LazyLock::new(|| full_settlement(size));
        group.bench_function(BenchmarkId::new("witness", slots), |bencher| bencher.iter(|| statement.witness()));
        for (name, arithmetic) in [("fastest", Arithmetic::Fastest), ("affine", Arithmetic::Affine), ("ark", Arithmetic::Ark)] {
            group.bench_function(BenchmarkId::new(name, slots), |bencher| {
                let prover = Prover::insecure_dev_with([keys.clone()], arithmetic);
                let blinding = Blinding::from_entropy(&[5; 128]);
                bencher.iter(|| prover.prove_settle(&statement, &blinding).expect("an honest statement"));
                assert_eq!(prover.wrong_proofs(), 0, "every arithmetic agrees");
            });
        }
    }
    group.finish();
}

criterion_group!(benches, prove);
criterion_main!(benches);
