//! Commit: one tick's batch, its log and the acknowledged head synced.
#![allow(missing_docs, reason = "criterion's macros")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use millstream_benches::{LINES_PER_FRAME, Payer, batch, engine, on_the_wire, tick, verified};
use millstream_store::{Backend, RocksStore, SchemaVersion, StoreOptions};

const CHANNELS: u32 = 64;

fn commit(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a directory");
    let mut store = RocksStore::open(&directory.path().join("db"), &StoreOptions::new(SchemaVersion(1))).expect("opens");
    let mut group = criterion.benchmark_group("store");
    for lines in LINES_PER_FRAME {
        let frames = (0..CHANNELS).map(|number| verified(on_the_wire(&Payer::new(number).frame(lines)))).collect();
        let batch = batch(&tick(&mut engine(CHANNELS), frames));
        group.throughput(Throughput::Bytes(batch.size_bytes() as u64));
        group.bench_function(BenchmarkId::new("commit 64 frames, synced", lines), |bencher| {
            bencher.iter(|| store.commit(&batch).expect("the disk takes it"));
        });
    }
    group.finish();
}

criterion_group!(benches, commit);
criterion_main!(benches);
