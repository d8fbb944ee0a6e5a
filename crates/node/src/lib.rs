//! The settlement node: QUIC in front, the engine behind one committing thread, the chain beside it.
//!
//! A payment goes through these rooms: `session` decodes and verifies, `core` applies and persists, `session` answers. Beside them `follower` reads the chain
//! into the core, `errands` seals epochs, `plan`, `moves` and `settle` decide and carry out what goes on-chain, `admin` shows and controls.
//!
//! What serves a ledger is `native` and may be absent: such a node keeps payments of HTTP 402 and nothing else. Core, store, admin listener
//! and the operator's lane to the chain are always there.

mod access;
mod admin;
mod api;
mod backup;
mod base;
#[cfg(test)]
mod bill_tests;
mod books;
#[cfg(test)]
mod books_tests;
mod check;
mod clock;
mod config;
mod core;
#[cfg(test)]
mod core_tests;
mod errands;
mod follower;
mod gas;
mod guard;
#[cfg(test)]
mod guard_tests;
mod live;
mod metrics;
mod moves;
mod native;
mod payments;
#[cfg(test)]
mod payments_tests;
mod plan;
mod proofs;
mod prove;
mod relay;
mod seed;
mod server;
mod session;
mod settle;
mod verify;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use millstream_chain::{ChainKey, Ledger, Rpc, RpcOptions, Submitter, SubmitterOptions};
use millstream_engine::EngineConfig;
use millstream_keystore::{self as keystore, KeyFile, KeyUse, Passwords};
use millstream_store::{Backend, RocksStore, StoreOptions};
use millstream_types::{Address, ChainId};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tracing::{error, info};

pub use access::{Scope, TokenEntry, TokenFile, token_hash};
pub use admin::{AdminPart, Problem};
pub use api::Endpoint;
pub use backup::{BackupManifest, backup_stopped, restore};
pub use check::{CheckReport, DatabaseState, check_database, look};
pub use clock::ChainClock;
pub use config::{
    BillingSection, ChainSection, LimitsSection, NodeConfig, ProverSection, RelaySection, SECTIONS, ServerSection, SettlementSection,
    lay_over,
};
pub use core::{Guarded, Stopped};
pub use gas::GasTerms;
pub use live::{Reloaded, Reloads};
pub use millstream_engine::escrow::EscrowConfig;
pub use payments::{Payments, Submission};
pub use seed::{compact, seed_channels};

use crate::admin::Admin;
use crate::base::Base;
use crate::books::Books;
use crate::core::{Core, CoreThread, SCHEMA, Served};
use crate::metrics::Metrics;
use crate::native::Native;

/// How long a stopping node waits for its sessions, and for what the admin listener has under way.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// A running node.
pub struct Node {
    base: Base,
    core_thread: CoreThread,
    /// What serves a ledger, where there is one.
    native: Option<Native>,
    admin: Arc<Admin>,
    reloads: Arc<Reloads>,
    admin_listen: SocketAddr,
    admin_task: JoinHandle<anyhow::Result<()>>,
    errands: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

impl Node {
    /// Opens the store, restores the state, connects to the chain and listens.
    ///
    /// # Errors
    /// What is wrong and with what; nothing is left running.
    pub async fn start(config: &NodeConfig) -> anyhow::Result<Self> {
        let started = Instant::now();
        config.check()?;
        // Better known before anything is opened.
        let access = config.server.admin_tokens_file.as_deref().map(TokenFile::load).transpose()?;
        let chain = ChainId::new(config.chain.chain_id);
        let rpc = Rpc::connect_to(&config.chain.rpc_url, chain, RpcOptions::default()).await?;
        let key = operator_key(&config.chain).await?;
        let ledger = match (config.chain.ledger, config.server.listen) {
            (Some(contract), Some(listen)) => Some((Native::attach(rpc.clone(), contract, &key, config).await?, listen)),
            _ => None,
        };
        let served = ledger.as_ref().map_or(Served::NoLedger(chain), |(ledger, _)| Served::Ledger(ledger.id()));

        std::fs::create_dir_all(&config.server.data_dir).with_context(|| format!("cannot create {}", config.server.data_dir.display()))?;
        let mut store = RocksStore::open(&database(config), &StoreOptions::new(SCHEMA))?;
        core::bind(&mut store, served)?;
        let (reader, database) = (store.reader(), store.rocks_reader());
        let metrics = Arc::new(Metrics::new());
        let (errand, errands_queue) = mpsc::unbounded_channel();
        let (core, core_thread) =
            Core::start_guarded(engine_config(config, served), config.policy.clone(), store, Arc::clone(&metrics), errand)?;
        let (stop, stopping) = watch::channel(false);
        let submitter = Submitter::new(rpc, key, submitter_options(config));
        let books = Books::open(core.clone(), Arc::clone(&reader), served.ledger(), &config.server.data_dir)?;
        let (clock, books) = (ChainClock::default(), Arc::new(books));
        let base = Base { core, submitter, reader, database, metrics, clock, books, stopping };

        let reloads = Arc::new(Reloads::new(config));
        let native = match ledger {
            Some((ledger, listen)) => Some(Native::start(&base, ledger, listen, config, &reloads).await?),
            None => None,
        };
        let admin_listener = TcpListener::bind(config.server.admin_listen)
            .await
            .with_context(|| format!("cannot listen on {} (server.admin_listen)", config.server.admin_listen))?;
        let admin_listen = admin_listener.local_addr()?;
        let admin =
            Arc::new(Admin::new(&base, chain, native.as_ref().map(|native| Arc::clone(native.rooms())), config, access, &reloads, started));
        let errands = errands::run(base.core.clone(), Arc::clone(&base.reader), served.ledger(), base.clock.clone(), errands_queue);
        info!(%admin_listen, %served, "node started");
        Ok(Self {
            native,
            admin_task: tokio::spawn(admin::run(Arc::clone(&admin), admin_listener)),
            admin,
            reloads,
            admin_listen,
            errands: tokio::spawn(errands),
            base,
            core_thread,
            stop,
        })
    }

