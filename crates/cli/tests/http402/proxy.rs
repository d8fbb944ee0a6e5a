//! `millstream proxy` as a process: what pays for programs that know nothing of payments.

use std::path::Path;
use std::process::Stdio;

use millstream_testkit::DEV_ACCOUNTS;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::Chain;
use super::chain::key;

/// A running proxy; ended with this.
pub struct Proxy {
    child: Child,
    pub base_url: String,
    directory: TempDir,
}

impl Proxy {
    /// Pays with an account's tokens, to one service.
    pub async fn start(chain: &Chain, account: usize, upstream: &str) -> Self {
        let directory = TempDir::new().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        private(&path("payer.key"), key(account).trim_start_matches("0x"));
        let profile = format!(
            r#"
            [http]
            book_file = "payments.redb"
            [http.rpc_urls]
            31337 = "{rpc}"
            [[http.asset]]
            chain_id = 31337
            token = "{token}"
            symbol = "USDC"
            decimals = 6
            domain_name = "USD Coin"
            domain_version = "2"
            "#,
            rpc = chain.anvil.url(),
            token = chain.token,
        );
        private(&path("profile.toml"), &profile);
        let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
        command
            .arg("--profile")
            .arg(path("profile.toml"))
            .args(["--json", "proxy", "--listen", "127.0.0.1:0", "--upstream", upstream]);
        command.arg("--key-file").arg(path("payer.key")).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("it starts");
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
        Self { child, base_url, directory }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base_url)
    }
}

fn private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).expect("written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("ours");
}
