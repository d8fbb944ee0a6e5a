//! Routes whose price a rate card says: which entry, which version, and changes while requests are under way (T-20 to T-25).

#![allow(clippy::arithmetic_side_effects, reason = "small numbers")]

mod support;

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use millstream_gateway::cards::{PublishError, Published, SignedCard};
use millstream_gateway::{GatewayConfig, Server};
use millstream_tariff::moment;
use millstream_types::Timestamp;
use millstream_voucher::evm::{EvmSecretKey, Signer};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use support::memory::MemoryPort;
use support::payer::{SessionPayer, X402Payer, mpp_offer, unbase64, x402_offer};
use support::upstream::{Upstream, completion, delta, usage_event};
use support::{Gateway, payment, tempfile};

const PATH: &str = "/v1/chat/completions";

fn key() -> EvmSecretKey {
    EvmSecretKey::from_bytes(&[7; 32]).expect("a key")
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    Timestamp::from_millis(u64::try_from(since.as_millis()).expect("soon"))
}

/// The moment so many seconds from now, in whole seconds.
fn soon(secs: i64) -> String {
    moment(Timestamp::from_millis((now().as_millis() / 1_000).saturating_add_signed(secs) * 1_000))
}

/// A card at `output` USDC for a million tokens written, 10 for the model `big`.
fn card(version: u32, from: &str, output: u32, more: &str) -> String {
    let text = format!(
        r#"
        [card]
        name = "chat"
        version = {version}
        valid_from = "{from}"
        network = "eip155:31337"
        asset = "0x036CbD53842c5426634e7929541eC2318f3dCF7e"
        symbol = "USDC"
        decimals = 6
        [[entry]]
        name = "big"
        models = ["big*"]
        price = "2 USDC / 1M input_token + 10 USDC / 1M output_token"
        tier = [{{ above = "50", price = "6 USDC / 1M output_token" }}]
        [[entry]]
        name = "small"
        models = ["small"]
        price = "1 USDC / 1M input_token + {output} USDC / 1M output_token"
        {more}
        "#
    );
    SignedCard::sign(&text, &key()).expect("a card").text().to_owned()
}

fn routes(dir: &Path) -> String {
    format!(
        r#"
        [ratecards]
        dir = "{}"
        signers = ["{}"]
        [[route]]
        path = "{PATH}"
        methods = ["POST"]
        upstream = "{{upstream}}"
        card = "chat"
        limits = {{ output_tokens_max = 100, input_tokens_max = 1000 }}
        "#,
        dir.display(),
        key().account()
    )
}

struct Shop {
    _dir: tempfile::TempDir,
    upstream: Upstream,
    gateway: Gateway,
    client: Client,
}

impl Shop {
    /// Sells by one card.
    async fn open(first: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("chat@1.toml"), first).expect("written");
        let upstream = Upstream::start().await;
        let gateway = Gateway::start(upstream.address, &routes(dir.path())).await;
        Self { _dir: dir, upstream, gateway, client: Client::new() }
    }

    fn publish(&self, text: &str) -> Result<Published, PublishError> {
        self.gateway.cards.as_ref().expect("cards").publish(text, now())
    }

    fn payer(&self) -> X402Payer {
        let payer = X402Payer::new(1);
        self.gateway.port.open(payer.channel, payer.config.payer, Signer::Key(payer.config.voucher_signer()), 1_000_000);
        payer
    }

    fn ask(&self, body: &Value) -> reqwest::RequestBuilder {
        self.client.post(self.gateway.url(PATH)).json(body)
    }

    /// What a request may cost, and under which prices: as the answer without a payment says it.
    async fn offered(&self, body: &Value) -> (Value, u128, String) {
        let response = self.ask(body).send().await.expect("an answer");
        assert_eq!(response.status(), StatusCode::PAYMENT_REQUIRED);
        let offer = x402_offer(&response).0;
        let problem: Value = response.json().await.expect("JSON");
        let amount = offer["amount"].as_str().expect("an amount").parse().expect("a number");
        (offer, amount, problem["tariff"].as_str().expect("a version").to_owned())
    }

    /// Pays a request with the next voucher; answers what was charged and under which prices.
    async fn pay(&self, payer: &X402Payer, body: &Value, answer: &str) -> (u128, String) {
        let (offer, amount, _) = self.offered(body).await;
        self.upstream.reply("application/json", answer.to_owned());
        let header = payer.header(&offer, self.gateway.port.charged(payer.channel) + amount);
        let response = self.ask(body).header("payment-signature", header).send().await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK);
        let receipt = response.headers().get("payment-response").expect("a receipt").to_str().expect("text");
        let receipt: Value = serde_json::from_slice(&unbase64(receipt)).expect("JSON");
        let text = |field: &str| receipt["extra"][field].as_str().expect(field).to_owned();
        (text("chargedAmount").parse().expect("a number"), text("tariff"))
    }
}

