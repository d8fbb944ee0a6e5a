//! Whole requests through a real gateway: payers on one side, upstreams on the other.

mod support;

use std::io::Write;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::BodyExt;
use hyper_util::rt::TokioExecutor;
use millstream_gateway::port::VoidReason;
use millstream_tariff::Usage;
use millstream_voucher::evm::Signer;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use support::Gateway;
use support::memory::Event;
use support::payer::{SessionPayer, X402Payer, mpp_offer, unbase64, x402_offer};
use support::upstream::{Upstream, completion, delta, usage_event};

const CHAT: &str = r#"
    [[route]]
    path = "/v1/chat/completions"
    methods = ["POST"]
    upstream = "{upstream}"
    price = "2 USDC / 1M input_token + 8 USDC / 1M output_token"
    description = "A chat"
    mime_type = "application/json"
    without_usage = "known"
    limits = { output_tokens_max = 1000, input_tokens_max = 1000 }
"#;
/// The most that a chat of at most 100 tokens costs: 1,000 × 2 + 100 × 8 base units.
const CHAT_CEILING: u128 = 2_800;

fn chat(stream: bool) -> Value {
    json!({ "model": "m", "messages": [{ "role": "user", "content": "hi" }], "max_tokens": 100, "stream": stream })
}

async fn setup(routes: &str) -> (Upstream, Gateway, Client) {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(upstream.address, routes).await;
    (upstream, gateway, Client::new())
}

/// A payer of x402 with a funded channel.
fn x402(gateway: &Gateway) -> X402Payer {
    let payer = X402Payer::new(1);
    gateway.port.open(payer.channel, payer.config.payer, Signer::Key(payer.config.voucher_signer()), 1_000_000);
    payer
}

fn session(gateway: &Gateway, deposit: u128) -> SessionPayer {
    let payer = SessionPayer::new(1);
    gateway.port.open(payer.channel, payer.terms.payer, Signer::Key(payer.terms.voucher_signer()), deposit);
    payer
}

fn settled(response: &reqwest::Response) -> Value {
    let header = response.headers().get("payment-response").expect("a receipt");
    serde_json::from_slice(&unbase64(header.to_str().expect("text"))).expect("JSON")
}

async fn problem(response: reqwest::Response) -> Value {
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    response.json().await.expect("JSON")
}

#[tokio::test]
async fn a_request_without_payment_is_offered_both_dialects() {
    let (_upstream, gateway, client) = setup(CHAT).await;
    let response = client
        .post(gateway.url("/v1/chat/completions"))
        .header("origin", "https://app.example")
        .json(&chat(false))
        .send()
        .await
        .expect("an answer");
    assert_eq!(response.status(), StatusCode::PAYMENT_REQUIRED);
    assert_eq!(response.headers()["cache-control"], "no-store");
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
    let exposed = response.headers()["access-control-expose-headers"].to_str().expect("text");
    assert!(
        ["PAYMENT-REQUIRED", "PAYMENT-RESPONSE", "Payment-Receipt", "WWW-Authenticate"]
            .iter()
            .all(|name| exposed.contains(name))
    );
    assert!(response.headers()["payment-required"].len() < 2_048, "intermediaries drop longer ones");
    let (offer, required) = x402_offer(&response);
    assert_eq!(required["x402Version"], 2);
    assert_eq!(required["resource"]["url"], gateway.url("/v1/chat/completions"));
    assert_eq!(
        (&offer["scheme"], &offer["network"], &offer["amount"]),
        (&json!("batch-settlement"), &json!("eip155:31337"), &json!("2800"))
    );
    assert_eq!(offer["extra"]["withdrawDelay"], 900);
    let mpp = support::payer::parameters(&mpp_offer(&response));
    assert_eq!((&mpp["method"], &mpp["intent"]), (&json!("evm"), &json!("session")));
    let request: Value = serde_json::from_slice(&unbase64(mpp["request"].as_str().expect("text"))).expect("JSON");
    assert_eq!((&request["amount"], &request["methodDetails"]["chainId"]), (&json!("2800"), &json!(31_337)));
    let problem = problem(response).await;
    assert_eq!((&problem["charged"], &problem["code"], &problem["status"]), (&json!("0"), &json!("payment-required"), &json!(402)));
    assert!(problem["instance"].as_str().expect("an id").starts_with("req_"));
    gateway.stop().await;
}

