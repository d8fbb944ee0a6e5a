//! The quotient polynomial `(A·B − C) / Z`, from the values of A and B.
//!
//! Three polynomials go from values on the domain to coefficients and on to values on a coset, and the quotient comes back to coefficients:
//! seven transforms, none of which puts anything in order. An inverse transform (decimation in frequency) leaves coefficients where the
//! bits of their index, reversed, say; a transform (decimation in time) starts from there. Scaling by powers of the coset's shift is part of
//! the twiddle factors, scaling by the size is left to one factor at the end. Source: Cooley, Tukey; Gentleman, Sande.
//!
//! **Layout.** Of `n` values, block `k` has in lane `j` number `j·n/8 + k`. So the three stages that join eighths of the values join lanes,
//! and are computed over tiles of eight blocks turned on their side. In every other stage all lanes do the same with the same factor. The
//! coefficients leave in the order of the blocks and, in a block, of its lanes; [`Transforms::order`] says which is where.

use ark_bn254::Fr;
use ark_ff::{AdditiveGroup, BigInt, FftField, Field, MontConfig, One};
use millstream_lanes::{Block, Constant, Kernel, LANES, Lanes, Modulus, Products, Unit, Vector};
use rayon::prelude::*;

/// The field of scalars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Scalars;

impl Modulus for Scalars {
    const LIMBS: [u64; 4] = <ark_bn254::FrConfig as MontConfig<4>>::MODULUS.0;
}

type Eight<V> = Lanes<V, Scalars>;
type Known = Constant<Scalars>;

/// Blocks of a polynomial that stay near the processor: 512 KiB.
const NEAR_BLOCKS: usize = 2_048;
/// Blocks that one call computes of a longer polynomial.
const STEP_BLOCKS: usize = 512;

/// Polynomials of this many points and more are transformed in lanes.
pub(super) const POINTS_MIN: usize = LANES * LANES;

fn known(value: Fr) -> Known {
    Known::from_montgomery(value.0.0)
}

/// What is multiplied with in a transform: at stage `s` of half `2^s`, `(shift · root^i)^(n / 2^(s + 1))` with number `i`.
struct Twiddles {
    /// `shift · root^i`, an eighth of them, eight to a block.
    first: Vec<Block>,
    /// The first powers of `root^(n/8)`.
    eighths: [Known; LANES / 2],
    /// By stage, up to the one that joins sixteenths.
    stages: Vec<Vec<Known>>,
}

impl Twiddles {
    fn new(points: usize, root: Fr, shift: Fr) -> Self {
        let eighth = points / LANES;
        let powers = |first: Fr, ratio: Fr| core::iter::successors(Some(first), move |power| Some(*power * ratio));
        let stage = |stage: u32| {
            let power = (points >> (stage + 1)) as u64;
            powers(shift.pow([power]), root.pow([power])).take(1 << stage).map(known).collect()
        };
        let values: Vec<Fr> = powers(shift, root).take(eighth).collect();
        let block = |values: &[Fr; LANES]| {
            // The row of a value times 16 is its form with R = 2^260.
            let rows = values.map(|value| value.double().double().double().double().0.0);
            Block(core::array::from_fn(|limb| rows.map(|row| row[limb])))
        };
        let mut eighths = [known(Fr::ONE); LANES / 2];
        for (eighth_root, power) in eighths.iter_mut().zip(powers(Fr::ONE, root.pow([eighth as u64]))) {
            *eighth_root = known(power);
        }
        Self { first: values.as_chunks().0.iter().map(block).collect(), eighths, stages: (0..eighth.ilog2()).map(stage).collect() }
    }

    fn bytes(&self) -> usize {
        let constants: usize = self.stages.iter().map(Vec::len).sum();
        self.first.len() * size_of::<Block>() + constants * size_of::<Known>()
    }
}

