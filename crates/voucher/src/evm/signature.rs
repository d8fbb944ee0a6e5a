//! Signatures: 65 bytes of a key, or whatever a contract understands.

use core::fmt;
use core::str::FromStr;
use std::sync::OnceLock;

use millstream_types::{Address, Hash256};
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use secp256k1::{All, Message, PublicKey, Secp256k1};

use super::eip712::keccak256;
use super::signed::EvmError;

/// Bytes of a key's signature: `r (32) ‖ s (32) ‖ v (1)`, big-endian.
pub const KEY_SIGNATURE_BYTES: usize = 65;

/// The most bytes of a signature that is taken in: a wallet of ten owners needs about 700, one wrapped for a wallet that is not deployed
/// (ERC-6492) up to some thousands.
pub const CONTRACT_SIGNATURE_BYTES_MAX: usize = 4_096;

/// Half of the order of secp256k1, big-endian: the largest `s` that is accepted (EIP-2).
const HALF_ORDER: [u8; 32] = [
    0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x5d, 0x57, 0x6e, 0x73, 0x57, 0xa4,
    0x50, 0x1d, 0xdf, 0xe9, 0x2f, 0x46, 0x68, 0x1b, 0x20, 0xa0,
];

/// A signature as it came, at most [`CONTRACT_SIGNATURE_BYTES_MAX`] bytes. Not checked by itself.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EvmSignature(Box<[u8]>);

/// A key's signature in the one form that contracts accept: 65 bytes, `s` in the lower half, `v` 27 or 28 (spec E-3). Which key made it
/// is not known before [`KeySignature::signer_of`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeySignature([u8; KEY_SIGNATURE_BYTES]);

/// The library's tables. Made once: they hold no secret.
pub(super) fn context() -> &'static Secp256k1<All> {
    static CONTEXT: OnceLock<Secp256k1<All>> = OnceLock::new();
    CONTEXT.get_or_init(Secp256k1::new)
}

/// The account of a public key: the last 20 bytes of the keccak-256 of its coordinates.
pub(super) fn account_of(key: &PublicKey) -> Address {
    let point = key.serialize_uncompressed();
    let hash = keccak256(&point[1..]);
    let mut address = [0; 20];
    address.copy_from_slice(&hash.as_bytes()[12..]);
    Address::from_bytes(address)
}

impl EvmSignature {
    /// From the bytes that came, whatever they say.
    ///
    /// # Errors
    /// [`EvmError::SignatureTooLong`].
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Result<Self, EvmError> {
        let bytes = bytes.into();
        if bytes.len() > CONTRACT_SIGNATURE_BYTES_MAX { Err(EvmError::SignatureTooLong { bytes: bytes.len() }) } else { Ok(Self(bytes)) }
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// As a key's signature.
    ///
    /// # Errors
    /// See [`KeySignature::from_bytes`]; [`EvmError::SignatureLength`] when it is not 65 bytes.
    pub fn to_key_signature(&self) -> Result<KeySignature, EvmError> {
        let bytes: &[u8; KEY_SIGNATURE_BYTES] = (*self.0).try_into().map_err(|_| EvmError::SignatureLength { bytes: self.0.len() })?;
        KeySignature::from_bytes(*bytes)
    }
}

impl KeySignature {
    /// From 65 bytes.
    ///
    /// # Errors
    /// [`EvmError::RecoveryByte`], [`EvmError::HighS`], or [`EvmError::SignatureRange`] when `r` or `s` is zero or not below the order.
    pub fn from_bytes(bytes: [u8; KEY_SIGNATURE_BYTES]) -> Result<Self, EvmError> {
        let [r @ .., _] = bytes;
        let (r, s) = r.split_at(32);
        let v = bytes[64];
        if v != 27 && v != 28 {
            return Err(EvmError::RecoveryByte { v });
        }
        if s > HALF_ORDER.as_slice() {
            return Err(EvmError::HighS);
        }
        let signature = Self(bytes);
        if [r, s].iter().any(|number| number.iter().all(|byte| *byte == 0)) || signature.parsed().is_none() {
            return Err(EvmError::SignatureRange);
        }
        Ok(signature)
    }

    pub(super) fn from_library(signature: &RecoverableSignature) -> Self {
        let (recovery, compact) = signature.serialize_compact();
        let mut bytes = [0; KEY_SIGNATURE_BYTES];
        bytes[..64].copy_from_slice(&compact);
        bytes[64] = if recovery == RecoveryId::Zero { 27 } else { 28 };
        Self(bytes)
    }

    fn parsed(&self) -> Option<RecoverableSignature> {
        let recovery = if self.0[64] == 27 { RecoveryId::Zero } else { RecoveryId::One };
        RecoverableSignature::from_compact(&self.0[..64], recovery).ok()
    }

    /// The 65 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; KEY_SIGNATURE_BYTES] {
        &self.0
    }

    /// The account whose key signed this digest: what the EVM's `ecrecover` answers.
    ///
    /// # Errors
    /// [`EvmError::Unrecoverable`] when no key gives this signature.
    pub fn signer_of(&self, digest: &Hash256) -> Result<Address, EvmError> {
        let signature = self.parsed().ok_or(EvmError::SignatureRange)?;
        let message = Message::from_digest(*digest.as_bytes());
        context().recover_ecdsa(message, &signature).map(|key| account_of(&key)).map_err(|_| EvmError::Unrecoverable)
    }
}

impl From<KeySignature> for EvmSignature {
    fn from(signature: KeySignature) -> Self {
        Self(Box::new(signature.0))
    }
}

/// Hexadecimal of an even number of digits after `0x`, of either case.
impl FromStr for EvmSignature {
    type Err = EvmError;

    fn from_str(text: &str) -> Result<Self, EvmError> {
        let digits = text.strip_prefix("0x").ok_or(EvmError::SignatureText)?.as_bytes();
        if digits.len() / 2 > CONTRACT_SIGNATURE_BYTES_MAX {
            return Err(EvmError::SignatureTooLong { bytes: digits.len() / 2 });
        }
        let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let pairs = digits.chunks(2).map(|pair| match pair {
            [high, low] => Some(nibble(*high)? << 4 | nibble(*low)?),
            _ => None,
        });
        pairs.collect::<Option<Box<[u8]>>>().map(Self).ok_or(EvmError::SignatureText)
    }
}

/// Lowercase hexadecimal after `0x`.
impl fmt::Display for EvmSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for EvmSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for KeySignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeySignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
