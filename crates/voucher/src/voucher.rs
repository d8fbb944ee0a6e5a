//! Vouchers: what is signed, the signature, and the check.

use core::fmt;

use ark_bn254::Fr;
use ark_ff::{BigInteger, PrimeField};
use millstream_types::{AmountError, BillHead, ChannelId, CumulativeAmount};
use zeroize::{Zeroize, Zeroizing};

use crate::babyjubjub::Scalar;
use crate::keys::{CheckingKey, PublicKey, SecretKey};
use crate::poseidon::{self, Tag};
use crate::residue::SecretScalar;
use crate::{comb, curve};

/// Bytes of a voucher in stored and wire form (spec V-10).
pub const VOUCHER_BYTES: usize = 96;
/// Bytes of a signature: challenge (16) ‖ response (32).
pub const SIGNATURE_BYTES: usize = 48;

/// Why a voucher is not good. Checks are made in the order of the variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VoucherError {
    /// A voucher carries 64 bits of nanos.
    #[error("the cumulative amount does not fit a voucher")]
    Amount(#[source] AmountError),
    /// `S` is zero or not below the order of the subgroup (spec V-7).
    #[error("the signature's response is zero or not below the order of the subgroup")]
    ResponseRange,
    /// The equation of V-7 does not hold: another key, another channel, another amount, another bill, or no signature at all.
    #[error("the signature of the voucher over {cumulative} nanos on channel {channel} is not the key's")]
    WrongSignature {
        /// The channel the voucher was presented for.
        channel: ChannelId,
        /// The cumulative amount it claims, in nanos.
        cumulative: u64,
    },
    /// The nonce of a new signature is zero, which happens once in 2^251 times; another bill head gives another nonce.
    #[error("the nonce of the signature is zero")]
    ZeroNonce,
}

/// A payer's statement: on this channel I owe this much, for exactly this bill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoucherBody {
    /// The channel.
    pub channel: ChannelId,
    /// Lines paid on the channel so far. Not signed itself: the bill head hashes it (spec V-9).
    pub lines_total: u64,
    /// What is owed in total, in nanos; a voucher carries 64 bits of it.
    pub cumulative: CumulativeAmount,
    /// The head of the bill after those lines.
    pub bill_head: BillHead,
}

/// What the signature is over, as elements of the field the circuit computes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// The channel's uid: below 2^248.
    pub uid: Fr,
    /// The cumulative amount in nanos: below 2^64.
    pub cumulative: Fr,
    /// The first 31 bytes of the bill head as an integer: below 2^248.
    pub bill: Fr,
}

/// A signature: challenge (16 bytes) ‖ response (32 bytes), big-endian. Not checked by itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature([u8; SIGNATURE_BYTES]);

/// A voucher with a signature that nobody has checked yet. Its amount fits 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedVoucher {
    body: VoucherBody,
    signature: Signature,
}

/// A voucher whose signature was checked, or made, with the key of its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedVoucher(SignedVoucher);

impl VoucherBody {
    /// What the signature is over.
    ///
    /// # Errors
    /// [`VoucherError::Amount`] from 2^64 nanos up.
    pub fn message(&self) -> Result<Message, VoucherError> {
        Ok(Message {
            uid: Fr::from_be_bytes_mod_order(self.channel.as_bytes()),
            cumulative: Fr::from(self.nanos()?),
            bill: Fr::from_be_bytes_mod_order(&self.bill_head.as_bytes()[..31]),
        })
    }

    pub(crate) fn nanos(&self) -> Result<u64, VoucherError> {
        self.cumulative.to_u64().map_err(VoucherError::Amount)
    }
}

impl Message {
    /// The challenge `c`: the low 128 bits of `P_5(voucher; R.x, uid, cumulative, bill)`.
    #[must_use]
    pub fn challenge(&self, commitment_x: Fr) -> u128 {
        let hash = poseidon::hash(Tag::Voucher, &[commitment_x, self.uid, self.cumulative, self.bill]);
        let [low, high, ..] = hash.into_bigint().0;
        u128::from(high) << 64 | u128::from(low)
    }
}

