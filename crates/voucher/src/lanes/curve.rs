//! The arithmetic of `crate::curve` and the sums of `crate::comb`, eight at a time. Coordinates are below `2·p`.

use millstream_lanes::{Constant, LANES, Vector};

use super::kernel::{Field8, Job};
use crate::comb::{COLUMNS, GENERATOR_TABLES, GeneratorComb, KEY_TABLES, Term};
use crate::curve::AffineOperand;
use crate::residue::{Base, Element};

/// An x-coordinate on the curve with a = -1; the denominator is never zero. Both below `2·p`.
#[derive(Clone, Copy)]
pub(super) struct Fraction<V> {
    pub(super) numerator: Field8<V>,
    pub(super) denominator: Field8<V>,
}

/// `(X : Y : Z : T)`, as `crate::curve::Extended`.
#[derive(Clone, Copy)]
struct Extended<V> {
    x: Field8<V>,
    y: Field8<V>,
    z: Field8<V>,
    t: Field8<V>,
}

/// A result before its last products, as `crate::curve::Completed`. The bounds of `e·f`, `g·h`, `f·g` and `e·h` are at most 64.
#[derive(Clone, Copy)]
struct Completed<V> {
    e: Field8<V>,
    f: Field8<V>,
    g: Field8<V>,
    h: Field8<V>,
}

/// An affine operand of an addition, below `16·p`, of which `product` is to be subtracted in the lanes of the mask: the others are
/// exchanged there already.
struct Operand<V> {
    difference: Field8<V>,
    sum: Field8<V>,
    product: Field8<V>,
    negative: u8,
}

impl<V: Vector> Operand<V> {
    #[inline(always)]
    fn new(proof: V::Proof, terms: &[Term<'_>; LANES]) -> Self {
        let mut differences = [terms[0].entry.difference.montgomery_limbs(); LANES];
        let mut sums = differences;
        let mut products = differences;
        let mut negative = 0u8;
        for (lane, Term { entry, negative: turned }) in terms.iter().enumerate() {
            let (difference, sum) = if *turned { (&entry.sum, &entry.difference) } else { (&entry.difference, &entry.sum) };
            differences[lane] = difference.montgomery_limbs();
            sums[lane] = sum.montgomery_limbs();
            products[lane] = entry.product.montgomery_limbs();
            negative |= u8::from(*turned) << lane;
        }
        Self {
            difference: Field8::from_montgomery(proof, differences),
            sum: Field8::from_montgomery(proof, sums),
            product: Field8::from_montgomery(proof, products),
            negative,
        }
    }
}

impl<V: Vector> Extended<V> {
    #[inline(always)]
    fn add(self, proof: V::Proof, other: &Operand<V>) -> Completed<V> {
        // 4·16, 4·16 and 2·16: all below 2·p.
        let a = self.y.sub(proof, self.x).mul(proof, other.difference);
        let b = self.y.add(proof, self.x).mul(proof, other.sum);
        let c = self.t.mul(proof, other.product);
        let d = self.z.double(proof);
        // Below 4·p, 6·p, 6·p and 4·p.
        let (without, with) = (d.sub(proof, c), d.add(proof, c));
        Completed {
            e: b.sub(proof, a),
            f: Field8::select(other.negative, with, without),
            g: Field8::select(other.negative, without, with),
            h: b.add(proof, a),
        }
    }
}

impl<V: Vector> Completed<V> {
    /// The point of an operand, as it comes from adding it to the identity.
    #[inline(always)]
    fn start(proof: V::Proof, entries: [&AffineOperand; LANES]) -> Self {
        let one = Constant::<Base>::from_montgomery(*Element::ONE.montgomery_limbs());
        let one = Field8::splat(proof, &one);
        let operand = Operand::<V>::new(proof, &entries.map(|entry| Term { entry, negative: false }));
        // From below 16·p to below 2·p.
        let (a, b) = (operand.difference.mul(proof, one), operand.sum.mul(proof, one));
        let two = one.double(proof);
        // Below 4·p, 2·p, 2·p and 4·p.
        Self { e: b.sub(proof, a), f: two, g: two, h: b.add(proof, a) }
    }

    #[inline(always)]
    fn extended(self, proof: V::Proof) -> Extended<V> {
        Extended { x: self.e.mul(proof, self.f), y: self.g.mul(proof, self.h), z: self.f.mul(proof, self.g), t: self.e.mul(proof, self.h) }
    }

    #[inline(always)]
    fn doubled(self, proof: V::Proof) -> Self {
        let (x, y, z) = (self.e.mul(proof, self.f), self.g.mul(proof, self.h), self.f.mul(proof, self.g));
        let (xx, yy, zz) = (x.square(proof), y.square(proof), z.square(proof));
        // Below 4·p, 4·p, 6·p and 8·p.
        let h = xx.add(proof, yy);
        let g = xx.sub(proof, yy);
        let e = h.sub(proof, x.add(proof, y).square(proof));
        let f = zz.double(proof).add(proof, g);
        Self { e, f, g, h }
    }
}

/// The x-coordinates of the commitments `S·B8 − e·A` (spec V-7). Meanwhile the tables of the jobs that come `next` are fetched: those of one
/// lane in each column.
#[inline(always)]
pub(super) fn commitment<V: Vector>(
    proof: V::Proof,
    jobs: &[Job<'_>; LANES],
    generator: &GeneratorComb,
    next: Option<&[Job<'_>; LANES]>,
) -> Fraction<V> {
    const { assert!(COLUMNS == LANES, "each column fetches the tables of one lane") };
    let mut sum = Completed::<V>::start(proof, jobs.each_ref().map(|job| job.key.start()));
    for column in (0..COLUMNS).rev() {
        if column + 1 != COLUMNS {
            sum = sum.doubled(proof);
        }
        for table in 0..KEY_TABLES + GENERATOR_TABLES {
            if let Some(next) = next
                && table < KEY_TABLES
            {
                next[column].key.prefetch(table);
            }
            let mut terms = [Term { entry: jobs[0].key.start(), negative: false }; LANES];
            for (term, job) in terms.iter_mut().zip(jobs) {
                *term = match table.checked_sub(KEY_TABLES) {
                    None => job.key.term(job.challenge, table, column),
                    Some(table) => generator.term(&job.response_signs, table, column),
                };
            }
            sum = sum.extended(proof).add(proof, &Operand::new(proof, &terms));
        }
    }
    Fraction { numerator: sum.e.mul(proof, sum.f), denominator: sum.f.mul(proof, sum.g) }
}
