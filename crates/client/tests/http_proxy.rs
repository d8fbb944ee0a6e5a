//! A program that knows nothing of payments, the proxy before it, and a gateway that sells.

#[path = "../../gateway/tests/support/mod.rs"]
mod support;

use millstream_client::http::{
    Asset, AssetId, AssetLimits, HttpPayer, HttpPayerOptions, PayerAccount, PaymentBook, ProxyOptions, ProxyUpstreams, Scheme, SpendLimits,
    serve_proxy,
};
use millstream_types::ChainId;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use support::Gateway;
use support::upstream::{Upstream, delta, usage_event};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

const ROUTES: &str = r#"
    [[route]]
    path = "/call"
    upstream = "{upstream}"
    price = "0.001 USDC / call"
    [[route]]
    path = "/dear"
    upstream = "{upstream}"
    price = "3 USDC / call"
    [[route]]
    path = "/v1/chat/completions"
    methods = ["POST"]
    upstream = "{upstream}"
    price = "8 USDC / 1M output_token"
    without_usage = "known"
    limits = { output_tokens_max = 1000 }
"#;

struct Setup {
    upstream: Upstream,
    gateway: Gateway,
    base_url: String,
    stop: oneshot::Sender<()>,
    proxy: tokio::task::JoinHandle<()>,
    _directory: tempfile::TempDir,
}

async fn setup(upstreams: impl FnOnce(&Gateway) -> ProxyUpstreams, scheme: Scheme) -> Setup {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(upstream.address, ROUTES).await;
    let directory = tempfile::tempdir().expect("a directory");
    let token = "0x036CbD53842c5426634e7929541eC2318f3dCF7e".parse().expect("an address");
    let id = AssetId { chain: ChainId::new(31_337), token };
    let asset = Asset { id, symbol: "USDC".to_owned(), decimals: 6, domain: Some(("USDC".to_owned(), "2".to_owned())) };
    let limits = SpendLimits::default().allow(asset, AssetLimits::default_of(6));
    let options = HttpPayerOptions { limits, schemes: vec![scheme], ..HttpPayerOptions::default() };
    let account = PayerAccount::from_secret(&[0x11; 32]).expect("a key");
    let book = PaymentBook::open(&directory.path().join("payments.redb")).expect("opens");
    let payer = HttpPayer::new(account, book, options).expect("a client");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let base_url = format!("http://{}", listener.local_addr().expect("bound"));
    let (stop, stopped) = oneshot::channel();
    let options = ProxyOptions { upstreams: upstreams(&gateway), foreign_hosts: false };
    let proxy = tokio::spawn(serve_proxy(payer, options, listener, async { drop(stopped.await) }));
    Setup { upstream, gateway, base_url, stop, proxy, _directory: directory }
}

impl Setup {
    async fn end(self) {
        let _ = self.stop.send(());
        self.proxy.await.expect("no panic");
        self.gateway.stop().await;
    }
}

fn one(gateway: &Gateway) -> ProxyUpstreams {
    ProxyUpstreams::one(&gateway.url("")).expect("an address")
}

#[tokio::test]
async fn a_program_that_knows_nothing_of_payments_buys() {
    let setup = setup(one, Scheme::Batch).await;
    for _ in 0..2 {
        setup.upstream.reply("text/plain", "hi");
        let response = Client::new()
            .get(format!("{}/call?x=1", setup.base_url))
            .header("authorization", "Bearer mine")
            .header("payment-signature", "of somebody else")
            .send()
            .await
            .expect("an answer");
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["x-millstream-charged"], "1000");
        assert_eq!(response.headers()["x-millstream-price"], "1000");
        assert_eq!(response.headers()["x-millstream-asset"], "USDC");
        assert_eq!(response.text().await.expect("a body"), "hi");
    }
    assert_eq!(setup.upstream.seen()[0].uri, "/call?x=1");
    setup.end().await;
}

#[tokio::test]
async fn a_stream_comes_as_it_is_written() {
    for scheme in [Scheme::Batch, Scheme::Session] {
        let setup = setup(one, scheme).await;
        let pieces = setup.upstream.pieces("text/event-stream");
        pieces.send(Ok(delta("first"))).await.expect("room");
        let body = json!({ "model": "m", "messages": [], "max_tokens": 100, "stream": true });
        let mut response =
            Client::new().post(format!("{}/v1/chat/completions", setup.base_url)).json(&body).send().await.expect("an answer");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        // The first event is there while the upstream still writes.
        let first = response.chunk().await.expect("a piece").expect("not the end");
        assert_eq!(first, delta("first"));
        pieces.send(Ok(usage_event(1, 2))).await.expect("read");
        drop(pieces);
        let rest = response.text().await.expect("the rest");
        assert!(rest.contains("completion_tokens"));
        setup.end().await;
    }
}

#[tokio::test]
async fn a_limit_is_a_problem_that_says_what_was_charged() {
    let setup = setup(one, Scheme::Batch).await;
    let response = Client::new().get(format!("{}/dear", setup.base_url)).send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::PAYMENT_REQUIRED);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let problem: Value = response.json().await.expect("JSON");
    assert_eq!((&problem["code"], &problem["charged"]), (&json!("limit-reached"), &json!("0")));
    assert_eq!(problem["limit"], json!({ "name": "request_max", "max": "100000", "wanted": "3000000" }));
    setup.end().await;
}

#[tokio::test]
async fn others_are_turned_away() {
    let setup =
        setup(|gateway| ProxyUpstreams::by_path([format!("http://{}", gateway.address).as_str()]).expect("an address"), Scheme::Batch)
            .await;
    let check = async |path: &str, header: (&str, &str), status: StatusCode, code: &str| {
        let request = Client::new().get(format!("{}{path}", setup.base_url)).header(header.0, header.1);
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), status, "{path} {header:?}");
        let problem: Value = response.json().await.expect("JSON");
        assert_eq!(problem["code"], code);
    };
    let none = ("accept", "*/*");
    check("/evil.example/call", none, StatusCode::NOT_FOUND, "no-upstream").await;
    check("/call", none, StatusCode::NOT_FOUND, "no-upstream").await;
    check("/call", ("host", "evil.example"), StatusCode::FORBIDDEN, "host-refused").await;
    check("/call", ("origin", "https://evil.example"), StatusCode::FORBIDDEN, "browser-refused").await;
    check("/call", ("sec-fetch-site", "cross-site"), StatusCode::FORBIDDEN, "browser-refused").await;
    assert!(setup.upstream.seen().is_empty());
    setup.upstream.reply("text/plain", "hi");
    let path = format!("{}/{}/call", setup.base_url, setup.gateway.address);
    let response = Client::new().get(path).send().await.expect("an answer");
    assert_eq!(response.text().await.expect("a body"), "hi");
    setup.end().await;
}
