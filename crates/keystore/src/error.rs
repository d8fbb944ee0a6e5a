//! Why a key file cannot be used.

use std::io;
use std::path::PathBuf;

use millstream_types::Address;

/// Why a key file cannot be used. No message holds any part of a key or a password.
#[derive(Debug, thiserror::Error)]
pub enum KeystoreError {
    /// The file cannot be read.
    #[error("the key file {} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file can be read by others than its owner.
    #[error("the key file {} can be read by others (mode {mode:o}): chmod 600 {}", path.display(), path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file cannot be written.
    #[error("the key file {} cannot be written: {source}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no key file.
    #[error("the key file {} holds neither 32 bytes of hexadecimal, nor a keystore of version 3, nor a remote signer{detail}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// What was wrong with what it seems to be; starts with a colon, or is empty.
        detail: String,
    },
    /// The keystore asks for something that is not done.
    #[error("the keystore's {what} is not supported: {actual}, expected {expected}")]
    Unsupported {
        /// The field.
        what: &'static str,
        /// What it says.
        actual: String,
        /// What is supported.
        expected: &'static str,
    },
    /// The password does not open the keystore, or the keystore is damaged: the two look the same.
    #[error("the password does not open the keystore, or the keystore is damaged")]
    WrongPassword,
    /// What was decrypted is the key of another account than the file says.
    #[error("the keystore says that it holds the key of {expected}, and holds that of {actual}")]
    WrongAddress {
        /// What the file says.
        expected: Address,
        /// Whose key it is.
        actual: Address,
    },
    /// 32 bytes that are no secp256k1 secret.
    #[error("the key is no secp256k1 secret")]
    Range,
    /// Nothing says where the password is, and there is nobody to ask.
    #[error("the key file {} is encrypted and nothing gives its password", path.display())]
    NoPassword {
        /// The file.
        path: PathBuf,
    },
    /// The password cannot be read.
    #[error("the password cannot be read from {from}: {detail}")]
    Password {
        /// Where it was to come from.
        from: String,
        /// Why.
        detail: String,
    },
    /// The key is with a remote signer, and a secret is needed here.
    #[error("the key in {} is with a remote signer: it signs transactions and claims, and nothing else", path.display())]
    Remote {
        /// The file.
        path: PathBuf,
    },
    /// The key is for something else.
    #[error("the key in {} is for {actual}, and {wanted} is needed here", path.display())]
    Use {
        /// The file.
        path: PathBuf,
        /// What it is for.
        actual: &'static str,
        /// What was asked for.
        wanted: &'static str,
    },
    /// The system gives no randomness.
    #[error("the system gives no randomness")]
    Randomness,
}
