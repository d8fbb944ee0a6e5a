//! What can go wrong, by whose fault.

use std::io;
use std::path::PathBuf;

use millstream_prover::{CircuitId, DegenerateKey, ProverError};

use crate::curve::Blake2bHash;

/// Why a step of a ceremony was not done.
#[derive(Debug, thiserror::Error)]
pub enum CeremonyError {
    /// Unavailable: a file cannot be read or written.
    #[error("the file {path} cannot be used")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Rejection: nothing is overwritten.
    #[error("the file {path} exists already")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Rejection: the file is not what its format says: another kind, cut off, or longer than it says.
    #[error("the file {path} is not a sound {format} file: {what}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The format, such as `ptau`.
        format: &'static str,
        /// What is wrong.
        what: String,
    },
    /// Rejection: a point is not on its curve, not in the subgroup, or the identity where none may be.
    #[error("point {index} of section {section} of {path} is not a point of the group")]
    BadPoint {
        /// The file.
        path: PathBuf,
        /// The section's number.
        section: u32,
        /// The point, counted from 0.
        index: usize,
    },
    /// Rejection: these are not the powers of tau that are pinned.
    #[error("the BLAKE2b hash of {path} is {found}, which is not pinned{}", expected.as_ref().map_or_else(String::new, |expected| format!(": expected {expected}")))]
    PowersHash {
        /// The file.
        path: PathBuf,
        /// The hash that was asked for; none: no pinned file has the found one.
        expected: Option<Box<Blake2bHash>>,
        /// The file's hash.
        found: Box<Blake2bHash>,
    },
    /// Rejection: the powers are not powers of one secret.
    #[error("the powers of tau in {path} are inconsistent: {what}")]
    Powers {
        /// The file.
        path: PathBuf,
        /// Which relation does not hold.
        what: &'static str,
    },
    /// Rejection: the circuit needs more powers.
    #[error("{circuit} needs a powers-of-tau file of 2^{needed}, {path} has 2^{found}")]
    TooFewPowers {
        /// The circuit.
        circuit: CircuitId,
        /// The file.
        path: PathBuf,
        /// The least logarithm.
        needed: u32,
        /// The file's.
        found: u32,
    },
    /// Rejection: the parameters are of another circuit, or of other powers of tau.
    #[error("{path} does not come from {circuit} and these powers of tau: {what}")]
    OtherCircuit {
        /// The file.
        path: PathBuf,
        /// The circuit.
        circuit: CircuitId,
        /// What differs.
        what: &'static str,
    },
    /// Rejection: a contribution of the chain does not hold.
    #[error("contribution {number} of {path} does not hold")]
    Chain {
        /// The file.
        path: PathBuf,
        /// The contribution, counted from 1.
        number: usize,
        /// Why.
        #[source]
        reason: BadChain,
    },
    /// Rejection: the parameters were not changed by the contributions and by nothing else.
    #[error("the parameters in {path} do not follow from its contributions: {what}")]
    Parameters {
        /// The file.
        path: PathBuf,
        /// What differs.
        what: &'static str,
    },
    /// Rejection: without a contribution anyone can forge proofs.
    #[error("nobody contributed to {path}")]
    NoContribution {
        /// The file.
        path: PathBuf,
    },
    /// Rejection: without a beacon at the end, the last contributor chose among keys.
    #[error("the last contribution of {path} is not a beacon")]
    NoBeacon {
        /// The file.
        path: PathBuf,
    },
    /// Rejection: the ceremony is closed.
    #[error("{path} is closed by a beacon: nothing can be added")]
    Closed {
        /// The file.
        path: PathBuf,
    },
    /// Rejection: the chain is full.
    #[error("{path} has {max} contributions, and no room for another")]
    Full {
        /// The file.
        path: PathBuf,
        /// The largest number.
        max: usize,
    },
    /// Rejection: a name or a beacon that the format cannot hold.
    #[error("{what} is of {found} bytes, and {min} to {max} are allowed")]
    Length {
        /// What it is.
        what: &'static str,
        /// The least length.
        min: usize,
        /// The largest length.
        max: usize,
        /// The length.
        found: usize,
    },
    /// Rejection: a beacon of so many iterations is too easily bent, or takes too long to check.
    #[error("2^{found} iterations: 2^{min} to 2^{max} are allowed")]
    Iterations {
        /// The least logarithm.
        min: u8,
        /// The largest logarithm.
        max: u8,
        /// The logarithm.
        found: u8,
    },
    /// Rejection: the key proves nothing.
    #[error("the verifying key is degenerate")]
    Degenerate(#[source] DegenerateKey),
    /// The key cannot be written.
    #[error("the proving key cannot be written")]
    Key(#[source] ProverError),
    /// Unavailable: the system gave no randomness.
    #[error("the system gave no randomness")]
    Entropy(#[source] getrandom::Error),
}

/// Why a contribution does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadChain {
    /// Its transcript is not the hash of what came before and of its key.
    #[error("its transcript is not that of the contributions before it")]
    Transcript,
    /// It does not prove that its maker knew the secret.
    #[error("it does not prove knowledge of its secret")]
    Knowledge,
    /// Delta was not multiplied by its secret.
    #[error("delta does not follow from the one before it")]
    Delta,
    /// Its secret is not the one that its beacon gives.
    #[error("it is not what its beacon gives")]
    Beacon,
    /// A beacon closes a chain.
    #[error("it follows a beacon")]
    AfterBeacon,
}
