//! Seal an epoch, and prove that a frame is in it.
#![allow(missing_docs, reason = "criterion's macros")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use millstream_benches::{epoch, leaves, ledger};
use millstream_billing::EpochTree;

fn epochs(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("epoch");
    group.sample_size(10);
    for frames in [64, 4_096, 65_536] {
        let leaves = leaves(frames);
        group.throughput(Throughput::Elements(frames));
        group.bench_function(BenchmarkId::new("seal", frames), |bencher| {
            bencher.iter(|| EpochTree::new(ledger(), epoch(), &leaves).expect("an epoch"));
        });
        let tree = EpochTree::new(ledger(), epoch(), &leaves).expect("an epoch");
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("path", frames), |bencher| bencher.iter(|| tree.path(7).expect("there")));
    }
    group.finish();
}

criterion_group!(benches, epochs);
criterion_main!(benches);
