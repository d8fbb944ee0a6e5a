//! MPP `evm/charge`: what binds a payment to the offer it answers.

use millstream_types::Hash256;
use sha3::{Digest, Keccak256};

/// As every EIP-712 signer writes it. The draft prints a space after the comma, which no wallet can be made to sign (spec E-10).
pub(super) const PAYMENT_WITNESS_TYPE: &str = "PaymentWitness(bytes32 challengeHash,string externalId)";

/// The witness of a charge by Permit2.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PaymentWitness {
    /// [`offer_hash`] of the offer; the wire calls it `challengeHash`.
    pub offer_hash: Hash256,
    /// The provider's own reference in the offer; empty when it has none.
    pub external_id: String,
}

/// What a charge signs of the offer it answers: `keccak256(id ‖ realm)`. By ERC-3009 it is the nonce, so an offer is paid once.
#[must_use]
pub fn offer_hash(id: &str, realm: &str) -> Hash256 {
    Hash256::from_bytes(Keccak256::new().chain_update(id).chain_update(realm).finalize().into())
}
