//! Attacks on the limits of a payer: requests in parallel, `kill -9` at random instants, restarts, two processes of one agent, and a shop that
//! asks for another token, another payee or another price. What the shop could take never exceeds a limit by a base unit (P-1 to P-5, G-2 to G-10).
//!
//! `cargo xtask budget-crash` runs 1,000 rounds; here it is a few dozen. A failure prints the seed that repeats its choices.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_dialect::x402::{
    BatchPayload, ExactPayload, PAYMENT_REQUIRED, PAYMENT_RESPONSE, PaymentPayload, PaymentRequired, Resource, SettleResponse, VERSION,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const TOKEN: &str = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
const OTHER_TOKEN: &str = "0x5555555555555555555555555555555555555555";
const PAYEE: &str = "0x4444444444444444444444444444444444444444";
const OTHER_PAYEE: &str = "0x6666666666666666666666666666666666666666";
const AUTHORIZER: &str = "0x5CbDd86a2FA8Dc4bDdd8a8f69dBa48572EeC07FB";

/// Limits in base units: of one payment, of each agent, of all.
const PAYMENT_MAX: u128 = 2_000;
const AGENT_MAX: u128 = 15_000;
const TOTAL_MAX: u128 = 20_000;
/// The dearest price that the shop asks within the limit of a payment.
const PRICES: [u128; 3] = [700, 1_000, 1_900];

const ROUNDS: u64 = 32;
/// Rounds with one book.
const BOOK_ROUNDS: u64 = 8;
const PARALLEL: u64 = 12;

/// Random choices that a seed repeats (xorshift64*).
#[derive(Clone)]
struct Choices(Arc<Mutex<u64>>);

impl Choices {
    fn below(&self, bound: u64) -> u64 {
        let mut state = self.0.lock().expect("sound");
        *state ^= *state >> 12;
        *state ^= *state << 25;
        *state ^= *state >> 27;
        state.wrapping_mul(0x2545_F491_4F6C_DD1D) % bound
    }
}

/// What the shop could take.
#[derive(Clone, Debug, Default)]
struct Till {
    /// Transfers, each once, by nonce: token, value, agent.
    transfers: BTreeMap<String, (String, u128, String)>,
    /// The highest voucher of each channel: token, total.
    channels: BTreeMap<String, (String, u128)>,
    payees: BTreeSet<String>,
    requests: u64,
    payments: u64,
}

impl Till {
    fn of_token(&self, token: &str) -> u128 {
        let transfers = self.transfers.values().filter(|(of, ..)| of == token).map(|(_, value, _)| value);
        transfers.chain(self.channels.values().filter(|(of, _)| of == token).map(|(_, total)| total)).sum()
    }

    /// By transfers: agents share channels, and what a lost voucher of one began the next of another goes on with.
    fn of_agent(&self, agent: &str) -> u128 {
        self.transfers.values().filter(|(.., of)| of == agent).map(|(_, value, _)| value).sum()
    }
}

#[derive(Clone)]
struct Shop {
    origin: String,
    choices: Choices,
    till: Arc<Mutex<Till>>,
    honest: Arc<Mutex<bool>>,
}

