//! The settlement node: QUIC in front, the engine behind one committing thread, the chain beside it.
//!
//! A payment goes through these rooms: `session` decodes and verifies, `core` applies and persists, `session` answers. Beside them `follower` reads the chain
//! into the core, `errands` seals epochs, `plan`, `moves` and `settle` decide and carry out what goes on-chain, `admin` shows and controls.

mod admin;
#[cfg(test)]
mod bill_tests;
mod config;
mod core;
#[cfg(test)]
mod core_tests;
mod errands;
mod follower;
mod gas;
mod metrics;
mod moves;
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
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use millstream_chain::{ChainError, ChainKey, Indexer, IndexerOptions, Ledger, Rpc, RpcOptions, Submitter, SubmitterOptions};
use millstream_engine::EngineConfig;
use millstream_prover::ServiceOptions;
use millstream_store::{Backend, Read, RocksStore, StoreOptions};
use millstream_transport::{ServerEndpoint, ServerIdentity, TransportOptions};
use millstream_types::{Amount, BlockNumber, ChainId};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

pub use config::{BillingSection, ChainSection, LimitsSection, NodeConfig, ProverSection, RelaySection, ServerSection, SettlementSection};
pub use core::Stopped;
pub use gas::GasTerms;
pub use millstream_engine::escrow::EscrowConfig;
pub use payments::{Payments, Submission};
pub use seed::{compact, seed_channels};

use crate::admin::Admin;
use crate::core::{Core, CoreThread, SCHEMA, stopped};
use crate::follower::{ChainView, Follower};
use crate::metrics::Metrics;
use crate::plan::Floor;
use crate::prove::Proofs;
use crate::relay::{Relays, Rooms};
use crate::session::Shared;
use crate::settle::Settler;
use crate::verify::Verifier;

/// The shortest time without news of the chain after which payments are refused; it is a tenth of the response window otherwise.
const STALE_AFTER_SECS_MIN: u64 = 10;

/// How long a stopping node waits for its sessions, and for what the admin listener has under way.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// How long a stopping node waits for payers to hear that it stops.
const GOODBYE_DEADLINE: Duration = Duration::from_secs(2);

/// A running node.
pub struct Node {
    listen: SocketAddr,
    admin_listen: SocketAddr,
    certificate_sha256: String,
    stop: watch::Sender<bool>,
    core: Core,
    reader: Arc<dyn Read>,
    core_thread: CoreThread,
    endpoint: ServerEndpoint,
    server: JoinHandle<()>,
    follower: JoinHandle<anyhow::Result<()>>,
    admin: JoinHandle<anyhow::Result<()>>,
    background: Vec<JoinHandle<()>>,
}

