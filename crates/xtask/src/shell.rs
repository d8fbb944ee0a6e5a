//! Running other programs: in the repository, with their output streamed.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

/// The repository's root.
#[must_use]
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// The cargo that runs this task, working in the repository's root.
#[must_use]
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    // `cargo run` sets it for this program. Left there, a build script that watches it (ring's does) would run again, and most of the tree
    // be compiled again, each time that cargo is called by this program and by hand in turn.
    command.current_dir(root()).env_remove("CARGO_MANIFEST_DIR");
    command
}

/// A script of `contracts/package.json`.
#[must_use]
pub fn npm_script(name: &str) -> Command {
    let mut command = Command::new("npm");
    command.args(["run", "--silent", name]).current_dir(root().join("contracts"));
    command
}

/// Says what runs, runs it, and says whether it succeeded.
///
/// # Errors
/// The program cannot be started.
pub fn succeeds(command: &mut Command) -> Result<bool> {
    announce(command);
    let status = command.status().with_context(|| format!("cannot run {}", program(command)))?;
    Ok(status.success())
}

/// As [`succeeds`], and shows `line` each line of standard output after passing it on.
///
/// # Errors
/// The program cannot be started, or its output cannot be passed on.
pub fn succeeds_with_lines(command: &mut Command, mut line: impl FnMut(&str)) -> Result<bool> {
    announce(command);
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot run {}", program(command)))?;
    if let Some(stdout) = child.stdout.take() {
        let mut reader = BufReader::new(stdout);
        let mut bytes = Vec::new();
        while reader.read_until(b'\n', &mut bytes)? > 0 {
            std::io::stdout().write_all(&bytes)?;
            line(String::from_utf8_lossy(&bytes).trim_end());
            bytes.clear();
        }
        std::io::stdout().flush()?;
    }
    Ok(child.wait()?.success())
}

/// Whether a program of that name can be started.
#[must_use]
pub fn is_installed(name: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(name).is_file()))
}

/// Says what is about to run, on standard error, so that the output of tasks stays clean.
pub fn announce(command: &Command) {
    let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
    eprintln!("\n$ {} {}", program(command), arguments.join(" "));
}

fn program(command: &Command) -> String {
    Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned()
}
