//! Coverage-guided fuzzing of what HTTP 402 reads: builds the targets of `proptests/fuzz` with coverage counters and runs them.
//!
//! On stable Rust: the counters are a pass of LLVM's that needs no runtime but libFuzzer's, which the crate `libfuzzer-sys` compiles. No
//! sanitizer is used: the code is safe Rust, and its panics are what is looked for.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::shell;

/// The targets, those that take longest to find something first.
const TARGETS: [&str; 5] = ["gate", "mpp", "x402", "meter", "money"];
/// What LLVM is told: an edge counter and a table of addresses for each function, and comparisons as hints.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
     -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares";
/// An input that takes longer than this is a find.
const INPUT_SECS_MAX: u32 = 10;
/// Beyond the longest header, in JSON: limits have to be reached.
const INPUT_BYTES_MAX: u32 = 48 * 1024;
const MEMORY_MIB_MAX: u32 = 2_048;
/// Targets at one time.
const JOBS_MAX: usize = 2;
/// Lines of a target's log that are shown when it found something.
const LOG_LINES: usize = 60;

/// Options of fuzzing.
#[derive(Args, Debug)]
pub struct Options {
    /// How long each target runs.
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Only these [default: all].
    #[arg(value_name = "TARGET", value_parser = TARGETS)]
    targets: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { seconds: 60, targets: Vec::new() }
    }
}

/// Builds and runs the targets, two at a time; `false` if one of them found something, or does not compile.
///
/// What new inputs reach is kept beside the build, so that the next run goes on from there; an input that breaks a promise is kept in
/// `finds` there, and its path printed.
///
/// # Errors
/// Something cannot be started or written.
pub fn run(options: &Options) -> Result<bool> {
    let targets: Vec<&str> = match options.targets.as_slice() {
        [] => TARGETS.to_vec(),
        named => named.iter().map(String::as_str).collect(),
    };
    let package = shell::root().join("proptests/fuzz");
    let dir = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| shell::root().join("target"), PathBuf::from).join("fuzz");
    let host = host()?;
    let mut build = shell::cargo();
    build.args(["build", "--release", "--target", &host, "--manifest-path"]).arg(package.join("Cargo.toml"));
    build.arg("--target-dir").arg(&dir).env("RUSTFLAGS", COVERAGE).env_remove("CARGO_ENCODED_RUSTFLAGS");
    if !shell::succeeds(&mut build)? {
        return Ok(false);
    }
    let programs = dir.join(host).join("release");
    let open = Mutex::new(targets.into_iter());
    let next = || open.lock().ok().and_then(|mut open| open.next());
    let jobs = std::thread::available_parallelism().map_or(1, usize::from).min(JOBS_MAX);
    std::thread::scope(|scope| {
        let work = || {
            let mut holds = true;
            while let Some(target) = next() {
                holds &= fuzz(&programs.join(target), target, &package.join("corpus").join(target), &dir, options.seconds)?;
            }
            Ok(holds)
        };
        let threads: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        let results = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| bail!("a thread panicked")));
        results.collect::<Result<Vec<bool>>>().map(|holds| holds.into_iter().all(|holds| holds))
    })
}

/// Runs one target; whether all that it tried held.
fn fuzz(program: &Path, target: &str, corpus: &Path, dir: &Path, seconds: u32) -> Result<bool> {
    let (reached, finds) = (dir.join("corpus").join(target), dir.join("finds"));
    for dir in [&reached, &finds] {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    let log = dir.join(format!("{target}.log"));
    let file = fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut command = Command::new(program);
    command
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={INPUT_SECS_MAX}"))
        .arg(format!("-max_len={INPUT_BYTES_MAX}"));
    command.arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}")).arg(format!("-artifact_prefix={}/{target}-", finds.display()));
    // The first folder is the one that inputs are written to.
    command.arg("-print_final_stats=1").arg(&reached).arg(corpus);
    shell::announce(&command);
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).status();
    let holds = status.with_context(|| format!("cannot run {}", program.display()))?.success();
    let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    if holds {
        let runs = stat(&text, "stat::number_of_executed_units");
        ensure!(runs.is_some_and(|runs| runs > 0), "{target} says nothing of what it tried: see {}", log.display());
        println!("fuzz {target}: {} inputs tried, nothing found", runs.unwrap_or_default());
    } else {
        let lines: Vec<&str> = text.lines().collect();
        let shown = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
        eprintln!("{shown}\nerror: fuzz {target} found something: see {} and {}", log.display(), finds.display());
    }
    Ok(holds)
}

fn stat(log: &str, name: &str) -> Option<u64> {
    log.lines().rev().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok())
}

/// The platform of this machine. Named as a target, so that build scripts and macros are built without counters.
fn host() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let said = Command::new(rustc).arg("-vV").current_dir(shell::root()).output().context("cannot run rustc")?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    text.lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(str::to_owned)
        .context("rustc does not say what it compiles for")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_the_log() {
        let log = "#2 INITED\nstat::number_of_executed_units: 12345\nstat::peak_rss_mb:              30\n";
        assert_eq!(stat(log, "stat::number_of_executed_units"), Some(12_345));
        assert_eq!(stat(log, "stat::peak_rss_mb"), Some(30));
        assert_eq!(stat(log, "stat::new_units_added"), None);
    }

    #[test]
    fn every_target_is_run() {
        let mut files: Vec<_> = fs::read_dir(shell::root().join("proptests/fuzz/targets"))
            .expect("listed")
            .map(|entry| entry.expect("listed").path().file_stem().expect("a name").to_string_lossy().into_owned())
            .collect();
        let mut targets = TARGETS.map(str::to_owned);
        files.sort();
        targets.sort();
        assert_eq!(files, targets);
    }
}
