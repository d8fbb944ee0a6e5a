//! The admin listener: health, metrics, status, settlement and proofs as JSON over HTTP. Loopback only; see `docs/operating/`.

use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use axum::extract::{FromRef, Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use millstream_engine::{Channel, ChannelStatus, Engine, Input, Record, Table};
use millstream_prover::{Job, JobState, ProofStep};
use millstream_store::{KeyRange, Read, RocksReader};
use millstream_types::{Address, Amount, ChainId, ChannelId, CumulativeAmount};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tower::ServiceExt;
use tracing::info;

use crate::access::{Denied, Scope, TokenFile};
use crate::api::{self, Endpoint};
use crate::backup::{self, BackupManifest};
use crate::base::Base;
use crate::books::{self, Books};
use crate::config::NodeConfig;
use crate::core::{Core, Stopped, stopped, store_table};
use crate::live::{Reloaded, Reloads};
use crate::metrics::Metrics;
use crate::native::LedgerRooms;
use crate::plan::Floor;
use crate::proofs::{self, Bill, ProofFailure};
use crate::relay::RelayView;
use crate::settle::{MoveView, Plan};

/// What the handlers need.
pub(crate) struct Admin {
    core: Core,
    chain: ChainId,
    operator: Address,
    reader: Arc<dyn Read>,
    metrics: Arc<Metrics>,
    /// What serves a ledger, where there is one.
    native: Option<Arc<LedgerRooms>>,
    /// Another part of the process.
    part: OnceLock<AdminPart>,
    started: Instant,
    stopping: watch::Receiver<bool>,
    pub(crate) books: Arc<Books>,
    database: RocksReader,
    data_dir: PathBuf,
    reloads: Arc<Reloads>,
    /// Who may ask; everybody on this machine without it.
    access: Option<TokenFile>,
    /// One backup at a time: each reads the whole database.
    backing_up: tokio::sync::Mutex<()>,
}

/// What another part of the process shows on the admin listener, and does for the operator.
pub struct AdminPart {
    /// Its endpoints, beside those of the node, which come first.
    pub routes: Router,
    /// The same, described.
    pub endpoints: Vec<Endpoint>,
    /// Why it takes no payments now; nothing when it does. Part of `/readyz`.
    pub waits_for: Box<dyn Fn() -> Option<&'static str> + Send + Sync>,
}

impl Admin {
    pub(crate) fn new(
        base: &Base,
        chain: ChainId,
        native: Option<Arc<LedgerRooms>>,
        config: &NodeConfig,
        access: Option<TokenFile>,
        reloads: &Arc<Reloads>,
        started: Instant,
    ) -> Self {
        Self {
            core: base.core.clone(),
            chain,
            operator: base.submitter.account(),
            reader: Arc::clone(&base.reader),
            metrics: Arc::clone(&base.metrics),
            native,
            part: OnceLock::new(),
            started,
            stopping: base.stopping.clone(),
            books: Arc::clone(&base.books),
            database: base.database.clone(),
            data_dir: config.server.data_dir.clone(),
            reloads: Arc::clone(reloads),
            access,
            backing_up: tokio::sync::Mutex::default(),
        }
    }

    pub(crate) fn mount(&self, part: AdminPart) -> anyhow::Result<()> {
        self.part.set(part).map_err(|_| anyhow::anyhow!("the admin listener shows another part already"))
    }
}

/// What the handlers of a ledger's endpoints need.
#[derive(Clone)]
struct LedgerAdmin {
    admin: Arc<Admin>,
    rooms: Arc<LedgerRooms>,
}

impl FromRef<LedgerAdmin> for Arc<Admin> {
    fn from_ref(state: &LedgerAdmin) -> Self {
        Self::clone(&state.admin)
    }
}

/// Serves until the node stops.
pub(crate) async fn run(admin: Arc<Admin>, listener: TcpListener) -> anyhow::Result<()> {
    let mut stopping = admin.stopping.clone();
    let mut router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .route("/openapi.json", get(openapi))
        .merge(books::routes())
        .route("/backup", post(backup))
        .route("/reload", post(reload))
        .fallback(elsewhere)
        .with_state(Arc::clone(&admin));
    if let Some(rooms) = admin.native.clone() {
        router = router.merge(of_a_ledger(LedgerAdmin { admin: Arc::clone(&admin), rooms }));
    }
    let router = router
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&admin), ask_for_token))
        .layer(axum::middleware::from_fn(refuse_browsers));
    Ok(axum::serve(listener, router).with_graceful_shutdown(async move { stopped(&mut stopping).await }).await?)
}

