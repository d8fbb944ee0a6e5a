//! The two groups of a proof, their points in memory, and eight coordinates at a time.

use core::fmt::Debug;
use std::sync::LazyLock;

use ark_bn254::{Fq, Fq2, Fr};
use ark_ec::AffineRepr;
use ark_ec::short_weierstrass::{Affine, Projective, SWCurveConfig};
use ark_ff::{AdditiveGroup, BigInt, BigInteger, Field, MontConfig, One, PrimeField, Zero};
use millstream_lanes::{LANES, Lanes, Modulus, Products, Row, Vector};

/// The field of G1's coordinates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Base;

impl Modulus for Base {
    const LIMBS: [u64; 4] = <ark_bn254::FqConfig as MontConfig<4>>::MODULUS.0;
}

/// A point that is not infinity, by its coordinates; or infinity, by two coordinates of zero, which are on neither curve.
///
/// Coordinates are rows of at most twice the prime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(align(64))]
pub(crate) struct Point<R> {
    pub(crate) x: R,
    pub(crate) y: R,
}

/// A group of odd order on a curve `y² = x³ + b`.
pub(crate) trait Group: Copy + Send + Sync + 'static {
    /// The curve, as arkworks has it.
    type Curve: SWCurveConfig<ScalarField = Fr>;
    /// A coordinate in memory.
    type Rows: Copy + Debug + Default + PartialEq + Send + Sync;
    /// Eight coordinates.
    type Eight<V: Vector>: Eight<V, Rows = Self::Rows>;

    /// Additions that share an inversion.
    const BATCH: usize;
    /// Points that are added up before the next ones are read: their sums stay near the processor.
    const BLOCK: usize;

    fn rows(value: &<Self::Curve as ark_ec::CurveConfig>::BaseField) -> Self::Rows;

    fn value(rows: &Self::Rows) -> <Self::Curve as ark_ec::CurveConfig>::BaseField;

    /// The coordinate of a point that is not infinity.
    fn negated(rows: &Self::Rows) -> Self::Rows;
}

type BaseFieldOf<G> = <<G as Group>::Curve as ark_ec::CurveConfig>::BaseField;

/// The point in memory.
pub(super) fn point<G: Group>(affine: &Affine<G::Curve>) -> Point<G::Rows> {
    affine.xy().map_or_else(Point::default, |(x, y)| Point { x: G::rows(&x), y: G::rows(&y) })
}

/// The point as arkworks has it.
pub(super) fn affine<G: Group>(point: &Point<G::Rows>) -> Affine<G::Curve> {
    if *point == Point::default() { Affine::identity() } else { Affine::new_unchecked(G::value(&point.x), G::value(&point.y)) }
}

/// The point `(X/Z, Y/Z)`, and infinity where Z is zero.
pub(super) fn projective<G: Group>([x, y, z]: [G::Rows; 3]) -> Projective<G::Curve> {
    let [x, y, z] = [x, y, z].map(|rows| G::value(&rows));
    if z.is_zero() { Projective::zero() } else { Projective::new_unchecked(x * z, y * z.square(), z) }
}

/// The inverses of eight values, unless one of them is zero.
pub(super) fn inverses<G: Group>(rows: [G::Rows; LANES]) -> Option<[G::Rows; LANES]> {
    let values = rows.map(|rows| G::value(&rows));
    let mut before = [BaseFieldOf::<G>::one(); LANES];
    let mut product = BaseFieldOf::<G>::one();
    for (before, value) in before.iter_mut().zip(&values) {
        *before = product;
        product *= value;
    }
    let mut inverse = product.inverse()?;
    let mut inverses = rows;
    for lane in (0..LANES).rev() {
        inverses[lane] = G::rows(&(inverse * before[lane]));
        inverse *= values[lane];
    }
    Some(inverses)
}

/// `2^-4`: between `R = 2^256` and the lanes' `R = 2^260`.
static SIXTEENTH: LazyLock<Fq> = LazyLock::new(|| Fq::from(16u64).inverse().expect("not zero"));

fn row(value: &Fq) -> Row {
    let sixteenfold = value.double().double().double().double();
    sixteenfold.0.0
}

fn value(row: &Row) -> Fq {
    let mut integer = BigInt::<4>(*row);
    while integer >= Fq::MODULUS {
        integer.sub_with_borrow(&Fq::MODULUS);
    }
    Fq::new_unchecked(integer) * *SIXTEENTH
}

fn negated(row: &Row) -> Row {
    let mut twice = Fq::MODULUS;
    twice.mul2();
    twice.sub_with_borrow(&BigInt(*row));
    twice.0
}

/// The group over the prime field.
#[derive(Clone, Copy, Debug)]
pub(crate) struct G1;

impl Group for G1 {
    type Curve = ark_bn254::g1::Config;
    type Rows = [Row; 1];
    type Eight<V: Vector> = Lanes<V, Base>;

    const BATCH: usize = 1_024;
    const BLOCK: usize = 8_192;

