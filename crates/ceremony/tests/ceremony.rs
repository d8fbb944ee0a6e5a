//! A whole ceremony, and everything that is refused.

mod common;

use std::fs;
use std::path::Path;

use common::{by_number, ceremony, log_of, register_1, registration, settle_1, swap_points};
use millstream_ceremony::insecure_powers::{Prepared, write_insecure_powers};
use millstream_ceremony::{
    BadChain, Beacon, Blake2bHash, CeremonyError, ContributionKind, PowersPin, Reference, Secret, beacon, contribute,
};
use millstream_prover::{Blinding, KeyMismatch, KeyPins, ProductionKeys, Prover, ProverError};
use millstream_types::{ChainId, Hash256};

/// What makes a sound file unsound.
type Change = &'static dyn Fn(&mut Vec<u8>);

const G1: usize = 64;
const G2: usize = 128;

#[test]
fn a_ceremony_ends_in_a_pinned_key_that_proves_on_a_public_chain() {
    let ceremony = ceremony();
    let last = ceremony.last();
    let keys = ceremony.file("keys");
    let verified = || ceremony.reference.verify(&last).expect("it holds");
    let finished = verified().finish(&keys).expect("finished");

    let kinds: Vec<_> = finished.record.contributions.iter().map(|contribution| contribution.kind.clone()).collect();
    let closing = ContributionKind::Beacon { beacon: "be".repeat(32), iterations_log2: 10 };
    assert_eq!(kinds, [ContributionKind::Participant, ContributionKind::Participant, closing]);
    let transcript: millstream_ceremony::Transcript = read_json(&finished.transcript);
    assert_eq!(transcript, finished.record);

    let pins = KeyPins::parse(&finished.pin.to_toml()).expect("well formed");
    let keys = ProductionKeys::load(ceremony.circuit, &keys, &pins).expect("the pinned key");
    let verifier: serde_json::Value = read_json(&finished.verifier);
    let words: Vec<_> = keys.verifying_key().words().iter().map(|word| Hash256::from_bytes(*word).to_string()).collect();
    assert_eq!(verifier["words"], serde_json::json!(words));
    assert_eq!(verifier["key_hash"], keys.verifying_key().key_hash().to_string());

    // What a ledger on a public chain is proved for with: the key that it verifies with, or none.
    let (directory, ours) = (ceremony.file("keys"), keys.verifying_key().key_hash());
    let on_public = |key, pins: &KeyPins| Prover::for_chain(ChainId::new(8_453), [(ceremony.circuit, key)], &directory, pins);
    let other = Hash256::from_bytes([1; 32]);
    let refused = on_public(other, &pins);
    assert!(matches!(refused, Err(ProverError::ForeignKey { expected, .. }) if expected == other), "{refused:?}");
    let refused = on_public(ours, &KeyPins::default());
    assert!(matches!(refused, Err(ProverError::NotPinned { .. })), "{refused:?}");

    let statement = registration(1);
    let prover = on_public(ours, &pins).expect("the key that is pinned");
    let proof = prover.prove_register(&statement, &Blinding::from_os().expect("entropy")).expect("a proof");
    let verifying = prover.verifying_key(ceremony.circuit).expect("it has the key");
    assert!(verifying.verify(&statement.public.to_array(), &proof));
    // The same ceremony again gives no second key beside the first.
    let again = verified().finish(&ceremony.file("keys"));
    assert!(matches!(again, Err(CeremonyError::Exists { .. })), "{again:?}");
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> T {
    serde_json::from_slice(&fs::read(path).expect("readable")).expect("JSON")
}

#[test]
fn a_start_depends_on_circuit_and_powers_alone() {
    let ceremony = ceremony();
    let first = fs::read(ceremony.initial()).expect("readable");
    let (raw, out) = (ceremony.file("raw.ptau"), ceremony.file("raw.zkey"));
    let hash = write_insecure_powers(&raw, log_of(ceremony.circuit), &[1; 32], Prepared::No).expect("written");
    Reference::derive(ceremony.circuit, &raw, PowersPin::Hash(hash)).expect("derived").start(&out).expect("started");
    assert_eq!(fs::read(&out).expect("readable"), first, "prepared or not");

    // More powers than needed give the same points but for those of the quotient, which have one power more to be made of.
    let (large, out) = (ceremony.file("large.ptau"), ceremony.file("large.zkey"));
    let hash = write_insecure_powers(&large, log_of(ceremony.circuit) + 1, &[1; 32], Prepared::Yes).expect("written");
    Reference::derive(ceremony.circuit, &large, PowersPin::Hash(hash)).expect("derived").start(&out).expect("started");
    let (small, large) = (by_number(&ceremony.file("initial.zkey")), by_number(&out));
    assert!((1..=10).filter(|section| small[section] != large[section]).eq([9]));
}

#[test]
fn powers_that_are_not_pinned_are_refused() {
    let ceremony = ceremony();
    let expected = Blake2bHash::from_bytes([1; 64]);
    for pin in [PowersPin::Public, PowersPin::Hash(expected)] {
        let refused = Reference::derive(ceremony.circuit, &ceremony.powers(), pin);
        assert!(matches!(refused, Err(CeremonyError::PowersHash { .. })), "{refused:?}");
    }
}

#[test]
fn a_circuit_needs_enough_powers() {
    let ceremony = ceremony();
    let refused = Reference::derive(settle_1(), &ceremony.powers(), ceremony.pin);
    let needed = log_of(settle_1());
    assert!(matches!(refused, Err(CeremonyError::TooFewPowers { needed: it, .. }) if it == needed), "{refused:?}");
}

/// Powers, and parameters, cut anywhere or longer than they say, of another kind or version.
#[test]
fn files_that_are_not_what_they_say_are_refused() {
    let ceremony = ceremony();
    let contributed = ceremony.file("first.zkey");
    let malformed = |error: &CeremonyError| matches!(error, CeremonyError::Malformed { .. });
    let spoil = |path: &Path, name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = fs::read(path).expect("readable");
        change(&mut bytes);
        fs::write(ceremony.file(name), bytes).expect("writable");
        ceremony.file(name)
    };
    let changes: [(&str, Change); 9] = [
        ("empty", &Vec::clear),
        ("head", &|bytes| bytes.truncate(11)),
        ("sections", &|bytes| bytes.truncate(30)),
        ("cut", &|bytes| bytes.truncate(bytes.len() - 1)),
        ("half", &|bytes| bytes.truncate(bytes.len() / 2)),
        ("longer", &|bytes| bytes.push(0)),
        ("kind", &|bytes| bytes[0] ^= 1),
        ("version", &|bytes| bytes[4] = 9),
        ("count", &|bytes| bytes[8..12].fill(0xff)),
    ];
    for (name, change) in changes {
        let powers = spoil(&ceremony.powers(), &format!("{name}.ptau"), change);
        let refused = Reference::derive(ceremony.circuit, &powers, ceremony.pin).expect_err("no powers");
        assert!(malformed(&refused), "{name}: {refused:?}");
        let parameters = spoil(&contributed, &format!("{name}.zkey"), change);
        let refused =
            contribute(&parameters, &ceremony.file("out-0.zkey"), None, Secret::from_os(b"").expect("entropy")).expect_err("none");
        assert!(malformed(&refused), "{name}: {refused:?}");
        let refused = ceremony.reference.verify(&parameters).expect_err("none");
        assert!(malformed(&refused), "{name}: {refused:?}");
    }
    let sizes: [(&str, Change); 2] = [("short", &|bytes| bytes.truncate(bytes.len() - 1)), ("long", &|bytes| bytes.push(0))];
    for section in [2, 3, 5, 6, 7, 8, 9, 10] {
        for (name, change) in sizes {
            let path = ceremony.tampered(&contributed, &format!("{name}-{section}.zkey"), section, change);
            let refused = ceremony.reference.verify(&path).expect_err("no parameters");
            assert!(malformed(&refused), "{name} {section}: {refused:?}");
        }
    }
    for section in 2..=15 {
        if !(8..12).contains(&section) && section != 7 {
            let path = ceremony.tampered(&ceremony.powers(), &format!("long-{section}.ptau"), section, |bytes| bytes.push(0));
            let refused = Reference::derive(ceremony.circuit, &path, ceremony.pin).expect_err("no powers");
            assert!(malformed(&refused), "{section}: {refused:?}");
        }
    }
    assert!(!ceremony.file("out-0.zkey").exists());
}

