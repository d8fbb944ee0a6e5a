//! Transactions that outlive their process, on a real anvil: one nonce, one transaction, whenever the process dies.

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_chain::{
    Call, ChainError, GasBounds, Journal, Kept, PERMIT2, Pace, Submitter, SubmitterOptions, TxReceipt, TxStage, TxVersion, TxWatch, mint,
};
use millstream_testkit::DEV_ACCOUNTS;
use serde_json::json;

use common::{PAYER, World, submitter, submitter_with, until, world};

const BOUNDS: GasBounds = GasBounds { gas_max: 1_000_000, fee_per_gas_max: u128::MAX, pace: Pace::AtLeisure };

/// Remembers, or does not.
#[derive(Debug, Default)]
struct Notes {
    versions: Mutex<Vec<TxVersion>>,
    is_broken: bool,
}

impl Notes {
    fn versions(&self) -> Vec<TxVersion> {
        self.versions.lock().expect("no panic").clone()
    }
}

impl Journal for Notes {
    fn keep(&self, version: TxVersion) -> Kept<'_> {
        Box::pin(async move {
            if self.is_broken {
                return Err(ChainError::Stopped { operation: "keep" });
            }
            self.versions.lock().expect("no panic").push(version);
            Ok(())
        })
    }
}

/// `approve(PERMIT2, amount)` of the test token.
fn approval(world: &World, amount: u8) -> Call {
    let mut data = vec![0x09, 0x5e, 0xa7, 0xb3];
    data.extend([[0; 12].as_slice(), PERMIT2.as_bytes(), &[0; 31], &[amount]].concat());
    Call::new("approve", world.deployment.token, data)
}

async fn ended(mut watch: TxWatch) -> (Result<TxReceipt, ChainError>, u128) {
    loop {
        if let TxStage::Ended { outcome, fee_wei } = watch.stage() {
            return (outcome, fee_wei);
        }
        assert!(watch.changed().await, "the submitter lives");
    }
}

#[tokio::test]
async fn a_kept_transaction_is_followed_on_wherever_its_process_died() {
    // Whether the pool still has it when the next process starts.
    for is_pooled in [true, false] {
        let world = world().await;
        world.stop_mining();
        let notes = Arc::new(Notes::default());
        let before = submitter(&world.rpc, PAYER);
        let watch = before.send_kept(approval(&world, 1), BOUNDS, Arc::clone(&notes) as _).await.expect("sent");
        let kept = notes.versions();
        assert_eq!(watch.stage(), TxStage::Sent { transaction: kept[0].transaction });
        drop((before, watch));
        if !is_pooled {
            world.call("anvil_dropAllTransactions", json!([]));
        }

        let after = submitter(&world.rpc, PAYER);
        let watch = after.resume(approval(&world, 1), &kept, Arc::clone(&notes) as _).await.expect("followed on");
        // What comes next does not wait for it as for a stranger's, and has the next nonce.
        let next = after.send_kept(approval(&world, 2), BOUNDS, Arc::<Notes>::default()).await;
        assert!(next.is_ok() || !is_pooled, "{next:?}");
        until("it is pooled", || world.pooled(PAYER).iter().any(|(nonce, ..)| *nonce == kept[0].tx_nonce).then_some(())).await;
        world.anvil.mine(1).expect("mined");
        let (outcome, fee_wei) = ended(watch).await;
        let receipt = outcome.expect("mined");
        assert_eq!((receipt.transaction, receipt.tx_nonce, receipt.fee_wei), (kept[0].transaction, kept[0].tx_nonce, fee_wei));
        assert!(fee_wei > 0);
        drop(after);

        // A third process finds it mined.
        let third = submitter(&world.rpc, PAYER);
        let again = third.resume(approval(&world, 1), &kept, notes).await.expect("followed on");
        assert_eq!(ended(again).await.0.expect("mined").transaction, receipt.transaction);
    }
}

#[tokio::test]
async fn a_gap_before_a_transaction_that_is_followed_on_is_filled() {
    let world = world().await;
    world.stop_mining();
    let (notes, before) = (Arc::new(Notes::default()), submitter(&world.rpc, PAYER));
    // Nobody keeps the first; both are lost from the pool.
    before.send_kept(approval(&world, 1), BOUNDS, Arc::<Notes>::default()).await.expect("sent");
    before.send_kept(approval(&world, 2), BOUNDS, Arc::clone(&notes) as _).await.expect("sent");
    drop(before);
    world.call("anvil_dropAllTransactions", json!([]));
    let after = submitter(&world.rpc, PAYER);
    let kept = notes.versions();
    let watch = after.resume(approval(&world, 2), &kept, notes).await.expect("followed on");
    world.call("evm_setAutomine", json!([true]));
    let filled = mint(&after, world.deployment.token, DEV_ACCOUNTS[PAYER].address, 7).await.expect("mined");
    assert_eq!(filled.tx_nonce + 1, kept[0].tx_nonce);
    assert_eq!(ended(watch).await.0.expect("mined").tx_nonce, kept[0].tx_nonce);
}

