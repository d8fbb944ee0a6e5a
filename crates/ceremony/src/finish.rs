//! From a ceremony that holds to the files that a prover, a deployer and an independent verifier take.

use std::fs;
use std::path::{Path, PathBuf};

use ark_bn254::{Bn254, G1Affine, g1};
use ark_groth16::ProvingKey;
use millstream_prover::{CircuitId, KeyPin, ProductionKeys, VerifyingKey, snarkjs};
use serde::Serialize;

use crate::curve::{Identity, read_points};
use crate::error::CeremonyError;
use crate::group::quotient_points;
use crate::parameters::{H, L, Parameters};
use crate::sections::{Result, at, write_file};
use crate::transcript::Transcript;
use crate::verify::Verified;

/// What [`Verified::finish`] made.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The circuit.
    pub circuit: CircuitId,
    /// What to pin.
    pub pin: KeyPin,
    /// The proving key.
    pub key: PathBuf,
    /// The words for the verifier contract, as JSON.
    pub verifier: PathBuf,
    /// The verifying key for snarkjs.
    pub verification_key: PathBuf,
    /// The transcript.
    pub transcript: PathBuf,
    /// The ceremony, as it was checked.
    pub record: Transcript,
}

/// `verifier.json`: what the constructor of the verifier contract takes, and what it answers as `keyHash`.
#[derive(Serialize)]
struct VerifierData {
    circuit: String,
    circuit_digest: String,
    key_hash: String,
    words: Vec<String>,
}

impl Verified<'_> {
    /// Writes the transcript to a new file.
    ///
    /// # Errors
    /// [`CeremonyError::Exists`], [`CeremonyError::File`].
    pub fn write_transcript(&self, path: &Path) -> Result<()> {
        write_json(path, &self.transcript())
    }

    /// Requires a contribution, a beacon at the end and a sound key, and writes into a directory the proving key, the verifier contract's
    /// data, the verifying key for snarkjs and the transcript.
    ///
    /// # Errors
    /// [`NoContribution`](CeremonyError::NoContribution), [`NoBeacon`](CeremonyError::NoBeacon),
    /// [`Degenerate`](CeremonyError::Degenerate); then of the files, none of which is replaced.
    pub fn finish(self, directory: &Path) -> Result<Finished> {
        finish(self, directory)
    }
}

fn finish(verified: Verified<'_>, directory: &Path) -> Result<Finished> {
    let input = verified.parameters.file.path();
    if verified.participants() == 0 {
        return Err(CeremonyError::NoContribution { path: input.to_path_buf() });
    }
    if !verified.is_closed() {
        return Err(CeremonyError::NoBeacon { path: input.to_path_buf() });
    }
    let verifying = VerifyingKey::new(&verified.verifying_key()).map_err(CeremonyError::Degenerate)?;
    let (circuit, record) = (verified.reference.circuit, verified.transcript());
    let circuit_digest = verified.reference.structure.digest();

    fs::create_dir_all(directory).map_err(at(directory))?;
    let file = |what: &str| directory.join(format!("{circuit}.{what}.json"));
    let key = directory.join(ProductionKeys::file_name(circuit, &circuit_digest));
    let [verifier, verification_key, transcript] = ["verifier", "verification_key", "transcript"].map(file);
    for path in [&key, &verifier, &verification_key, &transcript] {
        if path.exists() {
            return Err(CeremonyError::Exists { path: path.clone() });
        }
    }

    let proving = proving_key(verified)?;
    let keys = ProductionKeys::new(circuit, circuit_digest, proving).map_err(CeremonyError::Key)?;
    let data = VerifierData {
        circuit: circuit.to_string(),
        circuit_digest: format!("0x{}", hex::encode(circuit_digest)),
        key_hash: verifying.key_hash().to_string(),
        words: verifying.words().iter().map(|word| format!("0x{}", hex::encode(word))).collect(),
    };
    write_json(&verifier, &data)?;
    write_json(&verification_key, &snarkjs::verification_key(&verifying))?;
    write_json(&transcript, &record)?;
    // Last: with it the directory is complete.
    let pin = keys.save(&key).map_err(CeremonyError::Key)?;
    Ok(Finished { circuit, pin, key, verifier, verification_key, transcript, record })
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|error| at(path)(error.into()))?;
    bytes.push(b'\n');
    write_file(path, &bytes)
}

/// The key in the form that arkworks' prover takes. Everything but the quotient's points is the file's as it is.
fn proving_key(verified: Verified<'_>) -> Result<ProvingKey<Bn254>> {
    let vk = verified.verifying_key();
    let Verified { reference, parameters } = verified;
    let Parameters { mut file, header, .. } = parameters;
    let l_query: Vec<G1Affine> = read_points::<g1::Config>(&mut file, L, (0, reference.l.len()), Identity::Allowed)?;
    let odd: Vec<G1Affine> = read_points::<g1::Config>(&mut file, H, (0, reference.h.len()), Identity::Allowed)?;
    tracing::info!(points = odd.len(), "transforming the quotient's points");
    Ok(ProvingKey {
        vk,
        beta_g1: header.beta_g1,
        delta_g1: header.delta_g1,
        a_query: reference.a.clone(),
        b_g1_query: reference.b_g1.clone(),
        b_g2_query: reference.b_g2.clone(),
        h_query: quotient_points(&odd, reference.domain),
        l_query,
    })
}
