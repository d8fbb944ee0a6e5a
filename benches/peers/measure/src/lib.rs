//! What every peer program shares: its options, its clocks, work spread over threads, and the line of JSON that it prints.
//!
//! A measurement counts payments over a window of wall time, and the processor time of everything involved in it: this process and
//! the servers it was told about, with all their descendants. What is made before the window, such as signatures, is not counted.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

/// What a tick of `/proc/PID/stat` is: Linux fixes 100 a second for every program, whatever the kernel's own tick is.
const NANOS_PER_TICK: u64 = 10_000_000;

/// What a peer program is started with: `[--seconds S] [--socket PATH] [--server-pid PID]... [WORD]...`.
#[derive(Debug, PartialEq)]
pub struct Options {
    /// Wall time of each measurement.
    pub window: Duration,
    /// Where the server listens: a Unix socket for Redis, the directory of one for PostgreSQL.
    pub socket: Option<PathBuf>,
    /// Servers whose processor time counts.
    pub servers: Vec<u32>,
    /// Which measurements to make; all if empty.
    pub words: Vec<String>,
}

impl Options {
    /// The options of this process.
    ///
    /// # Errors
    /// An option is unknown, has no value, or one that cannot be read.
    pub fn from_env() -> Result<Self> {
        Self::parse(std::env::args().skip(1))
    }

    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self { window: Duration::from_secs(5), socket: None, servers: Vec::new(), words: Vec::new() };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--seconds" => options.window = Duration::try_from_secs_f64(value()?.parse()?)?,
                "--socket" => options.socket = Some(value()?.into()),
                "--server-pid" => options.servers.push(value()?.parse()?),
                word if word.starts_with('-') => bail!("unknown option {word}"),
                word => options.words.push(word.to_owned()),
            }
        }
        ensure!(!options.window.is_zero(), "--seconds must be more than 0");
        Ok(options)
    }

    /// Whether the measurement of that name is wanted.
    #[must_use]
    pub fn wants(&self, word: &str) -> bool {
        self.words.is_empty() || self.words.iter().any(|wanted| wanted == word)
    }

    /// The server's socket.
    ///
    /// # Errors
    /// None was given.
    pub fn socket(&self) -> Result<&PathBuf> {
        self.socket.as_ref().context("--socket is needed")
    }

    /// How many items to prepare for a window in which at most `rate_max` are taken a second.
    ///
    /// A measurement that runs out ends early; its rate is right all the same.
    #[must_use]
    pub fn supply(&self, rate_max: f64) -> usize {
        let wanted = (self.window.as_secs_f64() * rate_max).ceil();
        // Below 2^32 by the bound, so nothing is lost.
        wanted.clamp(1.0, 4_000_000.0) as usize
    }
}

/// Wall and processor time since it was started.
#[derive(Debug)]
pub struct Clock {
    started: Instant,
    processes: Vec<u32>,
    cpu_nanos_before: u64,
}

/// What was counted in one window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Count {
    /// Payments that were done.
    pub payments: u64,
    /// Wall time in seconds.
    pub seconds: f64,
    /// Processor time of everything involved, in seconds.
    pub cpu_seconds: f64,
}

impl Clock {
    /// Starts the clock of this process and of `servers`.
    ///
    /// # Errors
    /// A process is not there.
    pub fn start(servers: &[u32]) -> Result<Self> {
        let mut processes = vec![std::process::id()];
        processes.extend(servers);
        let cpu_nanos_before = cpu_nanos(&processes)?;
        Ok(Self { started: Instant::now(), processes, cpu_nanos_before })
    }

    /// Stops it.
    ///
    /// # Errors
    /// A process is gone.
    pub fn stop(self, payments: u64) -> Result<Count> {
        let seconds = self.started.elapsed().as_secs_f64();
        let nanos = cpu_nanos(&self.processes)?.saturating_sub(self.cpu_nanos_before);
        Ok(Count { payments, seconds, cpu_seconds: Duration::from_nanos(nanos).as_secs_f64() })
    }
}

