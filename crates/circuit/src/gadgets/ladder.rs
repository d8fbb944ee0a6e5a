//! `e·A` for the odd 129- or 130-bit challenge `e = 2c + 2^128 + 1` (V-7): six rows a bit of `c`, and three for the first doubling.

use millstream_voucher::babyjubjub::Point;

use super::bits::Bit;
use super::montgomery::{Montgomery, third_u};
use super::slopes::{StepSlopes, ladder_slopes};
use crate::cs::{Cs, Linear};

/// Bits of the challenge `c`.
pub(crate) const CHALLENGE_BITS: u32 = 128;

/// `(2c + 2^128 + 1)·A`, for `c` by its bits, least significant first.
///
/// `e = 2^129 + Σ ±2^j` over the 128 bits, plus for a set bit: start at `2A`, and for each bit from the top `P ← 2P ± A`, computed as
/// `(P ± A) + P` without the `v` of the sum in between (its slope is `2v/(u_P − u_T) − λ`).
///
/// **No step is exceptional when the order of `A` is at least `l`.** Write `P = m·A`. `m` starts at 2, only grows, and `2m ± 1` stays
/// below `2^131 < l`. The first addition needs `m ≢ ±1`: `2 ≤ m < 2^130`. The second needs `m ± 1 ≢ ±m`, so `±1 ≢ 0` and `2m ± 1 ≢ 0`:
/// both lie strictly between 0 and `l` in size. A registered key has order `l` (V-5). Its x-coordinate is also that of `T − A`, with
/// `T` of order two, which has order `2l`: the argument covers it. So every denominator is not zero, and every slope is determined.
///
/// `hint` is the point and `c` in the clear.
pub(crate) fn challenge_multiple<C: Cs>(
    cs: &mut C,
    point: &Montgomery<C::L>,
    u_squared: &C::L,
    challenge: &[Bit<C::L>],
    hint: (&Point, u128),
) -> Montgomery<C::L> {
    let mut slopes = vec![StepSlopes::default(); challenge.len()];
    if C::RUNS_HINTS {
        slopes = ladder_slopes(hint.0, (0..challenge.len()).rev().map(|position| hint.1 >> position & 1 == 1));
    }
    let mut accumulator = point.double(cs, u_squared);
    for (bit, slopes) in challenge.iter().rev().zip(&slopes) {
        accumulator = double_and_add(cs, &accumulator, point, bit, slopes);
    }
    accumulator
}

/// `2P + A` for a set bit, `2P − A` for a clear one: six rows.
fn double_and_add<C: Cs>(cs: &mut C, p: &Montgomery<C::L>, a: &Montgomery<C::L>, bit: &Bit<C::L>, slopes: &StepSlopes) -> Montgomery<C::L> {
    let signed_v = cs.product(&a.v, &bit.sign());
    let first = cs.quotient_hinted(&signed_v.minus(&p.v), &a.u.minus(&p.u), || slopes.first);
    let between_u = third_u(cs, &first, &p.u, &a.u);

    let second = cs.alloc(|| slopes.second);
    cs.enforce(&p.u.minus(&between_u), &first.plus(&second), &p.v.plus(&p.v));
    let u = third_u(cs, &second, &p.u, &between_u);
    let v = p.third_v(cs, &second, &u);
    Montgomery { u, v }
}

#[cfg(test)]
mod tests {
    use ark_bn254::Fr;
    use ark_ec::AffineRepr;
    use ark_ff::{AdditiveGroup, BigInt};
    use millstream_voucher::babyjubjub::GENERATOR;

    use super::*;
    use crate::cs::{Structure, Values};
    use crate::gadgets::bits::alloc_bits;
    use crate::gadgets::montgomery::to_montgomery;

    /// The gadget's result in Edwards form and whether all rows hold.
    fn multiple(key: Point, challenge: u128) -> (Point, bool) {
        let mut cs = Values::new();
        let (point, square) = Montgomery::alloc(&mut cs, || to_montgomery(&key).expect("not the identity"));
        let bits = alloc_bits(&mut cs, CHALLENGE_BITS, || challenge);
        let result = challenge_multiple(&mut cs, &point, &square, &bits, (&key, challenge));
        let result = Point::new_unchecked(result.edwards_x(&mut cs), result.edwards_y(&mut cs));
        (result, cs.broken_row.is_none())
    }

    fn expected(key: Point, challenge: u128) -> Point {
        let (low, high) = (challenge as u64, (challenge >> 64) as u64);
        // 2c + 2^128 + 1, limb by limb.
        let e = [low << 1 | 1, high << 1 | low >> 63, (high >> 63) + 1, 0];
        Point::from(key.mul_bigint(BigInt::<4>(e)))
    }

    #[test]
    fn the_ladder_is_the_native_multiple_at_every_edge() {
        let keys = [1u64, 2, 3, 0xdead_beef].map(|k| Point::from(GENERATOR.mul_bigint([k])));
        for key in keys.into_iter().chain([Point::from(-GENERATOR)]) {
            for challenge in [0, 1, 2, u128::MAX, u128::MAX - 1, 1 << 127, (1 << 127) - 1, 0x0123_4567_89ab_cdef << 40] {
                assert_eq!(multiple(key, challenge), (expected(key, challenge), true), "{challenge:x}");
            }
        }
    }

    #[test]
    fn the_other_point_of_the_same_x_has_no_exceptional_step_either() {
        let twin = Point::new_unchecked(GENERATOR.x, -GENERATOR.y);
        assert!(twin.is_on_curve());
        for challenge in [0, 5, u128::MAX] {
            assert_eq!(multiple(twin, challenge), (expected(twin, challenge), true));
        }
    }

    #[test]
    fn six_rows_a_bit() {
        let structure = Structure::record(|cs| {
            let (point, square) = Montgomery::alloc(cs, || (Fr::ZERO, Fr::ZERO));
            let bits = alloc_bits(cs, CHALLENGE_BITS, || 0);
            challenge_multiple(cs, &point, &square, &bits, (&GENERATOR, 0));
        });
        assert_eq!(structure.constraints(), 3 + 128 + 3 + 6 * 128);
    }
}