#[tokio::test]
async fn an_answer_is_charged_by_the_usage_it_reports() {
    let routes = format!("{CHAT}\n[route.headers]\nset = {{ authorization = \"Bearer ours\" }}");
    let (upstream, gateway, client) = setup(&routes).await;
    let payer = x402(&gateway);
    let url = gateway.url("/v1/chat/completions");
    let offer = x402_offer(&client.post(&url).json(&chat(false)).send().await.expect("an answer")).0;
    let mut charged = 0;
    for (prompt, written) in [(10, 5), (3, 100), (7, 0)] {
        upstream.reply("application/json", completion(prompt, written));
        let cost = u128::from(prompt * 2 + written * 8);
        let header = payer.header(&offer, charged + CHAT_CEILING);
        let request = client.post(&url).header("payment-signature", &header).header("authorization", "Bearer mine").json(&chat(false));
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK);
        charged += cost;
        let settled = settled(&response);
        assert_eq!(settled["extra"]["chargedAmount"], cost.to_string());
        assert_eq!(settled["extra"]["channelState"]["chargedCumulativeAmount"], charged.to_string());
        assert_eq!(response.text().await.expect("a body"), completion(prompt, written));
        assert_eq!((gateway.port.charged(payer.channel), gateway.port.reserved(payer.channel)), (charged, 0));
    }
    for seen in upstream.seen() {
        assert!(!seen.headers.contains_key("payment-signature"));
        assert_eq!(
            (&seen.headers["authorization"], &seen.headers["accept-encoding"]),
            (&"Bearer ours".parse().expect("sound"), &"identity".parse().expect("sound"))
        );
        assert_eq!(seen.headers["x-forwarded-for"], "127.0.0.1");
        assert_eq!(serde_json::from_slice::<Value>(&seen.body).expect("JSON"), chat(false));
    }
    assert_eq!(upstream.seen().len(), 3);
    gateway.stop().await;
}

#[tokio::test]
async fn a_stream_passes_piece_by_piece_and_untouched() {
    let (upstream, gateway, client) = setup(CHAT).await;
    let payer = x402(&gateway);
    let url = gateway.url("/v1/chat/completions");
    let offer = x402_offer(&client.post(&url).json(&chat(true)).send().await.expect("an answer")).0;
    let pieces = upstream.pieces("text/event-stream");
    pieces.send(Ok(delta("one"))).await.expect("taken");
    let header = payer.header(&offer, CHAT_CEILING);
    let mut response = client.post(&url).header("payment-signature", header).json(&chat(true)).send().await.expect("an answer");
    assert_eq!((response.status(), &response.headers()["content-type"]), (StatusCode::OK, &"text/event-stream".parse().expect("sound")));
    // Each piece arrives before the next one is sent: nothing is held back.
    assert_eq!(response.chunk().await.expect("whole"), Some(delta("one")));
    for text in ["two", "three"] {
        pieces.send(Ok(delta(text))).await.expect("taken");
        assert_eq!(response.chunk().await.expect("whole"), Some(delta(text)));
    }
    pieces.send(Ok(usage_event(10, 3))).await.expect("taken");
    drop(pieces);
    let mut rest = Vec::new();
    while let Some(chunk) = response.chunk().await.expect("whole") {
        rest.extend_from_slice(&chunk);
    }
    let rest = String::from_utf8(rest).expect("text");
    let receipt = rest.strip_prefix(std::str::from_utf8(&usage_event(10, 3)).expect("text")).expect("the upstream's bytes first");
    let receipt = receipt.strip_prefix(": x402-settlement ").expect("then the receipt, as a comment");
    let receipt: Value = serde_json::from_slice(&unbase64(receipt.trim())).expect("JSON");
    assert_eq!(receipt["extra"]["chargedAmount"], "44");
    assert_eq!(gateway.port.charged(payer.channel), 44);
    gateway.stop().await;
}

#[tokio::test]
async fn a_compressed_answer_is_metered_and_passes_as_it_is() {
    let (upstream, gateway, client) = setup(CHAT).await;
    let payer = x402(&gateway);
    let url = gateway.url("/v1/chat/completions");
    let offer = x402_offer(&client.post(&url).json(&chat(false)).send().await.expect("an answer")).0;
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(completion(10, 5).as_bytes()).expect("in memory");
    let gzip = gzip.finish().expect("in memory");
    let response = Response::builder().header("content-type", "application/json").header("content-encoding", "gzip");
    upstream.reply_with(response.body(Body::from(gzip.clone())).expect("sound"));
    let response = client
        .post(&url)
        .header("payment-signature", payer.header(&offer, CHAT_CEILING))
        .json(&chat(false))
        .send()
        .await
        .expect("an answer");
    assert_eq!(settled(&response)["extra"]["chargedAmount"], "60");
    assert_eq!(response.headers()["content-encoding"], "gzip");
    assert_eq!(response.bytes().await.expect("a body"), gzip);
    gateway.stop().await;
}

