//! Starting and ending the parts in order.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use millstream_chain::session_escrow::{SessionEscrow, SessionOperator};
use millstream_chain::x402::{BatchOperator, BatchSettlement};
use millstream_chain::{EscrowReader, IndexerOptions, Rpc, Submitter, token_decimals};
use millstream_engine::escrow::{ClaimRule, Escrow, EscrowAnswer, EscrowId, EscrowInput, StepRule};
use millstream_gateway::port::ChargePort;
use millstream_node::{AdminPart, ChainClock, Node, Payments};
use millstream_types::{Amount, AssetUnit};
use millstream_voucher::evm::EscrowDomain;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use crate::admin::{self, Rooms, ServedEscrow};
use crate::board::Board;
use crate::claimer::{ClaimedEscrow, Claimer, ClaimerHandle, ClaimerParts, SessionClaims, X402Claims};
use crate::config::{RailConfig, SessionsConfig};
use crate::desk::{Channels, Desk, DeskParts, Sessions};
use crate::follower::{Follower, FollowerParts, LOOKS_QUEUED_MAX, Look};
use crate::metrics::EscrowMetrics;
use crate::report::Followed;
use crate::single::{SingleParts, Singles};
use crate::terms::escrow_id;

/// How long a rail that stops waits for its parts.
const STOP_DEADLINE: Duration = Duration::from_secs(10);
/// Between two counts of what all channels come to.
const COUNT_INTERVAL: Duration = Duration::from_secs(5);

/// What the rail is built upon.
#[derive(Clone)]
pub struct Parts {
    /// The node's core.
    pub payments: Payments,
    /// The endpoint.
    pub rpc: Rpc,
    /// The one nonce lane of the operator's account, shared with whoever else sends for it. The account is the receiver authorizer of the
    /// channels that are served.
    pub submitter: Submitter,
    /// Told the chain's time.
    pub clock: ChainClock,
    /// Figures, registered with the node's.
    pub metrics: Arc<EscrowMetrics>,
}

impl Parts {
    /// Those of a node. Once for each node: the figures are registered with it.
    #[must_use]
    pub fn of(node: &Node) -> Self {
        Self {
            payments: node.payments(),
            rpc: node.rpc().clone(),
            submitter: node.submitter().clone(),
            clock: node.clock().clone(),
            metrics: Arc::new(node.register(EscrowMetrics::register)),
        }
    }
}

/// The running rail: a follower of the chain, the desk that answers the gateway, and who claims.
pub struct Rail {
    desk: Arc<Desk>,
    claims: ClaimerHandle,
    escrow: Option<EscrowId>,
    session_escrow: Option<EscrowId>,
    admin: Rooms,
    board: Arc<Board>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<anyhow::Result<()>>,
}

