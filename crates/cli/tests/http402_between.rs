//! What is lost, repeated, late or out of order between a client and `millstream gateway`: an unmodified client and our payer are charged once for
//! what was delivered, and what was charged and lost on the way is known to both sides.

mod http402;

use http402::script::Paid;
use http402::{Chain, Gateway, Middle, PAYER, Proxy, RECEIVER, Script, Trick, Upstream, Wallet, wait_for};
use millstream_testkit::DEV_ACCOUNTS;
use reqwest::StatusCode;
use serde_json::{Value, json};

const CALL: &str = "/call";

struct House {
    chain: Chain,
    upstream: Upstream,
    gateway: Gateway,
    middle: Middle,
    /// Who is paid.
    receiver: usize,
    /// What has to be charged on all channels.
    charged: u128,
}

impl House {
    async fn start(sections: &str) -> Self {
        let (chain, upstream) = (Chain::start().await, Upstream::start().await);
        let gateway = Gateway::start_with(&chain, &upstream, sections).await;
        Self::behind(chain, upstream, gateway, RECEIVER).await
    }

    async fn with_sessions() -> Self {
        let (chain, upstream) = (Chain::start().await.with_sessions().await, Upstream::start().await);
        let gateway = Gateway::start_mpp(&chain, &upstream, "").await;
        Self::behind(chain, upstream, gateway, http402::OPERATOR).await
    }

    async fn behind(chain: Chain, upstream: Upstream, gateway: Gateway, receiver: usize) -> Self {
        let middle = Middle::before(gateway.selling.listen).await;
        Self { chain, upstream, gateway, middle, receiver, charged: 0 }
    }

    /// Everything that was charged arrives, and not a base unit more. Each delivery of the upstream was charged.
    async fn ends(self) {
        assert!(self.middle.is_done());
        let receiver = DEV_ACCOUNTS[self.receiver].address;
        wait_for("the sweep", async || self.chain.balance(receiver).await >= self.charged).await;
        self.gateway.stop().await;
        assert_eq!(self.chain.balance(receiver).await, self.charged);
    }
}

/// The gateway has charged and answered, and the answer does not arrive. The client's next request finds out, and is charged by itself.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_is_charged_once() {
    let mut house = House::start("").await;
    let call = house.middle.url(CALL);
    let mut client = Script::payer(&house.chain, PAYER, json!({ "depositMultiplier": 100 })).await;
    assert_eq!(client.pay(&call).await.charged_total(), 1_000);
    let mut total = 1_000;
    for trick in [Trick::Lose, Trick::BadGateway, Trick::AskAgain] {
        house.middle.play(CALL, trick);
        let lost = client.say(json!({ "command": "pay", "url": call })).await;
        assert_ne!(lost["answers"][0]["status"], 200, "{trick:?}: {lost}");
        let paid = client.pay(&call).await;
        // The lost one, and this one.
        total += 2_000;
        assert_eq!((paid.status, paid.charged_total()), (200, total), "{trick:?}: {paid:?}");
    }
    house.charged += total;
    assert_eq!(house.upstream.count(CALL), 7);

    // Our payer knows which request it was, and does not pay for it again.
    let wallet = Wallet::new(&house.chain, PAYER + 1);
    wallet.buys(&call, &[]).await;
    let mut total = 1_000;
    for (trick, key) in [(Trick::Lose, "a"), (Trick::BadGateway, "b"), (Trick::AskAgain, "c")] {
        house.middle.play(CALL, trick);
        let named = ["--idempotency-key", key];
        let lost = wallet.pay(&call, &named).await;
        assert_ne!(lost.exit, 0, "{trick:?}: {lost:?}");
        total += 1_000;
        for _ in 0..2 {
            let again = wallet.pay(&call, &named).await;
            assert_eq!((again.exit, &again.error["code"]), (3, &json!("charged_not_answered")), "{trick:?}: {again:?}");
        }
        let bought = wallet.buys(&call, &[]).await;
        total += 1_000;
        assert_eq!(bought.charged(), Some(1_000), "{trick:?}: {bought:?}");
        let channels = wallet.channels().await;
        assert_eq!((channels.len(), channels[0]["charged"].as_str()), (1, Some(total.to_string().as_str())), "{trick:?}");
    }
    house.charged += total;
    assert_eq!(house.upstream.count(CALL), 14);
    house.ends().await;
}

