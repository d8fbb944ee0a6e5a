//! Deployment on a real anvil: known addresses, dry runs, runs that broke off, and what must be refused.

mod common;

use millstream_chain::{
    Blueprint, CREATE2_PROXY, ChainError, ContractRole, DeployPlan, Inventory, KeyProvenance, KnownPath, Presence, Rpc, Simulation,
    SlotPath, TokenChoice, deploy, mined_transaction,
};
use millstream_testkit::{Anvil, AnvilOptions, DEV_ACCOUNTS};
use millstream_types::{Address, Amount, ChannelId, Hash256};
use serde_json::json;

use common::{OPERATOR, PAYER, anvil, connect, number, plan, submitter, verifying_key};

/// A path that any book paths refuse: what they make of good ones, `recovery` and the command line test with real books.
fn refused_path() -> KnownPath {
    let path = SlotPath {
        slot: 9,
        channel: ChannelId::from_uid(&[1; 31]),
        key_x: [0; 32],
        deposit: 0,
        settled: 0,
        static_path: Vec::new(),
        dynamic_path: Vec::new(),
    };
    KnownPath { slots: 1, path, root: [0; 32] }
}

/// What differs, but for that path.
async fn differences(rpc: &Rpc, inventory: &Inventory) -> Vec<String> {
    let compared = inventory.compare(rpc, &refused_path()).await.expect("read");
    let subjects = compared.differences.into_iter().map(|difference| difference.subject);
    subjects.filter(|subject| subject != "book paths: root of a known path").collect()
}

/// Another key than the usual one, so that both verifiers are there.
fn two_keys(token: TokenChoice) -> DeployPlan {
    let mut plan = plan(token);
    plan.tiers[0].register_key.swap(14, 16);
    plan.tiers[0].register_key.swap(15, 17);
    plan
}

fn state(anvil: &Anvil) -> (u64, u64) {
    let nonce = anvil.call("eth_getTransactionCount", &json!([DEV_ACCOUNTS[OPERATOR].address.to_string(), "pending"]));
    let block = anvil.call("eth_blockNumber", &json!([]));
    (number(&nonce.expect("a nonce")), number(&block.expect("a number")))
}

#[tokio::test]
async fn a_forecast_sends_nothing_and_is_what_comes() {
    let anvil = anvil(&AnvilOptions::default());
    let rpc = connect(&anvil).await;
    let plan = two_keys(TokenChoice::TestUsdc);
    let before = state(&anvil);
    let blueprint = Blueprint::draw(&rpc, &plan).await.expect("drawn");
    let forecast = blueprint.forecast(&rpc, DEV_ACCOUNTS[OPERATOR].address).await.expect("simulated");
    assert_eq!(state(&anvil), before);
    let roles: Vec<ContractRole> = forecast.steps.iter().map(|step| step.role).collect();
    let slots = common::SLOTS;
    let expected = [
        ContractRole::Token,
        ContractRole::SettleVerifier { slots },
        ContractRole::RegisterVerifier { slots },
        ContractRole::BookPaths,
        ContractRole::Factory,
        ContractRole::Ledger,
    ];
    assert_eq!(roles, expected);
    for step in &forecast.steps {
        let how = if step.role == ContractRole::Ledger { Simulation::Assumed } else { Simulation::AsIs };
        assert_eq!((step.presence, &step.simulation), (Presence::Missing, &how), "{}", step.role);
        assert!(step.gas.is_some(), "{}", step.role);
    }
    assert!(forecast.sends_something() && forecast.cost_wei() > 0 && forecast.balance_wei > forecast.cost_wei());

    let deployment = deploy(&submitter(&rpc, OPERATOR), &plan).await.expect("deployed");
    let made: Vec<(ContractRole, Address)> = deployment.sent.iter().map(|step| (step.role, step.address)).collect();
    assert_eq!(made, forecast.steps.iter().map(|step| (step.role, step.address)).collect::<Vec<_>>());
    assert_eq!(deployment.ledger, blueprint.inventory.ledger.address);
    // What was estimated without the contracts before it is what it took: a twentieth either way.
    for (step, sent) in forecast.steps.iter().zip(&deployment.sent) {
        let (estimate, used) = (step.gas.expect("simulated"), sent.receipt.gas_used);
        assert!(estimate.abs_diff(used) <= used / 20, "{}: {estimate} estimated, {used} used", step.role);
    }
    let mined = mined_transaction(&rpc, deployment.sent[1].receipt.transaction).await.expect("read").expect("mined");
    assert_eq!((mined.to, mined.succeeded), (Some(CREATE2_PROXY), true));
    assert_eq!(mined_transaction(&rpc, Hash256::from_bytes([9; 32])).await, Ok(None));
}