    /// Where payers connect to, on a node with a ledger.
    #[must_use]
    pub fn listen(&self) -> Option<SocketAddr> {
        self.native.as_ref().map(|native| native.rooms().listen)
    }

    /// What payers pin, on a node with a ledger: SHA-256 of the certificate, hexadecimal.
    #[must_use]
    pub fn certificate_sha256(&self) -> Option<&str> {
        self.native.as_ref().map(|native| native.rooms().certificate_sha256.as_str())
    }

    /// Where the operator connects to.
    #[must_use]
    pub const fn admin_listen(&self) -> SocketAddr {
        self.admin_listen
    }

    /// Takes changes of the configuration while the node runs.
    #[must_use]
    pub const fn reloads(&self) -> &Arc<Reloads> {
        &self.reloads
    }

    /// A handle for payments of HTTP 402.
    #[must_use]
    pub fn payments(&self) -> Payments {
        Payments::new(self.base.core.clone(), Arc::clone(&self.base.reader)).naming_in(self.base.books.domains())
    }

    /// The account of the key that signs receipts and statements: what whoever checks them has to know.
    #[must_use]
    pub fn journal_key(&self) -> Address {
        self.base.books.key()
    }

    /// The chain's endpoint.
    #[must_use]
    pub fn rpc(&self) -> &Rpc {
        self.base.submitter.rpc()
    }

    /// The operator's lane to the chain. Whoever sends for this key in this process clones it: a second lane would take the same nonces.
    #[must_use]
    pub const fn submitter(&self) -> &Submitter {
        &self.base.submitter
    }

    /// The chain's time, for whoever reads the chain to tell: what ends by the chain's time ends by this.
    #[must_use]
    pub const fn clock(&self) -> &ChainClock {
        &self.base.clock
    }

    /// Turns true when the node stops.
    #[must_use]
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.base.stopping.clone()
    }

    /// Enters metrics of another part of the process; their names get the prefix `millstream_`.
    pub fn register<T>(&self, enter: impl FnOnce(&mut Registry) -> T) -> T {
        enter(&mut self.base.metrics.registry())
    }

    /// Shows another part of the process on the admin listener.
    ///
    /// # Errors
    /// There is one already.
    pub fn mount(&self, part: AdminPart) -> anyhow::Result<()> {
        self.admin.mount(part)
    }

    /// Runs until `signal`, or until a part of the node fails; then stops.
    ///
    /// # Errors
    /// What failed.
    pub async fn run_until(mut self, signal: impl Future<Output = ()>) -> anyhow::Result<()> {
        let outcome = tokio::select! {
            () = signal => {
                info!("stopping");
                Ok(())
            }
            failure = self.failed() => Err(failure),
        };
        self.stop().await.and(outcome)
    }

