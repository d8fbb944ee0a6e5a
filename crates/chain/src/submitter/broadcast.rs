//! Handing a signed transaction to the node, and what its answer means.

use alloy::providers::Provider;

use crate::key::SignedTransaction;
use crate::rpc::RpcFailure;
use crate::{ChainError, Rpc};

/// What is known after a broadcast.
#[derive(Debug)]
pub(super) enum Broadcast {
    /// The node has it.
    Accepted,
    /// The nonce is used up on the chain.
    NonceUsed,
    /// Another transaction with this nonce is in the pool, and the fees do not suffice to replace it.
    Underpriced,
    /// The node refuses it; it is not in its pool.
    Refused(ChainError),
    /// No answer: the node may have it or not.
    Unknown(ChainError),
}

pub(super) async fn broadcast(rpc: &Rpc, operation: &'static str, transaction: &SignedTransaction) -> Broadcast {
    match rpc.attempt(rpc.provider().send_raw_transaction(&transaction.bytes)).await {
        Ok(_) => Broadcast::Accepted,
        Err(RpcFailure::Response { code, message, .. }) => answer(rpc, operation, code, message),
        Err(failure) => Broadcast::Unknown(rpc.explain(operation, failure)),
    }
}

/// Nodes have no codes of their own for these, only words; the words are those of geth, which the others follow.
fn answer(rpc: &Rpc, operation: &'static str, code: i64, message: String) -> Broadcast {
    const KNOWN: [&str; 4] = ["already known", "already imported", "known transaction", "already in"];
    const USED: [&str; 2] = ["nonce too low", "nonce is too low"];
    const FINAL: [&str; 5] =
        ["insufficient funds", "intrinsic gas", "exceeds block gas limit", "gas limit too high", "exceeds transaction gas"];
    let words = message.to_lowercase();
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| words.contains(phrase));
    if says(&KNOWN) {
        Broadcast::Accepted
    } else if says(&USED) {
        Broadcast::NonceUsed
    } else if words.contains("underpriced") {
        Broadcast::Underpriced
    } else if says(&FINAL) || (-32602..=-32600).contains(&code) {
        Broadcast::Refused(ChainError::Refused { operation, code, message })
    } else {
        Broadcast::Refused(rpc.unavailable(operation, &format!("{message} (code {code})")))
    }
}
