//! The commands as somebody types them, from opening a channel to the refund.

mod common;

use std::io::Write;
use std::process::{Command, Stdio};

use common::Net;
use serde_json::Value;

/// Runs `millstream ARGUMENTS` with the network's profile and gives back its exit status and its JSON: the result, or the error.
fn run(net: &Net, arguments: &str, input: &str) -> (i32, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command
        .arg("--profile")
        .arg(net.dev.info().profile)
        .args(arguments.split_whitespace())
        .current_dir(net.directory.path());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the command starts");
    // A command that reads nothing may have closed its input.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("the command ends");
    let status = output.status.code().expect("an exit status");
    let text = if status == 0 { output.stdout } else { output.stderr };
    let text = String::from_utf8(text).expect("text");
    let json = text
        .lines()
        .position(|line| line.starts_with(['{', '[']))
        .map(|start| text.lines().skip(start).collect::<Vec<_>>().join("\n"));
    let json = json.unwrap_or_else(|| panic!("{arguments}: no JSON in {text}"));
    (status, serde_json::from_str(&json).unwrap_or_else(|error| panic!("{arguments}: {error} in {json}")))
}

fn succeeds(net: &Net, arguments: &str, input: &str) -> Value {
    let (status, json) = run(net, arguments, input);
    assert_eq!(status, 0, "{arguments}: {json}");
    json
}

fn fails(net: &Net, arguments: &str, status: i32) -> Value {
    let (actual, json) = run(net, arguments, "");
    assert_eq!(actual, status, "{arguments}: {json}");
    assert!(json["error"]["code"].is_string() && json["error"]["message"].is_string(), "{arguments}: {json}");
    json
}

#[tokio::test(flavor = "multi_thread")]
async fn from_opening_a_channel_to_its_refund() {
    let net = Net::start().await;
    let opened = succeeds(&net, "channel open --deposit 2", "");
    let channel = opened["channel"].as_str().expect("an id").to_owned();

    // 1,000 payments of 150 nanos, then two from standard input, one with a reference of the payer's own.
    succeeds(&net, "pay --amount 0.00000015 --count 1000", "");
    succeeds(&net, "pay", "0.5\n0.25,00000000000000000000000000000007\n");
    let total = "750150000";
    let row = &succeeds(&net, "channel list", "")[0];
    assert_eq!(row["channel"], channel.as_str(), "{row}");
    let status = succeeds(&net, "status", "");
    assert_eq!((&status["channels"]["lines"], &status["channels"]["accepted"]), (&1_002.into(), &total.into()));

    // More than the deposit is refused before anything is signed.
    fails(&net, "pay --amount 1.5 --count 1", 3);
    fails(&net, "pay --amount 0.0000000001 --count 1", 2);
    assert_eq!(succeeds(&net, "status", "")["channels"]["accepted"], total);
    succeeds(&net, &format!("channel topup {channel} --amount 1"), "");
    net.wait_for("the node to count the top-up", async || {
        net.admin.status().await.expect("status").channels.deposited.units() == 3_000_000_000
    })
    .await;

    // The plan says what the run does.
    let plan = succeeds(&net, "settle plan", "");
    assert_eq!((&plan["register"][0]["opens"], &plan["register"][0]["top_ups"]), (&1.into(), &1.into()), "{plan}");
    let settled = succeeds(&net, "settle run", "");
    assert_eq!(settled["settled_total"], total, "{settled}");
    let provider = net.dev.info().provider;
    assert_eq!(net.dev.ledger.credit(provider).await.expect("a credit").to_string(), total);

    // A proof holds against the chain, and not when it is changed.
    succeeds(&net, &format!("proof make --channel {channel} --line 1001 --out proof.json"), "");
    assert_eq!(succeeds(&net, "proof verify proof.json", "")["holds"], true);
    let file = net.directory.path().join("proof.json");
    let proof = std::fs::read_to_string(&file).expect("the proof");
    assert!(proof.contains("250000000"), "{proof}");
    std::fs::write(&file, proof.replace("250000000", "250000001")).expect("the file is ours");
    let (status, _) = run(&net, "proof verify proof.json", "");
    assert_eq!(status, 5);
    fails(&net, &format!("proof make --channel {channel} --line 1002"), 3);

    // Closing refunds what was not paid.
    succeeds(&net, &format!("channel close {channel}"), "");
    net.wait_for("the node to see the close", async || net.admin.channels().await.expect("channels")[0].status == "closing")
        .await;
    succeeds(&net, "settle run", "");
    let withdrawn = succeeds(&net, "channel withdraw", "");
    // 3 USDC less 0.75015, in nanos.
    assert_eq!(withdrawn["paid"], "2249850000", "{withdrawn}");
    fails(&net, "pay --amount 0.1 --count 1", 3);
}
