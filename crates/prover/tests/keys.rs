//! Development keys are the same everywhere, survive on disk, and never meet another circuit.

mod common;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use common::{place, registration, settlement, size};
use millstream_prover::{CircuitId, InsecureDevKeys, Prover, ProverError, ProverWorker, WorkerError};
use millstream_types::Hash256;
use sha3::{Digest, Keccak256};

/// The hashes of the verifying keys. They change with the circuits and with nothing else; verifier contracts are deployed from them.
#[test]
fn verifying_keys_are_pinned() {
    // Made, not loaded: a file from before would hide a change of the set-up.
    let hashes = CircuitId::of_tier(size(24)).map(|circuit| {
        let keys = InsecureDevKeys::generate(circuit).expect("keys");
        keys.verifying_key().key_hash().to_string()
    });
    assert_eq!(hashes, [SETTLE_24, REGISTER_24]);
}

const SETTLE_24: &str = "0xdf355be0c77c55f6ee462b33cd7544950bf21cf03fc87f7c9c1ba0d7567c8d22";
const REGISTER_24: &str = "0xe6884c81bc8337823693a9bc909cd2c51473634d46a9a978ceb1df05d34c3b14";

/// The keys that the contracts' settlements are proved with; `examples/settlement_vectors.rs` makes them, which takes minutes.
#[test]
fn verifying_keys_of_the_vectors_are_pinned() {
    let file = include_str!("../../../contracts/vectors/settlements.json");
    let file: serde_json::Value = serde_json::from_str(file).expect("JSON");
    let keys = file["keys"].as_array().expect("a list");
    let hashes = keys.iter().map(|key| (key["slots"].as_u64(), key["keyHash"].as_str())).collect::<Vec<_>>();
    assert_eq!(hashes, [(Some(96), Some(SETTLE_96)), (Some(384), Some(SETTLE_384))]);
    for key in keys {
        let words = key["words"].as_str().and_then(|words| words.strip_prefix("0x")).expect("words");
        let byte = |at: usize| u8::from_str_radix(&words[at..at + 2], 16).expect("a byte");
        let words: Vec<u8> = (0..words.len()).step_by(2).map(byte).collect();
        assert_eq!(words.len(), 22 * 32);
        let hash = Hash256::from_bytes(Keccak256::digest(words).into());
        assert_eq!(key["keyHash"].as_str(), Some(hash.to_string().as_str()));
    }
}

const SETTLE_96: &str = "0x4d3462cad33fb52af4f380e945675df99e85b4f0a582704604dcd78540ae9e00";
const SETTLE_384: &str = "0xab6d9da01561c2369c86f96fe67416dfc37788b7d9857c14e512280cff3808f9";

/// The smallest circuit: its keys are made in an instant.
fn small() -> CircuitId {
    CircuitId::register(size(1))
}

fn key_files(directory: &std::path::Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("a directory");
    let paths = entries.map(|entry| entry.expect("readable").path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "key")).collect()
}

#[test]
fn keys_are_the_same_made_or_loaded() {
    let directory = tempfile::tempdir().expect("a directory");
    let made = InsecureDevKeys::generate(small()).expect("keys");
    for _ in 0..2 {
        let kept = InsecureDevKeys::load_or_generate(small(), directory.path()).expect("keys");
        assert_eq!(kept.verifying_key().words(), made.verifying_key().words());
        assert_eq!(kept.circuit_digest(), made.circuit_digest());
    }
    let [file] = &key_files(directory.path())[..] else { panic!("one key file") };
    let name = file.file_name().and_then(|name| name.to_str()).expect("a name");
    assert!(name.starts_with("insecure-dev-register-1-"), "{name}");
}

/// A byte of the magic, the digest, the hash or the key, or the end of the file.
#[test]
fn a_damaged_file_is_made_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let keys = InsecureDevKeys::load_or_generate(small(), directory.path()).expect("keys");
    let [file] = &key_files(directory.path())[..] else { panic!("one key file") };
    let good = fs::read(file).expect("readable");
    for byte in [0, 40, 70, 5_000, good.len()] {
        let mut bytes = good.clone();
        match bytes.get_mut(byte) {
            Some(byte) => *byte ^= 1,
            None => bytes.truncate(1_000),
        }
        fs::write(file, bytes).expect("writable");
        let again = InsecureDevKeys::load_or_generate(small(), directory.path()).expect("keys");
        assert_eq!(again.verifying_key().words(), keys.verifying_key().words());
        assert_eq!(fs::read(file).expect("readable"), good);
    }
}

#[test]
fn many_at_once_make_one_file() {
    let directory = tempfile::tempdir().expect("a directory");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| InsecureDevKeys::load_or_generate(small(), directory.path()).expect("keys"));
        }
    });
    assert_eq!(key_files(directory.path()).len(), 1);
}

#[test]
fn circuits_do_not_share_keys() {
    let [settle, register] = CircuitId::of_tier(size(1)).map(|circuit| InsecureDevKeys::generate(circuit).expect("keys"));
    assert_ne!(settle.circuit_digest(), register.circuit_digest());
    assert_ne!(settle.verifying_key().key_hash(), register.verifying_key().key_hash());
}

fn small_prover() -> Arc<Prover> {
    let keys = CircuitId::of_tier(size(2)).map(|circuit| InsecureDevKeys::generate(circuit).expect("keys"));
    Arc::new(Prover::insecure_dev(keys))
}

#[tokio::test]
async fn a_worker_proves_in_turn_and_refuses_with_reasons() {
    let prover = small_prover();
    let worker = ProverWorker::spawn(Arc::clone(&prover), 4);
    let (settle, register) = (settlement(size(2), place(31_337)), registration(size(2), place(31_337)));
    let [settle_id, register_id] = CircuitId::of_tier(size(2));
    let (first, second) = tokio::join!(worker.settle(settle.clone()), worker.register(register.clone()));
    let verifies = |id, public: [_; 3], proof| prover.verifying_key(id).expect("keys").verify(&public, &proof);
    assert!(verifies(settle_id, settle.public.to_array(), first.expect("a proof")));
    assert!(verifies(register_id, register.public.to_array(), second.expect("a proof")));

    let public = worker.register(registration(size(2), place(1))).await;
    assert!(matches!(public, Err(WorkerError::Prover(ProverError::PublicChain { .. }))), "{public:?}");
}

/// On a runtime of one thread nothing is taken from the queue before the first await, so its bound is exact.
#[tokio::test]
async fn the_queue_is_bounded_and_a_dropped_call_is_not_proved() {
    let worker = ProverWorker::spawn(small_prover(), 1);
    let statement = registration(size(2), place(31_337));
    let mut dropped = Box::pin(worker.register(statement.clone()));
    assert!(std::future::poll_fn(|context| std::task::Poll::Ready(dropped.as_mut().poll(context))).await.is_pending());
    let busy = worker.register(statement.clone()).await;
    assert!(matches!(busy, Err(WorkerError::Busy { waiting: 1 })), "{busy:?}");
    drop(dropped);
    tokio::task::yield_now().await;
    worker.register(statement).await.expect("the queue is free again");
}
