//! `kill -9` in the middle of a replay, on either side: the same totals, nothing lost, nothing twice.

mod common;

use std::process::{Command, Stdio};
use std::sync::Arc;

use common::Net;
use millstream_cli::error::CliResult;
use millstream_cli::profile::Profile;
use millstream_cli::replay::{self, ReplayArgs, ReplayProgress, ReplayReport, ReplaySession};
use millstream_types::Amount;

async fn replay_all(profile: &Profile, payments: u64) -> CliResult<ReplayReport> {
    let arguments = ReplayArgs {
        trace: None,
        channels: 8,
        speed: None,
        sign_every: 64,
        seed: 0,
        payments: Some(payments),
        price_context: "0.15".to_owned(),
        price_generated: "0.60".to_owned(),
        settle: false,
    };
    let session = ReplaySession::open(profile, false).await?;
    replay::run(&session, &arguments.options()?, &Arc::new(ReplayProgress::new()?)).await
}

/// Settles everything and compares the provider's credit with what the payments cost.
async fn assert_settled_exactly(net: &Net, priced_total: Amount, payments: u64) {
    let status = net.admin.status().await.expect("status");
    assert_eq!((status.channels.lines, status.channels.accepted), (payments, priced_total));
    let run = net.admin.settle_run().await.expect("the settlement runs");
    assert_eq!(run.settled_total, priced_total);
    let credit = net.dev.ledger.credit(net.dev.info().provider).await.expect("a credit");
    assert_eq!(credit, priced_total);
}

async fn accepted_lines(net: &Net) -> u64 {
    // A node that is down has nothing to say.
    net.admin.status().await.map_or(0, |status| status.channels.lines)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_killed_in_the_middle_of_a_replay_ends_with_the_same_totals() {
    const PAYMENTS: u64 = 1_500_000;
    let mut net = Net::start().await;
    let profile = net.dev.profile.clone();
    let replaying = tokio::spawn(async move { replay_all(&profile, PAYMENTS).await });
    for part in 1..=3 {
        net.wait_for("payments to flow", async || accepted_lines(&net).await > PAYMENTS / 5 * part || replaying.is_finished())
            .await;
        net.dev.node.kill().expect("the node dies");
        let before = std::time::Instant::now();
        net.dev.node.restart().expect("the node starts again");
        assert!(before.elapsed().as_secs() < 20);
    }
    let report = replaying.await.expect("no panic").expect("the replay ends");
    assert!(report.reconnects >= 1, "the node was killed while payments flowed");
    assert_eq!(report.voucher_total, report.priced_total);
    assert_settled_exactly(&net, report.priced_total, report.payments).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payer_killed_in_the_middle_of_a_replay_resumes_where_it_was() {
    const PAYMENTS: u64 = 1_000_000;
    let net = Net::start().await;
    let arguments = ["--quiet", "--json", "replay", "--channels", "8", "--sign-every", "64", "--payments"];
    let start = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
        command.arg("--profile").arg(net.dev.info().profile).args(arguments).arg(PAYMENTS.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the replay starts")
    };
    for part in 1..=2 {
        let mut replaying = start();
        net.wait_for("payments to flow", async || {
            accepted_lines(&net).await > PAYMENTS / 4 * part || replaying.try_wait().expect("its state").is_some()
        })
        .await;
        // It may have ended already, on a fast machine.
        let _ = replaying.kill();
        replaying.wait().expect("the payer is gone");
    }
    let last = start().wait_with_output().expect("the replay ends");
    assert!(last.status.success(), "{}", String::from_utf8_lossy(&last.stderr));
    let report: serde_json::Value = serde_json::from_slice(&last.stdout).expect("JSON");
    let number = |name: &str| report[name].as_u64().expect("a number");
    let amount = |name: &str| report[name].as_str().expect("an amount").parse::<Amount>().expect("decimal");
    assert!(number("payments_before") > 0, "{report}");
    assert_eq!(amount("voucher_total"), amount("priced_total"));
    assert_settled_exactly(&net, amount("priced_total"), number("payments_before") + number("payments")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_killed_in_the_middle_of_a_settlement_settles_everything_once() {
    const PAYMENTS: u64 = 20_000;
    let mut net = Net::start().await;
    let report = replay_all(&net.dev.profile, PAYMENTS).await.expect("the replay ends");
    let provider = net.dev.info().provider;

    // Once while it proves, once with the channels registered, once with the settlement mined and perhaps not yet seen.
    for moment in 0..3 {
        let admin = net.admin.clone();
        let running = tokio::spawn(async move { admin.settle_run().await });
        net.wait_for("the settlement to get there", async || {
            let there = match moment {
                0 => net.admin.status().await.expect("status").settlement.running,
                1 => net.admin.status().await.expect("status").queue.unserved == 0,
                _ => !net.dev.ledger.credit(provider).await.expect("a credit").is_zero(),
            };
            there || running.is_finished()
        })
        .await;
        net.dev.node.kill().expect("the node dies");
        // It ended with the node, or before it.
        let _ = running.await.expect("no panic");
        net.dev.node.restart().expect("the node starts again");
    }
    net.admin.settle_run().await.expect("the rest is settled");
    let credit = net.dev.ledger.credit(provider).await.expect("a credit");
    assert_eq!(credit, report.priced_total);
    let status = net.admin.status().await.expect("status");
    assert_eq!((status.channels.settled, status.channels.accepted), (report.priced_total, report.priced_total));
    assert!(status.unanchored_epochs.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_proof_outlives_its_node() {
    let mut net = Net::start().await;
    replay_all(&net.dev.profile, 10_000).await.expect("the replay ends");
    net.admin.settle_run().await.expect("the channels are registered and settled");
    let report = replay_all(&net.dev.profile, 20_000).await.expect("the replay goes on");

    // The replay has topped its channels up. Nothing is mined, so their registration gets as far as the pool, and is thrown out of it after
    // its node is dead.
    let chain = |method: &str, parameters: serde_json::Value| {
        tokio::task::block_in_place(|| net.dev.anvil.call(method, &parameters)).expect("anvil answers");
    };
    chain("evm_setAutomine", serde_json::json!([false]));
    let admin = net.admin.clone();
    let running = tokio::spawn(async move { admin.settle_run().await });
    let proofs = net.directory.path().join("node").join("proofs");
    net.wait_for("the proof", async || std::fs::read_dir(&proofs).is_ok_and(|mut files| files.next().is_some())).await;
    net.dev.node.kill().expect("the node dies");
    assert!(running.await.expect("no panic").is_err(), "nothing was mined");
    chain("anvil_dropAllTransactions", serde_json::json!([]));
    chain("evm_setAutomine", serde_json::json!([true]));

    net.dev.node.restart().expect("the node starts again");
    let run = net.admin.settle_run().await.expect("the settlement runs");
    assert_eq!(run.transactions.iter().map(|transaction| transaction.kind.as_str()).collect::<Vec<_>>(), ["register", "settle"]);
    let credit = net.dev.ledger.credit(net.dev.info().provider).await.expect("a credit");
    assert_eq!(credit, report.voucher_total);
    let metrics = reqwest::get(format!("{}/metrics", net.dev.info().admin_url)).await.expect("metrics").text().await.expect("text");
    assert!(metrics.contains("millstream_prove_seconds_count 1"), "only the settlement was proved:\n{metrics}");
    assert_eq!(std::fs::read_dir(&proofs).expect("a directory").count(), 0);
}