#[tokio::test]
async fn a_stream_that_is_cut_costs_what_was_delivered() {
    let (upstream, gateway, client) = setup(CHAT).await;
    let payer = x402(&gateway);
    let url = gateway.url("/v1/chat/completions");
    let offer = x402_offer(&client.post(&url).json(&chat(true)).send().await.expect("an answer")).0;
    let pieces = upstream.pieces("text/event-stream");
    pieces.send(Ok(delta("one"))).await.expect("taken");
    let request = client.post(&url).header("payment-signature", payer.header(&offer, CHAT_CEILING)).json(&chat(true));
    let mut response = request.send().await.expect("an answer");
    assert!(response.chunk().await.expect("whole").is_some());
    pieces.send(Ok(delta("two"))).await.expect("taken");
    assert!(response.chunk().await.expect("whole").is_some());
    pieces.send(Err(std::io::Error::other("broken"))).await.expect("taken");
    // The receipt, and then a break that the client sees.
    let mut broken = false;
    while let Some(chunk) = response.chunk().await.transpose() {
        broken = chunk.is_err();
        if broken {
            break;
        }
    }
    assert!(broken);
    gateway.port.idle(payer.channel).await;
    assert_eq!(gateway.port.charged(payer.channel), 16);
    let usage = Usage { output_tokens: 2, calls: 1, ..Usage::default() };
    assert!(gateway.port.events().iter().any(|event| {
        matches!(event, Event::Captured { amount: 16, complete: false, usage: found } if found.output_tokens == usage.output_tokens)
    }));
    gateway.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_cancels_the_upstream_and_pays_what_it_got() {
    let (upstream, gateway, client) = setup(CHAT).await;
    let payer = x402(&gateway);
    let url = gateway.url("/v1/chat/completions");
    let offer = x402_offer(&client.post(&url).json(&chat(true)).send().await.expect("an answer")).0;
    let pieces = upstream.pieces("text/event-stream");
    pieces.send(Ok(delta("one"))).await.expect("taken");
    let request = client.post(&url).header("payment-signature", payer.header(&offer, CHAT_CEILING)).json(&chat(true));
    let mut response = request.send().await.expect("an answer");
    assert!(response.chunk().await.expect("whole").is_some());
    drop(response);
    drop(client);
    pieces.closed().await;
    gateway.port.idle(payer.channel).await;
    assert_eq!(gateway.port.charged(payer.channel), 8);
    gateway.stop().await;
}

#[tokio::test]
async fn an_upstream_that_gives_nothing_costs_nothing() {
    let routes = format!("{CHAT}\ntimeouts = {{ first_byte_secs = 1 }}");
    let (upstream, gateway, client) = setup(&routes).await;
    let payer = x402(&gateway);
    let url = gateway.url("/v1/chat/completions");
    let offer = x402_offer(&client.post(&url).json(&chat(false)).send().await.expect("an answer")).0;
    let pay = || client.post(&url).header("payment-signature", payer.header(&offer, CHAT_CEILING)).json(&chat(false)).send();

    // A status that is not charged passes as it is.
    let answer = Response::builder().status(429).header("retry-after", "7").body(Body::from("slow down")).expect("sound");
    upstream.reply_with(answer);
    let response = pay().await.expect("an answer");
    assert_eq!((response.status(), &response.headers()["retry-after"]), (StatusCode::TOO_MANY_REQUESTS, &"7".parse().expect("sound")));
    assert_eq!(settled(&response)["extra"]["chargedAmount"], "0");
    assert_eq!(response.text().await.expect("a body"), "slow down");

    // A head, and a break before the first byte.
    let pieces = upstream.pieces("application/json");
    pieces.send(Err(std::io::Error::other("broken"))).await.expect("taken");
    let response = pay().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    let body = problem(response).await;
    assert_eq!((&body["charged"], &body["retryable"], &body["code"]), (&json!("0"), &json!(true), &json!("upstream-failed")));

    // Nothing at all.
    upstream.silence();
    let response = pay().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(problem(response).await["charged"], "0");

    assert_eq!((gateway.port.charged(payer.channel), gateway.port.reserved(payer.channel)), (0, 0));
    let voided: Vec<Event> = gateway.port.events().into_iter().filter(|event| matches!(event, Event::Voided(_))).collect();
    assert_eq!(
        voided,
        [
            Event::Voided(VoidReason::UpstreamStatus(429)),
            Event::Voided(VoidReason::UpstreamFailed),
            Event::Voided(VoidReason::UpstreamFailed),
        ]
    );
    gateway.stop().await;
}

#[tokio::test]
async fn an_upstream_that_is_not_there_costs_nothing() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = free.local_addr().expect("bound");
    drop(free);
    let gateway = Gateway::start(address, CHAT).await;
    let (client, payer) = (Client::new(), x402(&gateway));
    let url = gateway.url("/v1/chat/completions");
    let offer = x402_offer(&client.post(&url).json(&chat(false)).send().await.expect("an answer")).0;
    let response = client
        .post(&url)
        .header("payment-signature", payer.header(&offer, CHAT_CEILING))
        .json(&chat(false))
        .send()
        .await
        .expect("an answer");
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(gateway.port.events().last(), Some(&Event::Voided(VoidReason::UpstreamFailed)));
    gateway.stop().await;
}

#[tokio::test]
async fn a_wrong_total_is_corrected() {
    let (upstream, gateway, client) = setup(CHAT).await;
    let payer = x402(&gateway);
    let url = gateway.url("/v1/chat/completions");
    let offer = x402_offer(&client.post(&url).json(&chat(false)).send().await.expect("an answer")).0;
    upstream.reply("application/json", completion(10, 5));
    let pay = |total| client.post(&url).header("payment-signature", payer.header(&offer, total)).json(&chat(false)).send();
    assert_eq!(pay(CHAT_CEILING).await.expect("an answer").status(), StatusCode::OK);
    let response = pay(CHAT_CEILING).await.expect("an answer");
    assert_eq!(response.status(), StatusCode::PAYMENT_REQUIRED);
    let (offer, required) = x402_offer(&response);
    assert_eq!(required["error"], "invalid_batch_settlement_evm_cumulative_amount_mismatch");
    assert_eq!(offer["extra"]["channelState"]["chargedCumulativeAmount"], "60");
    assert_eq!(offer["extra"]["voucherState"]["signedMaxClaimable"], CHAT_CEILING.to_string());
    assert_eq!(offer["extra"]["voucherState"]["signature"], payer.voucher_json(CHAT_CEILING)["signature"]);
    let body = problem(response).await;
    assert_eq!(body["code"], "cumulative-amount-mismatch");
    assert_eq!((&body["charged"], &body["requiredCumulative"]), (&json!("0"), &json!((60 + CHAT_CEILING).to_string())));
    upstream.reply("application/json", completion(1, 1));
    assert_eq!(pay(60 + CHAT_CEILING).await.expect("an answer").status(), StatusCode::OK);
    gateway.stop().await;
}

