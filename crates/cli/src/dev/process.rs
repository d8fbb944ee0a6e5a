//! A node as a process of its own.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::node::Listening;

/// How long a node may take to stop in order.
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// A child `millstream node`; dropped, it is killed.
pub struct NodeProcess {
    binary: PathBuf,
    config: PathBuf,
    log: PathBuf,
    child: Child,
    listening: Listening,
}

impl NodeProcess {
    /// Starts `binary node --config config`, with its log appended to `log`, and waits until it listens.
    ///
    /// # Errors
    /// It ended instead; the message has the end of its log.
    pub fn start(binary: &Path, config: &Path, log: &Path) -> anyhow::Result<Self> {
        let file = File::options().create(true).append(true).open(log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut child = Command::new(binary)
            .args(["node", "--config"])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        let mut line = String::new();
        let read = child.stdout.take().map(|stdout| BufReader::new(stdout).read_line(&mut line));
        match (read, serde_json::from_str(&line)) {
            (Some(Ok(_)), Ok(listening)) => {
                Ok(Self { binary: binary.to_owned(), config: config.to_owned(), log: log.to_owned(), child, listening })
            }
            _ => {
                // It may still run, having said something else.
                let _ = child.kill();
                let status = child.wait()?;
                bail!("the node did not start ({status}):\n{}", tail(log))
            }
        }
    }

    /// Where it listens.
    #[must_use]
    pub const fn listening(&self) -> &Listening {
        &self.listening
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// The system does not say.
    pub fn ended(&mut self) -> std::io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Kills it at once, as `kill -9` does.
    ///
    /// # Errors
    /// It cannot be killed.
    pub fn kill(&mut self) -> std::io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(|_| ())
    }

    /// Starts it again with the same configuration.
    ///
    /// # Errors
    /// As [`NodeProcess::start`].
    pub fn restart(&mut self) -> anyhow::Result<()> {
        *self = Self::start(&self.binary.clone(), &self.config.clone(), &self.log.clone())?;
        Ok(())
    }

    /// Asks it to stop, and waits.
    ///
    /// # Errors
    /// It did not stop in time, or ended with a failure.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let asked = Command::new("kill").arg(self.pid().to_string()).status()?;
        anyhow::ensure!(asked.success(), "the node cannot be told to stop");
        let deadline = Instant::now() + STOP_DEADLINE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                anyhow::ensure!(status.success(), "the node ended with {status}:\n{}", tail(&self.log));
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("the node did not stop within {} seconds", STOP_DEADLINE.as_secs())
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last lines of a log.
fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}
