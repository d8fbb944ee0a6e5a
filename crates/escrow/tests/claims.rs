//! Claims and sweeps on a real anvil: every charge is on the chain exactly once, whatever dies on the way.

mod claiming;

use std::time::Duration;

use millstream_escrow::ClaimerError;
use millstream_testkit::DEV_ACCOUNTS;
use serde_json::json;

use claiming::{ALL, DELAY_SECS, Life, NOTHING, OPERATOR, PAYER, QUESTIONS, RECEIVER, World, eager, patient, units, until};

/// Channels that tests of crashes use.
const CHANNELS: [u8; 2] = [1, 2];
/// What they are charged.
const CHARGED: u128 = 300 + 500;

/// Two channels with something to claim.
async fn charged_world() -> (World, Life) {
    let world = World::start().await;
    let helper = world.helper();
    for number in CHANNELS {
        world.deposit(&helper, number, 1_000).await;
    }
    let life = world.live(patient()).await;
    world.tell(&life, CHANNELS).await;
    world.charge(&life, 1, 300).await;
    world.charge(&life, 2, 500).await;
    (world, life)
}

/// Lets a life finish what there is to do, and compares with the chain.
async fn finish(world: &World, life: &Life) {
    until("everything is claimed and swept", async || {
        world.tell(life, CHANNELS).await;
        world.balance(RECEIVER).await == CHARGED && life.claims().await.is_empty() && !life.is_sweeping().await
    })
    .await;
    assert_eq!((world.claimed(1).await, world.claimed(2).await), (300, 500));
    assert_eq!((world.totals(life, 1).await, world.totals(life, 2).await), ((300, 300), (500, 500)));
    assert!(life.quarantined().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_channel_in_a_hundred_does_not_delay_the_others() {
    let world = World::start().await;
    let helper = world.helper();
    let numbers: Vec<u8> = (1..=100).collect();
    for number in &numbers {
        world.deposit(&helper, *number, 1_000).await;
    }
    let life = world.live(patient()).await;
    world.tell(&life, numbers.clone()).await;
    for number in &numbers {
        if *number == 37 {
            world.charge_badly(&life, *number, 100).await;
        } else {
            world.charge(&life, *number, 100).await;
        }
    }
    // One round, one transaction.
    let report = life.handle.claim_now().await.expect("sent");
    assert_eq!((report.claims.len(), report.rows, report.quarantined), (1, 99, vec![world.channel(37)]));
    let quarantined = life.quarantined().await;
    assert!(quarantined[&world.channel(37)].contains("InvalidSignature"), "{quarantined:?}");
    until("it landed", async || life.claims().await == vec![true]).await;
    world.tell(&life, numbers.clone()).await;
    assert!(life.claims().await.is_empty());
    for number in &numbers {
        assert_eq!(world.claimed(*number).await, if *number == 37 { 0 } else { 100 }, "{number}");
    }
    // Released, it is refused again; money of others does not move by it.
    life.handle.release(world.channel(37)).await.expect("known");
    assert!(life.quarantined().await.is_empty());
    let report = life.handle.claim_now().await.expect("looked");
    assert_eq!((report.claims.len(), report.quarantined.len()), (0, 1));
    assert!(life.handle.release(world.channel(200)).await.is_err());
    let swept = life.handle.sweep_now().await.expect("sent");
    assert_eq!(swept.sweeps, 1);
    until("it was swept", async || world.balance(RECEIVER).await == 9_900).await;
    assert_eq!(world.mined().await, 2);
    life.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_balance_that_is_gone_is_quarantined_with_the_reason() {
    let (world, life) = charged_world().await;
    // The payer took back what the engine still believes to be there.
    let (payer, terms) = (world.payer(), world.terms(1));
    payer.begin_withdrawal(&terms, units(1_000)).await.expect("asked");
    world.call("evm_increaseTime", json!([DELAY_SECS + 1])).await;
    world.mine(1).await;
    payer.finish_withdrawal(&terms).await.expect("withdrawn");
    let report = life.handle.claim_now().await.expect("sent");
    assert_eq!((report.rows, report.quarantined), (1, vec![world.channel(1)]));
    assert!(life.quarantined().await[&world.channel(1)].contains("ClaimExceedsBalance"));
    until("the other landed", async || world.claimed(2).await == 500).await;
    life.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_down_quarantines_nobody() {
    let (world, life) = charged_world().await;
    world.hear(NOTHING);
    let failed = life.handle.claim_now().await.expect_err("nobody answers");
    assert!(matches!(failed, ClaimerError::Unavailable(_)), "{failed}");
    assert!(life.quarantined().await.is_empty());
    world.hear(QUESTIONS);
    // Simulated well, and handed to a node that does not answer: it is kept, and handed over again and again.
    let report = life.handle.claim_now().await.expect("kept");
    assert_eq!((report.rows, report.quarantined.len(), world.mined().await), (2, 0, 0));
    world.hear(ALL);
    until("it landed", async || life.claims().await == vec![true]).await;
    assert!(life.quarantined().await.is_empty());
    life.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawal_is_beaten_by_a_claim() {
    let world = World::start().await;
    let helper = world.helper();
    for number in CHANNELS {
        world.deposit(&helper, number, 1_000).await;
    }
    // Nothing is claimed but what payers could take away.
    let life = world.live(patient()).await;
    world.tell(&life, CHANNELS).await;
    world.charge(&life, 1, 3).await;
    world.charge(&life, 2, 500).await;
    let (payer, terms) = (world.payer(), world.terms(1));
    payer.begin_withdrawal(&terms, units(1_000)).await.expect("asked");
    world.tell(&life, CHANNELS).await;
    until("it is claimed", async || world.claimed(1).await == 3).await;
    until("it landed", async || life.claims().await == vec![true]).await;
    world.tell(&life, CHANNELS).await;
    // A charge of later is claimed before the end, by the chain's time.
    world.charge(&life, 1, 4).await;
    let asked = world.time().await;
    world.call("evm_increaseTime", json!([DELAY_SECS - 90])).await;
    world.mine(1).await;
    assert!(world.time().await.millis_since(asked) < DELAY_SECS * 1_000);
    until("that is claimed, too", async || world.claimed(1).await == 7).await;
    world.call("evm_increaseTime", json!([91])).await;
    world.mine(1).await;
    let before = world.balance(PAYER).await;
    payer.finish_withdrawal(&terms).await.expect("withdrawn");
    assert_eq!(world.balance(PAYER).await, before + 993);
    assert_eq!((world.claimed(1).await, world.claimed(2).await), (7, 0));
    life.handle.sweep_now().await.expect("looked");
    life.kill().await;
}

/// Where a process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    /// The claim is durable, and the chain has not seen it.
    ClaimKept,
    /// It waits in the pool.
    ClaimPooled,
    /// It waited in the pool, which forgot it.
    ClaimForgotten,
    /// It was mined, and nobody looked.
    ClaimMined,
    /// It landed, and the chain has not been read.
    ClaimLanded,
    /// The chain confirmed it; nothing was swept.
    BetweenClaimAndSweep,
    SweepKept,
    SweepPooled,
    SweepForgotten,
    SweepMined,
}

#[tokio::test(flavor = "multi_thread")]
async fn wherever_a_process_dies_every_charge_is_claimed_and_swept_once() {
    use Death::*;
    for death in [
        ClaimKept,
        ClaimPooled,
        ClaimForgotten,
        ClaimMined,
        ClaimLanded,
        BetweenClaimAndSweep,
        SweepKept,
        SweepPooled,
        SweepForgotten,
        SweepMined,
    ] {
        let (world, life) = charged_world().await;
        let is_of_sweep = matches!(death, SweepKept | SweepPooled | SweepForgotten | SweepMined);
        if is_of_sweep || matches!(death, BetweenClaimAndSweep | ClaimLanded) {
            life.handle.claim_now().await.expect("sent");
            until("it landed", async || life.claims().await == vec![true]).await;
            if death != ClaimLanded {
                world.tell(&life, CHANNELS).await;
                assert!(life.claims().await.is_empty());
            }
        }
        world.mining(false).await;
        world.hear(if matches!(death, ClaimKept | SweepKept) { QUESTIONS } else { ALL });
        let was_mined = world.mined().await;
        match (death, is_of_sweep) {
            (ClaimLanded | BetweenClaimAndSweep, _) => {}
            (_, false) => assert_eq!(life.handle.claim_now().await.expect("sent").rows, 2, "{death:?}"),
            (_, true) => assert_eq!(life.handle.sweep_now().await.expect("sent").sweeps, 1, "{death:?}"),
        }
        match death {
            ClaimPooled | SweepPooled | ClaimForgotten | SweepForgotten => {
                until("it is pooled", async || !world.pooled().await.is_empty()).await;
            }
            ClaimKept | SweepKept => assert!(world.pooled().await.is_empty()),
            _ => {}
        }
        if is_of_sweep {
            assert!(life.is_sweeping().await, "{death:?}");
        }
        if matches!(death, ClaimMined | SweepMined) {
            // Nobody looks any more when it is mined.
            until("it is pooled", async || !world.pooled().await.is_empty()).await;
            life.kill().await;
            world.mine(1).await;
            assert_eq!(world.mined().await, was_mined + 1);
        } else {
            life.kill().await;
        }
        if matches!(death, ClaimForgotten | SweepForgotten) {
            world.call("anvil_dropAllTransactions", json!([])).await;
        }
        world.hear(ALL);
        world.mining(true).await;
        // What waited in the pool is mined with the next block.
        world.mine(1).await;
        let life = world.live(eager()).await;
        finish(&world, &life).await;
        assert_eq!(world.mined().await, 2, "{death:?}: one claim, one sweep");
        life.kill().await;
        // A third process finds nothing to do.
        let life = world.live(eager()).await;
        finish(&world, &life).await;
        assert_eq!((world.mined().await, world.balance(RECEIVER).await), (2, CHARGED), "{death:?}");
        life.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_claim_is_replaced_and_its_versions_outlive_the_process() {
    let (world, life) = charged_world().await;
    life.kill().await;
    let life = world.live_with(patient(), Duration::from_millis(100)).await;
    world.mining(false).await;
    life.handle.claim_now().await.expect("sent");
    let versions = async |life: &Life| life.handle.desk().claims().await.expect("runs")[0].versions;
    until("it is replaced", async || versions(&life).await > 1).await;
    let kept = versions(&life).await;
    life.kill().await;
    let life = world.live(eager()).await;
    assert!(versions(&life).await >= kept);
    world.mining(true).await;
    world.mine(1).await;
    finish(&world, &life).await;
    assert_eq!(world.mined().await, 2);
    life.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_another_transaction_displaced_is_made_again() {
    let (world, life) = charged_world().await;
    world.mining(false).await;
    life.handle.claim_now().await.expect("sent");
    until("it is pooled", async || world.pooled().await.len() == 1).await;
    // Somebody else with the same key takes its nonce.
    let operator = DEV_ACCOUNTS[OPERATOR].address.to_string();
    let fee = "0x2540be40000";
    let stranger =
        json!([{ "from": operator, "to": operator, "nonce": "0x0", "gas": "0x5208", "maxFeePerGas": fee, "maxPriorityFeePerGas": fee }]);
    world.call("eth_sendTransaction", stranger).await;
    world.mine(1).await;
    world.mining(true).await;
    assert_eq!((world.mined().await, world.claimed(1).await), (1, 0));
    until("it failed, and is claimable again", async || life.claims().await.is_empty()).await;
    life.kill().await;
    let life = world.live(eager()).await;
    finish(&world, &life).await;
    assert_eq!(world.mined().await, 3, "the stranger's, a claim, a sweep");
    life.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_a_reorganisation_takes_back_is_made_again() {
    // Whether the chain had been read when it forgot the claim.
    for was_told in [false, true] {
        let (world, life) = charged_world().await;
        life.handle.claim_now().await.expect("sent");
        until("it landed", async || life.claims().await == vec![true]).await;
        if was_told {
            world.tell(&life, CHANNELS).await;
            assert_eq!(world.totals(&life, 2).await, (500, 500));
        }
        let anvil = std::sync::Arc::clone(&world.anvil);
        tokio::task::spawn_blocking(move || anvil.reorg(1)).await.expect("no panic").expect("reorganised");
        assert_eq!((world.claimed(1).await, world.mined().await), (0, 0));
        world.mine(2).await;
        world.tell_again(&life, CHANNELS).await;
        if was_told {
            assert_eq!(world.totals(&life, 2).await, (500, 0));
            life.handle.claim_now().await.expect("sent");
        }
        until("it landed again", async || world.claimed(2).await == 500).await;
        world.tell(&life, CHANNELS).await;
        until("nothing is under way", async || {
            world.tell(&life, CHANNELS).await;
            life.claims().await.is_empty()
        })
        .await;
        assert_eq!((world.totals(&life, 1).await, world.totals(&life, 2).await), ((300, 300), (500, 500)));
        life.handle.sweep_now().await.expect("sent");
        until("it was swept", async || world.balance(RECEIVER).await == CHARGED).await;
        assert_eq!(world.mined().await, 2, "{was_told}");
        life.kill().await;
    }
}
