//! Backups: a data directory of their own, written while the node runs or stands, that a node can be started on.
//!
//! A backup holds everything that was acknowledged before it began. What came after is not in it: to a node that is restored from it, the vouchers and
//! frames of that time never were, and channels that paid meanwhile are ahead of it (see `docs/operating/backup.md`). The operator's key is not in it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use millstream_store::{Head, RocksReader, RocksStore, StoreOptions, StoreView};
use millstream_types::Hash256;
use serde::{Deserialize, Serialize};

use crate::core::{SCHEMA, now};

/// The file that says what a backup is, in its directory.
const MANIFEST_FILE: &str = "backup.json";
/// Files of a data directory, beside the database, that a node cannot make again as they were.
const OTHER_FILES: [&str; 3] = [millstream_transport::IDENTITY_FILE, "offers.secret", crate::books::KEY_FILE];
/// Version of the manifest.
const MANIFEST_VERSION: u32 = 1;

/// What a backup is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupManifest {
    version: u32,
    /// When it was made: milliseconds since the Unix epoch.
    pub made_at_millis: u64,
    /// The build that made it.
    pub millstream: String,
    /// Number of the last batch in it.
    pub commit: u64,
    /// The hash chain up to that batch.
    pub chain: Hash256,
    /// Bytes of each file, by its path in the backup.
    pub files: BTreeMap<String, u64>,
}

/// Writes a backup of a running node. `target` must not exist; it is there whole or not at all.
pub(crate) fn write(reader: &RocksReader, data_dir: &Path, target: &Path) -> anyhow::Result<BackupManifest> {
    write_with(data_dir, target, |place| Ok(reader.checkpoint(place)?))
}

/// Writes a backup of a node that does not run.
///
/// # Errors
/// There is no database, it is in use, `target` exists, or something cannot be written.
pub fn backup_stopped(data_dir: &Path, target: &Path) -> anyhow::Result<BackupManifest> {
    let database = data_dir.join("db");
    anyhow::ensure!(database.join("db").is_dir(), "there is no database in {}", data_dir.display());
    let store = RocksStore::open(&database, &StoreOptions { log_bytes: 0, ..StoreOptions::new(SCHEMA) })?;
    write(&store.rocks_reader(), data_dir, target)
}

fn write_with(data_dir: &Path, target: &Path, checkpoint: impl FnOnce(&Path) -> anyhow::Result<Head>) -> anyhow::Result<BackupManifest> {
    anyhow::ensure!(target.is_absolute(), "{} is no absolute path", target.display());
    anyhow::ensure!(!target.exists(), "{} exists already: a backup replaces nothing", target.display());
    let staging = staging(target);
    make_directory(&staging)?;
    let head = checkpoint(&staging.join("db"))?;
    for name in OTHER_FILES {
        let from = data_dir.join(name);
        if from.exists() {
            copy(&from, &staging.join(name))?;
        }
    }
    let mut files = BTreeMap::new();
    measure(&staging, &staging, &mut files)?;
    let manifest = BackupManifest {
        version: MANIFEST_VERSION,
        made_at_millis: now().as_millis(),
        millstream: env!("CARGO_PKG_VERSION").to_owned(),
        commit: head.seq.as_u64(),
        chain: head.chain,
        files,
    };
    write_file(&staging.join(MANIFEST_FILE), serde_json::to_string_pretty(&manifest)?.as_bytes())?;
    put_in_place(&staging, target)?;
    Ok(manifest)
}

