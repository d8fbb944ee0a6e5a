//! Files that commands read and write: JSON documents, and what only its owner may read.

use std::io::{self, Read};
use std::path::Path;

use millstream_keystore::{self as keystore, KeystoreError};
use serde::de::DeserializeOwned;

use crate::error::{CliError, CliResult};

/// Reads a JSON document of so many bytes at most from a file; - is standard input. `what` it is names the error's code.
///
/// # Errors
/// The file cannot be read, or holds something else.
pub(crate) fn read_document<T: DeserializeOwned>(file: &Path, what: &str, bytes_max: u64) -> CliResult<T> {
    let code = format!("{what}_unreadable");
    let mut bytes = Vec::new();
    let read = if file.as_os_str() == "-" {
        io::stdin().lock().take(bytes_max).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|source| source.take(bytes_max).read_to_end(&mut bytes))
    };
    read.map_err(|error| CliError::usage(&code, format!("cannot read {}: {error}", file.display())))?;
    serde_json::from_slice(&bytes).map_err(|error| CliError::usage(&code, format!("{} holds no {what}: {error}", file.display())))
}

/// Writes a command's result to a file, over what is there.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn write_file(file: &Path, content: &[u8]) -> CliResult<()> {
    std::fs::write(file, content).map_err(|error| CliError::failed("output", format!("cannot write {}: {error}", file.display())))
}

/// Writes a new file that only its owner can read, with a newline at its end. It is durable when this returns.
///
/// # Errors
/// The file is there already, or cannot be written.
pub(crate) fn write_private(file: &Path, text: &str) -> io::Result<()> {
    keystore::write_new(file, without_newline(text)).map_err(cause)
}

/// Replaces such a file: whoever reads it sees the old one or the new one, also after a crash.
///
/// # Errors
/// It cannot be written; the old file is as it was.
pub(crate) fn replace_private(file: &Path, text: &str) -> io::Result<()> {
    keystore::replace(file, without_newline(text)).map_err(cause)
}

/// The keystore ends what it writes with a newline.
fn without_newline(text: &str) -> &str {
    text.strip_suffix('\n').unwrap_or(text)
}

/// Why it failed, without the keystore's words: they are about key files.
fn cause(error: KeystoreError) -> io::Error {
    match error {
        KeystoreError::Unwritable { source, .. } => source,
        other => io::Error::other(other),
    }
}