impl Signature {
    /// From its 48 bytes, whatever they say.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; SIGNATURE_BYTES]) -> Self {
        Self(bytes)
    }

    /// The 48 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; SIGNATURE_BYTES] {
        &self.0
    }

    /// The challenge `c`.
    #[must_use]
    pub fn challenge(&self) -> u128 {
        self.0[..16].iter().fold(0, |challenge, byte| challenge << 8 | u128::from(*byte))
    }

    /// The response `S`.
    ///
    /// # Errors
    /// [`VoucherError::ResponseRange`] when it is zero or not below the order of the subgroup: the circuit proves neither.
    pub fn response(&self) -> Result<Scalar, VoucherError> {
        self.response_limbs().map(|limbs| Scalar::new(ark_ff::BigInt(limbs)))
    }

    /// The response `S` as an integer in `[1, l)`, least significant limb first.
    pub(crate) fn response_limbs(&self) -> Result<[u64; 4], VoucherError> {
        let limb = |index: usize| self.0[40 - 8 * index..48 - 8 * index].iter().fold(0, |limb, byte| limb << 8 | u64::from(*byte));
        let response = ark_ff::BigInt(core::array::from_fn(limb));
        if response.is_zero() || response >= Scalar::MODULUS { Err(VoucherError::ResponseRange) } else { Ok(response.0) }
    }

    fn new(challenge: u128, response: SecretScalar) -> Self {
        let mut bytes = [0; SIGNATURE_BYTES];
        bytes[..16].copy_from_slice(&challenge.to_be_bytes());
        bytes[16..].copy_from_slice(&response.to_be_bytes());
        Self(bytes)
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl SignedVoucher {
    /// A body and the signature that came with it.
    ///
    /// # Errors
    /// [`VoucherError::Amount`] from 2^64 nanos up.
    pub fn new(body: VoucherBody, signature: Signature) -> Result<Self, VoucherError> {
        body.nanos().map(|_| Self { body, signature })
    }

    /// From the stored and wire form, `lines_total (8) ‖ cumulative (8) ‖ bill_head (32) ‖ signature (48)` (spec V-10); the channel is
    /// known from where it stands.
    #[must_use]
    pub fn from_bytes(channel: ChannelId, bytes: &[u8; VOUCHER_BYTES]) -> Self {
        let integer = |start: usize| bytes[start..start + 8].iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
        let mut bill_head = [0; 32];
        bill_head.copy_from_slice(&bytes[16..48]);
        let mut signature = [0; SIGNATURE_BYTES];
        signature.copy_from_slice(&bytes[48..]);
        Self {
            body: VoucherBody {
                channel,
                lines_total: integer(0),
                cumulative: CumulativeAmount::from_nanos(integer(8)),
                bill_head: BillHead::from_bytes(bill_head),
            },
            signature: Signature(signature),
        }
    }

    /// The stored and wire form, without the channel (spec V-10).
    #[must_use]
    pub fn to_bytes(&self) -> [u8; VOUCHER_BYTES] {
        let mut bytes = [0; VOUCHER_BYTES];
        bytes[..8].copy_from_slice(&self.body.lines_total.to_be_bytes());
        // The upper half is zero: the constructors see to it.
        bytes[8..16].copy_from_slice(&self.body.cumulative.units().to_be_bytes()[8..]);
        bytes[16..48].copy_from_slice(self.body.bill_head.as_bytes());
        bytes[48..].copy_from_slice(&self.signature.0);
        bytes
    }

    /// What is said.
    #[must_use]
    pub const fn body(&self) -> &VoucherBody {
        &self.body
    }

    /// The signature.
    #[must_use]
    pub const fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Checks the signature (spec V-7).
    ///
    /// # Errors
    /// [`VoucherError::ResponseRange`] or [`VoucherError::WrongSignature`].
    pub fn verify(self, key: &PublicKey) -> Result<VerifiedVoucher, VoucherError> {
        self.judge(|response, challenge| curve::commitment(response, challenge, key.halves()))
    }

    /// Checks the signature with the tables of a key: the same answer as [`Self::verify`], sooner.
    ///
    /// # Errors
    /// [`VoucherError::ResponseRange`] or [`VoucherError::WrongSignature`].
    pub fn verify_with(self, key: &CheckingKey) -> Result<VerifiedVoucher, VoucherError> {
        self.judge(|response, challenge| comb::commitment(response, challenge, key.comb()))
    }

    fn judge(self, commitment_x: impl FnOnce([u64; 4], u128) -> Fr) -> Result<VerifiedVoucher, VoucherError> {
        let message = self.body.message()?;
        let response = self.signature.response_limbs()?;
        let challenge = self.signature.challenge();
        if message.challenge(commitment_x(response, challenge)) == challenge {
            Ok(VerifiedVoucher(self))
        } else {
            Err(VoucherError::WrongSignature { channel: self.body.channel, cumulative: self.body.nanos()? })
        }
    }
}

impl VerifiedVoucher {
    /// Takes a voucher as verified without checking it: for records that this node verified before it stored them, and for nothing else.
    #[must_use]
    pub const fn assume_verified(voucher: SignedVoucher) -> Self {
        Self(voucher)
    }

    /// What is said.
    #[must_use]
    pub const fn body(&self) -> &VoucherBody {
        &self.0.body
    }

    /// The signature.
    #[must_use]
    pub const fn signature(&self) -> &Signature {
        &self.0.signature
    }

    /// The voucher as it goes over the wire.
    #[must_use]
    pub const fn signed(&self) -> &SignedVoucher {
        &self.0
    }
}

impl From<VerifiedVoucher> for SignedVoucher {
    fn from(voucher: VerifiedVoucher) -> Self {
        voucher.0
    }
}

impl SecretKey {
    /// Signs a voucher. The same secret and body always give the same signature (spec V-8), and signing takes the same time for every
    /// secret: scalars stay in masked arithmetic, the multiple of the generator reads its tables under masks, and what enters the
    /// challenge hash is public.
    ///
    /// # Errors
    /// [`VoucherError::Amount`] from 2^64 nanos up; [`VoucherError::ZeroNonce`], once in 2^251 times.
    pub fn sign(&self, body: VoucherBody) -> Result<VerifiedVoucher, VoucherError> {
        let message = body.message()?;
        let mut nonce = self.nonce(&body, body.nanos()?);
        if nonce.is_zero() {
            return Err(VoucherError::ZeroNonce);
        }
        let commitment = curve::multiply_generator(&nonce).to_point();
        let challenge = message.challenge(commitment.x);
        let response = nonce + odd_challenge(challenge) * *self.scalar();
        nonce.zeroize();
        Ok(VerifiedVoucher(SignedVoucher { body, signature: Signature::new(challenge, response) }))
    }

    /// The nonce `k` (spec V-8).
    fn nonce(&self, body: &VoucherBody, nanos: u64) -> SecretScalar {
        let mut wide = Zeroizing::new([0; 64]);
        let mut hasher = blake3::Hasher::new_keyed(self.nonce_key());
        hasher.update(body.channel.as_bytes()).update(&nanos.to_be_bytes()).update(body.bill_head.as_bytes());
        hasher.finalize_xof().fill(wide.as_mut());
        hasher.zeroize();
        SecretScalar::from_wide(&wide)
    }
}

/// `e = 2c + 2^128 + 1`.
fn odd_challenge(challenge: u128) -> SecretScalar {
    let [low, high] = [challenge << 1 | 1, challenge >> 127].map(u128::to_le_bytes);
    let limb = |bytes: &[u8]| bytes.iter().rev().fold(0, |limb, byte| limb << 8 | u64::from(*byte));
    SecretScalar::from_limbs([limb(&low[..8]), limb(&low[8..]), limb(&high[..8]) + 1, 0])
}
