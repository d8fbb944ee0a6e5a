//! `millstream gateway`: sells any HTTP service for payments of HTTP 402.
//!
//! `settings` reads what the operator wants; `ready` compares it with the chain and fills in what only the chain knows; `run` starts node, rail
//! and gateway, and stops them in order.

mod args;
mod ready;
mod run;
mod settings;

pub use args::{GatewayArgs, RoutePrice};
pub use run::{Selling, Sold, command};
