//! Checking with tables made beforehand: the commitment as sums of signed combs.
//!
//! A number with `n` digits that are all 1 or -1 is odd, and every odd number below `2^n` in size is one of them. Such digits need no
//! recoding: digit `i` is 1 where bit `i` of some integer is one, and -1 elsewhere. Eight columns of digits `i, i + 8, i + 16, …` share seven
//! doublings; in each column, the digits of one table (its teeth) together choose one entry, or its negation.

use std::sync::OnceLock;

use ark_bn254::Fr;
use millstream_lanes::Modulus;

use crate::babyjubjub::GENERATOR;
use crate::curve::{AffineOperand, AffinePoint, Completed, Extended};
use crate::residue::{Element, Order, public_inverses};

/// Columns of a comb: a tooth for each byte of a scalar.
pub(crate) const COLUMNS: usize = 8;
/// Teeth of a table of a key, and of the generator.
const KEY_TEETH: usize = 4;
const GENERATOR_TEETH: usize = 8;
/// Entries of a table: one for each choice of signs, but for the highest tooth's, which negates the entry.
const KEY_ENTRIES: usize = 1 << (KEY_TEETH - 1);
const GENERATOR_ENTRIES: usize = 1 << (GENERATOR_TEETH - 1);
/// Tables of a key and of the generator: for 128 and for 256 digits.
pub(crate) const KEY_TABLES: usize = 4;
pub(crate) const GENERATOR_TABLES: usize = 4;

/// What checking needs of a key `A`; `tables[l]` is over the teeth `2^(32·l)·A, 2^(32·l + 8)·A, …`.
#[derive(Clone)]
pub(crate) struct KeyComb {
    /// `-2^122·A`: what is added before seven doublings to take away `2^129·A`.
    start: AffineOperand,
    tables: [[AffineOperand; KEY_ENTRIES]; KEY_TABLES],
}

/// `[l]` is over the teeth `2^(64·l)·B8, 2^(64·l + 8)·B8, …`.
pub(crate) struct GeneratorComb([[AffineOperand; GENERATOR_ENTRIES]; GENERATOR_TABLES]);

/// An entry of a table, to be added or to be subtracted.
#[derive(Clone, Copy)]
pub(crate) struct Term<'a> {
    pub(crate) entry: &'a AffineOperand,
    pub(crate) negative: bool,
}

/// The digits of a response `S`: the number with these signs is `S` or `S + l`, which the generator does not tell apart.
pub(crate) fn response_signs(response: [u64; 4]) -> [u64; 4] {
    let keep = (response[0] & 1).wrapping_sub(1);
    let mut odd = [0; 4];
    let mut carry = false;
    for (i, limb) in odd.iter_mut().enumerate() {
        // Below 2^252, so nothing is carried out.
        (*limb, carry) = response[i].carrying_add(Order::LIMBS[i] & keep, carry);
    }
    let [a, b, c, d] = odd;
    [a >> 1 | b << 63, b >> 1 | c << 63, c >> 1 | d << 63, d >> 1 | 1 << 63]
}

/// The entry that the signs of the teeth, lowest tooth lowest, choose.
#[inline(always)]
fn chosen<const ENTRIES: usize>(table: &[AffineOperand; ENTRIES], signs: usize) -> Term<'_> {
    let positive = (signs / ENTRIES) & 1;
    // The entry of the highest tooth taken positively; if it is negative, all signs are turned.
    let index = (signs ^ positive.wrapping_sub(1)) & (ENTRIES - 1);
    Term { entry: &table[index], negative: positive == 0 }
}

impl KeyComb {
    pub(crate) fn new(key: AffinePoint) -> Self {
        let teeth = teeth::<{ KEY_TABLES * KEY_TEETH }>(key);
        let mut points: Vec<Extended> = teeth.chunks_exact(KEY_TEETH).flat_map(combinations::<KEY_ENTRIES>).collect();
        // The last tooth is 2^120·A.
        points.push(doubled(teeth[teeth.len() - 1], 2));
        let operands = normalized(&points);
        let tables = core::array::from_fn(|table| core::array::from_fn(|index| operands[table * KEY_ENTRIES + index]));
        Self { start: operands[points.len() - 1].negated(), tables }
    }

