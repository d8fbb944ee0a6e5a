//! Receipts, statements and their reconciliation as an operator and a payer run them: on a gateway's channels through voids, crashes and claims, and
//! on a ledger's through frames and settlements (`docs/spec/receipts.md`, `statements.md`).

mod common;
mod http402;

use std::path::Path;
use std::process::{Command, Stdio};

use common::{Net, RawPayer, secret};
use http402::chain::blocking;
use http402::{Chain, Gateway, PAYER, Payer, Upstream, wait_for};
use millstream_testkit::DEV_ACCOUNTS;
use millstream_types::Address;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use reqwest::StatusCode;
use serde_json::Value;

/// Runs the binary in a directory; its exit status, standard output and standard error.
async fn millstream(directory: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command.args(arguments).current_dir(directory).stdin(Stdio::null());
    let output = blocking(move || command.output().expect("it runs")).await;
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code().expect("an exit status"), text(output.stdout), text(output.stderr))
}

async fn succeeds(directory: &Path, arguments: &[&str]) -> Value {
    let (status, out, error) = millstream(directory, arguments).await;
    assert_eq!(status, 0, "{arguments:?}: {out}{error}");
    serde_json::from_str(&out).unwrap_or_else(|problem| panic!("{arguments:?}: {problem} in {out}"))
}

/// A check that comes out negative; what it found.
async fn finds(directory: &Path, arguments: &[&str]) -> Vec<String> {
    let (status, out, error) = millstream(directory, arguments).await;
    assert_eq!(status, 5, "{arguments:?}: {out}{error}");
    let verdict: Value = serde_json::from_str(&out).expect("a verdict");
    verdict["findings"]
        .as_array()
        .expect("findings")
        .iter()
        .map(|finding| finding.as_str().expect("text").to_owned())
        .collect()
}

/// The statement of everything a payer paid, which holds; written to `name.json`, `name.csv` and `name.html`.
async fn exported(directory: &Path, admin: &str, key: &str, payer: &str, name: &str) -> Value {
    for format in ["json", "csv", "html"] {
        let out = format!("{name}.{format}");
        let arguments = ["statement", "export", "--admin", admin, "--payer", payer, "--format", format, "--out", &out];
        succeeds(directory, &arguments).await;
    }
    let (json, csv) = (format!("{name}.json"), format!("{name}.csv"));
    let verdict = succeeds(directory, &["statement", "verify", &json, "--key", key, "--csv", &csv]).await;
    assert_eq!((&verdict["holds"], verdict["findings"].as_array().map(Vec::len)), (&Value::Bool(true), Some(0)));
    serde_json::from_slice(&std::fs::read(directory.join(json)).expect("written")).expect("JSON")
}

fn paid(statement: &Value) -> u128 {
    let rows = statement["accounts"].as_array().expect("accounts").iter().flat_map(|account| account["rows"].as_array().expect("rows"));
    rows.map(|row| row["entry"]["charge"]["amount"].as_str().expect("an amount").parse::<u128>().expect("a number")).sum()
}

