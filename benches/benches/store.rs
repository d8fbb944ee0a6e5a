//! Commit: ticks of frames at growing places, as a node writes them, log and acknowledged head synced.
#![allow(missing_docs, reason = "criterion's macros")]

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use millstream_benches::{LINES_PER_FRAME, Payer, batch, billed_in, engine, tick, verified};
use millstream_store::{Backend, RocksStore, SchemaVersion, StoreOptions};
use millstream_types::EpochId;

const CHANNELS: u32 = 64;

fn commit(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a directory");
    let mut store = RocksStore::open(&directory.path().join("db"), &StoreOptions::new(SchemaVersion(2))).expect("opens");
    let mut group = criterion.benchmark_group("store");
    let mut epoch = EpochId::new(0);
    for lines in LINES_PER_FRAME {
        let frames: Vec<_> = (0..CHANNELS).map(|number| verified(Payer::new(number).frame(lines))).collect();
        let effects = tick(&mut engine(CHANNELS), frames);
        group.throughput(Throughput::Bytes(batch(&effects).size_bytes() as u64));
        // A new epoch each time: frames and leaves at the places of an earlier tick would be overwritten.
        group.bench_function(BenchmarkId::new("commit 64 frames, synced", lines), |bencher| {
            bencher.iter_batched(
                || {
                    epoch = epoch.next();
                    batch(&billed_in(&effects, epoch))
                },
                |batch| store.commit(&batch).expect("the disk takes it"),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, commit);
criterion_main!(benches);
