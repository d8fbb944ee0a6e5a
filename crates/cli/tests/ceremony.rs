//! A ceremony as people type it: start, two participants, a beacon, a check, a key. And what each command refuses.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use millstream_ceremony::insecure_powers::{Prepared, write_insecure_powers};
use serde_json::Value;

/// Runs `millstream ceremony ARGUMENTS` in a directory and gives back its exit status and its JSON: the result, or the error.
fn run(directory: &Path, arguments: &str, input: &str) -> (i32, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command.arg("ceremony").args(arguments.split_whitespace()).current_dir(directory);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the command starts");
    // A command that reads nothing may have closed its input.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("the command ends");
    let status = output.status.code().expect("an exit status");
    let text = if status == 0 { output.stdout } else { output.stderr };
    let json = serde_json::from_slice(&text);
    (status, json.unwrap_or_else(|error| panic!("{arguments}: {error} in {}", String::from_utf8_lossy(&text))))
}

fn succeeds(directory: &Path, arguments: &str, input: &str) -> Value {
    let (status, json) = run(directory, arguments, input);
    assert_eq!(status, 0, "{arguments}: {json}");
    json
}

fn fails(directory: &Path, arguments: &str, status: i32, code: &str) {
    let (found, json) = run(directory, arguments, "");
    assert_eq!((found, json["error"]["code"].as_str()), (status, Some(code)), "{arguments}: {json}");
}

#[test]
fn from_powers_of_tau_to_a_pinned_key() {
    let directory = tempfile::tempdir().expect("a directory");
    let directory = directory.path();
    let hash = write_insecure_powers(&directory.join("p.ptau"), 12, &[1; 32], Prepared::Yes).expect("written");
    let subject = format!("register-1 --powers p.ptau --powers-hash {hash}");
    let of = |command: &str, rest: &str| format!("{command} {subject} {rest}");

    fails(directory, "start register-1 --powers p.ptau 0.zkey", 5, "powers_not_pinned");
    fails(directory, &of("start", "0.zkey").replace("register-1", "settle-1"), 2, "too_few_powers");
    let started = succeeds(directory, &of("start", "0.zkey --r1cs c.r1cs"), "");
    assert_eq!((&started["circuit"], &started["powers_hash"]), (&"register-1".into(), &hash.to_string().into()));
    fails(directory, &of("start", "0.zkey"), 2, "file_exists");

    let first = succeeds(directory, "contribute 0.zkey 1.zkey --name Ada --entropy -", "a dice roll: 5 2 6 1");
    let second = succeeds(directory, "contribute 1.zkey 2.zkey", "");
    assert_eq!(first["circuit_hash"], started["circuit_hash"]);
    fails(directory, "contribute 1.zkey 2.zkey", 2, "file_exists");
    fails(directory, "contribute 1.zkey 3.zkey --entropy -", 2, "entropy_file");
    fails(directory, "contribute p.ptau 3.zkey", 5, "malformed_file");
    fails(directory, "contribute none.zkey 3.zkey", 1, "file");
    let beacon = succeeds(directory, "beacon 2.zkey 3.zkey --value 0xbeac0000 --iterations-log2 10 --name drand", "");
    fails(directory, "contribute 3.zkey 4.zkey", 2, "ceremony_closed");
    fails(directory, &of("finish", "2.zkey keys"), 5, "ceremony_unfinished");
    assert!(!directory.join("keys").exists() && !directory.join("4.zkey").exists());

    let verified = succeeds(directory, &of("verify", "3.zkey --transcript t.json"), "");
    assert_eq!(verified["finished"], true);
    let hashes: Vec<_> = verified["contributions"].as_array().expect("a list").iter().map(|one| one["hash"].clone()).collect();
    assert_eq!(hashes, [first["hash"].clone(), second["hash"].clone(), beacon["hash"].clone()]);
    assert_eq!(verified["contributions"][0]["name"], "Ada");
    let finished = succeeds(directory, &of("finish", "3.zkey keys"), "");
    assert_eq!(finished["key_hash"], verified["verifying_key_hash"]);
    assert!(finished["pin"].as_str().expect("text").contains(finished["key_hash"].as_str().expect("text")));
    assert_eq!(
        fs::read(directory.join("t.json")).expect("written"),
        fs::read(directory.join("keys/register-1.transcript.json")).expect("written")
    );

    // A byte of somebody's contribution.
    let mut bent = fs::read(directory.join("3.zkey")).expect("readable");
    let at = bent.len() - 40;
    bent[at] ^= 1;
    fs::write(directory.join("bent.zkey"), bent).expect("writable");
    fails(directory, &of("verify", "bent.zkey"), 5, "ceremony_does_not_hold");
}
