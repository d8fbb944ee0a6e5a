//! `millstream ratecard` as a provider uses it: a card is drafted, signed and published, and a running gateway sells by it without a restart.

mod common;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use common::Net;
use millstream_cli::gateway::Selling;
use reqwest::{Client, StatusCode};
use serde_json::Value;

fn millstream(net: &Net, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command.arg("--json").arg("--profile").arg(&net.dev.info().profile).args(arguments).current_dir(net.directory.path());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn ratecard(net: &Net, arguments: &[&str]) -> Output {
    millstream(net, &[&["ratecard"], arguments].concat()).output().expect("it runs")
}

/// What a command answers.
fn done(net: &Net, arguments: &[&str]) -> Value {
    let output = ratecard(net, arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The code, the message and the hint of a command that does not succeed.
fn failed(net: &Net, arguments: &[&str], status: i32) -> (String, String, String) {
    let output = ratecard(net, arguments);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {text}");
    let line = text.lines().find(|line| line.starts_with(r#"{"error""#)).unwrap_or_else(|| panic!("{arguments:?}: {text}"));
    let error = serde_json::from_str::<Value>(line).expect("JSON")["error"].clone();
    let part = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
    (part("code"), part("message"), part("hint"))
}

/// A running gateway that sells by the card `chat`; dropped, it is killed.
struct Gateway {
    child: Child,
    selling: Selling,
}

impl Gateway {
    fn command(net: &Net) -> Command {
        let arguments = ["gateway", "--upstream", "http://127.0.0.1:1", "--route", "/sold=card chat", "--listen", "127.0.0.1:0"];
        millstream(net, &[&arguments[..], &["--admin-listen", "127.0.0.1:0", "--data-dir", "shop"]].concat())
    }

    fn start(net: &Net) -> Self {
        let mut child = Self::command(net).spawn().expect("it starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("read");
        match serde_json::from_str(&line) {
            Ok(selling) => Self { child, selling },
            Err(_) => {
                let mut error = String::new();
                let _ = child.kill();
                child.stderr.take().expect("piped").read_to_string(&mut error).expect("text");
                panic!("it does not sell: {line}{error}");
            }
        }
    }

    fn admin(&self) -> String {
        format!("http://{}", self.selling.admin_listen)
    }

    /// What `/sold` costs, and under which version.
    async fn offered(&self, client: &Client) -> (String, String) {
        let answer = client.get(format!("http://{}/sold", self.selling.listen)).send().await.expect("answered");
        assert_eq!(answer.status(), StatusCode::PAYMENT_REQUIRED);
        let problem: Value = answer.json().await.expect("JSON");
        let detail = problem["detail"].as_str().expect("text").split(" at most").next().expect("an amount");
        (detail.trim_start_matches("This costs ").to_owned(), problem["tariff"].as_str().expect("a version").to_owned())
    }

    fn stop(mut self) {
        assert!(Command::new("kill").arg(self.child.id().to_string()).status().expect("kill").success());
        assert_eq!(self.child.wait().expect("ends").code(), Some(0));
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn rewrite(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).expect("readable");
    assert!(text.contains(from), "{from}");
    std::fs::write(path, text.replace(from, to)).expect("writable");
}

/// Waits until a version holds: it may begin in the next second.
async fn holds(net: &Net, gateway: &Gateway, client: &Client, amount: &str, version: &str) {
    net.wait_for(version, async || gateway.offered(client).await.1 == version).await;
    assert_eq!(gateway.offered(client).await.0, amount);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_goes_from_a_draft_to_what_is_charged() {
    let (net, client) = (Net::start().await, Client::new());
    let file = |name: &str| net.directory.path().join(name);

    // A route without its card does not start.
    let output = Gateway::command(&net).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("there is no rate card `chat`"),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );

    let new = ["new", "chat", "--price", "0.001 USDC / call", "--network", "eip155:31337"];
    assert_eq!(done(&net, &new)["card"], "chat@1");
    assert!(failed(&net, &new, 1).2.contains("--output"));
    let look = done(&net, &["lint", "chat@1.toml"]);
    assert_eq!((look["cards"][0]["card"].as_str(), look["cards"][0]["signer"].as_str()), (Some("chat@1"), None));
    assert_eq!(failed(&net, &["lint", "--strict", "chat@1.toml"], 5).0, "ratecard_doubtful");
    let unsigned = failed(&net, &["publish", "chat@1.toml", "--dir", "shop/ratecards"], 2);
    assert!(unsigned.1.contains("is not signed") && unsigned.2.contains("ratecard sign"), "{unsigned:?}");
    let signed = done(&net, &["sign", "chat@1.toml"]);
    assert_eq!(signed["signer"], net.dev.info().seller.to_string());
    assert_eq!(done(&net, &["publish", "chat@1.toml", "--dir", "shop/ratecards"])["is_new"], true);

    let gateway = Gateway::start(&net);
    let admin = gateway.admin();
    assert_eq!(gateway.selling.routes[0].price.as_deref(), Some("rate card chat"));
    holds(&net, &gateway, &client, "0.001 USDC", "chat@1").await;

    // The next version, from now on.
    done(&net, &["new", "chat", "--after", "chat@1.toml"]);
    rewrite(&file("chat@2.toml"), "0.001 USDC / call", "0.002 USDC / call");
    done(&net, &["sign", "chat@2.toml"]);
    let differences = done(&net, &["diff", "chat@1", "chat@2.toml", "--admin", &admin]);
    let what: Vec<_> =
        differences["changes"].as_array().expect("a list").iter().map(|change| change["what"].as_str().expect("text")).collect();
    assert_eq!(what, ["version", "valid_from", "entry all, price"]);
    let published = done(&net, &["publish", "chat@2.toml", "--admin", &admin]);
    assert_eq!((published["is_new"].as_bool(), published["card"]["card"].as_str()), (Some(true), Some("chat@2")));
    holds(&net, &gateway, &client, "0.002 USDC", "chat@2").await;
    assert_eq!(done(&net, &["publish", "chat@2.toml", "--admin", &admin])["is_new"], false);

    // What is wrong is refused with a reason, and the gateway sells as before.
    let from_now = ["new", "chat", "--after", "chat@2.toml"];
    let refused = async |text: &str| {
        let answer = client.post(format!("{admin}/ratecards")).body(text.to_owned()).send().await.expect("answered");
        let status = answer.status();
        let problem: Value = answer.json().await.expect("JSON");
        (status.as_u16(), problem["code"].as_str().expect("a code").to_owned(), problem["message"].as_str().expect("text").to_owned())
    };
    done(&net, &[&from_now[..], &["--valid-from", "2020-01-01T00:00:00Z", "--output", "back.toml"]].concat());
    done(&net, &["sign", "back.toml"]);
    let back = failed(&net, &["publish", "back.toml", "--admin", &admin], 3);
    assert!(back.0 == "ratecard_retroactive" && back.1.contains("never changed for what is past"), "{back:?}");
    done(&net, &[&from_now[..], &["--output", "altered.toml"]].concat());
    done(&net, &["sign", "altered.toml"]);
    rewrite(&file("altered.toml"), "0.002 USDC / call", "0.003 USDC / call");
    let altered = failed(&net, &["publish", "altered.toml", "--admin", &admin], 2);
    assert!(altered.1.contains("changed after it was signed") && altered.2.contains("sign it again"), "{altered:?}");
    let text = std::fs::read_to_string(file("altered.toml")).expect("readable");
    for (text, status, code) in [(text.as_str(), 422, "ratecard_wrong"), ("[card", 422, "ratecard_wrong"), ("", 422, "ratecard_wrong")] {
        let problem = refused(text).await;
        assert_eq!((problem.0, problem.1.as_str()), (status, code), "{problem:?}");
    }
    let key = file("stranger.key");
    std::fs::write(&key, "11".repeat(32)).expect("written");
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("ours");
    done(&net, &["sign", "altered.toml", "--key-file", "stranger.key"]);
    assert_eq!(failed(&net, &["publish", "altered.toml", "--admin", &admin], 3).0, "ratecard_signer");
    holds(&net, &gateway, &client, "0.002 USDC", "chat@2").await;

    // A file that was put there by hand is in use once the directory is read again.
    done(&net, &[&from_now[..], &["--output", "shop/ratecards/chat@3.toml"]].concat());
    rewrite(&file("shop/ratecards/chat@3.toml"), "0.002 USDC / call", "0.004 USDC / call");
    done(&net, &["sign", "shop/ratecards/chat@3.toml"]);
    let answer = client.post(format!("{admin}/ratecards/reload")).send().await.expect("answered");
    assert_eq!(answer.json::<Value>().await.expect("JSON")["new"], 1);
    holds(&net, &gateway, &client, "0.004 USDC", "chat@3").await;
    let states = |listed: &Value| {
        let state = |card: &Value| format!("{} {}", card["card"].as_str().expect("text"), card["state"].as_str().expect("text"));
        listed.as_array().expect("a list").iter().map(state).collect::<Vec<_>>()
    };
    let expected = ["chat@1 replaced", "chat@2 replaced", "chat@3 holds"];
    assert_eq!(states(&done(&net, &["list", "--admin", &admin])), expected);
    assert_eq!(states(&done(&net, &["list", "--dir", "shop/ratecards"])), expected);
    let shown = done(&net, &["show", "chat@3", "--admin", &admin]);
    assert_eq!((shown["entries"][0]["price"].as_str(), shown["signer"].as_str()), (Some("0.004 USDC / call"), signed["signer"].as_str()));
    assert_eq!(failed(&net, &["show", "chat@9", "--admin", &admin], 3).0, "no_such_ratecard");

    // A restart sells by what was published.
    gateway.stop();
    let gateway = Gateway::start(&net);
    holds(&net, &gateway, &client, "0.004 USDC", "chat@3").await;
    gateway.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_is_priced_by_two_cards() {
    let dir = tempfile::tempdir().expect("a directory");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
        let output = command.arg("--json").arg("ratecard").args(arguments).current_dir(dir.path()).output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default(), text)
    };
    let asset = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913";
    let price = "0.15 USDC / 1M input_token + 0.60 USDC / 1M output_token";
    let (status, _, error) = run(&["new", "chat", "--price", price, "--asset", asset, "--valid-from", "2026-12-01T00:00:00Z"]);
    assert_eq!(status, Some(0), "{error}");
    let text = std::fs::read_to_string(dir.path().join("chat@1.toml")).expect("readable");
    let tiers =
        format!("price = \"{price}\"\ntiers_over = \"month\"\ntier = [{{ above = \"1K\", price = \"0.37 USDC / 1M output_token\" }}]");
    let tiered = text.replace(&format!("price = \"{price}\""), &tiers).replace("version = 1", "version = 2");
    std::fs::write(dir.path().join("chat@2.toml"), tiered).expect("written");
    let trace: String = (0..50).map(|at| format!("2023-11-16 18:15:{:02}.5,{},{}\n", at, 100 + at * 37, 10 + at)).collect();
    std::fs::write(dir.path().join("trace.csv"), format!("TIMESTAMP,ContextTokens,GeneratedTokens\n{trace}")).expect("written");
    let (status, found, error) = run(&["backtest", "chat@2.toml", "--against", "chat@1.toml", "--trace", "trace.csv"]);
    assert_eq!(status, Some(0), "{error}");
    // 50,325 of context at 0.15, and 1,725 written: 1,000 at 0.60 and the rest at 0.37.
    let sums = |priced: &Value| {
        ["line_by_line", "per_request", "in_one_sum", "charged"].map(|sum| priced[sum].as_str().expect("an amount").to_owned())
    };
    assert_eq!((found["context_tokens"].as_u64(), found["generated_tokens"].as_u64()), (Some(50_325), Some(1_725)));
    assert_eq!(sums(&found["priced"][0]), ["8417"; 4].map(str::to_owned));
    assert_eq!(sums(&found["priced"][1]), ["8584"; 4].map(str::to_owned));
    assert_eq!((found["priced"][0]["agree"].as_bool(), found["priced"][0]["lines"].as_u64()), (Some(true), Some(1_775)));
    let (status, _, error) = run(&["backtest", "chat@2.toml", "--trace", "nowhere.csv"]);
    assert!(status == Some(2) && error.contains("nowhere.csv"), "{error}");
}