/// The endpoints of a ledger.
fn of_a_ledger(state: LedgerAdmin) -> Router {
    Router::new()
        .route("/channels", get(channels))
        .route("/settle/plan", get(settle_plan))
        .route("/settle/run", post(settle_run))
        .route("/settle/jobs", get(jobs))
        .route("/settle/jobs/{id}", delete(cancel_job))
        .route("/epochs/cut", post(cut_epoch))
        .route("/relays", get(relays))
        .route("/proof", get(proof))
        .with_state(state)
}

/// Another part's endpoints, or none.
async fn elsewhere(State(admin): Shared, request: Request) -> Response {
    let Some(part) = admin.part.get() else {
        let message = match &admin.native {
            Some(_) => format!("there is no {}", request.uri().path()),
            None => format!("there is no {} on a node without a ledger", request.uri().path()),
        };
        return Problem::new(StatusCode::NOT_FOUND, "no_endpoint", message).into_response();
    };
    match part.routes.clone().oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// A problem as `application/problem+json`, with `code` and `message`.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Problem {
    /// A problem: a status, a stable word for programs, and a sentence for people.
    #[must_use]
    pub const fn new(status: StatusCode, code: &'static str, message: String) -> Self {
        Self { status, code, message }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({ "code": self.code, "message": self.message }).to_string();
        (self.status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response()
    }
}

impl From<Stopped> for Problem {
    fn from(stopped: Stopped) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopped", stopped.to_string())
    }
}

impl From<anyhow::Error> for Problem {
    fn from(error: anyhow::Error) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", format!("{error:#}"))
    }
}

type Shared = State<Arc<Admin>>;

/// There is no authentication on loopback, so a page in a browser on this machine must not reach it: neither directly, which carries an
/// `Origin`, nor under a name that was made to point here.
async fn refuse_browsers(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if is_local(host) && !request.headers().contains_key(header::ORIGIN) {
        next.run(request).await
    } else {
        let message = "the admin listener answers programs on this machine, not browsers".to_owned();
        Problem::new(StatusCode::FORBIDDEN, "not_local", message).into_response()
    }
}

/// Whether a `Host` header, with or without a port, names this machine.
fn is_local(host: &str) -> bool {
    let with_port = host.parse::<SocketAddr>().map(|address| address.ip());
    let without = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    with_port.or(without).map_or(name == "localhost", |address| address.is_loopback())
}

async fn livez(State(admin): Shared) -> Response {
    if admin.core.is_alive() {
        "alive\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the core has stopped\n").into_response()
    }
}

/// Ready: the core ticks, the chain has been read once, and the node is not stopping.
async fn readyz(State(admin): Shared) -> Response {
    let reason = if !admin.core.is_alive() {
        "the core has stopped\n"
    } else if *admin.stopping.borrow() {
        "stopping\n"
    } else if admin.native.as_ref().is_some_and(|rooms| !rooms.view.is_current()) {
        "the chain has not been read, or not for too long\n"
    } else if let Some(reason) = admin.part.get().and_then(|part| (part.waits_for)()) {
        return (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response();
    } else {
        return "ready\n".into_response();
    };
    (StatusCode::SERVICE_UNAVAILABLE, reason).into_response()
}

async fn metrics(State(admin): Shared) -> Result<Response, Problem> {
    let summary = admin.core.query(Engine::summary).await?;
    admin.metrics.state(&summary);
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], admin.metrics.text()).into_response())
}

async fn status(State(admin): Shared) -> Result<Json<Value>, Problem> {
    let mut status = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "chain_id": admin.chain.get(),
        "operator": admin.operator,
        "uptime_secs": admin.started.elapsed().as_secs(),
        "commit": admin.core.commit(),
    });
    if let (Some(rooms), Value::Object(status)) = (&admin.native, &mut status)
        && let (Value::Object(ledger), Value::Object(state)) = (ledger_status(rooms), ledger_state(&admin.core, rooms).await?)
    {
        status.extend(ledger.into_iter().chain(state));
    }
    Ok(Json(status))
}

