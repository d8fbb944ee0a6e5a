//! `kill -9` of `millstream gateway` at every step of a payment, and at any moment under load: what it charges, what payers were told and what
//! the chain pays in the end are the same.

mod http402;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http402::payer::Answer;
use http402::{Chain, Gateway, PAYER, Payer, RECEIVER, Upstream, wait_for};
use millstream_testkit::DEV_ACCOUNTS;
use reqwest::StatusCode;
use serde_json::json;

const MISMATCH: &str = "invalid_batch_settlement_evm_cumulative_amount_mismatch";

/// Sends it until somebody answers: the gateway may be down, and the chain not read yet.
async fn insist(payer: &Payer, url: &str, header: &str) -> Answer {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match payer.send(url, header).await {
            Some(answer) if !answer.status.is_server_error() => return answer,
            unanswered => assert!(Instant::now() < deadline, "no answer for a minute: {unanswered:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What the gateway says was charged on the channel: in the correction of a voucher that cannot be right.
async fn told(payer: &Payer, url: &str) -> u128 {
    let answer = insist(payer, url, &payer.header(999_999)).await;
    assert_eq!((answer.status, answer.reason()), (StatusCode::PAYMENT_REQUIRED, MISMATCH), "{answer:?}");
    answer.charged_total().expect("a total")
}

/// Waits for the sweep of everything, and compares it with what was charged.
async fn assert_paid_exactly(chain: &Chain, channels: &[(Payer, u128)]) {
    let total: u128 = channels.iter().map(|(_, charged)| charged).sum();
    let receiver = DEV_ACCOUNTS[RECEIVER].address;
    wait_for("the sweep", async || chain.balance(receiver).await >= total).await;
    assert_eq!(chain.balance(receiver).await, total);
    for (payer, charged) in channels {
        assert_eq!(chain.state(payer.channel).await.1, *charged);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_killed_at_each_step_charges_what_it_delivered_once() {
    let (chain, upstream) = (Chain::start().await, Upstream::start().await);
    let mut gateway = Gateway::start(&chain, &upstream).await;
    let (call, held) = (gateway.url("/call"), gateway.url("/held"));
    let channel = async |salt: u8| Payer::new(&chain, PAYER, salt, &call).await;
    let mut ended = Vec::new();

    // The deposit is sent and not mined: it is carried on, and counts once.
    let payer = channel(1).await;
    let deposit = payer.deposit_header(1_000, 10_000, 1);
    chain.call("evm_setAutomine", json!([false])).await;
    let sending = tokio::spawn({
        let (payer, call, deposit) = (payer.clone(), call.clone(), deposit.clone());
        async move { payer.send(&call, &deposit).await }
    });
    wait_for("the deposit to be sent", async || chain.call("txpool_status", json!([])).await["pending"] != "0x0").await;
    gateway.kill();
    assert!(sending.await.expect("no panic").is_none(), "nothing was answered");
    chain.call("evm_setAutomine", json!([true])).await;
    chain.call("evm_mine", json!([])).await;
    gateway.restart().await;
    let paid = insist(&payer, &call, &deposit).await;
    assert_eq!((paid.status, paid.charged_total()), (StatusCode::OK, Some(1_000)), "{paid:?}");
    assert_eq!(chain.state(payer.channel).await.0, 10_000);
    ended.push((payer, 1_000));

    // The amount is held, the service was asked, and nothing was delivered: nothing is charged, and the same payment is good again.
    let payer = channel(2).await;
    assert_eq!(insist(&payer, &call, &payer.deposit_header(1_000, 10_000, 1)).await.status, StatusCode::OK);
    let second = payer.header(2_000);
    let asking = tokio::spawn({
        let (payer, held, second) = (payer.clone(), held.clone(), second.clone());
        async move { payer.send(&held, &second).await }
    });
    upstream.asked("/held", 1).await;
    gateway.kill();
    assert!(asking.await.expect("no panic").is_none(), "nothing was answered");
    gateway.restart().await;
    assert_eq!(told(&payer, &call).await, 1_000);
    let paid = insist(&payer, &call, &second).await;
    assert_eq!((paid.status, paid.charged_total()), (StatusCode::OK, Some(2_000)), "{paid:?}");
    ended.push((payer, 2_000));

    // In the middle of a stream: no more than what was delivered.
    let payer = channel(3).await;
    assert_eq!(insist(&payer, &call, &payer.deposit_header(1_000, 10_000, 1)).await.status, StatusCode::OK);
    let delivered = stream_until_killed(&payer, &mut gateway, "held-5").await;
    assert_eq!(delivered, 5);
    gateway.restart().await;
    let charged = told(&payer, &call).await;
    assert!((1_000..=1_000 + delivered).contains(&charged), "{charged}");
    ended.push((payer, charged));

    // The answer came, with its receipt: it stays charged, and the same payment is not taken again.
    let payer = channel(4).await;
    assert_eq!(insist(&payer, &call, &payer.deposit_header(1_000, 10_000, 1)).await.status, StatusCode::OK);
    let second = payer.header(2_000);
    assert_eq!(insist(&payer, &call, &second).await.charged_total(), Some(2_000));
    gateway.kill();
    gateway.restart().await;
    let asked = upstream.count("/call");
    let again = insist(&payer, &call, &second).await;
    assert_ne!(again.status, StatusCode::OK, "{again:?}");
    assert_eq!((told(&payer, &call).await, upstream.count("/call")), (2_000, asked));
    ended.push((payer, 2_000));

    assert_paid_exactly(&chain, &ended).await;
    gateway.stop().await;
}

/// Pays for ten tokens of a model that waits, kills the gateway once the upstream does, and says how many tokens came.
async fn stream_until_killed(payer: &Payer, gateway: &mut Gateway, model: &str) -> u128 {
    let url = gateway.url("/v1/chat/completions");
    let body = json!({ "model": model, "max_tokens": 10, "stream": true, "messages": [{ "role": "user", "content": "hi" }] });
    let client = reqwest::Client::new();
    let post = |header: Option<String>| {
        let request = client.post(&url).header("content-type", "application/json").body(body.to_string());
        match header {
            Some(header) => request.header("payment-signature", header),
            None => request,
        }
    };
    let unpaid = post(None).send().await.expect("answered");
    let offers = unpaid.headers()["payment-required"].to_str().expect("text").to_owned();
    let offer = millstream_dialect::x402::PaymentRequired::from_header(&offers).expect("offers").accepts[0].clone();
    assert_eq!(offer.amount, "10");
    let payer = payer.offered(offer);
    let mut answer = post(Some(payer.header(1_010))).send().await.expect("answered");
    assert_eq!(answer.status(), StatusCode::OK);
    let mut text = String::new();
    let tokens = |text: &str| text.matches("\"content\"").count();
    while tokens(&text) < 5 {
        let piece = answer.chunk().await.expect("readable").expect("more");
        text.push_str(&String::from_utf8_lossy(&piece));
    }
    gateway.kill();
    while let Ok(Some(piece)) = answer.chunk().await {
        text.push_str(&String::from_utf8_lossy(&piece));
    }
    tokens(&text).try_into().expect("few")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_killed_under_load_ends_with_the_same_totals() {
    const CHANNELS: u8 = 8;
    const CALLS: u64 = 120;
    const KILLS: u64 = 5;
    let (chain, upstream) = (Chain::start().await, Upstream::start().await);
    let mut gateway = Gateway::start(&chain, &upstream).await;
    let call = gateway.url("/call");
    let done = Arc::new(AtomicU64::new(0));
    let mut paying = Vec::new();
    for salt in 1..=CHANNELS {
        let payer = Payer::new(&chain, PAYER, salt, &call).await;
        let (call, done) = (call.clone(), Arc::clone(&done));
        paying.push(tokio::spawn(async move { pay_all(payer, &call, CALLS, &done).await }));
    }
    for kill in 1..=KILLS {
        let until = u64::from(CHANNELS) * CALLS * kill / (KILLS + 1);
        wait_for("payments to flow", async || done.load(Ordering::Relaxed) >= until).await;
        gateway.kill();
        gateway.restart().await;
    }
    let (mut channels, mut lost) = (Vec::new(), 0);
    for payer in paying {
        let (payer, unanswered) = payer.await.expect("no panic");
        lost += unanswered;
        channels.push((payer, u128::from(CALLS) * 1_000));
    }
    // A charge whose answer was cut off by a kill is told with the next answer. There is one request under way on a channel.
    assert!(lost <= KILLS * u64::from(CHANNELS), "{lost}");
    for (payer, charged) in &channels {
        assert_eq!(told(payer, &call).await, *charged);
    }
    assert_paid_exactly(&chain, &channels).await;
    gateway.stop().await;
}

/// Pays until so many calls were charged, and says of how many of them the answer was lost.
async fn pay_all(payer: Payer, url: &str, calls: u64, done: &AtomicU64) -> (Payer, u64) {
    let mut lost = 0;
    for number in 1..=calls {
        let total = u128::from(number) * 1_000;
        let header = if number == 1 { payer.deposit_header(total, u128::from(calls) * 1_000, 1) } else { payer.header(total) };
        loop {
            let answer = insist(&payer, url, &header).await;
            match (answer.status, answer.charged_total()) {
                (StatusCode::OK, charged) => assert_eq!(charged, Some(total), "{answer:?}"),
                // It was charged, and its answer cut off.
                (StatusCode::PAYMENT_REQUIRED, Some(charged)) if answer.reason() == MISMATCH && charged == total => lost += 1,
                // The request before the kill has not ended yet.
                (StatusCode::PAYMENT_REQUIRED, _) if answer.reason().ends_with("channel_busy") => continue,
                _ => panic!("charged for {total}: {answer:?}"),
            }
            break;
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    (payer, lost)
}
