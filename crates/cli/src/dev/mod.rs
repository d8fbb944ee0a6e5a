//! `millstream dev`: a chain, a token, a ledger, the contracts of HTTP 402, a funded buyer and seller, and a node, all on this machine.
//!
//! The proving keys are insecure development keys, and the accounts are anvil's public ones: nothing of this belongs on a real chain.

mod command;
mod process;

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};

use anyhow::Context;
use millstream_chain::session_escrow::deploy_session_escrow;
use millstream_chain::x402::place_development_x402;
use millstream_chain::{
    ChainKey, DeployPlan, Deployment, KeyProvenance, Ledger, Rpc, RpcOptions, Submitter, SubmitterOptions, TierPlan, TokenChoice, deploy,
    mint,
};
use millstream_circuit::{Book, BookSize, field_to_word};
use millstream_node::{
    BillingSection, ChainSection, LimitsSection, NodeConfig, ProverSection, RelaySection, ServerSection, SettlementSection,
};
use millstream_prover::{CircuitId, InsecureDevKeys};
use millstream_testkit::{Anvil, AnvilOptions, DEV_ACCOUNTS, DevAccount};
use millstream_types::Amount;
use serde::Serialize;

use crate::profile::{self, Profile};

pub use command::{DevArgs, run};
pub use process::NodeProcess;

const DEPLOYER: &DevAccount = &DEV_ACCOUNTS[0];
const PROVIDER: &DevAccount = &DEV_ACCOUNTS[1];
const OPERATOR: &DevAccount = &DEV_ACCOUNTS[2];
const BUYER: &DevAccount = &DEV_ACCOUNTS[3];
/// What `millstream gateway` claims with, and is paid to: another key than the node's, because each process has its own lane to the chain.
const SELLER: &DevAccount = &DEV_ACCOUNTS[4];

/// What the buyer gets: a million tokens of six decimals.
const BUYER_BASE_UNITS: u128 = 1_000_000_000_000;
/// What an opening or a top-up must deposit: a thousandth of a token.
const DEPOSIT_MIN: Amount = Amount::from_nanos(1_000_000);
/// So many response windows until a ledger left unserved may be halted.
const HALT_WINDOWS: u64 = 7;

/// How to set a development network up.
#[derive(Clone, Debug)]
pub struct DevOptions {
    /// Where configuration, keys, logs and state go. What an earlier development network left there is removed: its chain is gone.
    pub directory: PathBuf,
    /// The `millstream` binary that runs the node.
    pub binary: PathBuf,
    /// Port of the chain; 0 for a free one.
    pub chain_port: u16,
    /// Sizes of book.
    pub book_sizes: Vec<usize>,
    /// The ledger's response window, in seconds.
    pub response_window_secs: u64,
}

impl DevOptions {
    /// The defaults: this binary, books of 24 and 96, a window of a day.
    ///
    /// # Errors
    /// The system does not say which program this is.
    pub fn new(directory: PathBuf) -> anyhow::Result<Self> {
        let binary = std::env::current_exe().context("cannot find this program's own file")?;
        Ok(Self { directory, binary, chain_port: 0, book_sizes: vec![24, 96], response_window_secs: 86_400 })
    }
}

/// What somebody who uses the network needs to know.
#[derive(Clone, Debug, Serialize)]
pub struct DevInfo {
    /// JSON-RPC of the chain.
    pub rpc_url: String,
    /// The ledger.
    pub ledger: millstream_types::Address,
    /// The token.
    pub token: millstream_types::Address,
    /// Who is paid.
    pub provider: millstream_types::Address,
    /// Who pays.
    pub buyer: millstream_types::Address,
    /// Where payers connect to.
    pub node: SocketAddr,
    /// The admin listener.
    pub admin_url: String,
    /// The node's process.
    pub node_pid: u32,
    /// The node's configuration.
    pub node_config: PathBuf,
    /// The node's log.
    pub node_log: PathBuf,
    /// Who sells with `millstream gateway`.
    pub seller: millstream_types::Address,
    /// The escrow of MPP's sessions; x402's contracts are at their canonical addresses.
    pub session_escrow: millstream_types::Address,
    /// The profile, for every other command.
    pub profile: PathBuf,
}