impl Rail {
    /// Checks that the contracts are there, tells the engine what is served, reads how its channels are now, and starts the parts. The node's
    /// engine runs with [`RailConfig::engine`].
    ///
    /// # Errors
    /// What is wrong and with what; nothing is left running.
    pub async fn start(parts: Parts, config: RailConfig) -> anyhow::Result<Self> {
        let Parts { payments, rpc, submitter, .. } = parts.clone();
        let channels = match config.x402 {
            Some(_) => Some(BatchSettlement::attach(rpc.clone()).await.context("x402's contracts")?),
            None => None,
        };
        let sessions = match config.sessions {
            Some(sessions) => Some(attach_sessions(&parts, &config, sessions).await?),
            None => None,
        };
        anyhow::ensure!(config.custody.is_empty() || channels.is_some(), "vouchers are kept for others on x402's channels: offer them");
        let stale_after = config.stale_after(sessions.as_ref().map(|(contract, _)| contract.grace_secs()))?;
        let board = Arc::new(Board::new(payments.clone(), stale_after));
        let (stop, stopping) = watch::channel(false);
        let starting = Starting { parts: &parts, config: &config, board: &board, stopping: &stopping };
        let mut tasks = JoinSet::new();

        let unit = AssetUnit::new(token_decimals(&rpc, config.token).await.context("the token's decimals")?)?;
        let mut escrows = Vec::new();
        let channels = match channels {
            None => None,
            Some(contract) => {
                let (step, claim) = (StepRule::Exact, ClaimRule::UpTo);
                let (escrow, looks) = starting.follow(&mut tasks, contract.clone(), contract.domain(), step, claim).await?;
                let operator = BatchOperator::new(contract, submitter.clone());
                let claims = X402Claims::new(operator.clone(), config.token);
                escrows.push(ClaimedEscrow { id: escrow, unit, contract: Arc::new(claims) });
                Some(Channels { escrow, operator, looks })
            }
        };
        let sessions = match sessions {
            None => None,
            Some((contract, SessionsConfig { voucher_delta_min, .. })) => {
                let (step, claim) = (StepRule::Monotone { min_delta: voucher_delta_min }, ClaimRule::Whole);
                let (escrow, looks) = starting.follow(&mut tasks, contract.clone(), contract.domain(), step, claim).await?;
                let operator = SessionOperator::new(contract, submitter.clone());
                let claims = SessionClaims::new(operator.clone(), config.token);
                escrows.push(ClaimedEscrow { id: escrow, unit, contract: Arc::new(claims) });
                Some(Sessions { escrow, operator, looks })
            }
        };
        let escrow = channels.as_ref().map(|channels| channels.escrow);
        let session_escrow = sessions.as_ref().map(|sessions| sessions.escrow);
        let served: Vec<EscrowId> = escrows.iter().map(|escrow| escrow.id).collect();
        // Of a single payment the number names the token.
        let named = served.first().copied().context("nothing is served: neither x402's channels nor MPP's sessions")?;
        // What an earlier process had sent is followed on under its nonces before anything else is sent: the claimer sends when it likes.
        let singles = Singles::start(SingleParts {
            payments: payments.clone(),
            submitter: submitter.clone(),
            escrow: named,
            token: config.token,
            confirmations: config.confirmations,
            settle_wait: Duration::from_secs(config.escrow.settle_wait_secs.max(1)),
        });
        let singles = singles.await.context("single payments of an earlier process cannot be followed on")?;
        let desk_parts = DeskParts {
            board: Arc::clone(&board),
            metrics: Arc::clone(&parts.metrics),
            rpc: rpc.clone(),
            submitter: submitter.clone(),
            token: config.token,
            receiver: config.receiver,
            custody: config.custody.clone(),
            channels,
            sessions,
            deposit_wait: Duration::from_secs(config.escrow.deposit_wait_secs.max(1)),
            trusts_sent: config.escrow.trusts_sent(),
        };
        let desk = Desk::new(desk_parts, singles.clone());
        desk.resume().await.context("what was sent before the start")?;
        let claimer = Claimer::start(ClaimerParts {
            payments,
            submitter,
            escrows,
            section: config.escrow.claim.clone(),
            claim_margin: Duration::from_secs(config.escrow.claim_margin_secs),
            coin_nanos: config.coin_nanos,
            poll: config.poll_interval,
            metrics: Arc::clone(&parts.metrics.claims),
        });
        let claimer = claimer.await.context("what was claimed cannot be followed")?;
        let claims = claimer.handle();
        tasks.spawn(keep_claiming(claimer, stopping.clone()));
        tasks.spawn(singles.run(config.poll_interval, stopping.clone()));
        tasks.spawn(count(Arc::clone(&board), Arc::clone(&parts.metrics), served, stopping));
        let served_escrow = |(protocol, id)| ServedEscrow { id, protocol, token: config.token, receiver: config.receiver };
        let shown = [escrow.map(|escrow| ("x402", escrow)), session_escrow.map(|escrow| ("mpp", escrow))];
        let escrows = shown.into_iter().flatten().map(served_escrow).collect();
        let admin = Rooms { payments: parts.payments.clone(), claims: claims.clone(), escrows };
        Ok(Self { desk: Arc::new(desk), claims, escrow, session_escrow, admin, board, stop, tasks })
    }