/// A request that the network repeats is served once, whichever answer arrives.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_repeated_is_served_once() {
    let mut house = House::start("").await;
    let call = house.middle.url(CALL);
    let mut client = Script::payer(&house.chain, PAYER, json!({ "depositMultiplier": 100 })).await;
    // The deposit, too.
    house.middle.play(CALL, Trick::Twice);
    assert_eq!(client.pay(&call).await.charged_total(), 1_000);
    house.middle.play(CALL, Trick::Twice);
    assert_eq!(client.pay(&call).await.charged_total(), 2_000);
    assert_eq!(house.upstream.count(CALL), 2);
    // The second answer says that the total was charged, and the client signs the next one: what was lost was charged, once.
    house.middle.play(CALL, Trick::TwiceLast);
    assert_eq!(client.pay(&call).await.charged_total(), 4_000);
    assert_eq!(house.upstream.count(CALL), 4);

    let wallet = Wallet::new(&house.chain, PAYER + 1);
    house.middle.play(CALL, Trick::Twice);
    let first = wallet.buys(&call, &[]).await;
    assert_eq!((first.charged(), first.deposited()), (Some(1_000), Some(10_000)), "{first:?}");
    house.middle.play(CALL, Trick::TwiceLast);
    let told = wallet.pay(&call, &[]).await;
    assert_eq!((told.exit, &told.error["code"]), (3, &json!("charged_not_answered")), "{told:?}");
    assert_eq!(wallet.buys(&call, &[]).await.charged(), Some(1_000));
    assert_eq!(house.upstream.count(CALL), 7);
    assert_eq!(house.chain.state(first.channel()).await.0, 10_000, "one deposit");
    house.charged = 7_000;
    house.ends().await;
}

/// Two clients on one channel, as one account has them: the request that was signed first comes last.
#[tokio::test(flavor = "multi_thread")]
async fn requests_that_overtake_each_other_are_put_right() {
    let mut house = House::start("").await;
    let call = house.middle.url(CALL);
    let mut first = Script::payer(&house.chain, PAYER, json!({ "depositMultiplier": 100 })).await;
    let mut second = Script::payer(&house.chain, PAYER, json!({ "depositMultiplier": 100 })).await;
    assert_eq!(first.pay(&call).await.charged_total(), 1_000);
    house.middle.play(CALL, Trick::Hold);
    first.send(json!({ "command": "pay", "url": call })).await;
    house.middle.played(1).await;
    // It has no state, and is put right by the gateway.
    assert_eq!(second.pay(&call).await.charged_total(), 2_000);
    house.middle.release(1);
    let late = Paid::all(first.hear().await).pop().expect("one");
    assert_eq!((late.status, late.charged_total()), (200, 3_000), "{late:?}");
    assert_eq!(house.upstream.count(CALL), 3);
    house.charged = 3_000;
    house.ends().await;
}

/// On a session of MPP requests run at once, and the vouchers arrive in any order.
#[tokio::test(flavor = "multi_thread")]
async fn vouchers_that_overtake_each_other_on_a_session_pay_each_request_once() {
    let mut house = House::with_sessions().await;
    let wallet = Wallet::with(&house.chain, PAYER, "schemes = [\"mpp-session\"]\ndeposit_multiple = 100", DOMAIN);
    let proxy = Proxy::start_with(wallet, PAYER, &house.middle.url(""), &[]).await;
    let client = reqwest::Client::new();
    let get = || {
        let request = client.get(proxy.url(CALL));
        tokio::spawn(async move { request.send().await.expect("answered") })
    };
    assert_eq!(get().await.expect("no panic").status(), StatusCode::OK);
    for _ in 0..3 {
        house.middle.play(CALL, Trick::Hold);
    }
    let held: Vec<_> = (0..3).map(|_| get()).collect();
    house.middle.played(3).await;
    for _ in 0..2 {
        assert_eq!(get().await.expect("no panic").status(), StatusCode::OK);
    }
    house.middle.release(3);
    for answer in held {
        let answer = answer.await.expect("no panic");
        assert_eq!((answer.status(), &answer.headers()["x-millstream-charged"]), (StatusCode::OK, &"1000".parse().expect("text")));
    }
    assert_eq!(house.upstream.count(CALL), 6);
    // One more that is lost, and one that comes twice.
    house.middle.play(CALL, Trick::Lose);
    let lost = client.get(proxy.url(CALL)).header("idempotency-key", "lost").send().await.expect("answered");
    let problem: Value = lost.json().await.expect("a problem");
    assert_eq!((&problem["code"], &problem["charged"]), (&json!("charged-not-answered"), &json!("1000")), "{problem}");
    house.middle.play(CALL, Trick::Twice);
    assert_eq!(get().await.expect("no panic").status(), StatusCode::OK);
    assert_eq!(house.upstream.count(CALL), 8);
    house.charged = 8_000;
    let wallet = proxy.stop().await;
    let channels = wallet.channels().await;
    assert_eq!((channels.len(), channels[0]["charged"].as_str()), (1, Some("8000")), "{channels:?}");
    assert_eq!(wallet.refund(channels[0]["channel"].as_str().expect("text")).await, 100_000 - 8_000);
    assert_eq!(house.chain.balance(DEV_ACCOUNTS[PAYER].address).await, http402::chain::TOKENS - 8_000);
    house.ends().await;
}

