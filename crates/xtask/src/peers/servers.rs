//! Redis and PostgreSQL for one run: found or unpacked, started in a temporary directory, stopped with this process.
//!
//! Nothing is installed, no service is started or enabled, and no port is opened: the servers listen on Unix sockets.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::setup;

/// File systems that forget everything: a sync there is free, and means nothing.
const FORGETFUL: [&str; 3] = ["tmpfs", "ramfs", "devtmpfs"];
const START_MAX: Duration = Duration::from_secs(30);
const STOP_MAX: Duration = Duration::from_secs(10);
/// Who runs PostgreSQL when this process is root, which it refuses to be. Every system has it.
const NOBODY: &str = "nobody";

/// A directory of this run, removed with it.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    /// What it lies on.
    pub file_system: String,
}

impl Scratch {
    /// A new directory under `parent`.
    ///
    /// # Errors
    /// It cannot be made, or the file system keeps nothing.
    pub fn new(parent: &Path) -> Result<Self> {
        let parent = fs::canonicalize(parent).with_context(|| format!("cannot find {}", parent.display()))?;
        let file_system = file_system(&fs::read_to_string("/proc/mounts")?, &parent).context("the file system is not among the mounts")?;
        ensure!(
            !FORGETFUL.contains(&file_system.as_str()),
            "{} is on {file_system}, where a sync means nothing; name a directory on a disk with --dir",
            parent.display()
        );
        let path = parent.join(format!("millstream-peers-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        // Open to the user that runs PostgreSQL.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(Self { path, file_system })
    }

    /// A new directory in it.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn dir(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("warning: cannot remove {}: {error}", self.path.display());
        }
    }
}

/// The type of the file system that `path` lies on: the longest mount point above it, the last of equal ones.
fn file_system(mounts: &str, path: &Path) -> Option<String> {
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        // A space in a mount point is written as an escape; others are not worth the care here.
        Some((PathBuf::from(fields.next()?.replace("\\040", " ")), fields.next()?))
    });
    let above = mounts.filter(|(point, _)| path.starts_with(point));
    above.max_by_key(|(point, _)| point.components().count()).map(|(_, kind)| kind.to_owned())
}

/// The programs of both servers.
#[derive(Debug)]
pub struct Programs {
    redis: PathBuf,
    postgres_dir: PathBuf,
    /// Of unpacked packages; empty when everything was there.
    library_dirs: Vec<PathBuf>,
}

impl Programs {
    /// Those of the system, or those of packages that are unpacked into `scratch`.
    ///
    /// # Errors
    /// They are not there and cannot be fetched.
    pub fn find(scratch: &Scratch) -> Result<Self> {
        let root = Path::new("/");
        let (redis, postgres_dir) = (redis_under(root), postgres_under(root));
        let mut missing = Vec::new();
        if redis.is_none() {
            // The program is a link into the tools, which may be installed alone.
            missing.extend(["redis-server", "redis-tools"]);
        }
        if postgres_dir.is_none() {
            missing.push("postgresql");
        }
        let unpacked = scratch.dir("system")?;
        if !missing.is_empty() {
            setup::unpack(&missing, &unpacked)?;
        }
        let is_library_dir = |path: &PathBuf| path.file_name().and_then(OsStr::to_str).is_some_and(|name| name.ends_with("-linux-gnu"));
        Ok(Self {
            redis: redis.or_else(|| redis_under(&unpacked)).context("the package redis-server has no redis-server")?,
            postgres_dir: postgres_dir.or_else(|| postgres_under(&unpacked)).context("the package postgresql brings no server")?,
            library_dirs: ["usr/lib", "lib"].iter().flat_map(|dir| entries(&unpacked.join(dir))).filter(is_library_dir).collect(),
        })
    }

