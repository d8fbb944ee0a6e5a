//! What can be said about a ledger from outside, without believing it.

mod common;

use common::{OPERATOR, PAYER, open_request, verifying_key, world};
use millstream_chain::TokenChoice;
use millstream_types::Amount;
use serde_json::json;

use common::world_with;

#[tokio::test]
async fn contracts_of_this_build_are_known_and_others_are_not() {
    let world = world_with(TokenChoice::TestUsdt).await;
    let tier = world.ledger.config().tiers[0].clone();
    assert!(world.ledger.has_known_code().await.expect("simulated"));
    assert_eq!(world.ledger.key_in_code(tier.settle_verifier).await.expect("simulated"), Some(verifying_key()));

    // One byte of the code, and a contract that says yes to everything.
    let code = world.call("eth_getCode", json!([tier.settle_verifier.to_string(), "latest"]));
    let mut other = code.as_str().expect("text").to_owned();
    let last = if other.ends_with('0') { '1' } else { '0' };
    other.replace_range(other.len() - 1.., &last.to_string());
    world.call("anvil_setCode", json!([tier.settle_verifier.to_string(), other]));
    assert_eq!(world.ledger.key_in_code(tier.settle_verifier).await.expect("simulated"), None);
    world.accept_every_proof();
    assert_eq!(world.ledger.key_in_code(tier.register_verifier).await.expect("simulated"), None);
    let code = world.call("eth_getCode", json!([world.deployment.ledger.to_string(), "latest"]));
    let code = format!("{}00", code.as_str().expect("text"));
    world.call("anvil_setCode", json!([world.deployment.ledger.to_string(), code]));
    assert!(!world.ledger.has_known_code().await.expect("simulated"));
}

#[tokio::test]
async fn a_ledger_is_read_as_it_was_at_a_block() {
    let world = world().await;
    assert_eq!(world.ledger.deployed_at().await.expect("read"), Some(world.deployment.block));
    let opening = world.payer().open(&open_request(1, 1_000_000)).await.expect("opened");
    world.payer().top_up(opening.channel, 5_000).await.expect("topped up");
    let then = world.ledger.at(Some(opening.receipt.block)).await.expect("a block");
    let now = world.ledger.at(None).await.expect("a block");
    assert_eq!(then.hash(), opening.receipt.block_hash);
    let deposit = async |at: &millstream_chain::LedgerAt| at.channel(opening.channel).await.expect("read").expect("open").deposit;
    assert_eq!((deposit(&then).await, deposit(&now).await), (Amount::from_nanos(1_000_000_000), Amount::from_nanos(1_005_000_000)));
    assert_eq!((then.queue().await.expect("read").tail, now.queue().await.expect("read").tail), (1, 2));
    assert_eq!((then.token_balance().await, now.token_balance().await), (Ok(1_000_000), Ok(1_005_000)));
    assert_eq!(then.request(0).await.expect("read").map(|request| request.requested_at), Some(then.time()));
    assert_eq!(then.request(1).await.expect("read"), None);
    assert_eq!(now.operator().await.expect("read"), millstream_testkit::DEV_ACCOUNTS[OPERATOR].address);
    assert_eq!(now.credit(millstream_testkit::DEV_ACCOUNTS[PAYER].address).await.expect("read"), Amount::ZERO);
}
