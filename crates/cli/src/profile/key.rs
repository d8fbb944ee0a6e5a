//! Key files of accounts, and files with one 32-byte secret: readable by their owner only.

use std::path::Path;

use millstream_keystore::{self as keystore, KeyUse, Passwords};
use zeroize::Zeroizing;

use crate::document::write_private;
use crate::error::{CliError, CliResult};

/// A secret that is wiped when dropped.
pub type SecretBytes = Zeroizing<[u8; 32]>;

/// Reads the key of an account from a key file: plain or encrypted. The content never appears in a message.
///
/// # Errors
/// The file cannot be read, others may read it, it holds no key of an account, or its password is not given or does not open it.
pub fn read_secret(path: &Path) -> CliResult<SecretBytes> {
    Ok(Zeroizing::new(*keystore::read_secret(path, KeyUse::Account, &Passwords::default())?.bytes()))
}

/// Writes a secret to a new file that only its owner can read.
///
/// # Errors
/// The file is there already, or cannot be written.
pub fn write_secret(path: &Path, secret: &[u8; 32]) -> CliResult<()> {
    let text = Zeroizing::new(hex::encode(secret));
    write_private(path, &text)
        .map_err(|error| CliError::failed("key_file", format!("cannot write the key file {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

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
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("ours");
        let error = read_secret(&path).expect_err("no secret");
        assert!(!error.message.contains("0xsecret"), "{}", error.message);
    }
}
