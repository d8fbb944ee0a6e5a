//! Sign and verify one voucher.
#![allow(missing_docs, reason = "criterion's macros")]

use criterion::{Criterion, criterion_group, criterion_main};
use millstream_benches::{Payer, secret};
use millstream_voucher::PublicKey;

fn vouchers(criterion: &mut Criterion) {
    let frame = Payer::new(0).frame(1);
    let (secret, voucher) = (secret(), *frame.voucher());
    let key = secret.public_key();
    let mut group = criterion.benchmark_group("voucher");
    group.bench_function("sign", |bencher| bencher.iter(|| secret.sign(*voucher.body()).expect("64 bits")));
    group.bench_function("verify", |bencher| bencher.iter(|| voucher.verify(&key).expect("honest")));
    group.bench_function("key from x", |bencher| bencher.iter(|| PublicKey::from_x(&key.x()).expect("a key")));
    group.finish();
}

criterion_group!(benches, vouchers);
criterion_main!(benches);
