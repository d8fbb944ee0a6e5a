//! x402 `batch-settlement` from the client's header to the chain: real gateway, node, contracts and chain.

mod support;

use millstream_testkit::DEV_ACCOUNTS;
use reqwest::StatusCode;

use support::{Chain, House, PAYER, Payer, Plan, Upstream};

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
    assert!(chain.balance(DEV_ACCOUNTS[support::RECEIVER].address).await <= 4_000);
    house.stop().await;
}
