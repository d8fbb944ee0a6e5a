//! Sums of points times scalars.
//!
//! Scalars are written in signed digits. For each place, points are sorted by their digit into buckets, each bucket is added up in pairs,
//! in rounds, and the buckets are weighed by their digits (Pippenger). Pairs are of neighbours in a bucket, so no addition waits for
//! another one of its round, however the digits are spread: if all scalars are equal, one bucket is as fast as many.
//!
//! Zero has no digit, and one has a single digit that is not zero: what is boolean costs an addition or nothing.

use core::fmt::Debug;

use ark_bn254::Fr;
use ark_ec::short_weierstrass::{Affine, Projective, SWCurveConfig};
use ark_ec::{AdditiveGroup, AffineRepr, CurveGroup};
use ark_ff::Zero;
use rayon::prelude::*;

use crate::digits::{Digits, windows};

/// Who adds points. The sums do not depend on it, nor on the order of what is added.
pub(crate) trait Adder: Copy + Send + Sync {
    /// The curve, of odd order.
    type Curve: SWCurveConfig<ScalarField = Fr>;
    /// A point in memory; the default is infinity.
    type Point: Copy + Debug + Default + PartialEq + Send + Sync;

    /// Points that are added up before the next ones are read: their sums stay near the processor.
    const BLOCK: usize;

    /// The point in memory.
    fn point(affine: &Affine<Self::Curve>) -> Self::Point;

    /// The point as arkworks has it.
    fn affine(point: &Self::Point) -> Affine<Self::Curve>;

    /// The opposite of a point that is not infinity.
    fn negated(point: &Self::Point) -> Self::Point;

    /// Puts the sums of pairs of points into their places. `careful` says whether there may be infinity among the points, and then whether
    /// there may be among the sums.
    fn add_pairs(self, points: &[Self::Point], pairs: &[Pair], sums: &mut [Self::Point], careful: &mut bool);

    /// `Σ (i + 1)·buckets[i]`, for a power of two of at least eight buckets.
    fn weighed(self, buckets: &[Self::Point]) -> Projective<Self::Curve>;
}

/// A point that is to be added: its number, and whether it is negated first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Term(u32);

impl Term {
    /// Numbers are below 2^31.
    pub(crate) const fn new(number: u32, negative: bool) -> Self {
        Self(number << 1 | negative as u32)
    }

    pub(crate) const fn number(self) -> usize {
        (self.0 >> 1) as usize
    }

    pub(crate) const fn is_negative(self) -> bool {
        self.0 & 1 == 1
    }

    /// The point.
    pub(crate) fn of<A: Adder>(self, points: &[A::Point]) -> A::Point {
        let point = points[self.number()];
        if self.is_negative() && point != A::Point::default() { A::negated(&point) } else { point }
    }
}

/// Two points to add, and the place of their sum.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair {
    pub(crate) first: Term,
    pub(crate) second: Term,
    pub(crate) place: u32,
}

/// A point, and the number of its scalar in the digits of its part.
pub(crate) type Numbered<'a, A> = (u32, &'a Affine<<A as Adder>::Curve>);

/// The points of a sum; infinity is left out.
pub(crate) struct Points<A: Adder> {
    points: Vec<A::Point>,
    /// The scalars of each part of the points, by their number in the part's digits.
    scalars: Vec<Vec<u32>>,
}

