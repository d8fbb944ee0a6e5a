//! Sending under trouble, on a real anvil.

mod common;

use std::time::Duration;

use millstream_chain::{ChainError, ErrorKind, IntentId, Payer, Revert, Rpc, RpcOptions, Submitter, SubmitterOptions, mint};
use millstream_testkit::DEV_ACCOUNTS;
use serde_json::json;

use common::{OPERATOR, PAYER, World, open_request, submitter, submitter_with, until, world};

fn impatient() -> SubmitterOptions {
    SubmitterOptions { replace_after: Duration::from_millis(150), ..SubmitterOptions::for_development() }
}

async fn mine_while<T>(world: &World, work: impl Future<Output = T>) -> T {
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = ticks.tick() => world.anvil.mine(1).expect("mined"),
        }
    }
}

/// Cancels the one transaction in the payer's pool, and mines once it is replaced.
async fn cancel_and_mine(world: &World, submitter: &Submitter) -> Result<u64, ChainError> {
    let old = world.pooled(PAYER);
    let mining = async {
        until("the cancellation", || (world.pooled(PAYER) != old).then_some(())).await;
        world.anvil.mine(1).expect("mined");
    };
    tokio::join!(submitter.cancel_inherited(), mining).0
}

#[tokio::test]
async fn concurrent_sends_get_one_nonce_each() {
    let world = world().await;
    let sender = submitter(&world.rpc, PAYER);
    let token = world.deployment.token;
    let send = |amount| mint(&sender, token, DEV_ACCOUNTS[PAYER].address, amount);
    let (a, b, c, d) = tokio::join!(send(1), send(2), send(3), send(4));
    let mut nonces: Vec<u64> = [a, b, c, d].into_iter().map(|receipt| receipt.expect("mined").tx_nonce).collect();
    nonces.sort_unstable();
    assert_eq!(nonces, [0, 1, 2, 3]);
}

#[tokio::test]
async fn one_intent_under_way_is_one_transaction() {
    let world = world().await;
    let sender = submitter(&world.rpc, PAYER);
    let send = || mint(&sender, world.deployment.token, DEV_ACCOUNTS[PAYER].address, 7);
    let (first, second) = tokio::join!(send(), send());
    assert_eq!(first.expect("mined").transaction, second.expect("mined").transaction);
    // Once it is done, the same again is new.
    assert_eq!(send().await.expect("mined").tx_nonce, 1);
    assert_eq!(world.account_nonce(PAYER), 2);
}

#[tokio::test]
async fn a_refusal_is_found_before_anything_is_sent() {
    let world = world().await;
    let nonce = world.account_nonce(PAYER);
    let operator = millstream_chain::Operator::new(world.ledger.clone(), submitter(&world.rpc, PAYER));
    let error = operator.settle(IntentId::from_bytes([1; 32]), &[], &[]).await.expect_err("not the operator");
    let expected = format!("settle was refused by the contract: NotOperator(caller: {})", DEV_ACCOUNTS[PAYER].address);
    assert_eq!(error.to_string().to_lowercase(), expected.to_lowercase());
    assert!(error.revert().and_then(Revert::as_ledger).is_some());
    assert!(matches!(error, ChainError::Reverted { transaction: None, .. }));
    assert_eq!(world.account_nonce(PAYER), nonce);
}

#[tokio::test]
async fn a_mined_revert_is_final_and_says_why() {
    let world = world().await;
    let payer = world.payer();
    let opening = payer.open(&open_request(1, 1_000_000)).await.expect("opened");
    // Two lanes for one account cannot know of each other; both simulate well, and the second to be mined is too late.
    world.stop_mining();
    let sender = submitter(&world.rpc, PAYER);
    let first = Payer::new(world.ledger.clone(), sender.clone());
    let close = millstream_chain::bindings::ILedger::requestCloseCall {
        uid: alloy::primitives::aliases::U248::from_be_slice(&opening.channel.as_bytes()[1..]),
    };
    let call = millstream_chain::Call::new("requestClose", world.deployment.ledger, alloy::sol_types::SolCall::abi_encode(&close));
    let again = sender.send(call.with_intent(IntentId::from_bytes([2; 32])));
    let mining = async {
        until("two in the pool", || (world.pooled(PAYER).len() == 2).then_some(())).await;
        world.anvil.mine(1).expect("mined");
    };
    let (first, second, ()) = tokio::join!(first.request_close(opening.channel), again, mining);
    first.expect("mined first");
    let error = second.expect_err("mined second");
    assert_eq!(error.kind(), ErrorKind::Rejection);
    assert!(matches!(&error, ChainError::Reverted { transaction: Some(_), .. }), "{error}");
    assert_eq!(error.revert().and_then(Revert::name), Some("ChannelClosing"), "{error}");
    world.call("evm_setAutomine", json!([true]));
    assert!(mint(&sender, world.deployment.token, DEV_ACCOUNTS[PAYER].address, 1).await.is_ok(), "the lane goes on");
}

