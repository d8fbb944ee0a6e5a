//! Honest statements are proved, and a proof is good for its own statement and key only.

mod common;

use std::path::Path;
use std::sync::LazyLock;

use ark_bn254::Fr;
use ark_ff::Field;
use common::{place, registration, settlement, size};
use millstream_prover::{
    Arithmetic, Blinding, CircuitId, InsecureDevKeys, Proof, ProofWordsError, Prover, ProverError, refuse_public_chain, snarkjs,
};
use millstream_types::ChainId;

const CHAIN: u64 = 31_337;

/// Keys of the smallest book that a ledger is deployed with.
static PROVER: LazyLock<Prover> = LazyLock::new(|| {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("keys");
    let keys = |circuit| InsecureDevKeys::load_or_generate(circuit, &directory).expect("keys");
    Prover::insecure_dev(CircuitId::of_tier(size(24)).map(keys))
});

fn blinding(seed: u8) -> Blinding {
    Blinding::from_entropy(&[seed; 128])
}

/// One proof, one changed public input at a time, and the other circuit's key.
fn check(name: &str, circuit: CircuitId, other: CircuitId, public: [Fr; 3], proof: &Proof) {
    let key = |circuit| PROVER.verifying_key(circuit).expect("keys");
    assert!(key(circuit).verify(&public, proof), "{name}: honest");
    assert!(!key(other).verify(&public, proof), "{name}: another circuit's key");
    for index in 0..3 {
        for change in [Fr::ONE, -Fr::ONE, -public[index]] {
            let mut changed = public;
            changed[index] += change;
            assert!(!key(circuit).verify(&changed, proof), "{name}: input {index} plus {change}");
        }
    }
    let swapped = [public[1], public[0], public[2]];
    assert!(!key(circuit).verify(&swapped, proof), "{name}: inputs in another order");

    let words = proof.words();
    assert_eq!(Proof::from_words(&words).as_ref(), Ok(proof), "{name}: words");
}

#[test]
fn a_settlement_is_proved() {
    let statement = settlement(size(24), place(CHAIN));
    assert_eq!(statement.total_nanos, (0..24).step_by(2).map(|slot| slot + 1).sum::<u128>());
    let proof = PROVER.prove_settle(&statement, &blinding(1)).expect("an honest statement");
    let [settle, register] = CircuitId::of_tier(size(24));
    check("settle", settle, register, statement.public.to_array(), &proof);

    let again = PROVER.prove_settle(&statement, &blinding(2)).expect("an honest statement");
    assert_ne!(again.words(), proof.words(), "randomness hides the witness");
    export("settle", settle, &statement.public.to_array(), &proof);
}

#[test]
fn a_registration_is_proved() {
    let statement = registration(size(24), place(CHAIN));
    let proof = PROVER.prove_register(&statement, &blinding(1)).expect("an honest statement");
    let [settle, register] = CircuitId::of_tier(size(24));
    check("register", register, settle, statement.public.to_array(), &proof);
    export("register", register, &statement.public.to_array(), &proof);
}

/// Leaves what snarkjs's `groth16 verify` takes in the build directory, and checks its shape.
fn export(name: &str, circuit: CircuitId, public: &[Fr; 3], proof: &Proof) {
    let key = snarkjs::verification_key(PROVER.verifying_key(circuit).expect("keys"));
    assert_eq!((&key["nPublic"], key["IC"].as_array().map(Vec::len)), (&3.into(), Some(4)));
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("snarkjs").join(name);
    std::fs::create_dir_all(&directory).expect("writable");
    let files = [("verification_key", key), ("proof", snarkjs::proof(proof)), ("public", snarkjs::public(public))];
    for (file, value) in files {
        std::fs::write(directory.join(file).with_extension("json"), value.to_string()).expect("writable");
    }
}

/// A statement is bound to its place: the same book elsewhere has other public inputs.
#[test]
fn a_statement_of_another_book_has_other_inputs() {
    let mut elsewhere = place(CHAIN);
    elsewhere.ledger.chain = ChainId::new(1_337);
    let (here, there) = (registration(size(24), place(CHAIN)), registration(size(24), elsewhere));
    assert_eq!(here.new_root, there.new_root);
    assert_ne!(here.public.point, there.public.point);
}

/// A witness that does not satisfy the circuit never becomes a proof.
#[test]
fn a_false_statement_is_not_proved() {
    let mut statement = registration(size(24), place(CHAIN));
    statement.public.value += Fr::ONE;
    let refused = PROVER.prove_register(&statement, &blinding(1));
    assert!(matches!(refused, Err(ProverError::SelfCheck { .. })), "{refused:?}");
}

/// L-23.
#[test]
fn public_chains_are_refused() {
    for chain in [0, 1, 10, 137, 8_453, 42_161, 11_155_111, 31_336, u64::MAX] {
        assert!(matches!(refuse_public_chain(ChainId::new(chain)), Err(ProverError::PublicChain { .. })), "{chain}");
    }
    for chain in [1_337, 31_337] {
        refuse_public_chain(ChainId::new(chain)).expect("a development chain");
    }
    let refused = PROVER.prove_register(&registration(size(24), place(1)), &blinding(1));
    assert!(matches!(refused, Err(ProverError::PublicChain { .. })), "{refused:?}");
}

#[test]
fn a_book_without_keys_is_refused() {
    let refused = PROVER.prove_register(&registration(size(2), place(CHAIN)), &blinding(1));
    assert!(matches!(refused, Err(ProverError::NoKeys { .. })), "{refused:?}");
}

#[test]
fn words_that_are_no_proof_are_refused() {
    let statement = registration(size(24), place(CHAIN));
    let good = PROVER.prove_register(&statement, &blinding(3)).expect("an honest statement").words();
    for word in 0..8 {
        let mut words = good;
        words[word] = [0xff; 32];
        assert_eq!(Proof::from_words(&words), Err(ProofWordsError::NotCanonical { word }));
        let mut words = good;
        words[word][31] ^= 1;
        let point = ['A', 'A', 'B', 'B', 'B', 'B', 'C', 'C'][word];
        assert_eq!(Proof::from_words(&words), Err(ProofWordsError::NotInGroup { point }));
    }
}

/// A full-sized settlement and a registration, blinded: nobody can tell which arithmetic made the proof.
#[test]
fn every_arithmetic_makes_the_same_proof() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("keys");
    let keys = |circuit| InsecureDevKeys::load_or_generate(circuit, &directory).expect("keys");
    let [affine, ark] = [Arithmetic::Affine, Arithmetic::Ark]
        .map(|arithmetic| Prover::insecure_dev_with(CircuitId::of_tier(size(24)).map(keys), arithmetic));
    let (settlement, registration) = (settlement(size(24), place(CHAIN)), registration(size(24), place(CHAIN)));
    for seed in [0, 9] {
        let words = |prover: &Prover| {
            let settled = prover.prove_settle(&settlement, &blinding(seed)).expect("an honest statement");
            let registered = prover.prove_register(&registration, &blinding(seed)).expect("an honest statement");
            [settled.words(), registered.words()]
        };
        let expected = words(&ark);
        assert_eq!(words(&PROVER), expected);
        assert_eq!(words(&affine), expected);
    }
    assert_eq!([&PROVER, &affine, &ark].map(Prover::wrong_proofs), [0; 3]);
    for circuit in PROVER.circuits() {
        assert!(PROVER.memory_bytes(circuit) > 1 << 20 && ark.prepared_key_bytes(circuit) == 0);
        assert!([&PROVER, &affine].iter().all(|prover| prover.prepared_key_bytes(circuit) > 0), "{circuit}");
    }
}