/// A running development network; dropped, its processes end.
pub struct Dev {
    /// The node.
    pub node: NodeProcess,
    /// The profile of buyer and seller.
    pub profile: Profile,
    /// The ledger, to look at it.
    pub ledger: Ledger,
    /// The buyer's lane to the chain.
    pub buyer: Submitter,
    info: DevInfo,
    /// The chain.
    pub anvil: Anvil,
}

impl Dev {
    /// Sets everything up; `step` is told what happens next.
    ///
    /// # Errors
    /// What failed; nothing is left running.
    pub async fn start(options: DevOptions, step: impl Fn(&str)) -> anyhow::Result<Self> {
        let directory = clean_directory(&options.directory)?;
        step("starting the chain");
        let anvil_options = AnvilOptions::default().with_port(options.chain_port);
        let anvil = tokio::task::spawn_blocking(move || Anvil::spawn(&anvil_options)).await??;

        step("loading the proving keys (made once, which takes up to a minute)");
        let sizes = options.book_sizes.clone();
        let keys_dir = millstream_prover::default_keys_dir()?;
        let keys = keys_dir.clone();
        let tiers = tokio::task::spawn_blocking(move || tier_plans(&sizes, &keys)).await??;

        step("deploying token, verifiers and ledger");
        let rpc = Rpc::connect(&anvil.url(), RpcOptions::default()).await?;
        let lane = |account: &DevAccount| -> anyhow::Result<Submitter> {
            Ok(Submitter::new(rpc.clone(), ChainKey::from_bytes(&account.secret)?, SubmitterOptions::for_development()))
        };
        let deployer = lane(DEPLOYER)?;
        let plan = DeployPlan {
            provenance: KeyProvenance::InsecureDevelopment,
            provider: PROVIDER.address,
            operator: OPERATOR.address,
            response_window_secs: options.response_window_secs,
            halt_window_secs: options.response_window_secs.saturating_mul(HALT_WINDOWS),
            deposit_min: DEPOSIT_MIN,
            token: TokenChoice::TestUsdc,
            salt: [0; 32],
            tiers,
        };
        let deployment = deploy(&deployer, &plan).await?;
        mint(&deployer, deployment.token, BUYER.address, BUYER_BASE_UNITS).await?;

        step("placing the contracts of x402 and MPP");
        place_development_x402(&rpc).await?;
        let session_escrow = deploy_session_escrow(&deployer).await?;

        step("starting the node");
        let (node_config, node_log) = (directory.join("node.toml"), directory.join("node.log"));
        let config = node_config_for(&directory, &anvil, &deployment, keys_dir)?;
        std::fs::write(&node_config, toml::to_string(&config)?)?;
        profile::write_secret(&config.chain.operator_key_file, &OPERATOR.secret)?;
        let node = NodeProcess::start(&options.binary, &node_config, &node_log)?;

        let profile_path = directory.join("millstream.toml");
        let profile = profile_of(&directory, &anvil, &deployment, &node)?;
        profile::save(&profile, &profile_path)?;
        let info = DevInfo {
            rpc_url: anvil.url(),
            ledger: deployment.ledger,
            token: deployment.token,
            provider: PROVIDER.address,
            buyer: BUYER.address,
            node: node.listening().listen,
            admin_url: format!("http://{}", node.listening().admin_listen),
            node_pid: node.pid(),
            node_config,
            node_log,
            seller: SELLER.address,
            session_escrow,
            profile: profile_path.clone(),
        };
        let ledger = Ledger::attach(rpc.clone(), deployment.ledger).await?;
        Ok(Self { node, profile: profile::find(Some(&profile_path))?, ledger, buyer: lane(BUYER)?, info, anvil })
    }

    /// What to know about it.
    #[must_use]
    pub fn info(&self) -> DevInfo {
        DevInfo { node_pid: self.node.pid(), ..self.info.clone() }
    }
}

