//! Production keys: made by a ceremony, pinned by their hashes, good on every chain.
//!
//! File: `millstream ceremony key v1\n` and zeros (32 bytes), the circuit's digest (32), BLAKE3 of the rest (32), arkworks' proving key,
//! uncompressed. The file's hash, the one that is pinned, is BLAKE3 of all of it.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;

use ark_bn254::Bn254;
use ark_groth16::ProvingKey;
use ark_serialize::{CanonicalDeserialize, CanonicalSerialize, Compress, Validate};
use millstream_types::Hash256;

use crate::circuit_id::CircuitId;
use crate::dev_keys::insecure_key_hash;
use crate::error::{KeyMismatch, ProverError};
use crate::key_pins::{KeyPin, KeyPins};
use crate::verifying_key::VerifyingKey;

const MAGIC: &[u8; 32] = b"millstream ceremony key v1\n\0\0\0\0\0";
const HEADER_BYTES: usize = 96;

/// Keys of one circuit whose secrets nobody knows, as long as one contributor of their ceremony was honest. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ProductionKeys {
    circuit: CircuitId,
    circuit_digest: [u8; 32],
    proving: Arc<ProvingKey<Bn254>>,
    verifying: Arc<VerifyingKey>,
}

impl ProductionKeys {
    /// Keys as a ceremony made them, checked by it. To be used, they are saved, pinned and loaded.
    ///
    /// # Errors
    /// [`ProverError::Degenerate`].
    pub fn new(circuit: CircuitId, circuit_digest: [u8; 32], proving: ProvingKey<Bn254>) -> Result<Self, ProverError> {
        let verifying = VerifyingKey::new(&proving.vk).map_err(|reason| ProverError::Degenerate { circuit, reason })?;
        Ok(Self { circuit, circuit_digest, proving: Arc::new(proving), verifying: Arc::new(verifying) })
    }

    /// The name of a key's file.
    #[must_use]
    pub fn file_name(circuit: CircuitId, circuit_digest: &[u8; 32]) -> String {
        let digest: String = circuit_digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{circuit}-{digest}.key")
    }

    /// Loads the pinned key of a circuit from a directory.
    ///
    /// # Errors
    /// [`ProverError::NotPinned`]; [`ProverError::KeyFile`]; [`ProverError::KeyMismatch`] when the circuit, the file or the key is not what
    /// is pinned; [`ProverError::InsecurePin`] when what is pinned is the development key; [`ProverError::Degenerate`].
    pub fn load(circuit: CircuitId, directory: &Path, pins: &KeyPins) -> Result<Self, ProverError> {
        let pin = pins.of(circuit).ok_or(ProverError::NotPinned { circuit })?;
        let structure = circuit.structure();
        let circuit_digest = structure.digest();
        let path = directory.join(Self::file_name(circuit, &circuit_digest));
        let mismatch = |what, expected: Hash256, found: Hash256| {
            let path = path.clone();
            if expected == found { Ok(()) } else { Err(ProverError::KeyMismatch { circuit, path, what, expected, found }) }
        };
        mismatch(KeyMismatch::Circuit, pin.circuit_digest, Hash256::from_bytes(circuit_digest))?;
        if pin.key_hash == insecure_key_hash(circuit, &structure)? {
            return Err(ProverError::InsecurePin { circuit });
        }
        let at = |source| ProverError::KeyFile { path: path.clone(), source };
        let mut file = File::open(&path).map_err(at)?;
        // Hashed before it is parsed: no length in a foreign file is believed.
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(&mut file).map_err(at)?;
        mismatch(KeyMismatch::File, pin.file_hash, Hash256::from_bytes(hasher.finalize().into()))?;
        file.rewind().map_err(at)?;
        let mut reader = BufReader::with_capacity(1 << 20, file);
        let mut header = [0; HEADER_BYTES];
        reader.read_exact(&mut header).map_err(at)?;
        if header[..32] != *MAGIC || header[32..64] != circuit_digest {
            return Err(at(io::Error::new(io::ErrorKind::InvalidData, "it is not a key of this circuit")));
        }
        // The points were checked when the key was made; the pinned hash says that they are still the same.
        let proving =
            ProvingKey::deserialize_with_mode(&mut reader, Compress::No, Validate::No).map_err(|error| at(io::Error::other(error)))?;
        let keys = Self::new(circuit, circuit_digest, proving)?;
        mismatch(KeyMismatch::Key, pin.key_hash, keys.verifying.key_hash())?;
        Ok(keys)
    }

    /// Writes the key to a new file, complete and synced or not at all, and gives what to pin.
    ///
    /// # Errors
    /// [`ProverError::KeyFile`], also when there is such a file.
    pub fn save(&self, path: &Path) -> Result<KeyPin, ProverError> {
        let file_hash = self.write(path).map_err(|source| ProverError::KeyFile { path: path.to_path_buf(), source })?;
        Ok(KeyPin {
            circuit: self.circuit,
            circuit_digest: Hash256::from_bytes(self.circuit_digest),
            key_hash: self.verifying.key_hash(),
            file_hash,
        })
    }

    fn write(&self, path: &Path) -> io::Result<Hash256> {
        if path.exists() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let mut body = blake3::Hasher::new();
        self.proving.serialize_uncompressed(&mut body).map_err(io::Error::other)?;
        let header = [&MAGIC[..], &self.circuit_digest, body.finalize().as_bytes()].concat();
        let unfinished = path.with_extension("unfinished");
        let mut out = Tee { file: BufWriter::with_capacity(1 << 20, File::create(&unfinished)?), hasher: blake3::Hasher::new() };
        out.write_all(&header)?;
        self.proving.serialize_uncompressed(&mut out).map_err(io::Error::other)?;
        let Tee { file, hasher } = out;
        file.into_inner()?.sync_all()?;
        std::fs::rename(&unfinished, path)?;
        Ok(Hash256::from_bytes(hasher.finalize().into()))
    }

    /// The circuit.
    #[must_use]
    pub const fn circuit(&self) -> CircuitId {
        self.circuit
    }

    /// The digest of the circuit's matrices.
    #[must_use]
    pub const fn circuit_digest(&self) -> &[u8; 32] {
        &self.circuit_digest
    }

    /// What the verifier contract is deployed with.
    #[must_use]
    pub fn verifying_key(&self) -> &VerifyingKey {
        &self.verifying
    }

    pub(crate) fn proving_key(&self) -> &ProvingKey<Bn254> {
        &self.proving
    }
}

/// Writes to a file and a hash.
struct Tee<W> {
    file: W,
    hasher: blake3::Hasher,
}

impl<W: Write> Write for Tee<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