    /// Resolves when a part of the node has failed, with why. The node is to be stopped then; this is not to be asked again.
    pub async fn failed(&mut self) -> anyhow::Error {
        let native = async {
            match &mut self.native {
                Some(native) => native.failed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = &mut self.core_thread.ended => anyhow::anyhow!("the core stopped"),
            failure = native => failure,
        }
    }

    /// Stops in order: no new frames, answers for those in flight, and the core last.
    ///
    /// # Errors
    /// What had ended the core before.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.stop.send_replace(true);
        if let Some(native) = &mut self.native {
            native.close().await;
        }
        match tokio::time::timeout(STOP_DEADLINE, &mut self.admin_task).await {
            Ok(Ok(Err(failure))) => error!(failure = format!("{failure:#}"), "the admin listener failed"),
            Ok(_) => {}
            // A settlement under way is planned again at the next start.
            Err(_) => self.admin_task.abort(),
        }
        self.base.core.stop().await;
        if let Some(native) = &self.native {
            native.abort();
        }
        self.errands.abort();
        tokio::task::spawn_blocking(move || self.core_thread.join()).await?
    }
}

/// Whether a node may settle on a ledger: on a public chain the keys of all its circuits must be pinned in this build.
///
/// # Errors
/// The first circuit whose key is not pinned, or is another.
pub fn require_keys(ledger: &Ledger) -> anyhow::Result<()> {
    prove::require_keys(ledger.id().chain, &ledger.config().tiers)
}

/// Declares a node's database to be all there is, where the acknowledged head says that more was acknowledged. Returns the number of its
/// last batch; what came after it counts as lost. The node must not run.
///
/// # Errors
/// The store is in use, there is no database, or it cannot be read.
pub fn accept_database_head(config: &NodeConfig) -> anyhow::Result<u64> {
    let head = millstream_store::accept_database_head(&database(config), &StoreOptions::new(SCHEMA))?;
    Ok(head.seq.as_u64())
}

fn engine_config(config: &NodeConfig, served: Served) -> EngineConfig {
    EngineConfig {
        ledger: served.ledger(),
        epoch_frames_max: config.billing.epoch_frames_max,
        epoch_millis_max: config.billing.epoch_secs_max.saturating_mul(1_000),
        retention_millis: retention_millis(config),
        escrow: config.escrows,
    }
}

/// How long the bills of anchored epochs are kept; `None` for ever.
fn retention_millis(config: &NodeConfig) -> Option<u64> {
    Some(config.billing.retention_secs.saturating_mul(1_000)).filter(|millis| *millis > 0)
}

fn database(config: &NodeConfig) -> PathBuf {
    config.server.data_dir.join("db")
}

/// A future that ends at the first SIGINT or SIGTERM: the process is to stop in order. From now on neither ends the process by itself, but the next
/// one after that first does, at once, with the status of a program that the signal killed: whoever does not want to wait loses nothing that was
/// acknowledged.
///
/// # Errors
/// The system does not deliver signals.
pub fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tokio::spawn(async move {
            let status = tokio::select! {
                _ = interrupt.recv() => 128 + SignalKind::interrupt().as_raw_value(),
                _ = terminate.recv() => 128 + SignalKind::terminate().as_raw_value(),
            };
            tracing::warn!("told to stop a second time: leaving at once");
            std::process::exit(status);
        });
    })
}

fn submitter_options(config: &NodeConfig) -> SubmitterOptions {
    SubmitterOptions { confirmations: config.chain.confirmations, ..SubmitterOptions::on(ChainId::new(config.chain.chain_id)) }
}

/// The operator's key, from a key file of any kind.
///
/// # Errors
/// The file cannot be read or opened, others may read it, or a remote signer does not have the key.
pub async fn operator_key(chain: &ChainSection) -> anyhow::Result<ChainKey> {
    let (file, passwords) = (&chain.operator_key_file, Passwords::new(chain.operator_password_file.as_deref()));
    if let KeyFile::Remote(remote) = keystore::read(file)? {
        let found = ChainKey::remote(&remote.signer, remote.account).await;
        return found.with_context(|| format!("the remote signer that {} names", file.display()));
    }
    Ok(ChainKey::from_bytes(keystore::read_secret(file, KeyUse::Account, &passwords)?.bytes())?)
}
