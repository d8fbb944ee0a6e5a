//! A running node takes a changed file, by SIGHUP or the admin listener, and keeps what it has when the file is wrong.

mod common;

use std::process::{Command, Stdio};

use common::Net;
use serde_json::Value;

fn reload(net: &Net) -> (i32, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command.arg("--profile").arg(net.dev.info().profile).args(["config", "reload"]).stdin(Stdio::null());
    let output = command.output().expect("it runs");
    let status = output.status.code().expect("a status");
    let text = String::from_utf8(if status == 0 { output.stdout } else { output.stderr }).expect("text");
    (status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
}

async fn relays(net: &Net) -> bool {
    net.admin.status().await.expect("status").relay.expect("it relays").enabled
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_is_taken_whole_or_not_at_all() {
    let net = Net::start().await;
    let path = net.dev.info().node_config;
    let good = std::fs::read_to_string(&path).expect("text");
    let write = |change: &dyn Fn(&mut toml::Table)| {
        let mut table: toml::Table = good.parse().expect("TOML");
        change(&mut table);
        std::fs::write(&path, toml::to_string(&table).expect("TOML")).expect("written");
    };
    let nothing: &[&str] = &[];
    assert_eq!(reload(&net), (0, serde_json::json!({ "changed": nothing })));
    assert!(relays(&net).await);

    // By the admin listener.
    write(&|table| table["relay"]["enabled"] = false.into());
    assert_eq!(reload(&net), (0, serde_json::json!({ "changed": ["relay.enabled"] })));
    assert!(!relays(&net).await);

    // What is wrong, or cannot change, changes nothing of what could.
    for (change, word) in [
        (&(|table: &mut toml::Table| table["limits"]["connections_max"] = 7.into()) as &dyn Fn(&mut toml::Table), "limits.connections_max"),
        (&|table: &mut toml::Table| table["settlement"]["gas_percent_max"] = 0.into(), "settlement.gas_percent_max"),
        (&|table: &mut toml::Table| drop(table.insert("retries".to_owned(), 3.into())), "retries"),
    ] {
        write(change);
        let (status, answer) = reload(&net);
        assert!(status != 0 && answer["error"]["message"].as_str().expect("a message").contains(word), "{answer}");
        assert!(!relays(&net).await, "{word}");
    }

    // By the signal.
    write(&|_| {});
    assert!(Command::new("kill").args(["-HUP", &net.dev.info().node_pid.to_string()]).status().expect("kill").success());
    net.wait_for("the node to relay again", async || relays(&net).await).await;
}
