//! Apply: one tick of verified frames over 64 channels, alone and among many others; and an engine from a store of channels.
#![allow(missing_docs, reason = "criterion's macros")]

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use millstream_benches::{LINES_PER_FRAME, Payer, batch, channel_counts, engine, fill, is_measured, recover, tick, verified};
use millstream_engine::{Effect, Input};
use millstream_store::{RocksStore, SchemaVersion, StoreOptions};
use millstream_types::Timestamp;

const CHANNELS: u32 = 64;

fn apply(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("engine");
    group.throughput(Throughput::Elements(CHANNELS.into()));
    for lines in LINES_PER_FRAME {
        let fresh = engine(CHANNELS);
        let frames: Vec<_> = (0..CHANNELS).map(|number| verified(Payer::new(number).frame(lines))).collect();
        group.bench_function(BenchmarkId::new("apply 64 frames", lines), |bencher| {
            bencher.iter_batched(
                || (fresh.clone(), frames.clone()),
                |(mut engine, frames)| tick(&mut engine, frames),
                BatchSize::LargeInput,
            );
        });
        let effects = tick(&mut fresh.clone(), frames);
        group.bench_function(BenchmarkId::new("encode 64 frames", lines), |bencher| bencher.iter(|| batch(&effects)));
    }
    group.finish();
}

/// Ticks over channels that are spread over all that there are; up to 10,000 of them pay, one frame a tick each.
fn apply_among(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("engine");
    group.throughput(Throughput::Elements(CHANNELS.into()));
    let known: &[u32] = if is_measured() { &[1, 10_000, 1_000_000] } else { &[1, 100] };
    for known in known.iter().copied() {
        let mut engine = engine(known);
        let active = known.min(if is_measured() { 10_000 } else { 10 });
        let mut payers: Vec<Payer> = (0..active).map(|number| Payer::new(number * (known / active))).collect();
        let (mut next, mut effects) = (0, Vec::<Effect>::new());
        let mut frames = || {
            let mut frame = || {
                next = (next + 1) % payers.len();
                verified(payers[next].frame(1))
            };
            (0..CHANNELS).map(|_| frame()).collect::<Vec<_>>()
        };
        group.sample_size(20).bench_function(BenchmarkId::new("apply 64 frames of 1 line, channels known", known), |bencher| {
            bencher.iter_batched(
                &mut frames,
                |frames| {
                    effects.clear();
                    for frame in frames {
                        engine.apply(Timestamp::from_millis(1), Input::Frame(frame), &mut effects).expect("honest frames");
                    }
                    engine.end_tick(&mut effects).expect("books");
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn recovery(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("recovery");
    group.sample_size(10);
    for channels in channel_counts().iter().copied() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut store = RocksStore::open(&directory.path().join("db"), &StoreOptions::new(SchemaVersion(2))).expect("opens");
        fill(&mut store, channels).expect("the disk takes it");
        group.throughput(Throughput::Elements(channels.into()));
        group.bench_function(BenchmarkId::new("restore", channels), |bencher| {
            bencher.iter_with_large_drop(|| recover(&store));
        });
    }
    group.finish();
}

criterion_group!(benches, apply, apply_among, recovery);
criterion_main!(benches);