#[test]
fn parameters_that_do_not_follow_are_refused() {
    let ceremony = ceremony();
    let last = ceremony.last();
    ceremony.reference.verify(&last).expect("it holds");
    let check = |name: &str, section, change: &dyn Fn(&mut Vec<u8>)| {
        let path = ceremony.tampered(&last, name, section, |bytes| change(bytes));
        ceremony.reference.verify(&path).expect_err("it does not hold")
    };
    for (section, bytes, expected) in [
        (3, G1, "the points of the public inputs"),
        (5, G1, "the points of A"),
        (6, G1, "the points of B in G1"),
        (7, G2, "the points of B in G2"),
    ] {
        let error =
            check(&format!("swapped-{section}.zkey"), section, &|section| swap_points(section, bytes, 0, 1 + usize::from(bytes == G2)));
        assert!(matches!(error, CeremonyError::OtherCircuit { what, .. } if what == expected), "{section}: {error:?}");
    }
    let entries = check("entries.zkey", 4, &|section| section[50] ^= 1);
    assert!(matches!(entries, CeremonyError::OtherCircuit { what: "the entries of A and B", .. }), "{entries:?}");
    for (section, expected) in [(8, "the points of the private variables"), (9, "the points of the quotient")] {
        let count = by_number(&last)[&section].len() / G1;
        let error = check(&format!("swapped-{section}.zkey"), section, &|section| swap_points(section, G1, count - 2, count - 1));
        assert!(matches!(error, CeremonyError::Parameters { what, .. } if what == expected), "{section}: {error:?}");
    }

    // The header: alpha, beta, gamma, delta in G1, delta in G2.
    let header = |at: usize, from: &[u8]| {
        let from = from.to_vec();
        move |section: &mut Vec<u8>| section[at..at + from.len()].copy_from_slice(&from)
    };
    let initial = by_number(&ceremony.initial())[&2].clone();
    let alpha = initial.len() - 3 * (G1 + G2);
    let (beta_g1, beta_g2) = (alpha + G1, alpha + 2 * G1);
    let gamma = beta_g2 + G2;
    let (delta_g1, delta_g2) = (gamma + G2, gamma + G2 + G1);
    let generator = initial[delta_g1..][..G1].to_vec();
    let generator_g2 = initial[delta_g2..][..G2].to_vec();
    for (name, at, from) in [("alpha", alpha, &generator), ("beta", beta_g1, &generator), ("beta2", beta_g2, &generator_g2)] {
        let error = check(&format!("{name}.zkey"), 2, &header(at, from));
        assert!(matches!(error, CeremonyError::OtherCircuit { what: "alpha, beta or gamma", .. }), "{name}: {error:?}");
    }
    let beta = initial[beta_g2..][..G2].to_vec();
    let error = check("gamma.zkey", 2, &header(gamma, &beta));
    assert!(matches!(error, CeremonyError::OtherCircuit { what: "alpha, beta or gamma", .. }), "{error:?}");
    let error = check("delta1.zkey", 2, &header(delta_g1, &generator));
    assert!(matches!(error, CeremonyError::Parameters { what: "delta is not that of the last contribution", .. }), "{error:?}");
    let error = check("delta2.zkey", 2, &header(delta_g2, &generator_g2));
    assert!(matches!(error, CeremonyError::Parameters { what: "delta in G2 is not delta in G1", .. }), "{error:?}");

    // Section 10: circuit hash (64), number (4), then the first contribution's delta, s, x·s, x·R, transcript.
    let error = check("circuit-hash.zkey", 10, &|section| section[0] ^= 1);
    assert!(matches!(error, CeremonyError::OtherCircuit { what: "the circuit hash", .. }), "{error:?}");
    for (name, at, reason) in
        [("delta", 68, BadChain::Delta), ("s", 68 + G1, BadChain::Transcript), ("s_x", 68 + 2 * G1, BadChain::Transcript)]
    {
        let error = check(&format!("chain-{name}.zkey"), 10, &header(at, &generator));
        assert!(matches!(error, CeremonyError::Chain { number: 1, reason: found, .. } if found == reason), "{name}: {error:?}");
    }
    let error = check("chain-knowledge.zkey", 10, &header(68 + 3 * G1, &generator_g2));
    assert!(matches!(error, CeremonyError::Chain { number: 1, reason: BadChain::Knowledge, .. }), "{error:?}");
    let error = check("chain-transcript.zkey", 10, &|section| section[68 + 3 * G1 + G2] ^= 1);
    assert!(matches!(error, CeremonyError::Chain { number: 1, reason: BadChain::Transcript, .. }), "{error:?}");
}

