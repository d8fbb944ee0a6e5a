//! `millstream ledger`: what anyone can find out about a ledger from the chain alone.

mod audit;
mod leave;
mod rebuild;

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use millstream_chain::{Ledger, Rpc, RpcOptions};
use millstream_prover::{CircuitId, ProverError};
use millstream_recovery::{ExitError, RebuildError, RebuildOptions, RebuildProgress, ServeError};
use millstream_types::{Address, BlockNumber, Hash256};

use crate::channel::ChannelPick;
use crate::context::Context;
use crate::error::{CliError, CliResult, chain_of};

/// `ledger`'s subcommands.
#[derive(Subcommand, Clone, Debug)]
pub enum LedgerCommand {
    /// Rebuild every book, channel and credit from logs and calldata, and compare them with the contract
    Rebuild(RebuildArgs),
    /// Check a provider's ledger from outside: books, sums, deadlines, keys, code
    Audit(AuditArgs),
    /// Take the account's channels out of a halted ledger, with Merkle paths and no proof, and withdraw
    Leave(LeaveArgs),
}

/// Which ledger, and what of it.
#[derive(Args, Clone, Debug)]
pub struct SourceArgs {
    /// JSON-RPC endpoint of the chain; the profile's without this
    #[arg(long, value_name = "URL")]
    pub rpc: Option<String>,
    /// The ledger contract; the profile's without this
    #[arg(long, value_name = "ADDRESS")]
    pub ledger: Option<Address>,
    /// The block of the ledger's deployment, or any before it; looked for without this
    #[arg(long, value_name = "N")]
    pub from_block: Option<u64>,
    /// The last block to read; the newest without this. The endpoint must still have its state
    #[arg(long, value_name = "BLOCK")]
    pub at: Option<u64>,
}

/// `ledger rebuild`.
#[derive(Args, Clone, Debug)]
pub struct RebuildArgs {
    /// Which ledger.
    #[command(flatten)]
    pub source: SourceArgs,
    /// Write everything to this file as one JSON document, and print a summary
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// `ledger audit`.
#[derive(Args, Clone, Debug)]
pub struct AuditArgs {
    /// Which ledger.
    #[command(flatten)]
    pub source: SourceArgs,
    /// The hash of the verifying key that a ceremony made for a circuit; may be given several times
    #[arg(long = "key", value_name = "CIRCUIT=HASH")]
    pub keys: Vec<NamedKey>,
}

/// `ledger leave`.
#[derive(Args, Clone, Debug)]
pub struct LeaveArgs {
    /// The channel: its id, or enough of its first digits; every channel of the account without this
    #[arg(long, value_name = "CHANNEL")]
    pub channel: Option<ChannelPick>,
    /// Halt the ledger first, when its oldest request waits for more than the halt window: for good, and for everyone
    #[arg(long)]
    pub halt: bool,
    /// The block of the ledger's deployment, or any before it; looked for without this
    #[arg(long, value_name = "N")]
    pub from_block: Option<u64>,
}

/// A verifying key's hash for a circuit, written `settle-96=0x…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedKey {
    /// The circuit.
    pub circuit: CircuitId,
    /// The hash of its key.
    pub hash: Hash256,
}

impl FromStr for NamedKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "expected a circuit and the hash of its key, such as settle-96=0x…".to_owned();
        let (name, hash) = text.split_once('=').ok_or_else(wrong)?;
        let circuit = name.parse().map_err(|_| wrong())?;
        Ok(Self { circuit, hash: hash.parse().map_err(|_| wrong())? })
    }
}

/// Runs the command.
///
/// # Errors
/// The chain does not answer, or a check comes out negative.
pub async fn run(context: &Context, command: &LedgerCommand) -> CliResult<()> {
    match command {
        LedgerCommand::Rebuild(args) => rebuild::run(context, args).await,
        LedgerCommand::Audit(args) => audit::run(context, args).await,
        LedgerCommand::Leave(args) => leave::run(context, args).await,
    }
}

impl SourceArgs {
    /// Connects to the ledger. The profile is read only for what the command line leaves out.
    async fn ledger(&self, context: &Context) -> CliResult<Ledger> {
        let (url, address) = match (&self.rpc, self.ledger) {
            (Some(url), Some(address)) => (url.clone(), address),
            (url, address) => {
                let profile = context.profile()?;
                let url = match url {
                    Some(url) => url.clone(),
                    None => profile.rpc_url()?.to_owned(),
                };
                (url, address.map_or_else(|| profile.ledger(), Ok)?)
            }
        };
        let rpc = Rpc::connect(&url, RpcOptions::default()).await?;
        Ok(Ledger::attach(rpc, address).await?)
    }

