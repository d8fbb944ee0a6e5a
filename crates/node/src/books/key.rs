//! The key of the journal: it signs receipts and statements and nothing else, and has no power over money. Losing it costs a new published key.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::Context;
use millstream_voucher::evm::EvmSecretKey;
use zeroize::Zeroizing;

/// Its file in the data directory: 32 bytes of hexadecimal, readable by its owner only.
pub(crate) const FILE: &str = "journal.key";

/// The key of a data directory, made if there is none.
pub(super) fn open(data_dir: &Path) -> anyhow::Result<EvmSecretKey> {
    let path = data_dir.join(FILE);
    let context = || format!("the journal's key {}", path.display());
    match fs::metadata(&path) {
        Ok(metadata) => {
            anyhow::ensure!(metadata.permissions().mode() & 0o077 == 0, "{} can be read by others: chmod 600 it", context());
            let text = Zeroizing::new(fs::read_to_string(&path).with_context(context)?);
            let mut secret = Zeroizing::new([0; 32]);
            hex::decode_to_slice(text.trim().trim_start_matches("0x"), &mut *secret)
                .ok()
                .with_context(|| format!("{} does not hold 32 bytes of hexadecimal", context()))?;
            Ok(EvmSecretKey::from_bytes(&secret)?)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let (secret, key) = make()?;
            write(data_dir, &path, &secret).with_context(|| format!("cannot write {}", context()))?;
            Ok(key)
        }
        Err(error) => Err(error).with_context(context),
    }
}

fn make() -> anyhow::Result<(Zeroizing<[u8; 32]>, EvmSecretKey)> {
    loop {
        let mut secret = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *secret).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
        // One in 2^128 is no key.
        if let Ok(key) = EvmSecretKey::from_bytes(&secret) {
            return Ok((secret, key));
        }
    }
}

/// Whole or not at all: a draft that is synced and then named. The directory has one owner, who holds the store's lock.
fn write(data_dir: &Path, path: &Path, secret: &[u8; 32]) -> io::Result<()> {
    let draft = data_dir.join(format!(".{FILE}.draft"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(Zeroizing::new(format!("0x{}\n", hex::encode(secret))).as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    fs::File::open(data_dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_and_kept_from_others() {
        let directory = tempfile::tempdir().expect("a directory");
        let made = open(directory.path()).expect("made").account();
        assert_eq!(open(directory.path()).expect("read").account(), made);
        let path = directory.path().join(FILE);
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("ours");
        assert!(open(directory.path()).expect_err("others read it").to_string().contains("chmod 600"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("ours");
        fs::write(&path, "0x12").expect("ours");
        assert!(open(directory.path()).is_err());
    }
}
