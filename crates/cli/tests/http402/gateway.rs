//! `millstream gateway` as a process with a configuration of its own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use millstream_cli::gateway::Selling;
use millstream_testkit::DEV_ACCOUNTS;
use tempfile::TempDir;

use super::chain::{Chain, OPERATOR, RECEIVER, blocking, key};
use super::{Upstream, wait_for};

/// Whatever was charged is claimed and swept within seconds, however little it is.
const CLAIMS: &str = "[escrow.claim]\ninterval_secs = 1\nrow_min_nanos = 1\nsweep_interval_secs = 1\nsweep_min_nanos = 1";

const X402: &str = "[payment.x402]\nwithdraw_delay_secs = 900";

const ROUTES: &str = r#"
[[route]]
path = "/free/*"
free = true
upstream = "http://UPSTREAM"
[[route]]
path = "/v1/*"
upstream = "http://UPSTREAM"
price = "1 base / output_token"
limits = { output_tokens_max = 1000 }
[[route]]
path = "/short/*"
upstream = "http://UPSTREAM"
price = "1 base / output_token"
limits = { output_tokens_max = 10 }
[[route]]
path = "/*"
upstream = "http://UPSTREAM"
price = "0.001 USDC / call"
"#;

/// A running gateway; dropped, it is killed.
pub struct Gateway {
    child: Child,
    pub selling: Selling,
    config: PathBuf,
    directory: TempDir,
    http: reqwest::Client,
}

impl Gateway {
    /// Sells the upstream: `/v1/*` for a base unit a token, up to 1000 of them; `/short/*` the same up to 10; `/free/*` for nothing; everything else
    /// for 1000 base units a call.
    pub async fn start(chain: &Chain, upstream: &Upstream) -> Self {
        Self::start_with(chain, upstream, "").await
    }

    /// With more in the configuration, before the routes.
    pub async fn start_with(chain: &Chain, upstream: &Upstream, sections: &str) -> Self {
        let routes = ROUTES.replace("UPSTREAM", &upstream.address.to_string());
        Self::start_selling(chain, &format!("{sections}\n{CLAIMS}\n{routes}")).await
    }

    /// That claims nothing before [`Gateway::restart_claiming`].
    pub async fn start_patient(chain: &Chain, upstream: &Upstream) -> Self {
        Self::start_selling(chain, &ROUTES.replace("UPSTREAM", &upstream.address.to_string())).await
    }

    /// With more lines in `[payment.x402]`, and sections after it.
    pub async fn start_x402(chain: &Chain, upstream: &Upstream, sections: &str) -> Self {
        let routes = ROUTES.replace("UPSTREAM", &upstream.address.to_string());
        Self::start_paid_to(chain, RECEIVER, &format!("{X402}\n{sections}\n{CLAIMS}\n{routes}")).await
    }

    /// By MPP, with more lines in `[payment.mpp]`, and sections after it. Sessions pay whoever settles them, so the operator is paid.
    pub async fn start_mpp(chain: &Chain, upstream: &Upstream, sections: &str) -> Self {
        let routes = ROUTES.replace("UPSTREAM", &upstream.address.to_string());
        Self::start_paid_to(chain, OPERATOR, &format!("[payment.mpp]\n{sections}\n{CLAIMS}\n{routes}")).await
    }

    /// With these routes, and whatever else comes after the sections of every gateway here.
    pub async fn start_selling(chain: &Chain, more: &str) -> Self {
        Self::start_paid_to(chain, RECEIVER, &format!("{X402}\n{more}")).await
    }

    async fn start_paid_to(chain: &Chain, account: usize, more: &str) -> Self {
        let directory = TempDir::new().expect("a directory");
        let secret = directory.path().join("operator.key");
        std::fs::write(&secret, key(OPERATOR)).expect("written");
        private(&secret);
        let text = format!(
            r#"
            [chain]
            rpc_url = "{rpc}"
            operator_key_file = "{secret}"
            poll_millis = 20
            [node]
            data_dir = "{data}"
            admin_listen = "127.0.0.1:0"
            [server]
            listen = "127.0.0.1:0"
            [payment]
            asset = "{token}"
            pay_to = "{receiver}"
            [timeouts]
            first_byte_secs = 20
            total_secs = 60
            {more}
            "#,
            rpc = chain.anvil.url(),
            secret = secret.display(),
            data = directory.path().join("data").display(),
            token = chain.token,
            receiver = DEV_ACCOUNTS[account].address,
        );
        let config = directory.path().join("gateway.toml");
        std::fs::write(&config, text).expect("written");
        let (child, selling) = launch(config.clone(), None).await;
        let gateway = Self { child, selling, config, directory, http: reqwest::Client::new() };
        gateway.ready().await;
        gateway
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.selling.listen)
    }

    /// Stops it in order and starts it again, and from then on everything is claimed at once.
    pub async fn restart_claiming(&mut self) {
        self.terminate();
        let mut text = std::fs::read_to_string(&self.config).expect("its configuration");
        text.push_str(CLAIMS);
        std::fs::write(&self.config, text).expect("written");
        self.restart().await;
    }

    fn terminate(&mut self) {
        assert!(Command::new("kill").arg(self.child.id().to_string()).status().expect("kill").success());
        assert_eq!(self.child.wait().expect("it ends").code(), Some(0));
    }

    /// The instant in which nothing is finished any more.
    pub fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// On the same directory and port.
    pub async fn restart(&mut self) {
        let listen = self.selling.listen.to_string();
        (self.child, self.selling) = launch(self.config.clone(), Some(listen)).await;
        self.ready().await;
    }

    /// Waits until payments are taken.
    pub async fn ready(&self) {
        let url = self.admin_url("/readyz");
        wait_for("the gateway to be ready", async || self.http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()))
            .await;
    }

    pub fn admin_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.selling.admin_listen)
    }

    /// In order: it ends with success.
    pub async fn stop(mut self) {
        blocking(move || self.terminate()).await;
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn private(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("ours");
}

async fn launch(config: PathBuf, listen: Option<String>) -> (Child, Selling) {
    blocking(move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
        command.arg("gateway").arg("--config").arg(&config).current_dir(config.parent().expect("a directory"));
        if let Some(listen) = listen {
            command.env("MILLSTREAM_SERVER__LISTEN", listen);
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("read");
        let selling = serde_json::from_str(&line).unwrap_or_else(|_| panic!("it does not sell: {line}"));
        (child, selling)
    })
    .await
}