    /// A command that ends with this process, as `user` if one is named.
    fn command(&self, program: &Path, user: Option<&str>) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "INT"]);
        if let Some(user) = user {
            command.args(["--reuid", user, "--regid", user_group(user).as_str(), "--clear-groups"]);
        }
        command.arg(program).stdin(Stdio::null()).current_dir("/");
        if let Ok(paths) = std::env::join_paths(&self.library_dirs)
            && !self.library_dirs.is_empty()
        {
            command.env("LD_LIBRARY_PATH", paths);
        }
        command
    }

    /// Redis, each write synced before its reply.
    ///
    /// # Errors
    /// It does not start.
    pub fn redis(&self, scratch: &Scratch, name: &str) -> Result<Server> {
        let dir = scratch.dir(name)?;
        let socket = dir.join("socket");
        let mut command = self.command(&self.redis, None);
        command.args(["--port", "0", "--unixsocket"]).arg(&socket).arg("--dir").arg(&dir);
        command.args(["--appendonly", "yes", "--appendfsync", "always", "--save", ""]);
        Server::start(command, &dir, socket.clone(), || socket.exists())
    }

    /// PostgreSQL, a new cluster with the settings that it comes with.
    ///
    /// # Errors
    /// It does not start.
    pub fn postgres(&self, scratch: &Scratch, name: &str) -> Result<Server> {
        let dir = scratch.dir(name)?;
        let user = setup::is_root().then_some(NOBODY);
        if let Some(user) = user {
            let id = id_of(&["-u", user])?;
            chown(&dir, Some(id), None).with_context(|| format!("cannot give {} to {user}", dir.display()))?;
        }
        let data = dir.join("data");
        let mut initdb = self.command(&self.postgres_dir.join("initdb"), user);
        initdb.arg("--pgdata").arg(&data).args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"]);
        let made = initdb.stderr(Stdio::inherit()).output().context("cannot run initdb")?;
        ensure!(made.status.success(), "initdb failed: {}", String::from_utf8_lossy(&made.stdout));
        let mut command = self.command(&self.postgres_dir.join("postgres"), user);
        command.arg("-D").arg(&data).arg("-k").arg(&dir).args(["-c", "listen_addresses="]);
        // The server's own file says when it takes connections; before, it would refuse them.
        let state = data.join("postmaster.pid");
        Server::start(command, &dir.clone(), dir, || {
            fs::read_to_string(&state).is_ok_and(|text| text.lines().any(|line| line.trim() == "ready"))
        })
    }
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect()
}

fn redis_under(root: &Path) -> Option<PathBuf> {
    ["usr/bin", "usr/local/bin"].map(|dir| root.join(dir).join("redis-server")).into_iter().find(|path| path.is_file())
}

/// The newest version's folder of programs; Debian keeps it off the path.
fn postgres_under(root: &Path) -> Option<PathBuf> {
    let version = |dir: &PathBuf| dir.file_name().and_then(OsStr::to_str).and_then(|name| name.parse::<u32>().ok());
    let mut dirs: Vec<_> = entries(&root.join("usr/lib/postgresql"))
        .into_iter()
        .filter_map(|dir| Some((version(&dir)?, dir.join("bin"))))
        .collect();
    dirs.sort();
    let whole = |dir: &Path| ["initdb", "postgres"].iter().all(|name| dir.join(name).is_file());
    dirs.into_iter().rev().map(|(_, dir)| dir).chain([root.join("usr/local/bin")]).find(|dir| whole(dir))
}

fn id_of(arguments: &[&str]) -> Result<u32> {
    let output = Command::new("id").args(arguments).output().context("cannot run id")?;
    ensure!(output.status.success(), "id {} failed", arguments.join(" "));
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

fn user_group(user: &str) -> String {
    id_of(&["-g", user]).map_or_else(|_| user.to_owned(), |id| id.to_string())
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Its socket, or the directory of it.
    pub socket: PathBuf,
}

impl Server {
    fn start(mut command: Command, dir: &Path, socket: PathBuf, is_ready: impl Fn() -> bool) -> Result<Self> {
        let log = dir.join("log");
        let file = fs::File::create(&log)?;
        let child = command.stdout(file.try_clone()?).stderr(file).spawn().context("cannot run setpriv")?;
        let mut server = Self { child, socket };
        let started = Instant::now();
        while !is_ready() {
            let ended = server.child.try_wait()?;
            if ended.is_some() || started.elapsed() > START_MAX {
                bail!("the server did not start; it says:\n{}", fs::read_to_string(&log).unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> String {
        self.child.id().to_string()
    }
}

impl Drop for Server {
    /// Asks it to stop, so that it frees what the system keeps for it; kills it if it does not.
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-INT", &self.pid()]).stderr(Stdio::null()).status();
        let asked = Instant::now();
        while asked.elapsed() < STOP_MAX {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_mount_tells_the_file_system() {
        let mounts = "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/b /tmp/a\\040b xfs rw 0 0\n/dev/c /tmpfiles btrfs rw 0 0\n";
        for (path, kind) in [("/var", "ext4"), ("/tmp/x", "tmpfs"), ("/tmp/a b/c", "xfs"), ("/tmpx", "ext4"), ("/", "ext4")] {
            assert_eq!(file_system(mounts, Path::new(path)).as_deref(), Some(kind), "{path}");
        }
        assert_eq!(file_system("", Path::new("/")), None);
    }

    #[test]
    fn the_newest_whole_version_is_taken() {
        let root = std::env::temp_dir().join(format!("xtask-postgres-{}", std::process::id()));
        for (version, names) in [("9", &["initdb", "postgres"][..]), ("15", &["initdb", "postgres"]), ("16", &["initdb"])] {
            let bin = root.join("usr/lib/postgresql").join(version).join("bin");
            fs::create_dir_all(&bin).expect("made");
            for name in names {
                fs::write(bin.join(name), "").expect("written");
            }
        }
        assert_eq!(postgres_under(&root), Some(root.join("usr/lib/postgresql/15/bin")));
        assert_eq!(redis_under(&root), None);
        fs::remove_dir_all(root).expect("removed");
    }
}