/// Puts a backup into a data directory that has no database yet, and looks at it: everything that it says of itself must be true. The backup stays as
/// it is.
///
/// # Errors
/// The directory has a database, the backup is damaged or no backup, or something cannot be written; nothing is left then.
pub fn restore(backup: &Path, data_dir: &Path) -> anyhow::Result<BackupManifest> {
    let manifest = read_manifest(backup)?;
    let database = data_dir.join("db");
    anyhow::ensure!(
        !database.exists(),
        "{} has a database already, which may hold vouchers that the backup has not: move it away first",
        data_dir.display()
    );
    let mut found = BTreeMap::new();
    measure(backup, backup, &mut found)?;
    for (name, bytes) in &manifest.files {
        match found.get(name) {
            Some(actual) if actual == bytes => {}
            Some(actual) => anyhow::bail!("the backup is damaged: {name} has {actual} bytes, and had {bytes}"),
            None => anyhow::bail!("the backup is damaged: {name} is missing"),
        }
    }
    fs::create_dir_all(data_dir).with_context(|| format!("cannot create {}", data_dir.display()))?;
    let staging = staging(&database);
    make_directory(&staging)?;
    for name in manifest.files.keys() {
        let Some(within) = name.strip_prefix("db/") else { continue };
        copy(&backup.join(name), &staging.join(within))?;
    }
    let view = StoreView::open(&staging, &StoreOptions::new(SCHEMA))?.context("the backup holds no database")?;
    let head = view.head();
    anyhow::ensure!(
        (head.seq.as_u64(), head.chain) == (manifest.commit, manifest.chain),
        "the backup is damaged: its database ends at batch {}, and was made at batch {}",
        head.seq,
        manifest.commit
    );
    drop(view);
    for name in OTHER_FILES.iter().filter(|name| manifest.files.contains_key(**name)) {
        let to = data_dir.join(name);
        // An identity that is there is the one that payers know by now.
        if !to.exists() {
            copy(&backup.join(name), &to)?;
        }
    }
    put_in_place(&staging, &database)?;
    Ok(manifest)
}

fn read_manifest(backup: &Path) -> anyhow::Result<BackupManifest> {
    let path = backup.join(MANIFEST_FILE);
    let text = fs::read_to_string(&path).with_context(|| format!("{} is no backup: cannot read {MANIFEST_FILE}", backup.display()))?;
    let manifest: BackupManifest = serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))?;
    anyhow::ensure!(
        manifest.version == MANIFEST_VERSION,
        "the backup has version {}, this build reads {MANIFEST_VERSION}",
        manifest.version
    );
    let is_within = |name: &String| Path::new(name).components().all(|part| matches!(part, std::path::Component::Normal(_)));
    anyhow::ensure!(manifest.files.keys().all(is_within), "{} names files that are not in the backup", path.display());
    Ok(manifest)
}

fn staging(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

/// A new directory, for its owner only. What an interrupted attempt left under this name is nobody's: it is removed.
fn make_directory(path: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}, left from an interrupted attempt", path.display()));
        }
        Ok(()) | Err(_) => {}
    }
    fs::DirBuilder::new().mode(0o700).create(path).with_context(|| format!("cannot create {}", path.display()))
}

/// The bytes of every file below `directory`, by its path from `root`, but for the manifest and for locks.
fn measure(root: &Path, directory: &Path, files: &mut BTreeMap<String, u64>) -> anyhow::Result<()> {
    let cannot = || format!("cannot look at {}", directory.display());
    for entry in fs::read_dir(directory).with_context(cannot)? {
        let entry = entry.with_context(cannot)?;
        let (path, metadata) = (entry.path(), entry.metadata().with_context(cannot)?);
        if metadata.is_dir() {
            measure(root, &path, files)?;
            continue;
        }
        let within = path.strip_prefix(root)?.to_str().context("a file's name is no text")?.to_owned();
        // RocksDB's own log and locks say nothing about the data.
        let is_data = within != MANIFEST_FILE && !["LOCK", "lock"].contains(&entry.file_name().to_string_lossy().as_ref());
        if is_data && !entry.file_name().to_string_lossy().starts_with("LOG") {
            files.insert(within, metadata.len());
        }
    }
    Ok(())
}

/// Copies a file, durably, for its owner only.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let failed = || format!("cannot copy {} to {}", from.display(), to.display());
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).with_context(failed)?;
    }
    let mut source = File::open(from).with_context(failed)?;
    let mut target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).with_context(failed)?;
    io::copy(&mut source, &mut target).and_then(|_| target.sync_all()).with_context(failed)
}

fn write_file(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).with_context(failed)?;
    io::Write::write_all(&mut file, bytes).and_then(|()| file.sync_all()).with_context(failed)
}

/// Renames a finished directory, and makes that and everything in it durable.
fn put_in_place(staging: &Path, target: &Path) -> anyhow::Result<()> {
    let failed = || format!("cannot put {} in place", target.display());
    sync_directories(staging).with_context(failed)?;
    fs::rename(staging, target).with_context(failed)?;
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|directory| directory.sync_all()).with_context(failed)
}

fn sync_directories(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_directories(&entry.path())?;
        }
    }
    File::open(directory)?.sync_all()
}
