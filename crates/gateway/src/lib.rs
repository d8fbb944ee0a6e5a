//! A price before any HTTP service: offers in both dialects of HTTP 402, exact pass-through of streams, metering from the bytes, and
//! reserve, deliver, capture.
//!
//! [`serve`] is a reverse proxy with a listener of its own; [`Gate`] is the same as a tower layer, for services in Rust. Both charge through a
//! [`ChargePort`](port::ChargePort), which a node implements over its durable engine: this crate knows no store, no chain and no engine.
//! On the same listener [`facilitator`] serves other people's x402 servers, through a port of its own.
//!
//! **Invariants.** Nothing is delivered beyond what is held; nothing is charged that was not delivered. Every error says what it cost. The
//! bytes of a body pass as they come: the meter reads a copy. Payment headers are for the gateway alone, in both directions.

mod body;
mod bounds;
pub mod cards;
mod config;
mod cors;
mod delivery;
mod dialects;
mod discovery;
mod error;
pub mod facilitator;
mod gate;
mod headers;
pub mod meter;
mod pattern;
pub mod port;
mod priced;
mod problem;
mod request_id;
mod route;
mod serve;
pub mod tender;
mod upstream;

pub use body::{Body, BoxError};
pub use config::{
    ChargeOn, CredentialSection, ExactSection, GatewayConfig, HeadersSection, LimitsSection, MoveMethod, MppSection, PaymentSection,
    RatecardsSection, RouteSection, ServerSection, TimeoutsSection, WithoutUsage, X402Section,
};
pub use error::{ConfigError, ServeError};
pub use gate::{ClientAddress, Drained, Gate, Gated};
pub use route::{Pricing, Route, Routes};
pub use serve::{Server, serve, serve_with_facilitator};
