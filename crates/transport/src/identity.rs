//! Who a server is: a certificate chain and its key, given or made once.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ring::hmac;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

use crate::{Fingerprint, IdentityError};

/// The file of a self-signed identity in its directory: certificate and key, PEM, mode 600.
pub const IDENTITY_FILE: &str = "identity.pem";

/// Why a certificate and its key are of no use at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateFault {
    /// Its time is over.
    Expired,
    /// Its time has not come.
    NotYet,
    /// The key is not the one that it was issued for.
    OtherKey,
    /// It cannot be read.
    Malformed,
}

/// The names in a self-signed certificate; payers pin its fingerprint and do not look at them.
const SELF_SIGNED_NAMES: [&str; 2] = ["millstream", "localhost"];

/// A server's certificate chain, leaf first, and the leaf's key.
pub struct ServerIdentity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    fingerprint: Fingerprint,
}

impl core::fmt::Debug for ServerIdentity {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ServerIdentity").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

impl ServerIdentity {
    /// The certificate chain of one PEM file, leaf first, and the private key of another; both may be the same file.
    ///
    /// # Errors
    /// [`IdentityError`] when a file cannot be read or holds nothing of the kind.
    pub fn from_pem_files(chain: &Path, key: &Path) -> Result<Self, IdentityError> {
        let certificates = read(chain)?;
        let secret = if chain == key { certificates.clone() } else { read(key)? };
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(&certificates)
            .collect::<Result<_, _>>()
            .map_err(|_| IdentityError::NoCertificate { path: chain.to_owned() })?;
        let leaf = certificates.first().ok_or_else(|| IdentityError::NoCertificate { path: chain.to_owned() })?;
        let fingerprint = Fingerprint::of(leaf);
        let key = PrivateKeyDer::from_pem_slice(&secret).map_err(|_| IdentityError::NoKey { path: key.to_owned() })?;
        Ok(Self { chain: certificates, key, fingerprint })
    }

    /// The self-signed identity that is kept in `directory`; the first call makes it, and the directory if need be.
    ///
    /// Of two first calls at once, both return the identity of the one that was faster.
    ///
    /// # Errors
    /// [`IdentityError`]; a file that others can read is refused.
    pub fn load_or_generate(directory: &Path) -> Result<Self, IdentityError> {
        let path = directory.join(IDENTITY_FILE);
        match fs::metadata(&path) {
            Ok(metadata) => refuse_readable_by_others(&path, &metadata)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => generate(directory, &path)?,
            Err(source) => return Err(IdentityError::File { action: "look at", path, source }),
        }
        Self::from_pem_files(&path, &path)
    }

    /// What payers pin: the SHA-256 of the leaf certificate.
    #[must_use]
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Whether the leaf is good at a moment, and the key is its own. Who issued it is for payers to judge.
    ///
    /// # Errors
    /// [`CertificateFault`].
    pub fn check(&self, at: SystemTime) -> Result<(), CertificateFault> {
        use rustls::{CertificateError, Error, InconsistentKeys};
        let provider = crate::tls::provider();
        let key = provider.key_provider.load_private_key(self.key.clone_key()).map_err(|_| CertificateFault::Malformed)?;
        match rustls::sign::CertifiedKey::new(self.chain.clone(), key).keys_match() {
            // A key whose public half cannot be told is compared by nobody.
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(Error::InconsistentKeys(_)) => return Err(CertificateFault::OtherKey),
            Err(_) => return Err(CertificateFault::Malformed),
        }
        let leaf = self.chain.first().ok_or(CertificateFault::Malformed)?;
        let leaf = rustls::server::ParsedCertificate::try_from(leaf).map_err(|_| CertificateFault::Malformed)?;
        let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (nobody, now) = (rustls::RootCertStore::empty(), UnixTime::since_unix_epoch(since));
        let algorithms = provider.signature_verification_algorithms.all;
        // Nobody is trusted here, so it ends with an unknown issuer at the latest; the time is looked at before.
        match rustls::client::verify_server_cert_signed_by_trust_anchor(&leaf, &nobody, &[], now, algorithms) {
            Err(Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })) => {
                Err(CertificateFault::Expired)
            }
            Err(Error::InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. })) => {
                Err(CertificateFault::NotYet)
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Secrets that a server has again after a restart, so that it can tell payers at once that their connections are gone: the key of
    /// stateless resets (RFC 9000, section 10.3), and the one by which it knows connection ids as its own.
    pub(crate) fn reset_secrets(&self) -> (hmac::Key, hmac::Key) {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.key.secret_der());
        let derived = |purpose: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, purpose).as_ref());
        (derived(b"millstream stateless reset"), derived(b"millstream connection ids"))
    }

    pub(crate) fn into_parts(self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        (self.chain, self.key)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, IdentityError> {
    fs::read(path).map_err(|source| IdentityError::File { action: "read", path: path.to_owned(), source })
}

#[cfg(unix)]
fn refuse_readable_by_others(path: &Path, metadata: &fs::Metadata) -> Result<(), IdentityError> {
    use std::os::unix::fs::PermissionsExt;

    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(IdentityError::Permissions { path: path.to_owned(), mode }) }
}

#[cfg(not(unix))]
fn refuse_readable_by_others(_: &Path, _: &fs::Metadata) -> Result<(), IdentityError> {
    Ok(())
}

/// Makes a certificate and puts it at `path`, whole or not at all, unless someone else just did.
fn generate(directory: &Path, path: &Path) -> Result<(), IdentityError> {
    let file = |action: &'static str, path: &Path| {
        let path = path.to_owned();
        move |source| IdentityError::File { action, path, source }
    };
    let names: Vec<String> = SELF_SIGNED_NAMES.map(str::to_owned).to_vec();
    let made = rcgen::generate_simple_self_signed(names).map_err(IdentityError::Generate)?;
    let pem = format!("{}{}", made.cert.pem(), made.signing_key.serialize_pem());

    fs::create_dir_all(directory).map_err(file("create", directory))?;
    let draft = draft_path(directory);
    let result = write_private(&draft, pem.as_bytes()).map_err(file("write", &draft)).and_then(|()| {
        // A link, unlike a rename, never replaces the identity that another process made meanwhile.
        match fs::hard_link(&draft, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked.map_err(file("create", path)),
        }
    });
    fs::remove_file(&draft).map_err(file("remove", &draft))?;
    result
}

/// A name beside the identity that no other process or thread uses.
fn draft_path(directory: &Path) -> PathBuf {
    let thread = format!("{:?}", std::thread::current().id()).replace(['(', ')'], "-");
    directory.join(format!(".{IDENTITY_FILE}.{}.{thread}draft", std::process::id()))
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
