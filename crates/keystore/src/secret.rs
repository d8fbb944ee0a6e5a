//! Secrets in memory: wiped when dropped, never printed.

use core::fmt;

use millstream_types::Address;
use millstream_voucher::evm::EvmSecretKey;
use zeroize::Zeroizing;

use crate::KeystoreError;

/// The 32 big-endian bytes of a secp256k1 secret, and the account that they are of.
#[derive(Clone)]
pub struct Secret {
    bytes: Zeroizing<[u8; 32]>,
    address: Address,
}

impl Secret {
    /// From its bytes. The caller wipes its own copy.
    ///
    /// # Errors
    /// [`KeystoreError::Range`].
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeystoreError> {
        let address = EvmSecretKey::from_bytes(bytes).map_err(|_| KeystoreError::Range)?.account();
        Ok(Self { bytes: Zeroizing::new(*bytes), address })
    }

    /// From the system's randomness.
    ///
    /// # Errors
    /// [`KeystoreError::Randomness`].
    pub fn generate() -> Result<Self, KeystoreError> {
        let mut bytes = Zeroizing::new([0; 32]);
        // One in 2^128 is no secret: drawn again.
        loop {
            getrandom::fill(bytes.as_mut()).map_err(|_| KeystoreError::Randomness)?;
            if let Ok(secret) = Self::from_bytes(&bytes) {
                return Ok(secret);
            }
        }
    }

    /// From hexadecimal digits, with or without `0x`.
    ///
    /// # Errors
    /// [`KeystoreError::Range`].
    pub fn from_hex(text: &str) -> Result<Self, KeystoreError> {
        let mut bytes = Zeroizing::new([0; 32]);
        let digits = text.trim();
        hex::decode_to_slice(digits.strip_prefix("0x").unwrap_or(digits), bytes.as_mut()).map_err(|_| KeystoreError::Range)?;
        Self::from_bytes(&bytes)
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// The account.
    #[must_use]
    pub const fn address(&self) -> Address {
        self.address
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret(of {})", self.address)
    }
}

/// What opens a keystore. Bytes, as they are: no normalisation, no trimming but of one line end.
#[derive(Clone)]
pub struct Password(Zeroizing<Vec<u8>>);

impl Password {
    /// From its bytes.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether it has no byte at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_is_not_printed() {
        let secret = Secret::from_hex(&format!("0x{}", "a5".repeat(32))).expect("a secret");
        let shown = format!("{secret:?} {:?}", Password::new(b"hunter2".to_vec()));
        assert!(!shown.contains("a5a5") && !shown.contains("hunter2"), "{shown}");
        assert!(shown.contains(&secret.address().to_string()), "{shown}");
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        for text in ["", "0x", "zz", &"00".repeat(32), &"ff".repeat(32), &"11".repeat(31)] {
            assert!(matches!(Secret::from_hex(text), Err(KeystoreError::Range)), "{text}");
        }
        assert_ne!(Secret::generate().expect("one").bytes(), Secret::generate().expect("another").bytes());
    }
}
