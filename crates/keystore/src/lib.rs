//! Keys at rest. A *key file* is one of three, told apart by its content: 32 bytes of hexadecimal, a Web3 keystore of version 3 (encrypted under a
//! password), or a note of where a remote signer has the key. Whoever takes a key file takes any of them.
//!
//! Knows files and passwords; no network, no chain and no channel. A remote signer is only named here; who signs asks it.
//!
//! **Invariants.** A key file that others can read is refused. A secret is wiped when it is dropped and never printed. What is decrypted is
//! the key of the address that the file names, or an error. Files appear whole or not at all, and replace none unless that is their purpose.
//! What a file asks of processor and memory is bounded before it is spent.

mod error;
mod file;
mod password;
mod secret;
mod v3;

pub use error::KeystoreError;
pub use file::{KeyFile, RemoteKey, read, read_secret, replace, write_new};
pub use password::{PASSWORD_ENV, PASSWORD_FILE_ENV, Passwords};
pub use secret::{Password, Secret};
pub use v3::{Cost, KeyUse, Keystore};