/// All that the transforms of a domain are made with.
pub(super) struct Transforms {
    points: usize,
    from_values: Twiddles,
    to_coset: Twiddles,
    from_coset: Twiddles,
    /// Minus the number of points.
    negated_points: Known,
    /// What makes the quotient's coefficients of what comes out at the end.
    scale: Known,
}

impl Transforms {
    /// For a domain of so many points, a power of two from [`POINTS_MIN`] on.
    pub(super) fn new(points: usize) -> Self {
        assert!(points.is_power_of_two() && points >= POINTS_MIN, "{points} points make tiles");
        let root = Fr::get_root_of_unity(points as u64).expect("the field has a domain of 2^28 points, the largest circuit here uses 2^24");
        let shift = Fr::GENERATOR;
        let inverse = |value: Fr| value.inverse().expect("not zero");
        let size = Fr::from(points as u64);
        // A and B come over 16, and both transforms leave a factor of the size: A·B − n·C comes times n²/256, and the way back adds n.
        let vanishing = shift.pow([points as u64]) - Fr::one();
        Self {
            points,
            from_values: Twiddles::new(points, inverse(root), Fr::ONE),
            to_coset: Twiddles::new(points, root, shift),
            from_coset: Twiddles::new(points, inverse(root), inverse(shift)),
            negated_points: known(-size),
            scale: known(Fr::from(256u64) * inverse(size * size * size * vanishing)),
        }
    }

    /// The memory that it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        [&self.from_values, &self.to_coset, &self.from_coset].into_iter().map(Twiddles::bytes).sum()
    }

    /// Which coefficient is at which place.
    pub(super) fn order(&self) -> impl Iterator<Item = usize> + use<> {
        let (eighth, unused) = (self.points / LANES, usize::BITS - self.points.ilog2());
        (0..self.points).map(move |place| (place % LANES * eighth + place / LANES).reverse_bits() >> unused)
    }

    /// The coefficients of the quotient, as integers, in [`Self::order`]. Values that are not there are zero. Those of C are the products of
    /// A's and B's, so nothing is left over.
    pub(super) fn quotient<U: Unit>(&self, unit: U, mut a: Vec<Fr>, mut b: Vec<Fr>) -> Vec<BigInt<4>> {
        a.resize(self.points, Fr::ZERO);
        b.resize(self.points, Fr::ZERO);
        let mut polynomials: [Vec<Block>; 3] = core::array::from_fn(|_| vec![Block::default(); self.points / LANES]);
        let [x, y, z] = &mut polynomials;
        let steps = x.par_chunks_mut(STEP_BLOCKS.min(self.points / LANES));
        let steps = steps.zip(y.par_chunks_mut(STEP_BLOCKS)).zip(z.par_chunks_mut(STEP_BLOCKS)).enumerate();
        steps.for_each(|(step, ((x, y), z))| {
            let first = step * STEP_BLOCKS;
            unit.run(Open { a: &a, b: &b, first, twiddles: &self.from_values, polynomials: [x, y, z] });
        });
        drop((a, b));
        for polynomial in &mut polynomials {
            there_and_back(unit, polynomial, Some(&self.from_values), Some(&self.to_coset));
        }
        let [mut x, y, z] = polynomials;
        x.par_chunks_mut(STEP_BLOCKS).zip(y.par_chunks(STEP_BLOCKS)).zip(z.par_chunks(STEP_BLOCKS)).enumerate().for_each(
            |(step, ((x, y), z))| {
                let first = step * STEP_BLOCKS;
                unit.run(Divide { transforms: self, first, x, y, z });
            },
        );
        drop((y, z));
        there_and_back(unit, &mut x, Some(&self.from_coset), None);
        let mut integers = vec![BigInt::<4>::default(); self.points];
        let steps = x.par_chunks(STEP_BLOCKS).zip(integers.par_chunks_mut(STEP_BLOCKS * LANES));
        steps.for_each(|(blocks, integers)| unit.run(Finish { blocks, scale: &self.scale, integers }));
        integers
    }
}