#[tokio::test]
async fn payments_that_are_not_what_was_offered_are_refused_in_their_own_words() {
    let (_upstream, gateway, client) = setup(CHAT).await;
    let payer = x402(&gateway);
    let url = gateway.url("/v1/chat/completions");
    let offer = x402_offer(&client.post(&url).json(&chat(false)).send().await.expect("an answer")).0;
    let voucher = |config: Value, voucher: Value| json!({ "type": "voucher", "channelConfig": config, "voucher": voucher });
    let with = |mut value: Value, key: &str, new: Value| {
        value[key] = new;
        value
    };
    let good = (payer.config_json(), payer.voucher_json(CHAT_CEILING));
    let forged = payer.voucher_json(1)["signature"].clone();
    // Another term is another channel: its voucher names that one.
    let other_terms = |change: &dyn Fn(&mut X402Payer)| {
        let mut other = X402Payer::new(1);
        change(&mut other);
        other.channel = other.config.channel_id(&other.domain).expect("in range");
        voucher(other.config_json(), other.voucher_json(CHAT_CEILING))
    };
    let stranger = "0x00000000000000000000000000000000000000aa".parse().expect("an address");
    let cases = [
        (with(offer.clone(), "amount", json!("1")), voucher(good.0.clone(), good.1.clone()), 402, "invalid_payment_requirements"),
        (offer.clone(), other_terms(&|payer| payer.config.token = stranger), 402, "…token_mismatch"),
        (offer.clone(), other_terms(&|payer| payer.config.receiver = stranger), 402, "…receiver_mismatch"),
        (offer.clone(), other_terms(&|payer| payer.config.receiver_authorizer = stranger), 402, "…receiver_authorizer_mismatch"),
        (offer.clone(), other_terms(&|payer| payer.config.withdraw_delay_secs = 901), 402, "…withdraw_delay_mismatch"),
        (offer.clone(), voucher(good.0.clone(), with(good.1.clone(), "channelId", good.0["salt"].clone())), 402, "…channel_id_mismatch"),
        (offer.clone(), voucher(good.0.clone(), with(good.1.clone(), "signature", forged)), 402, "…voucher_signature"),
        (offer.clone(), voucher(good.0.clone(), with(good.1.clone(), "maxClaimableAmount", json!("02800"))), 402, "…voucher_payload"),
        (offer.clone(), json!({ "type": "claim", "channelConfig": good.0.clone() }), 402, "…voucher_payload"),
    ];
    for (accepted, payload, status, error) in cases {
        let header = payer.header_with(&accepted, payload, None);
        let response = client.post(&url).header("payment-signature", header).json(&chat(false)).send().await.expect("an answer");
        assert_eq!(response.status().as_u16(), status, "{error}");
        assert_eq!(x402_offer(&response).1["error"], error.replace('…', "invalid_batch_settlement_evm_"), "{error}");
    }
    for (name, value, status) in [
        ("payment-signature", "not base64!", 400),
        ("payment-signature", "e30=", 400),
        ("authorization", "Payment not-json", 402),
        ("authorization", "Payment e30", 402),
    ] {
        let response = client.post(&url).header(name, value).json(&chat(false)).send().await.expect("an answer");
        assert_eq!(response.status().as_u16(), status, "{name}: {value}");
        assert_eq!(problem(response).await["charged"], "0");
    }
    let both = client
        .post(&url)
        .header("payment-signature", payer.header(&offer, 1))
        .header("authorization", "Payment e30")
        .json(&chat(false));
    assert_eq!(problem(both.send().await.expect("an answer")).await["code"], "two-payments");
    assert_eq!(gateway.port.events(), []);
    gateway.stop().await;
}

