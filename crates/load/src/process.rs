//! What a process of this machine used, and what machine it is: read from `/proc`.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Ticks of `/proc/PID/stat` a second: `USER_HZ`, 100 on every Linux.
const USER_HZ: f64 = 100.0;

/// What a process has used up to now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Processor seconds, user and system, in hundredths.
    pub cpu_seconds: f64,
    /// Bytes in memory now.
    pub rss_bytes: u64,
    /// The most bytes that were in memory at one time.
    pub rss_peak_bytes: u64,
    /// Bytes that it caused to be written to disks; nothing where the system does not tell.
    pub written_bytes: Option<u64>,
}

impl Usage {
    /// Reads it; nothing for a process that is not there.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?, &status, &io)
    }

    /// The sum over the processes of a group, led by a process with this id; nothing when none is there.
    #[must_use]
    pub fn of_group(leader: u32) -> Option<Self> {
        let mut sum: Option<Self> = None;
        for pid in fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let group = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(2)?.parse::<u32>().ok());
            if group == Some(leader)
                && let Some(usage) = Self::of(pid)
            {
                let before = sum.unwrap_or_default();
                sum = Some(Self {
                    cpu_seconds: before.cpu_seconds + usage.cpu_seconds,
                    rss_bytes: before.rss_bytes + usage.rss_bytes,
                    rss_peak_bytes: before.rss_peak_bytes + usage.rss_peak_bytes,
                    written_bytes: before.written_bytes.unwrap_or(0).checked_add(usage.written_bytes.unwrap_or(0)),
                });
            }
        }
        sum
    }

    fn parse(stat: &str, status: &str, io: &str) -> Option<Self> {
        // The name in the second field may hold spaces and brackets; what follows the last bracket starts with the third.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
        let ticks = fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?;
        let kib = |name| field(status, name).map(|value| value.trim_end_matches("kB").trim()).and_then(|value| value.parse::<u64>().ok());
        Some(Self {
            cpu_seconds: ticks / USER_HZ,
            rss_bytes: kib("VmRSS")?.saturating_mul(1024),
            rss_peak_bytes: kib("VmHWM")?.saturating_mul(1024),
            written_bytes: field(io, "write_bytes").and_then(|value| value.parse().ok()),
        })
    }
}

/// The value of a line `name: value`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.split_once(':').filter(|(key, _)| key.trim() == name)).map(|(_, value)| value.trim())
}

/// The machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// The kernel's version.
    pub kernel: String,
}

impl Machine {
    /// This machine; what the system does not tell is empty.
    #[must_use]
    pub fn this() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let memory = read("/proc/meminfo");
        let kib = field(&memory, "MemTotal").and_then(|value| value.trim_end_matches("kB").trim().parse::<u64>().ok());
        Self {
            processor: field(&read("/proc/cpuinfo"), "model name").unwrap_or_default().to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: kib.unwrap_or_default().saturating_mul(1024),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

/// Bytes of the files under a directory, by their lengths. Files that vanish while it is read are left out.
#[must_use]
pub fn directory_bytes(directory: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => directory_bytes(&entry.path()),
        Ok(_) => entry.metadata().map_or(0, |metadata| metadata.len()),
        Err(_) => 0,
    });
    sizes.sum()
}

/// The kind of file system that a path is on, such as `ext4` or `tmpfs`; nothing where the system does not tell.
#[must_use]
pub fn file_system(path: &Path) -> Option<String> {
    let path = path.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    let mut deepest: Option<(usize, &str)> = None;
    for line in mounts.lines() {
        let mut fields = line.split(' ').skip(1);
        let (Some(point), Some(kind)) = (fields.next(), fields.next()) else { continue };
        // Of two on one point the later one is seen.
        if path.starts_with(point) && deepest.is_none_or(|(length, _)| length <= point.len()) {
            deepest = Some((point.len(), kind));
        }
    }
    deepest.map(|(_, kind)| kind.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_from_the_kernels_texts() {
        let stat = "42 (a) name) S 1 42 42 0 -1 4194560 1 2 3 4 150 250 0 0 20 0 1 0 5 6 7";
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        let usage = Usage::parse(stat, status, "rchar: 1\nwrite_bytes: 4096\ncancelled_write_bytes: 0\n").expect("complete");
        assert_eq!(usage, Usage { cpu_seconds: 4.0, rss_bytes: 1 << 20, rss_peak_bytes: 2 << 20, written_bytes: Some(4_096) });
        assert_eq!(Usage::parse(stat, status, "").expect("complete").written_bytes, None);
        assert_eq!(Usage::parse("x", status, ""), None);
    }

    #[test]
    fn this_process_and_machine_are_there() {
        assert!(Usage::of(std::process::id()).expect("this process").rss_bytes > 0);
        assert!(Machine::this().cores > 0 && Machine::this().memory_bytes > 0);
    }

    #[test]
    fn a_directory_is_as_large_as_its_files() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::create_dir(directory.path().join("inner")).expect("made");
        fs::write(directory.path().join("a"), [0; 10]).expect("written");
        fs::write(directory.path().join("inner/b"), [0; 32]).expect("written");
        assert_eq!(directory_bytes(directory.path()), 42);
        assert_eq!(directory_bytes(&directory.path().join("none")), 0);
        assert!(file_system(directory.path()).is_some_and(|kind| !kind.is_empty()));
    }
}
