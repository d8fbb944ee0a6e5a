//! Requests of HTTP 402 in the engine: reserve and capture on 64 channels, a tick each, and what they write.
#![allow(missing_docs, reason = "criterion's macros")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use millstream_benches::{batch, engine, is_measured};
use millstream_engine::escrow::{
    ClaimRule, Escrow, EscrowFact, EscrowId, EscrowInput, EscrowTerms, Fingerprint, Meter, OptimisticLimit, RequestId, Reserve, StepRule,
};
use millstream_engine::{Effect, Engine, Input, ReplyId};
use millstream_tariff::Cost;
use millstream_types::{Address, Amount, ChainId, CumulativeAmount, EscrowChannelId, Timestamp};
use millstream_voucher::evm::{EscrowDomain, EscrowScheme, EscrowVoucher, EvmSecretKey, VerifiedEscrowVoucher};

/// Channels that pay in each tick.
const PAYING: u32 = 64;

fn id(number: u32) -> EscrowChannelId {
    let mut bytes = [7; 32];
    bytes[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b1).to_be_bytes());
    EscrowChannelId::from_bytes(bytes)
}

fn domain() -> EscrowDomain {
    EscrowDomain::new(EscrowScheme::X402Batch, ChainId::new(31_337), Address::from_bytes([9; 20]))
}

fn input(engine: &mut Engine, input: EscrowInput, effects: &mut Vec<Effect>) {
    let input = Input::Escrow { reply: Some(ReplyId(0)), input: Box::new(input) };
    engine.apply(Timestamp::from_millis(1), input, effects).expect("in order");
}

/// An engine with this many open channels on an escrow of the exact rule.
fn open(channels: u32, signer: Address) -> Engine {
    let (mut engine, mut effects) = (engine(1), Vec::new());
    let escrow = Escrow {
        id: EscrowId(1),
        separator: *domain().separator(),
        token: Address::from_bytes([8; 20]),
        step: StepRule::Exact,
        claim: ClaimRule::UpTo,
        optimistic: OptimisticLimit::default(),
    };
    input(&mut engine, EscrowInput::Serve(escrow), &mut effects);
    for number in 0..channels {
        let (payer, receiver, config) = (Address::from_bytes([2; 20]), Address::from_bytes([3; 20]), Bytes::from_static(&[5; 140]));
        let terms = EscrowTerms { channel: id(number), escrow: EscrowId(1), payer, signer, receiver, config };
        let deposit = Amount::from_units(u128::MAX >> 1);
        for fact in [EscrowFact::Opened(terms), EscrowFact::Deposited { channel: id(number), deposit }] {
            engine.apply(Timestamp::from_millis(1), Input::EscrowFact(fact), &mut effects).expect("in order");
        }
    }
    engine.end_tick(&mut effects).expect("books");
    engine
}

fn requests(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("escrow");
    group.throughput(Throughput::Elements(PAYING.into()));
    let key = EvmSecretKey::from_bytes(&[0x22; 32]).expect("a key");
    let known: &[u32] = if is_measured() { &[64, 100_000] } else { &[64] };
    for known in known.iter().copied() {
        let mut engine = open(known, key.account());
        let mut round: u32 = 0;
        group.bench_function(format!("reserve and capture on 64 channels of {known}"), |bencher| {
            bencher.iter_custom(|iterations| {
                let (mut took, mut written) = (Duration::ZERO, 0);
                for _ in 0..iterations {
                    round += 1;
                    let vouchers: Vec<VerifiedEscrowVoucher> = (0..PAYING)
                        .map(|number| {
                            let statement = EscrowVoucher {
                                channel: id(number * (known / PAYING)),
                                cumulative: CumulativeAmount::from_units(u128::from(round - 1) * 700 + 1_000),
                            };
                            key.sign(statement, &domain()).expect("signs")
                        })
                        .collect();
                    let started = Instant::now();
                    written += pay(&mut engine, round, vouchers);
                    took += started.elapsed();
                }
                std::hint::black_box(written);
                took
            });
        });
    }
    group.finish();
}

/// Two ticks: all reserve, all capture. The bytes of their batches.
fn pay(engine: &mut Engine, round: u32, vouchers: Vec<VerifiedEscrowVoucher>) -> usize {
    let request = |number: u32| {
        let mut bytes = [1; 32];
        bytes[..4].copy_from_slice(&number.wrapping_mul(0x85eb_ca6b).to_be_bytes());
        bytes[4..8].copy_from_slice(&round.to_be_bytes());
        RequestId::from_bytes(bytes)
    };
    let mut effects = Vec::new();
    for (number, voucher) in (0..).zip(vouchers) {
        let reserve = EscrowInput::Reserve(Reserve {
            channel: voucher.statement().channel,
            request: request(number),
            fingerprint: Fingerprint::from_bytes([1; 16]),
            ceiling: Amount::from_units(1_000),
            at_least: Amount::from_units(1_000),
            voucher: Some(voucher),
            stored: None,
        });
        input(engine, reserve, &mut effects);
    }
    engine.end_tick(&mut effects).expect("books");
    let reserved = batch(&effects).size_bytes();
    effects.clear();
    for number in 0..PAYING {
        let meter = Meter { price_version: 1, units: Bytes::from_static(&[0; 16]) };
        let (request, cost) = (request(number), Cost::whole(Amount::from_units(700)));
        input(engine, EscrowInput::Capture { request, cost, meter, stored: None }, &mut effects);
    }
    engine.end_tick(&mut effects).expect("books");
    reserved + batch(&effects).size_bytes()
}

criterion_group!(benches, requests);
criterion_main!(benches);