#[tokio::test]
async fn a_request_with_an_id_is_charged_once() {
    let (upstream, gateway, client) = setup(CHAT).await;
    let payer = x402(&gateway);
    let url = gateway.url("/v1/chat/completions");
    let offer = x402_offer(&client.post(&url).json(&chat(false)).send().await.expect("an answer")).0;
    let pay = |total: u128, body: Value| {
        let payload = json!({ "type": "voucher", "channelConfig": payer.config_json(), "voucher": payer.voucher_json(total) });
        let id = json!({ "payment-identifier": { "info": { "required": false, "id": "logical-request-0001" } } });
        client.post(&url).header("payment-signature", payer.header_with(&offer, payload, Some(id))).json(&body).send()
    };
    upstream.reply("application/json", completion(10, 5));
    assert_eq!(pay(CHAT_CEILING, chat(false)).await.expect("an answer").status(), StatusCode::OK);
    let again = pay(CHAT_CEILING, chat(false)).await.expect("an answer");
    assert_eq!(again.status(), StatusCode::CONFLICT);
    let body = problem(again).await;
    assert_eq!((&body["code"], &body["charged"]), (&json!("already-charged"), &json!("60")));
    let mut other = chat(false);
    other["model"] = json!("another");
    let other = pay(60 + CHAT_CEILING, other).await.expect("an answer");
    assert_eq!((other.status(), problem(other).await["code"].clone()), (StatusCode::CONFLICT, json!("id-conflict")));
    assert_eq!((upstream.seen().len(), gateway.port.charged(payer.channel)), (1, 60));
    gateway.stop().await;
}

#[tokio::test]
async fn a_session_stream_asks_for_vouchers_when_the_reserve_runs_out() {
    let routes = CHAT.replace("2 USDC / 1M input_token + 8 USDC / 1M output_token", "8 USDC / 1M output_token");
    let (upstream, gateway, client) = setup(&routes).await;
    let payer = session(&gateway, 1_000);
    let url = gateway.url("/v1/chat/completions");
    let offer = mpp_offer(&client.post(&url).json(&chat(true)).send().await.expect("an answer"));
    let pieces = upstream.pieces("text/event-stream");
    pieces.send(Ok(delta("one"))).await.expect("taken");
    // Two tokens are paid for.
    let request = client.post(&url).header("authorization", payer.header(&offer, 16)).json(&chat(true));
    let mut response = request.send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.chunk().await.expect("whole"), Some(delta("one")));
    pieces.send(Ok(delta("two"))).await.expect("taken");
    assert_eq!(response.chunk().await.expect("whole"), Some(delta("two")));
    pieces.send(Ok(delta("three"))).await.expect("taken");
    let asked = response.chunk().await.expect("whole").expect("an event");
    let asked = std::str::from_utf8(&asked)
        .expect("text")
        .strip_prefix("event: payment-need-voucher\ndata: ")
        .expect("a wish")
        .to_owned();
    let asked: Value = serde_json::from_str(asked.trim()).expect("JSON");
    assert_eq!(
        (&asked["requiredCumulative"], &asked["acceptedCumulative"], &asked["deposit"]),
        (&json!("24"), &json!("16"), &json!("1000"))
    );
    // The voucher comes on another connection, to the same address.
    let voucher = Client::new().head(gateway.url("/v1/chat/completions")).header("authorization", payer.header(&offer, 40)).send();
    let voucher = voucher.await.expect("an answer");
    assert_eq!(voucher.status(), StatusCode::OK);
    assert_eq!(response.chunk().await.expect("whole"), Some(delta("three")));
    drop(pieces);
    let receipt = response.chunk().await.expect("whole").expect("a receipt");
    let receipt = std::str::from_utf8(&receipt)
        .expect("text")
        .strip_prefix("event: payment-receipt\ndata: ")
        .expect("a receipt")
        .to_owned();
    let receipt: Value = serde_json::from_str(receipt.trim()).expect("JSON");
    assert_eq!((&receipt["spent"], &receipt["acceptedCumulative"]), (&json!("24"), &json!("40")));
    assert_eq!(response.chunk().await.expect("whole"), None);
    assert_eq!((gateway.port.charged(payer.channel), gateway.port.reserved(payer.channel)), (24, 0));
    gateway.stop().await;
}

#[tokio::test]
async fn a_session_stream_that_gets_no_voucher_ends_where_the_money_does() {
    let routes = CHAT.replace("2 USDC / 1M input_token + 8 USDC / 1M output_token", "8 USDC / 1M output_token");
    let upstream = Upstream::start().await;
    let gateway =
        Gateway::start_with(upstream.address, &routes, |payment| payment.replace("voucher_wait_secs = 20", "voucher_wait_secs = 1")).await;
    let client = Client::new();
    let payer = session(&gateway, 1_000);
    let url = gateway.url("/v1/chat/completions");
    let offer = mpp_offer(&client.post(&url).json(&chat(true)).send().await.expect("an answer"));
    let pieces = upstream.pieces("text/event-stream");
    pieces.send(Ok(delta("one"))).await.expect("taken");
    let mut response =
        client.post(&url).header("authorization", payer.header(&offer, 8)).json(&chat(true)).send().await.expect("an answer");
    assert_eq!(response.chunk().await.expect("whole"), Some(delta("one")));
    pieces.send(Ok(delta("two"))).await.expect("taken");
    let mut seen = String::new();
    let broken = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => seen += std::str::from_utf8(&chunk).expect("text"),
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    assert!(broken && seen.starts_with("event: payment-need-voucher") && !seen.contains("two"), "{seen}");
    // The upstream is let go too.
    pieces.closed().await;
    assert_eq!((gateway.port.charged(payer.channel), gateway.port.reserved(payer.channel)), (8, 0));
    gateway.stop().await;
}

