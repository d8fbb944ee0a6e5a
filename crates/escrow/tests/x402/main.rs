//! x402 `batch-settlement` from the client's header to the chain: real gateway, node, contracts and chain.

mod chain;
mod deposits;
mod payments;
mod policy;
#[path = "../support/mod.rs"]
mod support;
mod trust;
