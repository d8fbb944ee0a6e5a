//! Our payer (`millstream pay URL`, `millstream proxy`) buys from servers that are not ours, unmodified from npm: `@x402/express`, whose
//! facilitator our node is or theirs, and `mppx/express`.

mod http402;

use http402::script::number;
use http402::{Chain, Gateway, PAYER, Proxy, RECEIVER, Script, Upstream, Wallet};
use millstream_testkit::DEV_ACCOUNTS;
use reqwest::StatusCode;
use serde_json::json;

/// Our node as a facilitator for anybody.
async fn our_facilitator(chain: &Chain) -> Gateway {
    Gateway::start_with(chain, &Upstream::start().await, "[facilitator]\nanonymous = true\nrequests_minute_max = 60000").await
}

async fn received(chain: &Chain) -> u128 {
    chain.balance(DEV_ACCOUNTS[RECEIVER].address).await
}

async fn left(chain: &Chain) -> u128 {
    chain.balance(DEV_ACCOUNTS[PAYER].address).await
}

/// A channel from its deposit to the refund, a process for each request.
async fn whole_life(chain: &Chain, facilitator: &str) {
    let authorizer = json!({ "authorizerKey": http402::chain::key(7) });
    let mut server = Script::server(chain, facilitator, authorizer).await;
    let (fixed, metered, fails) = (server.url("/fixed"), server.url("/metered"), server.url("/fails"));
    let wallet = Wallet::new(chain, PAYER);

    let first = wallet.buys(&fixed, &[]).await;
    assert_eq!((first.body.as_str(), first.charged(), first.deposited()), (r#"{"sold":"fixed"}"#, Some(1_000), Some(10_000)));
    assert_eq!(first.receipt["scheme"], "x402-batch-settlement");
    assert_eq!(chain.state(first.channel()).await, (10_000, 0));
    // At most 1000, and 700 in fact.
    assert_eq!(wallet.buys(&metered, &[]).await.charged(), Some(700));
    // What failed is not charged: the next total says so.
    let failed = wallet.pay(&fails, &[]).await;
    assert_eq!((failed.exit, &failed.error["code"]), (4, &json!("http_status")), "{failed:?}");
    let mut deposits = 10_000;
    for _ in 0..9 {
        let bought = wallet.buys(&fixed, &[]).await;
        assert_eq!((bought.charged(), bought.channel()), (Some(1_000), first.channel()));
        deposits += bought.deposited().unwrap_or(0);
    }
    assert_eq!((chain.state(first.channel()).await.0, deposits), (20_000, 20_000), "the top-up came by itself");
    let channels = wallet.channels().await;
    assert_eq!((channels.len(), number(&channels[0]["charged"]), number(&channels[0]["signed"])), (1, Some(10_700), Some(10_700)));

    // Without its book, the payer finds the channel on the chain, and the server shows what was signed.
    wallet.lose_book();
    let recovered = wallet.buys(&fixed, &[]).await;
    assert_eq!((recovered.charged(), recovered.deposited(), recovered.channel()), (Some(1_000), None, first.channel()), "{recovered:?}");

    let claimed = server.say(json!({ "command": "claim" })).await;
    assert_eq!(claimed["claims"][0]["vouchers"], 1, "{claimed}");
    server.say(json!({ "command": "settle" })).await;
    assert_eq!((chain.state(first.channel()).await, received(chain).await), ((20_000, 11_700), 11_700));
    assert_eq!(wallet.refund(&first.channel().to_string()).await, 8_300);
    assert_eq!(chain.state(first.channel()).await, (11_700, 11_700));
    assert_eq!(left(chain).await, http402::chain::TOKENS - 11_700);
    // And the channel can be used again.
    let again = wallet.buys(&fixed, &[]).await;
    assert_eq!((again.charged(), again.channel()), (Some(1_000), first.channel()), "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_with_a_server_whose_facilitator_our_node_is() {
    let chain = Chain::start().await;
    let facilitator = our_facilitator(&chain).await;
    whole_life(&chain, &facilitator.url("/facilitator")).await;
    facilitator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_with_a_server_that_has_the_reference_facilitator() {
    let chain = Chain::start().await;
    let facilitator = Script::facilitator(&chain).await;
    whole_life(&chain, &facilitator.url("")).await;
}

/// Programs behind the proxy ask at once; the server's scheme has one request at a time on a channel.
#[tokio::test(flavor = "multi_thread")]
async fn sixteen_requests_at_once_through_the_proxy() {
    let chain = Chain::start().await;
    let facilitator = our_facilitator(&chain).await;
    let authorizer = json!({ "authorizerKey": http402::chain::key(7) });
    let mut server = Script::server(&chain, &facilitator.url("/facilitator"), authorizer).await;
    let proxy = Proxy::start(&chain, PAYER, &server.url("")).await;
    let client = reqwest::Client::new();
    let all: Vec<_> = (0..16)
        .map(|_| {
            let request = client.get(proxy.url("/metered"));
            tokio::spawn(async move { request.send().await.expect("answered") })
        })
        .collect();
    for answer in all {
        let answer = answer.await.expect("no panic");
        assert_eq!((answer.status(), &answer.headers()["x-millstream-charged"]), (StatusCode::OK, &"700".parse().expect("text")));
    }
    server.say(json!({ "command": "claim" })).await;
    server.say(json!({ "command": "settle" })).await;
    assert_eq!(received(&chain).await, 16 * 700);
    let wallet = proxy.stop().await;
    let channels = wallet.channels().await;
    assert_eq!((channels.len(), number(&channels[0]["charged"])), (1, Some(16 * 700)));
    let (channel, deposit) = (channels[0]["channel"].as_str().expect("text"), number(&channels[0]["deposit"]).expect("a deposit"));
    assert_eq!(wallet.refund(channel).await, deposit - 16 * 700);
    assert_eq!(left(&chain).await, http402::chain::TOKENS - 16 * 700);
    facilitator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn single_payments_to_a_server_whose_facilitator_our_node_is() {
    let chain = Chain::start().await;
    let facilitator = our_facilitator(&chain).await;
    let server = Script::server(&chain, &facilitator.url("/facilitator"), json!({ "scheme": "exact" })).await;
    let (wallet, fixed) = (Wallet::new(&chain, PAYER), server.url("/fixed"));
    for count in 1..=2 {
        let bought = wallet.buys(&fixed, &[]).await;
        assert_eq!((bought.charged(), &bought.receipt["scheme"]), (Some(1_000), &json!("x402-exact")), "{bought:?}");
        assert!(bought.receipt["transaction"].as_str().is_some_and(|hash| hash.len() == 66), "{bought:?}");
        assert_eq!(received(&chain).await, count * 1_000);
    }
    // What failed is not settled.
    assert_eq!(wallet.pay(&server.url("/fails"), &[]).await.exit, 4);
    assert_eq!((received(&chain).await, left(&chain).await), (2_000, http402::chain::TOKENS - 2_000));
    facilitator.stop().await;
}

/// MPP's `charge`, to a server of its reference package, which speaks x402 as well.
#[tokio::test(flavor = "multi_thread")]
async fn charges_of_mpp_to_an_unmodified_server() {
    let chain = Chain::start().await;
    let mut server = Script::mpp_server(&chain).await;
    let (wallet, fixed) = (Wallet::new(&chain, PAYER), server.url("/fixed"));
    for (scheme, total) in [("x402-exact", 1_000), ("mpp-charge", 2_000)] {
        let bought = wallet.buys(&fixed, &["--prefer", scheme]).await;
        assert_eq!((bought.body.as_str(), bought.charged()), (r#"{"sold":"fixed"}"#, Some(1_000)), "{bought:?}");
        assert_eq!(bought.receipt["scheme"], scheme);
        assert!(bought.receipt["transaction"].as_str().is_some_and(|hash| hash.len() == 66), "{bought:?}");
        assert_eq!(received(&chain).await, total);
    }

    // The transfer is made, and the server does not know it: it is not made again for the same request, whatever the server says.
    server.say(json!({ "command": "fail", "times": 1 })).await;
    let named = ["--prefer", "mpp-charge", "--idempotency-key", "report-7"];
    for _ in 0..3 {
        let lost = wallet.pay(&fixed, &named).await;
        assert_ne!(lost.exit, 0, "{lost:?}");
        assert_eq!(received(&chain).await, 3_000);
    }
    assert_eq!(left(&chain).await, http402::chain::TOKENS - 3_000);
    // A request of its own is paid by itself.
    assert_eq!(wallet.buys(&fixed, &["--prefer", "mpp-charge"]).await.charged(), Some(1_000));
    assert_eq!(received(&chain).await, 4_000);
}