#[tokio::test]
async fn the_code_on_the_chain_is_what_was_worked_out() {
    // 6 decimals with no minimum, and 18 with one: every immutable of a ledger has another value.
    let anvil = anvil(&AnvilOptions::default());
    let rpc = connect(&anvil).await;
    let deployer = submitter(&rpc, OPERATOR);
    for plan in [two_keys(TokenChoice::TestUsdc), DeployPlan { deposit_min: Amount::from_nanos(7), ..plan(TokenChoice::TestUsdt) }] {
        let blueprint = Blueprint::draw(&rpc, &plan).await.expect("drawn");
        blueprint.build(&deployer, |_, _| {}).await.expect("deployed");
        assert_eq!(differences(&rpc, &blueprint.inventory).await, Vec::<String>::new());
        assert!(blueprint.survey(&rpc).await.expect("read").iter().all(|presence| *presence == Presence::There));
        // The tables of the book paths and the ledger's code in the factory.
        for (address, code) in blueprint.stores() {
            let found = anvil.call("eth_getCode", &json!([address.to_string(), "latest"])).expect("code");
            assert_eq!(found.as_str().map(str::len), Some(2 + 2 * code.len()), "{address}");
            assert_eq!(found, json!(format!("0x{}", code.iter().map(|byte| format!("{byte:02x}")).collect::<String>())), "{address}");
        }
    }
}

#[tokio::test]
async fn equal_plans_are_one_ledger_and_keys_are_shared() {
    let anvil = anvil(&AnvilOptions::default());
    let rpc = connect(&anvil).await;
    let plan = plan(TokenChoice::TestUsdc);
    let first = deploy(&submitter(&rpc, OPERATOR), &plan).await.expect("deployed");
    // One key for both circuits is one verifier.
    assert_eq!((first.sent.len(), first.verifiers[0].0), (5, first.verifiers[0].1));

    // Another account, the same plan: nothing is left to do, and the ledger's creation is found.
    let before = state(&anvil);
    let again = deploy(&submitter(&rpc, PAYER), &plan).await.expect("there");
    assert_eq!((again.sent.len(), again.ledger, again.block), (0, first.ledger, first.block));
    assert_eq!(again.transaction, first.transaction);
    assert_eq!(state(&anvil), before);

    // Another provider shares everything but the ledger; another salt is another ledger.
    let other = DeployPlan { provider: DEV_ACCOUNTS[PAYER].address, ..plan.clone() };
    let second = deploy(&submitter(&rpc, PAYER), &other).await.expect("deployed");
    assert_eq!(second.sent.iter().map(|step| step.role).collect::<Vec<_>>(), [ContractRole::Ledger]);
    assert_eq!((second.factory, second.verifiers.clone()), (first.factory, first.verifiers.clone()));
    let third = deploy(&submitter(&rpc, PAYER), &DeployPlan { salt: [1; 32], ..other }).await.expect("deployed");
    assert!(first.ledger != second.ledger && second.ledger != third.ledger);
}

#[tokio::test]
async fn a_run_that_broke_off_goes_on() {
    let anvil = anvil(&AnvilOptions::default());
    let rpc = connect(&anvil).await;
    let plan = two_keys(TokenChoice::TestUsdc);
    let blueprint = Blueprint::draw(&rpc, &plan).await.expect("drawn");
    let all = blueprint.contracts.len();
    // Each time somebody stops it before the next step.
    for done in 0..all {
        let mut part = blueprint.clone();
        part.contracts.truncate(done);
        part.build(&submitter(&rpc, OPERATOR), |_, _| {}).await.err();
        let found = blueprint.survey(&rpc).await.expect("read");
        assert_eq!(found.iter().filter(|presence| **presence == Presence::There).count(), done);
        // With some there and others missing, the rest is still simulated.
        let forecast = blueprint.forecast(&rpc, DEV_ACCOUNTS[OPERATOR].address).await.expect("simulated");
        assert_eq!(forecast.steps.iter().filter(|step| step.simulation == Simulation::Unneeded).count(), done);
        let last = &forecast.steps.last().expect("the ledger").simulation;
        assert_eq!(*last, if done == all - 1 { Simulation::AsIs } else { Simulation::Assumed });
    }
    let deployment = blueprint.build(&submitter(&rpc, PAYER), |_, _| {}).await.expect("deployed");
    assert_eq!(deployment.sent.iter().map(|step| step.role).collect::<Vec<_>>(), [ContractRole::Ledger]);
    assert_eq!(differences(&rpc, &blueprint.inventory).await, Vec::<String>::new());
}

#[tokio::test]
async fn other_code_in_a_place_is_refused_before_anything_is_sent() {
    let anvil = anvil(&AnvilOptions::default());
    let rpc = connect(&anvil).await;
    let deployer = submitter(&rpc, OPERATOR);
    let plan = plan(TokenChoice::TestUsdc);
    let blueprint = Blueprint::draw(&rpc, &plan).await.expect("drawn");
    let set = |address: Address, code: &str| anvil.call("anvil_setCode", &json!([address.to_string(), code])).expect("set");
    for contract in blueprint.contracts.iter().filter(|contract| contract.role != ContractRole::Token) {
        set(contract.address, "0x6000");
        let before = state(&anvil);
        let foreign = |error: ChainError| matches!(error, ChainError::ForeignCode { address, .. } if address == contract.address);
        assert!(foreign(deploy(&deployer, &plan).await.expect_err("refused")), "{}", contract.role);
        assert!(foreign(blueprint.forecast(&rpc, deployer.account()).await.expect_err("refused")), "{}", contract.role);
        assert_eq!(state(&anvil), before);
        set(contract.address, "0x");
    }
    // In place of the proxy: other code, then none.
    set(CREATE2_PROXY, "0x6000");
    let error = deploy(&deployer, &plan).await.expect_err("refused");
    assert!(matches!(error, ChainError::ForeignCode { address, .. } if address == CREATE2_PROXY), "{error}");
    set(CREATE2_PROXY, "0x");
    let error = deploy(&deployer, &plan).await.expect_err("refused");
    assert!(matches!(error, ChainError::NoCreate2Proxy { .. }), "{error}");
    assert_eq!(state(&anvil), (0, 0));
}

