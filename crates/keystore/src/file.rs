//! Key files on disk.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use millstream_types::Address;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{KeyUse, Keystore, KeystoreError, Passwords, Secret};

/// Bytes that a key file may have.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Owner may read and write, nobody else anything.
const OWNER_ONLY: u32 = 0o600;

/// What a key file holds.
#[derive(Clone, Debug)]
pub enum KeyFile {
    /// The secret itself, in hexadecimal.
    Plain(Secret),
    /// The secret under a password.
    Encrypted(Keystore),
    /// Nothing secret: where the key is.
    Remote(RemoteKey),
}

/// A key that a remote signer has: `{"signer": "http://127.0.0.1:9000", "account": "0x…"}`. It speaks web3signer's `eth1` API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoteKey {
    /// `http` or `https` address of the signer.
    pub signer: String,
    /// The account whose key it is.
    pub account: Address,
}

impl KeyFile {
    /// The account, where it can be told without a password.
    #[must_use]
    pub fn address(&self) -> Option<Address> {
        match self {
            Self::Plain(secret) => Some(secret.address()),
            Self::Encrypted(keystore) => keystore.address(),
            Self::Remote(remote) => Some(remote.account),
        }
    }

    /// What the key is for.
    #[must_use]
    pub fn key_use(&self) -> KeyUse {
        match self {
            Self::Encrypted(keystore) => keystore.key_use(),
            Self::Plain(_) | Self::Remote(_) => KeyUse::Account,
        }
    }
}

/// Reads a key file; nothing is decrypted.
///
/// # Errors
/// The file cannot be read, others may read it, or it is no key file.
pub fn read(path: &Path) -> Result<KeyFile, KeystoreError> {
    let unreadable = |source| KeystoreError::Unreadable { path: path.to_owned(), source };
    let shape = |detail: String| KeystoreError::Shape { path: path.to_owned(), detail };
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    let mode = metadata.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(KeystoreError::Exposed { path: path.to_owned(), mode: mode & 0o777 });
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(shape(format!(": it has {} bytes", metadata.len())));
    }
    let text = Zeroizing::new(std::fs::read_to_string(path).map_err(unreadable)?);
    if !text.trim_start().starts_with('{') {
        return Secret::from_hex(&text).map(KeyFile::Plain).map_err(|_| shape(String::new()));
    }
    // A message of the parser may repeat what it read: it says where, and no more.
    let place = |error: serde_json::Error| shape(format!(": line {}, column {}", error.line(), error.column()));
    let value: serde_json::Value = serde_json::from_str(&text).map_err(place)?;
    if value.get("signer").is_some() {
        return serde_json::from_value(value)
            .map(KeyFile::Remote)
            .map_err(|_| shape(": the remote signer has signer and account".to_owned()));
    }
    serde_json::from_value(value).map(KeyFile::Encrypted).map_err(|_| shape(": the keystore lacks something".to_owned()))
}

/// Reads a key file whose secret is needed here, and opens it. A plain file does not say what its key is for.
///
/// # Errors
/// As [`read`]; the key is for something else; the password does not open it; or the key is with a remote signer.
pub fn read_secret(path: &Path, wanted: KeyUse, passwords: &Passwords) -> Result<Secret, KeystoreError> {
    match read(path)? {
        KeyFile::Plain(secret) => Ok(secret),
        KeyFile::Encrypted(keystore) if keystore.key_use() != wanted => {
            Err(KeystoreError::Use { path: path.to_owned(), actual: keystore.key_use().name(), wanted: wanted.name() })
        }
        KeyFile::Encrypted(keystore) => keystore.open(&passwords.open(path)?),
        KeyFile::Remote(_) => Err(KeystoreError::Remote { path: path.to_owned() }),
    }
}

