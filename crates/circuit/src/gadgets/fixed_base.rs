//! `S·B8` by 83 signed 3-bit windows and one of two bits: 416 rows and 251 booleans.
//!
//! `S` is written as an odd integer `n ≡ S (mod l)`, `|n| ≤ l − 2`:
//!
//! `n = Σ_{j<250} ±2^j ± w`, with `w = l − 1 − 2^250`, an even number of `(0, 2^250)`.
//!
//! The powers of two reach every odd integer of size below `2^250`; `w` moves that run up or down, so that together they reach every odd
//! integer of size at most `l − 2` and none beyond. Those are `l − 1` integers, one for each residue but zero. (`S = 0` has no form. A
//! signature with `S = 0` would need a challenge that solves its own hash, `2^128` work; the native side refuses it all the same.)
//!
//! Windows of three signs are `±{1,3,5,7}·8^i`; the last is `±2^249 ± w`.
//!
//! **No addition is exceptional**, whatever a prover chooses. Window 0 is odd and all others are even and not zero. So before each
//! addition the accumulator stands for an odd integer `m`, the window for an even one `d ≠ 0`, and `m ± d` is odd. All of `m`, `d`, `m ± d`
//! are at most `l − 2` in size, an odd integer of that size is not zero mod `l`, nor is `d`. So neither point is the identity, and they are
//! neither equal nor opposite: a complete addition is not needed anywhere.

use std::sync::LazyLock;

use ark_bn254::Fr;
use ark_ec::AffineRepr;
use ark_ff::{AdditiveGroup, BigInt, BigInteger, Field, PrimeField};
use millstream_voucher::babyjubjub::{GENERATOR, Point, Scalar};

use super::bits::Bit;
use super::montgomery::{Montgomery, to_montgomery};
use super::slopes::sum_slopes;
use crate::cs::{Cs, Linear};

/// Windows of three signs.
const WINDOWS: usize = 83;

/// The exponent of the sign that shares the last window with `w`.
const LAST: usize = 3 * WINDOWS;

/// `±(1 + 2·low + 4·high)·8^i·B8`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Digit {
    positive: bool,
    low: bool,
    high: bool,
}

/// A scalar in the form of the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Digits {
    windows: [Digit; WINDOWS],
    /// The sign of `2^249`.
    last_positive: bool,
    /// Whether `w` has the same sign.
    last_added: bool,
}

impl Digits {
    /// The digits of a scalar; `None` for zero.
    pub(crate) fn new(scalar: &Scalar) -> Option<Self> {
        let residue = scalar.into_bigint();
        if residue.is_zero() {
            return None;
        }
        // |n| is S when that is odd, else l − S, and then every sign turns.
        let turned = residue.is_even();
        let mut shifted = residue;
        if turned {
            shifted = Scalar::MODULUS;
            shifted.sub_with_borrow(&residue);
        }
        // With `w` positive the rest is `Σ ±2^j = |n| − w`, and `2·Σ b_j·2^j = |n| − w + 2^250 − 1 = |n| + 2^251 − l` for the bits of the signs.
        shifted.add_with_carry(&power_of_two(251));
        shifted.sub_with_borrow(&Scalar::MODULUS);
        let sign = |exponent: usize| shifted.get_bit(exponent + 1) != turned;
        let windows = core::array::from_fn(|window| {
            let [low, high, positive] = [0, 1, 2].map(|offset| sign(3 * window + offset));
            Digit { positive, low: low == positive, high: high == positive }
        });
        let last_positive = sign(LAST);
        Some(Self { windows, last_positive, last_added: last_positive != turned })
    }
}

impl Default for Digits {
    fn default() -> Self {
        Self { windows: [Digit::default(); WINDOWS], last_positive: false, last_added: false }
    }
}

fn power_of_two(exponent: usize) -> BigInt<4> {
    let mut limbs = [0; 4];
    limbs[exponent / 64] = 1 << (exponent % 64);
    BigInt(limbs)
}

/// A multiple of the generator in both forms.
#[derive(Clone, Copy)]
struct Multiple {
    edwards: Point,
    u: Fr,
    v: Fr,
}

/// What the windows choose from.
struct Tables {
    /// 1, 3, 5, 7 times `8^i`.
    windows: Vec<[Multiple; 4]>,
    /// `2^249 − w`, `2^249 + w`.
    last: [Multiple; 2],
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let multiple = |scalar: Scalar| {
        let edwards = Point::from(GENERATOR.mul_bigint(scalar.into_bigint()));
        let (u, v) = to_montgomery(&edwards).expect("a multiple that is not zero mod l");
        Multiple { edwards, u, v }
    };
    let power = |exponent: usize| Scalar::from(2u64).pow([exponent as u64]);
    let windows = (0..WINDOWS).map(|window| [1u64, 3, 5, 7].map(|odd| multiple(power(3 * window) * Scalar::from(odd)))).collect();
    let w = -Scalar::ONE - power(LAST + 1);
    Tables { windows, last: [power(LAST) - w, power(LAST) + w].map(multiple) }
});

impl Tables {
    /// The terms that the digits choose, for the hints.
    fn terms(&self, digits: &Digits) -> Vec<Point> {
        let signed = |positive: bool, multiple: &Multiple| if positive { multiple.edwards } else { -multiple.edwards };
        let windows = digits
            .windows
            .iter()
            .zip(&self.windows)
            .map(|(digit, table)| signed(digit.positive, &table[usize::from(digit.low) + 2 * usize::from(digit.high)]));
        windows.chain([signed(digits.last_positive, &self.last[usize::from(digits.last_added)])]).collect()
    }
}

