//! A proof's arithmetic, eight field elements at a time.
//!
//! What takes time in a proof is the quotient polynomial ([`quotient`]) and four sums of points times scalars ([`sum`](crate::sum)). Both are written
//! over any vector, and know nothing of the processor: [`millstream_lanes`] has what does.
//!
//! **Invariant:** every input has the result that arkworks gives. Points may be equal, opposite or infinity, and scalars any integers below
//! the order.

mod group;
mod pairs;
mod quotient;
mod weigh;

use core::fmt;
use core::marker::PhantomData;

use ark_bn254::Bn254;
use ark_ec::short_weierstrass::{Affine, Projective};
use ark_ff::{BigInt, PrimeField};
use ark_groth16::ProvingKey;
use millstream_circuit::Witness;
use millstream_lanes::Unit;
use rayon::prelude::*;

use crate::arithmetic::{PreparedKey, ProofStep, Sums, Wanted};
use crate::digits::{Digits, best_width};
use crate::setup::INSTANCE;
use crate::sum::{Adder, Numbered, Pair, Points};
use quotient::{POINTS_MIN, Transforms};

pub(crate) use group::{G1, G2, Group};

/// Adds points of a group eight at a time.
pub(crate) struct InLanes<G, U> {
    unit: U,
    group: PhantomData<G>,
}

impl<G, U> InLanes<G, U> {
    /// With lanes that the unit has.
    pub(crate) const fn new(unit: U) -> Self {
        Self { unit, group: PhantomData }
    }
}

impl<G, U: Copy> Clone for InLanes<G, U> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<G, U: Copy> Copy for InLanes<G, U> {}

impl<G: Group, U: Unit> Adder for InLanes<G, U> {
    type Curve = G::Curve;
    type Point = group::Point<G::Rows>;

    const BLOCK: usize = G::BLOCK;

    fn point(affine: &Affine<G::Curve>) -> Self::Point {
        group::point::<G>(affine)
    }

    fn affine(point: &Self::Point) -> Affine<G::Curve> {
        group::affine::<G>(point)
    }

    fn negated(point: &Self::Point) -> Self::Point {
        group::Point { y: G::negated(&point.y), ..*point }
    }

    fn add_pairs(self, points: &[Self::Point], pairs: &[Pair], sums: &mut [Self::Point], careful: &mut bool) {
        pairs::add_pairs::<G, U>(self.unit, points, pairs, sums, careful);
    }

    fn weighed(self, buckets: &[Self::Point]) -> Projective<G::Curve> {
        weigh::weighed::<G, U>(self.unit, buckets)
    }
}

/// A proving key in the form and order that lanes take it in.
pub(crate) struct LaneKey<U: Unit> {
    unit: U,
    transforms: Transforms,
    /// The bits of a digit of a scalar.
    width: u32,
    /// The points of the quotient's coefficients, and those of the variables that are not public: C is one sum.
    c: Points<InLanes<G1, U>>,
    a: Points<InLanes<G1, U>>,
    b_g1: Points<InLanes<G1, U>>,
    b_g2: Points<InLanes<G2, U>>,
}

impl<U: Unit> LaneKey<U> {
    /// Prepares a key: for lanes that the unit has. Nothing for a key with a domain too small for tiles of lanes, or of a size that is no
    /// power of two.
    pub(crate) fn new(unit: U, key: &ProvingKey<Bn254>) -> Option<Self> {
        let points = key.h_query.len() + 1;
        if !points.is_power_of_two() || points < POINTS_MIN {
            return None;
        }
        let transforms = Transforms::new(points);
        // The highest coefficient has no point: the quotient has a lower degree.
        let places = (0..).zip(transforms.order());
        let h: Vec<Numbered<'_, InLanes<G1, U>>> = places.filter_map(|(place, index)| Some((place, key.h_query.get(index)?))).collect();
        let a: Vec<Numbered<'_, InLanes<G1, U>>> = (0..).zip(&key.a_query).collect();
        let b_g1: Vec<Numbered<'_, InLanes<G1, U>>> = (0..).zip(&key.b_g1_query).collect();
        let l: Vec<Numbered<'_, InLanes<G1, U>>> = (INSTANCE as u32..).zip(&key.l_query).collect();
        let b_g2: Vec<Numbered<'_, InLanes<G2, U>>> = (0..).zip(&key.b_g2_query).collect();
        Some(Self {
            unit,
            transforms,
            width: best_width(points),
            c: Points::new(&[&h, &l]),
            a: Points::new(&[&a]),
            b_g1: Points::new(&[&b_g1]),
            b_g2: Points::new(&[&b_g2]),
        })
    }
}

impl<U: Unit> PreparedKey for LaneKey<U> {
    fn name(&self) -> &'static str {
        "lanes"
    }

    fn bytes(&self) -> usize {
        self.transforms.bytes() + self.c.bytes() + self.a.bytes() + self.b_g1.bytes() + self.b_g2.bytes()
    }

    fn sums(&self, witness: Witness, wanted: Wanted<'_>) -> Option<Sums> {
        let step = |step| wanted(step).then_some(());
        let Witness { assignment, mut a, b } = witness;

        step(ProofStep::Quotient)?;
        // The rows after the circuit's: each instance variable is itself, times nothing.
        a.extend_from_slice(&assignment[..INSTANCE]);
        let quotient = self.transforms.quotient(self.unit, a, b);
        step(ProofStep::SumC)?;
        let quotient = Digits::new(&quotient, self.width);
        let integers: Vec<BigInt<4>> = assignment.par_iter().map(|value| value.into_bigint()).collect();
        drop(assignment);
        let assignment = Digits::new(&integers, self.width);
        drop(integers);
        let c = self.c.sum(InLanes::new(self.unit), &[&quotient, &assignment]);
        drop(quotient);
        step(ProofStep::SumA)?;
        let a = self.a.sum(InLanes::new(self.unit), &[&assignment]);
        step(ProofStep::SumBG1)?;
        let b_g1 = self.b_g1.sum(InLanes::new(self.unit), &[&assignment]);
        step(ProofStep::SumBG2)?;
        let b_g2 = self.b_g2.sum(InLanes::new(self.unit), &[&assignment]);
        Some(Sums { a, b_g1, b_g2, c })
    }
}

impl<U: Unit> fmt::Debug for LaneKey<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaneKey").field("width", &self.width).finish_non_exhaustive()
    }
}
