//! An unmodified resource server of x402 (`@x402/express` with its `HTTPFacilitatorClient`, from npm) has our node as its facilitator, for the
//! whole life of a channel.

mod http402;

use http402::script::{Paid, number};
use http402::{Chain, Gateway, PAYER, RECEIVER, Script, Upstream};
use millstream_testkit::DEV_ACCOUNTS;
use serde_json::{Value, json};

async fn facilitator(chain: &Chain) -> Gateway {
    Gateway::start_with(chain, &Upstream::start().await, "[facilitator]").await
}

async fn whole_life(chain: &Chain, server: &mut Script) {
    let (fixed, metered, fails) = (server.url("/fixed"), server.url("/metered"), server.url("/fails"));
    let mut payer = Script::payer(chain, PAYER, json!({ "depositMultiplier": 5 })).await;
    let first = payer.pay(&fixed).await;
    assert_eq!((first.status, first.exchanges, first.deposited(), first.charged()), (200, 2, Some(10_000), 1_000), "{first:?}");
    assert_eq!(payer.pay(&metered).await.charged_total(), 1_700);
    assert_eq!(payer.pay(&fails).await.status, 500);
    let more = payer.pay_times(&fixed, 9).await;
    assert!(more.iter().all(|paid| paid.status == 200 && paid.exchanges == 2), "{more:?}");
    assert_eq!((more[8].charged_total(), more.iter().filter_map(Paid::deposited).sum::<u128>()), (10_700, 10_000));
    payer.forget().await;
    let recovered = payer.pay(&fixed).await;
    assert_eq!((recovered.status, recovered.exchanges, recovered.charged_total()), (200, 3, 11_700), "{recovered:?}");

    let claimed = server.say(json!({ "command": "claim" })).await;
    assert_eq!(claimed["claims"][0]["vouchers"], 1, "{claimed}");
    assert_eq!(chain.state(first.channel()).await, (20_000, 11_700));
    let settled = server.say(json!({ "command": "settle" })).await;
    assert!(settled["settled"]["transaction"].as_str().is_some_and(|hash| hash.len() == 66), "{settled}");
    assert_eq!(chain.balance(DEV_ACCOUNTS[RECEIVER].address).await, 11_700);

    let refund = payer.refund(&fixed, None).await;
    assert_eq!(number(&refund["amount"]), Some(8_300), "{refund}");
    assert_eq!(chain.state(first.channel()).await, (11_700, 11_700));
    assert_eq!(chain.balance(DEV_ACCOUNTS[PAYER].address).await, http402::chain::TOKENS - 11_700);
    // And the channel can be used again.
    assert_eq!(payer.pay(&fixed).await.charged_total(), 12_700);
}

/// The server authorises claims and refunds with a key of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_a_key_of_its_own() {
    let chain = Chain::start().await;
    let facilitator = facilitator(&chain).await;
    let authorizer = json!({ "authorizerKey": http402::chain::key(7) });
    let mut server = Script::server(&chain, &facilitator.url(""), authorizer).await;
    whole_life(&chain, &mut server).await;
    facilitator.stop().await;
}

/// The facilitator authorises them, as its `/supported` says.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_leaves_claims_to_the_facilitator() {
    let chain = Chain::start().await;
    let facilitator = facilitator(&chain).await;
    let mut server = Script::server(&chain, &facilitator.url(""), Value::Null).await;
    whole_life(&chain, &mut server).await;
    facilitator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_sells_for_single_payments() {
    let chain = Chain::start().await;
    let facilitator = facilitator(&chain).await;
    let server = Script::server(&chain, &facilitator.url(""), json!({ "scheme": "exact" })).await;
    let mut payer = Script::payer(&chain, PAYER, json!({ "scheme": "exact" })).await;
    for paid in payer.pay_times(&server.url("/fixed"), 2).await {
        assert_eq!((paid.status, paid.exchanges), (200, 2), "{paid:?}");
    }
    assert_eq!(chain.balance(DEV_ACCOUNTS[RECEIVER].address).await, 2_000);
    facilitator.stop().await;
}
