//! The sum of buckets, each as often as its number says.

use ark_ec::AdditiveGroup;
use ark_ec::short_weierstrass::{Projective, SWCurveConfig};
use ark_ff::{One, Zero};
use millstream_lanes::{Kernel, LANES, Unit, Vector};

use super::group::{Eight, Group, Point, projective};

/// `Σ (i + 1)·buckets[i]`, for a power of two of at least eight buckets.
pub(super) fn weighed<G: Group, U: Unit>(unit: U, buckets: &[Point<G::Rows>]) -> Projective<G::Curve> {
    let part = buckets.len() / LANES;
    debug_assert!(part.is_power_of_two() && part * LANES == buckets.len());
    let b = G::Curve::COEFF_B;
    let [weighed, plain] = unit.run(Weigh::<G> { buckets, triple_b: G::rows(&(b + b + b)) });
    // Part j was weighed as if it were the first one: what is missing is j·part times its sum.
    let (mut sum, mut after, mut numbered) = (Projective::zero(), Projective::zero(), Projective::zero());
    for lane in (0..LANES).rev() {
        sum += projective::<G>(weighed[lane]);
        numbered += after;
        after += projective::<G>(plain[lane]);
    }
    for _ in 0..part.ilog2() {
        numbered.double_in_place();
    }
    sum + numbered
}

/// Of eight equal parts of the buckets, a lane each: the sum of each bucket as often as its number in the part says, counted from one; and
/// the sum of each bucket once.
struct Weigh<'a, G: Group> {
    buckets: &'a [Point<G::Rows>],
    /// Three times the curve's constant.
    triple_b: G::Rows,
}

/// Points `(X/Z, Y/Z)`, coordinates less than twice the prime.
#[derive(Clone, Copy)]
struct Points<E> {
    x: E,
    y: E,
    z: E,
}

impl<G: Group> Kernel for Weigh<'_, G> {
    type Output = [[[G::Rows; 3]; LANES]; 2];

    #[inline(always)]
    fn run<V: Vector>(self, proof: V::Proof) -> Self::Output {
        let part = self.buckets.len() / LANES;
        let one_rows = G::rows(&One::one());
        let (one, zero) = (G::Eight::<V>::load(proof, [&one_rows; LANES]), G::Eight::<V>::load(proof, [&G::Rows::default(); LANES]));
        let triple_b = G::Eight::<V>::load(proof, [&self.triple_b; LANES]);
        let infinity = Points { x: zero, y: one, z: zero };
        let (mut plain, mut weighed) = (infinity, infinity);
        for index in (0..part).rev() {
            let (mut x, mut y) = ([&self.buckets[index].x; LANES], [&self.buckets[index].y; LANES]);
            let mut empty = 0;
            for lane in 0..LANES {
                let bucket = &self.buckets[lane * part + index];
                x[lane] = &bucket.x;
                y[lane] = &bucket.y;
                empty |= u8::from(*bucket == Point::default()) << lane;
            }
            let bucket = Points {
                x: G::Eight::<V>::load(proof, x),
                y: G::Eight::<V>::select(empty, one, G::Eight::<V>::load(proof, y)),
                z: G::Eight::<V>::select(empty, zero, one),
            };
            plain = sum(proof, plain, bucket, triple_b);
            weighed = sum(proof, weighed, plain, triple_b);
        }
        let rows = [weighed, plain].map(|points| [points.x.store(), points.y.store(), points.z.store()]);
        rows.map(|[x, y, z]| core::array::from_fn(|lane| [x[lane], y[lane], z[lane]]))
    }
}

/// The sum of any two points of a curve of odd order. Source: Renes, Costello, Batina, "Complete addition formulas for prime order
/// elliptic curves", algorithm 7; with pairs of products reduced together.
#[inline(always)]
fn sum<V: Vector, E: Eight<V>>(proof: V::Proof, left: Points<E>, right: Points<E>, triple_b: E) -> Points<E> {
    let xx = left.x.mul(proof, right.x);
    let yy = left.y.mul(proof, right.y);
    let zz = left.z.mul(proof, right.z);
    let xy = left.x.add(proof, left.y).mul(proof, right.x.add(proof, right.y)).sub_both_reduced(proof, xx, yy);
    let yz = left.y.add(proof, left.z).mul(proof, right.y.add(proof, right.z)).sub_both_reduced(proof, yy, zz);
    let xz = left.x.add(proof, left.z).mul(proof, right.x.add(proof, right.z)).sub_both_reduced(proof, xx, zz);
    let triple_xx = xx.add(proof, xx).add(proof, xx).reduced(proof);
    let b_zz = triple_b.mul(proof, zz);
    let b_xz = triple_b.mul(proof, xz);
    // Both below 4.
    let (more, less) = (yy.add(proof, b_zz), yy.sub(proof, b_zz));
    Points {
        x: less.mul_and_add(proof, xy, yz, b_xz.negate(proof)),
        y: less.mul_and_add(proof, more, b_xz, triple_xx),
        z: more.mul_and_add(proof, yz, triple_xx, xy),
    }
}