#[tokio::test]
async fn what_must_not_be_deployed_is_refused_before_anything_is_sent() {
    let anvil = anvil(&AnvilOptions { chain_id: 5, ..AnvilOptions::default() });
    let rpc = connect(&anvil).await;
    let deployer = submitter(&rpc, OPERATOR);
    let check = async |plan: DeployPlan, is_it: fn(&ChainError) -> bool| {
        let error = deploy(&deployer, &plan).await.expect_err("refused");
        assert!(is_it(&error), "{error}");
        assert_eq!(state(&anvil), (0, 0));
    };
    let good = DeployPlan { provenance: KeyProvenance::Ceremony, ..plan(TokenChoice::Existing(DEV_ACCOUNTS[0].address)) };
    check(plan(TokenChoice::TestUsdc), |error| matches!(error, ChainError::InsecureKeys { .. })).await;
    let mut degenerate = good.clone();
    degenerate.tiers[0].register_key.copy_within(6..10, 10);
    check(degenerate, |error| matches!(error, ChainError::DegenerateKey { reason: "gamma equals delta", .. })).await;
    let test_token = DeployPlan { token: TokenChoice::TestUsdc, ..good.clone() };
    check(test_token, |error| matches!(error, ChainError::InvalidInput { what: "token", .. })).await;
    // No contract; one that is no token; one of too many decimals.
    check(good.clone(), |error| matches!(error, ChainError::NoContract { .. })).await;
    check(DeployPlan { token: TokenChoice::Existing(CREATE2_PROXY), ..good.clone() }, |error| {
        matches!(error, ChainError::InvalidInput { what: "token", .. })
    })
    .await;
    let token = Address::from_bytes([7; 20]);
    anvil.call("anvil_setCode", &json!([token.to_string(), "0x601c5f5260205ff3"])).expect("set");
    check(DeployPlan { token: TokenChoice::Existing(token), ..good }, |error| {
        matches!(error, ChainError::InvalidInput { what: "token", .. })
    })
    .await;
}

#[tokio::test]
async fn everything_that_differs_is_named() {
    let anvil = anvil(&AnvilOptions::default());
    let rpc = connect(&anvil).await;
    let plan = plan(TokenChoice::TestUsdc);
    let blueprint = Blueprint::draw(&rpc, &plan).await.expect("drawn");
    blueprint.build(&submitter(&rpc, OPERATOR), |_, _| {}).await.expect("deployed");
    let good = blueprint.inventory;
    let check = async |change: fn(&mut Inventory), expected: &[&str]| {
        let mut other = good.clone();
        change(&mut other);
        assert_eq!(differences(&rpc, &other).await, expected);
    };
    check(|_| {}, &[]).await;
    let predicted = "ledger factory: address of these terms and salt";
    check(|other| other.terms.provider = Address::from_bytes([1; 20]), &[predicted, "ledger: provider"]).await;
    check(|other| other.terms.first_operator = Address::from_bytes([1; 20]), &[predicted]).await;
    check(|other| other.terms.response_window_secs += 1, &[predicted, "ledger: response window"]).await;
    check(|other| other.terms.halt_window_secs += 1, &[predicted, "ledger: halt window"]).await;
    check(|other| other.terms.deposit_min = Amount::from_nanos(1), &[predicted, "ledger: minimum deposit"]).await;
    check(|other| other.salt = [1; 32], &[predicted]).await;
    check(|other| other.token_decimals = 7, &["token: decimals"]).await;
    check(|other| other.tiers[0].empty_root = [2; 32], &["ledger factory: tier 0", "ledger: tier 0"]).await;
    check(|other| other.tiers[0].settle.key_hash = Hash256::from_bytes([2; 32]), &["verifier of settle-24: key hash"]).await;
    check(|other| other.tiers.clear(), &["ledger factory: tiers", "ledger: tiers"]).await;
    let mut elsewhere = good.clone();
    elsewhere.ledger.address = Address::from_bytes([3; 20]);
    let found = differences(&rpc, &elsewhere).await;
    assert!(found.contains(&format!("ledger: code at {}", elsewhere.ledger.address)), "{found:?}");
    assert!(found.contains(&"ledger factory: isLedger of the ledger".to_owned()), "{found:?}");
    assert_eq!(verifying_key(), plan.tiers[0].settle_key);
}
