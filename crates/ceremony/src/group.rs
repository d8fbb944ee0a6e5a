//! Sums of points by the columns of a matrix, and the change of basis of the quotient's points.

use std::collections::HashMap;

use ark_bn254::{Fr, G1Affine, G1Projective};
use ark_ec::short_weierstrass::{Affine, Projective};
use ark_ec::{AffineRepr, CurveGroup, VariableBaseMSM};
use ark_ff::{AdditiveGroup, BigInt, BigInteger, Field, PrimeField};
use ark_poly::{EvaluationDomain, Radix2EvaluationDomain};
use millstream_circuit::{MatrixName, PUBLIC_INPUTS, Structure};
use rayon::prelude::*;

use crate::curve::{Curve, to_affine};
use crate::r1cs::number;

/// Columns that one thread sums before their points are normalised together.
const BLOCK: usize = 1 << 9;
/// Columns of at least so many entries are summed by all threads: those of the one and of the public inputs.
const LONG: usize = 1 << 14;

/// Columns of at least so many entries are summed in buckets.
const MANY: usize = 1 << 8;
const WINDOW_BITS: usize = 4;
/// The multiples of a point that are kept: its digits go from −8 to 8.
const MULTIPLES: usize = 1 << (WINDOW_BITS - 1);

/// A matrix by columns: for each variable the rows that have it, ascending, with coefficients; equal coefficients are kept once.
#[derive(Debug)]
pub(crate) struct Columns {
    /// Column `i` is `entries[ends[i−1]..ends[i]]`.
    ends: Vec<usize>,
    /// Row and index of the coefficient.
    entries: Vec<(u32, u32)>,
    coefficients: Vec<BigInt<4>>,
}

impl Columns {
    /// The columns of a matrix; to A, the rows that say that each instance variable is itself are added.
    pub(crate) fn of(structure: &Structure, name: MatrixName) -> Self {
        let rows = structure.constraints();
        let instance = if name == MatrixName::A { PUBLIC_INPUTS + 1 } else { 0 };
        let mut ends = vec![0; structure.variables()];
        for row in 0..rows {
            structure.row(name, row).for_each(|(variable, _)| ends[variable] += 1);
        }
        ends[..instance].iter_mut().for_each(|count| *count += 1);
        let mut total = 0;
        let mut next = Vec::with_capacity(ends.len());
        for end in &mut ends {
            next.push(total);
            total += *end;
            *end = total;
        }
        let (mut coefficients, mut index) = (Vec::new(), HashMap::new());
        let mut entries = vec![(0, 0); total];
        let mut put = |row: usize, variable: usize, coefficient: Fr| {
            let coefficient = *index.entry(coefficient).or_insert_with(|| {
                coefficients.push(coefficient.into_bigint());
                number(coefficients.len()) - 1
            });
            let at: &mut usize = &mut next[variable];
            entries[*at] = (number(row), coefficient);
            *at += 1;
        };
        for row in 0..rows {
            structure.row(name, row).for_each(|(variable, coefficient)| put(row, variable, coefficient));
        }
        (0..instance).for_each(|variable| put(rows + variable, variable, Fr::ONE));
        Self { ends, entries, coefficients }
    }

    fn column(&self, variable: usize) -> &[(u32, u32)] {
        let start = variable.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.entries[start..self.ends[variable]]
    }

    /// `Σ coefficient·points[row]` over a column.
    fn sum<P: Curve>(&self, variable: usize, points: &[Affine<P>]) -> Projective<P> {
        let column = self.column(variable);
        if let [(row, coefficient)] = column {
            let (point, coefficient) = (&points[*row as usize], self.coefficients[*coefficient as usize]);
            return if coefficient == BigInt::one() { point.into_group() } else { point.mul_bigint(coefficient) };
        }
        let points: Vec<Affine<P>> = column.iter().map(|(row, _)| points[*row as usize]).collect();
        let scalars: Vec<BigInt<4>> = column.iter().map(|(_, coefficient)| self.coefficients[*coefficient as usize]).collect();
        if column.len() < MANY { few(&points, &scalars) } else { Projective::<P>::msm_bigint(&points, &scalars) }
    }
}

/// `Σ scalar·point` of few points: the doublings are shared, and each point has its multiples up to eight.
fn few<P: Curve>(points: &[Affine<P>], scalars: &[BigInt<4>]) -> Projective<P> {
    let mut multiples = Vec::with_capacity(points.len() * MULTIPLES);
    for point in points {
        let mut multiple = point.into_group();
        multiples.push(multiple);
        for _ in 1..MULTIPLES {
            multiple += point;
            multiples.push(multiple);
        }
    }
    let multiples = Projective::normalize_batch(&multiples);
    let digits: Vec<Vec<i8>> = scalars.iter().map(signed_digits).collect();
    let mut sum = Projective::<P>::ZERO;
    for place in (0..digits.iter().map(Vec::len).max().unwrap_or(0)).rev() {
        (0..WINDOW_BITS).for_each(|_| {
            sum.double_in_place();
        });
        for (digits, multiples) in digits.iter().zip(multiples.chunks_exact(MULTIPLES)) {
            let digit = digits.get(place).copied().unwrap_or(0);
            if digit != 0 {
                let multiple = multiples[usize::from(digit.unsigned_abs()) - 1];
                sum += if digit > 0 { multiple } else { -multiple };
            }
        }
    }
    sum
}

