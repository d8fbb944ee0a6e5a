//! How a development chain is to behave.

use std::path::PathBuf;
use std::time::Duration;

/// The mnemonic behind [`crate::DEV_ACCOUNTS`]; public, so the keys are worthless on any real chain.
pub const DEV_MNEMONIC: &str = "test test test test test test test test test test test junk";

/// When blocks are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mining {
    /// One block for each transaction.
    #[default]
    EachTransaction,
    /// One block each so many seconds, at least one.
    IntervalSecs(u64),
    /// Only when asked to (`evm_mine`).
    Manual,
}

/// How to start anvil. The default suits tests: chain 31337, ten accounts, a block for each transaction.
#[derive(Clone, Debug)]
pub struct AnvilOptions {
    /// The chain id.
    pub chain_id: u64,
    /// When blocks are made.
    pub mining: Mining,
    /// The mnemonic of the funded accounts.
    pub mnemonic: String,
    /// How many accounts are funded.
    pub accounts: u16,
    /// The port on 127.0.0.1; 0 lets the operating system choose a free one.
    pub port: u16,
    /// The binary, instead of looking for one.
    pub binary: Option<PathBuf>,
    /// How long the process has until it answers.
    pub start_deadline: Duration,
    /// Further arguments, as anvil takes them.
    pub arguments: Vec<String>,
}

impl Default for AnvilOptions {
    fn default() -> Self {
        Self {
            chain_id: 31_337,
            mining: Mining::default(),
            mnemonic: DEV_MNEMONIC.to_owned(),
            accounts: 10,
            port: 0,
            binary: None,
            start_deadline: Duration::from_secs(30),
            arguments: Vec::new(),
        }
    }
}

impl AnvilOptions {
    /// These options with another way of making blocks.
    #[must_use]
    pub fn with_mining(mut self, mining: Mining) -> Self {
        self.mining = mining;
        self
    }

    /// These options with another chain id.
    #[must_use]
    pub fn with_chain_id(mut self, chain_id: u64) -> Self {
        self.chain_id = chain_id;
        self
    }

    /// These options with a port that the caller chose.
    #[must_use]
    pub fn with_port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    pub(crate) fn command_line(&self) -> Vec<String> {
        let mut arguments: Vec<String> = ["--host", "127.0.0.1", "--port"].map(str::to_owned).into();
        arguments.push(self.port.to_string());
        for (name, value) in
            [("--chain-id", self.chain_id.to_string()), ("--accounts", self.accounts.to_string()), ("--mnemonic", self.mnemonic.clone())]
        {
            arguments.extend([name.to_owned(), value]);
        }
        // By default anvil writes the whole state after each old block to the user's home directory: gigabytes after some thousand blocks.
        arguments.extend(["--prune-history".to_owned(), STATES_KEPT.to_string()]);
        match self.mining {
            Mining::EachTransaction => {}
            Mining::IntervalSecs(secs) => arguments.extend(["--block-time".to_owned(), secs.max(1).to_string()]),
            Mining::Manual => arguments.push("--no-mining".to_owned()),
        }
        arguments.extend(self.arguments.iter().cloned());
        arguments
    }
}

/// Blocks whose state anvil can still look up or go back to.
const STATES_KEPT: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_arguments() {
        let check = |options: AnvilOptions, present: &[&str], absent: &[&str]| {
            let line = options.command_line().join(" ");
            present.iter().for_each(|text| assert!(line.contains(text), "{text} in {line}"));
            absent.iter().for_each(|text| assert!(!line.contains(text), "{text} not in {line}"));
        };
        check(AnvilOptions::default(), &["--port 0", "--chain-id 31337", "junk"], &["--block-time", "--no-mining"]);
        check(AnvilOptions::default().with_mining(Mining::IntervalSecs(0)), &["--block-time 1"], &["--no-mining"]);
        check(AnvilOptions::default().with_mining(Mining::Manual).with_port(8545), &["--no-mining", "--port 8545"], &["--block-time"]);
        check(AnvilOptions::default().with_chain_id(8453), &["--chain-id 8453"], &[]);
    }
}