fn chat(model: &str, stream: bool) -> Value {
    json!({ "model": model, "messages": [], "max_tokens": 100, "stream": stream })
}

#[tokio::test]
async fn the_model_decides_the_price_and_the_receipt_names_the_version() {
    let shop = Shop::open(&card(1, &soon(-60), 4, "")).await;
    let payer = shop.payer();
    // The ceiling of 100 tokens: 50 at 10 and 50 at 6; or 100 at 4.
    for (model, ceiling) in [("big-1", 2_000 + 500 + 300), ("small", 1_000 + 400)] {
        let (_, amount, tariff) = shop.offered(&chat(model, false)).await;
        assert_eq!((amount, tariff.as_str()), (ceiling, "chat@1"), "{model}");
    }
    assert_eq!(shop.pay(&payer, &chat("big-1", false), &completion(10, 60)).await, (20 + 500 + 60, "chat@1".to_owned()));
    assert_eq!(shop.pay(&payer, &chat("small", false), &completion(10, 60)).await, (10 + 240, "chat@1".to_owned()));
    for (body, says) in [(chat("other", false), "the model `other` is not sold here"), (json!({ "max_tokens": 1 }), "names no model")] {
        let response = shop.ask(&body).send().await.expect("an answer");
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        let problem: Value = response.json().await.expect("JSON");
        assert_eq!((problem["code"].as_str(), problem["charged"].as_str()), (Some("model-not-sold"), Some("0")));
        assert!(problem["detail"].as_str().expect("text").contains(says), "{problem}");
    }
    shop.gateway.stop().await;
}

#[tokio::test]
async fn a_card_is_changed_while_a_stream_keeps_its_own() {
    let shop = Shop::open(&card(1, &soon(-60), 4, "")).await;
    let payer = shop.payer();
    let (offer, amount, _) = shop.offered(&chat("small", true)).await;
    let pieces = shop.upstream.pieces("text/event-stream");
    pieces.send(Ok(delta("one"))).await.expect("taken");
    let request = shop.ask(&chat("small", true)).header("payment-signature", payer.header(&offer, amount));
    let mut stream = request.send().await.expect("an answer");
    assert_eq!(stream.chunk().await.expect("whole"), Some(delta("one")));

    // What is refused changes nothing.
    for (wrong, says) in [
        (card(2, &soon(-3_600), 40, ""), "prices are never changed for what is past"),
        (card(1, &soon(-60), 40, ""), "a change is a new version"),
        (card(2, &soon(0), 40, "").replace("40 USDC", "50 USDC"), "changed after it was signed"),
        (card(2, &soon(0), 40, "[credit]\namount = \"1 USDC\"\ndays = 1"), "gives no credit"),
        (
            card(2, &soon(0), 40, "[[discount]]\nkind = \"volume\"\nover = \"day\"\nfrom = \"1 USDC\"\npercent = \"1\""),
            "a count of each payer's volume",
        ),
        (
            card(2, &soon(0), 40, "routes = [\"/elsewhere\"]").replace("models = [\"big*\"]", "routes = [\"/elsewhere\"]"),
            "for this content",
        ),
    ] {
        let error = shop.publish(&wrong).map(|_| ()).expect_err(says).to_string();
        assert!(error.contains(says), "{error}");
        assert_eq!(shop.offered(&chat("small", false)).await.2, "chat@1");
    }
    // One that holds later, and one that holds now.
    assert!(matches!(shop.publish(&card(2, &soon(0), 40, "")), Ok(Published::New(_))));
    assert!(matches!(shop.publish(&card(3, &soon(3_600), 80, "")), Ok(Published::New(_))));
    let (_, amount, tariff) = shop.offered(&chat("small", false)).await;
    assert_eq!((amount, tariff.as_str()), (1_000 + 4_000, "chat@2"));
    let listed: Value = shop.client.get(shop.gateway.url("/openapi.json")).send().await.expect("an answer").json().await.expect("JSON");
    let info = &listed["paths"][PATH]["post"]["x-payment-info"];
    assert_eq!(
        (info["tariff"].as_str(), info["entries"][1]["price"].as_str()),
        (Some("chat@2"), Some("1 USDC / 1M input_token + 40 USDC / 1M output_token"))
    );
    assert_eq!(info["entries"][0]["tiers"][0]["steps"][1]["above"], "50");

    // The stream goes on at its own.
    pieces.send(Ok(delta("two"))).await.expect("taken");
    pieces.send(Ok(usage_event(10, 2))).await.expect("taken");
    drop(pieces);
    let mut rest = String::new();
    while let Some(chunk) = stream.chunk().await.expect("whole") {
        rest.push_str(std::str::from_utf8(&chunk).expect("text"));
    }
    let receipt = rest.split(": x402-settlement ").nth(1).expect("a receipt");
    let receipt: Value = serde_json::from_slice(&unbase64(receipt.trim())).expect("JSON");
    assert_eq!((receipt["extra"]["chargedAmount"].as_str(), receipt["extra"]["tariff"].as_str()), (Some("18"), Some("chat@1")));
    assert_eq!(shop.pay(&payer, &chat("small", false), &completion(10, 2)).await, (10 + 80, "chat@2".to_owned()));
    shop.gateway.stop().await;
}

