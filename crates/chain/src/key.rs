//! A secp256k1 key that signs transactions and authorizations: in this process, or with a remote signer.

use std::fmt;
use std::sync::Arc;

use alloy::consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy::eips::Encodable2718;
use alloy::primitives::{B256, Signature, keccak256};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use millstream_types::{Address, Hash256};

use crate::remote::{RemoteSigner, digest};
use crate::{ChainError, convert};

/// The key of an account. Prints as its address only.
#[derive(Clone)]
pub struct ChainKey {
    address: Address,
    signer: Signer,
}

#[derive(Clone)]
enum Signer {
    Local(PrivateKeySigner),
    Remote(Arc<RemoteSigner>),
}

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
        let signer = PrivateKeySigner::from_bytes(&B256::new(*secret));
        let signer = signer.map_err(|_| ChainError::invalid("account key", "not a secp256k1 secret"))?;
        Ok(Self { address: convert::address(signer.address()), signer: Signer::Local(signer) })
    }

    /// The key of an account that a remote signer has, at an `http` or `https` address. It is asked for its keys.
    ///
    /// # Errors
    /// [`ChainError::InvalidEndpoint`]; [`ChainError::InvalidInput`] when it has no key of the account; or it is unavailable.
    pub async fn remote(url: &str, account: Address) -> Result<Self, ChainError> {
        let signer = RemoteSigner::find(url, account).await?;
        Ok(Self { address: signer.account(), signer: Signer::Remote(Arc::new(signer)) })
    }

    /// The account.
    #[must_use]
    pub const fn address(&self) -> Address {
        self.address
    }

    /// A signature over a 32-byte digest by a key of this process: 65 bytes, `r ‖ s ‖ v`, `v` 27 or 28, `s` low.
    pub(crate) fn sign_digest(&self, digest: B256) -> Result<[u8; 65], ChainError> {
        match &self.signer {
            Signer::Local(signer) => Ok(local(signer, &digest)?.as_bytes()),
            Signer::Remote(_) => {
                Err(ChainError::invalid("account key", "a remote signer signs transactions, claims and refunds, and nothing else"))
            }
        }
    }

    /// A signature over the keccak-256 of a message.
    pub(crate) async fn sign_message(&self, message: &[u8]) -> Result<Signature, ChainError> {
        match &self.signer {
            Signer::Local(signer) => local(signer, &digest(message)),
            Signer::Remote(signer) => signer.sign(message).await,
        }
    }

    pub(crate) async fn sign_transaction(&self, transaction: TxEip1559) -> Result<SignedTransaction, ChainError> {
        let signature = self.sign_message(&transaction.encoded_for_signing()).await?;
        let bytes = TxEnvelope::from(transaction.into_signed(signature)).encoded_2718();
        Ok(SignedTransaction { hash: convert::hash(keccak256(&bytes)), bytes })
    }
}

fn local(signer: &PrivateKeySigner, digest: &B256) -> Result<Signature, ChainError> {
    signer.sign_hash_sync(digest).map_err(|error| ChainError::Internal { detail: error.to_string() })
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
