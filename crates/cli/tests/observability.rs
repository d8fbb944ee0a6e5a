//! What watches a node asks for metrics that exist: dashboards, alert rules and `top`, against a node and a gateway that run.

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::Net;
use millstream_cli::admin::Admin;
use millstream_cli::gateway::Selling;
use serde_json::Value;

const WATCHERS: [&str; 2] = ["grafana/millstream.json", "prometheus/alerts.yml"];

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The names of a text that Prometheus reads, without their labels.
fn names(text: &str) -> BTreeSet<String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split(['{', ' ']).next().unwrap_or_default().to_owned()).collect()
}

/// The metrics that a file asks for.
fn asked(text: &str) -> BTreeSet<String> {
    let mut asked = BTreeSet::new();
    let mut rest = text;
    while let Some(at) = rest.find("millstream_") {
        rest = &rest[at..];
        let end = rest.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').unwrap_or(rest.len());
        asked.insert(rest[..end].to_owned());
        rest = &rest[end..];
    }
    asked
}

#[tokio::test(flavor = "multi_thread")]
async fn dashboards_alerts_and_top_ask_for_what_there_is() {
    let net = Net::start().await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command.arg("--profile").arg(net.dev.info().profile).args([
        "gateway",
        "--upstream",
        "http://127.0.0.1:1",
        "--price",
        "0.001 USDC / call",
    ]);
    command
        .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut gateway = Killed(command.spawn().expect("it starts"));
    let mut line = String::new();
    BufReader::new(gateway.0.stdout.take().expect("piped")).read_line(&mut line).expect("read");
    let selling: Selling = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let gateways = format!("http://{}", selling.admin_listen);

    let mut there = names(&net.admin.metrics().await.expect("metrics"));
    there.extend(names(&Admin::new(&gateways).expect("an address").metrics().await.expect("metrics")));
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operating");
    for watcher in WATCHERS {
        let text = std::fs::read_to_string(docs.join(watcher)).expect(watcher);
        let missing: Vec<_> = asked(&text).difference(&there).cloned().collect();
        assert!(asked(&text).len() > 10 && missing.is_empty(), "{watcher} asks for {missing:?}, and there is {there:?}");
    }
    let dashboard = std::fs::read_to_string(docs.join(WATCHERS[0])).expect("text");
    let dashboard: Value = serde_json::from_str(&dashboard).expect("JSON");
    let places: BTreeSet<_> = dashboard["panels"].as_array().expect("panels").iter().map(|panel| panel["gridPos"].to_string()).collect();
    assert_eq!(places.len(), dashboard["panels"].as_array().expect("panels").len(), "panels lie over each other");

    for admin in [&net.dev.info().admin_url, &gateways] {
        let output = Command::new(env!("CARGO_BIN_EXE_millstream")).args(["top", "--admin", admin]).output().expect("it runs");
        let screen: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert!(screen["rows"].as_array().expect("rows").len() > 8, "{screen}");
    }
}
