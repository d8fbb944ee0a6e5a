//! What this machine gives: key file, database, disk, descriptors, ports, certificate.

use std::io::{ErrorKind, Write};
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use millstream_chain::ChainKey;
use millstream_keystore::{self as keystore, KeyFile, KeyUse, KeystoreError, Passwords};
use millstream_node::DatabaseState;
use millstream_transport::{CertificateFault, ServerIdentity};
use millstream_types::Address;
use rustix::process::{Resource, getrlimit};

use super::subject::{Kind, Subject};
use super::{Finding, State};
use crate::admin::Admin;
use crate::error::chain_of;

/// Descriptors that a node needs beside its connections: RocksDB's files, logs, the chain.
const DESCRIPTORS_MIN: u64 = 1_024;
/// Time that a small synced write may take before it is worth a word.
const SYNC_SLOW: Duration = Duration::from_millis(200);
/// Part of a disk that should stay free, in percent.
const DISK_FREE_PERCENT_MIN: u64 = 5;
/// How long a certificate should still be good.
const CERTIFICATE_LEFT: Duration = Duration::from_secs(14 * 86_400);

/// The operator's key: its account, where it can be told.
pub(super) async fn key(subject: &Subject) -> (Option<Address>, Finding) {
    const CHECK: &str = "key_file";
    let file = &subject.key_file;
    let made = format!("millstream key new operator --keys {}", file.parent().unwrap_or(Path::new(".")).display());
    let fault = |found: String, remedy: &str, command: String| Finding::fault(CHECK, found, remedy, command);
    let key = match keystore::read(file) {
        Ok(key) => key,
        Err(error) => {
            let found = chain_of(&error);
            let finding = match error {
                KeystoreError::Exposed { .. } => fault(
                    found,
                    "let its owner alone read it, and make a new key if others may have read it",
                    format!("chmod 600 {}", file.display()),
                ),
                KeystoreError::Unreadable { .. } => {
                    fault(found, "name the file that there is in chain.operator_key_file, or make a key", made)
                }
                _ => fault(found, "put a key file there: 64 hexadecimal digits, a keystore, or a note of a remote signer", made),
            };
            return (None, finding);
        }
    };
    let address = key.address();
    if key.key_use() == KeyUse::Voucher {
        let finding =
            fault(format!("{} is a key for vouchers", file.display()), "use a key of an account here: it pays gas and claims", made);
        return (address, finding);
    }
    let told = |how: &str| {
        let account = address.map_or_else(|| "an account that is not named".to_owned(), |account| account.to_string());
        Finding::ok(CHECK, format!("{} is the key of {account}, {how}", file.display()))
    };
    let finding = match key {
        KeyFile::Plain(_) => Finding {
            state: State::Warning,
            remedy: Some("encrypt it at rest, and name the new file in chain.operator_key_file".to_owned()),
            command: Some(format!("millstream key import operator --from {}", file.display())),
            ..told("and is not encrypted")
        },
        KeyFile::Remote(remote) => match ChainKey::remote(&remote.signer, remote.account).await {
            Ok(_) => told("with a remote signer that answers"),
            Err(error) => fault(
                chain_of(&error),
                "start the signer, load the account's key into it, or correct its address",
                format!("curl -s {}/api/v1/eth1/publicKeys", remote.signer.trim_end_matches('/')),
            ),
        },
        KeyFile::Encrypted(keystore) => match password(subject).map(|password| password.map(|password| keystore.open(&password))) {
            Ok(Some(Ok(_))) => told("encrypted, and its password opens it"),
            Ok(Some(Err(error))) | Err(error) => fault(
                chain_of(&error),
                "put the password that opens the key into the file that chain.operator_password_file names",
                format!("millstream key password {}", name_of(file)),
            ),
            Ok(None) => Finding::warning(
                CHECK,
                format!("{} is encrypted, and nothing gives its password: a start without a terminal fails", file.display()),
                "write the password into a file of mode 600 and name it in chain.operator_password_file",
                format!("install -m 600 /dev/stdin {}", file.with_extension("password").display()),
            ),
        },
    };
    (address, finding)
}

