//! What the operator sees of the rail and does with it: endpoints for the node's admin listener. Amounts are base units of the token, as decimal
//! strings.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use millstream_engine::Engine;
use millstream_engine::escrow::{EscrowChannel, EscrowId, EscrowStatus};
use millstream_node::{AdminPart, Endpoint, Payments, Problem};
use millstream_policy::{PolicyOrder, PolicyReply};
use millstream_types::{Address, Amount, CumulativeAmount, EscrowChannelId};
use serde::{Deserialize, Serialize};

use crate::board::Board;
use crate::claimer::{ClaimView, ClaimableView, ClaimerError, ClaimerHandle, PAGE_ROWS_MAX, QuarantineView, Report, SweepView};

/// What the endpoints are about.
#[derive(Clone)]
pub(crate) struct Rooms {
    pub(crate) payments: Payments,
    pub(crate) claims: ClaimerHandle,
    pub(crate) escrows: Vec<ServedEscrow>,
}

/// An escrow that is served.
#[derive(Clone, Debug)]
pub(crate) struct ServedEscrow {
    pub(crate) id: EscrowId,
    /// Whose contract it is: `x402` or `mpp`.
    pub(crate) protocol: &'static str,
    pub(crate) token: Address,
    pub(crate) receiver: Address,
}

/// What there is, described.
const ENDPOINTS: &[Endpoint] = &[
    Endpoint::new("GET", "/escrow/status", "What the channels of the escrows come to, claims under way, quarantine"),
    Endpoint {
        query: &[("from", "a position: the page begins there"), ("limit", "channels")],
        ..Endpoint::new("GET", "/escrow/channels", "A page of channels, in the order in which they came")
    },
    Endpoint::new("GET", "/escrow/claim", "What there is to claim now"),
    Endpoint::new("POST", "/escrow/claim", "Claim whatever there is, and pay it out"),
    Endpoint::new("POST", "/escrow/release/{channel}", "Take a channel out of quarantine"),
    Endpoint::new("GET", "/policy", "What the policy of customers holds: budgets, breakers, approvals"),
    Endpoint::new("POST", "/policy", "Give an order to the policy, such as to pause or to approve"),
];

/// `GET /escrow/status`.
#[derive(Serialize)]
struct StatusView {
    escrows: Vec<EscrowView>,
    /// Claims under way, the oldest first.
    claims: Vec<ClaimView>,
    sweeps: Vec<SweepView>,
    /// The first of them.
    quarantine: Vec<QuarantineView>,
}

/// What the channels of one escrow come to.
#[derive(Serialize)]
struct EscrowView {
    escrow: u32,
    protocol: &'static str,
    token: Address,
    receiver: Address,
    channels: u64,
    open: u64,
    /// Whose payers are leaving.
    leaving: u64,
    frozen: u64,
    quarantined: u64,
    /// Confirmed deposits, withdrawals and refunds taken off.
    deposit: Amount,
    accepted: Amount,
    charged: Amount,
    /// Held for deliveries under way.
    reserved: Amount,
    claimed: Amount,
    /// Charged and not claimed.
    unclaimed: Amount,
}

/// One of `GET /escrow/channels`.
#[derive(Serialize)]
struct ChannelView {
    channel: EscrowChannelId,
    escrow: u32,
    payer: Address,
    status: &'static str,
    deposit: Amount,
    accepted: CumulativeAmount,
    charged: CumulativeAmount,
    reserved: Amount,
    claimed: CumulativeAmount,
    unclaimed: Amount,
    /// When its payer can take the rest, by the chain's time.
    leaves_at_millis: Option<u64>,
    quarantine: Option<String>,
}

/// `GET /escrow/claim`: what a claim would take now.
#[derive(Serialize)]
struct ClaimableRows {
    claimable: Vec<ClaimableView>,
    total: Amount,
    claims: Vec<ClaimView>,
    sweeps: Vec<SweepView>,
}

