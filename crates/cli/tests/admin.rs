//! The admin listener of a running node: changed files are taken whole or not at all, and tokens allow what their scope does.

mod common;

use std::process::{Command, Stdio};

use common::Net;
use serde_json::Value;

/// Runs a command with the network's profile, and with a token if there is one.
fn run(net: &Net, arguments: &[&str], token: Option<&str>) -> (i32, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command
        .arg("--profile")
        .arg(net.dev.info().profile)
        .args(arguments)
        .current_dir(net.directory.path())
        .stdin(Stdio::null());
    command.envs(token.map(|token| ("MILLSTREAM_ADMIN_TOKEN", token)));
    let output = command.output().expect("it runs");
    let status = output.status.code().expect("a status");
    let text = String::from_utf8(if status == 0 { output.stdout } else { output.stderr }).expect("text");
    (status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}")))
}

fn reload(net: &Net) -> (i32, Value) {
    run(net, &["config", "reload"], None)
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
    type Change<'a> = &'a dyn Fn(&mut toml::Table);
    let changes: [(Change<'_>, &str); 3] = [
        (&|table| table["limits"]["connections_max"] = 7.into(), "limits.connections_max"),
        (&|table| table["settlement"]["gas_percent_max"] = 0.into(), "settlement.gas_percent_max"),
        (&|table| drop(table.insert("retries".to_owned(), 3.into())), "retries"),
    ];
    for (change, word) in changes {
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

#[tokio::test(flavor = "multi_thread")]
async fn a_token_allows_what_its_scope_does_and_the_description_says_so() {
    let mut net = Net::start().await;
    let described = reqwest::get(format!("{}/openapi.json", net.dev.info().admin_url)).await.expect("it answers");
    let described: Value = serde_json::from_str(&described.text().await.expect("text")).expect("JSON");
    assert!(described["paths"]["/settle/run"]["post"].is_object() && described["paths"]["/backup"]["post"]["security"].is_null());

    let made = |name: &str, scope: &str| {
        let (status, made) = run(&net, &["token", "new", name, "--scope", scope, "--file", "tokens.toml"], None);
        assert_eq!(status, 0, "{made}");
        made["token"].as_str().expect("a token").to_owned()
    };
    let (reader, operator) = (made("reader", "read"), made("operator", "operate"));
    let file = std::fs::read_to_string(net.directory.path().join("tokens.toml")).expect("text");
    assert!(!file.contains(&reader) && !file.contains(&operator), "the file has hashes only");
    assert_eq!(run(&net, &["token", "new", "reader", "--file", "tokens.toml"], None).0, 2);

    let path = net.dev.info().node_config;
    let mut config: toml::Table = std::fs::read_to_string(&path).expect("text").parse().expect("TOML");
    config["server"]
        .as_table_mut()
        .expect("a section")
        .insert("admin_tokens_file".to_owned(), net.directory.path().join("tokens.toml").display().to_string().into());
    std::fs::write(&path, toml::to_string(&config).expect("TOML")).expect("written");
    net.dev.node.stop().expect("it stops");
    net.dev.node.restart().expect("it starts again");

    let (reader, operator) = (Some(reader.as_str()), Some(operator.as_str()));
    let asked: [(&[&str], Option<&str>, Option<&str>); 7] = [
        (&["status"], None, Some("token_missing")),
        (&["status"], Some("nobody"), Some("token_missing")),
        (&["status"], reader, None),
        (&["top"], reader, None),
        (&["settle", "plan"], reader, None),
        (&["config", "reload"], reader, Some("token_scope")),
        (&["config", "reload"], operator, None),
    ];
    for (arguments, token, code) in asked {
        let (status, answer) = run(&net, arguments, token);
        match code {
            Some(code) => assert_eq!((status, &answer["error"]["code"]), (3, &code.into()), "{arguments:?}: {answer}"),
            None => assert_eq!(status, 0, "{arguments:?}: {answer}"),
        }
    }
    // Supervisors need none.
    assert!(net.admin.is_ready().await.is_ok());
}
