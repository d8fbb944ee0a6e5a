//! Apply: one tick of verified frames over 64 channels.
#![allow(missing_docs, reason = "criterion's macros")]

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use millstream_benches::{LINES_PER_FRAME, Payer, batch, engine, on_the_wire, tick, verified};

const CHANNELS: u32 = 64;

fn apply(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("engine");
    group.throughput(Throughput::Elements(CHANNELS.into()));
    for lines in LINES_PER_FRAME {
        let fresh = engine(CHANNELS);
        let frames: Vec<_> = (0..CHANNELS).map(|number| verified(on_the_wire(&Payer::new(number).frame(lines)))).collect();
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

criterion_group!(benches, apply);
criterion_main!(benches);