/// `POST /escrow/claim`: what was sent; it is not confirmed by then.
#[derive(Serialize)]
struct ClaimedView {
    claims: Vec<u64>,
    rows: usize,
    quarantined: Vec<EscrowChannelId>,
    sweeps: usize,
}

/// Channels in the order in which they came, from this position of all.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PageQuery {
    from: Option<usize>,
    limit: Option<usize>,
}

type Shared = State<Rooms>;

/// The endpoints, and why no payments are taken, if none are.
pub(crate) fn part(rooms: Rooms, board: Arc<Board>) -> AdminPart {
    let waits_for = move || board.require_current().err().map(|_| "the escrow's channels have not been read, or not for too long");
    AdminPart { routes: routes(rooms), endpoints: ENDPOINTS.to_vec(), waits_for: Box::new(waits_for) }
}

fn routes(rooms: Rooms) -> Router {
    Router::new()
        .route("/escrow/status", get(status))
        .route("/escrow/channels", get(channels))
        .route("/escrow/claim", get(claimable).post(claim))
        .route("/escrow/release/{channel}", post(release))
        .route("/policy", get(policy).post(policy_order))
        .with_state(rooms)
}

/// The policy as it stands.
async fn policy(State(rooms): Shared) -> Result<Json<PolicyReply>, Problem> {
    carry_out(&rooms, PolicyOrder::Show).await
}

/// An order to the policy; what is answered is durable.
async fn policy_order(State(rooms): Shared, Json(order): Json<PolicyOrder>) -> Result<Json<PolicyReply>, Problem> {
    carry_out(&rooms, order).await
}

async fn carry_out(rooms: &Rooms, order: PolicyOrder) -> Result<Json<PolicyReply>, Problem> {
    match rooms.payments.policy(order).await? {
        Some(Ok(reply)) => Ok(Json(reply)),
        Some(Err(error)) => Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "policy_order", error.to_string())),
        None => Err(Problem::new(StatusCode::NOT_FOUND, "no_policy", "the configuration has no [policy]".to_owned())),
    }
}

async fn status(State(rooms): Shared) -> Result<Json<StatusView>, Problem> {
    let (mut escrows, mut quarantine) = (Vec::new(), Vec::new());
    for escrow in &rooms.escrows {
        escrows.push(sums(&rooms.payments, escrow).await?);
        quarantine.extend(rooms.claims.desk().quarantined(escrow.id, None, PAGE_ROWS_MAX).await?);
    }
    let (claims, sweeps) = (rooms.claims.desk().claims().await?, rooms.claims.desk().sweeps().await?);
    Ok(Json(StatusView { escrows, claims, sweeps, quarantine }))
}

/// A page at a time: with many channels, payments would wait for it.
async fn sums(payments: &Payments, escrow: &ServedEscrow) -> Result<EscrowView, Problem> {
    let ServedEscrow { id, protocol, token, receiver } = *escrow;
    let mut view = EscrowView {
        escrow: id.0,
        protocol,
        token,
        receiver,
        channels: 0,
        open: 0,
        leaving: 0,
        frozen: 0,
        quarantined: 0,
        deposit: Amount::ZERO,
        accepted: Amount::ZERO,
        charged: Amount::ZERO,
        reserved: Amount::ZERO,
        claimed: Amount::ZERO,
        unclaimed: Amount::ZERO,
    };
    let mut from = 0;
    loop {
        let page: Vec<ChannelView> = payments.read(move |engine| page(engine, id, from, PAGE_ROWS_MAX)).await?;
        for channel in &page {
            let count = |is: bool| u64::from(is);
            view.channels += 1;
            view.open += count(channel.status == "open");
            view.frozen += count(channel.status == "frozen");
            view.leaving += count(channel.leaves_at_millis.is_some());
            view.quarantined += count(channel.quarantine.is_some());
            let parts = [
                (&mut view.deposit, channel.deposit),
                (&mut view.accepted, channel.accepted.as_amount()),
                (&mut view.charged, channel.charged.as_amount()),
                (&mut view.reserved, channel.reserved),
                (&mut view.claimed, channel.claimed.as_amount()),
                (&mut view.unclaimed, channel.unclaimed),
            ];
            for (sum, part) in parts {
                *sum = sum.checked_add(part).map_err(anyhow::Error::from)?;
            }
        }
        if page.len() < PAGE_ROWS_MAX {
            return Ok(view);
        }
        from += page.len();
    }
}

