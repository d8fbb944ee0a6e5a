//! What serves a ledger: QUIC in front, the follower of its chain, the settler and the relay. A node without a ledger has none of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_chain::{ChainError, ChainKey, Indexer, IndexerOptions, Ledger, Rpc};
use millstream_prover::ServiceOptions;
use millstream_transport::{ServerEndpoint, ServerIdentity, TransportOptions};
use millstream_types::{Address, Amount, BlockNumber};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use crate::base::Base;
use crate::config::{NodeConfig, ProverSection, SettlementSection};
use crate::core::{Core, now, stopped};
use crate::follower::{ChainView, Follower};
use crate::gas::GasTerms;
use crate::plan::Floor;
use crate::prove::{self, Proofs};
use crate::relay::{Relays, Rooms};
use crate::session::Shared;
use crate::settle::Settler;
use crate::verify::Verifier;
use crate::{STOP_DEADLINE, server};

/// The shortest time without news of the chain after which payments are refused; it is a tenth of the response window otherwise.
const STALE_AFTER_SECS_MIN: u64 = 10;

/// How long a stopping node waits for payers to hear that it stops.
const GOODBYE_DEADLINE: Duration = Duration::from_secs(2);

/// What the admin listener shows and controls of it.
pub(crate) struct LedgerRooms {
    pub(crate) ledger: Ledger,
    pub(crate) settler: Arc<Settler>,
    pub(crate) relays: Arc<Relays>,
    pub(crate) view: Arc<ChainView>,
    /// Where payers connect to.
    pub(crate) listen: SocketAddr,
    pub(crate) certificate_sha256: String,
}

/// A ledger being served.
pub(crate) struct Native {
    rooms: Arc<LedgerRooms>,
    endpoint: ServerEndpoint,
    server: JoinHandle<()>,
    follower: JoinHandle<anyhow::Result<()>>,
    due: JoinHandle<()>,
}

impl Native {
    /// The ledger, once it is known that this node can settle on it.
    ///
    /// # Errors
    /// There is no such ledger, its circuits have no keys here, or `key` is not its operator's.
    pub(crate) async fn attach(rpc: Rpc, contract: Address, key: &ChainKey, config: &NodeConfig) -> anyhow::Result<Ledger> {
        let ledger = Ledger::attach(rpc, contract).await?;
        // Without keys there is no settlement: better known now than when the first one is due.
        prove::require_keys(ledger.id().chain, &ledger.config().tiers)?;
        let (expected, operator) = (ledger.operator().await?, key.address());
        anyhow::ensure!(
            expected == operator,
            "the ledger's operator is {expected}, the key in {} is of {operator}",
            config.chain.operator_key_file.display()
        );
        Ok(ledger)
    }

