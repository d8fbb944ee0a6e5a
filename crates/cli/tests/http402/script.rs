//! A script beside this file, as a process: a line of JSON in, a line of JSON out.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;

use millstream_testkit::DEV_ACCOUNTS;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::chain::{Chain, OPERATOR, RECEIVER, key};

pub struct Script {
    /// Ended when this is dropped.
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    /// What it said first.
    pub ready: Value,
}

impl Script {
    pub async fn start(name: &str, settings: &Value) -> Self {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/http402");
        assert!(directory.join("node_modules").is_dir(), "the packages are missing: run `cargo xtask setup`");
        let mut command = Command::new("node");
        command.arg(directory.join(name)).arg(settings.to_string()).env("NODE_ENV", "production").kill_on_drop(true);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("node starts");
        let input = child.stdin.take().expect("piped");
        let output = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut script = Self { child, input, output, ready: Value::Null };
        script.ready = script.hear().await;
        script
    }

    /// A payer of x402 with the account's key, and with `more` settings.
    pub async fn payer(chain: &Chain, account: usize, more: Value) -> Self {
        let mut settings = chain.settings();
        settings["key"] = key(account).into();
        merge(&mut settings, more);
        Self::start("payer.mjs", &settings).await
    }

    /// A resource server of x402 that uses this facilitator.
    pub async fn server(chain: &Chain, facilitator: &str, more: Value) -> Self {
        let mut settings = chain.settings();
        merge(&mut settings, json!({ "facilitator": facilitator, "receiver": DEV_ACCOUNTS[RECEIVER].address, "withdrawDelay": 900 }));
        merge(&mut settings, more);
        Self::start("server.mjs", &settings).await
    }

    /// A payer of MPP with the account's key.
    pub async fn mppx(chain: &Chain, account: usize) -> Self {
        let mut settings = chain.settings();
        merge(&mut settings, json!({ "key": key(account) }));
        Self::start("mppx.mjs", &settings).await
    }

    /// A server of MPP that settles by itself.
    pub async fn mpp_server(chain: &Chain) -> Self {
        let mut settings = chain.settings();
        merge(&mut settings, json!({ "key": key(OPERATOR), "receiver": DEV_ACCOUNTS[RECEIVER].address }));
        Self::start("mpp-server.mjs", &settings).await
    }

    /// The reference facilitator.
    pub async fn facilitator(chain: &Chain) -> Self {
        let mut settings = chain.settings();
        merge(&mut settings, json!({ "key": key(OPERATOR), "authorizerKey": key(OPERATOR) }));
        Self::start("facilitator.mjs", &settings).await
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        let port = self.ready["port"].as_u64().and_then(|port| u16::try_from(port).ok());
        (Ipv4Addr::LOCALHOST, port.expect("a port")).into()
    }

    /// The address that it listens on.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.ready["port"])
    }

    /// The answer to a command; one that failed has `error`.
    pub async fn say(&mut self, command: Value) -> Value {
        self.send(command).await;
        self.hear().await
    }

    /// Without waiting for the answer.
    pub async fn send(&mut self, command: Value) {
        self.input.write_all(format!("{command}\n").as_bytes()).await.expect("it reads");
    }

    /// The next answer.
    pub async fn hear(&mut self) -> Value {
        let line = self.output.next_line().await.expect("readable").expect("it said something before it ended");
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("not an answer: {line}"))
    }

    /// One paid request; `more` has method, headers and body.
    pub async fn pay_with(&mut self, url: &str, more: Value) -> Paid {
        let mut command = json!({ "command": "pay", "url": url });
        merge(&mut command, more);
        Paid::all(self.say(command).await).pop().expect("one")
    }

    pub async fn pay(&mut self, url: &str) -> Paid {
        self.pay_with(url, json!({})).await
    }

    /// So many, one after the other.
    pub async fn pay_times(&mut self, url: &str, times: u32) -> Vec<Paid> {
        Paid::all(self.say(json!({ "command": "pay", "url": url, "times": times })).await)
    }

    /// Everything, or an amount, back from the channel of this resource: what the provider says of it.
    pub async fn refund(&mut self, url: &str, amount: Option<u128>) -> Value {
        let answer = self.say(json!({ "command": "refund", "url": url, "amount": amount.map(|amount| amount.to_string()) })).await;
        assert_eq!(answer["response"]["success"], true, "{answer}");
        answer["response"].clone()
    }

    /// The payer loses all it remembers.
    pub async fn forget(&mut self) {
        assert_eq!(self.say(json!({ "command": "forget" })).await, json!({}));
    }
}

/// What a payer saw of one request.
#[derive(Debug)]
pub struct Paid {
    pub status: u64,
    /// How often it went over the wire: the unpaid request counts.
    pub exchanges: u64,
    /// `PAYMENT-RESPONSE`, decoded.
    pub response: Value,
    /// `Payment-Receipt`, decoded.
    pub receipt: Value,
    /// `PAYMENT-REQUIRED`, decoded, of a refusal.
    pub required: Value,
    pub body: String,
}

impl Paid {
    pub fn all(answer: Value) -> Vec<Self> {
        let answers = answer["answers"].as_array().unwrap_or_else(|| panic!("{answer}"));
        let read = |answer: &Value| Self {
            status: answer["status"].as_u64().expect("a status"),
            exchanges: answer["exchanges"].as_u64().expect("a count"),
            response: answer["response"].clone(),
            receipt: answer["receipt"].clone(),
            required: answer["required"].clone(),
            body: answer["body"].as_str().expect("a body").to_owned(),
        };
        answers.iter().map(read).collect()
    }

    /// What this request cost.
    pub fn charged(&self) -> u128 {
        number(&self.response["extra"]["chargedAmount"]).unwrap_or_else(|| panic!("no charge: {self:?}"))
    }

    /// What all requests on the channel cost.
    pub fn charged_total(&self) -> u128 {
        number(&self.response["extra"]["channelState"]["chargedCumulativeAmount"]).unwrap_or_else(|| panic!("no total: {self:?}"))
    }

    /// Whether a deposit came with it.
    pub fn deposited(&self) -> Option<u128> {
        let sent = self.response["transaction"].as_str().is_some_and(|hash| !hash.is_empty());
        if sent { number(&self.response["amount"]) } else { None }
    }

    pub fn channel(&self) -> millstream_types::EscrowChannelId {
        let id = self.response["extra"]["channelState"]["channelId"].as_str();
        id.and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("no channel: {self:?}"))
    }

    /// Why it was refused.
    pub fn reason(&self) -> &str {
        self.required["error"].as_str().unwrap_or_default()
    }
}

pub fn number(value: &Value) -> Option<u128> {
    value.as_str()?.parse().ok()
}

fn merge(into: &mut Value, more: Value) {
    if let (Some(into), Value::Object(more)) = (into.as_object_mut(), more) {
        into.extend(more.into_iter().filter(|(_, value)| !value.is_null()));
    }
}