/// Processor time of processes and all their descendants, those that ended and were waited for included.
fn cpu_nanos(roots: &[u32]) -> Result<u64> {
    let mut processes = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // A process that ended since the listing is in its parent's account.
        if let Some(process) = Process::read(pid) {
            processes.push((pid, process));
        }
    }
    let mut nanos = 0;
    let mut open = roots.to_vec();
    for root in roots {
        ensure!(processes.iter().any(|(pid, _)| pid == root), "process {root} is gone");
    }
    while let Some(at) = open.pop() {
        for (pid, process) in &processes {
            if *pid == at {
                nanos += process.cpu_nanos(*pid);
            } else if process.parent == at {
                open.push(*pid);
            }
        }
    }
    Ok(nanos)
}

/// One process, as `/proc/PID/stat` has it.
#[derive(Debug, PartialEq)]
struct Process {
    parent: u32,
    /// User and system time, of threads that ended too.
    own_ticks: u64,
    /// The same of children that were waited for.
    children_ticks: u64,
}

impl Process {
    fn read(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Fields as proc(5) has them: 4 is the parent; 14 and 15 are own times, 16 and 17 those of children.
    fn parse(text: &str) -> Option<Self> {
        // The name, field 2, is in parentheses and may hold spaces and parentheses itself.
        let mut fields = text.rsplit_once(')')?.1.split_whitespace();
        let parent = fields.nth(1)?.parse().ok()?;
        let times: Vec<u64> = fields.skip(9).take(4).map_while(|field| field.parse().ok()).collect();
        let [user, system, children_user, children_system] = times[..] else { return None };
        Some(Self { parent, own_ticks: user + system, children_ticks: children_user + children_system })
    }

    /// Ticks are cut off, which adds up over the many short-lived processes of a database; the scheduler counts nanoseconds, but
    /// only of threads that live. So the larger of the two.
    fn cpu_nanos(&self, pid: u32) -> u64 {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let of_thread = |path: PathBuf| fs::read_to_string(path.join("schedstat")).ok()?.split(' ').next()?.parse::<u64>().ok();
        let exact = threads.filter_map(|thread| of_thread(thread.path())).sum::<u64>();
        exact.max(self.own_ticks * NANOS_PER_TICK) + self.children_ticks * NANOS_PER_TICK
    }
}

/// Hands out each item once, until the window is over.
#[derive(Debug)]
pub struct Supply<'a, T> {
    items: &'a [T],
    next: AtomicUsize,
    until: Instant,
}

impl<'a, T> Supply<'a, T> {
    /// From now until `window` is over.
    #[must_use]
    pub fn new(items: &'a [T], window: Duration) -> Self {
        Self { items, next: AtomicUsize::new(0), until: Instant::now() + window }
    }

    /// The next item; `None` when the window is over or everything was handed out.
    pub fn take(&self) -> Option<&'a T> {
        if Instant::now() >= self.until {
            return None;
        }
        self.items.get(self.next.fetch_add(1, Ordering::Relaxed))
    }
}

/// Runs `worker` on each of `threads`, and counts what they say they did.
///
/// # Errors
/// A worker fails.
pub fn race<T: Sync>(
    threads: usize,
    items: &[T],
    window: Duration,
    worker: impl Fn(&Supply<'_, T>) -> Result<u64> + Sync,
) -> Result<Count> {
    let clock = Clock::start(&[])?;
    let supply = Supply::new(items, window);
    let payments = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| worker(&supply))).collect();
        workers.into_iter().map(|worker| worker.join().map_err(|_| anyhow::anyhow!("a worker panicked"))?).sum::<Result<u64>>()
    })?;
    clock.stop(payments)
}

/// Makes `count` items on all cores: `make` gets the number of each. They come back in order.
///
/// # Errors
/// One cannot be made.
pub fn prepare<T: Send>(count: usize, make: impl Fn(usize) -> Result<T> + Sync) -> Result<Vec<T>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = count.div_ceil(threads);
    std::thread::scope(|scope| {
        let make = &make;
        let parts: Vec<_> = (0..threads)
            .map(|part| scope.spawn(move || (part * share..count.min((part + 1) * share)).map(make).collect::<Result<Vec<_>>>()))
            .collect();
        let mut all = Vec::with_capacity(count);
        for part in parts {
            all.extend(part.join().map_err(|_| anyhow::anyhow!("a worker panicked"))??);
        }
        Ok(all)
    })
}