/// Single payments: what was collected and lost is found again by the same payment, and by no other.
#[tokio::test(flavor = "multi_thread")]
async fn a_single_payment_whose_answer_is_lost_is_taken_once() {
    let mut house = House::start("[payment.exact]").await;
    let call = house.middle.url(CALL);
    let mut client = Script::payer(&house.chain, PAYER, json!({ "scheme": "exact" })).await;
    let wallet = Wallet::with(&house.chain, PAYER + 1, "schemes = [\"x402-exact\"]", DOMAIN);
    for (trick, key) in [(Trick::Lose, "a"), (Trick::BadGateway, "b"), (Trick::AskAgain, "c"), (Trick::TwiceLast, "d")] {
        house.middle.play(CALL, trick);
        let lost = client.say(json!({ "command": "pay", "url": call })).await;
        assert_ne!(lost["answers"][0]["status"], 200, "{trick:?}: {lost}");
        // The same payment says that it was taken, and takes nothing.
        let again = Paid::all(client.say(json!({ "command": "again", "url": call })).await).pop().expect("one");
        assert_eq!((again.status, again.response["success"].as_bool()), (409, Some(true)), "{trick:?}: {again:?}");

        house.middle.play(CALL, trick);
        let named = ["--idempotency-key", key];
        assert_ne!(wallet.pay(&call, &named).await.exit, 0, "{trick:?}");
        for _ in 0..2 {
            let again = wallet.pay(&call, &named).await;
            assert_eq!((again.exit, &again.error["code"]), (3, &json!("charged_not_answered")), "{trick:?}: {again:?}");
        }
        house.charged += 2_000;
    }
    house.middle.play(CALL, Trick::Twice);
    assert_eq!(client.pay(&call).await.status, 200);
    house.middle.play(CALL, Trick::Twice);
    assert_eq!(wallet.buys(&call, &[]).await.charged(), Some(1_000));
    house.charged += 2_000;
    assert_eq!(u128::try_from(house.upstream.count(CALL)).expect("few") * 1_000, house.charged);
    house.ends().await;
}

/// Upstreams that fail, before both kinds of clients.
#[tokio::test(flavor = "multi_thread")]
async fn a_failing_upstream_costs_nobody_anything() {
    let mut house = House::start("[payment.exact]").await;
    let gateway = |path: &str| house.gateway.url(path);
    let mut client = Script::payer(&house.chain, PAYER, json!({ "depositMultiplier": 100 })).await;
    let mut single = Script::payer(&house.chain, PAYER + 2, json!({ "scheme": "exact" })).await;
    let wallet = Wallet::new(&house.chain, PAYER + 1);
    for round in 1..=2 {
        for (path, status) in [("/dies", 502), ("/broken", 500)] {
            assert_eq!(client.pay(&gateway(path)).await.status, status);
            assert_eq!(single.pay(&gateway(path)).await.status, status);
            let failed = wallet.pay(&gateway(path), &[]).await;
            assert_eq!((failed.exit, &failed.error["code"]), (4, &json!("http_status")), "{failed:?}");
            assert!([None, Some(0)].contains(&failed.charged()), "{failed:?}");
        }
        assert_eq!(client.pay(&gateway(CALL)).await.charged_total(), round * 1_000);
        assert_eq!(single.pay(&gateway(CALL)).await.status, 200);
        assert_eq!(wallet.buys(&gateway(CALL), &[]).await.charged(), Some(1_000));
        house.charged += 3_000;
    }
    house.ends().await;
}

const DOMAIN: &str = "domain_name = \"USD Coin\"\ndomain_version = \"2\"";
