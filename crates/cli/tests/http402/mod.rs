//! A chain with x402's contracts, an upstream that does what it is told, `millstream gateway` as a process, and unmodified packages from npm
//! as further processes: the scripts beside this file drive them.

#![allow(dead_code, unused_imports, reason = "each test uses a part")]

pub mod chain;
pub mod gateway;
pub mod middle;
pub mod payer;
pub mod proxy;
pub mod script;
pub mod upstream;
pub mod wallet;

use std::time::{Duration, Instant};

pub use chain::{Chain, OPERATOR, PAYER, RECEIVER};
pub use gateway::Gateway;
pub use middle::{Middle, Trick};
pub use payer::Payer;
pub use proxy::Proxy;
pub use script::Script;
pub use upstream::Upstream;
pub use wallet::{Bought, Wallet};

/// Polls until something is true.
pub async fn wait_for(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition().await {
        assert!(Instant::now() < deadline, "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
