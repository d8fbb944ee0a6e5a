//! Append frames to an epoch; index and seal it; build its tree, and prove that a frame is in it.
#![allow(missing_docs, reason = "criterion's macros")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use millstream_benches::{epoch, leaves, ledger};
use millstream_billing::{BatchTree, EpochHeader, EpochTree, FrameLeaf};
use millstream_engine::index_records;

fn epochs(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("epoch");
    group.sample_size(10);
    let appended = leaves(64);
    group.throughput(Throughput::Elements(64));
    group.bench_function("append, leaf nodes of 64 frames", |bencher| {
        bencher.iter(|| appended.iter().filter_map(FrameLeaf::node).count());
    });
    for frames in [6_u64, 64, 1_024] {
        let leaves = leaves(frames);
        group.throughput(Throughput::Elements(frames));
        group.bench_function(BenchmarkId::new("book in the journal", frames), |bencher| {
            bencher.iter(|| BatchTree::of_frames(&leaves).map(|tree| tree.root()));
        });
    }
    for frames in [64, 4_096, 65_536] {
        let leaves = leaves(frames);
        group.throughput(Throughput::Elements(frames));
        group.bench_function(BenchmarkId::new("seal", frames), |bencher| {
            bencher.iter(|| EpochHeader::of(ledger(), epoch(), &leaves).expect("an epoch"));
        });
        group.bench_function(BenchmarkId::new("tree", frames), |bencher| {
            bencher.iter(|| EpochTree::new(ledger(), epoch(), &leaves).expect("an epoch"));
        });
        group.bench_function(BenchmarkId::new("index", frames), |bencher| bencher.iter(|| index_records(epoch(), &leaves)));
        let tree = EpochTree::new(ledger(), epoch(), &leaves).expect("an epoch");
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("path", frames), |bencher| bencher.iter(|| tree.path(7).expect("there")));
    }
    group.finish();
}

criterion_group!(benches, epochs);
criterion_main!(benches);