impl Shop {
    async fn start(choices: Choices) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let origin = format!("http://{}", listener.local_addr().expect("bound"));
        let shop = Self { origin, choices, till: Arc::default(), honest: Arc::default() };
        let serving = shop.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shop = serving.clone();
                tokio::spawn(async move { shop.serve(stream).await });
            }
        });
        shop
    }

    async fn serve(self, mut stream: TcpStream) {
        let Some(head) = read_head(&mut stream).await else { return };
        let header = |name: &str| {
            let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")));
            line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
        };
        // The agent is in the path, for its header does not leave.
        let agent = head.split(' ').nth(1).and_then(|path| path.split('/').nth(1)).unwrap_or_default().to_owned();
        let honest = *self.honest.lock().expect("sound");
        let answer = match header("payment-signature") {
            None => {
                self.till.lock().expect("sound").requests += 1;
                self.required(honest)
            }
            Some(payment) => {
                let price = self.take(&payment, &agent);
                match if honest { 0 } else { self.choices.below(12) } {
                    0..=6 => sold(200, price),
                    7 => sold(500, price),
                    8 | 9 => self.required(honest),
                    10 => return,
                    _ => {
                        // It takes the payment and does not answer, until its client is gone.
                        let _ = stream.read(&mut [0; 1]).await;
                        return;
                    }
                }
            }
        };
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
    }

    /// An offer: what it should be, or what it should not.
    fn required(&self, honest: bool) -> String {
        let pick = |bound: u64| self.choices.below(bound);
        let price = if honest { PRICES[0] } else { PRICES[usize::try_from(pick(3)).expect("small")] };
        let (mut amount, mut token, mut payee) = (price, TOKEN, PAYEE);
        match if honest { 9 } else { pick(10) } {
            0 => token = OTHER_TOKEN,
            1 => amount = PAYMENT_MAX + 1,
            2 => amount = u128::from(u64::MAX),
            3 => payee = OTHER_PAYEE,
            _ => {}
        }
        let scheme = if honest || pick(2) == 0 { "exact" } else { "batch-settlement" };
        let offer = json!({
            "scheme": scheme, "network": "eip155:31337", "amount": amount.to_string(), "asset": token, "payTo": payee, "maxTimeoutSeconds": 60,
            "extra": { "receiverAuthorizer": AUTHORIZER, "withdrawDelay": 900, "name": "USDC", "version": "2" },
        });
        let required = PaymentRequired {
            x402_version: VERSION,
            error: None,
            resource: Resource { url: "https://shop.example/".to_owned(), ..Resource::default() },
            accepts: vec![serde_json::from_value(offer).expect("an offer")],
            extensions: serde_json::from_value(json!({})).expect("an object"),
        };
        response(402, PAYMENT_REQUIRED, &required.to_header().expect("short"))
    }

    /// Takes note of what was signed, and returns the price.
    fn take(&self, payment: &str, agent: &str) -> u128 {
        let payment = PaymentPayload::from_header(payment).expect("a payment");
        let accepted = serde_json::to_value(&payment.accepted).expect("JSON");
        let (token, price) = (text(&accepted["asset"]), text(&accepted["amount"]).parse::<u128>().expect("a number"));
        let mut till = self.till.lock().expect("sound");
        till.payments += 1;
        till.payees.insert(text(&accepted["payTo"]));
        if accepted["scheme"] == "exact" {
            let ExactPayload::Erc3009(transfer) = ExactPayload::from_object(&payment.payload).expect("a payload") else {
                panic!("a transfer by ERC-3009 was offered")
            };
            let authorization = transfer.authorization;
            till.transfers.insert(authorization.nonce.to_string(), (token, authorization.value.units(), agent.to_owned()));
        } else {
            let payload = BatchPayload::from_object(&payment.payload).expect("a payload");
            let voucher = payload.voucher();
            let total = voucher.max_claimable_amount.units();
            let (_, highest) = till.channels.entry(voucher.channel_id.to_string()).or_insert((token, 0));
            *highest = total.max(*highest);
        }
        price
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

fn response(status: u16, header: &str, value: &str) -> String {
    format!("HTTP/1.1 {status} X\r\n{header}: {value}\r\ncontent-length: 4\r\nconnection: close\r\n\r\nsold")
}

fn sold(status: u16, price: u128) -> String {
    let settled = SettleResponse {
        success: true,
        network: "eip155:31337".to_owned(),
        extra: serde_json::from_value(json!({ "chargedAmount": price.to_string() })).expect("an object"),
        ..SettleResponse::default()
    };
    response(status, PAYMENT_RESPONSE, &settled.to_header().expect("short"))
}

async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut piece = [0; 4_096];
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => head.extend_from_slice(&piece[..read]),
        }
    }
    String::from_utf8(head).ok()
}

