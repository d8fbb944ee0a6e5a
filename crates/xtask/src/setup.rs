//! Installs what a fresh machine lacks, and does nothing, quickly, on one that lacks nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::shell;

/// Where libclang lies on Debian, Fedora, Arch and macOS: RocksDB's bindings are generated with it.
const LIBCLANG_DIRS: [&str; 6] =
    ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/opt/homebrew/opt/llvm/lib"];

/// Something the build needs and the Debian package that has it.
struct Need {
    what: &'static str,
    package: &'static str,
    met: bool,
}

/// Installs system packages, the contracts' tools and the clients that tests drive, where they are missing.
///
/// # Errors
/// Something is missing and cannot be installed; the message has the command to do it.
pub fn run() -> Result<()> {
    system_packages()?;
    node_packages(&shell::root().join("contracts"))?;
    node_packages(&shell::root().join("crates/cli/tests/http402"))
}

fn needs() -> Vec<Need> {
    let program = |name, package| Need { what: name, package, met: shell::is_installed(name) };
    vec![
        program("cc", "build-essential"),
        program("c++", "build-essential"),
        Need { what: "libclang", package: "libclang-dev", met: has_libclang() },
        program("node", "nodejs"),
        program("npm", "npm"),
    ]
}

fn system_packages() -> Result<()> {
    let missing: Vec<_> = needs().into_iter().filter(|need| !need.met).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<_> = missing.iter().map(|need| need.package).collect();
    packages.dedup();
    let what = missing.iter().map(|need| need.what).collect::<Vec<_>>().join(", ");
    if !shell::is_installed("apt-get") {
        bail!("missing: {what}; install what your system calls the Debian packages {}", packages.join(" "));
    }
    let by_hand = format!("apt-get install --no-install-recommends {}", packages.join(" "));
    let Some(privilege) = privilege() else {
        bail!("missing: {what}; as root, run: {by_hand}");
    };
    let install = |packages: &[&str]| apt(privilege, &[&["install", "--yes", "--no-install-recommends"], packages].concat());
    if install(&packages)? {
        return Ok(());
    }
    // A fresh machine knows no package lists yet.
    if !apt(privilege, &["update"])? || !install(&packages)? {
        bail!("could not install {what}; as root, run: apt-get update && {by_hand}");
    }
    Ok(())
}

/// How system packages can be installed without asking anybody.
#[derive(Clone, Copy)]
enum Privilege {
    Root,
    Sudo,
}

/// Whether this process may do anything.
pub(crate) fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|user_id| user_id.stdout.trim_ascii() == b"0")
}

