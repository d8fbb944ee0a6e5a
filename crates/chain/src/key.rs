//! A secp256k1 key that signs transactions and authorizations.

use std::fmt;

use alloy::consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy::eips::Encodable2718;
use alloy::primitives::{B256, keccak256};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use millstream_types::{Address, Hash256};

use crate::{ChainError, convert};

/// The key of an account. Prints as its address only.
#[derive(Clone)]
pub struct ChainKey(PrivateKeySigner);

/// A signed transaction in the form that the network takes.
#[derive(Clone)]
pub(crate) struct SignedTransaction {
    pub(crate) hash: Hash256,
    pub(crate) bytes: Vec<u8>,
}

impl ChainKey {
    /// From the 32 big-endian bytes of the secret.
    ///
    /// # Errors
    /// [`ChainError::InvalidInput`] for zero or a number of the group's order or more.
    pub fn from_bytes(secret: &[u8; 32]) -> Result<Self, ChainError> {
        PrivateKeySigner::from_bytes(&B256::new(*secret))
            .map(Self)
            .map_err(|_| ChainError::invalid("account key", "not a secp256k1 secret"))
    }

    /// The account.
    #[must_use]
    pub const fn address(&self) -> Address {
        convert::address(self.0.address())
    }

    /// A signature over a 32-byte digest: 65 bytes, `r ‖ s ‖ v`, `v` 27 or 28, `s` low.
    pub(crate) fn sign_digest(&self, digest: B256) -> Result<[u8; 65], ChainError> {
        self.0
            .sign_hash_sync(&digest)
            .map(|signature| signature.as_bytes())
            .map_err(|error| ChainError::Internal { detail: error.to_string() })
    }

    pub(crate) fn sign_transaction(&self, transaction: TxEip1559) -> Result<SignedTransaction, ChainError> {
        let signature = self
            .0
            .sign_hash_sync(&transaction.signature_hash())
            .map_err(|error| ChainError::Internal { detail: error.to_string() })?;
        let bytes = TxEnvelope::from(transaction.into_signed(signature)).encoded_2718();
        Ok(SignedTransaction { hash: convert::hash(keccak256(&bytes)), bytes })
    }
}

impl fmt::Debug for ChainKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChainKey({})", self.address())
    }
}

#[cfg(test)]
mod tests {
    use millstream_testkit::DEV_ACCOUNTS;

    use super::*;

    #[test]
    fn a_key_is_its_address_and_prints_nothing_else() {
        for account in DEV_ACCOUNTS {
            let key = ChainKey::from_bytes(&account.secret).expect("a key");
            assert_eq!(key.address(), account.address);
            assert_eq!(format!("{key:?}"), format!("ChainKey({})", account.address));
        }
        assert!(ChainKey::from_bytes(&[0; 32]).is_err());
        assert!(ChainKey::from_bytes(&[0xff; 32]).is_err());
    }
}