/// The stages within lanes: first those of an inverse transform from the longest down, then those of a transform back up.
fn there_and_back<U: Unit>(unit: U, blocks: &mut [Block], down: Option<&Twiddles>, up: Option<&Twiddles>) {
    let count = blocks.len();
    if count <= NEAR_BLOCKS {
        if let Some(twiddles) = down {
            unit.run(Near { blocks, twiddles, direction: Direction::Down });
        }
        if let Some(twiddles) = up {
            unit.run(Near { blocks, twiddles, direction: Direction::Up });
        }
        return;
    }
    if let Some(twiddles) = down {
        far(unit, blocks, twiddles, Direction::Down);
    }
    blocks.par_chunks_mut(count / 4).for_each(|blocks| there_and_back(unit, blocks, down, up));
    if let Some(twiddles) = up {
        far(unit, blocks, twiddles, Direction::Up);
    }
}

/// Two stages of blocks that are far apart.
fn far<U: Unit>(unit: U, blocks: &mut [Block], twiddles: &Twiddles, direction: Direction) {
    let quarter = blocks.len() / 4;
    let stage = blocks.len().ilog2() as usize - 1;
    let (low, high) = blocks.split_at_mut(2 * quarter);
    let ((a, b), (c, d)) = (low.split_at_mut(quarter), high.split_at_mut(quarter));
    let steps = a.par_chunks_mut(STEP_BLOCKS).zip(b.par_chunks_mut(STEP_BLOCKS));
    let steps = steps.zip(c.par_chunks_mut(STEP_BLOCKS).zip(d.par_chunks_mut(STEP_BLOCKS))).enumerate();
    steps.for_each(|(step, ((a, b), (c, d)))| {
        let first = step * STEP_BLOCKS;
        let factors = Factors {
            long: &twiddles.stages[stage][first..],
            long_odd: &twiddles.stages[stage][quarter + first..],
            short: &twiddles.stages[stage - 1][first..],
        };
        unit.run(Far { quarters: [a, b, c, d], factors, direction });
    });
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    /// Towards coefficients: the longest stage first.
    Down,
    /// Towards values.
    Up,
}

/// The factors of two stages over four quarters.
struct Factors<'a> {
    /// Of the stage that joins halves: for the first and third quarter.
    long: &'a [Known],
    /// For the second and fourth.
    long_odd: &'a [Known],
    /// Of the stage that joins quarters.
    short: &'a [Known],
}

/// Two stages over four quarters of the same length.
#[inline(always)]
fn two_stages<V: Vector>(proof: V::Proof, quarters: [&mut [Block]; 4], factors: &Factors<'_>, direction: Direction) {
    let [a, b, c, d] = quarters;
    let count = a.len();
    let (b, c, d) = (&mut b[..count], &mut c[..count], &mut d[..count]);
    let (long, long_odd, short) = (&factors.long[..count], &factors.long_odd[..count], &factors.short[..count]);
    for i in 0..count {
        let (p, q) = (Eight::<V>::from_block(proof, &a[i]), Eight::<V>::from_block(proof, &b[i]));
        let (r, s) = (Eight::<V>::from_block(proof, &c[i]), Eight::<V>::from_block(proof, &d[i]));
        let (long, long_odd) = (Eight::<V>::splat(proof, &long[i]), Eight::splat(proof, &long_odd[i]));
        let short = Eight::<V>::splat(proof, &short[i]);
        match direction {
            Direction::Down => {
                let (even, odd) = (p.add(proof, r), q.add(proof, s));
                let (even_rest, odd_rest) = (p.sub(proof, r).mul(proof, long), q.sub(proof, s).mul(proof, long_odd));
                a[i] = even.add(proof, odd).reduced(proof).to_block();
                b[i] = even.sub_wide(proof, odd).mul(proof, short).to_block();
                c[i] = even_rest.add(proof, odd_rest).reduced(proof).to_block();
                d[i] = even_rest.sub(proof, odd_rest).mul(proof, short).to_block();
            }
            Direction::Up => {
                let (q, s) = (q.mul(proof, short), s.mul(proof, short));
                let (r, odd_rest) = (r.add(proof, s).mul(proof, long), r.sub(proof, s).mul(proof, long_odd));
                let (even, odd) = (p.add(proof, q), p.sub(proof, q));
                a[i] = even.add(proof, r).reduced(proof).to_block();
                b[i] = odd.add(proof, odd_rest).reduced(proof).to_block();
                c[i] = even.sub_reduced(proof, r).to_block();
                d[i] = odd.sub_reduced(proof, odd_rest).to_block();
            }
        }
    }
}

