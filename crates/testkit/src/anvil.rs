//! The process.

use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use crate::output::{Listening, Output};
use crate::{AnvilError, AnvilOptions, binary, rpc};

/// A running anvil. Dropping the handle ends the process and what it started.
///
/// A caller that is itself killed outright cannot end it.
pub struct Anvil {
    child: Child,
    address: SocketAddr,
    chain_id: u64,
    output: Output,
}

impl Anvil {
    /// Starts anvil and waits until it answers.
    ///
    /// # Errors
    /// [`AnvilError`]: no binary, a process that did not start, ended, or stayed silent.
    pub fn spawn(options: &AnvilOptions) -> Result<Self, AnvilError> {
        let deadline = Instant::now() + options.start_deadline;
        let binary = options.binary.clone().map_or_else(binary::find_anvil, Ok)?;
        let mut child = Command::new(&binary)
            .args(options.command_line())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|source| AnvilError::Start { binary: binary.clone(), source })?;
        let output = Output::default();
        child.stdout.take().into_iter().for_each(|stream| output.drain(stream));
        child.stderr.take().into_iter().for_each(|stream| output.drain(stream));

        // From here on the handle's drop ends the process.
        let unset = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut anvil = Self { child, address: unset, chain_id: options.chain_id, output };
        let silent =
            |anvil: &Self| AnvilError::Silent { binary: binary.clone(), waited: options.start_deadline, output: anvil.recent_output() };
        anvil.address = match anvil.output.wait_for_address(deadline) {
            Listening::Address(address) => address.parse().map_err(|_| silent(&anvil))?,
            Listening::Ended => return Err(AnvilError::Exited { binary, output: anvil.recent_output() }),
            Listening::TimedOut => return Err(silent(&anvil)),
        };
        anvil.call("eth_chainId", &json!([]))?;
        Ok(anvil)
    }

    /// The URL of its JSON-RPC, such as `http://127.0.0.1:38211`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The chain id it was started with.
    #[must_use]
    pub const fn chain_id(&self) -> u64 {
        self.chain_id
    }

    /// The process that was started, which leads a group of its own with all that it starts.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The last lines it wrote.
    #[must_use]
    pub fn recent_output(&self) -> String {
        self.output.tail()
    }

    /// Calls a JSON-RPC method, such as `evm_mine` or `anvil_reorg`, and returns its result.
    ///
    /// # Errors
    /// [`AnvilError::Connection`], [`AnvilError::Malformed`] or [`AnvilError::Refused`].
    pub fn call(&self, method: &str, params: &Value) -> Result<Value, AnvilError> {
        rpc::call(self.address, method, params)
    }

    /// Makes so many blocks.
    ///
    /// # Errors
    /// As [`Anvil::call`].
    pub fn mine(&self, blocks: u64) -> Result<(), AnvilError> {
        self.call("anvil_mine", &json!([format!("{blocks:#x}")])).map(drop)
    }

    /// Moves the chain's clock on by so many seconds and makes a block at that time.
    ///
    /// # Errors
    /// As [`Anvil::call`].
    pub fn advance_secs(&self, secs: u64) -> Result<(), AnvilError> {
        self.call("evm_increaseTime", &json!([secs]))?;
        self.mine(1)
    }

    /// Replaces the last `depth` blocks by empty ones with other hashes; their transactions are gone.
    ///
    /// # Errors
    /// As [`Anvil::call`].
    pub fn reorg(&self, depth: u64) -> Result<(), AnvilError> {
        self.call("anvil_reorg", &json!([depth, []])).map(drop)
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        // The child is not reaped before this, so its id, which is also its group's, cannot have passed to another process.
        if let Ok(None) = self.child.try_wait() {
            if let Some(group) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
                // Fails only when the group is gone already.
                let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
