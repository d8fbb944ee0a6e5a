//! A proof's arithmetic on every processor: arkworks' fields and transforms, and sums in affine additions that share inversions.
//!
//! The sums are those of the lanes ([`sum`](crate::sum)), one addition at a time: with its part of an inversion an affine addition is six
//! products, where a bucket that is kept in projective coordinates takes ten.

use core::fmt;
use core::marker::PhantomData;

use ark_bn254::{Bn254, Fq, Fq2, Fr, g1, g2};
use ark_ec::short_weierstrass::{Affine, Projective, SWCurveConfig};
use ark_ec::{AdditiveGroup, AffineRepr};
use ark_ff::{BigInt, Field, PrimeField, Zero};
use ark_groth16::ProvingKey;
use millstream_circuit::Witness;
use rayon::prelude::*;

use crate::arithmetic::{PreparedKey, ProofStep, Sums, Wanted};
use crate::ark::quotient;
use crate::digits::{Digits, best_width};
use crate::setup::{INSTANCE, domain_size};
use crate::sum::{Adder, Numbered, Pair, Points, Term};

/// Additions that share an inversion.
const BATCH: usize = 1_024;
/// Products that are made side by side, because each waits for the one before it.
const CHAINS: usize = 2;

/// The products that an addition takes. Arkworks makes one of the quadratic extension as two sums of products, in a loop that compilers do
/// not unroll; three products of the prime field take less.
pub(crate) trait Product: Field {
    /// The product.
    fn times(&self, other: &Self) -> Self;

    /// The product with itself.
    fn squared(&self) -> Self;
}

impl Product for Fq {
    #[inline(always)]
    fn times(&self, other: &Self) -> Self {
        *self * other
    }

    #[inline(always)]
    fn squared(&self) -> Self {
        self.square()
    }
}

/// Numbers `c0 + c1·u` with `u² = −1`.
impl Product for Fq2 {
    /// Karatsuba's.
    #[inline(always)]
    fn times(&self, other: &Self) -> Self {
        let (low, high) = (self.c0 * other.c0, self.c1 * other.c1);
        let both = (self.c0 + self.c1) * (other.c0 + other.c1);
        Self::new(low - high, both - low - high)
    }

    #[inline(always)]
    fn squared(&self) -> Self {
        let product = self.c0 * self.c1;
        Self::new((self.c0 + self.c1) * (self.c0 - self.c1), product.double())
    }
}

/// Adds points of a curve one pair after the other.
pub(crate) struct OneByOne<C>(PhantomData<C>);

impl<C> Default for OneByOne<C> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<C> Clone for OneByOne<C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C> Copy for OneByOne<C> {}

/// A point that is not infinity, by its coordinates; or infinity, by two coordinates of zero, which are on neither curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Point<F> {
    x: F,
    y: F,
}

impl<F: Field> Default for Point<F> {
    fn default() -> Self {
        Self { x: F::ZERO, y: F::ZERO }
    }
}

impl<F: Field> Point<F> {
    fn is_infinity(&self) -> bool {
        self.x.is_zero() && self.y.is_zero()
    }
}

/// What the slope of a sum is divided by.
enum Slope<F> {
    /// By this.
    By(F),
    /// There is none: one of the points is infinity, or the sum is.
    None,
}

/// The denominator of the line through two points, or of the tangent where they are the same one.
fn slope<F: Field>(first: &Point<F>, second: &Point<F>) -> Slope<F> {
    if first.is_infinity() || second.is_infinity() {
        return Slope::None;
    }
    let by = second.x - first.x;
    if !by.is_zero() {
        Slope::By(by)
    } else if first.y == second.y {
        // No y-coordinate is zero: the order is odd.
        Slope::By(first.y.double())
    } else {
        Slope::None
    }
}

/// The sum of two points, by the inverse of what their slope is divided by.
fn sum<F: Product>(first: &Point<F>, second: &Point<F>, inverse: &F) -> Point<F> {
    let numerator = if first.x == second.x {
        let square = first.x.squared();
        square.double() + square
    } else {
        second.y - first.y
    };
    let slope = numerator.times(inverse);
    let x = slope.squared() - first.x - second.x;
    Point { x, y: slope.times(&(first.x - x)) - first.y }
}

