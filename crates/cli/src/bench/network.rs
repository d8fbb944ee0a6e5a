//! The network that is measured: one of its own, or a running one.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use millstream_chain::{ChainKey, Ledger, Submitter, SubmitterOptions, mint};
use millstream_load::Payer;
use millstream_load::driver::{Mode, Target};
use millstream_load::process::{Usage, directory_bytes};
use millstream_node::{LimitsSection, NodeConfig};
use millstream_testkit::{Anvil, DEV_ACCOUNTS};
use millstream_transport::{Fingerprint, ServerTrust, TransportOptions};
use millstream_types::ChainId;

use super::channels::{self, Openings};
use super::scenario::Scenario;
use super::{BenchArgs, PATIENCE};
use crate::admin::Admin;
use crate::context::{self, Context};
use crate::dev::{Dev, DevOptions};
use crate::error::{CliError, CliResult};
use crate::output::Output;
use crate::payer;
use crate::profile::{self, Profile};

/// The accounts of a network of its own that open channels; those before them deploy, provide and operate.
const FIRST_PAYER: usize = 3;

/// The deposit of a channel on a network of its own: a thousand tokens, far more than any run pays.
const DEPOSIT_BASE_UNITS: u128 = 1_000_000_000;

/// Gas for a transaction of a network of its own: an opening takes a fifth of it, and simulating thousands of them takes longer than mining.
const GAS_LIMIT: u64 = 1_000_000;

/// Openings from which on blocks are made for many of them: with a block for each, the chain keeps as many states of all channels, in the
/// end on disk.
const BATCHED_FROM: usize = 100;

/// How often such a block is made, and looked for.
const MINE: Duration = Duration::from_millis(100);

/// How often something is looked at that will come.
const LOOK: Duration = Duration::from_millis(20);

/// A chain, a ledger and a node.
pub(super) struct Network {
    output: Output,
    ledger: Ledger,
    admin: Admin,
    lanes: Vec<Submitter>,
    kind: Kind,
    opened: usize,
}

enum Kind {
    /// Started here, restarted for each run, removed in the end.
    Own { dev: Box<Dev>, directory: PathBuf },
    /// Somebody else's.
    Running { profile: Box<Profile>, node_pid: Option<u32> },
}

impl Network {
    /// Starts a network, or finds the one of the profile that was named.
    pub(super) async fn start(context: &Context, args: &BenchArgs) -> CliResult<Self> {
        if context.names_profile() { Self::running(context, args).await } else { Self::own(context, args).await }
    }

    async fn own(context: &Context, args: &BenchArgs) -> CliResult<Self> {
        if args.node_pid.is_some() {
            return Err(CliError::usage("node_pid", "--node-pid goes with --profile: the process of an own network's node is known"));
        }
        let parent = args.dir.clone().unwrap_or_else(std::env::temp_dir);
        let directory = parent.join(format!("millstream-bench-{}", std::process::id()));
        let options = DevOptions::new(directory.clone())?;
        let dev = match Dev::start(options, |step| context.output.note(step)).await {
            Ok(dev) => dev,
            Err(error) => {
                let _ = std::fs::remove_dir_all(&directory);
                return Err(error.into());
            }
        };
        let mut lanes = Vec::new();
        for account in &DEV_ACCOUNTS[FIRST_PAYER..] {
            let lane = Submitter::new(
                dev.ledger.rpc().clone(),
                ChainKey::from_bytes(&account.secret)?,
                SubmitterOptions { gas_limit_unsimulated: Some(GAS_LIMIT), poll_interval: MINE, ..SubmitterOptions::for_development() },
            );
            // Enough for any number of channels: it is a test token.
            mint(&lane, dev.info().token, account.address, DEPOSIT_BASE_UNITS * 100_000).await?;
            lanes.push(lane);
        }
        let (ledger, admin) = (dev.ledger.clone(), Admin::new(&dev.info().admin_url)?);
        Ok(Self { output: context.output, ledger, admin, lanes, kind: Kind::Own { dev: Box::new(dev), directory }, opened: 0 })
    }

