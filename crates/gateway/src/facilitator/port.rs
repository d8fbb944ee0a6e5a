//! The port: what the API needs of whoever checks payments and puts them on a chain.
//!
//! The HTTP side has checked who asks, how much and how often, and that the body is a request of the API. Everything that a payment says is the
//! implementation's to judge. It answers `settle` only with what is durable, and the same request again is answered as the first was: a client that
//! heard nothing may ask until it hears something.

use std::net::IpAddr;
use std::sync::Arc;

use millstream_dialect::x402::{FacilitatorRequest, SettleResponse, Supported, VerifyResponse};

use super::keys::KeyTerms;
use crate::port::PortFuture;

/// Who checks payments and settles them. The rules are those of its module.
pub trait FacilitatorPort: Send + Sync + 'static {
    /// What is served: it is told at each start of a server, and does not change while the gateway runs.
    fn supported(&self) -> Supported;

    /// Whether a payment would be taken. Spends nothing and promises nothing, but for the custody of vouchers, where it holds the channel for the
    /// caller.
    fn verify(&self, ask: Ask) -> PortFuture<'_, VerifyResponse>;

    /// Takes a payment, or carries out a server's command. A refusal is an answer, too; an error means that it is not known.
    fn settle(&self, ask: Ask) -> PortFuture<'_, SettleResponse>;
}

/// One request.
#[derive(Clone, Debug)]
pub struct Ask {
    /// What is asked.
    pub request: FacilitatorRequest,
    /// Who asks.
    pub caller: Caller,
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The key that was shown; nothing where none is needed and none came.
    pub key: Option<Arc<KeyTerms>>,
    /// The network address.
    pub address: IpAddr,
}
