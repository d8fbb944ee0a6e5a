//! Other systems of the field beside this one: on the same machine, one after the other, within the same minutes.
//!
//! The peers' programs lie in `benches/peers`, in a cargo workspace and an npm package of their own, and are used as dependencies: none
//! of their code is copied. Each program prints one line of JSON for a measurement, which [`table`] reads.

mod servers;
pub mod table;

use std::ffi::OsString;
use std::fs;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};

use self::servers::{Programs, Scratch, Server};
use self::table::{Facts, Row, Table};
use crate::{demo, setup, shell};

/// Payments under one signature in Millstream's rows.
const LINES: [u32; 3] = [1, 64, 256];
/// Channels of Millstream's rows, and of the peers' that have channels.
const CHANNELS: &str = "64";
/// The least that `millstream bench` warms up for, in seconds.
const WARM_UP_MIN: f64 = 0.1;
const WARM_UP_MAX: f64 = 2.0;
/// The least part of the window that a measurement may have run.
const WINDOW_PART_MIN: f64 = 0.5;
/// How often `millstream bench` is started for one row.
const ATTEMPTS: u32 = 4;

/// Options of the comparison.
#[derive(Args, Debug)]
pub struct Options {
    /// Wall time of each measurement.
    #[arg(long, value_name = "S", default_value_t = 5.0, value_parser = seconds)]
    seconds: f64,
    /// Only these peers, and Millstream; the table is then printed, and written only where --output says.
    #[arg(long, value_name = "PEER,...", value_delimiter = ',')]
    only: Vec<Peer>,
    /// Where the table goes, in Markdown.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// A directory on the disk that all of them write to [default: the system's temporary directory].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// A `millstream` to measure, instead of building one
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// What is measured beside Millstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Peer {
    /// The Graph's receipts.
    Tap,
    /// The Machine Payments Protocol's session vouchers.
    Mpp,
    /// Vouchers recovered through alloy.
    Alloy,
    /// The reference server of x402.
    X402,
    /// A store.
    Redis,
    /// A store.
    Postgres,
}

impl Options {
    fn wants(&self, peer: Peer) -> bool {
        self.only.is_empty() || self.only.contains(&peer)
    }