    /// What the gateway charges through.
    #[must_use]
    pub fn port(&self) -> Arc<dyn ChargePort> {
        Arc::clone(&self.desk) as Arc<dyn ChargePort>
    }

    /// To see and control claims and sweeps.
    #[must_use]
    pub fn claims(&self) -> ClaimerHandle {
        self.claims.clone()
    }

    /// What it shows and does on the node's admin listener.
    #[must_use]
    pub fn admin(&self) -> AdminPart {
        admin::part(self.admin.clone(), Arc::clone(&self.board))
    }

    /// The number of x402's escrow in the engine, when its channels are served.
    #[must_use]
    pub const fn escrow(&self) -> Option<EscrowId> {
        self.escrow
    }

    /// The number of the sessions' escrow in the engine, when they are served.
    #[must_use]
    pub const fn session_escrow(&self) -> Option<EscrowId> {
        self.session_escrow
    }

    /// Resolves when a part has failed: the process is to end with it.
    pub async fn failed(&mut self) -> anyhow::Error {
        match self.tasks.join_next().await {
            Some(Ok(Err(failure))) => failure,
            Some(Err(panic)) => anyhow::Error::from(panic).context("a part of the rail failed"),
            Some(Ok(Ok(()))) | None => anyhow::anyhow!("a part of the rail ended"),
        }
    }

    /// Ends the parts; the node's core comes after. What is on its way on the chain is found again at the next start.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        let ended = async {
            while let Some(ended) = self.tasks.join_next().await {
                match ended {
                    Ok(Ok(())) => {}
                    Ok(Err(failure)) => error!(failure = format!("{failure:#}"), "a part of the rail failed while it stopped"),
                    Err(panic) => error!(%panic, "a part of the rail failed while it stopped"),
                }
            }
        };
        if tokio::time::timeout(STOP_DEADLINE, ended).await.is_err() {
            warn!("a part of the rail does not end: leaving it");
        }
    }
}

/// What the followers are started with.
struct Starting<'a> {
    parts: &'a Parts,
    config: &'a RailConfig,
    board: &'a Arc<Board>,
    stopping: &'a watch::Receiver<bool>,
}

impl Starting<'_> {
    /// Tells the engine that an escrow is served, reads how its channels are now, and follows them from there on.
    async fn follow<C: Followed>(
        &self,
        tasks: &mut JoinSet<anyhow::Result<()>>,
        contract: C,
        domain: &EscrowDomain,
        step: StepRule,
        claim: ClaimRule,
    ) -> anyhow::Result<(EscrowId, mpsc::Sender<Look>)> {
        let (config, separator) = (self.config, *domain.separator());
        let id = escrow_id(&separator, &config.token);
        self.parts.payments.name(id, *domain);
        serve(&self.parts.payments, Escrow { id, separator, token: config.token, step, claim, optimistic: config.optimistic() }).await?;
        let (looks, asked) = mpsc::channel(LOOKS_QUEUED_MAX);
        let options = IndexerOptions { confirmations: config.confirmations, ..IndexerOptions::default() };
        let follower = Follower::start(FollowerParts {
            board: Arc::clone(self.board),
            view: self.board.view(),
            metrics: Arc::clone(&self.parts.metrics),
            reader: EscrowReader::new(contract, options),
            escrow: id,
            token: config.token,
            poll_interval: config.poll_interval,
            full_look: Duration::from_secs(config.escrow.full_look_secs.max(1)),
            looks: asked,
            clock: self.parts.clock.clone(),
            submitter: self.parts.submitter.clone(),
            stopping: self.stopping.clone(),
        });
        let follower = follower.await.context("the escrow's channels cannot be read")?;
        forget_announcements(&self.parts.payments, id).await?;
        let scheme = domain.scheme();
        tasks.spawn(async move { follower.run().await.with_context(|| format!("the follower of {scheme:?} failed")) });
        info!(escrow = %id, contract = %domain.contract(), token = %config.token, receiver = %config.receiver, "{scheme:?} channels are served");
        Ok((id, looks))
    }
}

