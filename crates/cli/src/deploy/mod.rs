//! `millstream deploy`: everything that a provider needs on a chain, with a dry run before it and a manifest after it.
//!
//! Every address is known before anything is sent (`millstream_chain::Blueprint`), so a run can be repeated: it sends what is missing and nothing
//! else, and reads everything back before it writes the manifest.

mod manifest;
mod node_config;
mod plan;
mod verify;
mod view;

use std::io::{IsTerminal, Write, stderr, stdin};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use millstream_chain::{Blueprint, ChainError, ChainKey, Comparison, Forecast, Rpc, RpcOptions, Submitter, SubmitterOptions};
use millstream_types::{Address, ChainId};
use tokio::task::spawn_blocking;

pub use manifest::{ContractEntry, LedgerEntry, Made, Manifest, TierEntry, TokenEntry, VerifierEntry};
pub use plan::{KeySource, KeyedPlan, Plan, PlanArgs, Token, Tokens};
pub use verify::VerifyArgs;

use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::output::View;
use crate::profile;
use crate::progress::spinner;
use view::{DeployedView, PlanView};

/// Blocks that must hold the last transaction before everything is read back, on chains that are not for development.
const CONFIRMATIONS: u64 = 12;

/// `millstream deploy`.
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct DeployArgs {
    /// Another thing to do than to deploy.
    #[command(subcommand)]
    pub command: Option<DeployCommand>,
    /// What to deploy.
    #[command(flatten)]
    pub plan: PlanArgs,
    /// Send nothing: work everything out, look at what is there, simulate, and say what it would cost
    #[arg(long)]
    pub dry_run: bool,
    /// With --dry-run: the account that would pay the gas, instead of one whose key is at hand
    #[arg(long, value_name = "ADDRESS", requires = "dry_run")]
    pub from: Option<Address>,
    /// Do not ask before sending
    #[arg(long)]
    pub yes: bool,
    /// Blocks that must hold the last transaction before everything is read back; 12 without this, 1 on a development chain
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub confirmations: Option<u64>,
    /// Where the manifest goes; deployment-CHAIN-LEDGER.json in the working directory without this
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Write a node's configuration for the ledger to this new file
    #[arg(long, value_name = "FILE")]
    pub node_config: Option<PathBuf>,
}

/// `deploy`'s subcommands.
#[derive(Subcommand, Clone, Debug)]
pub enum DeployCommand {
    /// Check a manifest against the chain and against this build
    Verify(VerifyArgs),
}

/// Runs the command.
///
/// # Errors
/// What is wrong with the plan, what the chain refuses, or what is not as it should be afterwards.
pub async fn run(context: &Context, args: &DeployArgs) -> CliResult<()> {
    match &args.command {
        Some(DeployCommand::Verify(args)) => verify::run(context, args).await,
        None => deploy(context, args).await,
    }
}

async fn deploy(context: &Context, args: &DeployArgs) -> CliResult<()> {
    let plan = args.plan.resolve(context)?;
    if let Some(path) = args.node_config.as_ref().filter(|path| path.exists()) {
        return Err(CliError::usage("file_exists", format!("{} is there already", path.display())));
    }
    let rpc = match plan.chain_id {
        Some(chain) => Rpc::connect_to(&plan.rpc_url, chain, RpcOptions::default()).await,
        None => Rpc::connect(&plan.rpc_url, RpcOptions::default()).await,
    };
    let rpc = rpc.map_err(chain_error)?;
    // Before any other question: development keys on a public chain (spec L-23).
    plan.keys.provenance().check(rpc.chain()).map_err(chain_error)?;
    let account = Account::of(context, args, &plan)?;

    let (source, own) = (plan.keys, plan.clone());
    let turning = spinner(&context.output, "loading the verifying keys");
    let keyed = spawn_blocking(move || own.with_keys()).await.map_err(|error| CliError::failed("internal", error.to_string()));
    turning.finish_and_clear();
    let keyed = keyed??;
    let turning = spinner(&context.output, "simulating");
    let drawn = async {
        let blueprint = Blueprint::draw(&rpc, &keyed.deploy).await?;
        let forecast = blueprint.forecast(&rpc, account.address()).await?;
        Ok::<_, ChainError>((blueprint, forecast))
    };
    let drawn = drawn.await;
    turning.finish_and_clear();
    let (blueprint, forecast) = drawn.map_err(chain_error)?;
    let view = PlanView::new(account.address(), source, &keyed, &blueprint, &forecast);
    let Account::Key(key) = account else { return context.output.show(&view) };
    if args.dry_run {
        return context.output.show(&view);
    }

    let path = args.out.clone().unwrap_or_else(|| manifest_file(&blueprint));
    let earlier = earlier_manifest(&path, &blueprint)?;
    confirm(args, &view, &forecast, rpc.chain())?;
    let options = SubmitterOptions::on(rpc.chain());
    let submitter = Submitter::new(rpc.clone(), key, options);
    let again = "run the same command again: it goes on where this one stopped";
    let sent = blueprint.build(&submitter, |role, address| context.output.note(&format!("sending: {role}, to be at {address}"))).await;
    let deployment = sent.map_err(|error| with_hint(chain_error(error), again))?;
    let confirmations = args.confirmations.unwrap_or(if rpc.chain().is_development() { 1 } else { CONFIRMATIONS });
    let deep = deployment.await_confirmations(&rpc, confirmations, options.poll_interval, options.wait_max).await;
    deep.map_err(|error| with_hint(chain_error(error), again))?;
    let compared = read_back(&rpc, &blueprint).await?;

    let made = Made { deployer: submitter.account(), block: compared.block, block_hash: compared.block_hash };
    let manifest = Manifest::of(source, &keyed, &blueprint.inventory, &deployment, made, earlier.as_ref());
    manifest.write(&path)?;
    if let Some(path) = &args.node_config {
        node_config::write(&manifest, &plan.rpc_url, path)?;
    }
    context.output.show(&DeployedView::new(&deployment, manifest, &path, args.node_config.as_deref()))
}

