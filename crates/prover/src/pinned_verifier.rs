//! The verifying key of a circuit's pinned production key, for whoever deploys its verifier: the proving key is not needed for that.

use std::fs;
use std::io;
use std::path::Path;

use millstream_types::Hash256;
use serde::Deserialize;
use sha3::{Digest, Keccak256};

use crate::circuit_id::CircuitId;
use crate::dev_keys::dev_verifying_key;
use crate::error::{KeyMismatch, ProverError};
use crate::key_pins::KeyPins;
use crate::production_keys::ProductionKeys;

/// A verifier's key: one that is pinned, or a development key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    /// The circuit.
    pub circuit: CircuitId,
    /// Keccak-256 of its matrices.
    pub circuit_digest: Hash256,
    /// What the constructor of the verifier contract takes.
    pub words: [[u8; 32]; 22],
}

/// `CIRCUIT.verifier.json`, as a ceremony's `finish` writes it. Only the words are believed, and those by their hash.
#[derive(Deserialize)]
struct VerifierFile {
    words: Vec<Hash256>,
}

impl VerifierKey {
    /// The pinned key of a circuit, from `CIRCUIT.verifier.json` in a directory, or from the proving key there.
    ///
    /// # Errors
    /// [`ProverError::NotPinned`]; [`ProverError::KeyMismatch`] when the circuit or the key is not what is pinned;
    /// [`ProverError::InsecurePin`] when what is pinned is the development key; [`ProverError::KeyFile`]; else as [`ProductionKeys::load`].
    pub fn pinned(circuit: CircuitId, directory: &Path, pins: &KeyPins) -> Result<Self, ProverError> {
        let pin = pins.of(circuit).ok_or(ProverError::NotPinned { circuit })?;
        let path = directory.join(format!("{circuit}.verifier.json"));
        let at = |source| ProverError::KeyFile { path: path.clone(), source };
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let keys = ProductionKeys::load(circuit, directory, pins)?;
                let circuit_digest = Hash256::from_bytes(*keys.circuit_digest());
                return Ok(Self { circuit, circuit_digest, words: keys.verifying_key().words() });
            }
            text => text.map_err(at)?,
        };
        let structure = circuit.structure();
        let circuit_digest = Hash256::from_bytes(structure.digest());
        let check = |what, expected: Hash256, found: Hash256| {
            let path = path.clone();
            if expected == found { Ok(()) } else { Err(ProverError::KeyMismatch { circuit, path, what, expected, found }) }
        };
        check(KeyMismatch::Circuit, pin.circuit_digest, circuit_digest)?;
        if pin.key_hash == dev_verifying_key(circuit, &structure)?.key_hash() {
            return Err(ProverError::InsecurePin { circuit });
        }
        let file: VerifierFile = serde_json::from_slice(&text).map_err(|error| at(io::Error::new(io::ErrorKind::InvalidData, error)))?;
        let words: Vec<[u8; 32]> = file.words.iter().map(|word| *word.as_bytes()).collect();
        let words: [[u8; 32]; 22] =
            words.try_into().map_err(|_| at(io::Error::new(io::ErrorKind::InvalidData, "a verifying key has 22 words")))?;
        // The pinned hash is of a key that its ceremony checked.
        check(KeyMismatch::Key, pin.key_hash, Hash256::from_bytes(Keccak256::digest(words.as_flattened()).into()))?;
        Ok(Self { circuit, circuit_digest, words })
    }
}

#[cfg(test)]
mod tests {
    use millstream_circuit::BookSize;

    use super::*;
    use crate::dev_keys::insecure_dev_verifier_key;
    use crate::key_pins::KeyPin;
    use crate::setup::{ToxicWaste, verifying_key};
    use crate::verifying_key::VerifyingKey;

    #[test]
    fn only_the_pinned_words_are_taken() {
        let circuit = CircuitId::register(BookSize::new(1).expect("a size"));
        let structure = circuit.structure();
        // Of other secrets than the development key.
        let made = VerifyingKey::new(&verifying_key(&structure, &ToxicWaste::insecure_dev(&[7; 32]))).expect("a key");
        let key = VerifierKey { circuit, circuit_digest: Hash256::from_bytes(structure.digest()), words: made.words() };
        let key_hash = made.key_hash();
        let pin = KeyPin { circuit, circuit_digest: key.circuit_digest, key_hash, file_hash: Hash256::from_bytes([1; 32]) };
        let pins: KeyPins = [pin].into_iter().collect();
        let directory = tempfile::tempdir().expect("a directory");
        let load = |pins: &KeyPins| VerifierKey::pinned(circuit, directory.path(), pins);
        let path = directory.path().join("register-1.verifier.json");
        let write = |words: &[[u8; 32]]| {
            let words: Vec<Hash256> = words.iter().map(|word| Hash256::from_bytes(*word)).collect();
            fs::write(&path, serde_json::json!({ "circuit": "register-1", "words": words }).to_string()).expect("written");
        };

        assert!(matches!(load(&KeyPins::default()), Err(ProverError::NotPinned { .. })));
        // Neither that file nor a proving key.
        assert!(matches!(load(&pins), Err(ProverError::KeyFile { .. })));
        write(&key.words);
        assert_eq!(load(&pins).expect("pinned"), key);
        let mut other = key.words;
        other[21][31] ^= 1;
        write(&other);
        assert!(matches!(load(&pins), Err(ProverError::KeyMismatch { what: KeyMismatch::Key, .. })));
        write(&key.words[1..]);
        assert!(matches!(load(&pins), Err(ProverError::KeyFile { .. })));
        let dev = insecure_dev_verifier_key(circuit).expect("a key");
        write(&dev.words);
        let key_hash = Hash256::from_bytes(Keccak256::digest(dev.words.as_flattened()).into());
        let insecure: KeyPins = [KeyPin { key_hash, ..pin }].into_iter().collect();
        assert!(matches!(load(&insecure), Err(ProverError::InsecurePin { .. })));
        let changed: KeyPins = [KeyPin { circuit_digest: Hash256::from_bytes([2; 32]), ..pin }].into_iter().collect();
        assert!(matches!(load(&changed), Err(ProverError::KeyMismatch { what: KeyMismatch::Circuit, .. })));
    }
}
