//! What lies in a store's directory, in which version, and who owns it.
//!
//! ```text
//! <dir>/lock   owner's process id; locked while the store is open
//! <dir>/head   acknowledged head, two copies
//! <dir>/db/    RocksDB
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::StoreError;

/// Version of the directory layout, the batch bytes and the head. Counted up with every incompatible change.
pub const LAYOUT_VERSION: u32 = 1;

/// Version of the records' encodings, which belongs to whoever writes them; the store only compares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SchemaVersion(pub u32);

/// Both versions as kept in the database: `layout u32 ‖ records u32`, big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Versions {
    pub layout: u32,
    pub records: u32,
}

impl Versions {
    pub(crate) fn of_this_build(records: SchemaVersion) -> Self {
        Self { layout: LAYOUT_VERSION, records: records.0 }
    }

    pub(crate) fn to_bytes(self) -> [u8; 8] {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&self.layout.to_be_bytes());
        bytes[4..].copy_from_slice(&self.records.to_be_bytes());
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (layout, rest) = bytes.split_first_chunk::<4>()?;
        let records = <&[u8; 4]>::try_from(rest).ok()?;
        Some(Self { layout: u32::from_be_bytes(*layout), records: u32::from_be_bytes(*records) })
    }

    /// Refuses a database (`self`) of any other version than `expected`.
    pub(crate) fn check(self, expected: Self) -> Result<(), StoreError> {
        check_version("the store's layout", self.layout, expected.layout)?;
        check_version("the record encoding", self.records, expected.records)
    }
}

fn check_version(what: &'static str, found: u32, expected: u32) -> Result<(), StoreError> {
    match found.cmp(&expected) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Less => Err(StoreError::SchemaTooOld { what, found, expected }),
        std::cmp::Ordering::Greater => Err(StoreError::SchemaTooNew { what, found, expected }),
    }
}

/// Paths in a store's directory.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub dir: PathBuf,
    pub lock: PathBuf,
    pub head: PathBuf,
    pub db: PathBuf,
}

impl Layout {
    pub(crate) fn of(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), lock: dir.join("lock"), head: dir.join("head"), db: dir.join("db") }
    }
}

/// The directory's one owner, for as long as this lives. The kernel lets go of the lock when the process dies, however it dies.
#[derive(Debug)]
pub(crate) struct DirLock {
    _file: File,
}

impl DirLock {
    pub(crate) fn acquire(layout: &Layout) -> Result<Self, StoreError> {
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&layout.lock);
        let mut file = opened.map_err(StoreError::io("open", &layout.lock))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = fs::read_to_string(&layout.lock).ok().and_then(|text| text.trim().parse().ok());
                return Err(StoreError::Locked { path: layout.dir.clone(), holder });
            }
            Err(TryLockError::Error(source)) => return Err(StoreError::io("lock", &layout.lock)(source)),
        }
        // The id only makes the refusal more helpful; the lock itself is what counts.
        file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(StoreError::io("write", &layout.lock))?;
        Ok(Self { _file: file })
    }
}

/// Makes entries of a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|handle| handle.sync_all()).map_err(StoreError::io("sync", dir))
}

/// Creates the directory if it is missing, durably.
pub(crate) fn ensure_dir(dir: &Path) -> Result<(), StoreError> {
    match fs::create_dir(dir) {
        Ok(()) => sync_dir(&parent_of(dir)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            ensure_dir(&parent_of(dir))?;
            ensure_dir(dir)
        }
        Err(error) => Err(StoreError::io("create", dir)(error)),
    }
}

/// The directory that holds `path`.
pub(crate) fn parent_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::Versions;
    use crate::StoreError;

    #[test]
    fn only_the_same_versions_pass() {
        let here = Versions { layout: 2, records: 5 };
        assert_eq!(Versions::from_bytes(&here.to_bytes()), Some(here));
        assert_eq!(Versions::from_bytes(&[0; 7]), None);
        let check = |layout, records| Versions { layout, records }.check(here);
        assert!(check(2, 5).is_ok());
        assert!(matches!(check(1, 5), Err(StoreError::SchemaTooOld { found: 1, expected: 2, .. })));
        assert!(matches!(check(3, 5), Err(StoreError::SchemaTooNew { .. })));
        assert!(matches!(check(2, 4), Err(StoreError::SchemaTooOld { found: 4, expected: 5, .. })));
        assert!(matches!(check(2, 6), Err(StoreError::SchemaTooNew { .. })));
    }
}