    /// Where the table is written, if anywhere.
    fn output(&self) -> Option<PathBuf> {
        let whole = self.only.is_empty().then(|| shell::root().join("docs/peers.md"));
        self.output.clone().or(whole)
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    let wrong = || "expected seconds from 0.1 to 600, such as 5 or 0.2".to_owned();
    let seconds: f64 = text.parse().map_err(|_| wrong())?;
    if (0.1..=600.0).contains(&seconds) { Ok(seconds) } else { Err(wrong()) }
}

/// Sets up, builds, measures, prints the table and writes it; `false` if something does not compile.
///
/// # Errors
/// Something cannot be installed or started, or a measurement fails.
pub fn run(options: &Options) -> Result<bool> {
    setup::run()?;
    let built = match &options.binary {
        Some(binary) => Some(fs::canonicalize(binary).with_context(|| format!("cannot find {}", binary.display()))?),
        // The build that every other figure is of: it checks every overflow, and is there already. The peers are built with all optimisation.
        None => demo::build(false)?,
    };
    let Some(millstream) = built else { return Ok(false) };
    let Some(programs) = PeerPrograms::build()? else { return Ok(false) };
    let x402 = shell::root().join("benches/peers/x402");
    setup::node_packages(&x402)?;
    let scratch = Scratch::new(&options.dir.clone().unwrap_or_else(std::env::temp_dir))?;
    let servers = Programs::find(&scratch)?;
    let facts = facts(&scratch.file_system, options)?;

    let mut table = Table::default();
    for lines in LINES {
        table.ours.push(millstream_row(&millstream, lines, options, output)?);
    }
    let seconds = options.seconds.to_string();
    let mut measure = |mut command: Command, server: Option<&Server>| -> Result<()> {
        command.args(["--seconds", &seconds]);
        if let Some(server) = server {
            command.arg("--socket").arg(&server.socket).args(["--server-pid", &server.pid()]);
        }
        let rows = rows(&mut command)?;
        if let Some(row) = rows.iter().find(|row| !is_whole(row, options.seconds)) {
            bail!("{} ({}) ended after {} s: more must be prepared for a machine like this", row.peer, row.setup, row.seconds);
        }
        table.peers.extend(rows);
        Ok(())
    };
    let with = |program: &Path, words: &[&str]| {
        let mut command = Command::new(program);
        command.args(words);
        command
    };
    if options.wants(Peer::Tap) {
        measure(with(&programs.tap, &["verify", "aggregate"]), None)?;
        let server = servers.postgres(&scratch, "postgres-tap")?;
        measure(with(&programs.tap, &["postgres"]), Some(&server))?;
    }
    if options.wants(Peer::Mpp) {
        measure(with(&programs.mpp, &[]), None)?;
    }
    if options.wants(Peer::Alloy) {
        measure(with(&programs.recover_k256, &[]), None)?;
        measure(with(&programs.recover_secp256k1, &[]), None)?;
    }
    if options.wants(Peer::X402) {
        let script = x402.join("bench.mjs").into_os_string();
        let node = |word: &str, rest: &[OsString]| {
            let mut command = Command::new("node");
            command.arg(&script).arg(word).args(rest);
            command
        };
        measure(node("signature", &[]), None)?;
        measure(node("memory", &[]), None)?;
        let dir = scratch.dir("x402-files")?;
        measure(node("file", &["--directory".into(), dir.into()]), None)?;
        let server = servers.redis(&scratch, "redis-x402")?;
        measure(node("redis", &[]), Some(&server))?;
        let mut exact = Command::new("node");
        exact.arg(x402.join("exact.mjs")).arg("--anvil").arg(anvil()?);
        measure(exact, None)?;
    }
    if options.wants(Peer::Redis) {
        let server = servers.redis(&scratch, "redis")?;
        measure(with(&programs.stores, &["redis"]), Some(&server))?;
    }
    if options.wants(Peer::Postgres) {
        let server = servers.postgres(&scratch, "postgres")?;
        measure(with(&programs.stores, &["postgres"]), Some(&server))?;
    }

    println!("{}", table.plain());
    if let Some(path) = options.output() {
        fs::write(&path, table.markdown(&facts)).with_context(|| format!("cannot write {}", path.display()))?;
        eprintln!("written to {}", path.display());
    }
    Ok(true)
}

/// The peers' programs, built.
struct PeerPrograms {
    tap: PathBuf,
    mpp: PathBuf,
    recover_k256: PathBuf,
    recover_secp256k1: PathBuf,
    stores: PathBuf,
}

impl PeerPrograms {
    /// Each package by itself: alloy's signature code is chosen by a feature, and cargo unites features of what is built together.
    fn build() -> Result<Option<Self>> {
        let built = [
            ("millstream-peer-tap", "millstream-peer-tap", None),
            ("millstream-peer-mpp", "millstream-peer-mpp", None),
            ("millstream-peer-recover", "recover-k256", Some("k256")),
            ("millstream-peer-recover", "recover-secp256k1", Some("secp256k1")),
            ("millstream-peer-stores", "millstream-peer-stores", None),
        ]
        .map(|(package, program, feature)| build(package, program, feature));
        let [tap, mpp, recover_k256, recover_secp256k1, stores] = built;
        let all = (tap?, mpp?, recover_k256?, recover_secp256k1?, stores?);
        let (Some(tap), Some(mpp), Some(recover_k256), Some(recover_secp256k1), Some(stores)) = all else { return Ok(None) };
        Ok(Some(Self { tap, mpp, recover_k256, recover_secp256k1, stores }))
    }
}

fn build(package: &str, program: &str, feature: Option<&str>) -> Result<Option<PathBuf>> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| shell::root().join("target"), PathBuf::from);
    let mut command = shell::cargo();
    command.args(["build", "--release", "--locked", "--manifest-path", "benches/peers/Cargo.toml", "--package", package, "--bin", program]);
    command.args(feature.iter().flat_map(|feature| ["--features", feature]));
    command.arg("--target-dir").arg(target.join("peers"));
    demo::executable(&mut command, program)
}