/// `S·B8` for a free `S` of which the digits are the hint; `S` itself is nowhere needed.
pub(crate) fn generator_multiple<C: Cs>(cs: &mut C, digits: &Digits) -> Montgomery<C::L> {
    let tables = &*TABLES;
    let mut slopes = vec![Fr::ZERO; WINDOWS];
    if C::RUNS_HINTS {
        slopes = sum_slopes(&tables.terms(digits));
    }
    let mut accumulator = window(cs, &digits.windows[0], &tables.windows[0]);
    for ((digit, table), slope) in digits.windows.iter().zip(&tables.windows).skip(1).zip(&slopes) {
        let term = window(cs, digit, table);
        cs.group("sum of the response");
        accumulator = accumulator.add(cs, &term, || *slope);
    }
    let term = last_window(cs, digits, &tables.last);
    cs.group("sum of the response");
    accumulator.add(cs, &term, || slopes[WINDOWS - 1])
}

/// One of eight points: three booleans, and two rows to choose.
fn window<C: Cs>(cs: &mut C, digit: &Digit, table: &[Multiple; 4]) -> Montgomery<C::L> {
    cs.group("digits of the response");
    let positive = Bit::alloc(cs, || digit.positive);
    let low = Bit::alloc(cs, || digit.low);
    let high = Bit::alloc(cs, || digit.high);
    cs.group("windows of the response");
    let both = cs.product(low.linear(), high.linear());
    let choose = |[one, three, five, seven]: [Fr; 4]| {
        let terms = [(three - one, low.linear()), (five - one, high.linear()), (seven - five - three + one, &both)];
        C::L::weighted(terms).plus_constant(one)
    };
    let v = cs.product(&choose(table.map(|multiple| multiple.v)), &positive.sign());
    Montgomery { u: choose(table.map(|multiple| multiple.u)), v }
}

/// One of four points: two booleans, and one row to choose.
fn last_window<C: Cs>(cs: &mut C, digits: &Digits, [minus, plus]: &[Multiple; 2]) -> Montgomery<C::L> {
    cs.group("digits of the response");
    let positive = Bit::alloc(cs, || digits.last_positive);
    let added = Bit::alloc(cs, || digits.last_added);
    cs.group("windows of the response");
    let choose = |zero: Fr, one: Fr| added.linear().scaled(one - zero).plus_constant(zero);
    let v = cs.product(&choose(minus.v, plus.v), &positive.sign());
    Montgomery { u: choose(minus.u, plus.u), v }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cs::{Structure, Values};

    fn multiple(scalar: Scalar) -> (Point, bool) {
        let mut cs = Values::new();
        let result = generator_multiple(&mut cs, &Digits::new(&scalar).expect("not zero"));
        let result = Point::new_unchecked(result.edwards_x(&mut cs), result.edwards_y(&mut cs));
        (result, cs.broken_row.is_none())
    }

    #[test]
    fn every_edge_of_the_scalars_is_the_native_multiple() {
        let two = Scalar::from(2u64);
        let w = -Scalar::ONE - two.pow([250u64]);
        let mut scalars = vec![w, -w, w + Scalar::ONE, two.pow([250u64]), two.pow([249u64]) - w, two.pow([249u64]) + w];
        for small in 1..12u64 {
            scalars.extend([Scalar::from(small), -Scalar::from(small)]);
        }
        for exponent in [3u64, 125, 126, 247, 248, 249, 250, 251, 252] {
            scalars.extend([two.pow([exponent]), two.pow([exponent]) - Scalar::ONE, -two.pow([exponent])]);
        }
        scalars.extend((1..20u64).map(|k| Scalar::from(k).pow([0x1234_5678_9abc_def0u64])));
        for scalar in scalars {
            let expected = Point::from(GENERATOR.mul_bigint(scalar.into_bigint()));
            assert_eq!(multiple(scalar), (expected, true), "{scalar}");
        }
        assert_eq!(Digits::new(&Scalar::from(0u64)), None);
    }

    #[test]
    fn the_offset_is_even_and_below_the_powers() {
        let mut w = Scalar::MODULUS;
        w.sub_with_borrow(&BigInt::from(1u64));
        w.sub_with_borrow(&power_of_two(250));
        assert!(w.is_even() && !w.is_zero() && w < power_of_two(250));
        assert_ne!(w, power_of_two(LAST), "the last window is never zero");
        // The largest |n| is l − 2.
        let mut largest = power_of_two(250);
        largest.sub_with_borrow(&BigInt::from(1u64));
        largest.add_with_carry(&w);
        largest.add_with_carry(&BigInt::from(2u64));
        assert_eq!(largest, Scalar::MODULUS);
    }

    #[test]
    fn every_choice_of_digits_satisfies_the_rows() {
        // A prover may choose any digits: none may reach an exceptional addition, which would leave a slope free.
        for pattern in 0..64u32 {
            let bit = |position: usize| pattern >> (position % 6) & 1 == 1;
            let digit = |window: usize| Digit { positive: bit(window), low: bit(window + 1), high: bit(2 * window) };
            let digits = Digits { windows: core::array::from_fn(digit), last_positive: bit(3), last_added: bit(4) };
            let mut cs = Values::new();
            let point = generator_multiple(&mut cs, &digits);
            assert_eq!(cs.broken_row, None);
            assert!(Point::new_unchecked(point.edwards_x(&mut cs), point.edwards_y(&mut cs)).is_on_curve());
        }
    }

    #[test]
    fn rows_and_booleans_are_counted() {
        let structure = Structure::record(|cs| {
            generator_multiple(cs, &Digits::default());
        });
        assert_eq!(structure.constraints(), 251 + 416);
    }
}
