//! Integers modulo a 254-bit prime in constant time: no branch and no address depends on a value.
//!
//! Arkworks' fields end each operation with a subtraction that is taken or not by its operand; a signer's secrets must not go through
//! that. Here reductions are masked. The form is Montgomery's with `R = 2^256`, the same as arkworks', so conversion is free.

use core::marker::PhantomData;
use core::ops::{Add, Mul, Neg, Sub};

use ark_bn254::Fr;
use ark_ff::{BigInt, Field, MontConfig};
use millstream_lanes::{negated_inverse, power_of_two};
use zeroize::DefaultIsZeroes;

use crate::babyjubjub::ScalarConfig;

/// What follows from an odd prime below 2^254.
pub(crate) trait Modulus: millstream_lanes::Modulus + Eq + Default {
    /// `-modulus⁻¹ mod 2^64`.
    const NEGATED_INVERSE: u64 = negated_inverse(Self::LIMBS[0]);
    /// `2^256` modulo the prime: the Montgomery form of one.
    const R: [u64; 4] = power_of_two(256, Self::LIMBS);
    const R2: [u64; 4] = power_of_two(512, Self::LIMBS);
    const R3: [u64; 4] = power_of_two(768, Self::LIMBS);
}

/// The field the curve is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Base;

/// The order of the subgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Order;

impl millstream_lanes::Modulus for Base {
    const LIMBS: [u64; 4] = <ark_bn254::FrConfig as MontConfig<4>>::MODULUS.0;
}

impl Modulus for Base {}

impl millstream_lanes::Modulus for Order {
    const LIMBS: [u64; 4] = <ScalarConfig as MontConfig<4>>::MODULUS.0;
}

impl Modulus for Order {}

/// A residue in Montgomery form, always fully reduced. No `Debug` outside tests: it may be a secret.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub(crate) struct Residue<M>([u64; 4], PhantomData<M>);

/// An element of the field the curve is over.
pub(crate) type Element = Residue<Base>;

/// A scalar, possibly secret.
pub(crate) type SecretScalar = Residue<Order>;

impl<M: Modulus> DefaultIsZeroes for Residue<M> {}

impl<M: Modulus> Residue<M> {
    pub(crate) const ZERO: Self = Self([0; 4], PhantomData);
    pub(crate) const ONE: Self = Self(M::R, PhantomData);

    /// From the value times 2^256, reduced, least significant limb first.
    pub(crate) const fn from_montgomery(limbs: [u64; 4]) -> Self {
        Self(limbs, PhantomData)
    }

    /// Any integer below 2^256, reduced.
    pub(crate) fn from_limbs(limbs: [u64; 4]) -> Self {
        Self::from_montgomery(limbs) * Self::from_montgomery(M::R2)
    }

    /// 64 big-endian bytes, reduced: uniform up to 2^-256 when the bytes are.
    pub(crate) fn from_wide(bytes: &[u8; 64]) -> Self {
        let limb = |index: usize| {
            let end = 64 - 8 * index;
            bytes[end - 8..end].iter().fold(0, |limb, byte| limb << 8 | u64::from(*byte))
        };
        let low = Self::from_limbs(core::array::from_fn(limb));
        let high = Self::from_montgomery(core::array::from_fn(|index| limb(index + 4)));
        low + high * Self::from_montgomery(M::R3)
    }

    /// 32 big-endian bytes that are below the modulus.
    pub(crate) fn from_be_bytes(bytes: &[u8; 32]) -> Option<Self> {
        let limb = |index: usize| bytes[24 - 8 * index..32 - 8 * index].iter().fold(0, |limb, byte| limb << 8 | u64::from(*byte));
        let limbs = core::array::from_fn(limb);
        let (_, below) = subtract(limbs, M::LIMBS);
        below.then(|| Self::from_limbs(limbs))
    }

    /// The value times 2^256, least significant limb first.
    #[inline(always)]
    pub(crate) const fn montgomery_limbs(&self) -> &[u64; 4] {
        &self.0
    }

    /// The integer, least significant limb first.
    pub(crate) fn to_limbs(self) -> [u64; 4] {
        (self * Self::from_montgomery([1, 0, 0, 0])).0
    }

    /// The integer as 32 big-endian bytes.
    pub(crate) fn to_be_bytes(self) -> [u8; 32] {
        let limbs = self.to_limbs();
        let mut bytes = [0; 32];
        for (chunk, limb) in bytes.chunks_exact_mut(8).zip(limbs.iter().rev()) {
            chunk.copy_from_slice(&limb.to_be_bytes());
        }
        bytes
    }