fn name_of(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// The password, if anything gives it; nobody is asked.
fn password(subject: &Subject) -> Result<Option<keystore::Password>, KeystoreError> {
    Passwords::new(subject.password_file.as_deref()).given()
}

/// The database, and whether a node runs on it.
pub(super) async fn database(subject: &Subject) -> (bool, Finding) {
    const CHECK: &str = "database";
    let directory = subject.data_dir.display();
    match millstream_node::look(&subject.data_dir, subject.chain_id, subject.ledger) {
        DatabaseState::Absent => (false, Finding::ok(CHECK, format!("none yet: the first start makes it in {directory}"))),
        DatabaseState::Good { commit } => (false, Finding::ok(CHECK, format!("{directory} holds everything up to batch {commit}"))),
        DatabaseState::InUse { pid } => {
            let holder = pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
            let admin = format!("http://{}", subject.admin_listen);
            let answers = match Admin::new(&admin) {
                Ok(admin) => admin.any_status().await.is_ok(),
                Err(_) => false,
            };
            if answers {
                return (true, Finding::ok(CHECK, format!("in use by {holder}, which answers on {admin}")));
            }
            let remedy = "a database has one owner: stop the other process, or wait until it has stopped";
            let command = pid.map_or_else(|| format!("fuser {directory}/db/lock"), |pid| format!("kill {pid}"));
            (false, Finding::fault(CHECK, format!("{directory} is in use by {holder}, which does not answer on {admin}"), remedy, command))
        }
        DatabaseState::OtherVersion { what } => {
            let command = "millstream --version".to_owned();
            (
                false,
                Finding::fault(
                    CHECK,
                    what,
                    "start the build that this database was written by, or migrate it with the one in between",
                    command,
                ),
            )
        }
        DatabaseState::OtherOwner { what } => {
            let remedy = "name the data directory of this ledger or chain, or the ledger and chain of this directory";
            (false, Finding::fault(CHECK, what, remedy, format!("millstream config show --config {}", subject.config.display())))
        }
        DatabaseState::Damaged { what } => {
            let remedy = "move the damaged database away, keep it, and restore the newest backup";
            (false, Finding::fault(CHECK, what, remedy, format!("millstream restore BACKUP {directory}")))
        }
    }
}

/// Room on the disk, and whether it keeps what is synced.
pub(super) fn disk(subject: &Subject, free_mib_min: u64) -> Vec<Finding> {
    let directory = existing(&subject.data_dir);
    let shown = directory.display();
    let mut findings = Vec::new();
    match rustix::fs::statvfs(&directory) {
        Ok(room) => {
            let bytes = |blocks: u64| u128::from(blocks).saturating_mul(room.f_frsize.into());
            let (free, all) = (bytes(room.f_bavail), bytes(room.f_blocks).max(1));
            let (mib, percent) = (free >> 20, free.saturating_mul(100) / all);
            let found = format!("{mib} MiB free on the disk of {shown}, {percent} %");
            let command = format!("df -h {shown}");
            findings.push(if mib < u128::from(free_mib_min) {
                let remedy =
                    format!("make {free_mib_min} MiB free, or put server.data_dir on a larger disk: a node that cannot write stops");
                Finding::fault("disk_free", found, remedy, command)
            } else if percent < u128::from(DISK_FREE_PERCENT_MIN) {
                Finding::warning("disk_free", found, "make room before the disk is full, or set billing.retention_secs", command)
            } else {
                Finding::ok("disk_free", found)
            });
        }
        Err(error) => {
            let command = format!("ls -ld {shown}");
            findings.push(Finding::fault(
                "disk_free",
                format!("cannot look at {shown}: {error}"),
                "name a directory that there is",
                command,
            ));
        }
    }
    findings.push(match synced_write(&directory) {
        Ok(took) if took < SYNC_SLOW => Finding::ok("disk_sync", format!("a synced write in {shown} takes {} ms", took.as_millis())),
        Ok(took) => Finding::warning(
            "disk_sync",
            format!("a synced write in {shown} takes {} ms, and every ack waits for two", took.as_millis()),
            "put the data directory on a local disk with a fast sync",
            format!("findmnt -T {shown}"),
        ),
        Err(error) => Finding::fault(
            "disk_sync",
            format!("nothing can be written and synced in {shown}: {error}"),
            "let the node's user write there, on a disk that can sync",
            format!("ls -ld {shown}"),
        ),
    });
    findings
}

/// The directory, or the nearest one above it that is there.
fn existing(directory: &Path) -> PathBuf {
    let absolute = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    absolute.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/")).to_owned()
}

fn synced_write(directory: &Path) -> std::io::Result<Duration> {
    let path = directory.join(format!(".millstream-doctor-{}", std::process::id()));
    let started = Instant::now();
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .and_then(|mut file| file.write_all(&[0; 4_096]).and_then(|()| file.sync_all()));
    let took = started.elapsed();
    if written.is_ok() {
        std::fs::remove_file(&path)?;
    }
    written.map(|()| took)
}

/// Open files that this process, and so one that is started as it was, may have.
pub(super) fn open_files(subject: &Subject) -> Finding {
    let needed = DESCRIPTORS_MIN.saturating_add(subject.sockets_max.saturating_mul(2));
    let limits = getrlimit(Resource::Nofile);
    match limits.current {
        Some(current) if current < needed => {
            let what = if subject.kind == Kind::Gateway { ": two for each connection of server.connections_max, and 1024" } else { "" };
            Finding::fault(
                "open_files",
                format!("{current} files may be open, and {needed} are needed{what}"),
                "raise the limit where the process is started: LimitNOFILE in a systemd unit, ulimit in a shell",
                format!("ulimit -n {needed}"),
            )
        }
        Some(current) => Finding::ok("open_files", format!("{current} files may be open, {needed} are needed")),
        None => Finding::ok("open_files", "any number of files may be open"),
    }
}

/// Whether the addresses can be listened on.
pub(super) fn ports(subject: &Subject) -> Vec<Finding> {
    let check = |listener: &super::subject::Listener| {
        let (address, key) = (listener.address, listener.key);
        let bound = if listener.is_udp { UdpSocket::bind(address).map(drop) } else { TcpListener::bind(address).map(drop) };
        let protocol = if listener.is_udp { "udp" } else { "tcp" };
        let (filter, port) = (if listener.is_udp { "-lunp" } else { "-ltnp" }, address.port());
        match bound {
            Ok(()) => Finding::ok("port", format!("{key}: {address}/{protocol} is free")),
            Err(error) => {
                let remedy = match error.kind() {
                    ErrorKind::AddrInUse => format!("stop what listens there, or choose another port in {key}"),
                    ErrorKind::AddrNotAvailable => format!("choose an address of this machine in {key}"),
                    ErrorKind::PermissionDenied => format!("choose a port from 1024 up in {key}, or give the process CAP_NET_BIND_SERVICE"),
                    _ => format!("choose another address in {key}"),
                };
                Finding::fault(
                    "port",
                    format!("{key}: cannot listen on {address}/{protocol}: {error}"),
                    remedy,
                    format!("ss {filter} sport = :{port}"),
                )
            }
        }
    };
    subject.listeners.iter().map(check).collect()
}

/// A certificate of the operator's own.
pub(super) fn certificate(subject: &Subject) -> Option<Finding> {
    const CHECK: &str = "certificate";
    let (chain, key) = subject.certificate.as_ref()?;
    let shown = chain.display();
    let identity = match ServerIdentity::from_pem_files(chain, key) {
        Ok(identity) => identity,
        Err(error) => {
            let remedy = "name PEM files that hold the certificate and its key, in server.certificate and server.private_key";
            return Some(Finding::fault(CHECK, chain_of(&error), remedy, format!("openssl x509 -noout -subject -dates -in {shown}")));
        }
    };
    let now = SystemTime::now();
    let renew = format!("openssl x509 -noout -dates -in {shown}");
    Some(match identity.check(now) {
        Err(CertificateFault::Expired) => {
            Finding::fault(CHECK, format!("{shown} has expired"), "renew the certificate: payers refuse this one", renew)
        }
        Err(CertificateFault::NotYet) => Finding::fault(
            CHECK,
            format!("{shown} is not good yet"),
            "set this machine's clock, or take a certificate that is good now",
            renew,
        ),
        Err(CertificateFault::OtherKey) => Finding::fault(
            CHECK,
            format!("{} is not the key of {shown}", key.display()),
            "name the key that the certificate was issued for in server.private_key",
            format!("openssl x509 -noout -pubkey -in {shown}; openssl pkey -pubout -in {}", key.display()),
        ),
        Err(CertificateFault::Malformed) => {
            Finding::fault(CHECK, format!("{shown} is no certificate that can be read"), "take a certificate of X.509", renew)
        }
        Ok(()) => match identity.check(now + CERTIFICATE_LEFT) {
            Err(CertificateFault::Expired) => {
                Finding::warning(CHECK, format!("{shown} expires within 14 days"), "renew the certificate", renew)
            }
            Ok(()) | Err(_) => Finding::ok(CHECK, format!("{shown} is good, and so is its key")),
        },
    })
}