struct Far<'a> {
    quarters: [&'a mut [Block]; 4],
    factors: Factors<'a>,
    direction: Direction,
}

impl Kernel for Far<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, proof: V::Proof) {
        two_stages::<V>(proof, self.quarters, &self.factors, self.direction);
    }
}

/// All stages of some blocks.
struct Near<'a> {
    blocks: &'a mut [Block],
    twiddles: &'a Twiddles,
    direction: Direction,
}

impl Kernel for Near<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, proof: V::Proof) {
        let Self { blocks, twiddles, direction } = self;
        let stages = blocks.len().ilog2() as usize;
        // Two stages at a time. If their number is odd, the shortest one is alone.
        if direction == Direction::Up && stages % 2 == 1 {
            shortest::<V>(proof, blocks, &twiddles.stages[0][0], direction);
        }
        for step in 0..stages / 2 {
            let stage = match direction {
                Direction::Down => stages - 1 - 2 * step,
                Direction::Up => stages % 2 + 1 + 2 * step,
            };
            let quarter = 1 << (stage - 1);
            let factors =
                Factors { long: &twiddles.stages[stage], long_odd: &twiddles.stages[stage][quarter..], short: &twiddles.stages[stage - 1] };
            for blocks in blocks.chunks_exact_mut(4 * quarter) {
                let (low, high) = blocks.split_at_mut(2 * quarter);
                let ((a, b), (c, d)) = (low.split_at_mut(quarter), high.split_at_mut(quarter));
                two_stages::<V>(proof, [a, b, c, d], &factors, direction);
            }
        }
        if direction == Direction::Down && stages % 2 == 1 {
            shortest::<V>(proof, blocks, &twiddles.stages[0][0], direction);
        }
    }
}

/// The stage that joins neighbours.
#[inline(always)]
fn shortest<V: Vector>(proof: V::Proof, blocks: &mut [Block], factor: &Known, direction: Direction) {
    for pair in blocks.chunks_exact_mut(2) {
        let (left, right) = (Eight::<V>::from_block(proof, &pair[0]), Eight::<V>::from_block(proof, &pair[1]));
        let (sum, difference) = match direction {
            Direction::Down => (left.add(proof, right).reduced(proof), left.sub(proof, right).mul_constant(proof, factor)),
            Direction::Up => {
                let right = right.mul_constant(proof, factor);
                (left.add(proof, right).reduced(proof), left.sub_reduced(proof, right))
            }
        };
        pair[0] = sum.to_block();
        pair[1] = difference.to_block();
    }
}

/// The factors of the three stages over a tile: those of number `k` in the first eighth, and the powers that the others have beside.
#[inline(always)]
fn tile_factors<V: Vector>(proof: V::Proof, twiddles: &Twiddles, tile: usize) -> [Eight<V>; 7] {
    let first = Eight::<V>::from_block(proof, &twiddles.first[tile]);
    let second = first.square(proof);
    let [_, one, two, three] = &twiddles.eighths;
    [
        first,
        first.mul_constant(proof, one),
        first.mul_constant(proof, two),
        first.mul_constant(proof, three),
        second,
        second.mul_constant(proof, two),
        second.square(proof),
    ]
}