    pub(crate) fn double(self) -> Self {
        self + self
    }

    pub(crate) fn square(self) -> Self {
        self * self
    }

    pub(crate) fn is_zero(self) -> bool {
        self.0.iter().fold(0, |seen, limb| seen | limb) == 0
    }

    /// The inverse, and zero for zero: a power with a fixed exponent, four bits at a time.
    pub(crate) fn inverse(self) -> Self {
        let mut powers = [Self::ONE; 16];
        for index in 1..powers.len() {
            powers[index] = powers[index - 1] * self;
        }
        let mut exponent = M::LIMBS;
        // Both primes are odd and above two, so the lowest limb does not borrow.
        exponent[0] = exponent[0].wrapping_sub(2);
        let mut result = Self::ONE;
        for limb in exponent.iter().rev() {
            for shift in (0..16).rev() {
                for _ in 0..4 {
                    result = result.square();
                }
                // The exponent is public, so its digits may index.
                result = result * powers[(limb >> (4 * shift) & 15) as usize];
            }
        }
        result
    }

    /// This or zero: `mask` is all ones or all zeros.
    #[inline(always)]
    pub(crate) fn masked(self, mask: u64) -> Self {
        Self::from_montgomery(self.0.map(|limb| limb & mask))
    }

    /// The union of the bits: of two values of which one is masked away, the other.
    #[inline(always)]
    pub(crate) fn or(self, other: Self) -> Self {
        Self::from_montgomery(core::array::from_fn(|i| self.0[i] | other.0[i]))
    }

    /// The value minus the modulus when that does not borrow; `value` is below twice the modulus.
    #[inline(always)]
    fn reduce_once(value: [u64; 4]) -> Self {
        let (difference, borrow) = subtract(value, M::LIMBS);
        let keep = 0u64.wrapping_sub(u64::from(borrow));
        Self::from_montgomery(core::array::from_fn(|i| (value[i] & keep) | (difference[i] & !keep)))
    }
}

impl<M: Modulus> Add for Residue<M> {
    type Output = Self;

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // Twice a modulus below 2^254 does not carry.
        Self::reduce_once(sum(self.0, other.0))
    }
}

impl<M: Modulus> Sub for Residue<M> {
    type Output = Self;

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        let (difference, borrow) = subtract(self.0, other.0);
        let mask = 0u64.wrapping_sub(u64::from(borrow));
        Self::from_montgomery(sum(difference, M::LIMBS.map(|limb| limb & mask)))
    }
}

impl<M: Modulus> Neg for Residue<M> {
    type Output = Self;

    #[inline(always)]
    fn neg(self) -> Self {
        Self::ZERO - self
    }
}

impl<M: Modulus> Mul for Residue<M> {
    type Output = Self;

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self::reduce_once(montgomery_product::<M>(self.0, other.0))
    }
}

impl From<Fr> for Element {
    fn from(value: Fr) -> Self {
        Self::from_montgomery(value.0.0)
    }
}

impl From<Element> for Fr {
    fn from(value: Element) -> Self {
        Self::new_unchecked(BigInt(value.0))
    }
}

/// Replaces each value by `factor / value`, with one inversion for all of them; if one of them is zero, all become zero. The time depends
/// on the values.
pub(crate) fn public_inverses(values: &mut [Element], factor: Element) {
    let mut product = Element::ONE;
    let mut before = Vec::with_capacity(values.len());
    for value in values.iter() {
        before.push(product);
        product = product * *value;
    }
    let mut inverse = Fr::from(product).inverse().map_or(Element::ZERO, Element::from) * factor;
    for (value, before) in values.iter_mut().zip(before).rev() {
        (*value, inverse) = (inverse * before, inverse * *value);
    }
}

/// `left · right / 2^256`, below twice the modulus. `left` is any integer below 2^256, `right` is reduced.
///
/// One limb of `left` at a time. The primes leave two bits of the top limb free, so the running sum never needs a fifth limb between
/// rounds.
#[inline(always)]
fn montgomery_product<M: Modulus>(left: [u64; 4], right: [u64; 4]) -> [u64; 4] {
    let mut sum = [0u64; 4];
    for left in left {
        let (low, mut carry_product) = right[0].carrying_mul_add(left, sum[0], 0);
        let factor = low.wrapping_mul(M::NEGATED_INVERSE);
        let (_, mut carry_reduction) = factor.carrying_mul_add(M::LIMBS[0], low, 0);
        for i in 1..4 {
            let product;
            (product, carry_product) = right[i].carrying_mul_add(left, sum[i], carry_product);
            (sum[i - 1], carry_reduction) = factor.carrying_mul_add(M::LIMBS[i], product, carry_reduction);
        }
        sum[3] = carry_product.wrapping_add(carry_reduction);
    }
    sum
}

