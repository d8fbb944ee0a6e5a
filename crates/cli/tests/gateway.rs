//! `millstream gateway` as somebody runs it: beside a development network, before a service of their own.

mod common;

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::Net;
use millstream_cli::gateway::Selling;
use reqwest::StatusCode;
use serde_json::Value;
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
    let arguments = ["--upstream", &upstream, "--price", price, "--route", "GET /free=free", "--listen", "127.0.0.1:0"];
    let gateway = Gateway::start(&net, &arguments);
    let selling = &gateway.selling;
    assert_eq!((selling.asset, selling.pay_to), (net.dev.info().token, net.dev.info().seller));
    assert_eq!((selling.routes[0].price.as_deref(), selling.routes[1].price.as_deref()), (None, Some(price)));

    let client = reqwest::Client::new();
    let free = client.get(gateway.url("/free")).send().await.expect("answered");
    assert_eq!(free.text().await.expect("text"), r#"{"ok":true}"#);
    let offer = client.get(gateway.url("/paid")).send().await.expect("answered");
    assert_eq!(offer.status(), StatusCode::PAYMENT_REQUIRED);
    assert!(offer.headers().contains_key("payment-required"), "{:?}", offer.headers());
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
