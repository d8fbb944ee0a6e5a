//! The second phase of a Groth16 set-up, from a public powers-of-tau file to a proving key: contributions that each mix a secret into the
//! key, a public beacon at the end, and a check of all of it that anyone can repeat.
//!
//! The files are those of snarkjs, so that a participant may use snarkjs or this crate for any step: powers of tau (`.ptau`), circuits
//! (`.r1cs`), witnesses (`.wtns`) and parameters with the chain of contributions (`.zkey`).
//!
//! Knows circuits, keys and files; knows no network, no chain and no node, and no part of a node knows this crate.
//!
//! **Invariants.** Nothing that a file says is believed before it is compared with its limits: sizes before allocation, points before
//! arithmetic. A file appears under its name complete and synced, or not at all, and never replaces another. A secret is wiped when the
//! contribution is made, and no message holds one. [`Verified::finish`]
//! gives no key that was not verified, that nobody contributed to, or that no beacon closes.
//!
//! Spec: `docs/spec/ledger.md`, section Keys; formats: those of snarkjs 0.7; the scheme: Bowe, Gabizon and Miers, "Scalable Multi-party
//! Computation for zk-SNARK Parameters in the Random Beacon Model".

mod chain;
mod contribute;
mod curve;
mod error;
mod finish;
mod group;
mod initial;
#[cfg(any(test, feature = "insecure-powers"))]
pub mod insecure_powers;
mod parameters;
mod pins;
mod powers;
mod r1cs;
mod random;
mod sections;
mod transcript;
mod verify;
mod witness;

pub use chain::{BEACON_BYTES_MAX, BEACON_ITERATIONS_LOG2, Beacon, CONTRIBUTIONS_MAX, NAME_BYTES_MAX};
pub use contribute::{Contributed, Secret, beacon, contribute};
pub use curve::Blake2bHash;
pub use error::{BadChain, CeremonyError};
pub use finish::Finished;
pub use initial::Reference;
pub use parameters::check_contributions;
pub use pins::{PinnedPowers, powers_pins};
pub use powers::PowersPin;
pub use r1cs::write_r1cs;
pub use transcript::{ContributionKind, ContributionRecord, Transcript};
pub use verify::Verified;
pub use witness::write_witness;
