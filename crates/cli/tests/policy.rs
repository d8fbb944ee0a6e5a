//! Orders to a payer's policy from the command line: what they answer, and with which exit status.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

const PROFILE: &str = "
    [payer]
    key_file = 'payer.key'
    [http]
    [[http.asset]]
    chain_id = 31337
    token = '0x036CbD53842c5426634e7929541eC2318f3dCF7e'
    symbol = 'tUSDC'
    decimals = 6
    [policy]
    approval_above = ['1 tUSDC']
    [[policy.budget]]
    name = 'agent-day'
    max = '2 tUSDC'
    window = 'day'
    per = ['agent']";

fn write(directory: &Path, profile: &str) {
    std::fs::write(directory.join("profile.toml"), profile).expect("written");
    let key = directory.join("payer.key");
    std::fs::write(&key, "11".repeat(32)).expect("written");
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("private");
}

/// Exit status, and the document of standard output or, of a failure, of standard error.
fn policy(directory: &Path, arguments: &[&str]) -> (i32, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command.arg("policy").args(arguments).arg("--json").arg("--profile").arg(directory.join("profile.toml"));
    let output = command.env_remove("MILLSTREAM_PROFILE").stdin(Stdio::null()).output().expect("the binary runs");
    let text = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.code().expect("no signal"), serde_json::from_slice(&text).expect("JSON"))
}

#[test]
fn orders_are_carried_out_and_outlive_the_command() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    write(path, PROFILE);
    assert_eq!(policy(path, &["pause", "agent=research", "--reason", "runaway"]).0, 0);
    let (status, shown) = policy(path, &["show"]);
    assert_eq!(status, 0);
    let pause = &shown["pauses"][0];
    assert_eq!((&pause["scope"], &pause["why"], &pause["breaker"]), (&json!("agent=research"), &json!("runaway"), &Value::Null));
    assert_eq!(policy(path, &["resume", "agent=research"]).0, 0);
    assert_eq!(policy(path, &["show"]).1["pauses"], json!([]));

    let (status, given) =
        policy(path, &["grant", "--from", "boss", "--to", "child", "--up-to", "0.5 tUSDC", "--route", "*.example", "--expires-in", "60"]);
    assert_eq!((status, given["grants"].as_array().map(Vec::len)), (0, Some(1)), "{given}");
    let number = given["grants"][0].to_string();
    let grant = policy(path, &["show"]).1["grants"][0].clone();
    assert_eq!((&grant["child"], &grant["max"], &grant["state"]), (&json!("child"), &json!("500000"), &json!("live")));
    assert_eq!(policy(path, &["revoke", &number]).0, 0);
    assert_eq!(policy(path, &["show"]).1["grants"][0]["state"], "revoked");
    assert_eq!(policy(path, &["approvals"]), (0, json!([])));
    assert_eq!(policy(path, &["decisions"]), (0, json!([])));
}

#[test]
fn orders_that_cannot_be_say_so_by_code_and_status() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    write(path, PROFILE);
    let check = |arguments: &[&str], status: i32, code: &str| {
        let (actual, document) = policy(path, arguments);
        assert_eq!((actual, &document["error"]["code"]), (status, &json!(code)), "{arguments:?}: {document}");
    };
    check(&["pause", "team=a"], 2, "policy_order");
    check(&["explain", "7"], 2, "policy_order");
    check(&["grant", "--from", "a", "--to", "b", "--up-to", "5 DAI"], 2, "policy_order");
    check(&["grant", "--from", "a", "--to", "a", "--up-to", "1 tUSDC"], 3, "policy_order_refused");
    check(&["approve", "7"], 3, "policy_order_refused");
    check(&["deny", "7"], 3, "policy_order_refused");
    check(&["revoke", "7"], 3, "policy_order_refused");
    check(&["resume"], 3, "policy_order_refused");
    check(&["show", "--gateway", "http://10.0.0.1:4403"], 2, "gateway");
    check(&["show", "--gateway", "http://127.0.0.1:1"], 4, "admin_unavailable");
    write(path, &PROFILE.replace("2 tUSDC", "2 DAI"));
    check(&["show"], 2, "policy_invalid");
}