    fn rows(value: &Fq) -> [Row; 1] {
        [row(value)]
    }

    fn value(rows: &[Row; 1]) -> Fq {
        value(&rows[0])
    }

    fn negated(rows: &[Row; 1]) -> [Row; 1] {
        [negated(&rows[0])]
    }
}

/// The group over the quadratic extension.
#[derive(Clone, Copy, Debug)]
pub(crate) struct G2;

impl Group for G2 {
    type Curve = ark_bn254::g2::Config;
    type Rows = [Row; 2];
    type Eight<V: Vector> = Quadratic<V>;

    const BATCH: usize = 512;
    const BLOCK: usize = 4_096;

    fn rows(value: &Fq2) -> [Row; 2] {
        [row(&value.c0), row(&value.c1)]
    }

    fn value(rows: &[Row; 2]) -> Fq2 {
        Fq2::new(value(&rows[0]), value(&rows[1]))
    }

    fn negated(rows: &[Row; 2]) -> [Row; 2] {
        // Of a zero that is part of a coordinate, twice the prime: as good a zero, and rows may be as large.
        [negated(&rows[0]), negated(&rows[1])]
    }
}

/// Eight elements of a field of coordinates. Bounds are multiples of the prime, and for an extension those of each part.
///
/// All of it is `#[inline(always)]`, as whatever is called on vectors.
pub(crate) trait Eight<V: Vector>: Copy {
    /// One of them in memory.
    type Rows;

    fn load(proof: V::Proof, rows: [&Self::Rows; LANES]) -> Self;

    /// Takes less than 4.
    fn store(self) -> [Self::Rows; LANES];

    /// Takes `a` and `b`, gives `a + b`.
    fn add(self, proof: V::Proof, other: Self) -> Self;

    /// Takes `a` and up to 2, gives `a + 2`.
    fn sub(self, proof: V::Proof, other: Self) -> Self;

    /// Takes up to 2, gives up to 2.
    fn negate(self, proof: V::Proof) -> Self;

    /// Takes up to 4 and up to 4, gives less than 2.
    fn mul(self, proof: V::Proof, other: Self) -> Self;

    /// `self · first + third · fourth`. Takes up to 4 each, gives less than 2.
    fn mul_and_add(self, proof: V::Proof, first: Self, third: Self, fourth: Self) -> Self;

    /// Takes less than 2, gives less than 2.
    fn square(self, proof: V::Proof) -> Self;

    /// Takes less than 8, gives less than 2.
    fn reduced(self, proof: V::Proof) -> Self;

    /// Takes less than 6 and up to 2, gives less than 2.
    fn sub_reduced(self, proof: V::Proof, other: Self) -> Self;

    /// This less both. Takes less than 4 and twice up to 2, gives less than 2.
    fn sub_both_reduced(self, proof: V::Proof, first: Self, second: Self) -> Self;

    /// `set` in the lanes of the mask, `clear` in the others.
    fn select(mask: u8, set: Self, clear: Self) -> Self;

    /// The lanes that are zero. Takes less than 8.
    fn zeros(self, proof: V::Proof) -> u8;
}

impl<V: Vector> Eight<V> for Lanes<V, Base> {
    type Rows = [Row; 1];

    #[inline(always)]
    fn load(proof: V::Proof, rows: [&[Row; 1]; LANES]) -> Self {
        let mut first = [&rows[0][0]; LANES];
        for (first, rows) in first.iter_mut().zip(rows) {
            *first = &rows[0];
        }
        Self::from_rows(proof, first)
    }

    #[inline(always)]
    fn store(self) -> [[Row; 1]; LANES] {
        let rows = self.to_rows();
        let mut stored = [[rows[0]]; LANES];
        for (stored, row) in stored.iter_mut().zip(rows) {
            stored[0] = row;
        }
        stored
    }

    #[inline(always)]
    fn add(self, proof: V::Proof, other: Self) -> Self {
        Self::add(self, proof, other)
    }

    #[inline(always)]
    fn sub(self, proof: V::Proof, other: Self) -> Self {
        Self::sub(self, proof, other)
    }

    #[inline(always)]
    fn negate(self, proof: V::Proof) -> Self {
        Self::negate(self, proof)
    }

    #[inline(always)]
    fn mul(self, proof: V::Proof, other: Self) -> Self {
        Self::mul(self, proof, other)
    }

    #[inline(always)]
    fn mul_and_add(self, proof: V::Proof, first: Self, third: Self, fourth: Self) -> Self {
        let mut sum = Products::zero(proof);
        sum.add_product(self, first);
        sum.add_product(third, fourth);
        sum.reduce(proof)
    }

    #[inline(always)]
    fn square(self, proof: V::Proof) -> Self {
        Self::square(self, proof)
    }

    #[inline(always)]
    fn reduced(self, proof: V::Proof) -> Self {
        Self::reduced(self, proof)
    }

    #[inline(always)]
    fn sub_reduced(self, proof: V::Proof, other: Self) -> Self {
        Self::sub_reduced(self, proof, other)
    }

