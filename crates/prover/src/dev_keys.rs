//! Development keys: made from public constants, so every machine has the same ones and anyone can forge with them (spec L-23).
//!
//! They are kept in a directory outside the source tree. A file's name has `insecure-dev`, the circuit, and the start of the circuit's
//! digest, so a changed circuit never meets an old key. A file that is not what its header says is made again.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ark_bn254::Bn254;
use ark_groth16::ProvingKey;
use ark_serialize::{CanonicalDeserialize, CanonicalSerialize, Compress, Validate};
use millstream_circuit::Structure;
use millstream_types::{ChainId, Hash256};

use crate::circuit_id::CircuitId;
use crate::error::ProverError;
use crate::setup::{ToxicWaste, generate, verifying_key};
use crate::verifying_key::VerifyingKey;

/// The environment variable that names the directory of the keys.
pub const KEYS_DIR_VARIABLE: &str = "MILLSTREAM_KEYS_DIR";

/// Header of a key file: this, the circuit's digest (32 bytes), BLAKE3 of the rest (32 bytes).
const MAGIC: &[u8; 32] = b"millstream insecure-dev key v1\n\0";
const HEADER_BYTES: usize = 96;

/// Refuses development keys on any chain but those for development (spec L-23).
///
/// # Errors
/// [`ProverError::PublicChain`].
pub fn refuse_public_chain(chain: ChainId) -> Result<(), ProverError> {
    if chain.is_development() { Ok(()) } else { Err(ProverError::PublicChain { chain }) }
}

/// The directory for keys: the one in [`KEYS_DIR_VARIABLE`], or `.cache/millstream/keys` in the home directory.
///
/// # Errors
/// [`ProverError::NoKeysDir`] when neither is set.
pub fn default_keys_dir() -> Result<PathBuf, ProverError> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set(KEYS_DIR_VARIABLE)
        .or_else(|| set("HOME").map(|home| home.join(".cache/millstream/keys")))
        .ok_or(ProverError::NoKeysDir { variable: KEYS_DIR_VARIABLE })
}

/// The hash of the verifying key of a circuit's development keys, without making the proving key: what to look for in a ledger that should
/// not have it.
///
/// # Errors
/// [`ProverError::Degenerate`]; see [`InsecureDevKeys::generate`].
pub fn insecure_dev_key_hash(circuit: CircuitId) -> Result<Hash256, ProverError> {
    insecure_key_hash(circuit, &circuit.structure())
}

/// As [`insecure_dev_key_hash`], with the circuit's structure at hand.
pub(crate) fn insecure_key_hash(circuit: CircuitId, structure: &Structure) -> Result<Hash256, ProverError> {
    let key = verifying_key(structure, &ToxicWaste::insecure_dev(&structure.digest()));
    VerifyingKey::new(&key).map(|key| key.key_hash()).map_err(|reason| ProverError::Degenerate { circuit, reason })
}

/// Keys of one circuit that anyone can forge proofs with. Cheap to clone.
#[derive(Clone, Debug)]
pub struct InsecureDevKeys {
    circuit: CircuitId,
    circuit_digest: [u8; 32],
    proving: Arc<ProvingKey<Bn254>>,
    verifying: Arc<VerifyingKey>,
}

impl InsecureDevKeys {
    /// Makes the keys: seconds for a book of 24 slots, half a minute for one of 384.
    ///
    /// # Errors
    /// [`ProverError::Degenerate`]; it does not happen for a circuit whose keys were made once, because they are always the same.
    pub fn generate(circuit: CircuitId) -> Result<Self, ProverError> {
        let structure = circuit.structure();
        let digest = structure.digest();
        Self::new(circuit, digest, generate(&structure, &ToxicWaste::insecure_dev(&digest)))
    }

    /// Takes the keys from the directory, or makes them and leaves them there. Of several processes one makes them, the others wait.
    ///
    /// # Errors
    /// [`ProverError::KeyFile`], and as [`Self::generate`].
    pub fn load_or_generate(circuit: CircuitId, directory: &Path) -> Result<Self, ProverError> {
        let structure = circuit.structure();
        let digest = structure.digest();
        let path = directory.join(file_name(circuit, &digest));
        if let Some(key) = load(&path, &digest)? {
            return Self::new(circuit, digest, key);
        }
        fs::create_dir_all(directory).map_err(at(directory))?;
        let lock_path = path.with_extension("lock");
        let lock = File::create(&lock_path).map_err(at(&lock_path))?;
        lock.lock().map_err(at(&lock_path))?;
        // Whoever held the lock before may have made them.
        if let Some(key) = load(&path, &digest)? {
            return Self::new(circuit, digest, key);
        }
        tracing::warn!(%circuit, path = %path.display(), "making INSECURE development keys: anyone can forge proofs with them");
        let keys = Self::new(circuit, digest, generate(&structure, &ToxicWaste::insecure_dev(&digest)))?;
        save(&path, &digest, &keys.proving).map_err(at(&path))?;
        Ok(keys)
    }

    fn new(circuit: CircuitId, circuit_digest: [u8; 32], proving: ProvingKey<Bn254>) -> Result<Self, ProverError> {
        let verifying = VerifyingKey::new(&proving.vk).map_err(|reason| ProverError::Degenerate { circuit, reason })?;
        Ok(Self { circuit, circuit_digest, proving: Arc::new(proving), verifying: Arc::new(verifying) })
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

fn file_name(circuit: CircuitId, digest: &[u8; 32]) -> String {
    let digest: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("insecure-dev-{circuit}-{digest}.key")
}

fn at(path: &Path) -> impl Fn(io::Error) -> ProverError + '_ {
    |source| ProverError::KeyFile { path: path.to_path_buf(), source }
}

/// The key in the file, or nothing when there is no file or it is not what it should be.
fn load(path: &Path, digest: &[u8; 32]) -> Result<Option<ProvingKey<Bn254>>, ProverError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ProverError::KeyFile { path: path.to_path_buf(), source }),
    };
    let key = parse(&bytes, digest);
    if key.is_none() {
        tracing::warn!(path = %path.display(), "the key file is damaged and is made again");
    }
    Ok(key)
}

fn parse(bytes: &[u8], digest: &[u8; 32]) -> Option<ProvingKey<Bn254>> {
    let (header, body) = bytes.split_at_checked(HEADER_BYTES)?;
    if header != file_header(digest, body) {
        return None;
    }
    // The points were checked by whoever made them; the hash says that they are still the same.
    ProvingKey::deserialize_with_mode(body, Compress::No, Validate::No).ok()
}

fn file_header(digest: &[u8; 32], body: &[u8]) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..32].copy_from_slice(MAGIC);
    header[32..64].copy_from_slice(digest);
    header[64..].copy_from_slice(blake3::hash(body).as_bytes());
    header
}

/// Writes beside the file and renames, so that no reader sees half of it.
fn save(path: &Path, digest: &[u8; 32], key: &ProvingKey<Bn254>) -> io::Result<()> {
    let mut body = Vec::with_capacity(key.uncompressed_size());
    key.serialize_uncompressed(&mut body).map_err(io::Error::other)?;
    let unfinished = path.with_extension("unfinished");
    let mut file = File::create(&unfinished)?;
    file.write_all(&file_header(digest, &body))?;
    file.write_all(&body)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)
}