/// Whoever may not is told so, and logged when it tried to do something.
async fn ask_for_token(State(admin): Shared, request: Request, next: Next) -> Response {
    let Some(access) = &admin.access else { return next.run(request).await };
    let authorization = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    match access.judge(request.uri().path(), request.method(), authorization) {
        Ok(name) => {
            if Scope::of(request.method()) == Scope::Operate {
                info!(token = name, method = %request.method(), path = request.uri().path(), "asked by the operator");
            }
            next.run(request).await
        }
        Err(Denied::Unknown) => {
            let message = "the admin listener asks for a token: `Authorization: Bearer`".to_owned();
            Problem::new(StatusCode::UNAUTHORIZED, "token_missing", message).into_response()
        }
        Err(Denied::Scope) => {
            Problem::new(StatusCode::FORBIDDEN, "token_scope", "this token allows to look, and not to do this".to_owned()).into_response()
        }
    }
}

async fn openapi(State(admin): Shared) -> Json<Value> {
    let of_ledger = if admin.native.is_some() { api::LEDGER_ENDPOINTS } else { &[] };
    let of_part = admin.part.get().map_or(&[][..], |part| &part.endpoints);
    Json(api::document(api::ENDPOINTS.iter().chain(of_ledger).chain(of_part), admin.access.is_some()))
}