impl<C: SWCurveConfig<ScalarField = Fr, BaseField: Product>> OneByOne<C> {
    fn term(points: &[Point<C::BaseField>], term: Term) -> Point<C::BaseField> {
        let Point { x, y } = points[term.number()];
        // The negative of infinity's zero is zero.
        Point { x, y: if term.is_negative() { -y } else { y } }
    }

    fn add_batch(
        points: &[Point<C::BaseField>],
        pairs: &[Pair],
        sums: &mut [Point<C::BaseField>],
        slopes: &mut Vec<(C::BaseField, C::BaseField)>,
    ) {
        slopes.clear();
        let mut products = [C::BaseField::ONE; CHAINS];
        for (index, pair) in pairs.iter().enumerate() {
            let (first, second) = (Self::term(points, pair.first), Self::term(points, pair.second));
            let by = match slope(&first, &second) {
                Slope::By(by) => by,
                Slope::None => C::BaseField::ONE,
            };
            let product = &mut products[index % CHAINS];
            slopes.push((by, *product));
            *product = product.times(&by);
        }
        let inverse = products[0].times(&products[1]).inverse().expect("no factor is zero");
        let mut inverses = [inverse.times(&products[1]), inverse.times(&products[0])];
        for (index, (pair, (by, before))) in pairs.iter().zip(&*slopes).enumerate().rev() {
            let (first, second) = (Self::term(points, pair.first), Self::term(points, pair.second));
            let inverse = &mut inverses[index % CHAINS];
            let own = inverse.times(before);
            *inverse = inverse.times(by);
            sums[pair.place as usize] = match slope(&first, &second) {
                Slope::By(_) => sum(&first, &second, &own),
                Slope::None if first.is_infinity() => second,
                Slope::None if second.is_infinity() => first,
                Slope::None => Point::default(),
            };
        }
    }
}

impl<C: SWCurveConfig<ScalarField = Fr, BaseField: Product>> Adder for OneByOne<C> {
    type Curve = C;
    type Point = Point<C::BaseField>;

    const BLOCK: usize = 8_192;

    fn point(affine: &Affine<C>) -> Self::Point {
        affine.xy().map_or_else(Point::default, |(x, y)| Point { x, y })
    }

    fn affine(point: &Self::Point) -> Affine<C> {
        if point.is_infinity() { Affine::identity() } else { Affine::new_unchecked(point.x, point.y) }
    }

    fn negated(point: &Self::Point) -> Self::Point {
        Point { x: point.x, y: -point.y }
    }

    fn add_pairs(self, points: &[Self::Point], pairs: &[Pair], sums: &mut [Self::Point], _: &mut bool) {
        let mut slopes = Vec::with_capacity(BATCH.min(pairs.len()));
        for pairs in pairs.chunks(BATCH) {
            Self::add_batch(points, pairs, sums, &mut slopes);
        }
    }

    /// The buckets are a grid: with `rows` and `columns` numbered from zero, bucket `row·columns + column` counts `row·columns` times in the
    /// sum of its row and `column + 1` times in that of its column. Those sums are affine additions too, two for each bucket, where running
    /// sums would be two in projective coordinates, each of which waits for the one before it.
    fn weighed(self, buckets: &[Self::Point]) -> Projective<C> {
        let columns = 1 << (buckets.len().ilog2() / 2);
        let row_sums = self.folded(buckets, buckets.len() / columns, |pair, _| [2 * pair, 2 * pair + 1]);
        let column_sums = self.folded(buckets, columns, |pair, pairs| [pair, pair + pairs]);
        let mut rows = Self::running(&row_sums[1..]);
        for _ in 0..columns.ilog2() {
            rows.double_in_place();
        }
        rows + Self::running(&column_sums)
    }
}

