//! What may rest on a deposit that is sent and not confirmed: up to the operator's limits, and until something speaks against it.

use millstream_escrow::EscrowSection;
use millstream_testkit::DEV_ACCOUNTS;
use millstream_types::EscrowChannelId;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{Chain, House, OPERATOR, PAYER, Payer, Plan, Upstream, until};

/// A plan that trusts so many base units on a channel, and on all of them.
fn trusting(channel_max: u64, total_max: u64) -> Plan {
    let plan = Plan::default();
    let (optimistic_channel_max, optimistic_total_max) = (channel_max, total_max);
    Plan { escrow: EscrowSection { deposit_wait_secs: 2, optimistic_channel_max, optimistic_total_max, ..plan.escrow }, ..plan }
}

async fn automine(chain: &Chain, on: bool) {
    chain.call("evm_setAutomine", json!([on])).await;
}

async fn operators_nonce(chain: &Chain) -> Value {
    chain.call("eth_getTransactionCount", json!([DEV_ACCOUNTS[OPERATOR].address, "latest"])).await
}

/// Somebody else uses the operator's key and pays more than the node does.
async fn displace(chain: &Chain, nonce: Value) {
    let operator = DEV_ACCOUNTS[OPERATOR].address;
    let other = json!([{ "from": operator, "to": operator, "value": "0x0", "nonce": nonce, "gas": "0x5208",
        "maxFeePerGas": "0x174876e800", "maxPriorityFeePerGas": "0x174876e800" }]);
    chain.call("eth_sendTransaction", other).await;
    chain.mine(1).await;
}

