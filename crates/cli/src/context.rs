//! What every command starts from: the global flags, and on demand the profile, the chain and the admin listener.

use std::path::PathBuf;

use clap::Args;
use millstream_chain::{ChainError, ErrorKind, Ledger, Rpc, RpcOptions};

use crate::admin::Admin;
use crate::error::{CliError, CliResult, Exit, chain_of};
use crate::output::Output;
use crate::profile::{self, PROFILE_ENV, Profile};
use crate::wallet::Wallet;

/// The flags that every command takes.
#[derive(Args, Clone, Debug, Default)]
pub struct GlobalArgs {
    /// Print one JSON document; the default when standard output is no terminal
    #[arg(long, global = true)]
    pub json: bool,
    /// The profile; the default is ./millstream.toml, else the one that `millstream dev` wrote
    #[arg(long, global = true, value_name = "FILE", env = PROFILE_ENV)]
    pub profile: Option<PathBuf>,
    /// No progress and no notes on standard error
    #[arg(long, global = true)]
    pub quiet: bool,
}

/// The surroundings of one command.
#[derive(Clone, Debug)]
pub struct Context {
    /// Where results go.
    pub output: Output,
    profile: Option<PathBuf>,
}

impl Context {
    /// The surroundings that the flags ask for.
    #[must_use]
    pub fn new(global: &GlobalArgs) -> Self {
        Self { output: Output::detect(global.json, global.quiet), profile: global.profile.clone() }
    }

    /// Whether a profile was named, by flag or variable: otherwise the usual places are looked at.
    #[must_use]
    pub const fn names_profile(&self) -> bool {
        self.profile.is_some()
    }

    /// Reads the profile.
    ///
    /// # Errors
    /// There is none, or it is wrong.
    pub fn profile(&self) -> CliResult<Profile> {
        profile::find(self.profile.as_deref())
    }

    /// Reads the profile, for a command that can do without.
    ///
    /// # Errors
    /// It is wrong, or is not where it was said to be.
    pub fn profile_if_any(&self) -> CliResult<Option<Profile>> {
        match self.profile() {
            Ok(profile) => Ok(Some(profile)),
            Err(error) if error.code == "profile_missing" => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The provider's admin listener.
///
/// # Errors
/// The profile does not name it.
pub fn admin(profile: &Profile) -> CliResult<Admin> {
    Admin::new(profile.admin_url()?)
}

/// The admin listener that a flag names. The operator's token goes with each question, so it is asked on loopback only.
///
/// # Errors
/// It is elsewhere, or the HTTP client cannot be built.
pub(crate) fn admin_named(flag: &str, url: &str) -> CliResult<Admin> {
    if !profile::is_loopback_http(url) {
        let message = format!("{flag} is {url}: admin listeners are on loopback only, so only http:// there is asked");
        return Err(CliError::usage("admin_url", message));
    }
    Admin::new(url)
}

/// The ledger, for reading.
///
/// # Errors
/// The profile does not name it, or the chain does not answer.
pub async fn ledger(profile: &Profile) -> CliResult<Ledger> {
    let rpc = Rpc::connect(profile.rpc_url()?, RpcOptions::default()).await?;
    Ok(Ledger::attach(rpc, profile.ledger()?).await?)
}

/// The payer's account on the ledger, for transactions.
///
/// # Errors
/// The profile does not name the account's key or the ledger, or the chain does not answer.
pub async fn wallet(profile: &Profile) -> CliResult<Wallet> {
    let secret = profile::read_secret(&profile.payer_key_file()?)?;
    Wallet::new(ledger(profile).await?, &secret)
}

impl From<ChainError> for CliError {
    fn from(error: ChainError) -> Self {
        let (exit, code) = match error.kind() {
            ErrorKind::Rejection => (Exit::Refused, "chain_refused"),
            ErrorKind::Unavailable => (Exit::Unavailable, "chain_unavailable"),
            ErrorKind::Fault => (Exit::Failed, "chain_fault"),
        };
        let failed = Self::new(exit, code, chain_of(&error));
        match error {
            ChainError::Unavailable { .. } | ChainError::TimedOut { .. } | ChainError::InvalidEndpoint => {
                failed.hint("is the chain's RPC endpoint running? check chain.rpc_url in the profile")
            }
            ChainError::NoContract { .. } | ChainError::WrongChain { .. } => {
                failed.hint("check chain.ledger and chain.rpc_url in the profile")
            }
            ChainError::Unconfirmed { .. } => failed.hint("run the same command again: it looks for what is on its way first"),
            ChainError::Inherited { .. } => {
                failed.hint("wait until the account's earlier transactions are mined, then run the command again")
            }
            _ => failed,
        }
    }
}
