//! Files with one 32-byte secret: hexadecimal, readable by their owner only.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use zeroize::Zeroizing;

use crate::error::{CliError, CliResult};

/// A secret that is wiped when dropped.
pub type SecretBytes = Zeroizing<[u8; 32]>;

/// Owner may read and write, nobody else anything.
const OWNER_ONLY: u32 = 0o600;

/// Reads a secret. The content never appears in a message.
///
/// # Errors
/// The file cannot be read, others may read it, or it does not hold 32 bytes of hexadecimal.
pub fn read_secret(path: &Path) -> CliResult<SecretBytes> {
    let wrong = |what: String| CliError::usage("key_file", format!("the key file {} {what}", path.display()));
    let mode = std::fs::metadata(path).map_err(|error| wrong(format!("cannot be read: {error}")))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(wrong(format!("can be read by others (mode {:o})", mode & 0o777)).hint(format!("chmod 600 {}", path.display())));
    }
    let text = std::fs::read_to_string(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let text = Zeroizing::new(text);
    let digits = text.trim();
    let mut secret = Zeroizing::new([0; 32]);
    hex::decode_to_slice(digits.strip_prefix("0x").unwrap_or(digits), secret.as_mut())
        .map_err(|_| wrong("does not hold 32 bytes of hexadecimal".to_owned()))?;
    Ok(secret)
}

/// Writes a secret to a new file that only its owner can read.
///
/// # Errors
/// The file is there already, or cannot be written.
pub fn write_secret(path: &Path, secret: &[u8; 32]) -> CliResult<()> {
    let text = Zeroizing::new(hex::encode(secret));
    let written = OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY).open(path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()
    });
    written.map_err(|error| CliError::failed("key_file", format!("cannot write the key file {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_as_written_and_only_from_a_private_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("payer.key");
        write_secret(&path, &[7; 32]).expect("written");
        assert_eq!(*read_secret(&path).expect("private"), [7; 32]);
        assert!(write_secret(&path, &[8; 32]).is_err());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("ours");
        assert!(read_secret(&path).expect_err("readable by others").message.contains("mode 640"));
    }

    #[test]
    fn what_is_no_secret_is_refused_and_not_repeated() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("payer.key");
        std::fs::write(&path, "0xsecret").expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(OWNER_ONLY)).expect("ours");
        let error = read_secret(&path).expect_err("no secret");
        assert!(!error.message.contains("0xsecret"), "{}", error.message);
    }
}
