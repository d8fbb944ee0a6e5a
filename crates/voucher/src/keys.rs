//! The payer's key: its secret, its public x-coordinate, and the proof that it lies in the subgroup.

use core::fmt;

use ark_bn254::Fr;
use ark_ff::{BigInteger, PrimeField, Zero};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::babyjubjub::{self, BabyJubJub, Point};
use crate::comb::KeyComb;
use crate::curve::{self, AffinePoint, CHECKING_LIMB_BITS};
use crate::residue::SecretScalar;

/// BLAKE3 context of the key that nonces are drawn with (spec V-8).
const NONCE_CONTEXT: &str = "millstream 2026 voucher nonce";
/// BLAKE3 context of a secret that is derived from a wallet's signature (spec V-11).
const WALLET_CONTEXT: &str = "millstream 2026 voucher key";

/// Why bytes are not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A secret is at least 1 (spec V-4). Random bytes reduce to zero once in 2^251 times, unfilled ones always.
    #[error("the secret is zero")]
    ZeroSecret,
    /// A secret is below the order of the subgroup (spec V-4).
    #[error("the secret is not below the order of the subgroup")]
    SecretRange,
    /// A coordinate is below the order of the field.
    #[error("the key's x-coordinate is not below the order of the field")]
    NotCanonical,
    /// The identity is no key (spec V-5).
    #[error("the key's x-coordinate is zero")]
    ZeroKey,
    /// No point of the subgroup has this x-coordinate (spec V-6).
    #[error("no point of the subgroup has the key's x-coordinate")]
    NotInSubgroup,
}

/// A payer's voucher secret `a`, in `[1, l)` (spec V-4). Wiped when dropped.
#[derive(Clone, ZeroizeOnDrop)]
pub struct SecretKey {
    scalar: SecretScalar,
    nonce_key: [u8; 32],
    #[zeroize(skip)]
    public: PublicKey,
}

/// The point `Q` on the curve with `8·Q` the key: what the ledger checks a new key with (spec V-5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyWitness {
    /// The x-coordinate, 32 bytes, big-endian, below `p`.
    pub x: [u8; 32],
    /// The y-coordinate, 32 bytes, big-endian, below `p`.
    pub y: [u8; 32],
}

/// A payer's voucher key `A`: a point of the subgroup, not the identity. Published as its x-coordinate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey {
    point: Point,
    /// `A` and `2^65·A` in the form that checking computes with.
    halves: [AffinePoint; 2],
}

/// A payer's voucher key with tables that make checks cheaper: 3.3 KiB, made once for many checks with the key, in about the time of one.
#[derive(Clone)]
pub struct CheckingKey {
    public: PublicKey,
    comb: KeyComb,
}

impl SecretKey {
    /// From 64 bytes of entropy, reduced modulo the order: as uniform as the bytes are.
    ///
    /// # Errors
    /// [`KeyError::ZeroSecret`] when they reduce to zero.
    pub fn from_entropy(entropy: &[u8; 64]) -> Result<Self, KeyError> {
        Self::from_scalar(SecretScalar::from_wide(entropy))
    }