/// What was charged on a channel, and its confirmed and announced deposits.
async fn standing(house: &House, channel: EscrowChannelId) -> (u128, u128, u128) {
    let standing = house.rail.port().standing(channel).await.expect("answered").expect("known");
    (standing.charged.units(), standing.deposit.units(), standing.announced.units())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sent_deposit_serves_at_once_up_to_the_limits() {
    let (chain, upstream, directory) = (Chain::start().await, Upstream::start().await, tempfile::tempdir().expect("a directory"));
    let house = House::start(&chain, directory.path(), &upstream, &trusting(2_000, 3_000)).await;
    let (mut payer, mut other, url) = (Payer::new(&chain, PAYER), Payer::new(&chain, PAYER + 1), house.url("/thing"));
    automine(&chain, false).await;
    let paid = payer.pay(&url, Some(9_000)).await;
    assert_eq!((paid.status, paid.charged()), (StatusCode::OK, 1_000), "{paid:?}");
    // It is told what it will have: by what is confirmed it would deposit again.
    assert_eq!(paid.extra().channel_state.expect("a state").balance.units(), 9_000);
    assert_eq!(paid.settled.as_ref().and_then(|settled| settled.amount.as_deref()), Some("9000"));
    assert_eq!((chain.state(payer.channel).await, standing(&house, payer.channel).await), ((0, 0), (1_000, 0, 9_000)));
    assert_eq!(payer.pay(&url, None).await.status, StatusCode::OK);
    assert_eq!(payer.pay(&url, None).await.status, StatusCode::SERVICE_UNAVAILABLE, "beyond the channel's limit it waits");
    assert_eq!(other.pay(&url, Some(9_000)).await.status, StatusCode::OK);
    assert_eq!(other.pay(&url, None).await.status, StatusCode::SERVICE_UNAVAILABLE, "and beyond that of all channels");
    // Another channel of an account whose first deposit is not there yet: it may have the money for one of them.
    let salt = millstream_types::Hash256::from_bytes([7; 32]);
    let mut second = Payer::with(&chain, crate::support::secret(PAYER), millstream_voucher::evm::ChannelConfig { salt, ..payer.config });
    assert_eq!(second.pay(&url, Some(500_000)).await.status, StatusCode::SERVICE_UNAVAILABLE);
    automine(&chain, true).await;
    chain.mine(1).await;
    until("the deposits are confirmed", async || standing(&house, other.channel).await == (1_000, 9_000, 9_000)).await;
    for payer in [&mut payer, &mut other] {
        assert_eq!(payer.pay(&url, None).await.status, StatusCode::OK);
        assert_eq!(chain.state(payer.channel).await, (9_000, 0), "deposited once");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_or_replaced_deposit_never_becomes_credit() {
    let (chain, upstream, directory) = (Chain::start().await, Upstream::start().await, tempfile::tempdir().expect("a directory"));
    let house = House::start(&chain, directory.path(), &upstream, &trusting(2_000, 3_000)).await;
    let (mut payer, url) = (Payer::new(&chain, PAYER), house.url("/thing"));
    automine(&chain, false).await;
    let nonce = operators_nonce(&chain).await;
    let paid = payer.pay(&url, Some(9_000)).await;
    assert_eq!(paid.status, StatusCode::OK, "{paid:?}");
    // The chain's node loses it. What was charged stays; nothing more rests on it.
    let transaction = paid.settled.expect("a receipt").transaction;
    assert_ne!(chain.call("anvil_dropTransaction", json!([transaction])).await, Value::Null);
    until("the credit is over", async || standing(&house, payer.channel).await == (1_000, 0, 0)).await;
    for _ in 0..2 {
        assert_eq!(payer.pay(&url, None).await.status, StatusCode::SERVICE_UNAVAILABLE, "it waits for the confirmation");
    }
    // Its nonce goes to another transaction. It is sent again, and that is no credit either.
    displace(&chain, nonce).await;
    until("it is sent again", async || chain.call("txpool_status", json!([])).await["pending"] != json!("0x0")).await;
    assert_eq!(payer.pay(&url, None).await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!((chain.state(payer.channel).await, standing(&house, payer.channel).await), ((0, 0), (1_000, 0, 0)));
    chain.mine(1).await;
    until("it is confirmed", async || standing(&house, payer.channel).await == (1_000, 9_000, 9_000)).await;
    automine(&chain, true).await;
    assert_eq!(payer.pay(&url, None).await.status, StatusCode::OK);
    assert_eq!(chain.state(payer.channel).await, (9_000, 0), "deposited once");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payer_that_spends_its_deposit_elsewhere_costs_no_more_than_the_limit() {
    let (chain, upstream, directory) = (Chain::start().await, Upstream::start().await, tempfile::tempdir().expect("a directory"));
    let house = House::start(&chain, directory.path(), &upstream, &trusting(2_000, 2_000)).await;
    let (mut payer, mut other, url) = (Payer::new(&chain, PAYER), Payer::new(&chain, PAYER + 1), house.url("/thing"));
    automine(&chain, false).await;
    assert_eq!(payer.pay(&url, Some(9_000)).await.status, StatusCode::OK);
    // It sends all that it has elsewhere, and pays more for that.
    let account = payer.config.payer;
    let all = chain.balance(account).await;
    let data = format!("0xa9059cbb{:0>64}{all:064x}", DEV_ACCOUNTS[8].address.to_string().trim_start_matches("0x"));
    let transfer = json!([{ "from": account, "to": chain.token.token(), "data": data, "gas": "0x30d40",
        "maxFeePerGas": "0x174876e800", "maxPriorityFeePerGas": "0x174876e800" }]);
    chain.call("eth_sendTransaction", transfer).await;
    chain.mine(1).await;
    assert_eq!((chain.balance(account).await, chain.state(payer.channel).await), (0, (0, 0)));
    until("the credit is over", async || standing(&house, payer.channel).await == (1_000, 0, 0)).await;
    automine(&chain, true).await;
    chain.mine(1).await;
    until("it is known not to come", async || {
        payer.pay(&url, None).await.error() == "invalid_batch_settlement_evm_cumulative_exceeds_balance"
    })
    .await;
    assert_eq!(payer.charged, 1_000);
    // What was lost counts: there is room for one more.
    automine(&chain, false).await;
    assert_eq!(other.pay(&url, Some(9_000)).await.status, StatusCode::OK);
    assert_eq!(other.pay(&url, None).await.status, StatusCode::SERVICE_UNAVAILABLE);
    automine(&chain, true).await;
    chain.mine(1).await;
    until("it is confirmed", async || standing(&house, other.channel).await == (1_000, 9_000, 9_000)).await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deposit_that_a_reorganisation_takes_back_before_it_counts_is_no_credit() {
    let (chain, upstream, directory) = (Chain::start().await, Upstream::start().await, tempfile::tempdir().expect("a directory"));
    let plan = Plan { confirmations: 4, ..trusting(5_000, 5_000) };
    chain.mine(8).await;
    let house = House::start(&chain, directory.path(), &upstream, &plan).await;
    let (mut payer, url) = (Payer::new(&chain, PAYER), house.url("/thing"));
    let nonce = operators_nonce(&chain).await;
    // It is mined at once, and three blocks short.
    assert_eq!(payer.pay(&url, Some(9_000)).await.status, StatusCode::OK);
    assert_eq!(chain.state(payer.channel).await, (9_000, 0));
    automine(&chain, false).await;
    chain.call("anvil_reorg", json!([1, []])).await;
    assert_eq!(chain.state(payer.channel).await, (0, 0), "the deposit is gone");
    until("the credit is over", async || standing(&house, payer.channel).await == (1_000, 0, 0)).await;
    assert_eq!(payer.pay(&url, None).await.status, StatusCode::SERVICE_UNAVAILABLE);
    if chain.call("txpool_status", json!([])).await["pending"] == json!("0x0") {
        displace(&chain, nonce).await;
        until("it is sent again", async || chain.call("txpool_status", json!([])).await["pending"] != json!("0x0")).await;
    }
    automine(&chain, true).await;
    chain.mine(5).await;
    until("it counts", async || standing(&house, payer.channel).await == (1_000, 9_000, 9_000)).await;
    assert_eq!(payer.pay(&url, None).await.status, StatusCode::OK);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_rested_on_a_sent_deposit_outlives_a_crash_and_the_trust_does_not() {
    let (chain, upstream, directory) = (Chain::start().await, Upstream::start().await, tempfile::tempdir().expect("a directory"));
    let plan = trusting(5_000, 5_000);
    let house = House::start(&chain, directory.path(), &upstream, &plan).await;
    let mut payer = Payer::new(&chain, PAYER);
    automine(&chain, false).await;
    assert_eq!(payer.pay(&house.url("/thing"), Some(9_000)).await.status, StatusCode::OK);
    house.crash().await;
    let house = House::start(&chain, directory.path(), &upstream, &plan).await;
    let url = house.url("/thing");
    assert_eq!(standing(&house, payer.channel).await, (1_000, 0, 0));
    assert_eq!(payer.pay(&url, None).await.status, StatusCode::SERVICE_UNAVAILABLE);
    automine(&chain, true).await;
    chain.mine(1).await;
    until("it is confirmed", async || standing(&house, payer.channel).await == (1_000, 9_000, 9_000)).await;
    assert_eq!(payer.pay(&url, None).await.status, StatusCode::OK);
    assert_eq!(chain.state(payer.channel).await, (9_000, 0), "deposited once");
    house.stop().await;
}
