//! Sums of points times scalars.
//!
//! Scalars are written in signed digits. For each place, points are sorted by their digit into buckets, each bucket is added up in pairs,
//! in rounds, and the buckets are weighed by their digits (Pippenger). Pairs are of neighbours in a bucket, so no addition waits for
//! another one of its round, however the digits are spread: if all scalars are equal, one bucket is as fast as many.
//!
//! Zero has no digit, and one has a single digit that is not zero: what is boolean costs an addition or nothing.

use ark_ec::short_weierstrass::{Affine, Projective};
use ark_ec::{AdditiveGroup, AffineRepr, CurveGroup};
use ark_ff::Zero;
use millstream_lanes::Unit;
use rayon::prelude::*;

use super::digits::{Digits, windows};
use super::group::{Group, Point, affine, point};
use super::pairs::{Pair, Term, add_pairs};
use super::weigh::weighed;

/// A point, and the number of its scalar in the digits of its part.
pub(super) type Numbered<'a, G> = (u32, &'a Affine<<G as Group>::Curve>);

/// The points of a sum; infinity is left out.
pub(super) struct Points<G: Group> {
    points: Vec<Point<G::Rows>>,
    /// The scalars of each part of the points, by their number in the part's digits.
    scalars: Vec<Vec<u32>>,
}

impl<G: Group> Points<G> {
    /// From the points of each part.
    pub(super) fn new(parts: &[&[Numbered<'_, G>]]) -> Self {
        let mut points = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
        let mut scalars = Vec::with_capacity(parts.len());
        for part in parts {
            let finite = part.iter().filter(|(_, point)| !point.is_zero());
            scalars.push(finite.clone().map(|(number, _)| *number).collect());
            points.extend(finite.map(|(_, affine)| point::<G>(affine)));
        }
        assert!(points.len() < 1 << 31, "points are numbered in 31 bits");
        Self { points, scalars }
    }

    /// The memory that it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.points.capacity() * size_of::<Point<G::Rows>>()
            + self.scalars.iter().map(|part| part.capacity() * size_of::<u32>()).sum::<usize>()
    }

    /// The sum of each point times its scalar; for each part, the digits of its scalars, all of one width.
    pub(super) fn sum<U: Unit>(&self, unit: U, parts: &[&Digits]) -> Projective<G::Curve> {
        assert_eq!(parts.len(), self.scalars.len(), "there are digits for each part");
        let width = parts[0].width();
        assert!(parts.iter().all(|part| part.width() == width), "digits have one width");
        let places: Vec<Projective<G::Curve>> = (0..windows(width)).into_par_iter().map(|window| self.place(unit, parts, window)).collect();
        places.into_iter().rev().fold(Projective::zero(), |mut sum, place| {
            for _ in 0..width {
                sum.double_in_place();
            }
            sum + place
        })
    }

    /// The sum of each point times one digit of its scalar.
    fn place<U: Unit>(&self, unit: U, parts: &[&Digits], window: usize) -> Projective<G::Curve> {
        let (starts, terms) = self.sorted(parts, window);
        weighed::<G, U>(unit, &buckets::<G, U>(unit, &self.points, &starts, &terms))
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
fn buckets<G: Group, U: Unit>(unit: U, points: &[Point<G::Rows>], starts: &[u32], terms: &[Term]) -> Vec<Point<G::Rows>> {
    let mut buckets = vec![Point::default(); starts.len() - 1];
    // Sums of buckets that did not end with a block; in the order of the buckets.
    let mut more: Vec<(usize, Point<G::Rows>)> = Vec::new();
    // A round leaves two thirds of what it takes, at most: of three points of a bucket, a sum and a point.
    let room = G::BLOCK.min(terms.len());
    let (mut sums, mut next_sums) = (vec![Point::default(); room], vec![Point::default(); room]);
    let (mut runs, mut pairs, mut singles) = (Vec::new(), Vec::new(), Vec::new());
    let (mut bucket, mut at) = (0, 0);
    while at < terms.len() {
        let end = (at + G::BLOCK).min(terms.len());
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
        let mut finish = |bucket: usize, sum: Point<G::Rows>| {
            if buckets[bucket] == Point::default() { buckets[bucket] = sum } else { more.push((bucket, sum)) }
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
                    finish(bucket, term(start).of::<G>(source));
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
            add_pairs::<G, U>(unit, source, &pairs, &mut next_sums, &mut careful);
            for (term, place) in &singles {
                next_sums[*place as usize] = term.of::<G>(source);
            }
            core::mem::swap(&mut sums, &mut next_sums);
            first_round = false;
        }
    }
    for parts in more.chunk_by(|(left, _), (right, _)| left == right) {
        let bucket = &mut buckets[parts[0].0];
        let mut sum: Projective<G::Curve> = affine::<G>(bucket).into();
        for (_, part) in parts {
            sum += affine::<G>(part);
        }
        *bucket = point::<G>(&sum.into_affine());
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

    use super::super::group::{G1, G2};
    use super::*;

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

    fn check<G: Group>(points: &[Affine<G::Curve>], scalars: &[Fr], width: u32) {
        let expected = Projective::<G::Curve>::msm(points, scalars).expect("as many points as scalars");
        // In two parts, the second one with its scalars the other way round.
        let (first_points, second_points) = points.split_at(points.len() / 3);
        let (first_scalars, second_scalars) = scalars.split_at(points.len() / 3);
        let integers = |scalars: &[Fr]| -> Vec<BigInt<4>> { scalars.iter().map(|scalar| scalar.into_bigint()).collect() };
        let mut turned = integers(second_scalars);
        turned.reverse();
        let first: Vec<Numbered<'_, G>> = (0..).zip(first_points).collect();
        let second: Vec<Numbered<'_, G>> = (0..second_points.len() as u32).rev().zip(second_points).collect();
        let digits = [Digits::new(&integers(first_scalars), width), Digits::new(&turned, width)];
        let sum = Points::<G>::new(&[&first, &second]);
        if points.len() < 1_000 {
            assert_eq!(sum.sum(Plain, &digits.each_ref()), expected, "{} points in plain integers", points.len());
        }
        if let Some(unit) = Avx512Ifma::detect() {
            assert_eq!(sum.sum(unit, &digits.each_ref()), expected, "{} points in lanes", points.len());
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
        let count = 2 * G1::BLOCK + 77;
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