impl Node {
    /// Opens the store, restores the state, connects to the chain and listens.
    ///
    /// # Errors
    /// What is wrong and with what; nothing is left running.
    pub async fn start(config: &NodeConfig) -> anyhow::Result<Self> {
        let started = Instant::now();
        let rpc = Rpc::connect_to(&config.chain.rpc_url, ChainId::new(config.chain.chain_id), RpcOptions::default()).await?;
        let ledger = Ledger::attach(rpc.clone(), config.chain.ledger).await?;
        // Without keys there is no settlement: better known now than when the first one is due.
        prove::require_keys(ledger.id().chain, &ledger.config().tiers)?;
        let key = read_key(&config.chain.operator_key_file)?;
        let operator = key.address();
        let expected = ledger.operator().await?;
        anyhow::ensure!(
            expected == operator,
            "the ledger's operator is {expected}, the key in {} is of {operator}",
            config.chain.operator_key_file.display()
        );

        std::fs::create_dir_all(&config.server.data_dir).with_context(|| format!("cannot create {}", config.server.data_dir.display()))?;
        let store = RocksStore::open(&database(config), &StoreOptions::new(SCHEMA))?;
        let reader = store.reader();
        let metrics = Arc::new(Metrics::new());
        let engine = EngineConfig {
            ledger: ledger.id(),
            epoch_frames_max: config.billing.epoch_frames_max,
            epoch_millis_max: config.billing.epoch_secs_max.saturating_mul(1_000),
            retention_millis: retention_millis(config),
            escrow: config.escrows,
        };
        let (errands, errands_queue) = mpsc::unbounded_channel();
        let (core, core_thread) = Core::start(engine, store, Arc::clone(&metrics), errands)?;
        let (stop, stopping) = watch::channel(false);

        let submitter = Submitter::new(rpc, key, submitter_options(config));
        let keys_dir = match &config.chain.keys_dir {
            Some(directory) => directory.clone(),
            None => millstream_prover::default_keys_dir()?,
        };
        let stale_after = Duration::from_secs((ledger.config().response_window_secs / 10).max(STALE_AFTER_SECS_MIN));
        let (view, followed) = ChainView::new(stale_after);
        let view = Arc::new(view);
        let kept = config.server.data_dir.join("proofs");
        let proofs = Arc::new(Proofs::new(ledger.clone(), keys_dir, kept, service_options(&config.prover), Arc::clone(&metrics)));
        let within = config.settlement.compact_within_settlements;
        let settler =
            Settler::new(core.clone(), ledger.clone(), submitter.clone(), proofs, within, Arc::clone(&metrics), Arc::clone(&view));
        let settler = Arc::new(settler);
        let rooms = Rooms {
            core: core.clone(),
            ledger: ledger.clone(),
            submitter,
            settler: Arc::clone(&settler),
            view: Arc::clone(&view),
            metrics: Arc::clone(&metrics),
            coin_nanos: config.chain.coin_nanos,
        };
        let relays = Relays::restore(rooms, config.relay.clone(), Arc::clone(&reader)).await?;

        let options = transport_options(config);
        let identity = match (&config.server.certificate, &config.server.private_key) {
            (Some(chain), Some(key)) => ServerIdentity::from_pem_files(chain, key)?,
            _ => ServerIdentity::load_or_generate(&config.server.data_dir)?,
        };
        let endpoint = ServerEndpoint::bind(config.server.listen, identity, &options)?;
        let listen = endpoint.local_address()?;
        let certificate_sha256 = endpoint.fingerprint().to_string();
        let admin_listener = TcpListener::bind(config.server.admin_listen)
            .await
            .with_context(|| format!("cannot listen on {} (server.admin_listen)", config.server.admin_listen))?;
        let admin_listen = admin_listener.local_addr()?;

        let indexer =
            Indexer::new(ledger.clone(), IndexerOptions { confirmations: config.chain.confirmations, ..IndexerOptions::default() });
        let follower = Follower {
            core: core.clone(),
            indexer,
            start_block: BlockNumber::new(config.chain.start_block),
            poll_interval: Duration::from_millis(config.chain.poll_millis),
            metrics: Arc::clone(&metrics),
            view: Arc::clone(&view),
            followed,
            stopping: stopping.clone(),
        };
        let shared = Arc::new(Shared {
            core: core.clone(),
            verifier: Verifier::start(Arc::clone(&metrics)),
            ledger: ledger.id(),
            limits: wire_limits(config),
            channels_per_connection_max: config.limits.channels_per_connection_max.into(),
            metrics: Arc::clone(&metrics),
            view: Arc::clone(&view),
            relays: Arc::clone(&relays),
            stopping: stopping.clone(),
        });
        let checker = shared.verifier.name();
        let errands_view = Arc::clone(&view);
        let due_view = Arc::clone(&view);
        let admin = Arc::new(Admin {
            core: core.clone(),
            ledger: ledger.clone(),
            operator,
            reader: Arc::clone(&reader),
            settler: Arc::clone(&settler),
            relays,
            metrics,
            view,
            started,
            listen,
            certificate_sha256: certificate_sha256.clone(),
            stopping: stopping.clone(),
        });
        let background = vec![
            tokio::spawn(errands::run(core.clone(), Arc::clone(&reader), ledger.id(), errands_view, errands_queue)),
            tokio::spawn(settle_when_due(settler, due_view, core.clone(), ledger.clone(), config.settlement.clone(), config.chain.coin_nanos, stopping)),
        ];
        info!(%listen, %admin_listen, certificate_sha256, checker, ledger = %config.chain.ledger, "node started");
        Ok(Self {
            listen,
            admin_listen,
            certificate_sha256,
            stop,
            core,
            reader,
            core_thread,
            server: tokio::spawn(server::run(shared, endpoint.clone(), config.limits.connections_max)),
            endpoint,
            follower: tokio::spawn(follower.run()),
            admin: tokio::spawn(admin::run(admin, admin_listener)),
            background,
        })
    }

