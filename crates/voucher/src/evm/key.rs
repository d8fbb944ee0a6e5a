//! The signer's side: a secp256k1 key.

use core::fmt;

use millstream_types::{Address, Hash256};
use secp256k1::{Message, PublicKey, SecretKey};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::signature::{KeySignature, account_of, context};
use super::signed::{EvmError, Statement, Verified};

/// A secret key of an EVM account. Wiped when dropped.
#[derive(Clone, ZeroizeOnDrop)]
pub struct EvmSecretKey {
    bytes: [u8; 32],
    #[zeroize(skip)]
    account: Address,
}

impl EvmSecretKey {
    /// From its 32 bytes, big-endian. The caller wipes its own copy.
    ///
    /// # Errors
    /// [`EvmError::SecretRange`].
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, EvmError> {
        let mut secret = SecretKey::from_byte_array(*bytes).map_err(|_| EvmError::SecretRange)?;
        let account = account_of(&PublicKey::from_secret_key(context(), &secret));
        secret.non_secure_erase();
        Ok(Self { bytes: *bytes, account })
    }

    /// The 32 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.bytes)
    }

    /// The account.
    #[must_use]
    pub const fn account(&self) -> Address {
        self.account
    }

    /// Signs a digest. The nonce is that of RFC 6979, so the same digest always gives the same signature.
    ///
    /// # Errors
    /// [`EvmError::SecretRange`], which no key that was made here gives.
    pub fn sign_digest(&self, digest: &Hash256) -> Result<KeySignature, EvmError> {
        let mut bytes = Zeroizing::new(self.bytes);
        let mut secret = SecretKey::from_byte_array(*bytes).map_err(|_| EvmError::SecretRange)?;
        let signature = context().sign_ecdsa_recoverable(Message::from_digest(*digest.as_bytes()), &secret);
        secret.non_secure_erase();
        bytes.zeroize();
        Ok(KeySignature::from_library(&signature))
    }

    /// Signs a statement.
    ///
    /// # Errors
    /// [`EvmError::AmountWidth`].
    pub fn sign<T: Statement>(&self, statement: T, domain: &T::Domain) -> Result<Verified<T>, EvmError> {
        let signature = self.sign_digest(&statement.digest(domain)?)?;
        Ok(Verified::by_key(statement, signature, T::separator(domain), self.account))
    }
}

impl fmt::Debug for EvmSecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EvmSecretKey({})", self.account)
    }
}
