//! The arithmetic behind signing and checking: BabyJubJub on its isomorphic curve with a = -1.
//!
//! `(x, y)` goes to `(s·x, y)` with `s² = -168700`, and the curve becomes `-x² + y² = 1 + d'·x²·y²` with `d' = -168696/168700`, which
//! is not a square while -1 is: the addition formulas of Hisil, Wong, Carter and Dawson (2008) hold for every pair of points.
//!
//! Secrets go only through [`multiply_generator`]: a fixed number of additions, each of a table entry that is read by scanning its whole
//! window under masks, and a sign that is applied under a mask. [`commitment`] works on public values and takes whatever time they cost.

use std::sync::OnceLock;

use ark_bn254::Fr;
use ark_ff::{Field, MontFp};

use crate::babyjubjub::{GENERATOR, Point};
use crate::residue::{Element, SecretScalar};

/// The `s` of the isomorphism.
const TO_MINUS_ONE: Fr = MontFp!("6360561867910373094066688120553762416144456282423235903351243436111059670888");
/// `1 / s`.
pub(crate) const FROM_MINUS_ONE: Fr = MontFp!("19976260017534050147865154401153945156910754191401137453807035910720341838527");
/// `2·d'`.
pub(crate) const TWICE_D: Fr = MontFp!("2475045175004185027501911298141836274980133961483913877536377848625489762075");

/// `(X : Y : Z)`: what a doubling needs.
#[derive(Clone, Copy)]
pub(crate) struct Projective {
    pub(crate) x: Element,
    pub(crate) y: Element,
    pub(crate) z: Element,
}

/// `(X : Y : Z : T)` with `T = X·Y / Z`: what an addition needs.
#[derive(Clone, Copy)]
pub(crate) struct Extended {
    x: Element,
    y: Element,
    z: Element,
    t: Element,
}

/// A result before its last products: `X = E·F`, `Y = G·H`, `Z = F·G`, `T = E·H`.
pub(crate) struct Completed {
    pub(crate) e: Element,
    pub(crate) f: Element,
    pub(crate) g: Element,
    pub(crate) h: Element,
}

/// An affine operand of an addition: `(y - x, y + x, 2·d'·x·y)`.
#[derive(Clone, Copy)]
pub(crate) struct AffineOperand {
    pub(crate) difference: Element,
    pub(crate) sum: Element,
    pub(crate) product: Element,
}

/// An operand of an addition: `(Y - X, Y + X, 2·Z, 2·d'·T)`.
#[derive(Clone, Copy)]
pub(crate) struct Operand {
    difference: Element,
    sum: Element,
    twice_z: Element,
    product: Element,
}

/// A point with `Z = 1`, on the curve with a = -1.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct AffinePoint {
    x: Element,
    y: Element,
}

impl Projective {
    pub(crate) fn double(self) -> Completed {
        let (xx, yy) = (self.x.square(), self.y.square());
        let h = xx + yy;
        let g = xx - yy;
        let e = h - (self.x + self.y).square();
        let f = self.z.square().double() + g;
        Completed { e, f, g, h }
    }

    /// In time that does not depend on the point.
    fn to_affine(self) -> AffinePoint {
        let inverse = self.z.inverse();
        AffinePoint { x: self.x * inverse, y: self.y * inverse }
    }

    /// The x-coordinate on the curve of the spec; the time depends on `Z`.
    pub(crate) fn public_x(self) -> Fr {
        let inverse = Fr::from(self.z).inverse().expect("the formulas are complete: Z is never zero");
        Fr::from(self.x) * inverse * FROM_MINUS_ONE
    }
}

impl Extended {
    const IDENTITY: Self = Self { x: Element::ZERO, y: Element::ONE, z: Element::ONE, t: Element::ZERO };

    #[inline(always)]
    pub(crate) fn add_affine(self, other: &AffineOperand) -> Completed {
        let a = (self.y - self.x) * other.difference;
        let b = (self.y + self.x) * other.sum;
        let c = self.t * other.product;
        let d = self.z.double();
        Completed { e: b - a, f: d - c, g: d + c, h: b + a }
    }

    #[inline(always)]
    pub(crate) fn add(self, other: &Operand) -> Completed {
        let a = (self.y - self.x) * other.difference;
        let b = (self.y + self.x) * other.sum;
        let c = self.t * other.product;
        let d = self.z * other.twice_z;
        Completed { e: b - a, f: d - c, g: d + c, h: b + a }
    }

    pub(crate) fn operand(self) -> Operand {
        Operand { difference: self.y - self.x, sum: self.y + self.x, twice_z: self.z.double(), product: self.t * Element::from(TWICE_D) }
    }