/// The chain that `setup` installs, or the one that the environment names.
fn anvil() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("MILLSTREAM_ANVIL") {
        return Ok(named.into());
    }
    let installed = shell::root().join("contracts/node_modules/@foundry-rs");
    let platforms = fs::read_dir(&installed).with_context(|| format!("cannot list {}", installed.display()))?;
    let mut programs = platforms.filter_map(|entry| Some(entry.ok()?.path().join("bin/anvil"))).filter(|path| path.is_file());
    programs.next().with_context(|| format!("no anvil in {}", installed.display()))
}

/// Runs `millstream bench`, again with more signed beforehand if what was signed ran out.
fn millstream_row(binary: &Path, lines: u32, options: &Options, run: impl Fn(&mut Command) -> Result<String>) -> Result<Row> {
    let warm_up = options.seconds.clamp(WARM_UP_MIN, WARM_UP_MAX).to_string();
    let mut expected = None;
    for _ in 0..ATTEMPTS {
        let mut command = Command::new(binary);
        command.args(["bench", "--json", "--lines", &lines.to_string(), "--channels", CHANNELS, "--connections", CHANNELS]);
        command.args(["--warmup", &warm_up, "--duration", &options.seconds.to_string()]);
        if let Some(rate) = expected {
            command.args(["--expect", &format!("{rate:.0}")]);
        }
        if let Some(dir) = &options.dir {
            command.arg("--dir").arg(dir);
        }
        let document = run(&mut command)?;
        let row = Row::of_bench(&document).with_context(|| format!("millstream bench --lines {lines}"))?;
        if is_whole(&row, options.seconds) {
            return Ok(row);
        }
        expected = Some(2.0 * expected.unwrap_or(0.0_f64).max(row.rate()));
    }
    bail!("millstream bench --lines {lines} ended early {ATTEMPTS} times");
}

/// Whether a window is near enough to the one asked for: what was prepared for it may run out.
fn is_whole(row: &Row, seconds: f64) -> bool {
    row.seconds >= seconds * WINDOW_PART_MIN
}

/// One row for each line that the program prints; at least one.
fn rows(command: &mut Command) -> Result<Vec<Row>> {
    let rows = output(command)?.lines().map(Row::of_line).collect::<Result<Vec<_>>>()?;
    ensure!(!rows.is_empty(), "a program measured nothing");
    Ok(rows)
}

/// What a program prints, shown as it comes.
fn output(command: &mut Command) -> Result<String> {
    shell::announce(command);
    let mut child = command.current_dir(shell::root()).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot run it")?;
    let mut text = String::new();
    if let Some(stdout) = child.stdout.take() {
        for line in std::io::BufReader::new(stdout).lines() {
            let line = line?;
            eprintln!("{line}");
            text.push_str(&line);
            text.push('\n');
        }
    }
    if !child.wait()?.success() {
        bail!("a measurement failed; see above");
    }
    Ok(text)
}