    #[inline(always)]
    fn sub_both_reduced(self, proof: V::Proof, first: Self, second: Self) -> Self {
        Self::sub_both_reduced(self, proof, first, second)
    }

    #[inline(always)]
    fn select(mask: u8, set: Self, clear: Self) -> Self {
        Self::select(mask, set, clear)
    }

    #[inline(always)]
    fn zeros(self, proof: V::Proof) -> u8 {
        Self::zeros(self, proof)
    }
}

/// Eight elements `c0 + c1·u` with `u² = -1`.
#[derive(Clone, Copy)]
pub(crate) struct Quadratic<V> {
    c0: Lanes<V, Base>,
    c1: Lanes<V, Base>,
}

impl<V: Vector> Eight<V> for Quadratic<V> {
    type Rows = [Row; 2];

    #[inline(always)]
    fn load(proof: V::Proof, rows: [&[Row; 2]; LANES]) -> Self {
        let (mut first, mut second) = ([&rows[0][0]; LANES], [&rows[0][1]; LANES]);
        for (lane, rows) in rows.into_iter().enumerate() {
            first[lane] = &rows[0];
            second[lane] = &rows[1];
        }
        Self { c0: Lanes::from_rows(proof, first), c1: Lanes::from_rows(proof, second) }
    }

    #[inline(always)]
    fn store(self) -> [[Row; 2]; LANES] {
        let (first, second) = (self.c0.to_rows(), self.c1.to_rows());
        let mut stored = [[first[0], second[0]]; LANES];
        for (lane, stored) in stored.iter_mut().enumerate() {
            *stored = [first[lane], second[lane]];
        }
        stored
    }

    #[inline(always)]
    fn add(self, proof: V::Proof, other: Self) -> Self {
        Self { c0: self.c0.add(proof, other.c0), c1: self.c1.add(proof, other.c1) }
    }

    #[inline(always)]
    fn sub(self, proof: V::Proof, other: Self) -> Self {
        Self { c0: self.c0.sub(proof, other.c0), c1: self.c1.sub(proof, other.c1) }
    }

    #[inline(always)]
    fn negate(self, proof: V::Proof) -> Self {
        Self { c0: self.c0.negate(proof), c1: self.c1.negate(proof) }
    }

    #[inline(always)]
    fn mul(self, proof: V::Proof, other: Self) -> Self {
        // Two reductions for four products: at most 4·4 + 4·4.
        let (mut c0, mut c1) = (Products::zero(proof), Products::zero(proof));
        c0.add_product(self.c0, other.c0);
        c0.add_product(self.c1, other.c1.negate_wide(proof));
        c1.add_product(self.c0, other.c1);
        c1.add_product(self.c1, other.c0);
        Self { c0: c0.reduce(proof), c1: c1.reduce(proof) }
    }

    #[inline(always)]
    fn mul_and_add(self, proof: V::Proof, first: Self, third: Self, fourth: Self) -> Self {
        // At most 4·4 each: 64.
        let (mut c0, mut c1) = (Products::zero(proof), Products::zero(proof));
        c0.add_product(self.c0, first.c0);
        c0.add_product(self.c1, first.c1.negate_wide(proof));
        c0.add_product(third.c0, fourth.c0);
        c0.add_product(third.c1, fourth.c1.negate_wide(proof));
        c1.add_product(self.c0, first.c1);
        c1.add_product(self.c1, first.c0);
        c1.add_product(third.c0, fourth.c1);
        c1.add_product(third.c1, fourth.c0);
        Self { c0: c0.reduce(proof), c1: c1.reduce(proof) }
    }

    #[inline(always)]
    fn square(self, proof: V::Proof) -> Self {
        let c0 = self.c0.add(proof, self.c1).mul(proof, self.c0.sub(proof, self.c1));
        Self { c0, c1: self.c0.double(proof).mul(proof, self.c1) }
    }

    #[inline(always)]
    fn reduced(self, proof: V::Proof) -> Self {
        Self { c0: self.c0.reduced(proof), c1: self.c1.reduced(proof) }
    }

    #[inline(always)]
    fn sub_reduced(self, proof: V::Proof, other: Self) -> Self {
        Self { c0: self.c0.sub_reduced(proof, other.c0), c1: self.c1.sub_reduced(proof, other.c1) }
    }

    #[inline(always)]
    fn sub_both_reduced(self, proof: V::Proof, first: Self, second: Self) -> Self {
        Self { c0: self.c0.sub_both_reduced(proof, first.c0, second.c0), c1: self.c1.sub_both_reduced(proof, first.c1, second.c1) }
    }

    #[inline(always)]
    fn select(mask: u8, set: Self, clear: Self) -> Self {
        Self { c0: Lanes::select(mask, set.c0, clear.c0), c1: Lanes::select(mask, set.c1, clear.c1) }
    }

    #[inline(always)]
    fn zeros(self, proof: V::Proof) -> u8 {
        self.c0.zeros(proof) & self.c1.zeros(proof)
    }
}
