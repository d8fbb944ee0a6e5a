//! Groth16 over BN254 for the ledger's circuits: keys, set-up, proofs, and the words the chain takes.
//!
//! Knows the circuits and arkworks; knows no chain client, no node and no store. Proving is synchronous and uses rayon's threads;
//! [`ProverService`] does it in the background of an async caller.
//!
//! **Invariants.** A proof that leaves this crate has passed the native verifier. A key that leaves it is not degenerate (spec L-22).
//! Development keys prove nothing about a public chain: a statement for one is refused (spec L-23).
//! A production key is one that is pinned by hash (spec L-33); [`ProductionKeys::load`] gives no other.
//!
//! Spec: `docs/spec/ledger.md`, sections Data binding and Keys.

mod affine;
mod arithmetic;
mod ark;
mod circuit_id;
mod dev_keys;
mod digits;
mod error;
mod groth16;
mod key_pins;
mod lanes;
mod pinned_verifier;
mod production_keys;
mod proof;
mod prover;
mod service;
mod setup;
pub mod snarkjs;
mod sum;
mod verifying_key;

pub use arithmetic::{Arithmetic, ProofStep, Wanted};
pub use circuit_id::{CircuitId, CircuitIdError, CircuitKind};
pub use dev_keys::{
    InsecureDevKeys, KEYS_DIR_VARIABLE, default_keys_dir, insecure_dev_key_hash, insecure_dev_verifier_key, refuse_public_chain,
};
pub use error::{DegenerateKey, KeyMismatch, ProofWordsError, ProverError};
pub use groth16::Blinding;
pub use key_pins::{KeyPin, KeyPins, KeyPinsError};
pub use pinned_verifier::VerifierKey;
pub use production_keys::ProductionKeys;
pub use proof::Proof;
pub use prover::Prover;
pub use service::{Job, JobState, ProverService, ServiceError, ServiceOptions};
pub use verifying_key::VerifyingKey;