/// The escrow of sessions. It pays whoever settles, so that has to be the account that is paid.
async fn attach_sessions(parts: &Parts, config: &RailConfig, sessions: SessionsConfig) -> anyhow::Result<(SessionEscrow, SessionsConfig)> {
    let account = parts.submitter.account();
    anyhow::ensure!(
        config.receiver == account,
        "MPP sessions pay the account that settles them: payment.pay_to is {}, and the operator's account is {account}",
        config.receiver,
    );
    let contract = SessionEscrow::attach(parts.rpc.clone(), sessions.contract).await.context("the escrow of MPP sessions")?;
    Ok((contract, sessions))
}

/// Tells the engine that an escrow is served.
async fn serve(payments: &Payments, escrow: Escrow) -> anyhow::Result<()> {
    match payments.apply(EscrowInput::Serve(escrow)).await? {
        EscrowAnswer::Rejected { rejection, .. } => Err(rejection).context("the data directory knows another escrow by this number"),
        _ => Ok(()),
    }
}

/// What the last process announced and did not see confirmed is not credit: when it comes, the chain says so.
async fn forget_announcements(payments: &Payments, escrow: EscrowId) -> anyhow::Result<()> {
    let announced = payments.read(move |engine| {
        let channels = engine.escrow_channels(escrow).filter(|channel| channel.announced().is_some());
        channels.map(|channel| channel.terms().channel).collect::<Vec<_>>()
    });
    for channel in announced.await? {
        payments.apply(EscrowInput::AnnouncementFailed { channel }).await?;
    }
    Ok(())
}

/// Lets the claimer work until the rail stops. What it had sent is followed on at the next start.
async fn keep_claiming(mut claimer: Claimer, mut stopping: watch::Receiver<bool>) -> anyhow::Result<()> {
    tokio::select! {
        biased;
        _ = stopping.wait_for(|stopping| *stopping) => {}
        failure = claimer.failed() => return Err(failure),
    }
    claimer.stop().await;
    Ok(())
}

/// Counts now and then what all channels come to.
async fn count(
    board: Arc<Board>,
    metrics: Arc<EscrowMetrics>,
    escrows: Vec<EscrowId>,
    mut stopping: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    loop {
        let escrows = escrows.clone();
        let sums = board.payments.read(move |engine| {
            let mut sums = [Amount::ZERO; 5];
            for channel in escrows.iter().flat_map(|escrow| engine.escrow_channels(*escrow)) {
                let totals = channel.totals();
                let unclaimed = totals.charged.delta_since(totals.settled).unwrap_or(Amount::ZERO);
                let unconfirmed = channel.unconfirmed();
                let parts = [totals.deposit, totals.reserved, totals.charged.as_amount(), unclaimed, unconfirmed];
                for (sum, part) in sums.iter_mut().zip(parts) {
                    *sum = sum.checked_add(part).unwrap_or(*sum);
                }
            }
            (sums, engine.escrow_summary())
        });
        let Ok((sums, summary)) = sums.await else { return Ok(()) };
        let gauges = [&metrics.deposit, &metrics.reserved, &metrics.charged, &metrics.unclaimed, &metrics.unconfirmed];
        for (gauge, sum) in gauges.into_iter().zip(sums) {
            // An operator's figure: the last digits do not matter.
            gauge.set(sum.units() as f64);
        }
        let counts = [
            (&metrics.channels, summary.channels),
            (&metrics.frozen, summary.frozen),
            (&metrics.quarantined, summary.quarantined),
            (&metrics.reservations, summary.reservations),
        ];
        for (gauge, count) in counts {
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        metrics.view_age_seconds.set(board.view_age_millis() as f64 / 1_000.0);
        tokio::select! {
            biased;
            _ = stopping.wait_for(|stopping| *stopping) => return Ok(()),
            () = tokio::time::sleep(COUNT_INTERVAL) => {}
        }
    }
}
