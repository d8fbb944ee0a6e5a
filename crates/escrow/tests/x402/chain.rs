//! What the chain does meanwhile: withdrawals, claims by others, reorganisations, crashes.

use millstream_chain::IntentId;
use millstream_chain::x402::{BatchOperator, ClaimRow};
use millstream_escrow::EscrowSection;
use millstream_testkit::DEV_ACCOUNTS;
use reqwest::StatusCode;
use serde_json::json;

use crate::support::{Chain, House, PAYER, Payer, Plan, RECEIVER, Upstream, total, units, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawal_stops_payments_in_time_for_a_claim() {
    let (chain, upstream, directory) = (Chain::start().await, Upstream::start().await, tempfile::tempdir().expect("a directory"));
    let house = House::start(&chain, directory.path(), &upstream, &Plan::default()).await;
    let (mut payer, url) = (Payer::new(&chain, PAYER), house.url("/thing"));
    payer.pay(&url, Some(9_000)).await;
    let own = BatchOperator::new(chain.contract().await, chain.submitter(PAYER));
    own.begin_withdrawal(&payer.config, units(8_000)).await.expect("begun");
    let standing = async |payer: &Payer| house.rail.port().standing(payer.channel).await.expect("answered").expect("known");
    until("the withdrawal is seen", async || standing(&payer).await.withdraw_requested_at_secs.is_some()).await;
    // 900 seconds are left, and a delivery with its claim takes 90 and 120.
    let paid = payer.pay(&url, None).await;
    assert_eq!((paid.status, paid.charged()), (StatusCode::OK, 1_000), "{paid:?}");
    assert_ne!(paid.extra().channel_state.expect("a state").withdraw_requested_at, 0);
    chain.advance_secs(700).await;
    until("the end comes near", async || {
        let paid = payer.pay(&url, None).await;
        paid.error() == "invalid_batch_settlement_evm_missing_channel"
    })
    .await;
    // What the payer leaves there can be paid from.
    let charged = payer.charged;
    assert!(charged >= 2_000);
    // A refund lowers the withdrawal, and does not end one that was over more.
    assert_eq!(payer.refund(&url, None).await.status, StatusCode::OK);
    assert_eq!(chain.state(payer.channel).await, (charged, charged));
    let paid = payer.pay(&url, Some(5_000)).await;
    assert_eq!((paid.status, paid.charged()), (StatusCode::OK, 1_000), "{paid:?}");
    assert_ne!(paid.extra().channel_state.expect("a state").withdraw_requested_at, 0);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawal_that_ends_takes_the_deposit_along() {
    let (chain, upstream, directory) = (Chain::start().await, Upstream::start().await, tempfile::tempdir().expect("a directory"));
    let house = House::start(&chain, directory.path(), &upstream, &Plan::default()).await;
    let (mut payer, url) = (Payer::new(&chain, PAYER), house.url("/thing"));
    payer.pay(&url, Some(9_000)).await;
    payer.refund(&url, Some(1)).await;
    let own = BatchOperator::new(chain.contract().await, chain.submitter(PAYER));
    own.begin_withdrawal(&payer.config, units(7_000)).await.expect("begun");
    chain.advance_secs(1_000).await;
    own.finish_withdrawal(&payer.config).await.expect("ended");
    assert_eq!(chain.state(payer.channel).await, (1_999, 1_000));
    until("the rest is what counts", async || {
        let standing = house.rail.port().standing(payer.channel).await.expect("answered").expect("known");
        standing.deposit == units(1_999) && standing.withdraw_requested_at_secs.is_none()
    })
    .await;
    assert_eq!(payer.pay(&url, None).await.error(), "invalid_batch_settlement_evm_cumulative_exceeds_balance");
    assert_eq!(payer.pay(&url, Some(1_000)).await.status, StatusCode::OK);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reorganisation_below_the_depth_freezes_until_the_deposit_is_there_again() {
    let (chain, upstream, directory) = (Chain::start().await, Upstream::start().await, tempfile::tempdir().expect("a directory"));
    let house = House::start(&chain, directory.path(), &upstream, &Plan::default()).await;
    let (mut payer, mut other, url) = (Payer::new(&chain, PAYER), Payer::new(&chain, PAYER + 1), house.url("/thing"));
    other.pay(&url, Some(9_000)).await;
    chain.mine(3).await;
    payer.pay(&url, Some(9_000)).await;
    assert_eq!(payer.pay(&url, None).await.status, StatusCode::OK);
    chain.call("anvil_reorg", json!([2, []])).await;
    assert_eq!(chain.state(payer.channel).await, (0, 0), "the deposit is gone");
    chain.mine(2).await;
    until("the deposit does not count any more", async || {
        let paid = payer.pay(&url, None).await;
        paid.error() == "invalid_batch_settlement_evm_cumulative_exceeds_balance"
    })
    .await;
    // What was delivered stays charged, and others pay on.
    let standing = house.rail.port().standing(payer.channel).await.expect("answered").expect("known");
    let charged = payer.charged;
    assert_eq!((standing.charged.units(), standing.deposit), (charged, units(0)));
    assert_eq!(other.pay(&url, None).await.status, StatusCode::OK);
    // Another deposit covers it.
    let paid = payer.pay(&url, Some(charged + 3_000)).await;
    assert_eq!((paid.status, paid.charged()), (StatusCode::OK, 1_000), "{paid:?}");
    assert_eq!(chain.state(payer.channel).await, (charged + 3_000, 0));
    assert_eq!(payer.refund(&url, None).await.status, StatusCode::OK);
    assert_eq!(chain.state(payer.channel).await, (charged + 1_000, charged + 1_000));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_each_step_loses_nothing_and_repeats_nothing() {
    let (chain, upstream, directory) = (Chain::start().await, Upstream::start().await, tempfile::tempdir().expect("a directory"));
    let (start, mut payer) =
        (async || House::start(&chain, directory.path(), &upstream, &Plan::default()).await, Payer::new(&chain, PAYER));
    let before = chain.balance(payer.config.payer).await;
    let house = start().await;
    assert_eq!(payer.pay(&house.url("/thing"), Some(9_000)).await.status, StatusCode::OK);
    upstream.arrival().await;
    house.crash().await;

    let house = start().await;
    assert_eq!(payer.pay(&house.url("/thing"), None).await.charged(), 1_000);
    upstream.arrival().await;
    // With a delivery under way of which nothing has left: it costs nothing.
    upstream.close();
    let url = house.url("/thing");
    let offer = payer.offer(&url).await;
    let lost = tokio::spawn({
        let (client, header) = (payer.client.clone(), payer.header(&offer, &payer.paying(3_000)));
        async move { client.get(url).header("payment-signature", header).send().await.map(|response| response.status()) }
    });
    upstream.arrival().await;
    house.crash().await;
    upstream.open();
    assert!(!matches!(lost.await.expect("no panic"), Ok(StatusCode::OK)));

    let house = start().await;
    let standing = house.rail.port().standing(payer.channel).await.expect("answered").expect("known");
    assert_eq!((standing.charged.units(), standing.reserved.units()), (2_000, 0));
    assert_eq!(payer.pay(&house.url("/thing"), None).await.charged(), 1_000);

    // With a refund on its way.
    chain.call("evm_setAutomine", json!([false])).await;
    let url = house.url("/thing");
    let given_up = tokio::time::timeout(std::time::Duration::from_millis(400), payer.refund(&url, None)).await;
    assert!(given_up.is_err());
    until("the refund is in the pool", async || chain.call("txpool_status", json!([])).await["pending"] != json!("0x0")).await;
    house.crash().await;
    let house = start().await;
    let url = house.url("/thing");
    assert_eq!(payer.pay(&url, None).await.error(), "invalid_batch_settlement_evm_channel_busy", "its deposit is leaving");
    chain.mine(1).await;
    chain.call("evm_setAutomine", json!([true])).await;
    until("the refund is known", async || payer.pay(&url, None).await.error() == "invalid_batch_settlement_evm_cumulative_exceeds_balance")
        .await;
    assert_eq!((payer.charged, chain.state(payer.channel).await), (3_000, (3_000, 3_000)));
    assert_eq!(chain.balance(payer.config.payer).await, before - 3_000);
    house.crash().await;

    let house = start().await;
    assert_eq!(payer.pay(&house.url("/thing"), Some(2_000)).await.charged(), 1_000);
    assert_eq!(chain.balance(payer.config.payer).await, before - 5_000);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_is_not_known_is_not_relied_upon() {
    let (chain, upstream, directory) = (Chain::start().await, Upstream::start().await, tempfile::tempdir().expect("a directory"));
    // As little room as there may be: what is known is good for ten seconds.
    let escrow = EscrowSection { claim_margin_secs: 790, ..EscrowSection::default() };
    let house = House::start(&chain, directory.path(), &upstream, &Plan { escrow, ..Plan::default() }).await;
    let (mut payer, url) = (Payer::new(&chain, PAYER), house.url("/thing"));
    assert_eq!(payer.pay(&url, Some(9_000)).await.status, StatusCode::OK);
    let offer = payer.offer(&url).await;
    chain.stop();
    until("payments are refused", async || {
        let paid = payer.send(&url, &offer, &payer.paying(payer.charged + 1_000)).await;
        if paid.status == StatusCode::OK {
            payer.charged += 1_000;
        }
        paid.status == StatusCode::SERVICE_UNAVAILABLE
    })
    .await;
    house.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_claim_and_sweep_is_learned() {
    let (chain, upstream, directory) = (Chain::start().await, Upstream::start().await, tempfile::tempdir().expect("a directory"));
    let house = House::start(&chain, directory.path(), &upstream, &Plan::default()).await;
    let (mut payer, url) = (Payer::new(&chain, PAYER), house.url("/thing"));
    payer.pay(&url, Some(9_000)).await;
    payer.pay(&url, None).await;
    // The receiver has a key of its own.
    let receiver = BatchOperator::new(chain.contract().await, chain.submitter(RECEIVER));
    let row = ClaimRow {
        channel: payer.channel,
        config: payer.config,
        ceiling: total(2_000),
        signature: payer.voucher(2_000).signature,
        total: total(1_500),
    };
    receiver.claim(IntentId::from_bytes([1; 32]), &[row]).await.expect("claimed");
    let (escrow, account) = (house.rail.escrow().expect("served"), DEV_ACCOUNTS[RECEIVER].address);
    let sweep = async || {
        let payments = house.node.payments();
        let read = payments.read(move |engine| {
            let own = engine.sweeps().find(|(of, whose, _)| (*of, *whose) == (escrow, account));
            own.map(|(_, _, sweep)| (sweep.claimed.units(), sweep.swept.units()))
        });
        read.await.expect("runs").unwrap_or_default()
    };
    until("the claim is known", async || sweep().await == (1_500, 0)).await;
    let paid = payer.pay(&url, None).await;
    assert_eq!(paid.extra().channel_state.expect("a state").total_claimed, total(1_500), "{paid:?}");
    let swept = receiver.sweep(IntentId::from_bytes([2; 32]), account, chain.token.token()).await.expect("swept");
    assert_eq!(swept.map(|sweep| sweep.amount), Some(units(1_500)));
    until("the sweep is known", async || sweep().await == (1_500, 1_500)).await;
    assert_eq!(payer.refund(&url, None).await.status, StatusCode::OK);
    until("the rest is known to be due", async || sweep().await == (3_000, 1_500)).await;
    assert_eq!(chain.state(payer.channel).await, (3_000, 3_000));
    house.stop().await;
}
