//! What can go wrong, by whose fault.

use core::fmt;
use std::io;
use std::path::PathBuf;

use millstream_types::{ChainId, Hash256};

use crate::circuit_id::CircuitId;

/// Why there is no proof or no key.
#[derive(Debug, thiserror::Error)]
pub enum ProverError {
    /// Rejection: anyone can forge proofs under development keys, so no chain with value may accept them (spec L-23).
    #[error("insecure development keys are refused on chain {chain}")]
    PublicChain {
        /// The refused chain.
        chain: ChainId,
    },
    /// Rejection: the prover was not given keys for this circuit.
    #[error("there are no keys for circuit {circuit}")]
    NoKeys {
        /// The circuit.
        circuit: CircuitId,
    },
    /// Rejection: no production key of this circuit is trusted.
    #[error("no proving key of {circuit} is pinned")]
    NotPinned {
        /// The circuit.
        circuit: CircuitId,
    },
    /// Rejection: the key in the file is not the pinned one.
    #[error("{path} is not the pinned key of {circuit}: the hash of {what} is {found}, not {expected}")]
    KeyMismatch {
        /// The circuit.
        circuit: CircuitId,
        /// The file.
        path: PathBuf,
        /// What differs.
        what: KeyMismatch,
        /// The pinned hash.
        expected: Hash256,
        /// The hash here.
        found: Hash256,
    },
    /// Rejection: the ledger verifies with another key than there is here.
    #[error("the ledger verifies {circuit} with the key {expected}; ours is {ours}")]
    ForeignKey {
        /// The circuit.
        circuit: CircuitId,
        /// The ledger's key.
        expected: Hash256,
        /// Ours.
        ours: Hash256,
    },
    /// Rejection: the pinned key is the development key of this circuit, whose secrets everybody knows (spec L-23).
    #[error("the pinned key of {circuit} is the insecure development key: anyone can forge proofs with it")]
    InsecurePin {
        /// The circuit.
        circuit: CircuitId,
    },
    /// Rejection: the verifying key proves nothing.
    #[error("the verifying key of {circuit} is degenerate")]
    Degenerate {
        /// The circuit.
        circuit: CircuitId,
        /// In which way.
        #[source]
        reason: DegenerateKey,
    },
    /// Unavailable: whoever asked is gone.
    #[error("the proof is no longer wanted")]
    Cancelled,
    /// Unavailable: a key file cannot be read or written.
    #[error("the key file {path} cannot be used")]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Unavailable: neither the keys' directory nor a home directory is set.
    #[error("no directory for keys: set {variable}")]
    NoKeysDir {
        /// The environment variable that names one.
        variable: &'static str,
    },
    /// Unavailable: the system gave no randomness.
    #[error("the system gave no randomness")]
    Entropy(#[source] getrandom::Error),
    /// Fault: the key does not have the circuit's shape.
    #[error("the keys of {circuit} are for {key_variables} variables, the witness has {witness_variables}")]
    Shape {
        /// The circuit.
        circuit: CircuitId,
        /// Variables the key is for.
        key_variables: usize,
        /// Variables of the witness.
        witness_variables: usize,
    },
    /// Fault: the proof does not verify, so the witness does not satisfy the circuit or the keys are of another one.
    #[error("the new proof for {circuit} does not verify")]
    SelfCheck {
        /// The circuit.
        circuit: CircuitId,
    },
}

/// In what a production key differs from its pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyMismatch {
    /// The circuit that this version has is not the one that the key was made for.
    Circuit,
    /// The file.
    File,
    /// The verifying key.
    Key,
}

impl fmt::Display for KeyMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Circuit => "the circuit",
            Self::File => "the file",
            Self::Key => "the verifying key",
        })
    }
}

/// How a verifying key is degenerate (spec L-22 and the curve's own rules).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DegenerateKey {
    /// Phase 2 was skipped: anyone can forge.
    #[error("gamma equals delta")]
    GammaIsDelta,
    /// Gamma has no secret in it.
    #[error("gamma is the generator")]
    GammaIsGenerator,
    /// Delta has no secret in it: nobody contributed.
    #[error("delta is the generator")]
    DeltaIsGenerator,
    /// A point is the identity or not in the prime-order subgroup of its curve.
    #[error("a point is the identity or outside the subgroup")]
    BadPoint,
    /// The circuits here have three public inputs.
    #[error("there are {points} points for inputs, not 4")]
    Inputs {
        /// Points in the key.
        points: usize,
    },
}

/// Why words are not a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofWordsError {
    /// A coordinate is below the order of the base field.
    #[error("word {word} is not below the order of the base field")]
    NotCanonical {
        /// Which of the eight.
        word: usize,
    },
    /// A point is not on its curve or not in the subgroup.
    #[error("point {point} is not in the group")]
    NotInGroup {
        /// `A`, `B` or `C`.
        point: char,
    },
}
