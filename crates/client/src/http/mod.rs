//! Paying for HTTP: answers 402 of x402 and MPP are paid within limits, and the requests sent again.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use millstream_client::http::{HttpPayer, HttpPayerOptions, Payment, PaymentBook, PayerAccount};
//!
//! let account = PayerAccount::from_secret(&[0x11; 32])?;
//! let book = PaymentBook::open("payments.redb".as_ref())?;
//! let payer = HttpPayer::new(account, book, HttpPayerOptions::default())?;
//! let request = reqwest::Request::new(reqwest::Method::GET, "https://api.example/report".parse()?);
//! let response = payer.execute(request).await?;
//! let payment = response.extensions().get::<Payment>().cloned();
//! println!("{}", response.text().await?);
//! if let Some(payment) = payment {
//!     println!("cost {:?}", payment.settled().await.charged);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`HttpPayer`] is a `tower` service of [`reqwest::Request`], so it goes where an HTTP client goes. Servers are not trusted: what they offer is
//! compared with [`SpendLimits`] and with what they offered before, what they say of a channel with what was signed. Numbers `P-n` are
//! requirements of `docs/spec/payer.md`.
//!
//! **Invariants.** Nothing is signed above a limit, and what was spent outlives the process ([`PaymentBook`]). What is signed is on disk before it
//! leaves. One request has one payment: on a channel a voucher replaces the one before, a transfer is signed once. A payment goes to the host
//! that it was asked by, and follows no redirect.

mod account;
mod asset;
mod batch;
mod body;
mod book;
mod control;
mod error;
mod leave;
mod limits;
mod offer;
mod payer;
mod problem;
mod proxy;
mod service;
mod session;
mod single;
mod ticket;
mod webhook;

use std::time::{SystemTime, UNIX_EPOCH};

use millstream_types::Timestamp;

pub use account::PayerAccount;
pub use asset::{Asset, AssetId, AssetLimits, SpendLimits};
pub use book::{BookError, ChannelStatus, EscrowTerms, HttpChannel, PaymentBook, Scheme, Spent};
pub use control::{ControlError, send_order, serve_orders, socket_of};
pub use error::{HttpPayError, Limit, Refusal, Signed};
pub use leave::{Recovered, Withdrawal};
pub use millstream_policy::{
    ApprovalView, CheckView, CounterView, DecisionView, GrantView, OrderError, PauseView, PolicyConfig, PolicyOrder, PolicyReply,
    PolicyView, ReasonView,
};
pub use payer::{HttpPayer, HttpPayerOptions, OfferView, PayeePolicy};
pub use proxy::{ProxyError, ProxyOptions, ProxyUpstreams, serve_proxy};
pub use ticket::{Payment, PaymentState};

/// The system's clock.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
