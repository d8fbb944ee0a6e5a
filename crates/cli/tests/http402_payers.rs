//! Unmodified clients of x402 (`@x402/fetch` with `@x402/evm`, from npm) pay `millstream gateway`.

mod http402;

use http402::script::{Paid, number};
use http402::{Chain, Gateway, PAYER, RECEIVER, Script, Upstream, wait_for};
use millstream_testkit::DEV_ACCOUNTS;
use serde_json::{Value, json};

const BUSY: &str = "invalid_batch_settlement_evm_channel_busy";
const MISMATCH: &str = "invalid_batch_settlement_evm_cumulative_amount_mismatch";

fn completion(model: &str, most: u64) -> Value {
    let body = json!({ "model": model, "max_tokens": most, "messages": [{ "role": "user", "content": "hi" }] });
    json!({ "method": "POST", "headers": { "content-type": "application/json" }, "body": body.to_string() })
}

/// The whole life of a channel: a deposit, 200 vouchers, a partial charge, a top-up by itself, recovery without state, a refund, and then our
/// claim and sweep, to the base unit.
#[tokio::test(flavor = "multi_thread")]
async fn a_channel_from_its_deposit_to_the_sweep() {
    let (chain, upstream) = (Chain::start().await, Upstream::start().await);
    let mut gateway = Gateway::start_patient(&chain, &upstream).await;
    let (call, completions) = (gateway.url("/call"), gateway.url("/v1/chat/completions"));
    let mut payer = Script::payer(&chain, PAYER, json!({ "depositMultiplier": 100 })).await;
    let receiver = DEV_ACCOUNTS[RECEIVER].address;

    // 1000 base units each.
    let first = payer.pay(&call).await;
    assert_eq!((first.status, first.exchanges, first.charged()), (200, 2, 1_000), "{first:?}");
    let deposit = first.deposited().expect("a deposit");
    assert!(deposit >= 100_000, "{deposit}");
    assert_eq!(chain.state(first.channel()).await.0, deposit);

    // At most 600, and half of it in fact.
    let partial = payer.pay_with(&completions, completion("half", 600)).await;
    assert_eq!((partial.status, partial.charged(), partial.charged_total()), (200, 300, 1_300), "{partial:?}");

    let vouchers = payer.pay_times(&call, 200).await;
    assert!(vouchers.iter().all(|paid| paid.status == 200 && paid.exchanges == 2 && paid.charged() == 1_000), "{vouchers:?}");
    assert_eq!(vouchers[199].charged_total(), 201_300);
    // The first deposit did not reach that far.
    let more: u128 = vouchers.iter().filter_map(Paid::deposited).sum();
    assert!(more > 0 && deposit + more >= 201_300, "{deposit} {more}");
    // A failure costs nothing, and the next voucher is for the same total.
    assert_eq!(payer.pay(&gateway.url("/broken")).await.status, 500);

    // Without state, the client is shown its own last voucher, and goes on from it.
    payer.forget().await;
    let recovered = payer.pay(&call).await;
    assert_eq!((recovered.status, recovered.exchanges, recovered.charged_total()), (200, 3, 202_300), "{recovered:?}");
    assert_eq!(upstream.count("/call"), 202);

    // A part of the rest comes back, and the channel goes on; then all of it.
    let deposits = deposit + more + recovered.deposited().unwrap_or(0);
    assert_eq!(number(&payer.refund(&call, Some(500)).await["amount"]), Some(500));
    assert_eq!(payer.pay(&call).await.charged_total(), 203_300);
    let rest = number(&payer.refund(&call, None).await["amount"]).expect("an amount");
    assert_eq!(rest, deposits - 500 - 203_300);
    assert_eq!(chain.balance(DEV_ACCOUNTS[PAYER].address).await, http402::chain::TOKENS - 203_300);

    // What was charged reaches the receiver, and not a base unit more.
    gateway.restart_claiming().await;
    wait_for("the sweep", async || chain.balance(receiver).await == 203_300).await;
    assert_eq!(chain.state(first.channel()).await, (203_300, 203_300));
    gateway.stop().await;
}

/// x402's scheme has one request at a time on a channel: a second one is told so, in the scheme's word, and costs nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_request_at_once_on_a_channel_is_told_that_it_is_busy() {
    let (chain, upstream) = (Chain::start().await, Upstream::start().await);
    let gateway = Gateway::start(&chain, &upstream).await;
    let (held, call) = (gateway.url("/held"), gateway.url("/call"));
    let mut first = Script::payer(&chain, PAYER, json!({ "depositMultiplier": 100 })).await;
    let mut second = Script::payer(&chain, PAYER, json!({ "depositMultiplier": 100 })).await;
    assert_eq!(first.pay(&call).await.charged_total(), 1_000);

    first.send(json!({ "command": "pay", "url": held })).await;
    upstream.asked("/held", 1).await;
    let refused = second.pay(&call).await;
    assert_eq!((refused.status, refused.reason()), (402, BUSY), "{refused:?}");
    assert_eq!(upstream.count("/call"), 1);
    upstream.release(1);
    let held = Paid::all(first.hear().await).pop().expect("one");
    assert_eq!((held.status, held.charged_total()), (200, 2_000), "{held:?}");
    // Free again, for the other one too.
    let paid = second.pay(&call).await;
    assert_eq!((paid.status, paid.charged_total()), (200, 3_000), "{paid:?}");

    // Two from one client: whoever comes second finds the channel busy, or its own total out of date.
    let both = Paid::all(first.say(json!({ "command": "pay", "url": call, "times": 2, "together": true })).await);
    let paid: Vec<_> = both.iter().filter(|paid| paid.status == 200).collect();
    assert!(both.iter().all(|paid| paid.status == 200 || [BUSY, MISMATCH].contains(&paid.reason())), "{both:?}");
    assert_eq!(upstream.count("/call"), 2 + paid.len());
    assert!(paid.iter().all(|paid| paid.charged() == 1_000), "{both:?}");
    gateway.stop().await;
}

/// Single payments: every client of x402 can make them.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_knows_single_payments_only_pays() {
    let (chain, upstream) = (Chain::start().await, Upstream::start().await);
    let gateway = Gateway::start_with(&chain, &upstream, "[payment.exact]").await;
    let mut payer = Script::payer(&chain, PAYER, json!({ "scheme": "exact" })).await;
    let paid = payer.pay_times(&gateway.url("/call"), 3).await;
    assert!(paid.iter().all(|paid| paid.status == 200 && paid.exchanges == 2 && paid.response["success"] == true), "{paid:?}");
    let receiver = DEV_ACCOUNTS[RECEIVER].address;
    wait_for("the payments to be mined", async || chain.balance(receiver).await == 3_000).await;
    assert_eq!(chain.balance(DEV_ACCOUNTS[PAYER].address).await, http402::chain::TOKENS - 3_000);
    // What failed is not taken.
    assert_eq!(payer.pay(&gateway.url("/broken")).await.status, 500);
    gateway.stop().await;
    assert_eq!(chain.balance(receiver).await, 3_000);
}
