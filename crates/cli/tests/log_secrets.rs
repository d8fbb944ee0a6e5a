//! A gateway that says everything it can says no secret: not its key, nor that key's password, nor what its endpoint's address holds, nor the
//! credential of its upstream, nor what it authenticates offers with, nor a token of the admin listener.

mod common;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use common::Net;
use millstream_cli::gateway::Selling;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const PASSWORD: &str = "correct-horse-battery-staple";
const CREDENTIAL: &str = "upstream-credential-0123456789";
const RPC_KEY: &str = "endpoint-key-abcdef0123456789";

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A service that answers `{"ok":true}`, and remembers what it was asked with.
async fn upstream() -> (String, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (url, heard) = (format!("http://{}", listener.local_addr().expect("bound")), Arc::new(Mutex::new(String::new())));
    let hears = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let hears = Arc::clone(&hears);
            tokio::spawn(async move {
                let mut request = [0; 16_384];
                while let Ok(length @ 1..) = stream.read(&mut request).await {
                    hears.lock().expect("ours").push_str(&String::from_utf8_lossy(&request[..length]));
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 11\r\n\r\n{\"ok\":true}";
                    if stream.write_all(answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (url, heard)
}

fn millstream(net: &Net) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command.arg("--profile").arg(net.dev.info().profile).current_dir(net.directory.path()).stdin(Stdio::null());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_at_the_level_trace_hold_no_secret() {
    let (net, (upstream, heard)) = (Net::start().await, upstream().await);
    let path = |name: &str| net.directory.path().join(name);
    let private = |name: &str, text: &str| {
        std::fs::write(path(name), text).expect("written");
        std::fs::set_permissions(path(name), std::fs::Permissions::from_mode(0o600)).expect("ours");
    };
    private("password", PASSWORD);
    private("credential", CREDENTIAL);
    let seller = std::fs::read_to_string(path("seller.key")).expect("the seller's key").trim().to_owned();
    let import = ["key", "import", "seller", "--keys", "keys", "--from", "seller.key", "--password-file", "password"];
    assert!(millstream(&net).args(import).output().expect("it runs").status.success());
    let made = millstream(&net)
        .args(["token", "new", "operator", "--scope", "operate", "--file", "tokens.toml"])
        .output()
        .expect("it runs");
    let made: Value = serde_json::from_slice(&made.stdout).expect("JSON");
    let token = made["token"].as_str().expect("a token").to_owned();
    let config = format!(
        "[chain]\nrpc_url = \"{}/?key={RPC_KEY}\"\noperator_key_file = \"keys/seller.json\"\noperator_password_file = \"password\"\n\
         [node]\ndata_dir = \"selling\"\nadmin_listen = \"127.0.0.1:0\"\nadmin_tokens_file = \"tokens.toml\"\n[server]\nlisten = \"127.0.0.1:0\"\n\
         [payment]\nasset = \"{}\"\n[payment.x402]\nwithdraw_delay_secs = 86400\n[payment.mpp]\n\
         [[route]]\npath = \"/*\"\nupstream = \"{upstream}\"\nprice = \"0.001 USDC / call\"\n[route.headers.credential]\nfile = \"credential\"\n",
        net.dev.info().rpc_url,
        net.dev.info().token,
    );
    std::fs::write(path("selling.toml"), config).expect("written");

    let log = File::create(path("selling.log")).expect("made");
    let mut command = millstream(&net);
    command
        .args(["gateway", "--config", "selling.toml"])
        .env("RUST_LOG", "trace,alloy_transport_http::reqwest_transport=trace");
    let mut gateway = Killed(command.stdout(Stdio::piped()).stderr(log).spawn().expect("it starts"));
    let mut line = String::new();
    BufReader::new(gateway.0.stdout.take().expect("piped")).read_line(&mut line).expect("read");
    let said = || std::fs::read_to_string(path("selling.log")).expect("the log");
    let selling: Selling = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{}", said()));

    let url = format!("http://{}/report", selling.listen);
    let paid = millstream(&net).args(["--json", "pay", &url, "--max", "0.01"]).output().expect("it runs");
    assert!(paid.status.success(), "{}", String::from_utf8_lossy(&paid.stderr));
    let admin = format!("http://{}", selling.admin_listen);
    let asked = millstream(&net)
        .args(["config", "reload", "--admin", &admin])
        .env("MILLSTREAM_ADMIN_TOKEN", &token)
        .output()
        .expect("it runs");
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    assert!(heard.lock().expect("ours").contains(CREDENTIAL), "the upstream gets its credential");
    assert!(Command::new("kill").arg(gateway.0.id().to_string()).status().expect("kill").success());
    gateway.0.wait().expect("it ends");

    let offers = std::fs::read_to_string(path("selling/offers.secret")).expect("the offers' secret").trim().to_owned();
    let said = said();
    assert!(said.lines().count() > 100 && said.contains("TRACE"), "it says a lot: {} lines", said.lines().count());
    for (name, secret) in [
        ("the key", seller.trim_start_matches("0x")),
        ("its password", PASSWORD),
        ("the upstream's credential", CREDENTIAL),
        ("the endpoint's key", RPC_KEY),
        ("the offers' secret", offers.trim_start_matches("0x")),
        ("the admin token", &token),
    ] {
        let line = said.lines().find(|line| line.to_lowercase().contains(&secret.to_lowercase()));
        assert!(line.is_none(), "{name} is in the log: {line:?}");
    }
}