/// The three longest stages of an inverse transform: value `j` of the tile is of eighth `j`. Takes and gives less than `2·p`.
#[inline(always)]
fn split<V: Vector>(proof: V::Proof, tile: &mut [Eight<V>; LANES], factors: &[Eight<V>; 7]) {
    for (distance, factors) in [(4, &factors[..4]), (2, &factors[4..6]), (1, &factors[6..])] {
        for i in 0..LANES {
            if i & distance == 0 {
                let (left, right) = (tile[i], tile[i + distance]);
                tile[i] = left.add(proof, right).reduced(proof);
                tile[i + distance] = left.sub(proof, right).mul(proof, factors[i % distance]);
            }
        }
    }
}

/// The three longest stages of a transform. Takes and gives less than `2·p`.
#[inline(always)]
fn join<V: Vector>(proof: V::Proof, tile: &mut [Eight<V>; LANES], factors: &[Eight<V>; 7]) {
    for (distance, factors) in [(1, &factors[6..]), (2, &factors[4..6]), (4, &factors[..4])] {
        for i in 0..LANES {
            if i & distance == 0 {
                let (left, right) = (tile[i], tile[i + distance].mul(proof, factors[i % distance]));
                tile[i] = left.add(proof, right).reduced(proof);
                tile[i + distance] = left.sub_reduced(proof, right);
            }
        }
    }
}

#[inline(always)]
fn load<V: Vector>(proof: V::Proof, blocks: &[Block]) -> [Eight<V>; LANES] {
    let mut tile = [Eight::<V>::from_block(proof, &blocks[0]); LANES];
    for (value, block) in tile.iter_mut().zip(blocks) {
        *value = Lanes::from_block(proof, block);
    }
    tile
}

#[inline(always)]
fn store<V: Vector>(blocks: &mut [Block], tile: [Eight<V>; LANES]) {
    for (block, value) in blocks.iter_mut().zip(tile) {
        *block = value.to_block();
    }
}

/// From values of A and B to three polynomials, each after its three longest stages.
struct Open<'a> {
    a: &'a [Fr],
    b: &'a [Fr],
    /// The number of the first block.
    first: usize,
    twiddles: &'a Twiddles,
    polynomials: [&'a mut [Block]; 3],
}

impl Kernel for Open<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, proof: V::Proof) {
        let Self { a, b, first, twiddles, polynomials: [x, y, z] } = self;
        let eighth = a.len() / LANES;
        for tile in (0..x.len()).step_by(LANES) {
            let factors = tile_factors::<V>(proof, twiddles, (first + tile) / LANES);
            let (mut left, mut right) = ([factors[0]; LANES], [factors[0]; LANES]);
            let mut product = [factors[0]; LANES];
            for j in 0..LANES {
                let start = j * eighth + first + tile;
                let (a, b) = (&a[start..start + LANES], &b[start..start + LANES]);
                let (mut a_rows, mut b_rows) = ([&a[0].0.0; LANES], [&b[0].0.0; LANES]);
                for lane in 0..LANES {
                    a_rows[lane] = &a[lane].0.0;
                    b_rows[lane] = &b[lane].0.0;
                }
                // Over 16, all three: see `Lanes::from_rows`.
                left[j] = Lanes::from_rows(proof, a_rows);
                right[j] = Lanes::from_rows(proof, b_rows);
                product[j] = left[j].mul(proof, right[j]);
            }
            for (polynomial, mut values) in [(&mut *x, left), (&mut *y, right), (&mut *z, product)] {
                split::<V>(proof, &mut values, &factors);
                store::<V>(&mut polynomial[tile..tile + LANES], Lanes::transposed(values));
            }
        }
    }
}

/// From three polynomials before their last stages to the values of A·B − C on the coset, and on to their quotient after its first stages.
struct Divide<'a> {
    transforms: &'a Transforms,
    first: usize,
    /// A, and the quotient in its place.
    x: &'a mut [Block],
    y: &'a [Block],
    z: &'a [Block],
}