#[tokio::test]
async fn a_session_is_opened_by_its_first_request_and_closed_at_the_end() {
    let (upstream, gateway, client) = setup(CHAT).await;
    let payer = SessionPayer::new(7);
    let url = gateway.url("/v1/chat/completions");
    let offer = mpp_offer(&client.post(&url).json(&chat(false)).send().await.expect("an answer"));
    let pay = |header: String| client.post(&url).header("authorization", header).json(&chat(false)).send();
    // A voucher on a channel that nobody knows.
    let unknown = pay(payer.header(&offer, CHAT_CEILING)).await.expect("an answer");
    assert_eq!((unknown.status(), problem(unknown).await["code"].clone()), (StatusCode::GONE, json!("channel-not-found")));
    upstream.reply("application/json", completion(10, 5));
    let opened = pay(payer.opening(&offer, CHAT_CEILING, 50_000)).await.expect("an answer");
    assert_eq!(opened.status(), StatusCode::OK);
    let receipt = opened.headers()["payment-receipt"].to_str().expect("text");
    let receipt: Value = serde_json::from_slice(&unbase64(receipt)).expect("JSON");
    assert_eq!((&receipt["spent"], &receipt["charged"], &receipt["method"]), (&json!("60"), &json!("60"), &json!("evm")));
    assert!(receipt["txHash"].as_str().expect("a deposit").starts_with("0x"));
    // Another's signature, and an offer that was not made here.
    let mut stranger = SessionPayer::new(7);
    stranger.key = X402Payer::new(1).key;
    let forged = pay(stranger.header(&offer, 2 * CHAT_CEILING)).await.expect("an answer");
    assert_eq!(problem(forged).await["type"], "https://paymentauth.org/problems/session/invalid-signature");
    let made_up = pay(payer.header(&offer.replace("evm/", "x").replacen("id=\"", "id=\"AAAA", 1), 2 * CHAT_CEILING))
        .await
        .expect("an answer");
    assert_eq!(problem(made_up).await["code"], "invalid-offer");
    let closed = pay(payer.header_with(&offer, "close", 60)).await.expect("an answer");
    assert_eq!((closed.status(), upstream.seen().len()), (StatusCode::OK, 1));
    gateway.stop().await;
}

#[tokio::test]
async fn requests_run_side_by_side_on_one_session() {
    const SIDE_BY_SIDE: u64 = 16;
    let (upstream, gateway, client) = setup(CHAT).await;
    let payer = session(&gateway, 1_000_000);
    let url = gateway.url("/v1/chat/completions");
    let offer = mpp_offer(&client.post(&url).json(&chat(false)).send().await.expect("an answer"));
    let replies: Vec<_> = (0..SIDE_BY_SIDE).map(|_| upstream.pieces("application/json")).collect();
    let header = payer.header(&offer, CHAT_CEILING * u128::from(SIDE_BY_SIDE));
    let requests: Vec<_> = (0..SIDE_BY_SIDE)
        .map(|_| tokio::spawn(client.post(&url).header("authorization", &header).json(&chat(false)).send()))
        .collect();
    // The second half is taken in when the first was read: by then every request is under way, and none is answered.
    let answer = completion(10, 5);
    for reply in &replies {
        for half in [&answer[..20], &answer[20..]] {
            reply.send(Ok(half.to_owned().into())).await.expect("taken");
        }
    }
    assert_eq!(gateway.port.reserved(payer.channel), CHAT_CEILING * u128::from(SIDE_BY_SIDE));
    drop(replies);
    for request in requests {
        let response = request.await.expect("no panic").expect("an answer");
        assert_eq!(response.status(), StatusCode::OK);
        assert!(response.headers().contains_key("payment-receipt"));
    }
    assert_eq!((gateway.port.charged(payer.channel), gateway.port.reserved(payer.channel)), (60 * u128::from(SIDE_BY_SIDE), 0));
    gateway.stop().await;
}

#[tokio::test]
async fn http2_is_spoken_on_both_sides_and_the_receipt_is_a_trailer() {
    let routes = format!("{CHAT}\nupstream_http2 = true");
    let (upstream, gateway, client) = setup(&routes).await;
    let payer = x402(&gateway);
    let url = gateway.url("/v1/chat/completions");
    let offer = x402_offer(&client.post(&url).json(&chat(true)).send().await.expect("an answer")).0;
    let pieces = upstream.pieces("text/event-stream");
    pieces.send(Ok(delta("one"))).await.expect("taken");
    let http2 = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).http2_only(true).build_http::<Body>();
    let request = Request::post(&url)
        .header("payment-signature", payer.header(&offer, CHAT_CEILING))
        .header("content-type", "application/json");
    let response = http2.request(request.body(Body::from(chat(true).to_string())).expect("sound")).await.expect("an answer");
    assert_eq!((response.status().as_u16(), response.version()), (200, axum::http::Version::HTTP_2));
    let mut body = response.into_body();
    let first = body.frame().await.expect("a frame").expect("whole");
    assert_eq!(first.into_data().expect("data"), delta("one"));
    drop(pieces);
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        trailers = frame.expect("whole").into_trailers().ok();
    }
    let receipt = trailers.expect("trailers")["payment-response"].to_str().expect("text").to_owned();
    let receipt: Value = serde_json::from_slice(&unbase64(&receipt)).expect("JSON");
    assert_eq!(receipt["extra"]["chargedAmount"], "8");
    assert_eq!(upstream.seen()[0].version, axum::http::Version::HTTP_2);
    assert_eq!(gateway.port.charged(payer.channel), 8);
    gateway.stop().await;
}

