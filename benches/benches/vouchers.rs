//! Sign and verify one voucher, and check batches of them: each checker, on one core.
#![allow(missing_docs, reason = "criterion's macros")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use millstream_benches::{Payer, secret};
use millstream_voucher::{CheckingKey, LaneChecker, PublicKey, SecretKey, SignedVoucher, VoucherChecker};
use millstream_wire::FrameMessage;

/// Vouchers in a batch: one group of lanes, and as many as share an inversion well.
const BATCHES: [usize; 2] = [8, 64];

fn vouchers(criterion: &mut Criterion) {
    let (secret, voucher) = (secret(), voucher());
    let key = secret.public_key();
    let mut group = criterion.benchmark_group("voucher");
    group.bench_function("sign", |bencher| bencher.iter(|| secret.sign(*voucher.body()).expect("64 bits")));
    group.bench_function("verify", |bencher| bencher.iter(|| voucher.verify(&key).expect("honest")));
    group.bench_function("key from x", |bencher| bencher.iter(|| PublicKey::from_x(&key.x()).expect("a key")));
    group.finish();
}

fn voucher() -> SignedVoucher {
    *FrameMessage::decode(Payer::new(0).frame(1)).expect("a frame").voucher()
}

/// Vouchers with a key each, so that no checker lives on one key's tables.
fn signed(count: usize) -> Vec<(SignedVoucher, CheckingKey)> {
    let body = *voucher().body();
    let sign = |number: usize| {
        let mut entropy = [7; 64];
        entropy[..8].copy_from_slice(&number.to_be_bytes());
        let secret = SecretKey::from_entropy(&entropy).expect("fixed entropy makes a key");
        (*secret.sign(body).expect("64 bits").signed(), CheckingKey::new(&secret.public_key()))
    };
    (0..count).map(sign).collect()
}

fn check(criterion: &mut Criterion) {
    let vouchers = signed(BATCHES[1]);
    let batch: Vec<_> = vouchers.iter().map(|(voucher, key)| (*voucher, key)).collect();
    let (voucher, key) = batch[0];
    criterion.bench_function("checking_key", |bencher| bencher.iter(|| CheckingKey::new(key.public_key())));
    let mut group = criterion.benchmark_group("check");
    group.throughput(Throughput::Elements(1));
    group.bench_function("scalar", |bencher| bencher.iter(|| voucher.verify(key.public_key()).expect("honest")));
    group.bench_function("scalar_with_tables", |bencher| bencher.iter(|| voucher.verify_with(key).expect("honest")));
    // Nothing to measure where the processor lacks the lanes.
    if let Some(checker) = LaneChecker::detect() {
        for size in BATCHES {
            group.throughput(Throughput::Elements(size as u64));
            group.bench_function(BenchmarkId::new("lanes", size), |bencher| {
                bencher.iter(|| {
                    let answers = checker.check(&batch[..size]);
                    assert!(answers.iter().all(Result::is_ok), "honest");
                    answers
                });
            });
        }
        assert_eq!(checker.disagreements(), 0, "lanes and scalar agree");
    }
    group.finish();
}

criterion_group!(benches, vouchers, check);
criterion_main!(benches);