/// The directory, without what an earlier development network left there.
fn clean_directory(directory: &Path) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let directory = directory.canonicalize()?;
    for stale in ["node.toml", "node.log", "millstream.toml", "operator.key", "buyer.key", "buyer.state", "seller.key"] {
        let path = directory.join(stale);
        if path.exists() {
            std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    for stale in ["node", "gateway"] {
        let data = directory.join(stale);
        if data.exists() {
            std::fs::remove_dir_all(&data).with_context(|| format!("cannot remove {}", data.display()))?;
        }
    }
    Ok(directory)
}

fn tier_plans(sizes: &[usize], keys_dir: &Path) -> anyhow::Result<Vec<TierPlan>> {
    let mut tiers = Vec::new();
    for slots in sizes {
        let size = BookSize::new(*slots)?;
        let words = |circuit| anyhow::Ok(InsecureDevKeys::load_or_generate(circuit, keys_dir)?.verifying_key().words());
        tiers.push(TierPlan {
            slots: size.slots(),
            empty_root: field_to_word(Book::empty_root(size)),
            settle_key: words(CircuitId::settle(size))?,
            register_key: words(CircuitId::register(size))?,
        });
    }
    Ok(tiers)
}

fn node_config_for(directory: &Path, anvil: &Anvil, deployment: &Deployment, keys_dir: PathBuf) -> anyhow::Result<NodeConfig> {
    Ok(NodeConfig {
        server: ServerSection {
            data_dir: directory.join("node"),
            // Ports that stay the same when the node starts again.
            listen: Some(UdpSocket::bind(("127.0.0.1", 0))?.local_addr()?),
            admin_listen: TcpListener::bind(("127.0.0.1", 0))?.local_addr()?,
            certificate: None,
            private_key: None,
        },
        chain: ChainSection {
            rpc_url: anvil.url(),
            chain_id: anvil.chain_id(),
            ledger: Some(deployment.ledger),
            start_block: deployment.block.height(),
            confirmations: 1,
            poll_millis: 50,
            coin_nanos: 0,
            operator_key_file: directory.join("operator.key"),
            operator_password_file: None,
            keys_dir: Some(keys_dir),
        },
        billing: BillingSection::default(),
        settlement: SettlementSection::default(),
        prover: ProverSection::default(),
        // There is no distance to fill on one machine: more frames in flight would only wait in line.
        limits: LimitsSection { frames_in_flight_max: 4, ..LimitsSection::default() },
        // One buyer on one machine opens many channels while it tries things.
        relay: RelaySection {
            funder_day_gwei_max: 100_000_000,
            peer_day_gwei_max: 100_000_000,
            hour_gwei_max: 100_000_000,
            ..RelaySection::default()
        },
        escrows: millstream_node::EscrowConfig::default(),
        policy: None,
    })
}

/// What the buyer pays with, and what a gateway sells with.
fn profile_of(directory: &Path, anvil: &Anvil, deployment: &Deployment, node: &NodeProcess) -> anyhow::Result<Profile> {
    let mut profile = Profile::default();
    profile.chain.rpc_url = Some(anvil.url());
    profile.chain.ledger = Some(deployment.ledger);
    profile.node.address = Some(node.listening().listen.to_string());
    profile.node.certificate_sha256 = Some(node.listening().certificate_sha256.parse()?);
    profile.node.admin_url = Some(format!("http://{}", node.listening().admin_listen));
    profile.payer.key_file = Some(directory.join("buyer.key"));
    profile.payer.state_file = Some(directory.join("buyer.state"));
    profile::write_secret(&directory.join("buyer.key"), &BUYER.secret)?;
    profile.gateway.asset = Some(deployment.token);
    profile.gateway.pay_to = Some(SELLER.address);
    profile.gateway.key_file = Some(directory.join("seller.key"));
    profile.gateway.data_dir = Some(directory.join("gateway"));
    profile.gateway.admin_url = Some(format!("http://{}", TcpListener::bind(("127.0.0.1", 0))?.local_addr()?));
    profile::write_secret(&directory.join("seller.key"), &SELLER.secret)?;
    Ok(profile)
}
