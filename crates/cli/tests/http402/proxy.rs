//! `millstream proxy` as a process: what pays for programs that know nothing of payments.

use std::process::{Command, Stdio};

use millstream_testkit::DEV_ACCOUNTS;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;

use super::{Chain, Wallet};

/// A running proxy; ended with this.
pub struct Proxy {
    child: Child,
    pub base_url: String,
    pub wallet: Wallet,
}

impl Proxy {
    /// Pays with an account's tokens, to one service.
    pub async fn start(chain: &Chain, account: usize, upstream: &str) -> Self {
        Self::start_with(Wallet::new(chain, account), account, upstream, &[]).await
    }

    /// With a wallet and more flags.
    pub async fn start_with(wallet: Wallet, account: usize, upstream: &str, more: &[&str]) -> Self {
        let arguments = [&["proxy", "--listen", "127.0.0.1:0", "--upstream", upstream], more].concat();
        let mut child = wallet.command(&arguments).stdout(Stdio::piped()).spawn().expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut text = String::new();
        let said: Value = loop {
            let line = lines.next_line().await.expect("readable");
            text.push_str(&line.unwrap_or_else(|| panic!("the proxy ended: {text}")));
            if let Ok(said) = serde_json::from_str(&text) {
                break said;
            }
        };
        assert_eq!(said["account"].as_str().map(str::to_lowercase), Some(DEV_ACCOUNTS[account].address.to_string().to_lowercase()));
        let base_url = said["base_url"].as_str().expect("an address").to_owned();
        Self { child, base_url, wallet }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base_url)
    }

    /// In order. What is left is the wallet.
    pub async fn stop(mut self) -> Wallet {
        let id = self.child.id().expect("it runs").to_string();
        assert!(Command::new("kill").arg(id).status().expect("kill").success());
        assert!(self.child.wait().await.expect("it ends").success());
        self.wallet
    }
}