#[tokio::test]
async fn a_stuck_transaction_is_replaced_under_its_nonce() {
    let world = world().await;
    world.stop_mining();
    let sender = submitter_with(&world.rpc, PAYER, impatient());
    let nonce = world.account_nonce(PAYER);
    let mining = async {
        let (_, first, fee) = until("the first version", || world.pooled(PAYER).first().cloned()).await;
        let raised = until("a replacement", || world.pooled(PAYER).first().filter(|(_, hash, _)| *hash != first).cloned()).await;
        assert!(raised.0 == nonce && raised.2 > fee, "{raised:?} after {fee}");
        assert_eq!(world.pooled(PAYER).len(), 1);
        world.anvil.mine(1).expect("mined");
    };
    let (receipt, ()) = tokio::join!(mint(&sender, world.deployment.token, DEV_ACCOUNTS[PAYER].address, 1), mining);
    assert_eq!(receipt.expect("mined").tx_nonce, nonce);
    assert_eq!(world.account_nonce(PAYER), nonce + 1);
}

#[tokio::test]
async fn fees_stop_at_their_cap_and_the_transaction_waits() {
    let world = world().await;
    world.stop_mining();
    let cap = 2_000_000_000;
    let wait_max = Duration::from_millis(600);
    let options = SubmitterOptions { max_fee_per_gas_max: cap, priority_fee_per_gas_max: cap, wait_max, ..impatient() };
    let sender = submitter_with(&world.rpc, PAYER, options);
    let send = || mint(&sender, world.deployment.token, DEV_ACCOUNTS[PAYER].address, 1);
    let error = send().await.expect_err("nothing is mined");
    assert!(matches!(error, ChainError::Unconfirmed { .. }) && error.is_retryable(), "{error}");
    let pooled = world.pooled(PAYER);
    assert!(pooled.len() == 1 && pooled[0].2 <= cap, "{pooled:?}");
    // The same intent again waits for the same transaction.
    let (receipt, ()) = tokio::join!(send(), async { world.anvil.mine(1).expect("mined") });
    assert_eq!(receipt.expect("mined").tx_nonce, pooled[0].0);
    assert_eq!(world.account_nonce(PAYER), 1);
}

#[tokio::test]
async fn confirmations_are_waited_for_and_a_reorg_before_them_is_survived() {
    let world = world().await;
    world.stop_mining();
    let options = SubmitterOptions { confirmations: 3, ..impatient() };
    let sender = submitter_with(&world.rpc, PAYER, options);
    let send = mint(&sender, world.deployment.token, DEV_ACCOUNTS[PAYER].address, 1);
    let chain = async {
        until("in the pool", || world.pooled(PAYER).first().cloned()).await;
        world.anvil.mine(1).expect("mined");
        world.anvil.reorg(1).expect("reorganised");
        assert_eq!(world.account_nonce(PAYER), 0, "the transaction is gone from the chain");
        until("back in the pool", || world.pooled(PAYER).first().cloned()).await;
        world.anvil.mine(3).expect("mined");
    };
    let (receipt, ()) = tokio::join!(send, chain);
    let receipt = receipt.expect("confirmed");
    let head = world.call("eth_blockNumber", json!([]));
    assert_eq!(common::number(&head), receipt.block.height() + 2);
}