/// Writes a new key file that only its owner can read. It is durable when this returns.
///
/// # Errors
/// [`KeystoreError::Unwritable`]: the file is there already, or cannot be written.
pub fn write_new(path: &Path, text: &str) -> Result<(), KeystoreError> {
    write(path, text).map_err(|source| KeystoreError::Unwritable { path: path.to_owned(), source })
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY).open(path)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.write_all(b"\n")).and_then(|()| file.sync_all());
    if let Err(error) = written {
        // Half a key file is none.
        let _ = std::fs::remove_file(path);
        return Err(error);
    }
    sync_directory(path)
}

/// Replaces a key file: whoever reads it sees the old one or the new one, also after a crash.
///
/// # Errors
/// [`KeystoreError::Unwritable`]; the old file is as it was.
pub fn replace(path: &Path, text: &str) -> Result<(), KeystoreError> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = Path::new(&partial);
    let unwritable = |source| KeystoreError::Unwritable { path: path.to_owned(), source };
    // What a crash left of an earlier attempt is no key file.
    match std::fs::remove_file(partial) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(unwritable(error)),
        Ok(()) | Err(_) => {}
    }
    write_new(partial, text)?;
    std::fs::rename(partial, path).and_then(|()| sync_directory(path)).map_err(unwritable)
}

fn sync_directory(path: &Path) -> std::io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::{Cost, Password};

    fn private(directory: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(OWNER_ONLY)).expect("ours");
        path
    }

    #[test]
    fn the_three_kinds_of_key_file_are_told_apart() {
        let directory = tempfile::tempdir().expect("a directory");
        let secret = Secret::from_bytes(&[7; 32]).expect("a secret");
        let password = Password::new(b"x".to_vec());
        let passwords = Passwords::given_in_test(&password);

        let plain = directory.path().join("plain");
        write_new(&plain, &hex::encode(secret.bytes())).expect("written");
        let keystore = Keystore::close(&secret, &password, KeyUse::Account, Cost::INSECURE_FAST).expect("closed");
        let encrypted = directory.path().join("encrypted");
        write_new(&encrypted, &keystore.to_json()).expect("written");
        for path in [&plain, &encrypted] {
            assert_eq!(read(path).expect("a key file").address(), Some(secret.address()));
            assert_eq!(read_secret(path, KeyUse::Account, &passwords).expect("opens").bytes(), secret.bytes());
            assert!(write_new(path, "").is_err(), "nothing is written over");
        }
        assert!(matches!(read_secret(&encrypted, KeyUse::Voucher, &passwords), Err(KeystoreError::Use { .. })));
        let text = format!(r#"{{"signer": "http://127.0.0.1:9000", "account": "{}"}}"#, secret.address());
        let remote = private(&directory, "remote", &text);
        assert_eq!(read(&remote).expect("a key file").address(), Some(secret.address()));
        assert!(matches!(read_secret(&remote, KeyUse::Account, &passwords), Err(KeystoreError::Remote { .. })));
    }

    #[test]
    fn what_others_can_read_and_what_is_no_key_is_refused_and_not_repeated() {
        let directory = tempfile::tempdir().expect("a directory");
        for text in ["", "0xsecret", r#"{"secret": 1}"#, r#"{"secret"#, r#"{"signer": "http://x", "acount": "secret"}"#] {
            let path = private(&directory, "key", text);
            let error = read(&path).expect_err(text).to_string();
            assert!(error.contains("neither 32 bytes") && !error.contains("secret\""), "{text}: {error}");
        }
        let path = private(&directory, "key", &"11".repeat(32));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("ours");
        assert!(read(&path).expect_err("readable by others").to_string().contains("mode 644"));
        assert!(matches!(read(&directory.path().join("none")), Err(KeystoreError::Unreadable { .. })));
    }

    #[test]
    fn a_file_is_replaced_whole_whatever_an_earlier_attempt_left() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("key");
        write_new(&path, "old").expect("written");
        private(&directory, "key.partial", "half");
        replace(&path, "new").expect("replaced");
        assert_eq!(std::fs::read_to_string(&path).expect("text"), "new\n");
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, OWNER_ONLY);
        assert!(!directory.path().join("key.partial").exists());
    }
}
