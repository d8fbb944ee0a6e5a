//! What an audit says of a sound ledger, and of ones that are not.

mod common;

use std::collections::BTreeMap;

use common::proxy::Reply;
use common::{ALICE, BOB, WINDOW_SECS, World, size, tier, world, world_of};
use millstream_chain::Ledger;
use millstream_prover::{CircuitId, KeyPin, KeyPins};
use millstream_recovery::{AuditOptions, AuditReport, Finding, KeyOrigin, Severity, audit};
use millstream_types::{Amount, Hash256};
use serde_json::json;

async fn audited(world: &World, ledger: Ledger) -> AuditReport {
    let options = AuditOptions { rebuild: world.options(), ..AuditOptions::default() };
    audit(ledger, &options, &mut |_| {}).await.expect("the chain answers")
}

fn names(report: &AuditReport) -> Vec<String> {
    let name = |finding: &Finding| serde_json::to_value(finding).expect("JSON")["finding"].as_str().expect("a name").to_owned();
    report.findings.iter().map(name).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sound_ledger_has_nothing_but_its_development_keys() {
    let world = world().await;
    let mut provider = world.provider().await;
    let channel = world.open(ALICE, 1, 2_000_000).await;
    provider.register_all().await;
    provider.settle(&[(channel, 1, 1_500_000_007)]).await;
    world.payer(ALICE).request_close(channel).await.expect("asked");
    provider.register_all().await;
    world.open(BOB, 2, 70).await;
    world.payer(ALICE).withdraw(millstream_testkit::DEV_ACCOUNTS[ALICE].address).await.expect("withdrawn");

    let report = audited(&world, world.ledger.clone()).await;
    assert!(report.is_sound(), "{:?}", report.findings);
    assert_eq!(names(&report), ["insecure_key"; 4]);
    assert!(report.tiers.iter().all(|tier| tier.settle_key_origin == KeyOrigin::InsecureDevelopment));
    let totals = report.totals;
    assert_eq!((totals.channels, totals.channels_queued, totals.channels_closed, totals.epochs), (2, 1, 1, 1));
    assert_eq!(
        (totals.deposited, totals.settled, totals.refunded),
        (Amount::from_nanos(2_000_070_000), Amount::from_nanos(1_500_000_007), Amount::from_nanos(499_999_993))
    );
    assert_eq!((totals.held, totals.withdrawn), (Amount::from_nanos(70_000), Amount::from_nanos(499_999_000)));
    assert_eq!((totals.balance_base_units, totals.requests, totals.requests_waiting), (1_500_071, 3, 1));

    // A request that waits too long is an error; served late, it is remembered.
    world.pass_the_window();
    let late = audited(&world, world.ledger.clone()).await;
    assert!(!late.is_sound());
    assert_eq!((names(&late)[0].as_str(), late.totals.requests_overdue), ("overdue", 1));
    provider.register_all().await;
    let served = audited(&world, world.ledger.clone()).await;
    assert!(served.is_sound(), "{:?}", served.findings);
    assert_eq!((served.totals.requests_overdue, served.totals.requests_served_late), (0, 1));
    assert!(
        served
            .findings
            .iter()
            .any(|finding| matches!(finding, Finding::ServedLate(late) if late.index == 2 && late.late_secs > 0))
    );

    // The ledger's tokens are gone.
    let (ledger, token) = (world.ledger.address().to_string(), world.deployment.token.to_string());
    world.call("anvil_impersonateAccount", json!([ledger]));
    world.call("anvil_setBalance", json!([ledger, "0xde0b6b3a7640000"]));
    let to = "000000000000000000000000000000000000000000000000000000000000dead";
    let transfer = format!("0xa9059cbb{to}{:064x}", 1_500_002);
    world.call("eth_sendTransaction", json!([{ "from": ledger, "to": token, "data": transfer }]));
    let robbed = audited(&world, world.ledger.clone()).await;
    assert_eq!((names(&robbed)[0].as_str(), robbed.findings[0].severity()), ("underfunded", Severity::Critical));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_trusted_is_named() {
    // Keys that are not the circuit's, and books that did not begin empty.
    let [mut odd, other] = [tier(4), tier(8)];
    odd.settle_key = other.settle_key;
    odd.empty_root[31] ^= 1;
    let world = world_of(vec![odd.clone(), other]).await;
    world.open(ALICE, 1, 70).await;
    let report = audited(&world, world.ledger.clone()).await;
    assert_eq!(names(&report), ["empty_root", "unknown_key", "insecure_key", "insecure_key", "insecure_key"]);
    assert!(!report.is_sound());
    let circuit = CircuitId::settle(size(4));
    let judged = async |key| {
        let options = AuditOptions { rebuild: world.options(), named_keys: BTreeMap::from([(circuit, key)]), pins: KeyPins::default() };
        audit(world.ledger.clone(), &options, &mut |_| {}).await.expect("the chain answers").tiers[0].settle_key_origin
    };
    let key = world.ledger.config().tiers[0].settle_key;
    assert_eq!(judged(key).await, KeyOrigin::Named);
    assert_eq!(judged(world.ledger.config().tiers[0].register_key).await, KeyOrigin::Unknown);
    let pinned = async |key_hash| {
        let [circuit_digest, file_hash] = [Hash256::from_bytes([7; 32]); 2];
        let pins = [KeyPin { circuit, circuit_digest, key_hash, file_hash }].into_iter().collect();
        let options = AuditOptions { rebuild: world.options(), pins, ..AuditOptions::default() };
        let report = audit(world.ledger.clone(), &options, &mut |_| {}).await.expect("the chain answers");
        (report.tiers[0].settle_key_origin, names(&report).contains(&"another_key".to_owned()))
    };
    assert_eq!(pinned(key).await, (KeyOrigin::Pinned, false));
    assert_eq!(pinned(Hash256::from_bytes([7; 32])).await, (KeyOrigin::Unknown, true));

    // A contract that names the key and is no verifier: PUSH32 the key, PUSH0, MSTORE, PUSH1 32, PUSH0, RETURN.
    let tier = world.ledger.config().tiers[1].clone();
    let code = format!("0x7f{}5f5260205ff3", tier.register_key.to_string().trim_start_matches("0x"));
    world.call("anvil_setCode", json!([tier.register_verifier.to_string(), code]));
    let forged = audited(&world, world.ledger.clone()).await;
    assert!(
        forged
            .findings
            .iter()
            .any(|finding| matches!(finding, Finding::UnknownVerifierCode { circuit, .. } if circuit == "register-8")),
        "{:?}",
        forged.findings
    );

    // An endpoint that leaves events out.
    let liar = world.through(|method, _| {
        if method == "eth_getLogs" {
            Reply::Change(|mut logs| {
                logs.as_array_mut().expect("a list").remove(0);
                logs
            })
        } else {
            Reply::Pass
        }
    });
    let misled = audited(&world, liar.await).await;
    assert!(names(&misled).contains(&"not_rebuilt".to_owned()), "{:?}", misled.findings);
    assert_eq!(misled.totals.channels, 0);
    assert_eq!(misled.response_window_secs, WINDOW_SECS);
}