    pub(crate) fn projective(self) -> Projective {
        Projective { x: self.x, y: self.y, z: self.z }
    }
}

impl Completed {
    #[inline(always)]
    pub(crate) fn projective(self) -> Projective {
        Projective { x: self.e * self.f, y: self.g * self.h, z: self.f * self.g }
    }

    #[inline(always)]
    pub(crate) fn extended(self) -> Extended {
        Extended { x: self.e * self.f, y: self.g * self.h, z: self.f * self.g, t: self.e * self.h }
    }
}

impl AffineOperand {
    pub(crate) const IDENTITY: Self = Self { difference: Element::ONE, sum: Element::ONE, product: Element::ZERO };

    pub(crate) fn negated(self) -> Self {
        Self { difference: self.sum, sum: self.difference, product: -self.product }
    }

    fn masked(&self, mask: u64) -> Self {
        Self { difference: self.difference.masked(mask), sum: self.sum.masked(mask), product: self.product.masked(mask) }
    }

    fn or(self, other: Self) -> Self {
        Self { difference: self.difference.or(other.difference), sum: self.sum.or(other.sum), product: self.product.or(other.product) }
    }
}

impl Operand {
    pub(crate) fn negated(self) -> Self {
        Self { difference: self.sum, sum: self.difference, product: -self.product, ..self }
    }
}

impl AffinePoint {
    pub(crate) const fn new(x: Element, y: Element) -> Self {
        Self { x, y }
    }

    pub(crate) fn from_point(point: &Point) -> Self {
        Self { x: Element::from(point.x * TO_MINUS_ONE), y: Element::from(point.y) }
    }

    pub(crate) fn to_point(self) -> Point {
        Point::new_unchecked(Fr::from(self.x) * FROM_MINUS_ONE, Fr::from(self.y))
    }

    /// The point doubled `times` times.
    pub(crate) fn doubled(self, times: usize) -> Self {
        let mut point = self.extended().projective();
        for _ in 0..times {
            point = point.double().projective();
        }
        point.to_affine()
    }

    pub(crate) fn extended(self) -> Extended {
        Extended { x: self.x, y: self.y, z: Element::ONE, t: self.x * self.y }
    }

    pub(crate) fn operand(self) -> AffineOperand {
        let product = self.x * self.y * Element::from(TWICE_D);
        AffineOperand { difference: self.y - self.x, sum: self.y + self.x, product }
    }
}

/// Windows of four bits in a scalar below 2^251, and in its signed form too.
const SIGNING_WINDOWS: usize = 63;

/// `table[w][d - 1] = d·16^w·B8`, `d` from 1 to 8.
type SigningTable = [[AffineOperand; 8]; SIGNING_WINDOWS];

fn signing_table() -> &'static SigningTable {
    static TABLE: OnceLock<Box<SigningTable>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut base = AffinePoint::from_point(&GENERATOR);
        let mut table = Box::new([[AffineOperand::IDENTITY; 8]; SIGNING_WINDOWS]);
        for window in table.iter_mut() {
            let mut multiple = Extended::IDENTITY;
            for entry in window.iter_mut() {
                multiple = multiple.add_affine(&base.operand()).extended();
                *entry = multiple.projective().to_affine().operand();
            }
            base = base.doubled(4);
        }
        table
    })
}

/// `scalar·B8`, in time and with memory accesses that do not depend on the scalar.
pub(crate) fn multiply_generator(scalar: &SecretScalar) -> AffinePoint {
    let limbs = scalar.to_limbs();
    let mut point = Extended::IDENTITY;
    let mut carry = 0u64;
    for (index, window) in signing_table().iter().enumerate() {
        let digit = (limbs[index / 16] >> (4 * (index % 16)) & 15) + carry;
        // 9 to 16 become -7 to 0 with a carry, which the next digit takes. The top digit is at most 6, so nothing is carried out.
        carry = (digit + 7) >> 4;
        point = point.add_affine(&select(window, digit, carry)).extended();
    }
    point.projective().to_affine()
}

/// Entry `digit`, or the negated entry `16 - digit` when `negative` is one. Entry 0 is the identity.
fn select(window: &[AffineOperand; 8], digit: u64, negative: u64) -> AffineOperand {
    let negative = core::hint::black_box(0u64.wrapping_sub(negative));
    let magnitude = (digit & !negative) | (16u64.wrapping_sub(digit) & negative);
    let mut chosen = AffineOperand::IDENTITY.masked(mask_if_equal(magnitude, 0));
    for (number, entry) in (1..).zip(window) {
        chosen = chosen.or(entry.masked(mask_if_equal(magnitude, number)));
    }
    chosen.masked(!negative).or(chosen.negated().masked(negative))
}

