//! The payer of HTTP 402 against the real gateway: channels opened, paid, topped up, found again and left, by both dialects.

#[path = "../../gateway/tests/support/mod.rs"]
mod support;

use std::path::Path;

use axum::body::Body;
use axum::http::Response;
use millstream_client::http::{
    Asset, AssetId, AssetLimits, ChannelStatus, EscrowTerms, HttpPayError, HttpPayer, HttpPayerOptions, Limit, PayerAccount, Payment,
    PaymentBook, Refusal, Scheme, SpendLimits,
};
use millstream_types::{Amount, ChainId};
use reqwest::{Method, Request, StatusCode};
use serde_json::{Value, json};
use support::Gateway;
use support::upstream::{Upstream, completion, delta, usage_event};

const CALL: &str = r#"
    [[route]]
    path = "/call"
    upstream = "{upstream}"
    price = "0.001 USDC / call"
    [[route]]
    path = "/v1/chat/completions"
    methods = ["POST"]
    upstream = "{upstream}"
    price = "2 USDC / 1M input_token + 8 USDC / 1M output_token"
    without_usage = "known"
    limits = { output_tokens_max = 1000, input_tokens_max = 1000 }
"#;
const CALL_PRICE: u128 = 1_000;

fn units(units: u128) -> Amount {
    Amount::from_units(units)
}

fn usdc() -> Asset {
    Asset {
        id: AssetId { chain: ChainId::new(31_337), token: "0x036CbD53842c5426634e7929541eC2318f3dCF7e".parse().expect("an address") },
        symbol: "USDC".to_owned(),
        decimals: 6,
        domain: Some(("USDC".to_owned(), "2".to_owned())),
    }
}

fn limits() -> AssetLimits {
    AssetLimits { total_max: units(5_000_000), ..AssetLimits::default_of(6) }
}

fn options(scheme: Scheme) -> HttpPayerOptions {
    let limits = SpendLimits::default().allow(usdc(), limits());
    HttpPayerOptions { limits, schemes: vec![scheme], ..HttpPayerOptions::default() }
}

fn payer(directory: &Path, options: HttpPayerOptions) -> HttpPayer {
    let account = PayerAccount::from_secret(&[0x11; 32]).expect("a key");
    let book = PaymentBook::open(&directory.join("payments.redb")).expect("opens");
    HttpPayer::new(account, book, options).expect("a client")
}

async fn setup() -> (Upstream, Gateway, tempfile::TempDir) {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(upstream.address, CALL).await;
    (upstream, gateway, tempfile::tempdir().expect("a directory"))
}

fn get(gateway: &Gateway) -> Request {
    Request::new(Method::GET, gateway.url("/call").parse().expect("an address"))
}

fn chat(gateway: &Gateway, stream: bool) -> Request {
    let mut request = Request::new(Method::POST, gateway.url("/v1/chat/completions").parse().expect("an address"));
    let body = json!({ "model": "m", "messages": [{ "role": "user", "content": "hi" }], "max_tokens": 100, "stream": stream });
    *request.body_mut() = Some(body.to_string().into());
    request
}

/// Pays for a call; its text and what it cost.
async fn buy(payer: &HttpPayer, request: Request) -> (String, u128) {
    let response = payer.execute(request).await.expect("an answer");
    assert_eq!(response.status(), StatusCode::OK);
    let payment = response.extensions().get::<Payment>().cloned().expect("it was paid");
    let text = response.text().await.expect("a body");
    let state = payment.settled().await;
    assert_eq!(state.disputed, None);
    (text, state.charged.expect("told").units())
}

const BOTH: [Scheme; 2] = [Scheme::Batch, Scheme::Session];

#[tokio::test]
async fn two_hundred_requests_top_up_by_themselves_and_cost_their_price() {
    for scheme in BOTH {
        let (upstream, gateway, directory) = setup().await;
        let payer = payer(directory.path(), options(scheme));
        for number in 0..200 {
            upstream.reply("text/plain", format!("answer {number}"));
            assert_eq!(buy(&payer, get(&gateway)).await, (format!("answer {number}"), CALL_PRICE), "{scheme:?}");
        }
        let channels = payer.book().channels();
        assert_eq!(channels.len(), 1, "{scheme:?}");
        let channel = &channels[0];
        assert_eq!(channel.charged.units(), 200 * CALL_PRICE);
        assert_eq!(channel.signed.units(), 200 * CALL_PRICE);
        assert_eq!(gateway.port.charged(channel.channel), 200 * CALL_PRICE);
        // Ten times the price each time.
        assert_eq!((channel.deposit.units(), channel.pending), (200 * CALL_PRICE, None));
        let spent = payer.book().spent(usdc().id, now());
        assert_eq!((spent.total.units(), spent.today.units(), spent.free_deposits.units()), (200 * CALL_PRICE, 200 * CALL_PRICE, 0));
        gateway.stop().await;
    }
}