    fn options(&self) -> RebuildOptions {
        let (from, until) = (self.from_block.map(BlockNumber::new), self.at.map(BlockNumber::new));
        RebuildOptions { from, until, ..RebuildOptions::default() }
    }
}

/// Keeps a spinner up to date.
fn watch(spinner: &ProgressBar) -> impl FnMut(RebuildProgress) + Send + '_ {
    |RebuildProgress { block, until, events }| {
        spinner.set_message(format!("block {} of {}, {events} events", block.height(), until.height()));
    }
}

/// A time span in the two largest units that it has.
#[must_use]
pub fn for_people(secs: u64) -> String {
    let parts = [(secs / 86_400, "d"), (secs / 3_600 % 24, "h"), (secs / 60 % 60, "min"), (secs % 60, "s")];
    let first = parts.iter().position(|(count, _)| *count > 0).unwrap_or(parts.len() - 1);
    let shown = parts[first..].iter().take(2).enumerate().filter(|(place, (count, _))| *place == 0 || *count > 0);
    let text: Vec<String> = shown.map(|(_, (count, unit))| format!("{count} {unit}")).collect();
    text.join(" ")
}

impl From<RebuildError> for CliError {
    fn from(error: RebuildError) -> Self {
        let message = chain_of(&error);
        match error {
            RebuildError::Chain(error) => error.into(),
            RebuildError::LateStart => {
                Self::usage("late_start", message).hint("give --from-block the block of the deployment, or leave it out")
            }
            RebuildError::Deltas { .. } => Self::unavailable("deltas_unreadable", message),
            RebuildError::Tier { .. } => Self::refused("not_a_ledger", message),
            RebuildError::Root { .. }
            | RebuildError::ContractRoot { .. }
            | RebuildError::Contract { .. }
            | RebuildError::Contradiction { .. } => Self::check_failed("ledger_contradicts", message)
                .hint("the endpoint leaves out or changes what the chain has, or the ledger is not one of ours; try another endpoint"),
        }
    }
}

impl From<ServeError> for CliError {
    fn from(error: ServeError) -> Self {
        let message = chain_of(&error);
        match error {
            ServeError::Chain(error) => error.into(),
            ServeError::Prover(ProverError::PublicChain { .. }) => Self::refused("insecure_keys", message),
            ServeError::Prover(ProverError::ForeignKey { .. }) => Self::refused("foreign_key", message),
            ServeError::Prover(ProverError::NotPinned { .. } | ProverError::KeyMismatch { .. } | ProverError::InsecurePin { .. }) => {
                Self::refused("key_not_pinned", message)
            }
            ServeError::Prover(_) | ServeError::Circuit(_) | ServeError::Internal { .. } => Self::failed("proof", message),
        }
    }
}

impl From<ExitError> for CliError {
    fn from(error: ExitError) -> Self {
        let message = chain_of(&error);
        match error {
            ExitError::Rebuild(error) => error.into(),
            ExitError::Serve(error) => error.into(),
            ExitError::Chain(error) => error.into(),
            ExitError::UnknownChannel { .. } => Self::usage("channel_unknown", message),
            ExitError::NotPayer { .. } => Self::refused("not_payer", message),
            ExitError::NotHalted { .. } => {
                Self::unavailable("not_halted", message).hint("until then, `millstream channel exit` needs no halt")
            }
            ExitError::NothingWaits => {
                Self::refused("not_halted", message).hint("`millstream channel exit` closes a channel without the provider")
            }
            ExitError::HaltNotWanted { .. } => Self::refused("halt_not_wanted", message).hint("give --halt to halt it"),
            ExitError::Path { .. } => Self::failed("path", message),
            ExitError::Refused(_) | ExitError::Unplaceable { .. } => Self::refused("exit_refused", message),
            ExitError::Amount { .. } | ExitError::Payout { .. } => Self::check_failed("exit_amount", message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_spans_are_for_people() {
        for (secs, text) in [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3_661, "1 h 1 min"), (86_400, "1 d"), (90_061, "1 d 1 h")] {
            assert_eq!(for_people(secs), text);
        }
    }

    #[test]
    fn keys_are_named_by_circuit() {
        let hash = format!("0x{}", "ab".repeat(32));
        let key: NamedKey = format!("register-24={hash}").parse().expect("a key");
        assert_eq!((key.circuit.to_string(), key.hash.to_string()), ("register-24".to_owned(), hash.clone()));
        for text in ["", "settle-24", "close-24=0x", &format!("settle-0={hash}"), &format!("settle-24={}", &hash[..60])] {
            assert!(text.parse::<NamedKey>().is_err(), "{text}");
        }
    }
}
