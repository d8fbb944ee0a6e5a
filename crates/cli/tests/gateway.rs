//! `millstream gateway` as somebody runs it: beside a development network, before a service of their own.

mod common;

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::{Net, RawPayer, secret};
use millstream_chain::session_escrow::session_escrow_address;
use millstream_chain::token_balance;
use millstream_chain::x402::BATCH_SETTLEMENT;
use millstream_cli::admin::Admin;
use millstream_cli::gateway::Selling;
use millstream_client::http::{
    Asset, AssetId, AssetLimits, HttpPayer, HttpPayerOptions, PayerAccount, Payment, PaymentBook, Scheme, SpendLimits,
};
use millstream_testkit::DEV_ACCOUNTS;
use millstream_types::{Amount, ChainId};
use millstream_wire::NodeMessage;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A service that answers `{"ok":true}` to whatever it is asked.
async fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 16_384];
                while let Ok(1..) = stream.read(&mut request).await {
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 11\r\n\r\n{\"ok\":true}";
                    if stream.write_all(answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// A running `millstream gateway`; dropped, it is killed.
struct Gateway {
    child: Child,
    selling: Selling,
}

impl Gateway {
    fn start(net: &Net, arguments: &[&str]) -> Self {
        let mut child = command(&net.dev.info().profile, net.directory.path(), arguments).spawn().expect("it starts");
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

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.selling.listen)
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

fn command(profile: &Path, directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command.arg("--profile").arg(profile).arg("gateway").args(arguments).current_dir(directory);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The error that a gateway does not start with.
fn refused(net: &Net, arguments: &[&str], status: i32) -> Value {
    let output = command(&net.dev.info().profile, net.directory.path(), arguments).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {text}");
    let line = text.lines().find(|line| line.starts_with(r#"{"error""#)).unwrap_or_else(|| panic!("{arguments:?}: {text}"));
    serde_json::from_str::<Value>(line).expect("JSON")["error"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_command_sells_a_service() {
    let (net, upstream) = (Net::start().await, upstream().await);
    let upstream = format!("http://{upstream}");
    let price = "0.001 USDC / call";
    let arguments = ["--upstream", &upstream, "--price", price, "--route", "GET /free=free", "--listen", "127.0.0.1:0", "--exact"];
    let gateway = Gateway::start(&net, &arguments);
    let selling = &gateway.selling;
    assert_eq!(selling.dialects, ["x402 batch-settlement", "x402 exact", "MPP evm/session", "MPP evm/charge"]);
    assert_eq!((selling.asset, selling.pay_to), (net.dev.info().token, net.dev.info().seller));
    assert_eq!((selling.routes[0].price.as_deref(), selling.routes[1].price.as_deref()), (None, Some(price)));

    let client = reqwest::Client::new();
    let free = client.get(gateway.url("/free")).send().await.expect("answered");
    assert_eq!(free.text().await.expect("text"), r#"{"ok":true}"#);
    let offer = client.get(gateway.url("/paid")).send().await.expect("answered");
    assert_eq!(offer.status(), StatusCode::PAYMENT_REQUIRED);
    assert!(offer.headers().contains_key("payment-required"), "{:?}", offer.headers());
    assert!(offer.headers()["www-authenticate"].to_str().expect("text").contains("intent=\"session\""), "{:?}", offer.headers());
    let ready = client.get(format!("http://{}/readyz", selling.admin_listen));
    net.wait_for("the gateway to be ready", async || {
        ready.try_clone().expect("no body").send().await.expect("answered").status().is_success()
    })
    .await;

    // What cannot work says so, and what to do.
    let check = |arguments: &[&str], status: i32, says: &str, hint: &str| {
        let error = refused(&net, arguments, status);
        let (message, said) = (error["message"].as_str().unwrap_or_default(), error["hint"].as_str().unwrap_or_default());
        assert!(message.contains(says) && said.contains(hint), "{arguments:?}: {error}");
    };
    let listen = selling.listen.to_string();
    let own = net.directory.path().join("another").display().to_string();
    check(&["--upstream", &upstream], 2, "what it costs", "--price");
    check(&["--upstream", &upstream, "--price", price, "--listen", &listen], 2, &listen, "--listen");
    check(&["--upstream", &upstream, "--price", price, "--listen", "127.0.0.1:0"], 1, "in use by another process", "");
    check(&["--upstream", &upstream, "--price", "1 EUR / call", "--data-dir", &own], 2, "EUR", "0.40 USDC");
    check(
        &["--upstream", &upstream, "--price", price, "--asset", "0x00000000000000000000000000000000000000aa"],
        2,
        "no contract",
        "token's address",
    );
    check(&["--upstream", "ftp://x", "--price", price], 2, "http://", "");
    check(&["--config", "nowhere.toml"], 2, "cannot read", "");
    gateway.stop();

    // The same again goes on.
    Gateway::start(&net, &arguments).stop();
}

fn usdc(net: &Net) -> Asset {
    let id = AssetId { chain: ChainId::new(31_337), token: net.dev.info().token };
    Asset { id, symbol: "USDC".to_owned(), decimals: 6, domain: None }
}

/// The development network's buyer.
fn buyer(net: &Net) -> HttpPayer {
    let account = PayerAccount::from_secret(&DEV_ACCOUNTS[3].secret).expect("a key");
    let book = PaymentBook::open(&net.directory.path().join("payments.redb")).expect("opens");
    let (asset, limits) = (usdc(net), AssetLimits::default_of(6));
    let limits = SpendLimits::default().allow(asset, limits);
    let options = HttpPayerOptions { limits, schemes: vec![Scheme::Batch], ..HttpPayerOptions::default() };
    HttpPayer::new(account, book, options).expect("a client")
}

/// What a request cost, in base units, when it was answered.
async fn buy(payer: &HttpPayer, url: &str) -> Option<u128> {
    let request = reqwest::Request::new(reqwest::Method::GET, url.parse().expect("an address"));
    let response = payer.execute(request).await.ok().filter(|response| response.status() == StatusCode::OK)?;
    let payment = response.extensions().get::<Payment>().cloned().expect("it was paid");
    assert_eq!(response.text().await.ok()?, r#"{"ok":true}"#);
    payment.settled().await.charged.map(|charged| charged.units())
}

/// A figure of the gateway's metrics.
async fn metric(gateway: &Gateway, name: &str) -> f64 {
    let url = format!("http://{}/metrics", gateway.selling.admin_listen);
    let text = reqwest::get(url).await.expect("answered").text().await.expect("text");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|figure| figure.trim().parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_paid_outlives_a_killed_gateway() {
    const PRICE: u128 = 1_000;
    let (net, upstream) = (Net::start().await, upstream().await);
    let arguments = |listen: &str| -> Vec<String> {
        ["--upstream", &format!("http://{upstream}"), "--price", "0.001 USDC / call", "--listen", listen]
            .map(str::to_owned)
            .to_vec()
    };
    let start = |listen: &str| {
        let arguments = arguments(listen);
        Gateway::start(&net, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let gateway = start("127.0.0.1:0");
    let (listen, url) = (gateway.selling.listen.to_string(), gateway.url("/thing"));
    let payer = buyer(&net);
    for _ in 0..3 {
        assert_eq!(buy(&payer, &url).await, Some(PRICE));
    }

    // Killed while requests are under way: each was answered and charged, or is settled with the payer afterwards.
    let (answered, told) = tokio::sync::watch::channel(3);
    let buying = tokio::spawn({
        let (payer, url) = (payer.clone(), url.clone());
        async move {
            while buy(&payer, &url).await.is_some() {
                answered.send_modify(|count| *count += 1);
            }
            *answered.borrow()
        }
    });
    let mut watched = told.clone();
    watched.wait_for(|count| *count >= 20).await.expect("it goes on");
    drop(gateway);
    let answered = buying.await.expect("no panic");

    let gateway = start(&listen);
    let mut after = 0;
    net.wait_for("the payer to go on", async || {
        after += u128::from(buy(&payer, &url).await.is_some());
        after >= 3
    })
    .await;
    // The one that was under way may have been charged, and no other.
    let channels = payer.book().channels();
    assert_eq!(channels.len(), 1, "{channels:?}");
    let (charged, least) = (channels[0].charged.units(), (answered + after) * PRICE);
    assert!((least..=least + PRICE).contains(&charged), "{charged} for {answered} and {after}");
    net.wait_for("the gateway to count it", async || metric(&gateway, "millstream_escrow_charged_base_units").await == charged as f64)
        .await;

    // The operator sees it, claims it, and is paid.
    let admin = Admin::new(&format!("http://{}", gateway.selling.admin_listen)).expect("an address");
    let mut escrows = admin.escrow_status().await.expect("a status").escrows;
    assert_eq!(escrows.iter().map(|escrow| escrow.protocol.as_str()).collect::<Vec<_>>(), ["x402", "mpp"]);
    let sums = escrows.remove(0);
    assert_eq!((sums.channels, sums.open, sums.charged, sums.unclaimed), (1, 1, Amount::from_units(charged), Amount::from_units(charged)));
    let claimable = admin.escrow_claimable().await.expect("rows");
    assert_eq!((claimable.claimable.len(), claimable.total), (1, Amount::from_units(charged)));
    let claimed = operate(&net, &["claim", "--now"]);
    assert_eq!(claimed["rows"], 1, "{claimed}");
    let (rpc, seller) = (net.dev.ledger.rpc(), net.dev.info().seller);
    net.wait_for("the seller to be paid", async || {
        operate(&net, &["claim", "--now"]);
        token_balance(rpc, net.dev.info().token, seller).await.expect("a balance") == charged
    })
    .await;
    let status = operate(&net, &["status"]);
    assert_eq!((&status["escrows"][0]["unclaimed"], &status["quarantine"]), (&"0".into(), &Value::Array(vec![])), "{status}");
    let unknown = format!("0x{}", "11".repeat(32));
    assert_eq!(refused(&net, &["release", &unknown], 3)["code"], "no_such_channel");
    gateway.stop();
    assert_eq!(refused(&net, &["status"], 4)["code"], "admin_unavailable");
}

/// What `millstream gateway` answers its operator.
fn operate(net: &Net, arguments: &[&str]) -> Value {
    let output = command(&net.dev.info().profile, net.directory.path(), arguments).output().expect("it runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// A provider who has a ledger sells over HTTP with the same process, directory and key: payments over QUIC go on, both kinds are settled.
#[tokio::test(flavor = "multi_thread")]
async fn one_process_serves_a_ledger_and_sells() {
    let (mut net, upstream) = (Net::start().await, upstream().await);
    let opening = net.open(&secret(1), 1, 5_000_000).await;
    let ledger = net.dev.ledger.id();
    let mut payer = RawPayer::new(&net.connect().await, secret(1), ledger, opening.channel).await;
    assert!(matches!(payer.attach().await, NodeMessage::Snapshot(_)));
    payer.pay(&[1_000, 2_000]).await;
    net.dev.node.stop().expect("the node stops");

    // What the node's own file says, in the gateway's.
    let node: toml::Table = std::fs::read_to_string(&net.dev.info().node_config).expect("read").parse().expect("TOML");
    let (server, chain) = (&node["server"], &node["chain"]);
    let text = format!(
        r#"
        [chain]
        rpc_url = {rpc}
        operator_key_file = {key}
        ledger = {ledger}
        start_block = {start}
        keys_dir = {keys}
        [node]
        data_dir = {data}
        listen = {listen}
        admin_listen = {admin}
        [server]
        listen = "127.0.0.1:0"
        [payment]
        asset = "{asset}"
        [[route]]
        path = "/*"
        upstream = "http://{upstream}"
        price = "0.001 USDC / call"
        "#,
        rpc = chain["rpc_url"],
        key = chain["operator_key_file"],
        ledger = chain["ledger"],
        start = chain["start_block"],
        keys = chain["keys_dir"],
        data = server["data_dir"],
        listen = server["listen"],
        admin = server["admin_listen"],
        asset = net.dev.info().token,
    );
    let config = net.directory.path().join("gateway.toml");
    std::fs::write(&config, &text).expect("written");
    let config = config.display().to_string();
    let arguments = ["--config", config.as_str()];
    let gateway = Gateway::start(&net, &arguments);
    let ready = format!("http://{}/readyz", gateway.selling.admin_listen);
    net.wait_for("both to be ready", async || reqwest::get(&ready).await.is_ok_and(|answer| answer.status().is_success()))
        .await;

    // Over QUIC: what was acknowledged before is there, and more is taken. Over HTTP: channels of x402.
    let client = buyer(&net);
    for round in 1..=3 {
        let mut again = RawPayer::new(&net.connect().await, secret(1), ledger, opening.channel).await;
        (again.lines_total, again.cumulative, again.head) = (payer.lines_total, payer.cumulative, payer.head);
        let NodeMessage::Snapshot(snapshot) = again.attach().await else { panic!("no snapshot") };
        assert_eq!(snapshot.charged.units(), payer.cumulative.into());
        again.pay(&[500]).await;
        payer = again;
        assert_eq!(buy(&client, &gateway.url("/thing")).await, Some(1_000), "{round}");
    }
    assert_eq!(net.admin.channels().await.expect("channels").len(), 1);
    net.wait_for("the gateway to count it", async || metric(&gateway, "millstream_escrow_charged_base_units").await == 3_000.0)
        .await;

    // One key claims and settles: neither waits for the other's transactions.
    let (token, operator) = (net.dev.info().token, gateway.selling.operator);
    let received = async || token_balance(net.dev.ledger.rpc(), token, operator).await.expect("a balance");
    let admin = Admin::new(&format!("http://{}", gateway.selling.admin_listen)).expect("an address");
    let (settled, claimed) = tokio::join!(net.admin.settle_run(), admin.escrow_claim());
    assert_eq!((settled.expect("settled").transactions.len(), claimed.expect("claimed").rows), (2, 1));
    net.wait_for("the sweep", async || {
        let _ = admin.escrow_claim().await;
        received().await == 3_000
    })
    .await;
    let channel = &net.admin.channels().await.expect("channels")[0];
    assert_eq!(channel.settled.units(), 4_500);
    drop(gateway);

    // Killed, it has both again. And the ledger's directory is refused without its ledger.
    let gateway = Gateway::start(&net, &arguments);
    net.wait_for("both to be ready", async || reqwest::get(&ready).await.is_ok_and(|answer| answer.status().is_success()))
        .await;
    assert_eq!(buy(&client, &gateway.url("/thing")).await, Some(1_000));
    gateway.stop();
    let of_ledger = ["ledger", "start_block", "keys_dir"];
    let is_kept = |line: &&str| !of_ledger.iter().any(|key| line.trim().starts_with(key)) && !line.contains(&server["listen"].to_string());
    let alone = text.lines().filter(is_kept).collect::<Vec<_>>().join("\n");
    let alone_config = net.directory.path().join("alone.toml");
    std::fs::write(&alone_config, alone).expect("written");
    let error = refused(&net, &["--config", &alone_config.display().to_string()], 1);
    assert!(error["message"].as_str().is_some_and(|message| message.contains("ledger")), "{error}");
}

/// A call of the chain's node.
async fn chain_call(net: &Net, method: &str, params: Value) -> Value {
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
    let request = reqwest::Client::new().post(&net.dev.info().rpc_url).header("content-type", "application/json").body(call);
    let answer: Value = request.send().await.expect("answered").json().await.expect("JSON");
    assert!(answer.get("error").is_none(), "{method}: {answer}");
    answer["result"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_on_the_chain_is_not_offered() {
    let (net, upstream) = (Net::start().await, upstream().await);
    let upstream = format!("http://{upstream}");
    let arguments = ["--upstream", &upstream, "--price", "0.001 USDC / call", "--listen", "127.0.0.1:0"];
    let escrow = session_escrow_address().expect("an address").to_string();
    let code = chain_call(&net, "eth_getCode", json!([BATCH_SETTLEMENT.to_string(), "latest"])).await;
    chain_call(&net, "anvil_setCode", json!([BATCH_SETTLEMENT.to_string(), "0x"])).await;
    let gateway = Gateway::start(&net, &arguments);
    assert_eq!(gateway.selling.dialects, ["MPP evm/session"]);
    gateway.stop();
    // Neither: it says so.
    chain_call(&net, "anvil_setCode", json!([escrow, "0x"])).await;
    assert_eq!(refused(&net, &arguments, 2)["code"], "contract_missing");
    // And the other way round.
    chain_call(&net, "anvil_setCode", json!([BATCH_SETTLEMENT.to_string(), code])).await;
    let gateway = Gateway::start(&net, &arguments);
    assert_eq!(gateway.selling.dialects, ["x402 batch-settlement"]);
    gateway.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_a_gateway_at_once() {
    let net = Net::start().await;
    // A service that never answers, so that the first signal has something to wait for.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let upstream = format!("http://{}", silent.local_addr().expect("bound"));
    let mut gateway = Gateway::start(&net, &["--upstream", &upstream, "--route", "GET /*=free", "--listen", "127.0.0.1:0"]);
    let waiting = tokio::spawn(reqwest::get(gateway.url("/free")));
    // At its start the gateway looks whether the service is there, and says nothing.
    let _held = loop {
        let (mut stream, _) = silent.accept().await.expect("a connection");
        if matches!(stream.read(&mut [0; 1]).await, Ok(1)) {
            break stream;
        }
    };
    // Two that come together are one to the process, so it is told until it has heard a second one. Told once, it ends with 0, half a minute later.
    let pid = gateway.child.id().to_string();
    net.wait_for("the gateway to end", async || {
        let _ = Command::new("kill").args(["-INT", &pid]).status();
        gateway.child.try_wait().expect("asked").is_some()
    })
    .await;
    assert_eq!(gateway.child.wait().expect("ends").code(), Some(130));
    assert!(waiting.await.expect("no panic").is_err(), "nobody answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_buyer_finds_its_money_on_the_chain_and_takes_it_back() {
    let (net, upstream) = (Net::start().await, upstream().await);
    let upstream = format!("http://{upstream}");
    let gateway = Gateway::start(&net, &["--upstream", &upstream, "--price", "0.001 USDC / call", "--listen", "127.0.0.1:0"]);
    let run = |arguments: &[&str], book: &str| -> (Option<i32>, Value) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
        command
            .arg("--profile")
            .arg(&net.dev.info().profile)
            .args(arguments)
            .args(["--book", book])
            .current_dir(net.directory.path());
        let output = command.stdin(Stdio::null()).output().expect("it runs");
        let text = if output.status.success() { &output.stdout } else { &output.stderr };
        let text = String::from_utf8_lossy(text).into_owned();
        let value = serde_json::from_str(&text).or_else(|_| serde_json::from_str(text.lines().last().unwrap_or_default()));
        (output.status.code(), value.unwrap_or(Value::String(text)))
    };
    let url = gateway.url("/thing");
    for scheme in ["x402-batch-settlement", "mpp-session"] {
        let (status, said) = run(&["pay", &url, "--prefer", scheme], "first.redb");
        assert_eq!(status, Some(0), "{said}");
    }
    gateway.stop();
    // Another book, as after the first was lost.
    let (status, listed) = run(&["payments", "list"], "second.redb");
    assert_eq!((status, listed.as_array().map(Vec::len)), (Some(0), Some(0)), "{listed}");
    let (status, found) = run(&["payments", "recover"], "second.redb");
    let channels = found["channels"].as_array().cloned().unwrap_or_default();
    assert_eq!((status, channels.len(), &found["foreign"]), (Some(0), 2, &json!([])), "{found}");
    let mut delay = 0;
    for channel in &channels {
        let id = channel["channel"].as_str().expect("an id");
        let (status, refused) = run(&["payments", "refund", id], "second.redb");
        assert_eq!((status, &refused["error"]["code"]), (Some(3), &json!("server_unknown")), "{refused}");
        let (status, asked) = run(&["payments", "withdraw", &id[..12]], "second.redb");
        assert_eq!((status, &asked["state"]), (Some(0), &json!("waiting")), "{asked}");
        let now = chain_call(&net, "eth_getBlockByNumber", json!(["latest", false])).await["timestamp"].as_str().map(str::to_owned);
        let now = u64::from_str_radix(now.expect("a time").trim_start_matches("0x"), 16).expect("hexadecimal");
        delay = delay.max(asked["ready_at"].as_u64().expect("a time").saturating_sub(now));
    }
    chain_call(&net, "evm_increaseTime", json!([delay + 1])).await;
    chain_call(&net, "evm_mine", json!([])).await;
    for channel in &channels {
        let id = channel["channel"].as_str().expect("an id");
        let (status, taken) = run(&["payments", "withdraw", id, "--wait"], "second.redb");
        assert_eq!((status, &taken["state"]), (Some(0), &json!("taken")), "{taken}");
        assert_eq!(taken["taken"], channel["deposit"], "nobody claimed anything: {taken}");
        let (status, nothing) = run(&["payments", "withdraw", id], "second.redb");
        assert_eq!((status, &nothing["error"]["code"]), (Some(3), &json!("nothing_left")), "{nothing}");
    }
}
