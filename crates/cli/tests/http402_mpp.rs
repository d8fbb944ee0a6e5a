//! MPP through `millstream gateway`: `mppx` (npm, unmodified) and our payer make charges; sessions go from open to close by `millstream pay` and
//! `millstream proxy`, with streams that go on after more was signed. `mppx` has no sessions for EVM chains (ADR 41).

mod http402;

use http402::script::{Paid, number};
use http402::{Chain, Gateway, OPERATOR, PAYER, Proxy, Script, Upstream, Wallet, wait_for};
use millstream_testkit::DEV_ACCOUNTS;
use serde_json::{Value, json};

const DOMAIN: &str = "domain_name = \"USD Coin\"\ndomain_version = \"2\"";

/// What MPP's offers are for, in a gateway that is paid by sessions: the operator.
async fn received(chain: &Chain) -> u128 {
    chain.balance(DEV_ACCOUNTS[OPERATOR].address).await
}

async fn left(chain: &Chain, account: usize) -> u128 {
    chain.balance(DEV_ACCOUNTS[account].address).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reference_client_of_mpp_makes_charges() {
    let (chain, upstream) = (Chain::start().await.with_sessions().await, Upstream::start().await);
    // Sessions are offered first, and x402's single payments beside: the client takes what it can.
    let gateway = Gateway::start_mpp(&chain, &upstream, "[payment.exact]\n[payment.x402]\nwithdraw_delay_secs = 900").await;
    let mut client = Script::mppx(&chain, PAYER).await;
    let call = gateway.url("/call");
    let paid = client.pay_times(&call, 3).await;
    for paid in &paid {
        assert_eq!((paid.status, paid.exchanges), (200, 2), "{paid:?}");
        assert_eq!((&paid.receipt["status"], &paid.receipt["method"]), (&json!("success"), &json!("evm")), "{paid:?}");
        assert!(paid.receipt["reference"].as_str().is_some_and(|hash| hash.len() == 66), "{paid:?}");
    }
    assert_eq!(received(&chain).await, 3_000);
    // Several at once: no two have the same nonce.
    let together = Paid::all(client.say(json!({ "command": "pay", "url": call, "times": 4, "together": true })).await);
    assert!(together.iter().all(|paid| paid.status == 200), "{together:?}");
    assert_eq!((received(&chain).await, upstream.count("/call")), (7_000, 7));
    // What failed is not taken.
    assert_eq!(client.pay(&gateway.url("/broken")).await.status, 500);
    assert_eq!(client.pay(&gateway.url("/dies")).await.status, 502);
    assert_eq!((received(&chain).await, left(&chain, PAYER).await), (7_000, http402::chain::TOKENS - 7_000));
    gateway.stop().await;
}

/// The same package pays by x402 where there is no MPP.
#[tokio::test(flavor = "multi_thread")]
async fn the_reference_client_of_mpp_pays_by_x402() {
    let (chain, upstream) = (Chain::start().await, Upstream::start().await);
    let gateway = Gateway::start_with(&chain, &upstream, "[payment.exact]").await;
    let mut client = Script::mppx(&chain, PAYER).await;
    for paid in client.pay_times(&gateway.url("/call"), 2).await {
        assert_eq!((paid.status, paid.exchanges, paid.response["success"].as_bool()), (200, 2, Some(true)), "{paid:?}");
    }
    assert_eq!(chain.balance(DEV_ACCOUNTS[http402::RECEIVER].address).await, 2_000);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_payer_makes_charges() {
    let (chain, upstream) = (Chain::start().await.with_sessions().await, Upstream::start().await);
    let gateway = Gateway::start_mpp(&chain, &upstream, "[payment.exact]").await;
    let (wallet, call) = (Wallet::new(&chain, PAYER), gateway.url("/call"));
    let charge = ["--prefer", "mpp-charge"];
    let bought = wallet.buys(&call, &charge).await;
    assert_eq!((&bought.receipt["scheme"], bought.charged()), (&json!("mpp-charge"), Some(1_000)), "{bought:?}");
    assert_eq!(received(&chain).await, 1_000);
    // Through the proxy, eight at once.
    let proxy = Proxy::start_with(wallet, PAYER, &gateway.url(""), &charge).await;
    let client = reqwest::Client::new();
    let all: Vec<_> = (0..8)
        .map(|_| {
            let request = client.get(proxy.url("/call"));
            tokio::spawn(async move { request.send().await.expect("answered") })
        })
        .collect();
    for answer in all {
        let answer = answer.await.expect("no panic");
        let header = |name: &str| answer.headers()[name].to_str().expect("text").to_owned();
        let told = (answer.status().as_u16(), header("x-millstream-scheme"), header("x-millstream-charged"));
        assert_eq!(told, (200, "mpp-charge".to_owned(), "1000".to_owned()));
    }
    let wallet = proxy.stop().await;
    assert_eq!(received(&chain).await, 9_000);
    // What failed is not taken, and the same request gets nothing for the same payment.
    assert_eq!(wallet.pay(&gateway.url("/broken"), &charge).await.exit, 4);
    let named = ["--prefer", "mpp-charge", "--idempotency-key", "one"];
    assert_eq!(wallet.buys(&call, &named).await.charged(), Some(1_000));
    let again = wallet.pay(&call, &named).await;
    assert_eq!((again.exit, &again.error["code"]), (3, &json!("charged_not_answered")), "{again:?}");
    assert_eq!((received(&chain).await, left(&chain, PAYER).await), (10_000, http402::chain::TOKENS - 10_000));
    gateway.stop().await;
}

/// A session by a process for each request: opened, paid on, topped up, found again by its book, closed, and another one opened.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_from_open_to_close() {
    let (chain, upstream) = (Chain::start().await.with_sessions().await, Upstream::start().await);
    let gateway = Gateway::start_mpp(&chain, &upstream, "").await;
    assert_eq!(gateway.selling.dialects, ["MPP evm/session"]);
    let (wallet, call) = (Wallet::new(&chain, PAYER), gateway.url("/call"));

    let first = wallet.buys(&call, &[]).await;
    assert_eq!((&first.receipt["scheme"], first.charged()), (&json!("mpp-session"), Some(1_000)), "{first:?}");
    assert_eq!(left(&chain, PAYER).await, http402::chain::TOKENS - 10_000, "the deposit");
    for _ in 0..10 {
        let bought = wallet.buys(&call, &[]).await;
        assert_eq!((bought.charged(), bought.channel()), (Some(1_000), first.channel()), "{bought:?}");
    }
    assert!(left(&chain, PAYER).await < http402::chain::TOKENS - 10_000, "a top-up");
    // At most 600 tokens, and half of it in fact.
    let body = json!({ "model": "half", "max_tokens": 600, "messages": [{ "role": "user", "content": "hi" }] }).to_string();
    let completion = wallet.buys(&gateway.url("/v1/chat/completions"), &["--data", &body]).await;
    assert_eq!((completion.charged(), completion.channel()), (Some(300), first.channel()), "{completion:?}");
    let failed = wallet.pay(&gateway.url("/broken"), &[]).await;
    assert_eq!(failed.exit, 4, "{failed:?}");
    let channels = wallet.channels().await;
    assert_eq!((channels.len(), number(&channels[0]["charged"])), (1, Some(11_300)), "{channels:?}");

    let deposit = number(&channels[0]["deposit"]).expect("a deposit");
    assert_eq!(wallet.refund(&first.channel().to_string()).await, deposit - 11_300);
    assert_eq!((received(&chain).await, left(&chain, PAYER).await), (11_300, http402::chain::TOKENS - 11_300));
    // An id is never used again: the next request opens another session.
    let next = wallet.buys(&call, &[]).await;
    assert_eq!((next.charged(), next.channel() == first.channel()), (Some(1_000), false), "{next:?}");
    gateway.stop().await;
}

/// The unmodified `openai` client behind the proxy. The route holds ten tokens for a request that does not say how many it wants; the stream is
/// longer, so the gateway calls for vouchers in the middle of it, and the payer signs them. The program sees a stream and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_on_after_more_was_signed() {
    let (chain, upstream) = (Chain::start().await.with_sessions().await, Upstream::start().await);
    let gateway = Gateway::start_mpp(&chain, &upstream, "").await;
    let wallet = Wallet::with(&chain, PAYER, "deposit_multiple = 1", DOMAIN);
    let proxy = Proxy::start_with(wallet, PAYER, &gateway.url(""), &[]).await;
    let mut client = Script::start("completion.mjs", &json!({ "baseUrl": proxy.url("/short/v1") })).await;
    let text = |answer: &Value| {
        let pieces = answer["pieces"].as_array().unwrap_or_else(|| panic!("{answer}"));
        pieces.iter().map(|piece| piece.as_str().expect("text").to_owned()).collect::<String>()
    };
    let expected = (0..20).map(|number| format!("t{number} ")).collect::<String>();
    for _ in 0..2 {
        let answer = client.say(json!({ "command": "stream" })).await;
        assert_eq!((text(&answer), &answer["error"]), (expected.clone(), &Value::Null), "{answer}");
    }
    // Cut in the middle, beyond what was held at first.
    let release = json!({ "at": 15, "url": format!("http://{}/release", upstream.address) });
    let answer = client.say(json!({ "command": "stream", "model": "cut-15", "release": release })).await;
    assert_eq!(answer["pieces"].as_array().map(Vec::len), Some(15), "{answer}");
    assert!(answer["error"].as_str().is_some_and(|error| !error.contains("malformed")), "{answer}");
    // The newer API, whose streams end without a word.
    let answer = client.say(json!({ "command": "respond", "maxTokens": 8 })).await;
    assert_eq!((answer["pieces"].as_array().map(Vec::len), &answer["error"]), (Some(8), &Value::Null), "{answer}");
    assert!(answer["types"].as_array().is_some_and(|types| !types.contains(&Value::Null)), "{answer}");

    let wallet = proxy.stop().await;
    let channels = wallet.channels().await;
    assert_eq!((channels.len(), number(&channels[0]["charged"])), (1, Some(20 + 20 + 15 + 8)), "{channels:?}");
    wallet.refund(channels[0]["channel"].as_str().expect("text")).await;
    assert_eq!((received(&chain).await, left(&chain, PAYER).await), (63, http402::chain::TOKENS - 63));
    gateway.stop().await;
}

/// A payer that may not spend more than the request began with does not answer the call: the stream ends there, and what came is paid.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_at_the_payers_limit() {
    let (chain, upstream) = (Chain::start().await.with_sessions().await, Upstream::start().await);
    let gateway = Gateway::start_mpp(&chain, &upstream, "voucher_wait_secs = 1").await;
    let proxy = Proxy::start_with(Wallet::new(&chain, PAYER), PAYER, &gateway.url(""), &["--max", "0.000012"]).await;
    let mut client = Script::start("completion.mjs", &json!({ "baseUrl": proxy.url("/short/v1") })).await;
    let answer = client.say(json!({ "command": "stream" })).await;
    let came = answer["pieces"].as_array().map(Vec::len).expect("pieces");
    assert!((10..=12).contains(&came) && answer["error"].is_string(), "{answer}");
    let wallet = proxy.stop().await;
    let channels = wallet.channels().await;
    assert_eq!(number(&channels[0]["charged"]).map(|charged| charged <= 12), Some(true), "{channels:?}");
    wallet.refund(channels[0]["channel"].as_str().expect("text")).await;
    wait_for("the close", async || received(&chain).await == came as u128).await;
    gateway.stop().await;
}
