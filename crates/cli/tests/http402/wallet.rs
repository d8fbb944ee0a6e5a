//! Our payer as a process: `millstream pay URL`, `millstream proxy`, `millstream payments`, with an account's key and a book of its own.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use millstream_types::EscrowChannelId;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use super::Chain;
use super::chain::key;
use super::script::number;

/// A directory with a key, a profile and a book.
pub struct Wallet {
    directory: TempDir,
}

/// What `millstream pay URL` did.
#[derive(Debug)]
pub struct Bought {
    /// The exit status.
    pub exit: i32,
    pub body: String,
    /// What it cost, as it says on standard error; nothing where nothing was paid.
    pub receipt: Value,
    /// Why it failed, if it did.
    pub error: Value,
}

impl Wallet {
    /// Pays with an account's tokens, which it moves by their own signatures.
    pub fn new(chain: &Chain, account: usize) -> Self {
        Self::with(chain, account, "", "domain_name = \"USD Coin\"\ndomain_version = \"2\"")
    }

    /// With more in `[http]` and for the token. Without the token's domain, deposits go by Permit2.
    pub fn with(chain: &Chain, account: usize, http: &str, asset: &str) -> Self {
        let wallet = Self { directory: TempDir::new().expect("a directory") };
        private(&wallet.path("payer.key"), key(account).trim_start_matches("0x"));
        let profile = format!(
            "[http]\nbook_file = \"payments.redb\"\n{http}\n[http.rpc_urls]\n31337 = \"{rpc}\"\n\
             [[http.asset]]\nchain_id = 31337\ntoken = \"{token}\"\nsymbol = \"USDC\"\ndecimals = 6\n{asset}\n",
            rpc = chain.anvil.url(),
            token = chain.token,
        );
        private(&wallet.path("profile.toml"), &profile);
        wallet
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A command with this wallet's profile, key and book.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
        command.arg("--profile").arg(self.path("profile.toml")).arg("--json").args(arguments);
        command.arg("--key-file").arg(self.path("payer.key")).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// The book is gone; the key is not.
    pub fn lose_book(&self) {
        std::fs::remove_file(self.path("payments.redb")).expect("a book");
    }

    /// One request by `pay URL`, with more flags.
    pub async fn pay(&self, url: &str, more: &[&str]) -> Bought {
        let output = self.command(&[&["pay", url], more].concat()).output().await.expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let mut bought = Bought {
            exit: output.status.code().unwrap_or_else(|| panic!("{said}")),
            body: String::from_utf8_lossy(&output.stdout).into_owned(),
            receipt: Value::Null,
            error: Value::Null,
        };
        for line in said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            if line.get("scheme").is_some() {
                bought.receipt = line;
            } else if let Some(error) = line.get("error") {
                bought.error = error.clone();
            }
        }
        bought
    }

    /// What was paid for, which has to be answered well.
    pub async fn buys(&self, url: &str, more: &[&str]) -> Bought {
        let bought = self.pay(url, more).await;
        assert_eq!((bought.exit, &bought.receipt["disputed"]), (0, &Value::Null), "{bought:?}");
        bought
    }

    /// The channels in the book. Nobody else has the book open.
    pub async fn channels(&self) -> Vec<Value> {
        self.said(&["payments", "list"]).await.as_array().expect("a list").clone()
    }

    /// Everything that is left of a channel comes back: how much.
    pub async fn refund(&self, channel: &str) -> u128 {
        let said = self.said(&["payments", "refund", channel]).await;
        number(&said["refunded"]).unwrap_or_else(|| panic!("{said}"))
    }

    async fn said(&self, arguments: &[&str]) -> Value {
        let output = self.command(arguments).output().await.expect("it runs");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }
}

impl Bought {
    /// What it cost.
    pub fn charged(&self) -> Option<u128> {
        number(&self.receipt["charged"])
    }

    /// The deposit that was made for it.
    pub fn deposited(&self) -> Option<u128> {
        number(&self.receipt["deposited"])
    }

    pub fn channel(&self) -> EscrowChannelId {
        let id = self.receipt["channel"].as_str();
        id.and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("no channel: {self:?}"))
    }
}

fn private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).expect("written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("ours");
}