impl<A: Adder> Points<A> {
    /// From the points of each part.
    pub(crate) fn new(parts: &[&[Numbered<'_, A>]]) -> Self {
        let mut points = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
        let mut scalars = Vec::with_capacity(parts.len());
        for part in parts {
            let finite = part.iter().filter(|(_, point)| !point.is_zero());
            scalars.push(finite.clone().map(|(number, _)| *number).collect());
            points.extend(finite.map(|(_, affine)| A::point(affine)));
        }
        assert!(points.len() < 1 << 31, "points are numbered in 31 bits");
        Self { points, scalars }
    }

    /// The memory that it takes, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.points.capacity() * size_of::<A::Point>() + self.scalars.iter().map(|part| part.capacity() * size_of::<u32>()).sum::<usize>()
    }

    /// The sum of each point times its scalar; for each part, the digits of its scalars, all of one width.
    pub(crate) fn sum(&self, adder: A, parts: &[&Digits]) -> Projective<A::Curve> {
        assert_eq!(parts.len(), self.scalars.len(), "there are digits for each part");
        let width = parts[0].width();
        assert!(parts.iter().all(|part| part.width() == width), "digits have one width");
        let places: Vec<Projective<A::Curve>> =
            (0..windows(width)).into_par_iter().map(|window| self.place(adder, parts, window)).collect();
        places.into_iter().rev().fold(Projective::zero(), |mut sum, place| {
            for _ in 0..width {
                sum.double_in_place();
            }
            sum + place
        })
    }

    /// The sum of each point times one digit of its scalar.
    fn place(&self, adder: A, parts: &[&Digits], window: usize) -> Projective<A::Curve> {
        let (starts, terms) = self.sorted(parts, window);
        adder.weighed(&buckets(adder, &self.points, &starts, &terms))
    }

    /// The points in the order of the size of their digit, and where those of each size start: `d` at `d - 1`.
    fn sorted(&self, parts: &[&Digits], window: usize) -> (Vec<u32>, Vec<Term>) {
        let count = 1 << (parts[0].width() - 1);
        let mut starts = vec![0u32; count + 1];
        for (scalars, digits) in self.scalars.iter().zip(parts) {
            let digits = digits.window(window);
            for number in scalars {
                // The place of zero counts too, and is overwritten below.
                starts[usize::from(digits.digit(*number).unsigned_abs())] += 1;
            }
        }
        starts[0] = 0;
        for bucket in 1..starts.len() {
            starts[bucket] += starts[bucket - 1];
        }
        let mut next = starts.clone();
        let mut terms = vec![Term::new(0, false); starts[count] as usize];
        let mut point = 0;
        for (scalars, digits) in self.scalars.iter().zip(parts) {
            let digits = digits.window(window);
            for number in scalars {
                let digit = digits.digit(*number);
                if digit != 0 {
                    let place = &mut next[usize::from(digit.unsigned_abs()) - 1];
                    terms[*place as usize] = Term::new(point, digit < 0);
                    *place += 1;
                }
                point += 1;
            }
        }
        (starts, terms)
    }
}

/// Points of one bucket that stand together.
struct Run {
    bucket: usize,
    start: u32,
    count: u32,
}

/// The sum of each bucket: of the terms from its start to the next one's.
fn buckets<A: Adder>(adder: A, points: &[A::Point], starts: &[u32], terms: &[Term]) -> Vec<A::Point> {
    let mut buckets = vec![A::Point::default(); starts.len() - 1];
    // Sums of buckets that did not end with a block; in the order of the buckets.
    let mut more: Vec<(usize, A::Point)> = Vec::new();
    // A round leaves two thirds of what it takes, at most: of three points of a bucket, a sum and a point.
    let room = A::BLOCK.min(terms.len());
    let (mut sums, mut next_sums) = (vec![A::Point::default(); room], vec![A::Point::default(); room]);
    let (mut runs, mut pairs, mut singles) = (Vec::new(), Vec::new(), Vec::new());
    let (mut bucket, mut at) = (0, 0);
    while at < terms.len() {
        let end = (at + A::BLOCK).min(terms.len());
        while at < end {
            let stop = (starts[bucket + 1] as usize).min(end);
            if stop > at {
                runs.push(Run { bucket, start: at as u32, count: (stop - at) as u32 });
                at = stop;
            }
            // A bucket that the block cuts goes on in the next one.
            if starts[bucket + 1] as usize == at {
                bucket += 1;
            }
        }
        let mut finish = |bucket: usize, sum: A::Point| {
            if buckets[bucket] == A::Point::default() { buckets[bucket] = sum } else { more.push((bucket, sum)) }
        };
        // Each round halves every run: first of terms, then of the sums of the round before.
        let mut first_round = true;
        let mut careful = false;
        while !runs.is_empty() {
            let source = if first_round { points } else { &sums[..] };
            let term = |number: u32| if first_round { terms[number as usize] } else { Term::new(number, false) };
            pairs.clear();
            singles.clear();
            let mut place = 0;
            runs.retain_mut(|run| {
                let Run { bucket, start, count } = *run;
                if count == 1 {
                    finish(bucket, term(start).of::<A>(source));
                    return false;
                }
                *run = Run { bucket, start: place, count: count.div_ceil(2) };
                for pair in 0..count / 2 {
                    pairs.push(Pair { first: term(start + 2 * pair), second: term(start + 2 * pair + 1), place });
                    place += 1;
                }
                if count % 2 == 1 {
                    singles.push((term(start + count - 1), place));
                    place += 1;
                }
                true
            });
            adder.add_pairs(source, &pairs, &mut next_sums, &mut careful);
            for (term, place) in &singles {
                next_sums[*place as usize] = term.of::<A>(source);
            }
            core::mem::swap(&mut sums, &mut next_sums);
            first_round = false;
        }
    }
    for parts in more.chunk_by(|(left, _), (right, _)| left == right) {
        let bucket = &mut buckets[parts[0].0];
        let mut sum: Projective<A::Curve> = A::affine(bucket).into();
        for (_, part) in parts {
            sum += A::affine(part);
        }
        *bucket = A::point(&sum.into_affine());
    }
    buckets
}

#[cfg(test)]
mod tests {
    use ark_bn254::Fr;
    use ark_ec::{PrimeGroup, VariableBaseMSM};
    use ark_ff::{AdditiveGroup as _, BigInt, Field, PrimeField};
    use millstream_lanes::{Avx512Ifma, Plain};
    use proptest::prelude::*;

