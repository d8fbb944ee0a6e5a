//! The demonstration: builds the one binary and hands over to it.

use std::ffi::OsString;
use std::io::BufReader;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use cargo_metadata::Message;
use clap::Args;

use crate::{setup, shell};

const BINARY: &str = "millstream";

/// Options of the demonstration. All but `release` go to the binary as they are.
#[derive(Args, Debug, Default)]
pub struct Options {
    /// Print the results as JSON.
    #[arg(long)]
    json: bool,
    /// How many payments to make.
    #[arg(long, value_name = "N")]
    payments: Option<u64>,
    /// How many channels to spread them over.
    #[arg(long, value_name = "N")]
    channels: Option<u32>,
    /// Build with full optimisation: slower to start, and the figures mean something.
    #[arg(long)]
    release: bool,
    /// Further options for `millstream demo`.
    #[arg(last = true)]
    rest: Vec<OsString>,
}

impl Options {
    /// What the binary is started with.
    fn arguments(&self) -> Vec<OsString> {
        let mut arguments = vec![OsString::from("demo")];
        if self.json {
            arguments.push("--json".into());
        }
        for (name, value) in [("--payments", self.payments), ("--channels", self.channels.map(u64::from))] {
            if let Some(value) = value {
                arguments.extend([name.into(), value.to_string().into()]);
            }
        }
        arguments.extend(self.rest.iter().cloned());
        arguments
    }
}

/// Sets up, builds, and replaces this process by the demonstration; `false` if the binary does not build.
///
/// # Errors
/// Something cannot be installed, built or started.
pub fn run(options: &Options) -> Result<bool> {
    setup::run()?;
    let Some(binary) = build(options.release)? else { return Ok(false) };
    let failure = Command::new(&binary).args(options.arguments()).current_dir(shell::root()).exec();
    Err(failure).with_context(|| format!("cannot run {}", binary.display()))
}

/// Builds the binary and says where cargo put it; `None` if it does not compile.
pub(crate) fn build(release: bool) -> Result<Option<PathBuf>> {
    let mut command = shell::cargo();
    // The features of the whole workspace, as the tests are built: with `--package` alone RocksDB would be compiled a second time.
    command.args(["build", "--workspace", "--bin", BINARY]);
    if release {
        command.arg("--release");
    }
    executable(&mut command, BINARY)
}

/// Runs a build and says where cargo put that program; `None` if it does not compile.
pub(crate) fn executable(command: &mut Command, program: &str) -> Result<Option<PathBuf>> {
    command.arg("--message-format=json-render-diagnostics");
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot run cargo")?;
    let stdout = child.stdout.take().context("cargo has no output")?;
    let mut binary = None;
    for message in Message::parse_stream(BufReader::new(stdout)) {
        if let Message::CompilerArtifact(artifact) = message?
            && artifact.target.name == program
        {
            binary = artifact.executable.or(binary);
        }
    }
    if !child.wait()?.success() {
        return Ok(None);
    }
    match binary {
        Some(path) => Ok(Some(path.into_std_path_buf())),
        None => bail!("cargo built no program {program}"),
    }
}

#[cfg(test)]
mod tests {
    use super::Options;

    #[test]
    fn options_reach_the_binary() {
        let options = Options { json: true, payments: Some(1000), channels: Some(4), release: true, rest: vec!["--keep".into()] };
        assert_eq!(options.arguments(), ["demo", "--json", "--payments", "1000", "--channels", "4", "--keep"]);
        assert_eq!(Options::default().arguments(), ["demo"]);
    }
}