/// The last contribution forgotten: its delta in the chain, the parameters from before.
#[test]
fn a_contribution_that_changed_nothing_is_refused() {
    let ceremony = ceremony();
    let initial = ceremony.initial();
    let contributed = ceremony.file("first.zkey");
    let chain = by_number(&contributed)[&10].clone();
    let path = ceremony.tampered(&initial, "skipped.zkey", 10, |section| *section = chain);
    let refused = ceremony.reference.verify(&path).map(|_| ());
    assert!(matches!(refused, Err(CeremonyError::Parameters { .. })), "{refused:?}");
    let refused = contribute(&path, &ceremony.file("out-2.zkey"), None, Secret::from_os(b"").expect("entropy"));
    assert!(matches!(refused, Err(CeremonyError::Parameters { .. })), "{refused:?}");
}

#[test]
fn another_circuit_or_other_powers_are_refused() {
    let ceremony = ceremony();
    let last = ceremony.last();
    let other = ceremony.file("other.ptau");
    let hash = write_insecure_powers(&other, log_of(settle_1()), &[1; 32], Prepared::Yes).expect("written");
    let refused = Reference::derive(settle_1(), &other, PowersPin::Hash(hash)).expect("derived").verify(&last).map(|_| ());
    assert!(matches!(refused, Err(CeremonyError::OtherCircuit { what: "the sizes", .. })), "{refused:?}");
    let other = ceremony.file("others.ptau");
    let hash = write_insecure_powers(&other, log_of(register_1()), &[2; 32], Prepared::Yes).expect("written");
    let refused = Reference::derive(register_1(), &other, PowersPin::Hash(hash)).expect("derived").verify(&last).map(|_| ());
    assert!(matches!(refused, Err(CeremonyError::OtherCircuit { what: "alpha, beta or gamma", .. })), "{refused:?}");
}

