//! Scalars in signed digits.

use ark_ff::{BigInt, BigInteger};
use rayon::prelude::*;

/// Bits of a scalar's integer.
const SCALAR_BITS: u32 = 254;
/// Scalars whose digits stand together.
const CHUNK: usize = 1 << CHUNK_BITS;
const CHUNK_BITS: u32 = 12;

/// Widths of a digit that there are.
pub(crate) const WIDTHS: core::ops::RangeInclusive<u32> = 4..=16;

/// The digits of scalars, each from `-2^(width - 1)` to `2^(width - 1)`.
pub(crate) struct Digits {
    width: u32,
    /// Of each chunk of scalars, first all lowest digits, and so on.
    digits: Vec<i16>,
}

/// How many digits of a width a scalar has. With one bit for the sign of the highest one.
pub(crate) const fn windows(width: u32) -> usize {
    (SCALAR_BITS + 1).div_ceil(width) as usize
}

/// The width for which sums over so many points take least: an addition for each point and digit, and some three for each bucket. An odd
/// number of digits leaves one of two threads idle.
pub(crate) fn best_width(points: usize) -> u32 {
    let cost = |width: &u32| windows(*width).next_multiple_of(2) * (points + 3 * (1 << (width - 1)));
    WIDTHS.min_by_key(cost).expect("there are widths")
}

impl Digits {
    /// Of integers below the order.
    pub(crate) fn new(scalars: &[BigInt<4>], width: u32) -> Self {
        debug_assert!(WIDTHS.contains(&width));
        let windows = windows(width);
        let half = 1u32 << (width - 1);
        // Half the base in every digit but the highest: with it added, each lower digit is too large by half the base, and never borrows.
        let mut halves = BigInt::<4>::from(0u64);
        for window in 0..windows - 1 {
            let bit = width as usize * window + width as usize - 1;
            halves.0[bit / 64] |= 1 << (bit % 64);
        }
        let mut digits = vec![0i16; scalars.len().div_ceil(CHUNK) * windows * CHUNK];
        digits.par_chunks_mut(windows * CHUNK).zip(scalars.par_chunks(CHUNK)).for_each(|(digits, scalars)| {
            for (place, scalar) in scalars.iter().enumerate() {
                let mut raised = *scalar;
                raised.add_with_carry(&halves);
                for window in 0..windows {
                    let digit = bits(&raised, width * window as u32, width);
                    let offset = if window + 1 < windows { half } else { 0 };
                    // From -2^15 to 2^15 - 1; the highest digit is below 2^15, because the order is not a power of two.
                    digits[window * CHUNK + place] = (digit as i32 - offset as i32) as i16;
                }
            }
        });
        Self { width, digits }
    }

    pub(crate) const fn width(&self) -> u32 {
        self.width
    }

    /// The digits of one place of all scalars.
    pub(crate) fn window(&self, window: usize) -> Window<'_> {
        // No scalars, no digits.
        let first = (window * CHUNK).min(self.digits.len());
        Window { digits: &self.digits[first..], stride: windows(self.width) * CHUNK }
    }
}

/// Some bits of an integer, fewer than 32.
fn bits(integer: &BigInt<4>, first: u32, count: u32) -> u32 {
    let (limb, shift) = ((first / 64) as usize, first % 64);
    let low = integer.0[limb] >> shift;
    let high = if shift + count > 64 && limb < 3 { integer.0[limb + 1] << (64 - shift) } else { 0 };
    ((low | high) & ((1 << count) - 1)) as u32
}

/// The digits of one place of all scalars.
#[derive(Clone, Copy)]
pub(crate) struct Window<'a> {
    digits: &'a [i16],
    stride: usize,
}

impl Window<'_> {
    /// The digit of the scalar with a number.
    #[inline]
    pub(crate) fn digit(&self, number: u32) -> i16 {
        let number = number as usize;
        self.digits[(number >> CHUNK_BITS) * self.stride + number % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use ark_bn254::Fr;
    use ark_ff::{AdditiveGroup, Field, PrimeField};
    use proptest::prelude::*;

    use super::*;

    fn check(scalars: &[Fr]) {
        let integers: Vec<BigInt<4>> = scalars.iter().map(|scalar| scalar.into_bigint()).collect();
        for width in WIDTHS {
            let digits = Digits::new(&integers, width);
            for (number, scalar) in scalars.iter().enumerate() {
                let mut sum = Fr::ZERO;
                for window in (0..windows(width)).rev() {
                    let digit = digits.window(window).digit(number as u32);
                    assert!(digit.unsigned_abs() <= 1 << (width - 1));
                    sum = sum * Fr::from(1u64 << width) + Fr::from(i64::from(digit));
                }
                assert_eq!(sum, *scalar, "width {width}");
            }
        }
    }

    #[test]
    fn edges() {
        let half = -Fr::from(2u64).inverse().expect("not zero");
        let mut scalars = vec![Fr::ZERO, Fr::ONE, -Fr::ONE, half, half + Fr::ONE];
        scalars.extend((0..254).flat_map(|bit| {
            let power = Fr::from(2u64).pow([bit]);
            [power, power - Fr::ONE, -power]
        }));
        // More than one chunk of them.
        let many: Vec<Fr> = scalars.iter().copied().cycle().take(CHUNK + 3).collect();
        check(&scalars);
        check(&many);
    }

    #[test]
    fn widths_fit_sizes() {
        let found: Vec<u32> = [1, 100, 1 << 12, 1 << 16, 1 << 18, 1 << 20, 1 << 24].into_iter().map(best_width).collect();
        assert!(found.is_sorted() && found[0] == 4 && found[6] == 16, "{found:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_scalar(bytes in proptest::collection::vec(any::<[u8; 32]>(), 1..20)) {
            let scalars: Vec<Fr> = bytes.iter().map(|bytes| Fr::from_be_bytes_mod_order(bytes)).collect();
            check(&scalars);
        }
    }
}