/// One value changed in a copy of a statement; what the check finds.
async fn altered(directory: &Path, key: &str, statement: &Value, at: &str, value: Value) -> Vec<String> {
    let mut changed = statement.clone();
    let place = changed.pointer_mut(at).unwrap_or_else(|| panic!("no {at}"));
    assert_ne!(*place, value, "{at} is changed");
    *place = value;
    std::fs::write(directory.join("altered.json"), changed.to_string()).expect("written");
    finds(directory, &["statement", "verify", "altered.json", "--key", key]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_gateway_charged_is_what_statements_vouchers_and_the_chain_say() {
    let (chain, upstream) = (Chain::start().await, Upstream::start().await);
    let mut gateway = Gateway::start_with(&chain, &upstream, "").await;
    let directory = tempfile::tempdir().expect("a directory");
    let directory = directory.path();
    let rpc = chain.anvil.url();
    let seed = rand_seed();
    println!("seed {seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);

    // Two payers with two channels each; deliveries that end, and some that fail and cost nothing; a kill now and then.
    let call = gateway.url("/call");
    let mut payers = Vec::new();
    for (account, salt) in [(PAYER, 1), (PAYER, 2), (PAYER + 1, 3), (PAYER + 1, 4)] {
        let payer = Payer::new(&chain, account, salt, &call).await;
        let answer = payer.send(&call, &payer.deposit_header(1_000, 100_000, 1)).await.expect("answered");
        assert_eq!((answer.status, answer.charged_total()), (StatusCode::OK, Some(1_000)), "{answer:?}");
        payers.push((account, payer, 1_000_u128));
    }
    for round in 0..40 {
        let at = usize::try_from(random.next_u32() % 4).expect("small");
        let (_, payer, charged) = &mut payers[at];
        let fails = random.next_u32() % 4 == 0;
        let url = gateway.url(if fails { "/broken" } else { "/call" });
        let answer = payer.send(&url, &payer.header(*charged + 1_000)).await.expect("answered");
        assert_eq!(answer.status.is_success(), !fails, "round {round}: {answer:?}");
        *charged += if fails { 0 } else { 1_000 };
        if round % 13 == 12 {
            gateway.kill();
            gateway.restart().await;
        }
    }
    let admin = gateway.admin_url("");
    let key = succeeds(directory, &["receipt", "key", "--admin", &admin]).await["key"].as_str().expect("a key").to_owned();
    let total: u128 = payers.iter().map(|(_, _, charged)| charged).sum();

    // The sums of the statements are what was charged, and everything is claimed in the end, to the base unit.
    let mut statements = Vec::new();
    for account in [PAYER, PAYER + 1] {
        let payer = DEV_ACCOUNTS[account].address.to_string();
        let statement = exported(directory, &admin, &key, &payer, &format!("payer-{account}")).await;
        let own: u128 = payers.iter().filter(|(of, ..)| *of == account).map(|(_, _, charged)| charged).sum();
        assert_eq!(paid(&statement), own);
        statements.push(statement);
    }
    let reconcile = ["statement", "reconcile", "--admin", &admin, "--rpc", &rpc];
    let mut reconciled = Value::Null;
    wait_for("everything to be claimed", async || {
        reconciled = succeeds(directory, &reconcile).await;
        reconciled["totals"][0]["outstanding"] == "0"
    })
    .await;
    assert_eq!(reconciled["totals"][0]["chain"], total.to_string(), "{reconciled}");
    assert_eq!((reconciled["payers"].as_u64(), reconciled.get("tallies")), (Some(2), None), "{reconciled}");
    assert_eq!(reconciled["accounts"].as_array().map(Vec::len), Some(4));

    // A receipt holds with the key alone, and with no other.
    let receipt = succeeds(directory, &["receipt", "show", "rcp_0000000000000003", "--admin", &admin, "--out", "receipt.json"]).await;
    assert_eq!(receipt["entry"]["charge"]["amount"], "1000");
    let verdict = succeeds(directory, &["receipt", "verify", "receipt.json", "--key", &key]).await;
    assert_eq!((&verdict["durability"], &verdict["evidence"]["route"]), (&"synced".into(), &"/*".into()), "{verdict}");
    let (status, ..) = millstream(directory, &["receipt", "verify", "receipt.json", "--key", &Address::ZERO.to_string()]).await;
    assert_eq!(status, 5);
    let (status, _, error) = millstream(directory, &["receipt", "show", "1000000", "--admin", &admin]).await;
    assert!(status == 3 && error.contains("no_such_charge"), "{status}: {error}");

    // One altered row, voucher, proof or line is found, and named.
    let statement = &statements[0];
    let named = async |at: &str, value: &str, name: &str| {
        let findings = altered(directory, &key, statement, at, value.into()).await;
        assert!(findings.iter().any(|finding| finding.contains(name)), "{at}: {findings:?}");
    };
    let first = statement["accounts"][0]["rows"][0]["entry"]["charge"]["sequence"].as_u64().expect("a number");
    named("/accounts/0/rows/0/entry/charge/amount", "999", &format!("row 1 (charge {first})")).await;
    let path = Value::from(vec![format!("0x{}", "11".repeat(32))]);
    let findings = altered(directory, &key, statement, "/accounts/0/rows/1/path", path).await;
    assert!(findings.iter().any(|finding| finding.contains("row 2")), "{findings:?}");
    named("/accounts/1/voucher/escrow/cumulative", "1", "the voucher is over 1").await;
    named("/accounts/1/voucher/escrow/signer", &Address::ZERO.to_string(), "the voucher does not hold").await;
    named("/accounts/1/closing", "7", "the closing total is 7").await;
    named("/batches/0/batch/root", &format!("0x{}", "22".repeat(32)), "batch ").await;
    let csv = std::fs::read_to_string(directory.join(format!("payer-{PAYER}.csv"))).expect("written");
    std::fs::write(directory.join("altered.csv"), csv.replacen(",1000,", ",1001,", 1)).expect("written");
    let json = format!("payer-{PAYER}.json");
    let findings = finds(directory, &["statement", "verify", &json, "--key", &key, "--csv", "altered.csv"]).await;
    assert!(findings.len() == 1 && findings[0].starts_with("line 2 of the CSV"), "{findings:?}");
    let page = std::fs::read_to_string(directory.join(format!("payer-{PAYER}.html"))).expect("written");
    assert!(page.starts_with("<!doctype html>") && page.contains(&DEV_ACCOUNTS[PAYER].address.to_string()) && !page.contains("http"));
    gateway.stop().await;
}

fn rand_seed() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("randomness");
    u64::from_be_bytes(bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_ledger_billed_is_what_statements_vouchers_and_the_chain_say() {
    let net = Net::start().await;
    let opening = net.open(&secret(21), 9, 2_000_000).await;
    let connection = net.connect().await;
    let mut payer = RawPayer::new(&connection, secret(21), net.dev.ledger.id(), opening.channel).await;
    payer.attach().await;
    for amounts in [&[10, 20, 30][..], &[40], &[50, 60]] {
        payer.pay(amounts).await;
    }
    net.admin.seal_epoch().await.expect("sealed");
    payer.pay(&[70, 80]).await;
    let (directory, info) = (net.directory.path(), net.dev.info());
    let (admin, rpc) = (info.admin_url.clone(), info.rpc_url.clone());
    let key = succeeds(directory, &["receipt", "key", "--admin", &admin]).await["key"].as_str().expect("a key").to_owned();
    let account = info.buyer.to_string();

    // Rows of the sealed epoch and of the open one; all of it outstanding.
    let statement = exported(directory, &admin, &key, &account, "ledger").await;
    let rows = statement["accounts"][0]["rows"].as_array().expect("rows");
    assert_eq!((rows.len(), rows.iter().filter(|row| row.get("place").is_some()).count()), (4, 3), "{statement}");
    assert_eq!((&statement["accounts"][0]["opening"], &statement["accounts"][0]["closing"]), (&"0".into(), &"360".into()));
    let reconcile = ["statement", "reconcile", "--admin", &admin, "--rpc", &rpc];
    let before = succeeds(directory, &reconcile).await;
    assert_eq!((&before["totals"][0]["usage"], &before["totals"][0]["chain"]), (&"360".into(), &"0".into()), "{before}");

    // Settled and anchored: nothing is outstanding, and the statement's root is the chain's.
    net.admin.settle_run().await.expect("settled");
    let after = succeeds(directory, &reconcile).await;
    assert_eq!((&after["totals"][0]["chain"], &after["totals"][0]["outstanding"]), (&"360".into(), &"0".into()), "{after}");
    let verdict = succeeds(directory, &["statement", "verify", "ledger.json", "--key", &key, "--rpc", &rpc]).await;
    assert_eq!((verdict["anchored"].as_u64(), verdict["unanchored"].as_u64()), (Some(1), Some(0)), "{verdict}");

    // Each line has a receipt, in the open epoch and in the anchored one.
    let channel = opening.channel.to_string();
    for (line, amount) in [(0, "10"), (3, "40"), (7, "80")] {
        let line = line.to_string();
        let show = ["receipt", "show", "--admin", &admin, "--channel", &channel, "--line", &line, "--out", "line.json"];
        succeeds(directory, &show).await;
        let verdict = succeeds(directory, &["receipt", "verify", "line.json", "--key", &key]).await;
        assert_eq!((&verdict["amount"], verdict["number"].to_string()), (&amount.into(), line), "{verdict}");
    }

    let named = async |at: &str, value: &str, name: &str| {
        let findings = altered(directory, &key, &statement, at, value.into()).await;
        assert!(findings.iter().any(|finding| finding.contains(name)), "{at}: {findings:?}");
    };
    named("/accounts/0/rows/1/entry/frame/cumulative_after", "101", "row 2 (lines 3 to 3)").await;
    named("/accounts/0/rows/2/place/path/0/hash", &format!("0x{}", "33".repeat(32)), "row 3").await;
    named("/accounts/0/voucher/ledger/cumulative", "359", "the voucher").await;
    named("/epochs/0/root", &format!("0x{}", "44".repeat(32)), "epoch 0").await;
}
