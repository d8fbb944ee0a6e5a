//! The payer's policy against a shop: approvals, breakers, budgets by agent, orders to a running payer, and books of layout 1.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Response};
use millstream_client::http::{
    Asset, AssetId, AssetLimits, HttpPayError, HttpPayer, HttpPayerOptions, Limit, PayerAccount, PaymentBook, PolicyConfig, PolicyOrder,
    PolicyReply, Refusal, SpendLimits, send_order, serve_orders, socket_of,
};
use millstream_dialect::x402::{
    ExactPayload, PAYMENT_REQUIRED, PAYMENT_RESPONSE, PaymentPayload, PaymentRequired, Resource, SettleResponse, VERSION,
};
use millstream_types::{Amount, ChainId};
use redb::{Database, TableDefinition};
use reqwest::{Method, Request, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;

const TOKEN: &str = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
const PAYEE: &str = "0x4444444444444444444444444444444444444444";
const PRICE: u128 = 1_000;

/// Sells at a price for single payments, and remembers what it was paid.
#[derive(Clone)]
struct Shop {
    origin: String,
    state: Arc<Mutex<ShopState>>,
}

struct ShopState {
    price: u128,
    status: StatusCode,
    /// Nonce and value of each payment, as often as it came.
    paid: Vec<(String, u128)>,
    headers: Vec<HeaderMap>,
    /// Bodies that were posted to `/hook`.
    told: Vec<Value>,
}

impl Shop {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let origin = format!("http://{}", listener.local_addr().expect("bound"));
        let state = ShopState { price: PRICE, status: StatusCode::OK, paid: Vec::new(), headers: Vec::new(), told: Vec::new() };
        let shop = Self { origin, state: Arc::new(Mutex::new(state)) };
        let router = Router::new().route("/hook", axum::routing::post(hook)).fallback(sell).with_state(shop.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        shop
    }

    fn set(&self, change: impl FnOnce(&mut ShopState)) {
        change(&mut self.state.lock().expect("sound"));
    }

    fn read<T>(&self, read: impl FnOnce(&ShopState) -> T) -> T {
        read(&self.state.lock().expect("sound"))
    }

    /// What was signed away: each payment once.
    fn signed(&self) -> u128 {
        let paid = self.read(|state| state.paid.clone());
        paid.into_iter().collect::<std::collections::BTreeMap<_, _>>().values().sum()
    }

    fn get(&self, path: &str) -> Request {
        Request::new(Method::GET, format!("{}{path}", self.origin).parse().expect("an address"))
    }

    fn by(&self, agent: &str, path: &str) -> Request {
        let mut request = self.get(path);
        request.headers_mut().insert("x-millstream-agent", agent.parse().expect("a value"));
        request
    }
}

async fn hook(State(shop): State<Shop>, body: Bytes) {
    shop.set(|state| state.told.push(serde_json::from_slice(&body).expect("JSON")));
}

async fn sell(State(shop): State<Shop>, headers: HeaderMap) -> Response<Body> {
    shop.set(|state| state.headers.push(headers.clone()));
    let Some(payment) = headers.get("payment-signature") else { return shop.read(|state| required(state.price)) };
    let payment = PaymentPayload::from_header(payment.to_str().expect("text")).expect("a payment");
    let ExactPayload::Erc3009(transfer) = ExactPayload::from_object(&payment.payload).expect("a payload") else {
        panic!("a transfer by ERC-3009 was offered")
    };
    shop.set(|state| state.paid.push((transfer.authorization.nonce.to_string(), transfer.authorization.value.units())));
    let settled = SettleResponse { success: true, network: "eip155:31337".to_owned(), ..SettleResponse::default() };
    let status = shop.read(|state| state.status);
    Response::builder()
        .status(status)
        .header(PAYMENT_RESPONSE, settled.to_header().expect("short"))
        .body(Body::from("sold"))
        .expect("sound")
}

fn required(price: u128) -> Response<Body> {
    let offer = json!({
        "scheme": "exact", "network": "eip155:31337", "amount": price.to_string(), "asset": TOKEN, "payTo": PAYEE, "maxTimeoutSeconds": 60,
        "extra": { "name": "USDC", "version": "2" },
    });
    let required = PaymentRequired {
        x402_version: VERSION,
        error: None,
        resource: Resource { url: "https://shop.example/".to_owned(), ..Resource::default() },
        accepts: vec![serde_json::from_value(offer).expect("an offer")],
        extensions: serde_json::from_value(json!({})).expect("an object"),
    };
    Response::builder()
        .status(402)
        .header(PAYMENT_REQUIRED, required.to_header().expect("short"))
        .body(Body::empty())
        .expect("sound")
}

fn asset_id() -> AssetId {
    AssetId { chain: ChainId::new(31_337), token: TOKEN.parse().expect("an address") }
}

fn options(rules: &Value, change: impl FnOnce(&mut AssetLimits)) -> HttpPayerOptions {
    let usdc = Asset { id: asset_id(), symbol: "USDC".to_owned(), decimals: 6, domain: Some(("USDC".to_owned(), "2".to_owned())) };
    let mut limits = AssetLimits::default_of(6);
    change(&mut limits);
    let policy: PolicyConfig = serde_json::from_value(rules.clone()).expect("rules");
    let limits = SpendLimits::default().allow(usdc, limits);
    HttpPayerOptions { limits, policy, resends_max: 0, ..HttpPayerOptions::default() }
}

fn payer(directory: &Path, options: HttpPayerOptions) -> HttpPayer {
    let account = PayerAccount::from_secret(&[0x11; 32]).expect("a key");
    HttpPayer::new(account, PaymentBook::open(&directory.join("payments.redb")).expect("opens"), options).expect("a payer")
}

fn setup(rules: &Value) -> (tempfile::TempDir, HttpPayer) {
    let directory = tempfile::tempdir().expect("a directory");
    let payer = payer(directory.path(), options(rules, |_| ()));
    (directory, payer)
}

async fn buys(payer: &HttpPayer, request: Request) {
    let response = payer.execute(request).await.expect("an answer");
    assert_eq!(response.text().await.expect("a body"), "sold");
}

/// The reason of the policy, and the decision's number.
async fn refused(payer: &HttpPayer, request: Request) -> (String, u64) {
    let error = payer.execute(request).await.expect_err("it is refused");
    assert_eq!(error.code(), "policy-refused", "{error}");
    let HttpPayError::NoOffer { offers, .. } = error else { panic!("no offer was taken") };
    match &offers[0].1 {
        Refusal::Policy { decision, reason } => (reason.kind.name().to_owned(), *decision),
        other => panic!("{other}"),
    }
}

async fn needs_approval(payer: &HttpPayer, request: Request) -> u64 {
    match payer.execute(request).await {
        Err(HttpPayError::NeedsApproval { approval, price, .. }) => {
            assert_eq!(price.units(), PRICE);
            approval
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_approval_is_held_and_the_same_request_goes_on_and_is_signed_once() {
    let shop = Shop::start().await;
    let rules = json!({ "approval_above": ["0.0005 USDC"], "webhook": format!("{}/hook", shop.origin) });
    let (directory, payer_a) = setup(&rules);
    let approval = needs_approval(&payer_a, shop.get("/report")).await;
    assert_eq!(needs_approval(&payer_a, shop.get("/report")).await, approval, "it waits, and is not asked for twice");
    assert_eq!(shop.signed(), 0);
    // A restart keeps what waits and what is held.
    drop(payer_a);
    let payer = payer(directory.path(), options(&rules, |_| ()));
    let PolicyReply::Policy(view) = payer.order(PolicyOrder::Show).await.expect("shown") else { panic!("a view") };
    let day = view.counters.iter().find(|counter| counter.rule == "day_max").expect("held");
    assert_eq!((day.spent, day.held), (Amount::ZERO, Amount::from_units(PRICE)));
    assert_eq!(view.approvals[0].state, "waiting");
    payer.order(PolicyOrder::Approve { number: approval }).await.expect("approved");
    assert!(payer.order(PolicyOrder::Approve { number: approval }).await.is_err(), "once");
    buys(&payer, shop.get("/report")).await;
    assert_eq!(shop.signed(), PRICE);
    assert_eq!(payer.book().spent(asset_id(), now()).total.units(), PRICE);
    // Used once; and a denied one is refused.
    let second = needs_approval(&payer, shop.get("/report")).await;
    assert_ne!(second, approval);
    payer.order(PolicyOrder::Deny { number: second }).await.expect("denied");
    assert_eq!(refused(&payer, shop.get("/report")).await.0, "approval-denied");
    assert_eq!(shop.signed(), PRICE);
    // The webhook is told by a task; there is no other sign that it was.
    let told = async {
        while shop.read(|state| state.told.iter().filter(|told| told["approval"] == second).count()) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), told).await.expect("the webhook is told");
    let told = shop.read(|state| state.told.clone());
    assert!(told.iter().all(|told| told["price"] == PRICE.to_string() && told["payee"] == PAYEE), "{told:?}");
}

#[tokio::test]
async fn a_request_waits_for_its_approval_and_another_process_gives_it() {
    let shop = Shop::start().await;
    let directory = tempfile::tempdir().expect("a directory");
    let rules = json!({ "approval_above": ["0.0005 USDC"] });
    let waiting = HttpPayerOptions { approval_wait: Duration::from_secs(60), ..options(&rules, |_| ()) };
    let payer = payer(directory.path(), waiting);
    let book = payer.book().path().to_owned();
    let orders = tokio::spawn(serve_orders(payer.clone()));
    let bought = tokio::spawn({
        let (payer, request) = (payer.clone(), shop.get("/report"));
        async move { payer.execute(request).await }
    });
    let number = async {
        loop {
            // The socket is there when it is there.
            if let Ok(PolicyReply::Approvals(rows)) = send_order(&book, &PolicyOrder::Approvals).await
                && let Some(row) = rows.first()
            {
                return row.approval;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let number = tokio::time::timeout(Duration::from_secs(20), number).await.expect("it waits");
    assert_eq!(shop.signed(), 0);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(socket_of(&book)).expect("there").permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(send_order(&book, &PolicyOrder::Approve { number }).await.expect("approved"), PolicyReply::Done);
    let response = bought.await.expect("it ran").expect("an answer");
    assert_eq!(response.text().await.expect("a body"), "sold");
    assert_eq!(shop.signed(), PRICE);
    // What is not an order, and what is not waiting.
    assert!(send_order(&book, &PolicyOrder::Approve { number }).await.is_err());
    assert!(send_order(&book, &PolicyOrder::Pause { scope: "team=a".to_owned(), why: String::new() }).await.is_err());
    orders.abort();
}

#[tokio::test]
async fn a_pause_stops_at_once_and_each_decision_is_explained() {
    let shop = Shop::start().await;
    let (_directory, payer) = setup(&json!({}));
    buys(&payer, shop.get("/a")).await;
    payer.order(PolicyOrder::Pause { scope: "agent=research".to_owned(), why: "runaway".to_owned() }).await.expect("paused");
    let (kind, decision) = refused(&payer, shop.by("research", "/b")).await;
    assert_eq!(kind, "paused");
    let explained = async |of: String| match payer.order(PolicyOrder::Explain { of }).await {
        Ok(PolicyReply::Decisions(rows)) => rows[0].clone(),
        other => panic!("{other:?}"),
    };
    let row = explained(decision.to_string()).await;
    assert_eq!((row.verdict.as_str(), row.agent.as_str()), ("refuse", "research"));
    assert_eq!(row.reason.expect("a reason").text, "agent=research is paused: runaway");
    // Others go on; and a request is found by its id.
    let mut keyed = shop.by("other", "/c");
    keyed.headers_mut().insert("idempotency-key", "order-1".parse().expect("a value"));
    buys(&payer, keyed).await;
    let row = explained(format!("{} order-1", shop.origin)).await;
    assert_eq!((row.verdict.as_str(), row.price.units()), ("allow", PRICE));
    assert!(row.checks.iter().any(|check| check.rule == "day_max" && check.after.units() == 2 * PRICE), "{row:?}");
    payer.order(PolicyOrder::Resume { scope: "agent=research".to_owned() }).await.expect("resumed");
    buys(&payer, shop.by("research", "/b")).await;
    assert!(payer.order(PolicyOrder::Explain { of: "999".to_owned() }).await.is_err());
    // Who asks does not leave.
    assert!(shop.read(|state| state.headers.iter().all(|headers| !headers.contains_key("x-millstream-agent"))));
}

#[tokio::test]
async fn budgets_and_sub_budgets_are_kept_by_agent_and_survive_restarts() {
    let shop = Shop::start().await;
    let rules = json!({ "budget": [{ "name": "agent-day", "max": "0.0025 USDC", "window": "day", "per": ["agent"] }] });
    let (directory, first) = setup(&rules);
    let grant = PolicyOrder::Grant {
        parent: "boss".to_owned(),
        child: "child".to_owned(),
        max: "0.001 USDC".to_owned(),
        payees: Vec::new(),
        categories: Vec::new(),
        routes: vec!["127.0.0.1:*".to_owned()],
        expires_in_secs: Some(3_600),
    };
    let PolicyReply::Granted(numbers) = first.order(grant).await.expect("given") else { panic!("numbers") };
    buys(&first, shop.by("child", "/1")).await;
    drop(first);
    let payer = payer(directory.path(), options(&rules, |_| ()));
    assert_eq!(refused(&payer, shop.by("child", "/2")).await.0, "sub-budget");
    buys(&payer, shop.by("boss", "/3")).await;
    assert_eq!(refused(&payer, shop.by("boss", "/4")).await.0, "budget", "the child spent the boss's money");
    buys(&payer, shop.by("other", "/5")).await;
    payer.order(PolicyOrder::Revoke { number: numbers[0] }).await.expect("taken back");
    assert_eq!(shop.signed(), 3 * PRICE);
}

#[tokio::test]
async fn breakers_pause_what_runs_away_and_rates_count_what_is_under_way() {
    let shop = Shop::start().await;
    let (_directory, payer) = setup(&json!({ "breaker": {
        "loop": { "equal_max": 3, "within_secs": 60 },
        "price": { "above_percent": 10 },
        "errors": { "failed_percent": 50, "requests_min": 2, "within_secs": 60 },
    } }));
    for _ in 0..3 {
        buys(&payer, shop.by("a", "/same")).await;
    }
    assert_eq!(refused(&payer, shop.by("a", "/same")).await.0, "loop");
    assert_eq!(refused(&payer, shop.by("a", "/other")).await.0, "paused");
    // A price that rises pauses the payee, for everyone.
    buys(&payer, shop.by("b", "/priced")).await;
    shop.set(|state| state.price = PRICE + PRICE / 5);
    assert_eq!(refused(&payer, shop.by("b", "/priced")).await.0, "price-drift");
    assert_eq!(refused(&payer, shop.by("c", "/new")).await.0, "paused");
    let resume = PolicyOrder::Resume { scope: format!("payee={PAYEE}") };
    payer.order(resume.clone()).await.expect("resumed");
    // Answers that fail do, too.
    shop.set(|state| state.status = StatusCode::INTERNAL_SERVER_ERROR);
    for path in ["/x", "/y", "/z", "/u", "/v", "/w"] {
        match payer.execute(shop.by("d", path)).await {
            Ok(response) => drop(response.text().await.expect("a body")),
            Err(error) => assert_eq!(error.code(), "policy-refused"),
        }
    }
    assert_eq!(refused(&payer, shop.by("e", "/z")).await.0, "paused");
}

#[tokio::test]
async fn parallel_requests_share_one_budget_to_the_base_unit() {
    let shop = Shop::start().await;
    let (_directory, payer) = setup(&json!({ "budget": [{ "name": "few", "max": "0.007 USDC", "window": "total" }] }));
    let requests = (0..40).map(|number| {
        let (payer, request) = (payer.clone(), shop.get(&format!("/{number}")));
        tokio::spawn(async move { payer.execute(request).await.is_ok() })
    });
    let mut sold = 0;
    for request in requests.collect::<Vec<_>>() {
        sold += usize::from(request.await.expect("it ran"));
    }
    assert_eq!((sold, shop.signed()), (7, 7 * PRICE));
}

#[tokio::test]
async fn a_shadow_refuses_nothing_and_the_limits_hold_all_the_same() {
    let shop = Shop::start().await;
    let rules = json!({ "mode": "shadow", "deny": { "payee": [PAYEE] }, "payment_max": ["0.0005 USDC"] });
    let directory = tempfile::tempdir().expect("a directory");
    let payer = payer(directory.path(), options(&rules, |limits| limits.total_max = Amount::from_units(PRICE)));
    buys(&payer, shop.get("/a")).await;
    let PolicyReply::Decisions(rows) = payer.order(PolicyOrder::Decisions { count: 1 }).await.expect("shown") else { panic!("rows") };
    let kinds: Vec<&str> = rows[0].shadowed.iter().map(|reason| reason.kind.as_str()).collect();
    assert_eq!(kinds, ["denied", "payment-max"]);
    let error = payer.execute(shop.get("/b")).await.expect_err("the total is spent");
    let HttpPayError::NoOffer { offers, .. } = &error else { panic!("{error}") };
    assert!(matches!(offers[0].1, Refusal::Limit { limit: Limit::Total, .. }), "{error}");
}

#[tokio::test]
async fn a_book_of_layout_1_keeps_what_it_spent() {
    const SPENT: TableDefinition<&[u8], &[u8]> = TableDefinition::new("http_spent");
    const META: TableDefinition<&str, u64> = TableDefinition::new("http_meta");
    let shop = Shop::start().await;
    let directory = tempfile::tempdir().expect("a directory");
    {
        let database = Database::create(directory.path().join("payments.redb")).expect("made");
        let write = database.begin_write().expect("begun");
        {
            let mut meta = write.open_table(META).expect("a table");
            meta.insert("schema", 1).expect("put");
            let mut spent = write.open_table(SPENT).expect("a table");
            let id = asset_id();
            let total = [&[1][..], &id.chain.get().to_be_bytes(), id.token.as_bytes()].concat();
            spent.insert(total.as_slice(), 1_500u128.to_be_bytes().as_slice()).expect("put");
        }
        write.commit().expect("written");
    }
    let limited = || options(&json!({}), |limits| limits.total_max = Amount::from_units(3_000));
    let first = payer(directory.path(), limited());
    assert_eq!(first.book().spent(asset_id(), now()).total.units(), 1_500);
    buys(&first, shop.get("/a")).await;
    drop(first);
    let payer = payer(directory.path(), limited());
    let error = payer.execute(shop.get("/b")).await.expect_err("above the total");
    let expected = Refusal::Limit { limit: Limit::Total, max: Amount::from_units(3_000), wanted: Amount::from_units(3_500) };
    assert!(matches!(&error, HttpPayError::NoOffer { offers, .. } if offers[0].1 == expected), "{error}");
    assert_eq!(shop.signed(), PRICE);
}

#[tokio::test]
async fn rules_that_cannot_be_make_no_payer() {
    let directory = tempfile::tempdir().expect("a directory");
    for rules in [
        json!({ "payment_max": ["1 DAI"] }),
        json!({ "webhook": "http://hooks.example/x" }),
        json!({ "budget": [{ "name": "day_max", "max": "1 USDC", "window": "day" }] }),
    ] {
        let account = PayerAccount::from_secret(&[0x11; 32]).expect("a key");
        let book = PaymentBook::open(&directory.path().join("payments.redb")).expect("opens");
        let error = HttpPayer::new(account, book, options(&rules, |_| ())).expect_err("no payer");
        assert_eq!(error.code(), "policy-invalid", "{rules}");
    }
}

fn now() -> millstream_types::Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    millstream_types::Timestamp::from_millis(u64::try_from(since.as_millis()).expect("before the end of time"))
}