fn now() -> millstream_types::Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    millstream_types::Timestamp::from_millis(u64::try_from(since.as_millis()).expect("fits"))
}

#[tokio::test]
async fn sixty_four_requests_at_once_share_one_channel() {
    for scheme in BOTH {
        let (upstream, gateway, directory) = setup().await;
        let payer = payer(directory.path(), options(scheme));
        (0..64).for_each(|_| upstream.reply("text/plain", "hi"));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..64 {
            let (payer, request) = (payer.clone(), get(&gateway));
            tasks.spawn(async move { buy(&payer, request).await });
        }
        while let Some(bought) = tasks.join_next().await {
            assert_eq!(bought.expect("no panic"), ("hi".to_owned(), CALL_PRICE));
        }
        let channels = payer.book().channels();
        assert_eq!(channels.len(), 1, "{scheme:?}");
        let charged = gateway.port.charged(channels[0].channel);
        assert_eq!((charged, channels[0].charged.units()), (64 * CALL_PRICE, 64 * CALL_PRICE), "{scheme:?}");
        assert_eq!(channels[0].signed.units(), 64 * CALL_PRICE, "{scheme:?}: no more is signed than was bought");
        // Each was let through once, and none twice.
        assert_eq!(upstream.seen().len(), 64);
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_charge_below_the_price_is_all_that_is_spent() {
    for scheme in BOTH {
        let (upstream, gateway, directory) = setup().await;
        let payer = payer(directory.path(), options(scheme));
        let mut charged = 0;
        for (prompt, written) in [(10, 5), (3, 100), (7, 0), (0, 0)] {
            upstream.reply("application/json", completion(prompt, written));
            let cost = u128::from(prompt * 2 + written * 8);
            assert_eq!(buy(&payer, chat(&gateway, false)).await.1, cost);
            charged += cost;
        }
        let channels = payer.book().channels();
        assert_eq!((channels[0].charged.units(), gateway.port.charged(channels[0].channel)), (charged, charged), "{scheme:?}");
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_stream_passes_untouched_and_its_cost_is_known_at_its_end() {
    for scheme in BOTH {
        let (upstream, gateway, directory) = setup().await;
        let payer = payer(directory.path(), options(scheme));
        for _ in 0..2 {
            let pieces = upstream.pieces("text/event-stream");
            // The gateway answers when the first byte is there.
            pieces.send(Ok(delta("a"))).await.expect("room");
            let response = payer.execute(chat(&gateway, true)).await.expect("an answer");
            let payment = response.extensions().get::<Payment>().cloned().expect("it was paid");
            assert_eq!(payment.state().charged, None);
            let reading = tokio::spawn(response.text());
            pieces.send(Ok(delta("b"))).await.expect("read");
            pieces.send(Ok(usage_event(4, 2))).await.expect("read");
            drop(pieces);
            let text = reading.await.expect("no panic").expect("a body");
            assert!(text.contains(r#""content":"a""#) && text.contains(r#""completion_tokens":2"#));
            assert_eq!(payment.settled().await.charged, Some(units(4 * 2 + 2 * 8)), "{scheme:?}");
        }
        assert_eq!(payer.book().channels()[0].charged.units(), 2 * 24);
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_stream_that_is_dropped_is_charged_for_what_came_and_the_next_request_goes_on_from_there() {
    let (upstream, gateway, directory) = setup().await;
    let payer = payer(directory.path(), options(Scheme::Batch));
    let pieces = upstream.pieces("text/event-stream");
    pieces.send(Ok(delta("a"))).await.expect("room");
    let mut response = payer.execute(chat(&gateway, true)).await.expect("an answer");
    let payment = response.extensions().get::<Payment>().cloned().expect("it was paid");
    assert!(response.chunk().await.expect("a piece").is_some());
    drop((response, pieces));
    assert_eq!(payment.settled().await.charged, None);
    let channel = payer.book().channels()[0].channel;
    gateway.port.idle(channel).await;
    let cut = gateway.port.charged(channel);
    assert!(cut > 0);
    upstream.reply("text/plain", "hi");
    assert_eq!(buy(&payer, get(&gateway)).await, ("hi".to_owned(), CALL_PRICE));
    assert_eq!(payer.book().channels()[0].charged.units(), cut + CALL_PRICE);
    assert_eq!(gateway.port.charged(channel), cut + CALL_PRICE);
    gateway.stop().await;
}

#[tokio::test]
async fn a_payer_that_lost_its_book_goes_on_where_the_server_proves_it_was() {
    let (upstream, gateway, directory) = setup().await;
    let payer_before = payer(directory.path(), options(Scheme::Batch));
    for _ in 0..3 {
        upstream.reply("text/plain", "hi");
        buy(&payer_before, get(&gateway)).await;
    }
    drop(payer_before);
    let empty = tempfile::tempdir().expect("a directory");
    let payer = payer(empty.path(), options(Scheme::Batch));
    upstream.reply("text/plain", "again");
    assert_eq!(buy(&payer, get(&gateway)).await, ("again".to_owned(), CALL_PRICE));
    let channel = payer.book().channels().remove(0);
    assert_eq!((channel.charged.units(), channel.signed.units()), (4 * CALL_PRICE, 4 * CALL_PRICE));
    assert_eq!(gateway.port.charged(channel.channel), 4 * CALL_PRICE);
    gateway.stop().await;
}

#[tokio::test]
async fn limits_hold_across_restarts() {
    let (upstream, gateway, directory) = setup().await;
    let limited = || {
        let limits = AssetLimits { total_max: units(3 * CALL_PRICE), ..limits() };
        HttpPayerOptions { limits: SpendLimits::default().allow(usdc(), limits), ..options(Scheme::Batch) }
    };
    for _ in 0..3 {
        let payer = payer(directory.path(), limited());
        upstream.reply("text/plain", "hi");
        buy(&payer, get(&gateway)).await;
    }
    let payer = payer(directory.path(), limited());
    let error = payer.execute(get(&gateway)).await.expect_err("the limit is reached");
    let expected = Refusal::Limit { limit: Limit::Total, max: units(3 * CALL_PRICE), wanted: units(4 * CALL_PRICE) };
    let HttpPayError::NoOffer { offers, .. } = &error else { panic!("{error}") };
    assert!(offers.iter().any(|(_, refusal)| *refusal == expected), "{error}");
    assert!(error.signed().is_none());
    assert_eq!(gateway.port.charged(payer.book().channels()[0].channel), 3 * CALL_PRICE);
    assert_eq!(upstream.seen().len(), 3);
    gateway.stop().await;
}

#[tokio::test]
async fn each_limit_stops_what_would_pass_it() {
    let (_upstream, gateway, directory) = setup().await;
    let check = async |name: &str, change: fn(&mut AssetLimits), limit: Limit, max: u128, wanted: u128| {
        let mut changed = limits();
        change(&mut changed);
        let limits = SpendLimits::default().allow(usdc(), changed);
        let directory = directory.path().join(name);
        std::fs::create_dir(&directory).expect("made");
        let payer = payer(&directory, HttpPayerOptions { limits, ..options(Scheme::Batch) });
        let error = payer.execute(get(&gateway)).await.expect_err("a limit");
        let HttpPayError::NoOffer { offers, .. } = &error else { panic!("{error}") };
        let expected = Refusal::Limit { limit, max: units(max), wanted: units(wanted) };
        assert!(offers.iter().any(|(_, refusal)| *refusal == expected), "{name}: {error}");
        assert_eq!(payer.book().spent(usdc().id, now()).total, Amount::ZERO, "{name}");
    };
    check("request", |limits| limits.request_max = units(999), Limit::Request, 999, 1_000).await;
    check("host", |limits| limits.host_day_max = units(999), Limit::HostDay, 999, 1_000).await;
    check("day", |limits| limits.day_max = units(999), Limit::Day, 999, 1_000).await;
    check("total", |limits| limits.total_max = units(999), Limit::Total, 999, 1_000).await;
    check("channel", |limits| limits.channel_deposit_max = units(999), Limit::ChannelDeposit, 999, 1_000).await;
    check("deposits", |limits| limits.deposits_max = units(999), Limit::Deposits, 999, 1_000).await;
    gateway.stop().await;
}

#[tokio::test]
async fn the_same_key_is_one_payment() {
    for scheme in BOTH {
        let (upstream, gateway, directory) = setup().await;
        let keyed = || {
            let mut request = get(&gateway);
            request.headers_mut().insert("idempotency-key", "order-1".parse().expect("a value"));
            request
        };
        let first = payer(directory.path(), options(scheme));
        upstream.reply("text/plain", "hi");
        assert_eq!(buy(&first, keyed()).await.1, CALL_PRICE);
        drop(first);
        // Another process, the same book.
        let second = payer(directory.path(), options(scheme));
        let error = second.execute(keyed()).await.expect_err("it was bought");
        let HttpPayError::ChargedNotAnswered { signed } = &error else { panic!("{error}") };
        assert_eq!(signed.charged, Some(units(CALL_PRICE)));
        let channel = second.book().channels().remove(0);
        assert_eq!((channel.signed.units(), gateway.port.charged(channel.channel)), (CALL_PRICE, CALL_PRICE), "{scheme:?}");
        let mut other = keyed();
        *other.method_mut() = Method::DELETE;
        assert!(matches!(second.execute(other).await, Err(HttpPayError::IdConflict { .. })));
        gateway.stop().await;
    }
}

#[tokio::test]
async fn what_is_left_comes_back() {
    for scheme in BOTH {
        let (upstream, gateway, directory) = setup().await;
        let payer = payer(directory.path(), options(scheme));
        upstream.reply("text/plain", "hi");
        buy(&payer, get(&gateway)).await;
        let channel = payer.book().channels().remove(0);
        assert_eq!(channel.deposit.units(), 10 * CALL_PRICE);
        let refunded = payer.refund(channel.channel, None).await.expect("given back");
        assert_eq!(refunded.units(), 9 * CALL_PRICE);
        let closed = payer.book().channels().remove(0);
        assert_eq!((closed.status, closed.refunded.units()), (ChannelStatus::Closed, 9 * CALL_PRICE), "{scheme:?}");
        assert_eq!(payer.book().spent(usdc().id, now()).free_deposits, Amount::ZERO);
        // And the next request opens again: x402 the same channel, MPP another.
        upstream.reply("text/plain", "hi");
        assert_eq!(buy(&payer, get(&gateway)).await.1, CALL_PRICE);
        let channels = payer.book().channels();
        let expected = if scheme == Scheme::Batch { 1 } else { 2 };
        assert_eq!(channels.len(), expected, "{scheme:?}");
        gateway.stop().await;
    }
}

#[tokio::test]
async fn what_fails_upstream_costs_nothing_and_the_answer_is_the_upstreams() {
    for scheme in BOTH {
        let (upstream, gateway, directory) = setup().await;
        let payer = payer(directory.path(), options(scheme));
        upstream.reply_with(Response::builder().status(502).body(Body::from("broken")).expect("sound"));
        let response = payer.execute(get(&gateway)).await.expect("an answer");
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
        drop(response);
        upstream.reply("text/plain", "hi");
        assert_eq!(buy(&payer, get(&gateway)).await.1, CALL_PRICE);
        let channel = payer.book().channels().remove(0);
        assert_eq!(gateway.port.charged(channel.channel), CALL_PRICE, "{scheme:?}");
        assert!(channel.signed.units() <= 2 * CALL_PRICE);
        gateway.stop().await;
    }
}

#[tokio::test]
async fn what_is_free_or_only_asked_for_is_not_paid() {
    let (upstream, gateway, directory) = setup().await;
    let payer = payer(directory.path(), HttpPayerOptions { schemes: Scheme::ALL.to_vec(), ..options(Scheme::Batch) });
    let offers = payer.quote(get(&gateway)).await.expect("an answer").expect("offers");
    let shown: Vec<Value> = offers.iter().map(|offer| json!([offer.scheme.name(), offer.price, offer.refusal.is_none()])).collect();
    assert!(shown.contains(&json!(["x402-batch-settlement", "1000", true])), "{shown:?}");
    assert!(shown.contains(&json!(["mpp-session", "1000", true])), "{shown:?}");
    let health = Request::new(Method::GET, gateway.url("/healthz").parse().expect("an address"));
    let response = payer.execute(health).await.expect("an answer");
    assert!(response.status().is_success() && response.extensions().get::<Payment>().is_none());
    assert!(payer.book().channels().is_empty());
    // With both, the stated preference decides.
    upstream.reply("text/plain", "hi");
    buy(&payer, get(&gateway)).await;
    assert!(matches!(payer.book().channels()[0].terms, EscrowTerms::X402(_)));
    gateway.stop().await;
}

#[tokio::test]
async fn more_channels_of_one_payee_run_side_by_side() {
    let (upstream, gateway, directory) = setup().await;
    let payer = payer(directory.path(), HttpPayerOptions { channels_per_payee: 4, ..options(Scheme::Batch) });
    let pieces: Vec<_> = (0..4).map(|_| upstream.pieces("text/event-stream")).collect();
    for piece in &pieces {
        piece.send(Ok(delta("a"))).await.expect("room");
    }
    let mut responses = Vec::new();
    // Four streams are open at once, which one channel could not.
    for _ in 0..4 {
        responses.push(payer.execute(chat(&gateway, true)).await.expect("an answer"));
    }
    for piece in pieces {
        piece.send(Ok(usage_event(1, 1))).await.expect("read");
    }
    for response in responses {
        response.text().await.expect("a body");
    }
    assert_eq!(payer.book().channels().len(), 4);
    gateway.stop().await;
}