#[test]
fn an_unfinished_ceremony_gives_no_key() {
    let ceremony = ceremony();
    let keys = ceremony.file("none");
    let finish = |input: &Path| ceremony.reference.verify(input).expect("it holds").finish(&keys).expect_err("unfinished");
    let initial = ceremony.initial();
    let skipped = finish(&initial);
    assert!(matches!(skipped, CeremonyError::NoContribution { .. }), "{skipped:?}");
    let alone = finish(&ceremony.beacon(&initial, "alone.zkey"));
    assert!(matches!(alone, CeremonyError::NoContribution { .. }), "{alone:?}");
    let open = finish(&ceremony.contribute(&initial, "open.zkey"));
    assert!(matches!(open, CeremonyError::NoBeacon { .. }), "{open:?}");
    assert!(!keys.exists());
    // Verified all the same: it is as far as it says.
    let verified = ceremony.reference.verify(&initial).expect("it holds");
    assert_eq!((verified.participants(), verified.is_closed(), verified.transcript().verifying_key_hash), (0, false, None));
}

#[test]
fn nothing_is_added_to_a_closed_ceremony_and_nothing_is_overwritten() {
    let ceremony = ceremony();
    let last = ceremony.last();
    let secret = || Secret::from_os(b"").expect("entropy");
    let closed = contribute(&last, &ceremony.file("out-3.zkey"), None, secret());
    assert!(matches!(closed, Err(CeremonyError::Closed { .. })), "{closed:?}");
    let (first, second) = (ceremony.file("first.zkey"), ceremony.file("second.zkey"));
    let before = fs::read(&second).expect("readable");
    let exists = contribute(&first, &second, None, secret());
    assert!(matches!(exists, Err(CeremonyError::Exists { .. })), "{exists:?}");
    assert_eq!(fs::read(&second).expect("readable"), before);
    let exists = ceremony.reference.start(&first);
    assert!(matches!(exists, Err(CeremonyError::Exists { .. })), "{exists:?}");
    let left = fs::read_dir(ceremony.file("").as_path())
        .expect("a directory")
        .filter(|entry| entry.as_ref().is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with(".unfinished")));
    assert_eq!(left.count(), 0);
}

