//! What a ceremony was, for publication.

use ark_bn254::{G1Affine, G2Affine};
use serde::{Deserialize, Serialize};

use crate::chain::Contribution;

/// A ceremony as JSON. It proves nothing by itself: it names what [`Reference::verify`](crate::Reference::verify) finds when anyone runs it on the same files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transcript {
    /// The circuit, such as `settle-96`.
    pub circuit: String,
    /// Keccak-256 of the circuit's matrices, `0x` and 64 digits.
    pub circuit_digest: String,
    /// Rows of the circuit.
    pub constraints: usize,
    /// BLAKE2b-512 of the powers-of-tau file, 128 digits.
    pub powers_hash: String,
    /// BLAKE2b-512 over the initial parameters, 128 digits: what snarkjs calls the circuit hash.
    pub circuit_hash: String,
    /// The contributions, in order.
    pub contributions: Vec<ContributionRecord>,
    /// What gamma of the file is multiplied by, and the points of the public inputs divided by, in the verifying key; decimal.
    pub gamma_factor: String,
    /// Keccak-256 of the verifying key's words, `0x` and 64 digits; none while nobody contributed.
    pub verifying_key_hash: Option<String>,
}

/// Whose contribution it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ContributionKind {
    /// A secret.
    Participant,
    /// A public random value.
    Beacon {
        /// The value, in hexadecimal digits.
        beacon: String,
        /// The logarithm of the number of iterations of SHA-256.
        iterations_log2: u8,
    },
}

/// One contribution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContributionRecord {
    /// Counted from 1.
    pub number: usize,
    /// Who, as they say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whose it is.
    #[serde(flatten)]
    pub kind: ContributionKind,
    /// Its hash, 128 digits: what its maker published.
    pub hash: String,
    /// What it was bound to, 128 digits.
    pub transcript: String,
    /// Delta after it, in G1: `x, y`, decimal.
    pub delta_g1: [String; 2],
    /// `s`, in G1.
    pub s: [String; 2],
    /// `x·s`, in G1.
    pub s_x: [String; 2],
    /// `x·R`, in G2: `x.c0, x.c1, y.c0, y.c1`, decimal.
    pub r_x: [String; 4],
}

impl ContributionRecord {
    pub(crate) fn of((index, contribution): (usize, &Contribution)) -> Self {
        let kind = match &contribution.beacon {
            None => ContributionKind::Participant,
            Some(beacon) => ContributionKind::Beacon { beacon: hex::encode(&beacon.value), iterations_log2: beacon.iterations_log2 },
        };
        Self {
            number: index + 1,
            name: contribution.name.clone(),
            kind,
            hash: contribution.hash().to_string(),
            transcript: contribution.transcript.to_string(),
            delta_g1: g1(&contribution.delta_g1),
            s: g1(&contribution.s),
            s_x: g1(&contribution.s_x),
            r_x: g2(&contribution.r_x),
        }
    }
}

fn g1(point: &G1Affine) -> [String; 2] {
    [point.x.to_string(), point.y.to_string()]
}

fn g2(point: &G2Affine) -> [String; 4] {
    [point.x.c0.to_string(), point.x.c1.to_string(), point.y.c0.to_string(), point.y.c1.to_string()]
}