fn privilege() -> Option<Privilege> {
    if is_root() {
        return Some(Privilege::Root);
    }
    let may_sudo = Command::new("sudo").args(["--non-interactive", "true"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    may_sudo.ok()?.success().then_some(Privilege::Sudo)
}

fn apt(privilege: Privilege, arguments: &[&str]) -> Result<bool> {
    let mut command = match privilege {
        Privilege::Root => Command::new("env"),
        Privilege::Sudo => {
            let mut sudo = Command::new("sudo");
            sudo.args(["--non-interactive", "env"]);
            sudo
        }
    };
    // What apt prints is not the output of the task.
    command
        .args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet"])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(std::io::stderr());
    shell::succeeds(&mut command)
}

/// Fetches Debian packages with what they need and this machine lacks, and unpacks them into a folder: nothing is installed, so
/// no service of theirs is started or enabled.
pub(crate) fn unpack(packages: &[&str], into: &Path) -> Result<()> {
    if !shell::is_installed("apt-get") {
        bail!("missing; install what your system calls the Debian packages {}", packages.join(" "));
    }
    let archives = into.join("archives");
    fs::create_dir_all(archives.join("partial")).with_context(|| format!("cannot make {}", archives.display()))?;
    let fetch = || {
        let mut command = Command::new("apt-get");
        // Without the lock that only root may take: the system's packages are read and not changed.
        command.args(["--quiet", "--yes", "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root", "-o"]);
        command.arg(format!("Dir::Cache::archives={}", archives.display()));
        command.args(["install", "--download-only", "--no-install-recommends", "--reinstall"]).args(packages);
        shell::succeeds(command.stdin(Stdio::null()).stdout(std::io::stderr()))
    };
    if !fetch()? {
        let updated = privilege().map_or(Ok(false), |privilege| apt(privilege, &["update"]))?;
        if !updated || !fetch()? {
            bail!("could not fetch the packages {}; as root, run: apt-get update", packages.join(" "));
        }
    }
    for entry in fs::read_dir(&archives)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb")
            && !shell::succeeds(Command::new("dpkg-deb").arg("--extract").arg(&path).arg(into))?
        {
            bail!("cannot unpack {}", path.display());
        }
    }
    fs::remove_dir_all(&archives).with_context(|| format!("cannot remove {}", archives.display()))
}

/// The bindings' generator looks in `LIBCLANG_PATH`, then in the system's places, Debian's `llvm-*` folders among them.
fn has_libclang() -> bool {
    let named = std::env::var_os("LIBCLANG_PATH").map(PathBuf::from);
    let versioned = fs::read_dir("/usr/lib").into_iter().flatten().filter_map(|entry| {
        let path = entry.ok()?.path();
        path.file_name()?.to_str()?.starts_with("llvm").then(|| path.join("lib"))
    });
    named.into_iter().chain(LIBCLANG_DIRS.map(PathBuf::from)).chain(versioned).any(|dir| holds_libclang(&dir))
}

/// A plain runtime library (`libclang-14.so.1`) serves as well, but comes without the headers that RocksDB's need.
fn holds_libclang(dir: &Path) -> bool {
    let names = fs::read_dir(dir).into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut libraries = names.filter(|name| name.starts_with("libclang.") || name.starts_with("libclang-"));
    libraries.any(|name| name.ends_with(".so") || name.ends_with(".dylib"))
}

/// `npm ci`, when the tools are not there or not those of the lock file.
///
/// The stamp is a copy of the lock file, inside the folder that it describes: removing the one removes the other.
pub(crate) fn node_packages(dir: &Path) -> Result<()> {
    let (lock, stamp) = (dir.join("package-lock.json"), dir.join("node_modules/.installed-lock.json"));
    let wanted = fs::read(&lock).with_context(|| format!("cannot read {}", lock.display()))?;
    if fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    let mut install = Command::new("npm");
    install.args(["ci", "--no-audit", "--no-fund"]).current_dir(dir).stdout(std::io::stderr());
    if !shell::succeeds(&mut install)? {
        bail!("npm ci failed in {}", dir.display());
    }
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))
}

#[cfg(test)]
mod tests {
    use super::{holds_libclang, node_packages};
    use std::fs;

    fn scratch(name: &str) -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("scratch directory");
        dir
    }

    #[test]
    fn libclang_is_known_by_its_development_link() {
        let dir = scratch("libclang");
        fs::write(dir.join("libclang-14.so.1"), "").expect("written");
        fs::write(dir.join("libclangAST.a"), "").expect("written");
        assert!(!holds_libclang(&dir));
        fs::write(dir.join("libclang.so"), "").expect("written");
        assert!(holds_libclang(&dir));
        fs::remove_dir_all(dir).expect("removed");
    }

    #[test]
    fn tools_of_the_same_lock_file_are_left_alone() {
        let dir = scratch("tools");
        fs::create_dir_all(dir.join("node_modules")).expect("created");
        fs::write(dir.join("package-lock.json"), "lock").expect("written");
        fs::write(dir.join("node_modules/.installed-lock.json"), "lock").expect("written");
        // Anything but an early return would start npm, which refuses this lock file.
        node_packages(&dir).expect("nothing to do");
        fs::remove_dir_all(dir).expect("removed");
    }
}