#[test]
fn names_and_beacons_have_limits() {
    let ceremony = ceremony();
    let (initial, out) = (ceremony.initial(), ceremony.file("out-4.zkey"));
    for name in ["", &"x".repeat(65)] {
        let refused = contribute(&initial, &out, Some(name), Secret::from_os(b"").expect("entropy"));
        assert!(matches!(refused, Err(CeremonyError::Length { what: "a name", .. })), "{refused:?}");
    }
    for value in [vec![], vec![1; 256]] {
        let refused = beacon(&initial, &out, None, Beacon { value, iterations_log2: 10 });
        assert!(matches!(refused, Err(CeremonyError::Length { what: "a beacon", .. })), "{refused:?}");
    }
    for iterations_log2 in [9, 33] {
        let refused = beacon(&initial, &out, None, Beacon { value: vec![1], iterations_log2 });
        assert!(matches!(refused, Err(CeremonyError::Iterations { min: 10, max: 32, .. })), "{refused:?}");
    }
    assert!(!out.exists());
}

#[test]
fn a_key_that_is_not_the_pinned_one_is_refused() {
    let ceremony = ceremony();
    let last = ceremony.last();
    let directory = ceremony.file("pinned");
    let finished = ceremony.reference.verify(&last).expect("it holds").finish(&directory).expect("finished");
    let load = |pins: &KeyPins| ProductionKeys::load(ceremony.circuit, &directory, pins).map(|keys| keys.circuit());
    assert!(matches!(load(&KeyPins::default()), Err(ProverError::NotPinned { .. })));
    let other = Hash256::from_bytes([1; 32]);
    let pinned = |change: &dyn Fn(&mut millstream_prover::KeyPin)| {
        let mut pin = finished.pin;
        change(&mut pin);
        load(&[pin].into_iter().collect())
    };
    assert_eq!(pinned(&|_| {}).ok(), Some(ceremony.circuit));
    for (result, expected) in [
        (pinned(&|pin| pin.circuit_digest = other), KeyMismatch::Circuit),
        (pinned(&|pin| pin.file_hash = other), KeyMismatch::File),
        (pinned(&|pin| pin.key_hash = other), KeyMismatch::Key),
    ] {
        assert!(matches!(result, Err(ProverError::KeyMismatch { what, .. }) if what == expected), "{result:?}");
    }
    let good = fs::read(&finished.key).expect("readable");
    for at in [0, 40, 70, 5_000, good.len()] {
        let mut bytes = good.clone();
        match bytes.get_mut(at) {
            Some(byte) => *byte ^= 1,
            None => bytes.push(0),
        }
        fs::write(&finished.key, bytes).expect("writable");
        let refused = pinned(&|_| {});
        assert!(matches!(refused, Err(ProverError::KeyMismatch { what: KeyMismatch::File, .. })), "{refused:?}");
    }
    fs::remove_file(&finished.key).expect("removed");
    assert!(matches!(pinned(&|_| {}), Err(ProverError::KeyFile { .. })));
}

/// Development keys do not become production keys by being pinned, nor by being put into a file as a ceremony writes it.
#[test]
fn a_development_key_is_no_production_key() {
    let ceremony = ceremony();
    let directory = ceremony.file("dev");
    let dev = millstream_prover::InsecureDevKeys::load_or_generate(ceremony.circuit, &directory).expect("keys");
    let entry = fs::read_dir(&directory).expect("a directory").map(|entry| entry.expect("readable").path());
    let file = entry.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "key")).expect("a key");
    let path = directory.join(ProductionKeys::file_name(ceremony.circuit, dev.circuit_digest()));
    let as_it_is = fs::read(&file).expect("readable");
    let wrapped = [&b"millstream ceremony key v1\n\0\0\0\0\0"[..], &as_it_is[32..]].concat();
    for bytes in [as_it_is, wrapped] {
        fs::write(&path, &bytes).expect("writable");
        let pin = millstream_prover::KeyPin {
            circuit: ceremony.circuit,
            circuit_digest: Hash256::from_bytes(*dev.circuit_digest()),
            key_hash: dev.verifying_key().key_hash(),
            file_hash: Hash256::from_bytes(blake3::hash(&bytes).into()),
        };
        let refused = ProductionKeys::load(ceremony.circuit, &directory, &[pin].into_iter().collect()).map(|keys| keys.circuit());
        assert!(matches!(refused, Err(ProverError::InsecurePin { .. })), "{refused:?}");
    }
}
