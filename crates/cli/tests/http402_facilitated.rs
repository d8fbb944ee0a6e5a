//! What is lost, repeated or late between an unmodified server (`@x402/express`) and its facilitator, which our node is: nobody is charged
//! twice, by an unmodified client and by our payer, and what was paid and not delivered is delivered or stands in the record.

mod http402;

use http402::script::number;
use http402::{Chain, Gateway, Middle, PAYER, RECEIVER, Script, Trick, Upstream, Wallet, wait_for};
use millstream_testkit::DEV_ACCOUNTS;
use reqwest::StatusCode;
use serde_json::json;

const SETTLE: &str = "/facilitator/settle";

struct House {
    chain: Chain,
    facilitator: Gateway,
    middle: Middle,
    server: Script,
}

impl House {
    /// Of channels, or of single payments.
    async fn start(scheme: Option<&str>) -> Self {
        let chain = Chain::start().await;
        let facilitator =
            Gateway::start_with(&chain, &Upstream::start().await, "[facilitator]\nanonymous = true\nrequests_minute_max = 60000").await;
        let middle = Middle::before(facilitator.selling.listen).await;
        let authorizer = scheme.is_none().then(|| http402::chain::key(7));
        let settings = json!({ "scheme": scheme, "authorizerKey": authorizer, "facilitatorTimeoutMs": 10_000 });
        let server = Script::server(&chain, &middle.url("/facilitator"), settings).await;
        Self { chain, facilitator, middle, server }
    }

    async fn received(&self) -> u128 {
        self.chain.balance(DEV_ACCOUNTS[RECEIVER].address).await
    }

    async fn left(&self, account: usize) -> u128 {
        self.chain.balance(DEV_ACCOUNTS[account].address).await
    }
}

/// The deposit is made, and the server does not hear of it: it refuses the request, and believes for a while that nothing is there. Each client
/// comes to another deposit. Both are in its channel, the request is charged once, and the rest comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_deposit_whose_settlement_is_lost_is_charged_once() {
    let (house, trick) = (House::start(None).await, Trick::Lose);
    let fixed = house.server.url("/fixed");
    let mut client = Script::payer(&house.chain, PAYER, json!({ "depositMultiplier": 5 })).await;
    house.middle.play(SETTLE, trick);
    let lost = client.pay(&fixed).await;
    assert_ne!(lost.status, 200, "{trick:?}: {lost:?}");
    let paid = client.pay(&fixed).await;
    assert_eq!((paid.status, paid.charged_total()), (200, 1_000), "{trick:?}: {paid:?}");
    assert_eq!(house.chain.state(paid.channel()).await, (20_000, 0), "{trick:?}");

    let wallet = Wallet::new(&house.chain, PAYER + 1);
    house.middle.play(SETTLE, trick);
    let named = ["--idempotency-key", "one"];
    let lost = wallet.pay(&fixed, &named).await;
    assert_ne!(lost.exit, 0, "{trick:?}: {lost:?}");
    let bought = wallet.buys(&fixed, &named).await;
    assert_eq!(bought.charged(), Some(1_000), "{trick:?}: {bought:?}");
    assert_eq!(house.chain.state(bought.channel()).await, (20_000, 0), "{trick:?}");
    assert!(house.middle.is_done());

    assert_eq!(number(&client.refund(&fixed, None).await["amount"]), Some(19_000));
    house.facilitator.stop().await;
}

/// What the server asks its facilitator comes twice, whichever answer it gets.
#[tokio::test(flavor = "multi_thread")]
async fn questions_that_come_twice_are_answered_the_same() {
    let mut house = House::start(None).await;
    let fixed = house.server.url("/fixed");
    let mut client = Script::payer(&house.chain, PAYER, json!({ "depositMultiplier": 5 })).await;
    house.middle.play(SETTLE, Trick::TwiceLast);
    let paid = client.pay(&fixed).await;
    assert_eq!((paid.status, paid.charged_total(), paid.deposited()), (200, 1_000, Some(10_000)), "{paid:?}");
    let wallet = Wallet::new(&house.chain, PAYER + 1);
    house.middle.play(SETTLE, Trick::Twice);
    let bought = wallet.buys(&fixed, &[]).await;
    assert_eq!((bought.charged(), bought.deposited()), (Some(1_000), Some(10_000)), "{bought:?}");
    for channel in [paid.channel(), bought.channel()] {
        assert_eq!(house.chain.state(channel).await, (10_000, 0));
    }

    // The claim of both, the sweep, and a refund.
    for (command, trick) in [("claim", Trick::TwiceLast), ("settle", Trick::TwiceLast)] {
        house.middle.play(SETTLE, trick);
        let said = house.server.say(json!({ "command": command })).await;
        assert_eq!(said["error"], json!(null), "{command}: {said}");
    }
    assert_eq!(house.received().await, 2_000);
    house.middle.play(SETTLE, Trick::TwiceLast);
    assert_eq!(number(&client.refund(&fixed, None).await["amount"]), Some(9_000));
    house.middle.play(SETTLE, Trick::TwiceLast);
    assert_eq!(wallet.refund(&bought.channel().to_string()).await, 9_000);
    assert!(house.middle.is_done());
    for (account, channel) in [(PAYER, paid.channel()), (PAYER + 1, bought.channel())] {
        assert_eq!((house.chain.state(channel).await, house.left(account).await), ((1_000, 1_000), http402::chain::TOKENS - 1_000));
    }
    house.facilitator.stop().await;
}