fn page(engine: &Engine, escrow: EscrowId, from: usize, limit: usize) -> Vec<ChannelView> {
    engine.escrow_channels(escrow).skip(from).take(limit).map(|channel| view(escrow, channel)).collect()
}

fn view(escrow: EscrowId, channel: &EscrowChannel) -> ChannelView {
    let totals = channel.totals();
    ChannelView {
        channel: channel.terms().channel,
        escrow: escrow.0,
        payer: channel.terms().payer,
        status: match channel.status() {
            EscrowStatus::Open => "open",
            EscrowStatus::Frozen(_) => "frozen",
            EscrowStatus::Closed => "closed",
        },
        deposit: totals.deposit,
        accepted: totals.accepted,
        charged: totals.charged,
        reserved: totals.reserved,
        claimed: totals.settled,
        unclaimed: totals.charged.delta_since(totals.settled).unwrap_or(Amount::ZERO),
        leaves_at_millis: channel.exit().map(|exit| exit.finalises_at.as_millis()),
        quarantine: channel.quarantined().map(str::to_owned),
    }
}

async fn channels(State(rooms): Shared, Query(query): Query<PageQuery>) -> Result<Json<Vec<ChannelView>>, Problem> {
    let (mut from, mut left) = (query.from.unwrap_or_default(), query.limit.unwrap_or(PAGE_ROWS_MAX).min(PAGE_ROWS_MAX));
    let mut all = Vec::new();
    for ServedEscrow { id, .. } in rooms.escrows {
        let read = rooms.payments.read(move |engine| (page(engine, id, from, left), engine.escrow_channels(id).count()));
        let (page, count) = read.await?;
        from = from.saturating_sub(count);
        left = left.saturating_sub(page.len());
        all.extend(page);
    }
    Ok(Json(all))
}

async fn claimable(State(rooms): Shared) -> Result<Json<ClaimableRows>, Problem> {
    let desk = rooms.claims.desk();
    let (mut claimable, mut total) = (Vec::new(), Amount::ZERO);
    for escrow in &rooms.escrows {
        claimable.extend(desk.claimable(escrow.id, None, PAGE_ROWS_MAX).await?);
    }
    for row in &claimable {
        total = total.checked_add(row.gain).map_err(anyhow::Error::from)?;
    }
    Ok(Json(ClaimableRows { claimable, total, claims: desk.claims().await?, sweeps: desk.sweeps().await? }))
}

async fn claim(State(rooms): Shared) -> Result<Json<ClaimedView>, Problem> {
    let Report { claims, rows, quarantined, .. } = rooms.claims.claim_now().await.map_err(problem)?;
    let sweeps = rooms.claims.sweep_now().await.map_err(problem)?.sweeps;
    Ok(Json(ClaimedView { claims: claims.into_iter().map(|claim| claim.0).collect(), rows, quarantined, sweeps }))
}

async fn release(State(rooms): Shared, Path(channel): Path<EscrowChannelId>) -> Result<Json<EscrowChannelId>, Problem> {
    rooms.claims.release(channel).await.map_err(problem)?;
    Ok(Json(channel))
}

fn problem(error: ClaimerError) -> Problem {
    let (status, code) = match error {
        ClaimerError::Stopped => (StatusCode::SERVICE_UNAVAILABLE, "stopped"),
        ClaimerError::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "chain_unavailable"),
        ClaimerError::Rejected(_) => (StatusCode::NOT_FOUND, "no_such_channel"),
    };
    Problem::new(status, code, error.to_string())
}