impl<C: SWCurveConfig<ScalarField = Fr, BaseField: Product>> OneByOne<C> {
    /// Adds points in pairs until `count` of them are left, a power of two as their number is. In a round, `pair` tells the two points of a
    /// pair by its number and by the number of pairs.
    fn folded(self, points: &[Point<C::BaseField>], count: usize, pair: impl Fn(usize, usize) -> [usize; 2]) -> Vec<Point<C::BaseField>> {
        let mut points = points.to_vec();
        let mut pairs = Vec::with_capacity(points.len() / 2);
        while points.len() > count {
            let half = points.len() / 2;
            pairs.clear();
            pairs.extend((0..half).map(|place| {
                let [first, second] = pair(place, half).map(|number| Term::new(number as u32, false));
                Pair { first, second, place: place as u32 }
            }));
            let mut sums = vec![Point::default(); half];
            self.add_pairs(&points, &pairs, &mut sums, &mut true);
            points = sums;
        }
        points
    }

    /// `Σ (i + 1)·points[i]`.
    fn running(points: &[Point<C::BaseField>]) -> Projective<C> {
        let (mut plain, mut weighed) = (Projective::zero(), Projective::zero());
        for point in points.iter().rev() {
            plain += Self::affine(point);
            weighed += plain;
        }
        weighed
    }
}

/// A proving key in the form that sums take it in.
pub(crate) struct AffineKey {
    /// The bits of a digit of a scalar.
    width: u32,
    /// The points of the quotient's coefficients, and those of the variables that are not public: C is one sum.
    c: Points<OneByOne<g1::Config>>,
    a: Points<OneByOne<g1::Config>>,
    b_g1: Points<OneByOne<g1::Config>>,
    b_g2: Points<OneByOne<g2::Config>>,
}

impl AffineKey {
    /// Prepares a key.
    pub(crate) fn new(key: &ProvingKey<Bn254>) -> Self {
        type G1<'a> = Numbered<'a, OneByOne<g1::Config>>;
        type G2<'a> = Numbered<'a, OneByOne<g2::Config>>;
        let numbered = |first: usize| first as u32..;
        let h: Vec<G1<'_>> = numbered(0).zip(&key.h_query).collect();
        let l: Vec<G1<'_>> = numbered(INSTANCE).zip(&key.l_query).collect();
        let a: Vec<G1<'_>> = numbered(0).zip(&key.a_query).collect();
        let b_g1: Vec<G1<'_>> = numbered(0).zip(&key.b_g1_query).collect();
        let b_g2: Vec<G2<'_>> = numbered(0).zip(&key.b_g2_query).collect();
        Self {
            width: best_width(key.h_query.len()),
            c: Points::new(&[&h, &l]),
            a: Points::new(&[&a]),
            b_g1: Points::new(&[&b_g1]),
            b_g2: Points::new(&[&b_g2]),
        }
    }
}

impl PreparedKey for AffineKey {
    fn name(&self) -> &'static str {
        "affine"
    }

    fn bytes(&self) -> usize {
        self.c.bytes() + self.a.bytes() + self.b_g1.bytes() + self.b_g2.bytes()
    }

    fn sums(&self, witness: Witness, wanted: Wanted<'_>) -> Option<Sums> {
        let step = |step| wanted(step).then_some(());
        let Witness { assignment, mut a, b } = witness;
        let digits = |values: Vec<Fr>| {
            let integers: Vec<BigInt<4>> = values.par_iter().map(|value| value.into_bigint()).collect();
            Digits::new(&integers, self.width)
        };

        step(ProofStep::Quotient)?;
        let points = domain_size(a.len());
        // The rows after the circuit's: each instance variable is itself, times nothing.
        a.extend_from_slice(&assignment[..INSTANCE]);
        let quotient = quotient(a, b, points);
        step(ProofStep::SumC)?;
        let (quotient, assignment) = (digits(quotient), digits(assignment));
        let c = self.c.sum(OneByOne::default(), &[&quotient, &assignment]);
        drop(quotient);
        step(ProofStep::SumA)?;
        let a = self.a.sum(OneByOne::default(), &[&assignment]);
        step(ProofStep::SumBG1)?;
        let b_g1 = self.b_g1.sum(OneByOne::default(), &[&assignment]);
        step(ProofStep::SumBG2)?;
        let b_g2 = self.b_g2.sum(OneByOne::default(), &[&assignment]);
        Some(Sums { a, b_g1, b_g2, c })
    }
}

impl fmt::Debug for AffineKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AffineKey").field("width", &self.width).finish_non_exhaustive()
    }
}
