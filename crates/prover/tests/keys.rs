//! Development keys are the same everywhere, survive on disk, and never meet another circuit.

mod common;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use common::{place, registration, settlement, size};
use millstream_prover::{CircuitId, InsecureDevKeys, JobState, Prover, ProverError, ProverService, ServiceError, ServiceOptions};
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
const REGISTER_24: &str = "0xa2809b45ed88931ad01d0b86027191e9db0b8941b3f5360b8466bdf7abd3202f";

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

fn service(options: ServiceOptions) -> ProverService {
    ProverService::start(small_prover(), options).expect("threads")
}

#[tokio::test]
async fn a_service_proves_and_refuses_with_reasons() {
    let prover = small_prover();
    let service = service(ServiceOptions::default());
    let (settle, register) = (settlement(size(2), place(31_337)), registration(size(2), place(31_337)));
    let [settle_id, register_id] = CircuitId::of_tier(size(2));
    let (first, second) = tokio::join!(service.settle(settle.clone()), service.register(register.clone()));
    let verifies = |id, public: [_; 3], proof| prover.verifying_key(id).expect("keys").verify(&public, &proof);
    assert!(verifies(settle_id, settle.public.to_array(), first.expect("a proof")));
    assert!(verifies(register_id, register.public.to_array(), second.expect("a proof")));
    assert!(service.jobs().is_empty());

    let public = service.register(registration(size(2), place(1))).await;
    assert!(matches!(public, Err(ServiceError::Prover(ProverError::PublicChain { .. }))), "{public:?}");
}

/// Polls a call once; on a runtime of one thread nothing else happens meanwhile.
async fn begun<T>(call: &mut (impl Future<Output = T> + Unpin)) {
    assert!(std::future::poll_fn(|context| std::task::Poll::Ready(std::pin::Pin::new(&mut *call).poll(context))).await.is_pending());
}

#[tokio::test]
async fn waiting_is_bounded_seen_and_taken_back() {
    let service = service(ServiceOptions { waiting_max: 1, ..ServiceOptions::default() });
    let statement = registration(size(2), place(31_337));
    let mut proving = Box::pin(service.register(statement.clone()));
    begun(&mut proving).await;
    let mut waiting = Box::pin(service.register(statement.clone()));
    begun(&mut waiting).await;
    let jobs = service.jobs();
    assert_eq!(
        jobs.iter().map(|job| (job.id, job.circuit, job.book)).collect::<Vec<_>>(),
        [0, 1].map(|id| { (id, CircuitId::register(size(2)), statement.place.book) })
    );
    assert!(matches!((jobs[0].state, jobs[1].state), (JobState::Proving { .. }, JobState::Waiting)), "{jobs:?}");
    let busy = service.register(statement.clone()).await;
    assert!(matches!(busy, Err(ServiceError::Busy { waiting: 1 })), "{busy:?}");

    // A dropped call gives its place free, also in the middle of a proof.
    drop(waiting);
    let next = service.register(statement.clone());
    drop(proving);
    next.await.expect("the service is free again");
    assert!(service.jobs().is_empty());
}

#[tokio::test]
async fn a_cancelled_job_ends_without_a_proof() {
    let service = service(ServiceOptions::default());
    let statement = registration(size(2), place(31_337));
    let (mut first, mut second) = (Box::pin(service.register(statement.clone())), Box::pin(service.register(statement)));
    begun(&mut first).await;
    begun(&mut second).await;
    assert!(service.cancel(1) && !service.cancel(1) && !service.cancel(7));
    let (first, second) = tokio::join!(first, second);
    assert!(matches!(second, Err(ServiceError::Prover(ProverError::Cancelled))), "{second:?}");
    first.expect("it was not the one");
}

#[tokio::test]
async fn a_proof_that_needs_too_much_memory_is_refused_at_once() {
    let statement = registration(size(2), place(31_337));
    let needed = small_prover().memory_bytes(CircuitId::register(size(2)));
    let refused = service(ServiceOptions { memory_bytes_max: needed - 1, ..ServiceOptions::default() }).register(statement.clone()).await;
    assert!(matches!(refused, Err(ServiceError::Memory { needed: named, .. }) if named == needed), "{refused:?}");
    // Room for one: two that may run at once go one after the other.
    let service = service(ServiceOptions { memory_bytes_max: needed, jobs_max: 2, ..ServiceOptions::default() });
    let (mut first, mut second) = (Box::pin(service.register(statement.clone())), Box::pin(service.register(statement)));
    begun(&mut first).await;
    begun(&mut second).await;
    assert_eq!(service.jobs()[1].state, JobState::Waiting);
    let (first, second) = tokio::join!(first, second);
    assert!(first.is_ok() && second.is_ok());
}