    async fn running(context: &Context, args: &BenchArgs) -> CliResult<Self> {
        if args.is_suite() || args.known_channels.is_some() {
            return Err(CliError::usage(
                "own_network",
                "the suite and --known-channels start the node again, so they need a network of their own",
            )
            .hint("leave --profile away, or describe a load, such as --lines 64 --connections 100"));
        }
        let profile = context.profile()?;
        let ledger = context::ledger(&profile).await?;
        let chain = ledger.chain();
        if !chain.is_development() {
            let message = format!(
                "the profile's ledger is on chain {chain}: a bench keeps no durable state of what its payers signed, \
                 which is how real money is lost, so it aims at development chains only ({:?})",
                ChainId::DEVELOPMENT
            );
            return Err(CliError::refused("not_a_development_chain", message));
        }
        let secret = profile::read_secret(&profile.payer_key_file()?)?;
        let lane = Submitter::new(ledger.rpc().clone(), ChainKey::from_bytes(&secret)?, SubmitterOptions::for_development());
        let (admin, node_pid) = (context::admin(&profile)?, args.node_pid);
        if let Some(pid) = node_pid.filter(|pid| Usage::of(*pid).is_none()) {
            return Err(CliError::usage("node_pid", format!("there is no process {pid} on this machine")));
        }
        let kind = Kind::Running { profile: Box::new(profile), node_pid };
        Ok(Self { output: context.output, ledger, admin, lanes: vec![lane], kind, opened: 0 })
    }

    pub(super) const fn admin(&self) -> &Admin {
        &self.admin
    }

    /// The node's process, if it is known.
    pub(super) fn node_pid(&self) -> Option<u32> {
        match &self.kind {
            Kind::Own { dev, .. } => Some(dev.node.pid()),
            Kind::Running { node_pid, .. } => *node_pid,
        }
    }

    /// The process that leads the chain's group, if it is known.
    pub(super) fn chain_pid(&self) -> Option<u32> {
        match &self.kind {
            Kind::Own { dev, .. } => Some(dev.anvil.pid()),
            Kind::Running { .. } => None,
        }
    }

    /// A directory on the disk that the node writes to, as far as that is known.
    pub(super) fn measured_directory(&self) -> PathBuf {
        match &self.kind {
            Kind::Own { directory, .. } => directory.clone(),
            Kind::Running { .. } => std::env::temp_dir(),
        }
    }

    /// Where the node is and how it is known.
    pub(super) async fn target(&self) -> CliResult<Target> {
        let ledger = self.ledger.id();
        match &self.kind {
            Kind::Own { dev, .. } => {
                let listening = dev.node.listening();
                let fingerprint: Fingerprint =
                    listening.certificate_sha256.parse().map_err(|_| CliError::failed("certificate", "the node names no fingerprint"))?;
                let trust = ServerTrust::Pinned(fingerprint);
                let transport = TransportOptions::loopback();
                Ok(Target { address: listening.listen, host_name: "localhost".to_owned(), trust, ledger, transport })
            }
            Kind::Running { profile, .. } => {
                let (host_name, port) = payer::host_and_port(profile.node_address()?)?;
                let unknown = |what: String| CliError::unavailable("node_unreachable", format!("{host_name} cannot be resolved: {what}"));
                let found = tokio::net::lookup_host((host_name.as_str(), port)).await.map_err(|error| unknown(error.to_string()))?.next();
                let address = found.ok_or_else(|| unknown("no address".to_owned()))?;
                let transport = if address.ip().is_loopback() { TransportOptions::loopback() } else { TransportOptions::default() };
                Ok(Target { address, host_name, trust: payer::trust(profile)?, ledger, transport })
            }
        }
    }

    /// Opens channels that can pay for so many lines each, and waits until a running node knows them.
    pub(super) async fn open(&mut self, count: usize, args: &BenchArgs, lines: u64) -> CliResult<Vec<Payer>> {
        let mut salt = [0; 24];
        let deposit_base_units = match &self.kind {
            Kind::Own { .. } => DEPOSIT_BASE_UNITS,
            Kind::Running { .. } => {
                // The same account may have opened channels for the same seed before.
                getrandom::fill(&mut salt).map_err(|error| CliError::failed("randomness", error.to_string()))?;
                let nanos = millstream_types::Amount::from_nanos(lines.saturating_mul(millstream_load::workload::LINE_NANOS));
                let config = self.ledger.config();
                let (whole, rest) = config
                    .unit
                    .base_units_down(nanos.max(config.deposit_min))
                    .map_err(|error| CliError::usage("amount", error.to_string()))?;
                whole.saturating_add(u128::from(!rest.is_zero()))
            }
        };
        self.output.note(&format!("opening {count} channels"));
        let openings = Openings { seed: args.seed, first: self.opened, count, salt, deposit_base_units };
        let before = match &mut self.kind {
            // It is started again before each run, and reads them all at once then.
            Kind::Own { dev, .. } => {
                tokio::task::block_in_place(|| dev.node.stop())?;
                None
            }
            Kind::Running { .. } => Some(self.admin.status().await?.channels.channels),
        };
        let opening = channels::open(&self.output, &self.ledger, &self.lanes, &openings);
        let payers = match &self.kind {
            Kind::Own { dev, .. } if count >= BATCHED_FROM => mined_together(&dev.anvil, opening).await?,
            Kind::Own { .. } | Kind::Running { .. } => opening.await?,
        };
        self.opened += count;
        if let Some(before) = before {
            self.until_known(before + count as u64).await?;
        }
        Ok(payers)
    }