#[tokio::test]
async fn a_payment_for_prices_that_changed_meanwhile_is_offered_anew() {
    let shop = Shop::open(&card(1, &soon(-60), 4, "")).await;
    let payer = shop.payer();
    let (offer, amount, _) = shop.offered(&chat("small", false)).await;
    shop.publish(&card(2, &soon(0), 5, "")).expect("a card");
    let response = shop
        .ask(&chat("small", false))
        .header("payment-signature", payer.header(&offer, amount))
        .send()
        .await
        .expect("an answer");
    assert_eq!(response.status(), StatusCode::PAYMENT_REQUIRED);
    let problem: Value = response.json().await.expect("JSON");
    assert_eq!((problem["charged"].as_str(), problem["tariff"].as_str()), (Some("0"), Some("chat@2")));
    assert!(shop.upstream.seen().is_empty());
    assert_eq!(shop.pay(&payer, &chat("small", false), &completion(10, 2)).await, (10 + 10, "chat@2".to_owned()));
    shop.gateway.stop().await;
}

#[tokio::test]
async fn loyalty_is_what_the_channel_was_charged_when_the_request_was_held() {
    let discount = "[[discount]]\nkind = \"loyalty\"\nfrom = \"100 base\"\npercent = \"50\"";
    let shop = Shop::open(&card(1, &soon(-60), 4, discount)).await;
    let payer = shop.payer();
    // 10 + 4 × 22 = 98, then 98, and with 196 charged half of it.
    for expected in [98, 98, 49, 49] {
        assert_eq!(shop.pay(&payer, &chat("small", false), &completion(10, 22)).await.0, expected);
    }
    // A session's receipt names the version, too.
    let session = SessionPayer::new(2);
    shop.gateway.port.open(session.channel, session.terms.payer, Signer::Key(session.terms.voucher_signer()), 1_000_000);
    let offer = mpp_offer(&shop.ask(&chat("small", false)).send().await.expect("an answer"));
    shop.upstream.reply("application/json", completion(10, 22));
    let response = shop.ask(&chat("small", false)).header("authorization", session.header(&offer, 1_400)).send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::OK);
    let receipt = response.headers().get("payment-receipt").expect("a receipt").to_str().expect("text");
    let receipt: Value = serde_json::from_slice(&unbase64(receipt)).expect("JSON");
    assert_eq!((receipt["charged"].as_str(), receipt["tariff"].as_str()), (Some("98"), Some("chat@1")));
    shop.gateway.stop().await;
}

#[tokio::test]
async fn where_no_price_holds_nothing_is_sold() {
    let shop = Shop::open(&card(1, &soon(3_600), 4, "")).await;
    let response = shop.ask(&chat("small", false)).send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let problem: Value = response.json().await.expect("JSON");
    assert_eq!((problem["code"].as_str(), problem["charged"].as_str()), (Some("no-price"), Some("0")));
    let listed = shop.client.get(shop.gateway.url("/llms.txt")).send().await.expect("an answer").text().await.expect("text");
    assert!(listed.contains("not sold now"), "{listed}");
    assert!(shop.upstream.seen().is_empty());
    shop.gateway.stop().await;
}

#[test]
fn a_gateway_does_not_start_on_cards_that_it_could_not_use() {
    let start = |cards: &[(&str, String)]| {
        let dir = tempfile::tempdir().expect("a directory");
        for (file, text) in cards {
            std::fs::write(dir.path().join(file), text).expect("written");
        }
        let routes = routes(dir.path()).replace("{upstream}", "http://127.0.0.1:1");
        let config = GatewayConfig::parse(&format!("{}\n{routes}", payment(&tempfile()))).expect("a configuration");
        Server::new(&config, MemoryPort::new(), None).map(|_| ()).map_err(|error| error.to_string())
    };
    let check = |cards: &[(&str, String)], says: &str| {
        let error = start(cards).expect_err(says);
        assert!(error.contains(says), "{error}");
    };
    let good = || card(1, &soon(0), 4, "");
    assert_eq!(start(&[("chat@1.toml", good())]), Ok(()));
    check(&[], "there is no rate card `chat`");
    check(&[("chat.toml", good())], "it is chat@1: its file must be called so");
    check(&[("chat@1.toml", good().replace("4 USDC", "5 USDC"))], "changed after it was signed");
    check(&[("chat@1.toml", card(1, &soon(0), 4, "tiers_over = \"month\""))], "a count of each payer's volume");
}