#[tokio::test]
async fn what_cannot_be_kept_is_not_sent() {
    let world = world().await;
    let nonce = world.account_nonce(PAYER);
    let lane = submitter(&world.rpc, PAYER);
    let broken = Arc::new(Notes { is_broken: true, ..Notes::default() });
    let error = lane.send_kept(approval(&world, 1), BOUNDS, broken).await.expect_err("not kept");
    assert_eq!(error, ChainError::Stopped { operation: "keep" });
    // Nor what costs too much.
    let dear = GasBounds { fee_per_gas_max: 1, ..BOUNDS };
    let error = lane.send_kept(approval(&world, 1), dear, Arc::<Notes>::default()).await.expect_err("too dear");
    assert!(matches!(error, ChainError::FeeLimit { limit: 1, .. }), "{error}");
    let large = GasBounds { gas_max: 30_000, ..BOUNDS };
    let error = lane.send_kept(approval(&world, 1), large, Arc::<Notes>::default()).await.expect_err("too large");
    assert!(matches!(error, ChainError::GasLimit { limit: 30_000, .. }), "{error}");
    // Nor what is of another account.
    let version = TxVersion {
        tx_nonce: 0,
        gas_limit: 1,
        max_fee_per_gas: 1,
        priority_fee_per_gas: 1,
        transaction: millstream_types::Hash256::from_bytes([0; 32]),
    };
    assert!(matches!(lane.resume(approval(&world, 1), &[version], Arc::<Notes>::default()).await, Err(ChainError::Inconsistent { .. })));
    assert_eq!((world.account_nonce(PAYER), world.pooled(PAYER).len()), (nonce, 0));
}

#[tokio::test]
async fn every_version_is_kept_before_it_is_sent() {
    let world = world().await;
    world.stop_mining();
    let options = SubmitterOptions { replace_after: Duration::from_millis(150), ..SubmitterOptions::for_development() };
    let lane = submitter_with(&world.rpc, PAYER, options);
    let notes = Arc::new(Notes::default());
    let watch = lane.send_kept(approval(&world, 1), BOUNDS, Arc::clone(&notes) as _).await.expect("sent");
    let first = notes.versions()[0];
    until("a replacement", || world.pooled(PAYER).first().filter(|(_, hash, _)| *hash != first.transaction.to_string()).map(drop)).await;
    world.anvil.mine(1).expect("mined");
    let receipt = ended(watch).await.0.expect("mined");
    let versions = notes.versions();
    assert!(versions.len() > 1 && versions.iter().all(|version| version.tx_nonce == first.tx_nonce));
    assert!(versions.iter().any(|version| version.transaction == receipt.transaction));
    // All of them are looked for later, whichever was mined.
    let third = submitter(&world.rpc, PAYER);
    let again = third.resume(approval(&world, 1), &versions, notes).await.expect("followed on");
    assert_eq!(ended(again).await.0.expect("mined").transaction, receipt.transaction);
}

#[tokio::test]
async fn a_reverted_one_says_what_it_cost() {
    let world = world().await;
    world.stop_mining();
    // An allowance of its own tokens for the payer's mint: a transfer that another transaction makes impossible in the same block.
    let (token, account) = (world.deployment.token, DEV_ACCOUNTS[PAYER].address);
    let transfer = |to: [u8; 20], amount: u64| {
        let mut data = vec![0xa9, 0x05, 0x9c, 0xbb];
        data.extend([[0; 12].as_slice(), &to, &[0; 24], &amount.to_be_bytes()].concat());
        Call::new("transfer", token, data)
    };
    let all = millstream_chain::token_balance(&world.rpc, token, account).await.expect("a balance");
    let all = u64::try_from(all).expect("64 bits");
    let lane: Submitter = submitter(&world.rpc, PAYER);
    let first = lane.send_kept(transfer([1; 20], all), BOUNDS, Arc::<Notes>::default()).await.expect("sent");
    let second = lane.send_kept(transfer([2; 20], all), BOUNDS, Arc::<Notes>::default()).await.expect("sent");
    world.anvil.mine(1).expect("mined");
    ended(first).await.0.expect("mined");
    let (outcome, fee_wei) = ended(second).await;
    assert!(matches!(outcome, Err(ChainError::Reverted { transaction: Some(_), .. })), "{outcome:?}");
    assert!(fee_wei > 0);
}

#[tokio::test]
async fn an_urgent_one_is_sent_with_twice_the_fees() {
    let world = world().await;
    world.stop_mining();
    let (lane, notes) = (submitter(&world.rpc, PAYER), Arc::new(Notes::default()));
    for pace in [Pace::AtLeisure, Pace::Urgent] {
        let amount = u8::try_from(notes.versions().len()).expect("few") + 1;
        lane.send_kept(approval(&world, amount), GasBounds { pace, ..BOUNDS }, Arc::clone(&notes) as _).await.expect("sent");
    }
    let [at_leisure, urgent] = notes.versions()[..] else { panic!("two were sent") };
    assert_eq!(urgent.max_fee_per_gas, 2 * at_leisure.max_fee_per_gas);
    // Its bounds hold all the same.
    let bounds = GasBounds { fee_per_gas_max: at_leisure.max_fee_per_gas, pace: Pace::Urgent, ..BOUNDS };
    let error = lane.send_kept(approval(&world, 9), bounds, notes).await.expect_err("too dear");
    assert!(matches!(error, ChainError::FeeLimit { .. }), "{error}");
}

#[tokio::test]
async fn a_nonce_that_a_reorganisation_took_back_is_used_again() {
    let world = world().await;
    let lane = submitter(&world.rpc, PAYER);
    let token = world.deployment.token;
    let lost = mint(&lane, token, DEV_ACCOUNTS[PAYER].address, 1).await.expect("mined");
    world.anvil.reorg(1).expect("reorganised");
    let again = mint(&lane, token, DEV_ACCOUNTS[PAYER].address, 2).await.expect("mined, without a gap before it");
    assert_eq!(again.tx_nonce, lost.tx_nonce);
}