/// All ones when the numbers are equal, else zero; the compiler is kept from making a branch of it.
fn mask_if_equal(left: u64, right: u64) -> u64 {
    let difference = left ^ right;
    let not_equal = (difference | difference.wrapping_neg()) >> 63;
    core::hint::black_box(not_equal.wrapping_sub(1))
}

/// Bits of a limb of a public scalar: two limbs hold the challenge, four the response.
pub(crate) const CHECKING_LIMB_BITS: usize = 65;
/// Signed digits of a limb: one more than bits, for the carry.
const CHECKING_DIGITS: usize = CHECKING_LIMB_BITS + 1;
/// Width of the signed windows over the generator: odd digits below 2^7.
const GENERATOR_WINDOW: u32 = 8;
const GENERATOR_ENTRIES: usize = 1 << (GENERATOR_WINDOW - 2);
/// Width of the signed windows over a key.
const KEY_WINDOW: u32 = 5;
const KEY_ENTRIES: usize = 1 << (KEY_WINDOW - 2);

/// `table[l][i] = (2i + 1)·2^(65·l)·B8`.
type CheckingTable = [[AffineOperand; GENERATOR_ENTRIES]; 4];

fn checking_table() -> &'static CheckingTable {
    static TABLE: OnceLock<Box<CheckingTable>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut base = AffinePoint::from_point(&GENERATOR);
        let mut table = Box::new([[AffineOperand::IDENTITY; GENERATOR_ENTRIES]; 4]);
        for limb in table.iter_mut() {
            let twice = base.doubled(1).operand();
            let mut multiple = base.extended();
            for entry in limb.iter_mut() {
                *entry = multiple.projective().to_affine().operand();
                multiple = multiple.add_affine(&twice).extended();
            }
            base = base.doubled(CHECKING_LIMB_BITS);
        }
        table
    })
}

/// The odd multiples of a point up to 15.
fn key_table(point: AffinePoint) -> [Operand; KEY_ENTRIES] {
    let mut multiple = point.extended();
    let twice = multiple.projective().double().extended().operand();
    core::array::from_fn(|_| {
        let operand = multiple.operand();
        multiple = multiple.add(&twice).extended();
        operand
    })
}

/// Digits of the width-w non-adjacent form of a number below 2^66, least significant first: each zero or odd, below `2^(w-1)` in size.
fn non_adjacent_form(mut value: u128, width: u32) -> [i8; CHECKING_DIGITS + 1] {
    let mut digits = [0; CHECKING_DIGITS + 1];
    let mut position = 0;
    while value != 0 {
        let zeros = value.trailing_zeros();
        value >>= zeros;
        position += zeros as usize;
        let window = (value & ((1 << width) - 1)) as i32;
        let digit = if window >> (width - 1) == 0 { window } else { window - (1 << width) };
        value = value.wrapping_sub(digit as i128 as u128);
        digits[position] = digit as i8;
    }
    digits
}

/// The limbs of 65 bits of a scalar below 2^251, least significant first.
fn response_limbs(limbs: [u64; 4]) -> [u128; 4] {
    let [a, b, c, d] = limbs.map(u128::from);
    let mask = (1 << CHECKING_LIMB_BITS) - 1;
    [(a | b << 64) & mask, (b >> 1 | c << 63) & mask, (c >> 2 | d << 62) & mask, d >> 3]
}

/// The x-coordinate of `S·B8 − e·A` (spec V-7) for a response `S`, `e = 2·challenge + 2^128 + 1`, and the key `A`, given as `A` and
/// `2^65·A`. The time depends on all of them.
///
/// Six scalars of 65 bits share one run of doublings: four limbs of the response over fixed tables, two of `e` over the key's.
pub(crate) fn commitment(response: [u64; 4], challenge: u128, key: &[AffinePoint; 2]) -> Fr {
    let generator_tables = checking_table();
    let generator_digits = response_limbs(response).map(|limb| non_adjacent_form(limb, GENERATOR_WINDOW));
    let key_tables = key.map(key_table);
    // e has 130 bits: 2·challenge + 1 below 2^129, and 2^128 on top of it.
    let low = (challenge << 1 | 1) & ((1 << CHECKING_LIMB_BITS) - 1);
    let high = (challenge >> (CHECKING_LIMB_BITS - 1)) + (1 << (128 - CHECKING_LIMB_BITS));
    let key_digits = [low, high].map(|limb| non_adjacent_form(limb, KEY_WINDOW));

    let mut point = Extended::IDENTITY.projective();
    for position in (0..=CHECKING_DIGITS).rev() {
        let mut sum = point.double();
        for (digits, table) in generator_digits.iter().zip(generator_tables) {
            let digit = digits[position];
            if digit != 0 {
                let entry = table[usize::from(digit.unsigned_abs() >> 1)];
                sum = sum.extended().add_affine(&if digit > 0 { entry } else { entry.negated() });
            }
        }
        for (digits, table) in key_digits.iter().zip(&key_tables) {
            let digit = digits[position];
            if digit != 0 {
                let entry = table[usize::from(digit.unsigned_abs() >> 1)];
                sum = sum.extended().add(&if digit > 0 { entry.negated() } else { entry });
            }
        }
        point = sum.projective();
    }
    point.public_x()
}