#[tokio::test]
async fn after_a_restart_the_old_pool_is_waited_for_or_cancelled() {
    let world = world().await;
    world.stop_mining();
    let recipient = DEV_ACCOUNTS[PAYER].address;
    let short = SubmitterOptions { wait_max: Duration::from_millis(300), ..SubmitterOptions::for_development() };
    let token = world.deployment.token;
    let old = submitter_with(&world.rpc, PAYER, short);
    assert!(matches!(mint(&old, token, recipient, 1).await, Err(ChainError::Unconfirmed { tx_nonce: 0, .. })));
    drop(old);

    let new = submitter_with(&world.rpc, PAYER, short);
    let error = mint(&new, token, recipient, 1).await.expect_err("the old one waits");
    assert!(matches!(error, ChainError::Inherited { mined: 0, pending: 1 }), "{error}");
    assert_eq!(cancel_and_mine(&world, &new).await, Ok(1));
    assert_eq!((world.account_nonce(PAYER), world.pooled(PAYER).len()), (1, 0));
    assert_eq!(mine_while(&world, mint(&new, token, recipient, 1)).await.expect("mined").tx_nonce, 1);
    let balance = millstream_chain::token_balance(&world.rpc, token, recipient).await;
    assert_eq!(balance, Ok(1_000_000_000_001), "minted once");
}

#[tokio::test]
async fn a_nonce_taken_by_another_process_is_noticed() {
    let world = world().await;
    world.stop_mining();
    let (ours, theirs) = (submitter(&world.rpc, PAYER), submitter(&world.rpc, PAYER));
    let token = world.deployment.token;
    let intruder = async {
        until("ours in the pool", || world.pooled(PAYER).first().cloned()).await;
        cancel_and_mine(&world, &theirs).await
    };
    let (sent, cancelled) = tokio::join!(mint(&ours, token, DEV_ACCOUNTS[PAYER].address, 1), intruder);
    assert_eq!(cancelled, Ok(1));
    let error = sent.expect_err("displaced");
    assert!(matches!(error, ChainError::Displaced { tx_nonce: 0, .. }) && error.is_retryable(), "{error}");
    let again = mine_while(&world, mint(&ours, token, DEV_ACCOUNTS[PAYER].address, 1)).await;
    assert_eq!(again.expect("mined").tx_nonce, 1);
}

#[tokio::test]
async fn an_account_without_coins_is_refused_not_retried() {
    let world = world().await;
    let poor = millstream_chain::ChainKey::from_bytes(&[0x42; 32]).expect("a key");
    let sender = Submitter::new(world.rpc.clone(), poor, SubmitterOptions::for_development());
    let error = mint(&sender, world.deployment.token, DEV_ACCOUNTS[PAYER].address, 1).await.expect_err("no coins");
    assert!(matches!(error, ChainError::Refused { .. }), "{error:?}");
}

#[tokio::test]
async fn gas_above_the_limit_is_refused() {
    let world = world().await;
    let options = SubmitterOptions { gas_limit_max: 30_000, ..SubmitterOptions::for_development() };
    let sender = submitter_with(&world.rpc, OPERATOR, options);
    let error = mint(&sender, world.deployment.token, DEV_ACCOUNTS[PAYER].address, 1).await.expect_err("too much gas");
    assert!(matches!(error, ChainError::GasLimit { limit: 30_000, .. }), "{error}");
}

#[tokio::test]
async fn an_endpoint_that_is_down_or_silent_is_unavailable_and_keeps_its_secrets() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let url = format!("http://alice:hunter22@127.0.0.1:{port}/v3/abcdef0123456789?key=topsecret");
    let options = RpcOptions { call_deadline: Duration::from_millis(200) };
    // It listens and never answers.
    let silent = Rpc::connect(&url, options).await.expect_err("silent");
    drop(listener);
    let down = Rpc::connect(&url, options).await.expect_err("down");
    for error in [silent, down] {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        let text = format!("{error} {error:?}");
        for secret in ["hunter22", "abcdef0123456789", "topsecret"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
    assert_eq!(Rpc::connect("not a url with hunter22", options).await.map(drop), Err(ChainError::InvalidEndpoint));
}
