//! The unmodified npm package `openai`, which knows nothing of payments, through `millstream proxy` and `millstream gateway`: it pays for the
//! tokens that it was given.

mod http402;

use http402::{Chain, Gateway, PAYER, Proxy, RECEIVER, Script, Upstream, wait_for};
use millstream_testkit::DEV_ACCOUNTS;
use reqwest::StatusCode;
use serde_json::{Value, json};

struct House {
    chain: Chain,
    upstream: Upstream,
    gateway: Gateway,
    proxy: Proxy,
    /// What has to be charged so far; a token is a base unit.
    charged: u128,
}

impl House {
    async fn start() -> Self {
        let (chain, upstream) = (Chain::start().await, Upstream::start().await);
        let gateway = Gateway::start(&chain, &upstream).await;
        let proxy = Proxy::start(&chain, PAYER, &gateway.url("")).await;
        Self { chain, upstream, gateway, proxy, charged: 0 }
    }

    async fn client(&self) -> Script {
        Script::start("completion.mjs", &json!({ "baseUrl": self.proxy.url("/v1") })).await
    }

    /// Lets the upstream go on once so many pieces came: what a broken connection had still on the way is nobody's.
    fn release(&self, at: u64) -> Value {
        json!({ "at": at, "url": format!("http://{}/release", self.upstream.address) })
    }

    /// The receiver has what is charged.
    async fn charges(&mut self, units: u128) {
        self.charged += units;
        let receiver = DEV_ACCOUNTS[RECEIVER].address;
        wait_for("the sweep", async || self.chain.balance(receiver).await >= self.charged).await;
        assert_eq!(self.chain.balance(receiver).await, self.charged);
    }
}

fn pieces(answer: &Value) -> usize {
    answer["pieces"].as_array().unwrap_or_else(|| panic!("{answer}")).len()
}

/// The connection broke, and that is what the client says: all that it was given were the service's own events.
fn breaks_off(answer: &Value) {
    assert!(answer["error"].as_str().is_some_and(|error| !error.contains("malformed")), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streamed_completion_costs_its_tokens() {
    let mut house = House::start().await;
    let mut client = house.client().await;
    let answer = client.say(json!({ "command": "stream", "maxTokens": 12 })).await;
    assert_eq!((pieces(&answer), answer["pieces"][11].as_str()), (12, Some("t11 ")), "{answer}");
    house.charges(12).await;

    // A whole answer that uses half of what it may.
    let answer = client.say(json!({ "command": "whole", "model": "half", "maxTokens": 300 })).await;
    assert_eq!(answer["usage"]["completion_tokens"], 150, "{answer}");
    house.charges(150).await;

    // The upstream breaks off: five came, five are paid.
    let answer = client.say(json!({ "command": "stream", "model": "cut-5", "maxTokens": 10, "release": house.release(5) })).await;
    assert_eq!(pieces(&answer), 5, "{answer}");
    breaks_off(&answer);
    house.charges(5).await;

    // The newer API: its streams end without a word, and nothing comes after them.
    let answer = client.say(json!({ "command": "respond", "maxTokens": 6 })).await;
    assert_eq!((pieces(&answer), answer["types"].as_array().map(Vec::len), &answer["error"]), (6, Some(7), &Value::Null), "{answer}");
    house.charges(6).await;
    let answer = client.say(json!({ "command": "respond", "model": "cut-4", "maxTokens": 6, "release": house.release(4) })).await;
    assert_eq!(pieces(&answer), 4, "{answer}");
    breaks_off(&answer);
    house.charges(4).await;

    // The client leaves after three, and no more were made.
    let answer = client.say(json!({ "command": "stream", "model": "held-3", "maxTokens": 10, "takeOnly": 3 })).await;
    assert_eq!(pieces(&answer), 3, "{answer}");
    house.charges(3).await;

    // The upstream fails before its first byte.
    let answer = client.say(json!({ "command": "stream", "model": "dies", "maxTokens": 10 })).await;
    assert_eq!((pieces(&answer), answer["status"].as_u64()), (0, Some(502)), "{answer}");
    // What comes after it is paid as if it had not been.
    let answer = client.say(json!({ "command": "stream", "maxTokens": 7 })).await;
    assert_eq!(pieces(&answer), 7, "{answer}");
    house.charges(7).await;
    house.gateway.stop().await;
    assert_eq!(house.chain.balance(DEV_ACCOUNTS[RECEIVER].address).await, 187);
}

/// The same client pays by itself, by `@x402/fetch`: what the gateway adds to a stream must be nothing to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_pays_by_itself_reads_the_streams() {
    let mut house = House::start().await;
    let mut settings = house.chain.settings();
    settings["baseUrl"] = house.gateway.url("/v1").into();
    settings["key"] = http402::chain::key(PAYER + 1).into();
    let mut client = Script::start("completion.mjs", &settings).await;
    let answer = client.say(json!({ "command": "stream", "maxTokens": 9 })).await;
    assert_eq!((pieces(&answer), &answer["error"]), (9, &Value::Null), "{answer}");
    house.charges(9).await;
    let answer = client.say(json!({ "command": "stream", "model": "cut-5", "maxTokens": 10, "release": house.release(5) })).await;
    assert_eq!(pieces(&answer), 5, "{answer}");
    breaks_off(&answer);
    house.charges(5).await;
    let answer = client.say(json!({ "command": "respond", "maxTokens": 6 })).await;
    assert_eq!((pieces(&answer), answer["types"].as_array().map(Vec::len), &answer["error"]), (6, Some(7), &Value::Null), "{answer}");
    house.charges(6).await;
    house.gateway.stop().await;
}

/// Our payer on one channel: what x402 has one after the other, it queues.
#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_requests_at_once_are_all_answered_and_paid_once() {
    const REQUESTS: usize = 64;
    let mut house = House::start().await;
    let client = reqwest::Client::new();
    let all: Vec<_> = (0..REQUESTS)
        .map(|_| {
            let (client, url) = (client.clone(), house.proxy.url("/call"));
            tokio::spawn(async move { client.get(url).send().await.expect("answered").status() })
        })
        .collect();
    for status in all {
        assert_eq!(status.await.expect("no panic"), StatusCode::OK);
    }
    assert_eq!(house.upstream.count("/call"), REQUESTS);
    house.charges(64_000).await;
    house.gateway.stop().await;
}