    use super::*;
    use crate::affine::{OneByOne, Product};
    use crate::lanes::{G1, G2, Group, InLanes};

    /// What a point or a scalar is like.
    #[derive(Clone, Copy, Debug)]
    enum Like {
        Zero,
        One,
        MinusOne,
        /// One of few.
        Common(u8),
        Any([u8; 32]),
    }

    impl Like {
        fn scalar(self) -> Fr {
            match self {
                Self::Zero => Fr::ZERO,
                Self::One => Fr::ONE,
                Self::MinusOne => -Fr::ONE,
                Self::Common(number) => Fr::from(2u64).pow([100 + u64::from(number % 4)]),
                Self::Any(bytes) => Fr::from_be_bytes_mod_order(&bytes),
            }
        }

        fn point<G: Group>(self) -> Affine<G::Curve> {
            (Projective::<G::Curve>::generator() * self.scalar()).into_affine()
        }
    }

    fn like() -> impl Strategy<Value = Like> {
        prop_oneof![
            Just(Like::Zero),
            Just(Like::One),
            Just(Like::MinusOne),
            any::<u8>().prop_map(Like::Common),
            any::<[u8; 32]>().prop_map(Like::Any)
        ]
    }

    /// One adder's sum is that of arkworks.
    fn check_adder<A: Adder>(adder: A, points: &[Affine<A::Curve>], scalars: &[Fr], width: u32) {
        let expected = Projective::<A::Curve>::msm(points, scalars).expect("as many points as scalars");
        // In two parts, the second one with its scalars the other way round.
        let (first_points, second_points) = points.split_at(points.len() / 3);
        let (first_scalars, second_scalars) = scalars.split_at(points.len() / 3);
        let integers = |scalars: &[Fr]| -> Vec<BigInt<4>> { scalars.iter().map(|scalar| scalar.into_bigint()).collect() };
        let mut turned = integers(second_scalars);
        turned.reverse();
        let first: Vec<Numbered<'_, A>> = (0..).zip(first_points).collect();
        let second: Vec<Numbered<'_, A>> = (0..second_points.len() as u32).rev().zip(second_points).collect();
        let digits = [Digits::new(&integers(first_scalars), width), Digits::new(&turned, width)];
        let sum = Points::<A>::new(&[&first, &second]).sum(adder, &digits.each_ref());
        assert_eq!(sum, expected, "{} points by {}", points.len(), core::any::type_name::<A>());
    }

