//! The scripts against the reference server and the reference facilitator: what fails here is not ours, and what holds here has to hold with
//! our gateway and our facilitator in their places.

mod http402;

use http402::script::number;
use http402::{Chain, PAYER, RECEIVER, Script};
use millstream_testkit::DEV_ACCOUNTS;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn the_reference_packages_pay_each_other() {
    let chain = Chain::start().await;
    let facilitator = Script::facilitator(&chain).await;
    let authorizer = json!({ "authorizerKey": http402::chain::key(http402::OPERATOR) });
    let mut server = Script::server(&chain, &facilitator.url(""), authorizer).await;
    let (fixed, metered, fails) = (server.url("/fixed"), server.url("/metered"), server.url("/fails"));
    let mut payer = Script::payer(&chain, PAYER, json!({ "depositMultiplier": 5 })).await;

    let first = payer.pay(&fixed).await;
    assert_eq!((first.status, first.exchanges, first.deposited(), first.charged()), (200, 2, Some(10_000), 1_000));
    assert_eq!(payer.pay(&metered).await.charged_total(), 1_700);
    assert_eq!(payer.pay(&fails).await.status, 500);
    let more = payer.pay_times(&fixed, 9).await;
    assert!(more.iter().all(|paid| paid.status == 200 && paid.exchanges == 2), "{more:?}");
    assert_eq!((more[8].charged_total(), more.iter().filter_map(http402::script::Paid::deposited).sum::<u128>()), (10_700, 10_000));

    // Without state, the client is told its own last voucher and goes on from it.
    payer.forget().await;
    let recovered = payer.pay(&fixed).await;
    assert_eq!((recovered.status, recovered.exchanges, recovered.charged_total()), (200, 3, 11_700));

    assert_eq!(server.say(json!({ "command": "claim" })).await["claims"][0]["vouchers"], 1);
    server.say(json!({ "command": "settle" })).await;
    let refund = payer.refund(&fixed, None).await;
    assert_eq!(number(&refund["amount"]), Some(8_300), "{refund}");
    assert_eq!(chain.state(first.channel()).await, (11_700, 11_700));
    assert_eq!(chain.balance(DEV_ACCOUNTS[RECEIVER].address).await, 11_700);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reference_packages_pay_each_other_once() {
    let chain = Chain::start().await;
    let facilitator = Script::facilitator(&chain).await;
    let server = Script::server(&chain, &facilitator.url(""), json!({ "scheme": "exact" })).await;
    let mut payer = Script::payer(&chain, PAYER, json!({ "scheme": "exact" })).await;
    for paid in payer.pay_times(&server.url("/fixed"), 2).await {
        assert_eq!((paid.status, paid.exchanges), (200, 2), "{paid:?}");
    }
    assert_eq!(chain.balance(DEV_ACCOUNTS[RECEIVER].address).await, 2_000);
}
