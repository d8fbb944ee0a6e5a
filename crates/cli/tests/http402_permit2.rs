//! Deposits by Permit2 through `millstream gateway`, for tokens that have no signed transfers of their own: by unmodified clients (`@x402/evm`,
//! from npm) and by our payer, on channels of x402 and on sessions of MPP.

mod http402;

use http402::script::number;
use http402::{Chain, Gateway, OPERATOR, PAYER, RECEIVER, Script, Upstream, Wallet, wait_for};
use millstream_testkit::DEV_ACCOUNTS;
use serde_json::json;

async fn left(chain: &Chain, account: usize) -> u128 {
    chain.balance(DEV_ACCOUNTS[account].address).await
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_are_opened_and_topped_up_by_permit2() {
    let (chain, upstream) = (Chain::start().await, Upstream::start().await);
    let gateway = Gateway::start_x402(&chain, &upstream, "methods = [\"permit2\"]").await;
    let call = gateway.url("/call");
    for account in [PAYER, PAYER + 1] {
        chain.approve_permit2(account).await;
    }
    let mut client = Script::payer(&chain, PAYER, json!({ "depositMultiplier": 5 })).await;
    let first = client.pay(&call).await;
    assert_eq!((first.status, first.charged(), first.deposited()), (200, 1_000, Some(5_000)), "{first:?}");
    let more = client.pay_times(&call, 11).await;
    assert!(more.iter().all(|paid| paid.status == 200), "{more:?}");
    assert_eq!((more[10].charged_total(), chain.state(first.channel()).await.0), (12_000, 15_000));
    assert_eq!(number(&client.refund(&call, None).await["amount"]), Some(3_000));

    let wallet = Wallet::new(&chain, PAYER + 1);
    let bought = wallet.buys(&call, &[]).await;
    assert_eq!((bought.charged(), bought.deposited()), (Some(1_000), Some(10_000)), "{bought:?}");
    for _ in 0..10 {
        assert_eq!(wallet.buys(&call, &[]).await.charged(), Some(1_000));
    }
    assert_eq!(chain.state(bought.channel()).await.0, 20_000);
    assert_eq!(wallet.refund(&bought.channel().to_string()).await, 9_000);

    // Who has not approved Permit2 is told so, and nothing is taken.
    let stranger = Wallet::new(&chain, PAYER + 2);
    let refused = stranger.pay(&call, &[]).await;
    assert_eq!(refused.exit, 3, "{refused:?}");
    assert!(refused.error["message"].as_str().is_some_and(|message| message.contains("permit2_allowance")), "{refused:?}");

    let receiver = DEV_ACCOUNTS[RECEIVER].address;
    wait_for("the sweep", async || chain.balance(receiver).await == 23_000).await;
    assert_eq!(left(&chain, PAYER).await, http402::chain::TOKENS - 12_000);
    assert_eq!(left(&chain, PAYER + 1).await, http402::chain::TOKENS - 11_000);
    assert_eq!(left(&chain, PAYER + 2).await, http402::chain::TOKENS);
    gateway.stop().await;
    assert_eq!(chain.balance(receiver).await, 23_000);
}

/// Both ways are offered for the same channels: a client takes the one that it can sign for.
#[tokio::test(flavor = "multi_thread")]
async fn a_channel_can_be_funded_in_both_ways() {
    let (chain, upstream) = (Chain::start().await, Upstream::start().await);
    let gateway = Gateway::start_x402(&chain, &upstream, "methods = [\"eip3009\", \"permit2\"]").await;
    let call = gateway.url("/call");
    let mut client = Script::payer(&chain, PAYER, json!({ "depositMultiplier": 5 })).await;
    assert_eq!(client.pay_times(&call, 11).await[10].charged_total(), 11_000);
    let wallet = Wallet::new(&chain, PAYER + 1);
    assert_eq!(wallet.buys(&call, &[]).await.deposited(), Some(10_000));
    gateway.stop().await;
}

/// Our payer does not know the token's domain, so it signs for Permit2.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_opened_and_topped_up_by_permit2() {
    let (chain, upstream) = (Chain::start().await.with_sessions().await, Upstream::start().await);
    let gateway = Gateway::start_mpp(&chain, &upstream, "").await;
    let call = gateway.url("/call");
    chain.approve_permit2(PAYER).await;
    let wallet = Wallet::with(&chain, PAYER, "", "");
    let first = wallet.buys(&call, &[]).await;
    assert_eq!((&first.receipt["scheme"], first.charged()), (&json!("mpp-session"), Some(1_000)), "{first:?}");
    for _ in 0..10 {
        assert_eq!(wallet.buys(&call, &[]).await.charged(), Some(1_000));
    }
    let deposit = number(&wallet.channels().await[0]["deposit"]).expect("a deposit");
    assert_eq!(left(&chain, PAYER).await, http402::chain::TOKENS - deposit);
    assert_eq!(wallet.refund(&first.channel().to_string()).await, deposit - 11_000);
    assert_eq!((left(&chain, OPERATOR).await, left(&chain, PAYER).await), (11_000, http402::chain::TOKENS - 11_000));
    gateway.stop().await;
}