/// A claim that was made, and whose answer is lost: the server claims again, and nothing moves twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_and_a_sweep_whose_answers_are_lost_are_made_once() {
    let mut house = House::start(None).await;
    let fixed = house.server.url("/fixed");
    let wallet = Wallet::new(&house.chain, PAYER);
    let bought = wallet.buys(&fixed, &[]).await;
    wallet.buys(&fixed, &[]).await;
    for (command, trick) in [("claim", Trick::BadGateway), ("claim", Trick::Lose), ("settle", Trick::BadGateway), ("settle", Trick::Lose)] {
        house.middle.play(SETTLE, trick);
        house.server.say(json!({ "command": command })).await;
    }
    house.server.say(json!({ "command": "claim" })).await;
    house.server.say(json!({ "command": "settle" })).await;
    assert_eq!((house.chain.state(bought.channel()).await, house.received().await), ((10_000, 2_000), 2_000));
    // The refund is made, and its answer lost: the payer asks again, and is told what the chain says.
    house.middle.play(SETTLE, Trick::Lose);
    let channel = bought.channel().to_string();
    assert!(!wallet.command(&["payments", "refund", &channel]).status().await.expect("it runs").success());
    wait_for("the refund", async || house.chain.state(bought.channel()).await == (2_000, 2_000)).await;
    assert_eq!(house.left(PAYER).await, http402::chain::TOKENS - 2_000);
    // The channel can be paid on all the same, with a new deposit.
    let again = wallet.buys(&fixed, &[]).await;
    assert_eq!((again.charged(), again.channel()), (Some(1_000), bought.channel()), "{again:?}");
    house.facilitator.stop().await;
}

/// A transfer that was made, and of which the server does not hear: it refuses the request, and asks its facilitator no more. The facilitator's
/// record has the transfer, for whoever asks with the same payment; the payer makes no second one for the request.
#[tokio::test(flavor = "multi_thread")]
async fn a_single_payment_whose_settlement_is_lost_is_made_once_and_on_record() {
    for trick in [Trick::Lose, Trick::BadGateway, Trick::Silence] {
        let house = House::start(Some("exact")).await;
        let fixed = house.server.url("/fixed");
        let mut client = Script::payer(&house.chain, PAYER, json!({ "scheme": "exact" })).await;
        house.middle.play(SETTLE, trick);
        let lost = client.pay(&fixed).await;
        assert_ne!(lost.status, 200, "{trick:?}: {lost:?}");
        let recorded = house.middle.again().await;
        assert_eq!((recorded.0, recorded.1["success"].as_bool()), (StatusCode::OK, Some(true)), "{trick:?}: {recorded:?}");
        assert!(recorded.1["transaction"].as_str().is_some_and(|hash| hash.len() == 66), "{trick:?}: {recorded:?}");
        // The server asks whether it may deliver for the same payment, and may not: it could be shown for ever.
        let again = client.say(json!({ "command": "again", "url": fixed })).await;
        assert_eq!(again["answers"][0]["required"]["error"], "invalid_exact_evm_nonce_already_used", "{trick:?}: {again}");
        assert_eq!(house.received().await, 1_000, "{trick:?}");

        let wallet = Wallet::new(&house.chain, PAYER + 1);
        house.middle.play(SETTLE, trick);
        for _ in 0..3 {
            let lost = wallet.pay(&fixed, &["--idempotency-key", "one"]).await;
            assert_ne!(lost.exit, 0, "{trick:?}: {lost:?}");
            assert_eq!(house.received().await, 2_000, "{trick:?}");
        }
        assert_eq!(house.middle.again().await.1["success"], true, "{trick:?}");
        assert_eq!(house.left(PAYER + 1).await, http402::chain::TOKENS - 1_000, "{trick:?}");
        // And questions that come twice.
        house.middle.play(SETTLE, Trick::TwiceLast);
        assert_eq!(client.pay(&fixed).await.status, 200);
        house.middle.play(SETTLE, Trick::Twice);
        assert_eq!(wallet.buys(&fixed, &[]).await.charged(), Some(1_000));
        assert_eq!(house.received().await, 4_000);
        house.facilitator.stop().await;
    }
}