#[cfg(test)]
mod tests {
    use ark_ec::PrimeGroup;
    use ark_ff::{AdditiveGroup, PrimeField};
    use proptest::prelude::*;

    use super::*;
    use crate::babyjubjub::{ExtendedPoint, Scalar};

    /// Arkworks' scalar of any integer below 2^256.
    fn scalar(limbs: [u64; 4]) -> Scalar {
        limbs.iter().rev().fold(Scalar::ZERO, |sum, limb| sum * Scalar::from(1u128 << 64) + Scalar::from(*limb))
    }

    fn check_signing(limbs: [u64; 4]) {
        let expected = ExtendedPoint::generator() * scalar(limbs);
        let found = multiply_generator(&SecretScalar::from_limbs(limbs)).to_point();
        assert_eq!(found, Point::from(expected), "{limbs:?}");
    }

    fn check_commitment(response: [u64; 4], challenge: u128, secret: [u64; 4]) {
        let (response, secret) = (scalar(response), scalar(secret));
        let key = ExtendedPoint::generator() * secret;
        let e = Scalar::from(challenge) * Scalar::from(2u64) + scalar([1, 0, 1, 0]);
        let expected = Point::from(ExtendedPoint::generator() * response - key * e);
        let low = AffinePoint::from_point(&key.into());
        let found = commitment(response.into_bigint().0, challenge, &[low, low.doubled(CHECKING_LIMB_BITS)]);
        assert_eq!(found, expected.x, "{response} {challenge} {secret}");
    }

    #[test]
    fn the_isomorphism_is_one() {
        assert_eq!(TO_MINUS_ONE.square(), -Fr::from(168_700u64));
        assert_eq!(TO_MINUS_ONE * FROM_MINUS_ONE, Fr::ONE);
        assert_eq!(TWICE_D * Fr::from(168_700u64), -Fr::from(2 * 168_696u64));
        assert_eq!(AffinePoint::from_point(&GENERATOR).to_point(), GENERATOR);
    }

    #[test]
    fn edges_of_signing_agree_with_arkworks() {
        for small in 0..40 {
            check_signing([small, 0, 0, 0]);
            // The same distance below the order.
            check_signing((-scalar([small, 0, 0, 0])).into_bigint().0);
        }
        for digit in 0..16u64 {
            // Each digit in every window, so every carry occurs.
            let limb = digit * 0x1111_1111_1111_1111;
            check_signing([limb, limb, limb, limb & 0x03ff_ffff_ffff_ffff]);
        }
    }

    #[test]
    fn edges_of_checking_agree_with_arkworks() {
        let below_order = (-scalar([1, 0, 0, 0])).into_bigint().0;
        for response in [[0; 4], [1, 0, 0, 0], [u64::MAX, u64::MAX, u64::MAX, 0], below_order] {
            for challenge in [0, 1, u128::MAX, u128::MAX - 1, 1 << 127, 1 << 64, (1 << 64) - 1, 1 << 63] {
                for secret in [[1, 0, 0, 0], [2, 0, 0, 0], below_order, [5, 6, 7, 8]] {
                    check_commitment(response, challenge, secret);
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn signing_agrees_with_arkworks(limbs: [u64; 4]) {
            check_signing(limbs);
        }

        #[test]
        fn checking_agrees_with_arkworks(response: [u64; 4], challenge: u128, secret: [u64; 4]) {
            check_commitment(response, challenge, secret);
        }

        #[test]
        fn digits_sum_to_the_number(value in 0u128..1 << 65, width in 2u32..8) {
            let digits = non_adjacent_form(value, width);
            let sum = digits.iter().enumerate().fold(0i128, |sum, (index, digit)| sum + (i128::from(*digit) << index));
            prop_assert_eq!(sum, i128::try_from(value).expect("66 bits"));
            prop_assert!(digits.iter().all(|d| *d == 0 || (d % 2 != 0 && i32::from(*d).abs() < 1 << (width - 1))));
        }
    }
}