#[tokio::test]
async fn bytes_are_charged_as_they_are_delivered_and_a_remainder_is_carried() {
    let routes = r#"
        [[route]]
        path = "/files/*"
        upstream = "{upstream}"
        price = "1 base / 1K byte"
        limits = { response_bytes_max = 10000 }
    "#;
    let (upstream, gateway, client) = setup(routes).await;
    let payer = x402(&gateway);
    let url = gateway.url("/files/a.bin");
    let offer = x402_offer(&client.get(&url).send().await.expect("an answer")).0;
    // 1.5 base units each: 2 and 1.
    for (total, charged) in [(10, 2), (12, 3)] {
        upstream.reply("application/octet-stream", vec![7; 1_500]);
        let response = client.get(&url).header("payment-signature", payer.header(&offer, total)).send().await.expect("an answer");
        assert_eq!(response.bytes().await.expect("a body").len(), 1_500);
        gateway.port.idle(payer.channel).await;
        assert_eq!(gateway.port.charged(payer.channel), charged);
    }
    // More than the route delivers ends where the money does.
    upstream.reply("application/octet-stream", vec![7; 50_000]);
    let response = client.get(&url).header("payment-signature", payer.header(&offer, 13)).send().await.expect("an answer");
    assert!(response.bytes().await.is_err());
    gateway.port.idle(payer.channel).await;
    assert!(gateway.port.charged(payer.channel) <= 13);
    gateway.stop().await;
}

#[tokio::test]
async fn a_price_for_the_call_is_in_the_head_whatever_the_body() {
    let routes = r#"
        [[route]]
        path = "/feed"
        upstream = "{upstream}"
        price = "0.001 USDC / call"
    "#;
    let (upstream, gateway, client) = setup(routes).await;
    let payer = x402(&gateway);
    let offer = x402_offer(&client.get(gateway.url("/feed")).send().await.expect("an answer")).0;
    let pieces = upstream.pieces("text/event-stream");
    pieces.send(Ok(delta("one"))).await.expect("taken");
    let request = client.get(gateway.url("/feed")).header("payment-signature", payer.header(&offer, 1_000));
    let mut response = request.send().await.expect("an answer");
    assert_eq!(settled(&response)["extra"]["chargedAmount"], "1000");
    assert_eq!(response.chunk().await.expect("whole"), Some(delta("one")));
    drop(pieces);
    assert_eq!(response.chunk().await.expect("whole"), None);
    gateway.stop().await;
}