/// The sum modulo 2^256.
#[inline(always)]
fn sum(left: [u64; 4], right: [u64; 4]) -> [u64; 4] {
    let mut sum = [0; 4];
    let mut carry = false;
    for i in 0..4 {
        (sum[i], carry) = left[i].carrying_add(right[i], carry);
    }
    sum
}

#[inline(always)]
fn subtract(left: [u64; 4], right: [u64; 4]) -> ([u64; 4], bool) {
    let mut difference = [0; 4];
    let mut borrow = false;
    for i in 0..4 {
        (difference[i], borrow) = left[i].borrowing_sub(right[i], borrow);
    }
    (difference, borrow)
}

#[cfg(test)]
mod tests {
    use ark_ff::{BigInteger, PrimeField};
    use millstream_lanes::Modulus as _;
    use proptest::prelude::*;

    use super::*;
    use crate::babyjubjub::Scalar;

    /// Arkworks' value of any integer below 2^256.
    fn oracle<F: PrimeField>(limbs: [u64; 4]) -> F {
        F::from_le_bytes_mod_order(&BigInt(limbs).to_bytes_le())
    }

    fn check<M: Modulus + core::fmt::Debug, F: PrimeField<BigInt = BigInt<4>>>(a: [u64; 4], b: [u64; 4]) {
        let (x, y) = (Residue::<M>::from_limbs(a), Residue::<M>::from_limbs(b));
        let (s, t) = (oracle::<F>(a), oracle::<F>(b));
        let same = |x: Residue<M>, s: F, what: &str| assert_eq!(x.to_limbs(), s.into_bigint().0, "{what} of {a:?} and {b:?}");
        same(x, s, "reduction");
        same(x + y, s + t, "sum");
        same(x - y, s - t, "difference");
        same(x * y, s * t, "product");
        same(x.square(), s * s, "square");
        same(-x, -s, "negation");
        same(x.double(), s + s, "double");
        same(x.inverse(), s.inverse().unwrap_or(F::ZERO), "inverse");
        let mut wide = [0; 64];
        for (chunk, limb) in wide.chunks_exact_mut(8).zip(a.iter().chain(&b).rev()) {
            chunk.copy_from_slice(&limb.to_be_bytes());
        }
        same(Residue::from_wide(&wide), F::from_be_bytes_mod_order(&wide), "wide reduction");
        assert_eq!(Residue::from_be_bytes(&x.to_be_bytes()), Some(x));
    }

    #[test]
    fn edges_agree_with_arkworks() {
        let mut edges = vec![[0; 4], [1, 0, 0, 0], [2, 0, 0, 0], [u64::MAX; 4], [0, 0, 0, 1 << 63], [u64::MAX, 0, u64::MAX, 0]];
        for modulus in [Base::LIMBS, Order::LIMBS] {
            for low in [modulus[0] - 2, modulus[0] - 1, modulus[0], modulus[0] + 1] {
                edges.push([low, modulus[1], modulus[2], modulus[3]]);
            }
        }
        for a in &edges {
            for b in &edges {
                check::<Base, Fr>(*a, *b);
                check::<Order, Scalar>(*a, *b);
            }
        }
    }

    #[test]
    fn montgomery_forms_are_arkworks_own() {
        let value = Fr::from(77u64);
        assert_eq!(Element::from(value), Element::from_limbs([77, 0, 0, 0]));
        assert_eq!(Fr::from(Element::from(value)), value);
    }

    #[test]
    fn the_modulus_and_more_is_refused() {
        let order = BigInt::<4>(Order::LIMBS).to_bytes_be();
        let mut bytes = [0; 32];
        bytes.copy_from_slice(&order);
        assert_eq!(SecretScalar::from_be_bytes(&bytes), None);
        assert_eq!(SecretScalar::from_be_bytes(&[0xff; 32]), None);
        bytes[31] -= 1;
        assert_eq!(SecretScalar::from_be_bytes(&bytes), Some(-SecretScalar::ONE));
    }

    proptest! {
        #[test]
        fn any_values_agree_with_arkworks(a: [u64; 4], b: [u64; 4]) {
            check::<Base, Fr>(a, b);
            check::<Order, Scalar>(a, b);
        }
    }
}
