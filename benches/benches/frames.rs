//! Decode and hash: what a frame costs before its signature is looked at.
#![allow(missing_docs, reason = "criterion's macros")]

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use millstream_benches::Payer;
use millstream_wire::FrameMessage;

/// From one line to the largest frame: the ways of hashing change in between.
const LINES: [usize; 8] = [1, 2, 4, 8, 16, 64, 256, 1_024];

fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame");
    for lines in LINES {
        let bytes = Payer::new(0).frame(lines);
        group.throughput(Throughput::Elements(lines as u64));
        group.bench_function(BenchmarkId::new("decode", lines), |bencher| {
            bencher.iter_batched(|| bytes.clone(), |bytes| FrameMessage::decode(bytes).expect("a frame"), BatchSize::SmallInput);
        });
        let frame = FrameMessage::decode(bytes).expect("a frame");
        group.bench_function(BenchmarkId::new("root", lines), |bencher| bencher.iter(|| frame.root().expect("lines")));
    }
    group.finish();
}

criterion_group!(benches, frames);
criterion_main!(benches);