#[tokio::test]
async fn what_no_route_covers_is_not_reached() {
    let routes = format!(
        "{CHAT}\n[[route]]\npath = \"/free/*\"\nmethods = [\"GET\"]\nupstream = \"{{upstream}}\"\nfree = true\n[route.limits]\nrequest_bytes_max = 10"
    );
    let (upstream, gateway, client) = setup(&routes).await;
    for (path, status) in [("/nothing", 404), ("/v1/chat/completions", 405)] {
        let response = client.get(gateway.url(path)).send().await.expect("an answer");
        assert_eq!(response.status().as_u16(), status, "{path}");
        assert_eq!(problem(response).await["charged"], "0");
    }
    // A client library tidies dots: write the request by hand.
    for path in ["/free/../v1/chat/completions", "/free/%2e%2e/v1/chat/completions", "//free/x", "/free/a%2fb"] {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(gateway.address).await.expect("listening");
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).await.expect("open");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 400 "), "{path}: {answer}");
    }
    assert_eq!(upstream.seen().len(), 0);
    upstream.reply("text/plain", "hello");
    let response = client.get(gateway.url("/free/x?q=1")).send().await.expect("an answer");
    assert_eq!((response.status(), response.text().await.expect("a body")), (StatusCode::OK, "hello".to_owned()));
    assert_eq!(upstream.seen()[0].uri, "/free/x?q=1");
    let large = json!({ "content": "x".repeat(20_000_000) });
    let response = client.post(gateway.url("/v1/chat/completions")).json(&large).send().await;
    // The answer may come while the client still sends: then some clients see a break.
    if let Ok(response) = response {
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
    let mut dear = chat(false);
    dear["max_tokens"] = json!(1_001);
    let response = client.post(gateway.url("/v1/chat/completions")).json(&dear).send().await.expect("an answer");
    assert_eq!((response.status(), problem(response).await["code"].clone()), (StatusCode::BAD_REQUEST, json!("limit-exceeded")));
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_offered_can_be_found() {
    let (_upstream, gateway, client) = setup(CHAT).await;
    let get = |path: &str| client.get(gateway.url(path)).send();
    assert_eq!(get("/healthz").await.expect("an answer").text().await.expect("a body"), "ok\n");
    let openapi: Value = get("/openapi.json").await.expect("an answer").json().await.expect("JSON");
    let offered = &openapi["paths"]["/v1/chat/completions"]["post"]["x-payment-info"];
    assert_eq!(offered["price"], "2 USDC / 1M input_token + 8 USDC / 1M output_token");
    assert_eq!(offered["offers"].as_array().expect("a list").len(), 2);
    assert_eq!(openapi["servers"][0]["url"], gateway.url(""));
    let listed: Value = get("/.well-known/x402").await.expect("an answer").json().await.expect("JSON");
    assert_eq!(listed["resources"], json!([gateway.url("/v1/chat/completions")]));
    assert!(get("/llms.txt").await.expect("an answer").text().await.expect("a body").contains("`POST /v1/chat/completions`: 2 USDC"));
    let preflight = client.request(reqwest::Method::OPTIONS, gateway.url("/v1/chat/completions"));
    let preflight = preflight.header("origin", "https://app.example").header("access-control-request-method", "POST");
    let preflight = preflight.header("access-control-request-headers", "payment-signature").send().await.expect("an answer");
    assert_eq!(
        (preflight.status(), &preflight.headers()["access-control-allow-headers"]),
        (StatusCode::NO_CONTENT, &"payment-signature".parse().expect("sound"))
    );
    gateway.stop().await;
}

#[tokio::test]
async fn a_gateway_that_stops_ends_what_it_began() {
    let (upstream, gateway, client) = setup(CHAT).await;
    let payer = x402(&gateway);
    let url = gateway.url("/v1/chat/completions");
    let offer = x402_offer(&client.post(&url).json(&chat(true)).send().await.expect("an answer")).0;
    let pieces = upstream.pieces("text/event-stream");
    pieces.send(Ok(delta("one"))).await.expect("taken");
    let request = client.post(&url).header("payment-signature", payer.header(&offer, CHAT_CEILING)).json(&chat(true));
    let mut response = request.send().await.expect("an answer");
    assert!(response.chunk().await.expect("whole").is_some());
    let port = std::sync::Arc::clone(&gateway.port);
    let stopping = tokio::spawn(gateway.stop());
    pieces.send(Ok(delta("two"))).await.expect("taken");
    drop(pieces);
    while response.chunk().await.expect("whole").is_some() {}
    tokio::time::timeout(Duration::from_secs(20), stopping).await.expect("it stops").expect("no panic");
    assert_eq!(port.charged(payer.channel), 16);
}

#[tokio::test]
async fn a_ledger_that_cannot_commit_is_tried_again_and_a_payer_can_have_its_deposit_back() {
    let (upstream, gateway, client) = setup(CHAT).await;
    let payer = x402(&gateway);
    let url = gateway.url("/v1/chat/completions");
    let offer = x402_offer(&client.post(&url).json(&chat(false)).send().await.expect("an answer")).0;
    gateway.port.fail_next(1);
    let pay = |total: u128| client.post(&url).header("payment-signature", payer.header(&offer, total)).json(&chat(false)).send();
    let response = pay(CHAT_CEILING).await.expect("an answer");
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(problem(response).await["code"], "ledger-unavailable");
    // Failing at the capture: it is tried again until it holds.
    let pieces = upstream.pieces("application/json");
    let paying = tokio::spawn(pay(CHAT_CEILING));
    let answer = completion(10, 5);
    for half in [&answer[..20], &answer[20..]] {
        pieces.send(Ok(half.to_owned().into())).await.expect("taken");
    }
    gateway.port.fail_next(2);
    drop(pieces);
    let response = paying.await.expect("no panic").expect("an answer");
    assert_eq!(settled(&response)["extra"]["chargedAmount"], "60");
    let payload = json!({ "type": "refund", "channelConfig": payer.config_json(), "voucher": payer.voucher_json(60) });
    let refund = client.post(&url).header("payment-signature", payer.header_with(&offer, payload, None)).json(&chat(false)).send();
    let refund = refund.await.expect("an answer");
    assert_eq!((refund.status(), settled(&refund)["amount"].clone()), (StatusCode::OK, json!("999940")));
    assert_eq!(upstream.seen().len(), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn a_deposit_comes_with_the_first_voucher() {
    let (upstream, gateway, client) = setup(CHAT).await;
    let payer = X402Payer::new(9);
    let url = gateway.url("/v1/chat/completions");
    let offer = x402_offer(&client.post(&url).json(&chat(false)).send().await.expect("an answer")).0;
    upstream.reply("application/json", completion(10, 5));
    let payload = json!({
        "type": "deposit", "channelConfig": payer.config_json(), "voucher": payer.voucher_json(CHAT_CEILING),
        "deposit": { "amount": "50000", "authorization": { "erc3009Authorization": { "validAfter": "0", "validBefore": "9", "salt": "0x0000000000000000000000000000000000000000000000000000000000000001", "signature": "0x00" } } },
    });
    let request = client.post(&url).header("payment-signature", payer.header_with(&offer, payload, None)).json(&chat(false));
    let response = request.send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::OK);
    let settled = settled(&response);
    assert_eq!((&settled["amount"], &settled["extra"]["chargedAmount"]), (&json!("50000"), &json!("60")));
    assert_eq!(settled["extra"]["channelState"]["balance"], "50000");
    gateway.stop().await;
}