/// What a row is about; [`Row::print`] adds the figures.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    /// The peer, such as `tap_core`.
    pub peer: &'a str,
    /// Its version, as it says itself or as the lock file does.
    pub version: &'a str,
    /// What was done, with what shape: `verify, 2 threads`.
    pub setup: &'a str,
    /// What exactly was verified of each payment.
    pub verified: &'a str,
    /// What keeps a payment that was counted, and against what.
    pub durable: &'a str,
}

impl Row<'_> {
    /// Prints the row as one line of JSON on standard output.
    ///
    /// # Errors
    /// Nothing was counted, so there is no rate.
    pub fn print(&self, count: Count) -> Result<()> {
        ensure!(count.payments > 0, "{} ({}): nothing was counted", self.peer, self.setup);
        println!(
            "{}",
            json!({
                "peer": self.peer, "version": self.version, "setup": self.setup,
                "payments": count.payments, "seconds": count.seconds, "cpu_seconds": count.cpu_seconds,
                "verified": self.verified, "durable": self.durable,
            })
        );
        Ok(())
    }
}

/// The version that the workspace's lock file has of a package.
///
/// # Errors
/// The package is not in it.
pub fn locked_version(package: &str) -> Result<&'static str> {
    version_in(include_str!("../../Cargo.lock"), package).with_context(|| format!("{package} is not in the lock file"))
}

fn version_in<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    let name = format!("name = \"{package}\"\nversion = \"");
    lock.split_once(&name)?.1.split('"').next()
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::process::Stdio;

    use super::*;

    #[test]
    fn options_are_read() {
        let parse = |words: &[&str]| Options::parse(words.iter().map(|word| (*word).to_owned()));
        let options = parse(&["--seconds", "0.2", "insert", "--server-pid", "7", "--socket", "/run/x"]).expect("read");
        assert_eq!(options.window, Duration::from_millis(200));
        assert_eq!((options.servers.as_slice(), options.words.as_slice()), (&[7][..], &["insert".to_owned()][..]));
        assert!(options.wants("insert") && !options.wants("upsert"));
        assert_eq!(options.supply(50.5), 11);
        for wrong in [&["--seconds"][..], &["--seconds", "0"], &["--seconds", "-1"], &["--pid", "1"], &["--server-pid", "x"]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_name_with_parentheses_shifts_no_field() {
        let process = Process::parse("42 (a ) b) S 7 42 42 0 -1 4194304 1 2 3 4 100 20 3 4 20 0 1 0 5");
        assert_eq!(process, Some(Process { parent: 7, own_ticks: 120, children_ticks: 7 }));
        assert_eq!(Process::parse("42 (a) S 7 42"), None);
    }

    #[test]
    fn descendants_count() {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "sh -c 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo; read x'; true"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("started");
        let mut worked = [0];
        child.stdout.take().expect("piped").read_exact(&mut worked).expect("its child says that it worked");
        assert!(cpu_nanos(&[child.id()]).expect("there") > 0);
        child.stdin.take();
        child.wait().expect("waited");
        assert!(cpu_nanos(&[child.id()]).is_err());
        assert!(cpu_nanos(&[std::process::id()]).expect("in its parent's account now") > 0);
    }

    #[test]
    fn every_item_is_taken_once() {
        let items: Vec<u64> = (0..10_000).collect();
        let count = race(4, &items, Duration::from_secs(60), |supply| Ok(std::iter::from_fn(|| supply.take()).sum())).expect("ran");
        assert_eq!(count.payments, items.iter().sum::<u64>());
        assert_eq!(prepare(1_001, |number| Ok(number as u64)).expect("made"), items[..1_001]);
        assert!(race(2, &items, Duration::from_secs(60), |_| bail!("broken")).is_err());
    }

    #[test]
    fn the_lock_file_knows_the_peers() {
        assert_eq!(version_in("[[package]]\nname = \"a\"\nversion = \"1.2.3\"\n", "a"), Some("1.2.3"));
        assert_eq!(locked_version("tap_core").expect("locked"), "6.0.2");
        assert!(locked_version("no-such-package").is_err());
    }
}
