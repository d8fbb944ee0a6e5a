//! Leaving and looking from outside, as somebody types it: the provider's node is killed first.

mod common;

use std::process::Command;

use common::{Net, RawPayer, secret};
use serde_json::Value;

/// Runs `millstream ARGUMENTS` with the network's profile: exit status, standard output, and the error's JSON when there is one.
fn run(net: &Net, arguments: &str) -> (i32, Value, Value) {
    let output = Command::new(env!("CARGO_BIN_EXE_millstream"))
        .arg("--profile")
        .arg(net.dev.info().profile)
        .args(arguments.split_whitespace())
        .current_dir(net.directory.path())
        .output()
        .expect("the command runs");
    let json = |bytes: &[u8]| serde_json::from_slice(bytes).unwrap_or(Value::Null);
    let error = String::from_utf8_lossy(&output.stderr);
    let error = error.lines().find(|line| line.starts_with('{')).map_or(Value::Null, |line| json(line.as_bytes()));
    (output.status.code().expect("an exit status"), json(&output.stdout), error)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payer_leaves_when_the_node_is_dead() {
    let mut net = Net::start().await;
    let opening = net.open(&secret(1), 1, 3_000_000).await;
    let connection = net.connect().await;
    let mut payer = RawPayer::new(&connection, secret(1), net.dev.ledger.id(), opening.channel).await;
    payer.attach().await;
    payer.pay(&[750_000_000, 7]).await;
    net.admin.settle_run().await.expect("settled");
    // More is paid, and never settled: the provider is gone.
    payer.pay(&[1_000_000_000]).await;
    net.dev.node.kill().expect("the node dies");

    let (status, audit, _) = run(&net, "ledger audit");
    assert_eq!((status, &audit["is_sound"], &audit["totals"]["settled"]), (0, &true.into(), &"750000007".into()), "{audit}");
    let (status, waiting, error) = run(&net, "channel exit");
    assert_eq!((status, &error["error"]["code"]), (4, &"exit_waits".into()), "{waiting} {error}");
    let expected = "2249999993";
    assert_eq!((&waiting["state"], &waiting["expected"]), (&"waiting".into(), &expected.into()));

    net.dev.anvil.advance_secs(86_401).expect("advanced");
    let (status, _, error) = run(&net, "ledger audit");
    assert_eq!((status, &error["error"]["code"]), (5, &"audit_findings".into()), "{error}");
    let balance = async || net.payer.balance().await.expect("a balance");
    let before = balance().await;
    let (status, left, error) = run(&net, "channel exit");
    assert_eq!(status, 0, "{error}");
    assert_eq!((&left["state"], &left["ended_by"], &left["refunded"]), (&"left".into(), &"own_proof".into(), &expected.into()), "{left}");
    assert_eq!((&left["paid_base_units"], &left["credit_left"]), (&2_249_999.into(), &"993".into()));
    assert_eq!(balance().await, before + 2_249_999);
    let channel = opening.channel.to_string();
    let (status, again, _) = run(&net, &format!("channel exit --channel {channel}"));
    assert_eq!((status, &again["paid_base_units"]), (0, &0.into()), "{again}");
    let (status, _, error) = run(&net, "channel exit");
    assert_eq!((status, &error["error"]["code"]), (3, &"no_channel".into()));

    // The rebuilt ledger, from the command line's own words and into a file.
    let (rpc, ledger) = (net.dev.info().rpc_url, net.dev.info().ledger);
    let (status, summary, error) = run(&net, &format!("ledger rebuild --rpc {rpc} --ledger {ledger} --out books.json"));
    assert_eq!((status, &summary["channels_rebuilt"]), (0, &1.into()), "{error}");
    let file = std::fs::read(net.directory.path().join("books.json")).expect("written");
    let books: Value = serde_json::from_slice(&file).expect("JSON");
    assert_eq!((&books["channels"][0]["status"], &books["channels"][0]["refunded"]), (&"closed".into(), &expected.into()));
    assert_eq!((&books["books"][0]["book"], &books["books"][0]["occupied"]), (&"0:0".into(), &0.into()));
    let (status, _, error) = run(&net, "ledger rebuild --from-block 1000000");
    assert_ne!(status, 0, "{error}");
}

/// The last resort: nothing is served for so long that anyone may halt the ledger; then everybody leaves by Merkle paths.
#[tokio::test(flavor = "multi_thread")]
async fn a_payer_leaves_a_ledger_that_was_left_unserved() {
    let mut net = Net::start().await;
    let opening = net.open(&secret(1), 1, 3_000_000).await;
    let connection = net.connect().await;
    let mut payer = RawPayer::new(&connection, secret(1), net.dev.ledger.id(), opening.channel).await;
    payer.attach().await;
    payer.pay(&[750_000_000, 7]).await;
    net.admin.settle_run().await.expect("settled");
    // In no book, and it never will be.
    let queued = net.open(&secret(2), 2, 1_000_000).await;
    net.dev.node.kill().expect("the node dies");

    let refusal = |arguments| {
        let (status, _, error) = run(&net, arguments);
        (status, error["error"]["code"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(refusal("ledger leave --halt"), (4, "not_halted".to_owned()));
    net.dev.anvil.advance_secs(7 * 86_400 + 1).expect("advanced");
    assert_eq!(refusal("ledger leave"), (3, "halt_not_wanted".to_owned()));

    let balance = async || net.payer.balance().await.expect("a balance");
    let before = balance().await;
    let (status, left, error) = run(&net, "ledger leave --halt");
    assert_eq!(status, 0, "{error}");
    let of = |channel: millstream_types::ChannelId| {
        let channel = channel.to_string();
        let found = left.as_array().expect("a list").iter().find(|view| view["channel"] == channel);
        found.unwrap_or_else(|| panic!("{channel} is not in {left}"))
    };
    let (booked, cancelled) = (of(opening.channel), of(queued.channel));
    assert_eq!((&booked["state"], &booked["ended_by"], &booked["refunded"]), (&"left".into(), &"halt".into(), &"2249999993".into()));
    assert_eq!((&cancelled["ended_by"], &cancelled["refunded"]), (&"cancelled".into(), &"1000000000".into()), "{cancelled}");
    assert_eq!(balance().await, before + 2_249_999 + 1_000_000);
    // There is nothing to take twice.
    let (status, again, error) = run(&net, "ledger leave");
    assert_eq!((status, &again), (0, &Value::Array(Vec::new())), "{error}");
    assert_eq!(balance().await, before + 3_249_999);
}