    /// Where payers connect to.
    #[must_use]
    pub const fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Where the operator connects to.
    #[must_use]
    pub const fn admin_listen(&self) -> SocketAddr {
        self.admin_listen
    }

    /// A handle for payments of HTTP 402.
    #[must_use]
    pub fn payments(&self) -> Payments {
        Payments::new(self.core.clone(), Arc::clone(&self.reader))
    }

    /// What payers pin: SHA-256 of the certificate, hexadecimal.
    #[must_use]
    pub fn certificate_sha256(&self) -> &str {
        &self.certificate_sha256
    }

    /// Runs until `signal`, or until a part of the node fails; then stops in order: no new frames, answers for those in flight, and the
    /// core last.
    ///
    /// # Errors
    /// What failed.
    pub async fn run_until(mut self, signal: impl Future<Output = ()>) -> anyhow::Result<()> {
        let outcome = tokio::select! {
            () = signal => {
                info!("stopping");
                Ok(())
            }
            _ = &mut self.core_thread.ended => Err(anyhow::anyhow!("the core stopped")),
            followed = &mut self.follower => match followed {
                Ok(Ok(())) => Err(anyhow::anyhow!("the chain follower ended")),
                Ok(Err(fault)) => Err(fault.context("the chain follower failed")),
                Err(panic) => Err(anyhow::Error::from(panic).context("the chain follower failed")),
            },
        };
        self.stop.send_replace(true);
        match tokio::time::timeout(STOP_DEADLINE, &mut self.server).await {
            Ok(Ok(())) => {}
            Ok(Err(panic)) => error!(%panic, "the server failed"),
            // What is durable is acknowledged when they attach again.
            Err(_) => warn!("some payers do not read their answers: leaving them"),
        }
        self.endpoint.close(Some(millstream_wire::ErrorCode::ShuttingDown), "the node is stopping");
        // Payers that are gone need no goodbye.
        let _ = tokio::time::timeout(GOODBYE_DEADLINE, self.endpoint.wait_idle()).await;
        match tokio::time::timeout(STOP_DEADLINE, &mut self.admin).await {
            Ok(Ok(Err(failure))) => error!(failure = format!("{failure:#}"), "the admin listener failed"),
            Ok(_) => {}
            // A settlement under way is planned again at the next start.
            Err(_) => self.admin.abort(),
        }
        self.core.stop().await;
        for task in &self.background {
            task.abort();
        }
        let core = tokio::task::spawn_blocking(move || self.core_thread.join()).await?;
        core.and(outcome)
    }
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

/// How long the bills of anchored epochs are kept; `None` for ever.
fn retention_millis(config: &NodeConfig) -> Option<u64> {
    Some(config.billing.retention_secs.saturating_mul(1_000)).filter(|millis| *millis > 0)
}

fn database(config: &NodeConfig) -> PathBuf {
    config.server.data_dir.join("db")
}

/// A future that ends at the first SIGINT or SIGTERM. From now on neither ends the process by itself.
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
    })
}