    /// Before the first column.
    pub(crate) const fn start(&self) -> &AffineOperand {
        &self.start
    }

    /// Asks for a table to be brought near the processor.
    #[inline(always)]
    pub(crate) fn prefetch(&self, table: usize) {
        millstream_lanes::prefetch(&self.tables[table]);
    }

    /// What a table gives for a column of `-e·A`, of which `start` takes care of `2^129`: the other digits are the bits of the challenge.
    #[inline(always)]
    pub(crate) fn term(&self, challenge: u128, table: usize, column: usize) -> Term<'_> {
        let bits = (challenge >> (32 * table)) as u64 >> column & 0x0101_0101;
        // Bit 0 of byte k goes to bit k of the upper four.
        let signs = (bits * 0x1020_4080) >> 28 & 15;
        let term = chosen(&self.tables[table], signs as usize);
        Term { negative: !term.negative, ..term }
    }
}

impl GeneratorComb {
    pub(crate) fn shared() -> &'static Self {
        static COMB: OnceLock<Box<GeneratorComb>> = OnceLock::new();
        COMB.get_or_init(|| {
            let teeth = teeth::<{ GENERATOR_TABLES * GENERATOR_TEETH }>(AffinePoint::from_point(&GENERATOR));
            let points: Vec<Extended> = teeth.chunks_exact(GENERATOR_TEETH).flat_map(combinations::<GENERATOR_ENTRIES>).collect();
            let operands = normalized(&points);
            Box::new(Self(core::array::from_fn(|table| core::array::from_fn(|index| operands[table * GENERATOR_ENTRIES + index]))))
        })
    }

    /// What a table gives for a column of `S·B8`, for the [`response_signs`] of `S`.
    #[inline(always)]
    pub(crate) fn term(&self, signs: &[u64; 4], table: usize, column: usize) -> Term<'_> {
        let bits = signs[table] >> column & 0x0101_0101_0101_0101;
        // Bit 0 of byte k goes to bit k of the upper eight.
        let signs = bits.wrapping_mul(0x0102_0408_1020_4080) >> 56;
        chosen(&self.0[table], signs as usize)
    }
}

/// The point doubled `times` times; at least once.
fn doubled(point: Extended, times: usize) -> Extended {
    (1..times).fold(point.projective().double(), |point, _| point.projective().double()).extended()
}

/// `P, 2^8·P, 2^16·P, …`.
fn teeth<const TEETH: usize>(point: AffinePoint) -> [Extended; TEETH] {
    let mut teeth = [point.extended(); TEETH];
    for index in 1..TEETH {
        teeth[index] = doubled(teeth[index - 1], COLUMNS);
    }
    teeth
}

/// The sums of the teeth with every choice of signs but the last tooth's: bit `k` of the index says that tooth `k` is added.
fn combinations<const ENTRIES: usize>(teeth: &[Extended]) -> [Extended; ENTRIES] {
    let (last, others) = teeth.split_last().expect("a comb has teeth");
    let all_negative = others.iter().fold(*last, |sum, tooth| sum.add(&tooth.operand().negated()).extended());
    let twice: Vec<_> = others.iter().map(|tooth| doubled(*tooth, 1).operand()).collect();
    let mut sums = [all_negative; ENTRIES];
    for index in 1..ENTRIES {
        sums[index] = sums[index & (index - 1)].add(&twice[index.trailing_zeros() as usize]).extended();
    }
    sums
}

/// The points with `Z = 1`; the time depends on them.
fn normalized(points: &[Extended]) -> Vec<AffineOperand> {
    let mut inverses: Vec<Element> = points.iter().map(|point| point.projective().z).collect();
    // The formulas are complete: no Z is zero.
    public_inverses(&mut inverses, Element::ONE);
    points
        .iter()
        .zip(inverses)
        .map(|(point, inverse)| {
            let point = point.projective();
            AffinePoint::new(point.x * inverse, point.y * inverse).operand()
        })
        .collect()
}

