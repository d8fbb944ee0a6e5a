//! Upstreams that do what the test says, payers that sign, and a gateway between them.

#![allow(dead_code, reason = "each test uses a part")]

pub mod memory;
pub mod payer;
pub mod upstream;

use std::net::SocketAddr;
use std::sync::Arc;

use millstream_gateway::cards::Cards;
use millstream_gateway::{GatewayConfig, Server};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use memory::MemoryPort;

/// A gateway on a free port.
pub struct Gateway {
    pub port: Arc<MemoryPort>,
    pub address: SocketAddr,
    pub cards: Option<Arc<Cards>>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Gateway {
    /// Starts one. `routes` is TOML after the sections of payment; `{upstream}` stands for the upstream's address.
    pub async fn start(upstream: SocketAddr, routes: &str) -> Self {
        Self::start_with(upstream, routes, |payment| payment).await
    }

    /// Starts one with other terms of payment.
    pub async fn start_with(upstream: SocketAddr, routes: &str, change: impl FnOnce(String) -> String) -> Self {
        let secret = tempfile();
        let text = format!("{}\n{}", change(payment(&secret)), routes.replace("{upstream}", &format!("http://{upstream}")));
        let config = GatewayConfig::parse(&text).expect("a configuration");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let port = MemoryPort::new();
        let (stop, stopped) = oneshot::channel();
        let serving = Arc::clone(&port);
        let server = Server::new(&config, serving, None).expect("a configuration that can be served");
        let cards = server.cards().cloned();
        let task = tokio::spawn(async move {
            let shutdown = async { drop(stopped.await) };
            server.run(listener, shutdown).await.expect("it serves");
        });
        Self { port, address, cards, stop, task }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Stops it and waits until it has.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        self.task.await.expect("no panic");
    }
}

/// A file with a secret for offers.
pub fn tempfile() -> String {
    static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("millstream-offers-{}-{number}", std::process::id()));
    std::fs::write(&path, "5a".repeat(32)).expect("writable");
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("ours");
    }
    path.display().to_string()
}

/// The sections about payment: both dialects, USDC on a development chain.
pub fn payment(secret_file: &str) -> String {
    format!(
        r#"
        [payment]
        network = "eip155:31337"
        asset = "0x036CbD53842c5426634e7929541eC2318f3dCF7e"
        symbol = "USDC"
        decimals = 6
        asset_name = "USDC"
        asset_version = "2"
        pay_to = "0x4444444444444444444444444444444444444444"
        [payment.x402]
        receiver_authorizer = "0x5CbDd86a2FA8Dc4bDdd8a8f69dBa48572EeC07FB"
        withdraw_delay_secs = 900
        [payment.mpp]
        escrow = "0x5555555555555555555555555555555555555555"
        secret_file = "{secret_file}"
        voucher_wait_secs = 20
        "#
    )
}