    /// From the 32 big-endian bytes of the secret.
    ///
    /// # Errors
    /// [`KeyError::SecretRange`] or [`KeyError::ZeroSecret`].
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        SecretScalar::from_be_bytes(bytes).ok_or(KeyError::SecretRange).and_then(Self::from_scalar)
    }

    /// From a wallet's signature over the `VoucherKey` typed data (spec V-11): 65 bytes, `r ‖ s ‖ v`.
    ///
    /// # Errors
    /// [`KeyError::ZeroSecret`], once in 2^251 times.
    pub fn from_wallet_signature(signature: &[u8; 65]) -> Result<Self, KeyError> {
        let mut entropy = Zeroizing::new([0; 64]);
        let mut hasher = blake3::Hasher::new_derive_key(WALLET_CONTEXT);
        hasher.update(signature).finalize_xof().fill(entropy.as_mut());
        hasher.zeroize();
        Self::from_entropy(&entropy)
    }

    fn from_scalar(scalar: SecretScalar) -> Result<Self, KeyError> {
        if scalar.is_zero() {
            return Err(KeyError::ZeroSecret);
        }
        let point = curve::multiply_generator(&scalar).to_point();
        let bytes = Zeroizing::new(scalar.to_be_bytes());
        let nonce_key = blake3::derive_key(NONCE_CONTEXT, bytes.as_ref());
        Ok(Self { scalar, nonce_key, public: PublicKey::from_subgroup_point(point) })
    }

    /// The 32 big-endian bytes of the secret.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.scalar.to_be_bytes())
    }

    /// The key to publish.
    #[must_use]
    pub const fn public_key(&self) -> PublicKey {
        self.public
    }

    /// The witness that the key lies in the subgroup (spec V-5).
    #[must_use]
    pub fn witness(&self) -> KeyWitness {
        let inverse_of_cofactor = <BabyJubJub as ark_ec::CurveConfig>::COFACTOR_INV.into_bigint().0;
        let mut eighth = self.scalar * SecretScalar::from_limbs(inverse_of_cofactor);
        let point = curve::multiply_generator(&eighth).to_point();
        eighth.zeroize();
        KeyWitness { x: coordinate_bytes(point.x), y: coordinate_bytes(point.y) }
    }

    pub(crate) const fn scalar(&self) -> &SecretScalar {
        &self.scalar
    }

    pub(crate) const fn nonce_key(&self) -> &[u8; 32] {
        &self.nonce_key
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretKey").field("public", &self.public).finish_non_exhaustive()
    }
}

impl PublicKey {
    /// Recovers the key from its published x-coordinate, 32 bytes, big-endian (spec V-6).
    ///
    /// # Errors
    /// [`KeyError::NotCanonical`], [`KeyError::ZeroKey`] or [`KeyError::NotInSubgroup`], in this order.
    pub fn from_x(x: &[u8; 32]) -> Result<Self, KeyError> {
        let x = canonical_field(x).ok_or(KeyError::NotCanonical)?;
        if x.is_zero() {
            return Err(KeyError::ZeroKey);
        }
        babyjubjub::subgroup_point(x).map(Self::from_subgroup_point).ok_or(KeyError::NotInSubgroup)
    }

    fn from_subgroup_point(point: Point) -> Self {
        let low = AffinePoint::from_point(&point);
        Self { point, halves: [low, low.doubled(CHECKING_LIMB_BITS)] }
    }

    /// The x-coordinate, 32 bytes, big-endian.
    #[must_use]
    pub fn x(&self) -> [u8; 32] {
        coordinate_bytes(self.point.x)
    }

    /// The point.
    pub const fn point(&self) -> Point {
        self.point
    }

    pub(crate) const fn halves(&self) -> &[AffinePoint; 2] {
        &self.halves
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", millstream_types::Hash256::from_bytes(self.x()))
    }
}

impl CheckingKey {
    /// Makes the tables of a key.
    #[must_use]
    pub fn new(key: &PublicKey) -> Self {
        Self { public: *key, comb: KeyComb::new(key.halves[0]) }
    }

    /// The key itself.
    #[must_use]
    pub const fn public_key(&self) -> &PublicKey {
        &self.public
    }

    pub(crate) const fn comb(&self) -> &KeyComb {
        &self.comb
    }
}

impl fmt::Debug for CheckingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CheckingKey").field(&self.public).finish()
    }
}

/// A field element as 32 big-endian bytes.
fn coordinate_bytes(value: Fr) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(&value.into_bigint().to_bytes_be());
    bytes
}

/// 32 big-endian bytes as a field element, or nothing when they are not below the order of the field.
fn canonical_field(bytes: &[u8; 32]) -> Option<Fr> {
    let value = Fr::from_be_bytes_mod_order(bytes);
    (coordinate_bytes(value) == *bytes).then_some(value)
}
