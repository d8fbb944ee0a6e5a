//! Sums of pairs of points, many with one inversion.

use millstream_lanes::{Kernel, LANES, Unit, Vector, prefetch};

use super::group::{Eight, Group, Point, inverses};
use crate::sum::Pair;

/// What came of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The sums are there.
    Added,
    /// The sums are there, and one of them is infinity.
    AddedToInfinity,
    /// Nothing was computed: two points of a pair have the same x-coordinate.
    Exceptional,
}

/// Puts the sums into their places. `careful` says whether there may be infinity among the points, and then whether there may be among
/// the sums: what is not there costs nothing.
pub(super) fn add_pairs<G: Group, U: Unit>(
    unit: U,
    points: &[Point<G::Rows>],
    pairs: &[Pair],
    sums: &mut [Point<G::Rows>],
    careful: &mut bool,
) {
    let there_may_be = *careful;
    for pairs in pairs.chunks(G::BATCH) {
        let mut outcome = Outcome::Exceptional;
        if !there_may_be {
            outcome = unit.run(AddPairs::<G, false> { points, pairs, sums });
        }
        if outcome == Outcome::Exceptional {
            outcome = unit.run(AddPairs::<G, true> { points, pairs, sums });
        }
        debug_assert_ne!(outcome, Outcome::Exceptional, "a careful addition has no exceptions");
        *careful |= outcome == Outcome::AddedToInfinity;
    }
}

/// Groups of lanes that are computed between asking for points and using them.
const GROUPS_AHEAD: usize = 4;
/// Products that are made side by side, because each waits for the one before it.
const CHAINS: usize = 2;

/// Affine additions with one inversion: of `(x1, y1)` and `(x2, y2)` the slope is `(y2 - y1) / (x2 - x1)`, and for a point and itself
/// `3·x² / 2·y`.
///
/// Not careful, it takes neither infinity nor two points with the same x-coordinate; of the latter it says so. Careful, it takes all there
/// is and looks at each pair.
struct AddPairs<'a, G: Group, const CAREFUL: bool> {
    points: &'a [Point<G::Rows>],
    /// At least one.
    pairs: &'a [Pair],
    sums: &'a mut [Point<G::Rows>],
}

/// The lanes of a group that are special.
#[derive(Clone, Copy, Default)]
struct Cases {
    /// The first point is infinity.
    first: u8,
    /// The second point is.
    second: u8,
    /// They are the same.
    double: u8,
    /// The sum is infinity.
    cancel: u8,
}

#[derive(Clone, Copy)]
struct Operands<E> {
    x1: E,
    y1: E,
    x2: E,
    y2: E,
}

/// The operands of a group. One that is not full repeats the last pair.
#[inline(always)]
fn operands<V: Vector, G: Group>(proof: V::Proof, points: &[Point<G::Rows>], pairs: &[Pair], group: usize) -> Operands<G::Eight<V>> {
    let (mut first, mut second) = ([&points[0]; LANES], [&points[0]; LANES]);
    let (mut negative_first, mut negative_second) = (0, 0);
    for lane in 0..LANES {
        let pair = pairs[(group * LANES + lane).min(pairs.len() - 1)];
        first[lane] = &points[pair.first.number()];
        second[lane] = &points[pair.second.number()];
        negative_first |= u8::from(pair.first.is_negative()) << lane;
        negative_second |= u8::from(pair.second.is_negative()) << lane;
    }
    let (mut x1, mut y1) = ([&first[0].x; LANES], [&first[0].y; LANES]);
    let (mut x2, mut y2) = ([&first[0].x; LANES], [&first[0].y; LANES]);
    for lane in 0..LANES {
        x1[lane] = &first[lane].x;
        y1[lane] = &first[lane].y;
        x2[lane] = &second[lane].x;
        y2[lane] = &second[lane].y;
    }
    let (mut y1, mut y2) = (G::Eight::<V>::load(proof, y1), G::Eight::<V>::load(proof, y2));
    // Only the first level has signs.
    if negative_first | negative_second != 0 {
        y1 = G::Eight::<V>::select(negative_first, y1.negate(proof), y1);
        y2 = G::Eight::<V>::select(negative_second, y2.negate(proof), y2);
    }
    Operands { x1: G::Eight::<V>::load(proof, x1), y1, x2: G::Eight::<V>::load(proof, x2), y2 }
}

