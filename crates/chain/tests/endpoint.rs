//! Endpoints that lie, refuse and hang up.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use millstream_chain::{ChainError, ErrorKind, Indexer, IndexerOptions, Ledger, Poll, Rpc, RpcOptions, mint, token_balance};
use millstream_testkit::{Anvil, DEV_ACCOUNTS};
use serde_json::{Value, json};

use common::proxy::{Reply, proxy};
use common::{BYSTANDER, PAYER, World, number, open_request, submitter, world};

async fn split(world: World) -> (Arc<Anvil>, Ledger, millstream_chain::Deployment) {
    (Arc::new(world.anvil), world.ledger, world.deployment)
}

async fn through(url: &str) -> Rpc {
    Rpc::connect(url, RpcOptions::default()).await.expect("the proxy answers")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_that_are_left_out_are_noticed() {
    let world = world().await;
    for salt in 0..3 {
        world.payer().open(&open_request(salt, 1_000_000)).await.expect("opened");
    }
    let (anvil, ledger, deployment) = split(world).await;
    let good = Indexer::new(ledger.clone(), IndexerOptions::default());
    let start = good.start(deployment.block).await.expect("a start");
    let check = async |change: fn(Value) -> Value| {
        let rule = move |method: &str, _: &Value| if method == "eth_getLogs" { Reply::Change(change) } else { Reply::Pass };
        let rpc = through(&proxy(Arc::clone(&anvil), rule).await).await;
        let liar = Indexer::new(Ledger::attach(rpc, deployment.ledger).await.expect("attached"), IndexerOptions::default());
        liar.poll(&start).await.expect_err("a lie was believed")
    };
    // All, the last, and one in the middle.
    assert!(matches!(check(|_| json!([])).await, ChainError::IncompleteLogs { expected: 3, found: 0 }));
    let last = |mut logs: Value| {
        logs.as_array_mut().expect("a list").pop();
        logs
    };
    assert!(matches!(check(last).await, ChainError::IncompleteLogs { expected: 3, found: 2 }));
    let middle = |mut logs: Value| {
        logs.as_array_mut().expect("a list").remove(2);
        logs
    };
    assert!(matches!(check(middle).await, ChainError::IncompleteLogs { expected: 1, found: 2 }));
    // A log of another contract, or of a block of another chain.
    let foreign = |mut logs: Value| {
        logs[0]["address"] = "0x00000000000000000000000000000000000000aa".into();
        logs
    };
    assert_eq!(check(foreign).await.kind(), ErrorKind::Fault);
    let forked = |mut logs: Value| {
        logs[1]["blockHash"] = format!("0x{}", "ab".repeat(32)).into();
        logs
    };
    assert_eq!(check(forked).await, ChainError::Moved);
    assert!(matches!(good.poll(&start).await, Ok(Poll::Batch(batch)) if batch.events.len() == 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_shrink_until_the_endpoint_answers() {
    let world = world().await;
    world.payer().open(&open_request(1, 1_000_000)).await.expect("opened");
    world.anvil.mine(40).expect("mined");
    let (anvil, _, deployment) = split(world).await;
    let rule = |method: &str, params: &Value| {
        let span = || number(&params[0]["toBlock"]) - number(&params[0]["fromBlock"]);
        if method == "eth_getLogs" && span() > 4 { Reply::Error(-32602, "block range is too large") } else { Reply::Pass }
    };
    let rpc = through(&proxy(anvil, rule).await).await;
    let indexer = Indexer::new(Ledger::attach(rpc, deployment.ledger).await.expect("attached"), IndexerOptions::default());
    let mut cursor = indexer.start(deployment.block).await.expect("a start");
    let (mut events, mut refusals) = (0, 0);
    loop {
        match indexer.poll(&cursor).await {
            Ok(Poll::Batch(batch)) => {
                events += batch.events.len();
                cursor = batch.cursor;
            }
            Ok(Poll::Idle(_)) => break,
            Err(error) if error.is_retryable() => refusals += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(events, 2);
    assert!((1..40).contains(&refusals), "{refusals}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broadcast_whose_answer_is_lost_happens_once() {
    let world = world().await;
    let (anvil, ledger, deployment) = split(world).await;
    for reply in [|| Reply::PassAndHangUp, || Reply::HangUp] {
        let before = token_balance(ledger.rpc(), deployment.token, DEV_ACCOUNTS[PAYER].address).await.expect("a balance");
        let lost = AtomicBool::new(false);
        let rule = move |method: &str, _: &Value| {
            let first = method == "eth_sendRawTransaction" && !lost.swap(true, Ordering::Relaxed);
            if first { reply() } else { Reply::Pass }
        };
        let rpc = through(&proxy(Arc::clone(&anvil), rule).await).await;
        let sender = submitter(&rpc, BYSTANDER);
        let receipt = mint(&sender, deployment.token, DEV_ACCOUNTS[PAYER].address, 5).await.expect("mined");
        let after = token_balance(ledger.rpc(), deployment.token, DEV_ACCOUNTS[PAYER].address).await;
        assert_eq!(after, Ok(before + 5), "nonce {}", receipt.tx_nonce);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_gives_up_leaves_the_lane_in_order() {
    let world = world().await;
    let (anvil, _, deployment) = split(world).await;
    let sends = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sends);
    let rule = move |method: &str, _: &Value| {
        if method == "eth_sendRawTransaction" {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        Reply::Pass
    };
    let rpc = through(&proxy(anvil, rule).await).await;
    let sender = submitter(&rpc, BYSTANDER);
    let to = DEV_ACCOUNTS[PAYER].address;
    // Gives up at every step of the way in turn.
    for step in 1..40 {
        let send = mint(&sender, deployment.token, to, step);
        let _ = tokio::time::timeout(std::time::Duration::from_micros(u64::try_from(step).expect("small") * 300), send).await;
    }
    let last = mint(&sender, deployment.token, to, 1_000).await.expect("mined");
    assert_eq!(last.tx_nonce + 1, u64::try_from(sends.load(Ordering::Relaxed)).expect("small"));
}