impl Kernel for Divide<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, proof: V::Proof) {
        let Self { transforms: Transforms { to_coset, from_coset, negated_points, .. }, first, x, y, z } = self;
        for tile in (0..x.len()).step_by(LANES) {
            let number = (first + tile) / LANES;
            let factors = tile_factors::<V>(proof, to_coset, number);
            let mut values = [[factors[0]; LANES]; 3];
            for (values, blocks) in values.iter_mut().zip([&*x, y, z]) {
                *values = Lanes::transposed(load::<V>(proof, &blocks[tile..tile + LANES]));
                join::<V>(proof, values, &factors);
            }
            let [a, b, c] = values;
            let mut quotient = a;
            for j in 0..LANES {
                let mut sum = Products::zero(proof);
                sum.add_product(a[j], b[j]);
                sum.add_constant_product(proof, c[j], negated_points);
                quotient[j] = sum.reduce(proof);
            }
            let factors = tile_factors::<V>(proof, from_coset, number);
            split::<V>(proof, &mut quotient, &factors);
            store::<V>(&mut x[tile..tile + LANES], Lanes::transposed(quotient));
        }
    }
}

/// From the last blocks to integers.
struct Finish<'a> {
    blocks: &'a [Block],
    scale: &'a Known,
    integers: &'a mut [BigInt<4>],
}

impl Kernel for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, proof: V::Proof) {
        for (block, integers) in self.blocks.iter().zip(self.integers.chunks_exact_mut(LANES)) {
            let rows = Eight::<V>::from_block(proof, block).mul_constant(proof, self.scale).to_integers(proof);
            for (integer, row) in integers.iter_mut().zip(rows) {
                integer.0 = row;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ark_ff::PrimeField;
    use millstream_lanes::{Avx512Ifma, Plain};
    use proptest::prelude::*;

    use super::*;
    use crate::ark::quotient as arks_quotient;

    fn check(a: &[Fr], b: &[Fr], points: usize) {
        let expected = arks_quotient(a.to_vec(), b.to_vec(), points);
        let transforms = Transforms::new(points);
        let check_unit = |found: Vec<BigInt<4>>| {
            for (found, index) in found.into_iter().zip(transforms.order()) {
                assert_eq!(found, expected[index].into_bigint(), "coefficient {index} of {points}");
            }
        };
        if points <= 1 << 12 {
            check_unit(transforms.quotient(Plain, a.to_vec(), b.to_vec()));
        }
        if let Some(unit) = Avx512Ifma::detect() {
            check_unit(transforms.quotient(unit, a.to_vec(), b.to_vec()));
        }
    }

    /// With an even and an odd number of stages, near and far: more than that is more of the same.
    #[test]
    fn every_shape_of_domain_agrees_with_arkworks() {
        let values = |count: usize, seed: u64| -> Vec<Fr> {
            core::iter::successors(Some(Fr::from(seed)), |value| Some(value.square() + Fr::from(seed))).take(count).collect()
        };
        for bits in [6, 7, 8, 9, 10, 13, 14, 15, 16, 17] {
            let points = 1 << bits;
            check(&values(points - 3, 3), &values(points - 7, 5), points);
        }
    }

    #[test]
    fn the_order_has_every_coefficient_once() {
        let mut order: Vec<usize> = Transforms::new(256).order().collect();
        assert_ne!(order[1], 1);
        order.sort_unstable();
        assert!(order.into_iter().eq(0..256));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn edges_and_any_values(bytes in proptest::collection::vec(any::<[u8; 32]>(), 0..=128), edges in any::<[u8; 128]>()) {
            let value = |index: usize| match edges[index] {
                0..40 => Fr::ZERO,
                40..60 => Fr::ONE,
                60..80 => -Fr::ONE,
                _ => bytes.get(index).map_or(-Fr::from(7u64), |bytes| Fr::from_be_bytes_mod_order(bytes)),
            };
            let a: Vec<Fr> = (0..bytes.len()).map(value).collect();
            let b: Vec<Fr> = (0..bytes.len()).map(|index| value(127 - index)).collect();
            check(&a, &b, 128);
        }
    }
}