fn millstream(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command.args(arguments).arg("--json").arg("--profile").arg(directory.join("profile.toml"));
    command.env_remove("MILLSTREAM_PROFILE").stdin(Stdio::null()).stderr(Stdio::null());
    command
}

fn write_profile(directory: &Path) {
    let profile = format!(
        "[payer]\nkey_file = \"payer.key\"\n[http]\n[[http.asset]]\nchain_id = 31337\ntoken = \"{TOKEN}\"\nsymbol = \"tUSDC\"\ndecimals = 6\n\
         domain_name = \"USDC\"\ndomain_version = \"2\"\nrequest_max = \"0.002\"\nhost_day_max = \"0.02\"\nday_max = \"1\"\n\
         total_max = \"1\"\n[policy]\n[[policy.budget]]\nname = \"agent\"\nmax = \"0.015 tUSDC\"\nwindow = \"total\"\nper = [\"agent\"]\n\
         [[policy.budget]]\nname = \"all\"\nmax = \"0.02 tUSDC\"\nwindow = \"total\"\n"
    );
    std::fs::write(directory.join("profile.toml"), profile).expect("written");
    let key = directory.join("payer.key");
    std::fs::write(&key, "11".repeat(32)).expect("written");
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("private");
}

/// A proxy, and where it listens; nothing when another process has the book.
fn proxy(directory: &Path, shop: &Shop) -> (Child, Option<String>) {
    let mut command = millstream(directory, &["proxy", "--listen", "127.0.0.1:0", "--upstream", &shop.origin]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the binary runs");
    let stdout = child.stdout.take().expect("piped");
    let mut document = String::new();
    for line in BufReader::new(stdout).lines() {
        let line = line.expect("text");
        document.push_str(&line);
        if line == "}" {
            break;
        }
    }
    let base = serde_json::from_str::<Value>(&document).ok().map(|document| text(&document["base_url"]));
    (child, base)
}

/// One request by the proxy; whatever comes of it.
async fn ask(base: String, agent: String, number: u64) -> Option<String> {
    let mut stream = TcpStream::connect(base.trim_start_matches("http://")).await.ok()?;
    let request = format!("GET /{agent}/{number} HTTP/1.1\r\nhost: localhost\r\nx-millstream-agent: {agent}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}

fn end(mut child: Child) {
    // SIGKILL; one that has ended by itself is as good.
    let _ = child.kill();
    let _ = child.wait();
}

fn by_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_limit_is_exceeded_by_a_base_unit() {
    let rounds = by_env("MILLSTREAM_BUDGET_ROUNDS").unwrap_or(ROUNDS);
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let seed = by_env("MILLSTREAM_BUDGET_SEED").unwrap_or(since.as_secs()).max(1);
    println!("seed {seed}, {rounds} rounds");
    let choices = Choices(Arc::new(Mutex::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).max(1))));
    let (mut requests, mut payments, mut signed, mut full) = (0, 0, 0, 0u64);
    let mut round = 0;
    while round < rounds {
        let directory = tempfile::tempdir().expect("a directory");
        write_profile(directory.path());
        let shop = Shop::start(choices.clone()).await;
        // The host pays this payee from now on.
        settle_payee(directory.path(), &shop).await;
        for _ in 0..BOOK_ROUNDS.min(rounds - round) {
            round += 1;
            attack(directory.path(), &shop, &choices).await;
            check(&shop, seed, round);
        }
        // And when nobody disturbs, what is left is spent, and no more.
        *shop.honest.lock().expect("sound") = true;
        let spent = spend_the_rest(directory.path(), &shop).await;
        check(&shop, seed, round);
        let till = shop.till.lock().expect("sound").clone();
        assert!(spent >= till.of_token(TOKEN), "seed {seed}: the book knows of {spent}, and the shop has {}", till.of_token(TOKEN));
        assert!(spent + PRICES[0] > TOTAL_MAX, "seed {seed}: only {spent} was spent of {TOTAL_MAX}");
        (requests, payments, signed, full) = (requests + till.requests, payments + till.payments, signed + till.of_token(TOKEN), full + 1);
    }
    println!(
        "{rounds} rounds, {full} budgets spent to the end, {requests} offers, {payments} payments, {signed} base units: overspend 0 base units"
    );
}

/// Pays once, honestly, so that the host has its payee and token.
async fn settle_payee(directory: &Path, shop: &Shop) {
    *shop.honest.lock().expect("sound") = true;
    let url = format!("{}/a/first", shop.origin);
    let status = millstream(directory, &["pay", &url, "--agent", "a"]).stdout(Stdio::null()).status().expect("the binary runs");
    assert!(status.success());
    *shop.honest.lock().expect("sound") = false;
}

/// One round: two processes of one agent, requests in parallel, and the end at a random instant.
async fn attack(directory: &Path, shop: &Shop, choices: &Choices) {
    let url = format!("{}/b/other-process", shop.origin);
    let beside = |sooner: bool| {
        let pays = || millstream(directory, &["pay", &url, "--agent", "b"]).stdout(Stdio::null()).spawn().expect("the binary runs");
        (choices.below(2) == u64::from(sooner)).then(pays)
    };
    let before = beside(true);
    let (child, base) = proxy(directory, shop);
    let after = beside(false);
    if let Some(base) = base {
        let asked: Vec<_> = (0..PARALLEL)
            .map(|number| {
                let agent = if choices.below(2) == 0 { "a" } else { "b" };
                // Some requests are equal to others.
                let number = number / (1 + choices.below(2));
                tokio::spawn(ask(base.clone(), agent.to_owned(), number))
            })
            .collect();
        // What is waited for is the instant of the kill, which nothing depends on.
        tokio::time::sleep(Duration::from_millis(choices.below(160))).await;
        end(child);
        for request in asked {
            let _ = request.await;
        }
    } else {
        end(child);
    }
    for process in [before, after].into_iter().flatten() {
        if choices.below(2) == 0 {
            tokio::time::sleep(Duration::from_millis(choices.below(60))).await;
        }
        end(process);
    }
}

/// Nothing that the shop has is above a limit.
fn check(shop: &Shop, seed: u64, round: u64) {
    let till = shop.till.lock().expect("sound");
    let over = |what: &str, has: u128, max: u128| {
        let overspend = has.saturating_sub(max);
        assert_eq!(overspend, 0, "seed {seed}, round {round}: {what} is {has} of {max}: {till:?}");
    };
    over("all", till.of_token(TOKEN), TOTAL_MAX);
    over("another token", till.of_token(OTHER_TOKEN), 0);
    for agent in ["a", "b"] {
        over(agent, till.of_agent(agent), AGENT_MAX);
    }
    for (_, value, _) in till.transfers.values() {
        over("one payment", *value, PAYMENT_MAX);
    }
    let payees: Vec<&str> = till.payees.iter().map(String::as_str).collect();
    assert_eq!(payees, [PAYEE], "seed {seed}, round {round}");
}

/// Asks an honest shop until both agents are refused. What the book says that all have spent.
async fn spend_the_rest(directory: &Path, shop: &Shop) -> u128 {
    let (child, base) = proxy(directory, shop);
    let base = base.expect("nobody else has the book");
    for agent in ["a", "b"] {
        let mut number = 1_000;
        loop {
            let answer = ask(base.clone(), agent.to_owned(), number).await.expect("an answer");
            number += 1;
            if answer.starts_with("HTTP/1.1 402") {
                break;
            }
            assert!(number < 1_100, "the budget has an end: {answer}");
        }
    }
    // By the socket of the process that has the book.
    let output = millstream(directory, &["policy", "show"]).output().expect("the binary runs");
    let shown: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let all = shown["counters"].as_array().expect("rows").iter().find(|row| row["rule"] == "all").expect("the budget").clone();
    end(child);
    text(&all["spent"]).parse().expect("a number")
}