/// The x-coordinate of `S·B8 − e·A` (spec V-7) for a response `S` and `e = 2·challenge + 2^128 + 1`. The time depends on all of them.
///
/// `e = 2^129 + Σ ±2^i` with the signs of the challenge's 128 bits.
pub(crate) fn commitment(response: [u64; 4], challenge: u128, key: &KeyComb) -> Fr {
    let generator = GeneratorComb::shared();
    let signs = response_signs(response);
    let start = key.start();
    // The start as it would come from adding it to the identity.
    let mut sum =
        Completed { e: start.sum - start.difference, f: Element::ONE.double(), g: Element::ONE.double(), h: start.sum + start.difference };
    for column in (0..COLUMNS).rev() {
        if column + 1 != COLUMNS {
            sum = sum.projective().double();
        }
        let of_key = (0..KEY_TABLES).map(|table| key.term(challenge, table, column));
        for Term { entry, negative } in of_key.chain((0..GENERATOR_TABLES).map(|table| generator.term(&signs, table, column))) {
            sum = sum.extended().add_affine(&if negative { entry.negated() } else { *entry });
        }
    }
    sum.projective().public_x()
}

#[cfg(test)]
mod tests {
    use ark_ec::PrimeGroup;
    use ark_ff::{AdditiveGroup, PrimeField};
    use proptest::prelude::*;

    use super::*;
    use crate::babyjubjub::{ExtendedPoint, Point, Scalar};

    /// Arkworks' scalar of any integer below 2^256.
    fn scalar(limbs: [u64; 4]) -> Scalar {
        limbs.iter().rev().fold(Scalar::ZERO, |sum, limb| sum * Scalar::from(1u128 << 64) + Scalar::from(*limb))
    }

    fn check_commitment(response: [u64; 4], challenge: u128, secret: [u64; 4]) {
        let (response, secret) = (scalar(response), scalar(secret));
        let key = ExtendedPoint::generator() * secret;
        let e = Scalar::from(challenge) * Scalar::from(2u64) + scalar([1, 0, 1, 0]);
        let expected = Point::from(ExtendedPoint::generator() * response - key * e);
        let comb = KeyComb::new(AffinePoint::from_point(&key.into()));
        assert_eq!(commitment(response.into_bigint().0, challenge, &comb), expected.x, "{response} {challenge} {secret}");
    }

    #[test]
    fn edges_agree_with_arkworks() {
        let below_order = (-scalar([1, 0, 0, 0])).into_bigint().0;
        for response in [[0; 4], [1, 0, 0, 0], [2, 0, 0, 0], [u64::MAX, u64::MAX, u64::MAX, 0], below_order] {
            for challenge in [0, 1, u128::MAX, u128::MAX - 1, 1 << 127, 1 << 64, (1 << 64) - 1, 1 << 63, u128::MAX / 3] {
                for secret in [[1, 0, 0, 0], [2, 0, 0, 0], below_order, [5, 6, 7, 8]] {
                    check_commitment(response, challenge, secret);
                }
            }
        }
    }

    #[test]
    fn signs_are_those_of_the_response_or_of_it_and_the_order() {
        for response in [[1, 0, 0, 0], [2, 0, 0, 0], [u64::MAX, 0, 5, 9], (-scalar([1, 0, 0, 0])).into_bigint().0] {
            let signs = response_signs(response);
            let mut sum = Scalar::ZERO;
            for digit in (0..256).rev() {
                let one = signs[digit / 64] >> (digit % 64) & 1 == 1;
                sum = sum.double() + if one { Scalar::from(1u64) } else { -Scalar::from(1u64) };
            }
            assert_eq!(sum, scalar(response), "{response:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn commitments_agree_with_arkworks(response: [u64; 4], challenge: u128, secret: [u64; 4]) {
            check_commitment(response, challenge, secret);
        }
    }
}
