//! From eight vouchers to the eight challenges that they should have.

use millstream_lanes::{Constant, Kernel, LANES, Unit, Vector};

use super::curve::{self, Fraction};
use super::poseidon;
use crate::comb::{self, GeneratorComb, KeyComb};
use crate::curve::FROM_MINUS_ONE;
use crate::keys::CheckingKey;
use crate::residue::{Base, Element, public_inverses};
use crate::voucher::{SignedVoucher, VoucherError};

/// Eight elements of the field the curve is over.
pub(super) type Field8<V> = millstream_lanes::Lanes<V, Base>;

/// What is computed with of a voucher.
#[derive(Clone, Copy)]
pub(super) struct Job<'a> {
    pub(super) key: &'a KeyComb,
    pub(super) response_signs: [u64; 4],
    pub(super) challenge: u128,
    /// The uid, the cumulative amount and the bill: integers, least significant limb first.
    pub(super) message: [[u64; 4]; 3],
}

/// Computes the challenges of groups of vouchers.
pub(super) trait ChallengeKernel: Send + Sync {
    /// One challenge for each job, at its place.
    fn challenges(&self, groups: &[[Job<'_>; LANES]]) -> Vec<[u128; LANES]>;
}

/// Computes them on a unit.
pub(super) struct OnUnit<U>(pub(super) U);

impl<U: Unit> ChallengeKernel for OnUnit<U> {
    fn challenges(&self, groups: &[[Job<'_>; LANES]]) -> Vec<[u128; LANES]> {
        self.0.run(Challenges { groups, generator: GeneratorComb::shared(), poseidon: poseidon::Constants::shared() })
    }
}

impl<'a> Job<'a> {
    /// # Errors
    /// Those of [`SignedVoucher::verify`] that need no arithmetic.
    pub(super) fn new(voucher: &SignedVoucher, key: &'a CheckingKey) -> Result<Self, VoucherError> {
        let body = voucher.body();
        let nanos = body.nanos()?;
        let response = voucher.signature().response_limbs()?;
        let mut bill = [0; 32];
        bill[1..].copy_from_slice(&body.bill_head.as_bytes()[..31]);
        Ok(Self {
            key: key.comb(),
            response_signs: comb::response_signs(response),
            challenge: voucher.signature().challenge(),
            message: [integer(body.channel.as_bytes()), [nanos, 0, 0, 0], integer(&bill)],
        })
    }
}

/// 32 big-endian bytes, least significant limb first.
fn integer(bytes: &[u8; 32]) -> [u64; 4] {
    core::array::from_fn(|limb| bytes[24 - 8 * limb..32 - 8 * limb].iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

struct Challenges<'a> {
    groups: &'a [[Job<'a>; LANES]],
    generator: &'a GeneratorComb,
    poseidon: &'a poseidon::Constants,
}

impl Kernel for Challenges<'_> {
    type Output = Vec<[u128; LANES]>;

    #[inline(always)]
    fn run<V: Vector>(self, proof: V::Proof) -> Vec<[u128; LANES]> {
        let one = Constant::from_montgomery(*Element::ONE.montgomery_limbs());
        // Each x-coordinate over its denominator, and the product of all denominators before it.
        let mut product = Field8::<V>::splat(proof, &one);
        let mut fractions = Vec::with_capacity(self.groups.len());
        for (index, jobs) in self.groups.iter().enumerate() {
            let fraction = curve::commitment::<V>(proof, jobs, self.generator, self.groups.get(index + 1));
            fractions.push((fraction, product));
            product = product.mul(proof, fraction.denominator);
        }

        // Below 16·p, as all that are made from it below.
        let mut inverses = product.to_montgomery(proof).map(Element::from_montgomery);
        // Times what brings an x-coordinate back to the curve of the spec.
        public_inverses(&mut inverses, FROM_MINUS_ONE.into());
        let mut inverse = Field8::<V>::from_montgomery(proof, inverses.each_ref().map(Element::montgomery_limbs));
        let mut challenges = vec![[0; LANES]; self.groups.len()];
        for ((challenges, jobs), (Fraction { numerator, denominator }, before)) in
            challenges.iter_mut().zip(self.groups).zip(fractions).rev()
        {
            let commitment_x = inverse.mul(proof, before).mul(proof, numerator);
            inverse = inverse.mul(proof, denominator);
            let hash = self.poseidon.hash::<V>(proof, commitment_x, jobs);
            for (challenge, [low, high, ..]) in challenges.iter_mut().zip(hash.to_integers(proof)) {
                *challenge = u128::from(high) << 64 | u128::from(low);
            }
        }
        challenges
    }
}