/// Which lanes of a group have infinity for their first or second point.
fn infinities<G: Group>(points: &[Point<G::Rows>], pairs: &[Pair], group: usize) -> (u8, u8) {
    let (mut first, mut second) = (0, 0);
    for lane in 0..LANES {
        let pair = pairs[(group * LANES + lane).min(pairs.len() - 1)];
        first |= u8::from(points[pair.first.number()] == Point::default()) << lane;
        second |= u8::from(points[pair.second.number()] == Point::default()) << lane;
    }
    (first, second)
}

impl<G: Group, const CAREFUL: bool> Kernel for AddPairs<'_, G, CAREFUL> {
    type Output = Outcome;

    #[inline(always)]
    fn run<V: Vector>(self, proof: V::Proof) -> Outcome {
        let Self { points, pairs, sums } = self;
        let groups = pairs.len().div_ceil(LANES);
        let one_rows = G::rows(&ark_ff::One::one());
        let one = G::Eight::<V>::load(proof, [&one_rows; LANES]);
        // The denominators, and the product of those before each in its chain.
        let mut denominators = vec![one; groups];
        let mut before = vec![one; groups];
        let mut cases = vec![Cases::default(); if CAREFUL { groups } else { 0 }];
        let mut products = [one; CHAINS];
        for group in 0..groups {
            if let Some(pairs) = pairs.get((group + GROUPS_AHEAD) * LANES..) {
                for pair in pairs.iter().take(LANES) {
                    prefetch(&points[pair.first.number()]);
                    prefetch(&points[pair.second.number()]);
                }
            }
            let Operands { x1, y1, x2, y2 } = operands::<V, G>(proof, points, pairs, group);
            let mut denominator = x2.sub(proof, x1);
            if CAREFUL {
                let (first, second) = infinities::<G>(points, pairs, group);
                let finite = !(first | second);
                let same_x = denominator.zeros(proof) & finite;
                let same_y = y2.sub(proof, y1).zeros(proof);
                let found = Cases { first, second, double: same_x & same_y, cancel: same_x & !same_y };
                // No y-coordinate is zero: the order is odd.
                denominator = G::Eight::<V>::select(found.double, y1.add(proof, y1), denominator);
                denominator = G::Eight::<V>::select(!finite | found.cancel, one, denominator);
                cases[group] = found;
            }
            let chain = group % CHAINS;
            denominators[group] = denominator;
            before[group] = products[chain];
            products[chain] = products[chain].mul(proof, denominator);
        }
        let Some(inverse) = inverses::<G>(products[0].mul(proof, products[1]).store()) else {
            return Outcome::Exceptional;
        };
        let inverse = G::Eight::<V>::load(proof, inverse.each_ref());
        let mut inverses = [inverse.mul(proof, products[1]), inverse.mul(proof, products[0])];
        let mut outcome = Outcome::Added;
        for group in (0..groups).rev() {
            let Operands { x1, y1, x2, y2 } = operands::<V, G>(proof, points, pairs, group);
            let chain = group % CHAINS;
            let inverse = inverses[chain].mul(proof, before[group]);
            inverses[chain] = inverses[chain].mul(proof, denominators[group]);
            let mut numerator = y2.sub(proof, y1);
            if CAREFUL {
                let square = x1.square(proof);
                let triple = square.add(proof, square).add(proof, square).reduced(proof);
                numerator = G::Eight::<V>::select(cases[group].double, triple, numerator);
            }
            let slope = numerator.mul(proof, inverse);
            let mut x3 = slope.square(proof).sub_both_reduced(proof, x1, x2);
            let mut y3 = slope.mul(proof, x1.sub(proof, x3)).sub_reduced(proof, y1);
            let mut infinity = 0;
            if CAREFUL {
                let Cases { first, second, cancel, .. } = cases[group];
                x3 = G::Eight::<V>::select(first, x2, G::Eight::<V>::select(second, x1, x3));
                y3 = G::Eight::<V>::select(first, y2, G::Eight::<V>::select(second, y1, y3));
                infinity = cancel | (first & second);
            }
            let (x3, y3) = (x3.store(), y3.store());
            for (lane, pair) in pairs[group * LANES..].iter().take(LANES).enumerate() {
                let sum = &mut sums[pair.place as usize];
                *sum = Point { x: x3[lane], y: y3[lane] };
                if CAREFUL && infinity >> lane & 1 == 1 {
                    *sum = Point::default();
                    outcome = Outcome::AddedToInfinity;
                }
            }
        }
        outcome
    }
}