/// Settles at the configured interval, and serves the queue before its oldest request is overdue.
async fn settle_when_due(
    settler: Arc<Settler>,
    view: Arc<ChainView>,
    core: Core,
    ledger: Ledger,
    config: SettlementSection,
    coin_nanos: u64,
    mut stopping: watch::Receiver<bool>,
) {
    let serve_after = ledger.config().response_window_secs.saturating_mul(1_000) / 100 * u64::from(config.serve_at_percent);
    // Often enough that the shortest window is not missed.
    let pause = Duration::from_millis((serve_after / 4).clamp(100, 10_000));
    let mut settled_at = Instant::now();
    loop {
        tokio::select! {
            biased;
            () = stopped(&mut stopping) => return,
            () = tokio::time::sleep(pause) => {}
        }
        let Ok(oldest) = core.query(|engine| engine.queue().iter().next().map(|(_, request)| request.requested_at)).await else { return };
        // Whichever clock is ahead: to serve early costs nothing, to serve late may cost what was not settled.
        let now = core::now().max(view.head_time());
        let queue_is_due = oldest.is_some_and(|at| now.millis_since(at) >= serve_after);
        let interval_is_over = config.interval_secs > 0 && settled_at.elapsed() >= Duration::from_secs(config.interval_secs);
        if !(queue_is_due || interval_is_over) {
            continue;
        }
        let floor = match floor(&ledger, &config, coin_nanos).await {
            Ok(floor) => floor,
            Err(failure) => {
                warn!(%failure, "the price of gas cannot be read: nothing is settled");
                continue;
            }
        };
        // A failure was logged and counted; the next round tries again.
        if settler.run(floor).await.is_ok() {
            settled_at = Instant::now();
        }
    }
}

/// What makes a book worth its place now.
async fn floor(ledger: &Ledger, config: &SettlementSection, coin_nanos: u64) -> Result<Floor, ChainError> {
    let gas = GasTerms::new(coin_nanos, config.gas_percent_max);
    let wei_per_gas = if gas.weighs() { ledger.rpc().gas_price().await? } else { 0 };
    let risk_max = (config.book_risk_nanos_max > 0).then(|| Amount::from_nanos(config.book_risk_nanos_max));
    Ok(Floor { least: Amount::from_nanos(config.book_min_nanos), gas, wei_per_gas, risk_max })
}

fn submitter_options(config: &NodeConfig) -> SubmitterOptions {
    SubmitterOptions { confirmations: config.chain.confirmations, ..SubmitterOptions::on(ChainId::new(config.chain.chain_id)) }
}

fn service_options(config: &ProverSection) -> ServiceOptions {
    ServiceOptions {
        threads: config.threads,
        jobs_max: config.jobs_max,
        memory_bytes_max: config.memory_mib_max.saturating_mul(1 << 20),
        ..ServiceOptions::default()
    }
}

fn transport_options(config: &NodeConfig) -> TransportOptions {
    let options = if config.server.listen.ip().is_loopback() { TransportOptions::loopback() } else { TransportOptions::default() };
    TransportOptions {
        channels_per_connection: u32::from(config.limits.channels_per_connection_max),
        idle_timeout: Duration::from_secs(u64::from(config.limits.idle_timeout_secs)),
        ..options
    }
}

fn wire_limits(config: &NodeConfig) -> millstream_wire::Limits {
    millstream_wire::Limits {
        frame_bytes_max: u32::try_from(millstream_wire::PAYER_MESSAGE_BYTES_MAX).unwrap_or(u32::MAX),
        frame_lines_max: u16::try_from(millstream_billing::FRAME_LINES_MAX).unwrap_or(u16::MAX),
        frames_in_flight_max: config.limits.frames_in_flight_max,
        idle_timeout_secs: config.limits.idle_timeout_secs,
    }
}

/// Reads a private key file: 32 bytes of hexadecimal, readable by its owner only.
fn read_key(path: &Path) -> anyhow::Result<ChainKey> {
    use std::os::unix::fs::PermissionsExt;
    let context = || format!("the operator's key file {}", path.display());
    let mode = std::fs::metadata(path).with_context(context)?.permissions().mode();
    anyhow::ensure!(mode & 0o077 == 0, "{} can be read by others: chmod 600 it", context());
    let text = std::fs::read_to_string(path).with_context(context)?;
    let secret: millstream_types::Hash256 =
        text.trim().parse().map_err(|_| anyhow::anyhow!("{} does not hold 32 bytes of hexadecimal", context()))?;
    Ok(ChainKey::from_bytes(secret.as_bytes())?)
}