    /// Makes the node ready for a run: one of its own is started again with an empty data directory and the limits that the run needs, and
    /// reads its channels from the chain again. Returns how long the process took from its start until it listened.
    pub(super) async fn reset(&mut self, scenario: &Scenario) -> CliResult<Option<Duration>> {
        let opened = self.opened as u64;
        let Kind::Own { dev, .. } = &mut self.kind else { return Ok(None) };
        let path = dev.info().node_config;
        let mut config = NodeConfig::load(&path)?;
        config.limits = limits(scenario);
        let took = tokio::task::block_in_place(|| -> anyhow::Result<Duration> {
            if dev.node.ended()?.is_none() {
                dev.node.stop()?;
            }
            std::fs::write(&path, toml::to_string(&config)?)?;
            remove(&config.server.data_dir)?;
            if scenario.known_channels > 0 {
                millstream_node::seed_channels(&config, scenario.known_channels)?;
            }
            let started = Instant::now();
            dev.node.restart()?;
            Ok(started.elapsed())
        })?;
        self.until_known(opened + u64::from(scenario.known_channels)).await?;
        Ok(Some(took))
    }

    /// Stops a node of its own, compacts its database and measures its data directory in bytes.
    pub(super) fn stop_and_weigh(&mut self) -> CliResult<Option<u64>> {
        let Kind::Own { dev, .. } = &mut self.kind else { return Ok(None) };
        let config = NodeConfig::load(&dev.info().node_config)?;
        let weighed = tokio::task::block_in_place(|| -> anyhow::Result<u64> {
            dev.node.stop()?;
            millstream_node::compact(&config)?;
            Ok(directory_bytes(&config.server.data_dir))
        })?;
        Ok(Some(weighed))
    }

    /// Removes what an own network left.
    pub(super) fn remove(self) {
        if let Kind::Own { mut dev, directory } = self.kind {
            // It may have ended, and an order to stop that it does not follow ends in killing it.
            if matches!(dev.node.ended(), Ok(None)) {
                let _ = tokio::task::block_in_place(|| dev.node.stop());
            }
            drop(dev);
            // What is left of it is no more than files in a temporary directory.
            let _ = std::fs::remove_dir_all(&directory);
        }
    }

    /// Waits until the node knows so many channels and takes payments.
    async fn until_known(&self, channels: u64) -> CliResult<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if self.admin.is_ready().await? && self.admin.status().await?.channels.channels >= channels {
                return Ok(());
            }
            if Instant::now() > deadline {
                let message = format!("the node did not see {channels} channels within {} seconds", PATIENCE.as_secs());
                return Err(CliError::unavailable("channels_not_seen", message));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Does work on the chain with a block for all transactions of a while, instead of one for each.
async fn mined_together<T>(anvil: &Anvil, work: impl Future<Output = CliResult<T>>) -> CliResult<T> {
    let automine = |on: bool| -> anyhow::Result<()> {
        tokio::task::block_in_place(|| anvil.call("evm_setAutomine", &serde_json::json!([on])))?;
        Ok(())
    };
    automine(false)?;
    let mining = async {
        loop {
            tokio::time::sleep(MINE).await;
            tokio::task::block_in_place(|| anvil.mine(1)).map_err(anyhow::Error::from)?;
        }
    };
    let outcome = tokio::select! {
        done = work => done,
        failed = mining => failed,
    };
    automine(true)?;
    outcome
}

/// The node's default limits, raised where a run needs more.
fn limits(scenario: &Scenario) -> LimitsSection {
    let default = LimitsSection::default();
    let per_connection = u16::try_from(scenario.channels.div_ceil(scenario.connections)).unwrap_or(u16::MAX);
    let in_flight = if let Mode::Saturated { in_flight } = scenario.mode { in_flight } else { 0 };
    LimitsSection {
        connections_max: default.connections_max.max(scenario.connections),
        channels_per_connection_max: default.channels_per_connection_max.max(per_connection),
        frames_in_flight_max: default.frames_in_flight_max.max(in_flight),
        ..default
    }
}

fn remove(directory: &Path) -> anyhow::Result<()> {
    if directory.exists() {
        std::fs::remove_dir_all(directory)?;
    }
    Ok(())
}
