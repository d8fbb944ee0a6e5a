//! x402 `batch-settlement` from the client's header to the chain: real gateway, node, contracts and chain.

mod chain;
mod deposits;
mod payments;
#[path = "../support/mod.rs"]
mod support;
mod trust;