/// Who pays.
enum Account {
    /// Its key is at hand.
    Key(ChainKey),
    /// Only its address is known: enough to simulate.
    Address(Address),
}

impl Account {
    fn of(context: &Context, args: &DeployArgs, plan: &Plan) -> CliResult<Self> {
        if let Some(address) = args.from {
            return Ok(Self::Address(address));
        }
        let path = match &plan.key_file {
            Some(path) => path.clone(),
            None => context.profile()?.payer_key_file()?,
        };
        let wrong = |_| CliError::usage("key_file", format!("the key file {} holds no account's key", path.display()));
        let secret = profile::read_secret(&path)?;
        ChainKey::from_bytes(&secret).map(Self::Key).map_err(wrong)
    }

    const fn address(&self) -> Address {
        match self {
            Self::Address(address) => *address,
            Self::Key(key) => key.address(),
        }
    }
}

/// The usual name of a manifest: one for each ledger.
fn manifest_file(blueprint: &Blueprint) -> PathBuf {
    PathBuf::from(format!("deployment-{}-{}.json", blueprint.chain, blueprint.inventory.ledger.address))
}

/// The manifest that a run of the same plan left, whose transactions are kept. Nothing else is written over.
fn earlier_manifest(path: &Path, blueprint: &Blueprint) -> CliResult<Option<Manifest>> {
    if !path.exists() {
        return Ok(None);
    }
    let other = || {
        let message = format!("{} is there already, and is no manifest of this ledger", path.display());
        CliError::usage("file_exists", message).hint("name another file with --out")
    };
    let manifest = Manifest::read(path).map_err(|_| other())?;
    let is_same = manifest.chain_id == blueprint.chain.get() && manifest.ledger.address == blueprint.inventory.ledger.address;
    if is_same { Ok(Some(manifest)) } else { Err(other()) }
}

/// Refuses what cannot be paid, and asks. Nothing is asked when nothing is missing.
fn confirm(args: &DeployArgs, view: &PlanView, forecast: &Forecast, chain: ChainId) -> CliResult<()> {
    if !forecast.sends_something() {
        return Ok(());
    }
    if forecast.cost_wei() > forecast.balance_wei {
        let (cost, balance) = (forecast.cost_wei(), forecast.balance_wei);
        let message = format!("the deployment costs about {cost} wei, and the account has {balance}");
        return Err(CliError::refused("funds_missing", message));
    }
    if args.yes {
        return Ok(());
    }
    if !stdin().is_terminal() || !stderr().is_terminal() {
        return Err(CliError::usage("confirmation_missing", "nobody is there to confirm what would be sent")
            .hint("look at it with --dry-run, then give --yes"));
    }
    let failed = |error: std::io::Error| CliError::failed("confirmation", error.to_string());
    let mut out = stderr().lock();
    write!(out, "{}\n\nSend this on chain {chain}? Type yes: ", view.table()).and_then(|()| out.flush()).map_err(failed)?;
    let mut answer = String::new();
    stdin().read_line(&mut answer).map_err(failed)?;
    if answer.trim() == "yes" { Ok(()) } else { Err(CliError::refused("not_confirmed", "not confirmed; nothing was sent")) }
}

/// Everything as the chain has it, which must be what was planned.
async fn read_back(rpc: &Rpc, blueprint: &Blueprint) -> CliResult<Comparison> {
    let compared = blueprint.inventory.compare(rpc, &verify::known_path()?).await?;
    let Some(first) = compared.differences.first() else { return Ok(compared) };
    let (count, subject) = (compared.differences.len(), &first.subject);
    let message = format!(
        "read back, {count} things differ from the plan; the first: {subject}: expected {}, found {}",
        first.expected, first.actual
    );
    Err(CliError::check_failed("deployment_differs", message)
        .hint("if the chain was reorganised or the endpoint lags, run the same command again"))
}

fn with_hint(error: CliError, hint: &str) -> CliError {
    if error.hint.is_some() { error } else { error.hint(hint) }
}

/// As everywhere, with codes of their own for what only a deployment meets.
fn chain_error(error: ChainError) -> CliError {
    let message = error.to_string();
    match error {
        ChainError::InsecureKeys { .. } => CliError::refused("insecure_keys", message),
        ChainError::DegenerateKey { .. } => CliError::refused("degenerate_key", message),
        ChainError::NoCreate2Proxy { .. } => CliError::refused("no_deployment_proxy", message)
            .hint("anyone can place it, with a transaction that is the same on every chain: see docs/operating/deploy.md"),
        ChainError::ForeignCode { .. } => CliError::refused("foreign_code", message),
        ChainError::NoContract { .. } => CliError::refused("token_missing", message).hint("check --token and --rpc"),
        ChainError::InvalidInput { .. } => CliError::usage("plan", message),
        ChainError::WrongChain { .. } => CliError::refused("wrong_chain", message).hint("check --rpc and --chain-id"),
        error => error.into(),
    }
}
