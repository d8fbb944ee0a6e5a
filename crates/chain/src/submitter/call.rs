//! What is sent, and what came of it.

use std::fmt;

use alloy::primitives::{Bytes, keccak256};
use alloy::rpc::types::Log;
use alloy::sol_types::{SolCall, SolEvent};
use millstream_types::{Address, BlockNumber, Hash256};

use crate::convert;

/// The identity of something to be done once. While it is under way, sending it again waits for the same transaction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IntentId([u8; 32]);

impl IntentId {
    /// An identity that the caller made and keeps, such as a digest of the record that asked for the transaction.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for IntentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IntentId({})", Hash256::from_bytes(self.0))
    }
}

/// A call of a contract, or the creation of one. Carries no value.
#[derive(Clone, Debug)]
pub struct Call {
    pub(crate) operation: &'static str,
    pub(crate) to: Option<Address>,
    pub(crate) data: Bytes,
    pub(crate) intent: IntentId,
}

impl Call {
    /// A call of the contract at `to`; `operation` names it in messages. Its identity is its content: two equal calls at the same time
    /// are one transaction.
    #[must_use]
    pub fn new(operation: &'static str, to: Address, data: Vec<u8>) -> Self {
        Self { operation, intent: content(Some(to), &data), to: Some(to), data: data.into() }
    }

    pub(crate) fn encode(operation: &'static str, to: Address, call: &impl SolCall) -> Self {
        Self::new(operation, to, call.abi_encode())
    }

    /// The creation of a contract from creation code with its constructor's arguments.
    #[must_use]
    pub fn create(operation: &'static str, code: Vec<u8>) -> Self {
        Self { operation, intent: content(None, &code), to: None, data: code.into() }
    }

    /// Its name in messages.
    #[must_use]
    pub const fn operation(&self) -> &'static str {
        self.operation
    }

    /// Whom it calls; nothing for a creation.
    #[must_use]
    pub const fn to(&self) -> Option<Address> {
        self.to
    }

    /// What it calls with.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// This call under an identity of the caller's.
    #[must_use]
    pub fn with_intent(mut self, intent: IntentId) -> Self {
        self.intent = intent;
        self
    }
}

fn content(to: Option<Address>, data: &[u8]) -> IntentId {
    let to = to.map_or([0; 20], |to| *to.as_bytes());
    IntentId(keccak256([&to[..], data].concat()).0)
}

/// A transaction that was mined, succeeded, and has its confirmations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxReceipt {
    /// The transaction's hash; of several versions, the one that was mined.
    pub transaction: Hash256,
    /// Its nonce.
    pub tx_nonce: u64,
    /// The block it is in.
    pub block: BlockNumber,
    /// That block's hash.
    pub block_hash: Hash256,
    /// The gas it used.
    pub gas_used: u64,
    /// What it cost, in wei.
    pub fee_wei: u128,
    /// The contract it created.
    pub created: Option<Address>,
    pub(crate) logs: Vec<Log>,
}

impl TxReceipt {
    /// The first event of this type that the contract emitted in the transaction.
    pub(crate) fn event<E: SolEvent>(&self, emitter: Address) -> Option<E> {
        self.events(emitter).next()
    }

    /// The events of this type that the contract emitted in the transaction, in their order.
    pub(crate) fn events<E: SolEvent>(&self, emitter: Address) -> impl Iterator<Item = E> + '_ {
        let emitter = convert::evm_address(emitter);
        self.logs.iter().filter(move |log| log.address() == emitter).filter_map(|log| E::decode_log_data(log.data()).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_calls_are_one_intent_and_others_are_not() {
        let (a, b) = (Address::from_bytes([1; 20]), Address::from_bytes([2; 20]));
        let intent = |to, data: &[u8]| Call::new("test", to, data.to_vec()).intent;
        assert_eq!(intent(a, &[1]), intent(a, &[1]));
        assert_ne!(intent(a, &[1]), intent(b, &[1]));
        assert_ne!(intent(a, &[1]), intent(a, &[2]));
        assert_eq!(Call::new("test", a, vec![1]).with_intent(IntentId::from_bytes([9; 32])).intent, IntentId::from_bytes([9; 32]));
    }
}