    /// Serves the ledger on `listen`.
    ///
    /// # Errors
    /// What is wrong and with what; nothing is left running.
    pub(crate) async fn start(base: &Base, ledger: Ledger, listen: SocketAddr, config: &NodeConfig) -> anyhow::Result<Self> {
        let Base { core, submitter, reader, metrics, clock, stopping, .. } = base;
        let keys_dir = match &config.chain.keys_dir {
            Some(directory) => directory.clone(),
            None => millstream_prover::default_keys_dir()?,
        };
        let stale_after = Duration::from_secs((ledger.config().response_window_secs / 10).max(STALE_AFTER_SECS_MIN));
        let (view, followed) = ChainView::new(stale_after, clock.clone());
        let view = Arc::new(view);
        let kept = config.server.data_dir.join("proofs");
        let proofs = Arc::new(Proofs::new(ledger.clone(), keys_dir, kept, service_options(&config.prover), Arc::clone(metrics)));
        let within = config.settlement.compact_within_settlements;
        let settler = Settler::new(core.clone(), ledger.clone(), submitter.clone(), proofs, within, Arc::clone(metrics), Arc::clone(&view));
        let settler = Arc::new(settler);
        let rooms = Rooms {
            core: core.clone(),
            ledger: ledger.clone(),
            submitter: submitter.clone(),
            settler: Arc::clone(&settler),
            view: Arc::clone(&view),
            metrics: Arc::clone(metrics),
            coin_nanos: config.chain.coin_nanos,
        };
        let relays = Relays::restore(rooms, config.relay.clone(), Arc::clone(reader)).await?;

        let identity = match (&config.server.certificate, &config.server.private_key) {
            (Some(chain), Some(key)) => ServerIdentity::from_pem_files(chain, key)?,
            _ => ServerIdentity::load_or_generate(&config.server.data_dir)?,
        };
        let endpoint = ServerEndpoint::bind(listen, identity, &transport_options(listen, config))?;
        let listen = endpoint.local_address()?;
        let certificate_sha256 = endpoint.fingerprint().to_string();

        let indexer =
            Indexer::new(ledger.clone(), IndexerOptions { confirmations: config.chain.confirmations, ..IndexerOptions::default() });
        let follower = Follower {
            core: core.clone(),
            indexer,
            start_block: BlockNumber::new(config.chain.start_block),
            poll_interval: Duration::from_millis(config.chain.poll_millis),
            metrics: Arc::clone(metrics),
            view: Arc::clone(&view),
            followed,
            stopping: stopping.clone(),
        };
        let shared = Arc::new(Shared {
            core: core.clone(),
            verifier: Verifier::start(Arc::clone(metrics)),
            ledger: ledger.id(),
            limits: wire_limits(config),
            channels_per_connection_max: config.limits.channels_per_connection_max.into(),
            metrics: Arc::clone(metrics),
            view: Arc::clone(&view),
            relays: Arc::clone(&relays),
            stopping: stopping.clone(),
        });
        let checker = shared.verifier.name();
        let due = settle_when_due(
            Arc::clone(&settler),
            Arc::clone(&view),
            core.clone(),
            ledger.clone(),
            config.settlement.clone(),
            config.chain.coin_nanos,
            stopping.clone(),
        );
        info!(%listen, certificate_sha256, checker, ledger = %ledger.address(), "serving a ledger");
        Ok(Self {
            rooms: Arc::new(LedgerRooms { ledger, settler, relays, view, listen, certificate_sha256 }),
            server: tokio::spawn(server::run(shared, endpoint.clone(), config.limits.connections_max)),
            endpoint,
            follower: tokio::spawn(follower.run()),
            due: tokio::spawn(due),
        })
    }

    pub(crate) const fn rooms(&self) -> &Arc<LedgerRooms> {
        &self.rooms
    }

    /// Resolves when the chain is followed no more, with why.
    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        match (&mut self.follower).await {
            Ok(Ok(())) => anyhow::anyhow!("the chain follower ended"),
            Ok(Err(fault)) => fault.context("the chain follower failed"),
            Err(panic) => anyhow::Error::from(panic).context("the chain follower failed"),
        }
    }

    /// Lets sessions end, and says goodbye. The node has said that it stops.
    pub(crate) async fn close(&mut self) {
        match tokio::time::timeout(STOP_DEADLINE, &mut self.server).await {
            Ok(Ok(())) => {}
            Ok(Err(panic)) => error!(%panic, "the server failed"),
            // What is durable is acknowledged when they attach again.
            Err(_) => warn!("some payers do not read their answers: leaving them"),
        }
        self.endpoint.close(Some(millstream_wire::ErrorCode::ShuttingDown), "the node is stopping");
        // Payers that are gone need no goodbye.
        let _ = tokio::time::timeout(GOODBYE_DEADLINE, self.endpoint.wait_idle()).await;
    }

    /// Leaves a settlement under way: it is planned again at the next start.
    pub(crate) fn abort(&self) {
        self.due.abort();
    }
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
        let now = now().max(view.head_time());
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

fn service_options(config: &ProverSection) -> ServiceOptions {
    ServiceOptions {
        threads: config.threads,
        jobs_max: config.jobs_max,
        memory_bytes_max: config.memory_mib_max.saturating_mul(1 << 20),
        ..ServiceOptions::default()
    }
}

fn transport_options(listen: SocketAddr, config: &NodeConfig) -> TransportOptions {
    let options = if listen.ip().is_loopback() { TransportOptions::loopback() } else { TransportOptions::default() };
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