    fn check<G: Group<Curve: SWCurveConfig<BaseField: Product>>>(points: &[Affine<G::Curve>], scalars: &[Fr], width: u32) {
        check_adder(OneByOne::<G::Curve>::default(), points, scalars, width);
        if points.len() < 1_000 {
            check_adder(InLanes::<G, _>::new(Plain), points, scalars, width);
        }
        if let Some(unit) = Avx512Ifma::detect() {
            check_adder(InLanes::<G, _>::new(unit), points, scalars, width);
        }
    }

    fn check_both(points: &[Like], scalars: &[Like], width: u32) {
        let scalars: Vec<Fr> = scalars.iter().map(|scalar| scalar.scalar()).collect();
        let g1: Vec<_> = points.iter().map(|point| point.point::<G1>()).collect();
        check::<G1>(&g1, &scalars, width);
        let g2: Vec<_> = points.iter().map(|point| point.point::<G2>()).collect();
        check::<G2>(&g2, &scalars, width);
    }

    #[test]
    fn no_points_and_one() {
        check_both(&[], &[], 4);
        for scalar in [Like::Zero, Like::One, Like::MinusOne, Like::Any([0xa5; 32])] {
            for point in [Like::Zero, Like::One, Like::MinusOne] {
                check_both(&[point], &[scalar], 4);
            }
        }
    }

    /// Every pair is exceptional, in every round: doublings, and sums that are infinity and go on.
    #[test]
    fn equal_and_opposite_points_in_one_bucket() {
        for count in [2, 3, 7, 8, 9, 64, 100] {
            let scalars = vec![Like::Any([0x5a; 32]); count];
            check_both(&vec![Like::One; count], &scalars, 5);
            let opposite: Vec<Like> = [Like::One, Like::MinusOne].into_iter().cycle().take(count).collect();
            check_both(&opposite, &scalars, 5);
            let mixed: Vec<Like> =
                [Like::One, Like::MinusOne, Like::Common(1), Like::One, Like::Zero].into_iter().cycle().take(count).collect();
            check_both(&mixed, &scalars, 5);
        }
    }

    /// A hot bucket that is cut by blocks, beside others; and the digits that scalars with one bit have.
    #[test]
    fn many_equal_scalars() {
        let count = 2 * <OneByOne<<G1 as Group>::Curve> as Adder>::BLOCK.max(G1::BLOCK) + 77;
        let generator = Projective::<<G1 as Group>::Curve>::generator();
        let points: Vec<Projective<_>> = core::iter::successors(Some(generator), |point| Some(*point + generator)).take(count).collect();
        let points = Projective::normalize_batch(&points);
        check::<G1>(&points, &vec![-Fr::from(77u64); count], 13);
        let scalars: Vec<Fr> = (0..count as u64).map(|i| if i % 5 == 0 { Fr::from(i) } else { Fr::from(2u64).pow([i % 3 * 40]) }).collect();
        check::<G1>(&points, &scalars, 9);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn any_sum_is_that_of_arkworks(terms in proptest::collection::vec((like(), like()), 0..80), width in 4_u32..=12) {
            let (points, scalars): (Vec<_>, Vec<_>) = terms.into_iter().unzip();
            check_both(&points, &scalars, width);
        }
    }
}