/// The machine, and how the run was started.
fn facts(file_system: &str, options: &Options) -> Result<Facts> {
    let read = |path: &str| fs::read_to_string(path).with_context(|| format!("cannot read {path}"));
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let unknown = || "unknown".to_owned();
    let kib = field(&read("/proc/meminfo")?, "MemTotal").and_then(|value| value.split(' ').next()?.parse::<u64>().ok());
    let memory = kib.map_or_else(unknown, |kib| format!("{} GiB", (kib + (1 << 19)) >> 20));
    let cores = std::thread::available_parallelism()?;
    let load = read("/proc/loadavg")?.split(' ').next().unwrap_or_default().to_owned();
    let compiler = Command::new("rustc").arg("--version").output().context("cannot run rustc")?;
    let mut command = format!("cargo xtask bench-peers --seconds {}", options.seconds);
    if options.binary.is_some() {
        command.push_str(" --binary …");
    }
    if options.dir.is_some() {
        command.push_str(" --dir …");
    }
    Ok(vec![
        ("command", format!("`{command}`")),
        ("processor", format!("{}, {cores} logical cores", field(&read("/proc/cpuinfo")?, "model name").unwrap_or_else(unknown))),
        ("memory", memory),
        ("kernel", read("/proc/sys/kernel/osrelease")?.trim().to_owned()),
        ("data on", file_system.to_owned()),
        ("compiler", String::from_utf8_lossy(&compiler.stdout).split(" (").next().unwrap_or_default().to_owned()),
        ("load average before", load),
    ])
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn options(line: &str) -> Result<Options> {
        Ok(Line::try_parse_from(format!("x {line}").split_whitespace())?.options)
    }

    #[test]
    fn a_part_of_the_peers_does_not_replace_the_whole_table() {
        let whole = options("").expect("read");
        assert!(whole.wants(Peer::Redis) && whole.output().is_some_and(|path| path.ends_with("docs/peers.md")));
        let part = options("--only tap,x402 --seconds 0.2").expect("read");
        assert!(part.wants(Peer::Tap) && part.wants(Peer::X402) && !part.wants(Peer::Redis));
        assert_eq!((part.output(), part.seconds), (None, 0.2));
        assert_eq!(options("--only tap --output a.md").expect("read").output(), Some("a.md".into()));
        for wrong in ["--seconds 0", "--seconds x", "--only etcd"] {
            assert!(options(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_program_that_fails_or_prints_nothing_is_no_measurement() {
        let run = |script: &str| rows(Command::new("sh").args(["-c", script]));
        let line = r#"{"peer":"P","version":"1","setup":"s","verified":"v","durable":"d","payments":1,"seconds":1,"cpu_seconds":1}"#;
        assert_eq!(run(&format!("echo '{line}'; echo '{line}'")).expect("rows").len(), 2);
        for wrong in ["true".to_owned(), format!("echo '{line}'; false"), format!("echo '{line}'; echo x")] {
            assert!(run(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_window_that_ended_early_is_measured_again_with_more() {
        let bench = |enough: &'static str| {
            move |command: &mut Command| {
                let (seconds, payments) = if command.get_args().any(|argument| argument == enough) { (5.0, 500) } else { (0.01, 1) };
                let run = format!(
                    r#"{{"lines_per_signature": 1, "channels": 1, "connections": 1, "frames_in_flight": 1, "payments": {payments},
                        "seconds": {seconds}, "node": {{"cpu_seconds": 1}}, "load": {{"cpu_seconds": 1}}, "chain": null,
                        "exactness": {{"holds": true}}}}"#
                );
                Ok(format!(r#"{{"version": "1", "build": "b", "durability": "d", "failures": [], "scenarios": [{run}]}}"#))
            }
        };
        let row = |enough| millstream_row(Path::new("millstream"), 1, &options("").expect("read"), bench(enough));
        // 100 payments a second in the first run, so 200 are expected in the second, 400 in the third.
        assert_eq!(row("400").expect("the third run is whole").seconds, 5.0);
        assert!(row("never").is_err_and(|error| error.to_string().contains("ended early")));
    }

    #[test]
    fn the_machine_is_described() {
        let facts = facts("ext4", &options("--dir x").expect("read")).expect("facts");
        assert_eq!(facts[0], ("command", "`cargo xtask bench-peers --seconds 5 --dir …`".to_owned()));
        assert!(facts.iter().all(|(_, fact)| !fact.is_empty()), "{facts:?}");
    }
}
