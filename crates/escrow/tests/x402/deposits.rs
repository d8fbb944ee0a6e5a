//! Deposits that payers sign: those that come, come late, come twice, and never come.

use std::time::Duration;

use millstream_chain::IntentId;
use millstream_chain::x402::{BatchOperator, DepositAuthorization};
use millstream_dialect::x402::{self, BatchPayload};
use millstream_escrow::EscrowSection;
use millstream_testkit::DEV_ACCOUNTS;
use millstream_types::Uint256;
use reqwest::StatusCode;
use serde_json::json;

use crate::support::{Chain, House, OPERATOR, PAYER, Payer, Plan, Upstream, units, until};

/// A house whose chain makes blocks only when it is told to.
async fn manual(chain: &Chain) {
    chain.call("evm_setAutomine", json!([false])).await;
}

async fn pending(chain: &Chain) -> bool {
    chain.call("txpool_status", json!([])).await["pending"] != json!("0x0")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deposit_counts_at_the_depth_and_once() {
    let (chain, upstream, directory) = (Chain::start().await, Upstream::start().await, tempfile::tempdir().expect("a directory"));
    let escrow = EscrowSection { deposit_wait_secs: 2, ..Plan::default().escrow };
    let plan = Plan { confirmations: 3, escrow, ..Plan::default() };
    let house = House::start(&chain, directory.path(), &upstream, &plan).await;
    let (mut payer, url) = (Payer::new(&chain, PAYER), house.url("/thing"));
    let offer = payer.offer(&url).await;
    let funding = payer.funding(1_000, 5_000);
    // It is mined at once, and two blocks short.
    let late = payer.send(&url, &offer, &funding).await;
    assert_eq!(late.status, StatusCode::SERVICE_UNAVAILABLE, "{late:?}");
    assert_eq!(chain.state(payer.channel).await, (5_000, 0));
    let (paid, ()) = tokio::join!(payer.send(&url, &offer, &funding), chain.mine(2));
    assert_eq!((paid.status, paid.charged()), (StatusCode::OK, 1_000), "{paid:?}");
    // Shown again, its permission is used, and the total is the one that was charged.
    let again = payer.send(&url, &offer, &funding).await;
    assert_eq!(again.error(), "invalid_batch_settlement_evm_cumulative_amount_mismatch");
    let BatchPayload::Deposit { deposit, .. } = funding else { panic!("a deposit") };
    let used = BatchPayload::Deposit { channel_config: payer.config.into(), voucher: payer.voucher(2_000), deposit };
    let paid = payer.send(&url, &offer, &used).await;
    assert_eq!((paid.status, paid.charged()), (StatusCode::OK, 1_000), "{paid:?}");
    assert_eq!(chain.state(payer.channel).await, (5_000, 0));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deposit_that_the_contracts_refuse_is_refused_in_words_and_costs_nothing() {
    let (chain, upstream, directory) = (Chain::start().await, Upstream::start().await, tempfile::tempdir().expect("a directory"));
    let house = House::start(&chain, directory.path(), &upstream, &Plan::default()).await;
    let (mut payer, url) = (Payer::new(&chain, PAYER), house.url("/thing"));
    let offer = payer.offer(&url).await;
    let block = chain.call("eth_blockNumber", json!([])).await;
    let too_much = payer.funding(1_000, 2_000_000_000);
    assert_eq!(payer.send(&url, &offer, &too_much).await.error(), "invalid_batch_settlement_evm_insufficient_balance");
    // A voucher that would be refused: no gas for it.
    for (cumulative, reason) in [(999, "cumulative_amount_mismatch"), (1_001, "cumulative_amount_mismatch")] {
        let funding = payer.funding(cumulative, 5_000);
        assert_eq!(payer.send(&url, &offer, &funding).await.error(), format!("invalid_batch_settlement_evm_{reason}"));
    }
    let too_little = payer.funding(1_000, 999);
    assert_eq!(payer.send(&url, &offer, &too_little).await.error(), "invalid_batch_settlement_evm_cumulative_exceeds_balance");
    // Another amount than was signed.
    let BatchPayload::Deposit { channel_config, voucher, deposit } = payer.funding(1_000, 5_000) else { panic!("a deposit") };
    let other = x402::Deposit { amount: units(5_001), ..deposit };
    let paid = payer.send(&url, &offer, &BatchPayload::Deposit { channel_config, voucher, deposit: other }).await;
    assert_eq!(paid.error(), "invalid_batch_settlement_evm_deposit_simulation_failed");
    let mut ended = payer.deposit(5_000);
    if let x402::DepositAuthorization::Erc3009(signed) = &mut ended.authorization {
        signed.valid_before = Uint256::from(1_u64);
    }
    let payload = BatchPayload::Deposit { channel_config, voucher: payer.voucher(1_000), deposit: ended };
    assert_eq!(payer.send(&url, &offer, &payload).await.error(), "invalid_batch_settlement_evm_payload_authorization_valid_before");
    assert_eq!(chain.call("eth_blockNumber", json!([])).await, block, "nothing was sent");
    let unknown = payer.send(&url, &offer, &payer.paying(1_000)).await;
    assert_eq!(unknown.error(), "invalid_batch_settlement_evm_channel_not_found");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_the_chain_has_already_is_taken_as_it_is() {
    let (chain, upstream, directory) = (Chain::start().await, Upstream::start().await, tempfile::tempdir().expect("a directory"));
    let house = House::start(&chain, directory.path(), &upstream, &Plan::default()).await;
    let (mut payer, url) = (Payer::new(&chain, PAYER), house.url("/thing"));
    // Somebody else submitted its deposit.
    let deposit = payer.deposit(4_000);
    let x402::DepositAuthorization::Erc3009(signed) = &deposit.authorization else { panic!("by the token") };
    let authorization = DepositAuthorization::Erc3009 {
        valid_after: signed.valid_after,
        valid_before: signed.valid_before,
        salt: Uint256::from_be_bytes(*signed.salt.as_bytes()),
        signature: signed.signature.clone(),
    };
    let other = BatchOperator::new(chain.contract().await, chain.submitter(PAYER));
    other.deposit(IntentId::from_bytes([1; 32]), &payer.config, deposit.amount, &authorization).await.expect("deposited");
    assert_eq!(payer.pay(&url, None).await.status, StatusCode::OK);
    // With the used deposit in hand, the payer is served all the same.
    let offer = payer.offer(&url).await;
    let payload = BatchPayload::Deposit { channel_config: payer.config.into(), voucher: payer.voucher(2_000), deposit };
    let paid = payer.send(&url, &offer, &payload).await;
    assert_eq!((paid.status, paid.charged()), (StatusCode::OK, 1_000), "{paid:?}");
    assert_eq!(chain.state(payer.channel).await, (4_000, 0));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deposit_outlives_its_client_and_its_node() {
    let (chain, upstream, directory) = (Chain::start().await, Upstream::start().await, tempfile::tempdir().expect("a directory"));
    let house = House::start(&chain, directory.path(), &upstream, &Plan::default()).await;
    let (mut payer, url) = (Payer::new(&chain, PAYER), house.url("/thing"));
    let offer = payer.offer(&url).await;
    let funding = payer.funding(1_000, 5_000);
    manual(&chain).await;
    // The client gives up while the transaction waits.
    let given_up = tokio::time::timeout(Duration::from_millis(300), payer.send(&url, &offer, &funding)).await;
    assert!(given_up.is_err());
    until("the deposit is in the pool", || pending(&chain)).await;
    house.crash().await;

    // The next process finds it, and whoever comes back with it waits for the same transaction.
    let house = House::start(&chain, directory.path(), &upstream, &Plan::default()).await;
    let url = house.url("/thing");
    let back = tokio::time::timeout(Duration::from_millis(300), payer.send(&url, &offer, &funding)).await;
    assert!(back.is_err(), "nothing counts before it is mined");
    chain.mine(1).await;
    chain.call("evm_setAutomine", json!([true])).await;
    // The channel is busy while the request that was given up ends; then this one is served, or told that the other one was.
    until("the deposit is good for a request", async || {
        let paid = payer.send(&url, &offer, &funding).await;
        paid.status == StatusCode::OK || paid.error() == "invalid_batch_settlement_evm_cumulative_amount_mismatch"
    })
    .await;
    assert_eq!(chain.state(payer.channel).await, (5_000, 0), "deposited once");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deposit_that_another_transaction_displaces_is_no_credit_until_it_is_made() {
    let (chain, upstream, directory) = (Chain::start().await, Upstream::start().await, tempfile::tempdir().expect("a directory"));
    let escrow = EscrowSection { deposit_wait_secs: 2, ..Plan::default().escrow };
    let house = House::start(&chain, directory.path(), &upstream, &Plan { escrow, ..Plan::default() }).await;
    let (mut payer, url) = (Payer::new(&chain, PAYER), house.url("/thing"));
    let offer = payer.offer(&url).await;
    let operator = DEV_ACCOUNTS[OPERATOR].address;
    let nonce = chain.call("eth_getTransactionCount", json!([operator, "latest"])).await;
    manual(&chain).await;
    let funding = payer.funding(1_000, 5_000);
    assert_eq!(payer.send(&url, &offer, &funding).await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(pending(&chain).await);
    // Somebody else uses the operator's key, and pays more.
    let other = json!([{ "from": operator, "to": operator, "value": "0x0", "nonce": nonce, "gas": "0x5208",
        "maxFeePerGas": "0x174876e800", "maxPriorityFeePerGas": "0x174876e800" }]);
    chain.call("eth_sendTransaction", other).await;
    chain.mine(1).await;
    assert_eq!(chain.state(payer.channel).await, (0, 0));
    let paid = payer.send(&url, &offer, &payer.paying(1_000)).await;
    assert_ne!(paid.status, StatusCode::OK, "announced is not there: {paid:?}");
    // It is sent again, under another nonce.
    until("it is sent again", || pending(&chain)).await;
    chain.call("evm_setAutomine", json!([true])).await;
    chain.mine(1).await;
    let paid = payer.send(&url, &offer, &funding).await;
    assert_eq!((paid.status, paid.charged()), (StatusCode::OK, 1_000), "{paid:?}");
    assert_eq!(chain.state(payer.channel).await, (5_000, 0), "deposited once");
    house.stop().await;
}