/// Digits from −8 to 8, the least first, that stand for the scalar modulo the order: those of its negation where that one is smaller.
fn signed_digits(scalar: &BigInt<4>) -> Vec<i8> {
    let mut negated = Fr::MODULUS;
    negated.sub_with_borrow(scalar);
    let (value, sign) = if negated < *scalar { (negated, -1) } else { (*scalar, 1) };
    let (mut digits, mut carry) = (Vec::with_capacity(65), 0);
    let nibbles = value.0.iter().flat_map(|limb| (0..64).step_by(4).map(move |shift| i8::from_le_bytes([(limb >> shift) as u8 & 15])));
    for nibble in nibbles {
        let digit = nibble + carry;
        carry = i8::from(digit > 8);
        digits.push(sign * (digit - 16 * carry));
    }
    digits.push(sign * carry);
    digits.truncate(digits.iter().rposition(|digit| *digit != 0).map_or(0, |last| last + 1));
    digits
}

/// For each of the variables, the sum of its columns of several matrices, each over points of its own.
pub(crate) fn sum_columns<P: Curve>(terms: &[(&Columns, &[Affine<P>])], variables: core::ops::Range<usize>) -> Vec<Affine<P>> {
    let sum = |variable| terms.iter().map(|(columns, points)| columns.sum(variable, points)).sum::<Projective<P>>();
    let len = |variable| terms.iter().map(|(columns, _)| columns.column(variable).len()).sum::<usize>();
    let all: Vec<usize> = variables.collect();
    // A long column keeps all threads busy by itself, so it is not left to one block of many.
    let mut sums: Vec<Projective<P>> = all
        .par_chunks(BLOCK)
        .flat_map_iter(|block| block.iter().map(|variable| if len(*variable) < LONG { sum(*variable) } else { Projective::ZERO }))
        .collect();
    for (sum_slot, variable) in sums.iter_mut().zip(&all).filter(|(_, variable)| len(**variable) >= LONG) {
        *sum_slot = sum(*variable);
    }
    to_affine(&sums)
}

/// From the quotient's points as snarkjs keeps them, the Lagrange values of the odd points of the domain of `2n` points, to those that
/// arkworks' prover multiplies coefficients with, `τ^j·Z(τ)/δ` for `j < n − 1`.
///
/// `Z` is −2 on every odd point, so the coefficients `h_j` of a quotient stand for `−2·Σ_j h_j·w^((2i+1)·j)` times point `i`, with `w` the
/// root of order `2n`: a transform of the points, and a twist by powers of `w`.
pub(crate) fn quotient_points(odd: &[G1Affine], domain: Radix2EvaluationDomain<Fr>) -> Vec<G1Affine> {
    let double = Radix2EvaluationDomain::<Fr>::new(2 * domain.size()).expect("parameters were made with its values");
    let mut points: Vec<G1Projective> = odd.iter().map(|point| point.into_group()).collect();
    domain.fft_in_place(&mut points);
    let root = double.group_gen();
    points.truncate(domain.size() - 1);
    points.par_chunks_mut(BLOCK).enumerate().for_each(|(block, points)| {
        let mut factor = -Fr::from(2_u64) * root.pow([(block * BLOCK) as u64]);
        for point in points {
            *point *= factor;
            factor *= root;
        }
    });
    to_affine(&points)
}

#[cfg(test)]
mod tests {
    use ark_bn254::g1;
    use ark_ec::PrimeGroup;

    use super::*;
    use crate::random::Stream;

    #[test]
    fn few_points_are_summed_as_many_are() {
        let mut stream = Stream::new(&[3; 32]);
        let edges = [0_u64, 1, 2, 7, 8, 9, 15, 16, 17, 136, 1 << 63, u64::MAX];
        let edges = edges.iter().flat_map(|edge| [Fr::from(*edge), -Fr::from(*edge), Fr::from(*edge) + stream.scalar()]);
        let scalars: Vec<BigInt<4>> =
            edges.collect::<Vec<_>>().into_iter().chain((0..20).map(|_| stream.scalar())).map(Fr::into_bigint).collect();
        let points: Vec<Affine<g1::Config>> = scalars.iter().map(|_| stream.g1()).collect();
        assert_eq!(few(&points, &scalars), G1Projective::msm_bigint(&points, &scalars));
        for (point, scalar) in points.iter().zip(&scalars) {
            assert_eq!(few(&[*point], &[*scalar]), point.mul_bigint(scalar));
        }
        // A point beside its negation, and the identity.
        let (point, one) = (points[0], BigInt::one());
        assert_eq!(few(&[point, -point, Affine::identity()], &[one, one, one]), G1Projective::ZERO);
    }

    /// Against the definition, with a tau that is known.
    #[test]
    fn the_quotients_points_are_powers_times_the_vanishing_polynomial() {
        let tau = Stream::new(&[4; 32]).scalar();
        let (domain, double) =
            (Radix2EvaluationDomain::<Fr>::new(8).expect("small"), Radix2EvaluationDomain::<Fr>::new(16).expect("small"));
        let generator = G1Projective::generator();
        let values = double.evaluate_all_lagrange_coefficients(tau);
        let odd: Vec<G1Projective> = values.iter().skip(1).step_by(2).map(|value| generator * value).collect();
        let vanishing = domain.evaluate_vanishing_polynomial(tau);
        let expected: Vec<G1Affine> = (0..7_u64).map(|power| (generator * (tau.pow([power]) * vanishing)).into_affine()).collect();
        assert_eq!(quotient_points(&to_affine(&odd), domain), expected);
    }
}