/// Takes the configuration as the file has it now, or leaves everything as it was.
async fn reload(State(admin): Shared) -> Result<Json<Reloaded>, Problem> {
    let reloads = Arc::clone(&admin.reloads);
    let taken = tokio::task::spawn_blocking(move || reloads.reload()).await.map_err(anyhow::Error::from)?;
    Ok(Json(taken.map_err(|refusal| Problem::new(StatusCode::CONFLICT, "reload_refused", format!("{refusal:#}")))?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BackupRequest {
    /// An absolute path that is not there yet.
    target: PathBuf,
}

/// While it is written, payments go on. A client that goes away does not stop it.
async fn backup(State(admin): Shared, Json(request): Json<BackupRequest>) -> Result<Json<BackupManifest>, Problem> {
    let Ok(_alone) = admin.backing_up.try_lock() else {
        return Err(Problem::new(StatusCode::CONFLICT, "backup_running", "another backup is being written".to_owned()));
    };
    let (database, data_dir) = (admin.database.clone(), admin.data_dir.clone());
    let written = tokio::task::spawn_blocking(move || backup::write(&database, &data_dir, &request.target)).await;
    let written = written.map_err(anyhow::Error::from)?;
    Ok(Json(written.map_err(|error| Problem::new(StatusCode::CONFLICT, "backup_failed", format!("{error:#}")))?))
}

fn ledger_status(rooms: &LedgerRooms) -> Value {
    json!({
        "ledger": rooms.ledger.address(),
        "provider": rooms.ledger.config().provider,
        "token": rooms.ledger.config().token,
        "listen": rooms.listen.to_string(),
        "certificate_sha256": rooms.certificate_sha256,
        "chain": { "block": rooms.view.block() },
        "settlement": { "running": rooms.settler.is_running(), "last": rooms.settler.last() },
        "relay": rooms.relays.status(),
    })
}

async fn ledger_state(core: &Core, rooms: &LedgerRooms) -> Result<Value, Stopped> {
    let ledger = rooms.ledger.id();
    core.query(move |engine| {
        let summary = engine.summary();
        let epochs = engine.unanchored_epochs().map(|epoch| {
            let header = epoch.header(ledger);
            json!({
                "id": epoch.id.number(),
                "frames": epoch.frames,
                "root": header.map(|header| header.root()),
                "sum": header.map(|header| header.top.sum),
            })
        });
        json!({
            "channels": {
                "channels": summary.channels,
                "open": summary.open,
                "frozen": summary.frozen,
                "lines": summary.lines,
                "deposited": summary.deposited,
                "accepted": summary.accepted,
                "settled": summary.settled,
                "refunded": summary.refunded,
            },
            "open_epoch": { "id": engine.open_epoch().id.number(), "frames": engine.open_epoch().frames },
            "unanchored_epochs": epochs.collect::<Vec<_>>(),
            "queue": {
                "unserved": engine.queue().len(),
                "oldest_requested_at_millis": engine.queue().iter().next().map(|(_, request)| request.requested_at.as_millis()),
            },
        })
    })
    .await
}

/// A channel as `GET /channels` shows it. Amounts in nanos.
#[derive(Serialize)]
struct ChannelView {
    channel: ChannelId,
    payer: millstream_types::Address,
    status: &'static str,
    deposit: Amount,
    registered: Amount,
    accepted: CumulativeAmount,
    lines: u64,
    charged: CumulativeAmount,
    settled: CumulativeAmount,
    unsettled: Amount,
    refunded: Amount,
    book: Option<String>,
    slot: Option<u16>,
}

impl From<&Channel> for ChannelView {
    fn from(channel: &Channel) -> Self {
        Self {
            channel: channel.id(),
            payer: channel.payer(),
            status: match channel.status() {
                ChannelStatus::Open => "open",
                ChannelStatus::Closing => "closing",
                ChannelStatus::Closed => "closed",
                ChannelStatus::Frozen => "frozen",
            },
            deposit: channel.deposit(),
            registered: channel.registered(),
            accepted: channel.accepted_total(),
            lines: channel.lines_total(),
            charged: channel.charged(),
            settled: channel.settled(),
            unsettled: channel.unsettled(),
            refunded: channel.refunded(),
            book: channel.location().map(|location| location.book.to_string()),
            slot: channel.location().map(|location| location.slot),
        }
    }
}

/// Channels in one answer, at most.
const CHANNELS_PAGE_MAX: usize = 10_000;

/// Channels in one answer, unless asked for another number.
const CHANNELS_PAGE: usize = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChannelsQuery {
    after: Option<ChannelId>,
    limit: Option<usize>,
}

/// From the store, whose order it is, and not from the core: with a million channels, payments would wait for it.
async fn channels(State(admin): Shared, Query(query): Query<ChannelsQuery>) -> Result<Json<Vec<ChannelView>>, Problem> {
    let reader = Arc::clone(&admin.reader);
    let limit = query.limit.unwrap_or(CHANNELS_PAGE).min(CHANNELS_PAGE_MAX);
    let page = tokio::task::spawn_blocking(move || channels_after(&*reader, query.after, limit)).await;
    Ok(Json(page.map_err(anyhow::Error::from)??))
}

fn channels_after(reader: &dyn Read, after: Option<ChannelId>, limit: usize) -> anyhow::Result<Vec<ChannelView>> {
    // The first key above `after` is `after` and a zero byte.
    let from = after.map_or(Vec::new(), |after| [after.as_bytes().as_slice(), &[0]].concat());
    let (mut page, mut outcome) = (Vec::new(), Ok(()));
    if limit == 0 {
        return Ok(page);
    }
    reader.scan(store_table(Table::Channels), &KeyRange::starting_at(&from), &mut |key, value| {
        match Record::decode(Table::Channels, key, value) {
            Ok(Record::Channel(channel)) => page.push(ChannelView::from(&*channel)),
            Ok(_) => {}
            Err(error) => outcome = Err(error),
        }
        if outcome.is_ok() && page.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    outcome?;
    Ok(page)
}

async fn settle_plan(State(LedgerAdmin { rooms, .. }): State<LedgerAdmin>) -> Result<Json<Value>, Problem> {
    Ok(Json(plan_json(&rooms.settler.plan().await?, rooms.ledger.id())))
}

fn plan_json(plan: &Plan, ledger: millstream_types::LedgerId) -> Value {
    use millstream_engine::RequestKind;
    let Plan { served, settle: plan, moves } = plan;
    let mut books = std::collections::BTreeMap::new();
    for served in served {
        // A void request changes no book.
        let Some(book) = served.book else { continue };
        let (opens, top_ups, closes) = books.entry(book).or_insert((0, 0, 0));
        match served.request.kind {
            RequestKind::Open => *opens += 1,
            RequestKind::TopUp => *top_ups += 1,
            RequestKind::Close => *closes += 1,
        }
    }
    let register = books
        .iter()
        .map(|(book, (opens, top_ups, closes))| json!({ "book": book.to_string(), "opens": opens, "top_ups": top_ups, "closes": closes }));
    let settle = plan
        .books
        .iter()
        .map(|planned| json!({ "book": planned.book.to_string(), "channels": planned.vouchers.len(), "total": planned.total }));
    let epochs = plan
        .epochs
        .iter()
        .map(|epoch| json!({ "id": epoch.id.number(), "root": epoch.header(ledger).map(|header| header.root()) }));
    json!({
        "register": register.collect::<Vec<_>>(),
        "settle": settle.collect::<Vec<_>>(),
        "epochs": epochs.collect::<Vec<_>>(),
        "moves": moves.iter().map(MoveView::from).collect::<Vec<_>>(),
        "waiting": plan.waiting,
    })
}

async fn settle_run(State(LedgerAdmin { rooms, .. }): State<LedgerAdmin>) -> Result<Json<Value>, Problem> {
    // In a task of its own: a client that goes away does not stop a settlement half-way.
    let settler = Arc::clone(&rooms.settler);
    let report = tokio::spawn(async move { settler.run(Floor::NONE).await }).await.map_err(anyhow::Error::from)??;
    Ok(Json(json!(report)))
}

/// A proof under way as `GET /settle/jobs` shows it.
#[derive(Serialize)]
struct JobView {
    id: u64,
    circuit: String,
    book: String,
    state: &'static str,
    /// For how long it has been proved.
    seconds: f64,
    /// The step that runs; none while it waits.
    step: Option<String>,
    /// Its number, from 1; 0 while it waits.
    step_number: usize,
    /// How many there are.
    steps: usize,
}

impl From<Job> for JobView {
    fn from(job: Job) -> Self {
        let (state, seconds, step) = match job.state {
            JobState::Waiting => ("waiting", 0.0, None),
            JobState::Proving { since, step } => ("proving", since.as_secs_f64(), Some(step)),
        };
        Self {
            id: job.id,
            circuit: job.circuit.to_string(),
            book: job.book.to_string(),
            state,
            seconds,
            step: step.map(|step| step.to_string()),
            step_number: step.map_or(0, |step| step.index() + 1),
            steps: ProofStep::ALL.len(),
        }
    }
}

async fn jobs(State(LedgerAdmin { rooms, .. }): State<LedgerAdmin>) -> Json<Vec<JobView>> {
    Json(rooms.settler.proofs().jobs().into_iter().map(JobView::from).collect())
}

/// The settlement that waits for the proof fails; the next one makes it again.
async fn cancel_job(State(LedgerAdmin { rooms, .. }): State<LedgerAdmin>, Path(id): Path<u64>) -> Result<Json<Value>, Problem> {
    if rooms.settler.proofs().cancel(id) {
        Ok(Json(json!({ "cancelled": id })))
    } else {
        Err(Problem::new(StatusCode::NOT_FOUND, "no_such_job", format!("no proof {id} is under way")))
    }
}

/// Deposits that were relayed in the last day or are under way, the newest first.
async fn relays(State(LedgerAdmin { rooms, .. }): State<LedgerAdmin>) -> Json<Vec<RelayView>> {
    Json(rooms.relays.list())
}

async fn cut_epoch(State(admin): Shared) -> Result<Json<Value>, Problem> {
    let before = admin.core.query(|engine| *engine.open_epoch()).await?;
    admin.core.inputs(vec![Input::CutEpoch]).await?;
    let cut = (before.frames > 0).then_some(before.id.number());
    Ok(Json(json!({ "epoch": cut })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProofQuery {
    channel: ChannelId,
    line: u64,
}

async fn proof(State(admin): Shared, Query(query): Query<ProofQuery>) -> Result<Response, Problem> {
    let ProofQuery { channel, line } = query;
    let bill = || admin.core.query(move |engine| Bill::of(engine, &channel));
    let make = |bill| {
        let reader = Arc::clone(&admin.reader);
        tokio::task::spawn_blocking(move || proofs::make(&*reader, bill, channel, line))
    };
    let before = bill().await?;
    let mut made = make(before).await.map_err(anyhow::Error::from)?;
    if matches!(made, Err(ProofFailure::Records(_))) {
        // Its epoch may have been pruned while it was read.
        let after = bill().await?;
        if after.pruned != before.pruned {
            made = make(after).await.map_err(anyhow::Error::from)?;
        }
    }
    match made {
        Ok(proof) => Ok(Json(proof).into_response()),
        Err(failure) => {
            let (status, code) = match &failure {
                ProofFailure::NoSuchLine { .. } => (StatusCode::NOT_FOUND, "no_such_line"),
                ProofFailure::EpochOpen { .. } => (StatusCode::CONFLICT, "epoch_open"),
                ProofFailure::Pruned { .. } => (StatusCode::GONE, "epoch_pruned"),
                ProofFailure::Records(_) => (StatusCode::INTERNAL_SERVER_ERROR, "records"),
            };
            Err(Problem::new(status, code, failure.to_string()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_this_machine_are_local() {
        for host in ["127.0.0.1", "127.0.0.1:80", "127.0.0.2:80", "localhost", "localhost:8433", "[::1]", "[::1]:80"] {
            assert!(is_local(host), "{host}");
        }
        for host in ["", "example.org", "example.org:80", "127.0.0.1.example.org", "10.0.0.1:80", "[2001:db8::1]:80"] {
            assert!(!is_local(host), "{host}");
        }
    }
}
