//! What a payer pays, and what it is told.

use millstream_dialect::Object;
use millstream_dialect::x402::PaymentId;
use millstream_testkit::DEV_ACCOUNTS;
use reqwest::StatusCode;

use crate::support::{Chain, House, PAYER, Payer, Plan, RECEIVER, Upstream, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_is_opened_paid_from_topped_up_and_paid_back() {
    let (chain, upstream, directory) = (Chain::start().await, Upstream::start().await, tempfile::tempdir().expect("a directory"));
    let house = House::start(&chain, directory.path(), &upstream, &Plan::default()).await;
    let (mut payer, url) = (Payer::new(&chain, PAYER), house.url("/thing"));
    let before = chain.balance(payer.config.payer).await;

    // A deposit and the first request in one.
    let paid = payer.pay(&url, Some(3_000)).await;
    assert_eq!((paid.status, paid.body.as_str(), paid.charged()), (StatusCode::OK, "ok", 1_000), "{paid:?}");
    let settled = paid.settled.as_ref().expect("a receipt");
    assert!(settled.transaction.starts_with("0x") && settled.amount.as_deref() == Some("3000"), "{settled:?}");
    assert_eq!(chain.state(payer.channel).await, (3_000, 0));
    assert_eq!(chain.balance(payer.config.payer).await, before - 3_000);

    // Vouchers alone: nothing of them is on the chain.
    for _ in 0..2 {
        assert_eq!(payer.pay(&url, None).await.charged(), 1_000);
    }
    let paid = payer.pay(&url, None).await;
    assert_eq!((paid.status, paid.error()), (StatusCode::PAYMENT_REQUIRED, "invalid_batch_settlement_evm_cumulative_exceeds_balance"));
    assert_eq!(payer.pay(&url, Some(2_000)).await.status, StatusCode::OK);
    assert_eq!(payer.charged, 4_000);

    // A part, then the rest: what was charged is claimed on the way.
    let paid = payer.refund(&url, Some(300)).await;
    assert_eq!(paid.status, StatusCode::OK, "{paid:?}");
    assert_eq!(chain.state(payer.channel).await, (4_700, 4_000));
    let paid = payer.refund(&url, Some(701)).await;
    assert_eq!(paid.error(), "invalid_batch_settlement_evm_refund_amount_invalid");
    assert_eq!(payer.refund(&url, None).await.status, StatusCode::OK);
    assert_eq!(chain.state(payer.channel).await, (4_000, 4_000));
    assert_eq!(payer.refund(&url, None).await.error(), "invalid_batch_settlement_evm_refund_no_balance");
    assert_eq!(chain.balance(payer.config.payer).await, before - 4_000);

    // The same channel goes on from there.
    let paid = payer.pay(&url, Some(1_500)).await;
    assert_eq!((paid.status, paid.charged()), (StatusCode::OK, 1_000), "{paid:?}");
    assert_eq!(chain.state(payer.channel).await, (5_500, 4_000));
    assert!(chain.balance(DEV_ACCOUNTS[RECEIVER].address).await <= 4_000);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn less_than_the_ceiling_is_charged_to_the_last_atto() {
    let (chain, upstream, directory) = (Chain::start().await, Upstream::start().await, tempfile::tempdir().expect("a directory"));
    let plan = Plan { price: "0.40 USDC / 1M output_token".to_owned(), limits: "output_tokens_max = 1000".to_owned(), ..Plan::default() };
    let house = House::start(&chain, directory.path(), &upstream, &plan).await;
    let (mut payer, url) = (Payer::new(&chain, PAYER), house.url("/v1/chat/completions"));
    let usage = |tokens: u32| format!(r#"{{"usage":{{"prompt_tokens":1,"completion_tokens":{tokens}}}}}"#);
    // 1.2 base units each: five of them are 6, whatever each was rounded to.
    let mut charges = Vec::new();
    for round in 0..5 {
        upstream.then(Some(&usage(3)));
        let paid = payer.pay(&url, (round == 0).then_some(5_000)).await;
        assert_eq!(paid.status, StatusCode::OK, "{paid:?}");
        charges.push(paid.charged());
    }
    assert_eq!((charges.as_slice(), payer.charged), (&[2, 1, 1, 1, 1][..], 6));
    // Each voucher counts from what was charged, so less was charged than signed.
    upstream.then(Some(&usage(1_000)));
    assert_eq!(payer.pay(&url, None).await.charged(), 400);
    assert_eq!(payer.refund(&url, None).await.status, StatusCode::OK);
    assert_eq!(chain.state(payer.channel).await, (406, 406));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payer_that_forgot_is_told_by_its_own_signature() {
    let (chain, upstream, directory) = (Chain::start().await, Upstream::start().await, tempfile::tempdir().expect("a directory"));
    let house = House::start(&chain, directory.path(), &upstream, &Plan::default()).await;
    let (mut payer, url) = (Payer::new(&chain, PAYER), house.url("/thing"));
    payer.pay(&url, Some(9_000)).await;
    payer.pay(&url, None).await;

    let check = async |charged: u128, signed: u128, reason: &str| {
        let mut cold = Payer::new(&chain, PAYER);
        let paid = cold.pay(&url, None).await;
        assert_eq!((paid.status, paid.error()), (StatusCode::PAYMENT_REQUIRED, reason));
        let required = paid.required.as_ref().expect("a correction");
        let extra = millstream_dialect::x402::BatchOffer::from_requirements(&required.accepts[0]).expect("the scheme's").extra;
        let (state, voucher) = (extra.channel_state.expect("a state"), extra.voucher_state.expect("a voucher"));
        assert_eq!(state.charged_cumulative_amount.expect("a total").units(), charged);
        assert_eq!(voucher.signed_max_claimable.expect("a total").units(), signed);
        assert_eq!(voucher.signature.as_ref(), Some(&cold.voucher(signed).signature), "its own signature");
        cold.charged = charged;
        cold
    };
    let mut cold = check(2_000, 2_000, "invalid_batch_settlement_evm_cumulative_amount_mismatch").await;
    assert_eq!(cold.pay(&url, None).await.status, StatusCode::OK);

    // After a refund too, when the best voucher is over more than the deposit that is left.
    upstream.then(None);
    assert_eq!(cold.pay(&url, None).await.status, StatusCode::BAD_GATEWAY);
    assert_eq!(cold.refund(&url, None).await.status, StatusCode::OK);
    assert_eq!(chain.state(cold.channel).await, (3_000, 3_000));
    check(3_000, 4_000, "invalid_batch_settlement_evm_cumulative_below_claimed").await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_at_a_time_and_each_id_once() {
    let (chain, upstream, directory) = (Chain::start().await, Upstream::start().await, tempfile::tempdir().expect("a directory"));
    let house = House::start(&chain, directory.path(), &upstream, &Plan::default()).await;
    let (mut payer, url) = (Payer::new(&chain, PAYER), house.url("/thing"));
    payer.pay(&url, Some(9_000)).await;
    upstream.arrival().await;
    let offer = payer.offer(&url).await;
    let mut extensions = Object::default();
    PaymentId::new("the-first-of-its-kind").expect("an id").put_into(&mut extensions);

    upstream.close();
    let second = payer.paying(2_000);
    let under_way = payer.send_with(&url, &offer, &second, extensions.clone());
    let meanwhile = async {
        upstream.arrival().await;
        let busy = payer.send(&url, &offer, &second).await;
        let again = payer.send_with(&url, &offer, &second, extensions.clone()).await;
        let refund = payer.send(&url, &offer, &payer.refunding(None)).await;
        upstream.open();
        (busy, again, refund)
    };
    let (paid, (busy, again, refund)) = tokio::join!(under_way, meanwhile);
    assert_eq!((paid.status, paid.charged()), (StatusCode::OK, 1_000));
    assert_eq!(busy.error(), "invalid_batch_settlement_evm_channel_busy");
    assert_eq!(refund.error(), "invalid_batch_settlement_evm_channel_busy");
    assert_eq!(again.status, StatusCode::CONFLICT, "{again:?}");

    // Its answer is not kept; what it cost is, and it costs that once.
    let repeated = payer.send_with(&url, &offer, &second, extensions.clone()).await;
    assert_eq!((repeated.status, repeated.charged()), (StatusCode::CONFLICT, 1_000), "{repeated:?}");
    let other = payer.send_with(&house.url("/other"), &payer.offer(&house.url("/other")).await, &second, extensions).await;
    assert_eq!(other.status, StatusCode::CONFLICT);
    assert!(other.body.contains("id-conflict"), "{other:?}");
    payer.charged = 2_000;
    assert_eq!(payer.pay(&url, None).await.status, StatusCode::OK);

    // What failed is not known.
    let offer = payer.offer(&url).await;
    let mut extensions = Object::default();
    PaymentId::new("one-that-failed-first").expect("an id").put_into(&mut extensions);
    upstream.then(None);
    let failed = payer.send_with(&url, &offer, &payer.paying(4_000), extensions.clone()).await;
    assert_eq!(failed.status, StatusCode::BAD_GATEWAY);
    let paid = payer.send_with(&url, &offer, &payer.paying(4_000), extensions).await;
    assert_eq!((paid.status, paid.charged()), (StatusCode::OK, 1_000), "{paid:?}");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_that_only_the_chain_can_judge_is_judged_by_it() {
    let (chain, upstream, directory) = (Chain::start().await, Upstream::start().await, tempfile::tempdir().expect("a directory"));
    let house = House::start(&chain, directory.path(), &upstream, &Plan::default()).await;
    let url = house.url("/thing");
    let mut payer = Payer::without_authorizer(&chain, PAYER);
    assert_eq!(payer.pay(&url, Some(5_000)).await.status, StatusCode::OK);
    assert_eq!(payer.pay(&url, None).await.status, StatusCode::OK);
    let forged = Payer::without_authorizer(&chain, PAYER).signing_as(PAYER + 1);
    let paid = forged.send(&url, &payer.offer(&url).await, &forged.paying(3_000)).await;
    assert_eq!(paid.error(), "invalid_batch_settlement_evm_voucher_signature");

    // An account whose code says yes to everything, and then to nothing.
    let mut wallet = Payer::without_authorizer(&chain, PAYER + 3).signing_as(PAYER + 2);
    let account = DEV_ACCOUNTS[PAYER + 3].address;
    let code = |answer: &str| serde_json::json!([account, format!("0x63{answer}60e01b60005260206000f3")]);
    chain.call("anvil_setCode", code("1626ba7e")).await;
    let paid = wallet.pay(&url, Some(5_000)).await;
    assert_eq!(paid.status, StatusCode::OK, "{paid:?}");
    chain.call("anvil_setCode", code("ffffffff")).await;
    assert_eq!(wallet.pay(&url, None).await.error(), "invalid_batch_settlement_evm_voucher_signature");
    assert_eq!(chain.state(wallet.channel).await, (5_000, 0));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_operators_see_of_escrows_is_counted() {
    let (chain, upstream, directory) = (Chain::start().await, Upstream::start().await, tempfile::tempdir().expect("a directory"));
    let house = House::start(&chain, directory.path(), &upstream, &Plan::default()).await;
    Payer::new(&chain, PAYER).pay(&house.url("/thing"), Some(5_000)).await;
    let client = reqwest::Client::new();
    let metrics = format!("http://{}/metrics", house.node.admin_listen());
    let has = async |line: &str| {
        let text = client.get(&metrics).send().await.expect("answered").text().await.expect("text");
        text.lines().any(|known| known == line)
    };
    assert!(has("millstream_escrow_deposits_total 1").await);
    until("the sums", || has("millstream_escrow_unclaimed_base_units 1000.0")).await;
    assert!(has("millstream_escrow_deposit_base_units 5000.0").await && has("millstream_escrow_channels 1").await);
    house.stop().await;
}
