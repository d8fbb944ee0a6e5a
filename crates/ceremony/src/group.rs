//! Sums of points by the columns of a matrix, and the change of basis of the quotient's points.

use std::collections::HashMap;

use ark_bn254::{Fr, G1Affine, G1Projective};
use ark_ec::short_weierstrass::{Affine, Projective};
use ark_ec::{AffineRepr, VariableBaseMSM};
use ark_ff::{AdditiveGroup, BigInt, Field, PrimeField};
use ark_poly::{EvaluationDomain, Radix2EvaluationDomain};
use millstream_circuit::{MatrixName, PUBLIC_INPUTS, Structure};
use rayon::prelude::*;

use crate::curve::{Curve, to_affine};
use crate::r1cs::number;

/// Columns that one thread sums before their points are normalised together.
const BLOCK: usize = 1 << 9;
/// Columns of at least so many entries are summed by all threads: those of the one and of the public inputs.
const LONG: usize = 1 << 14;

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
        Projective::<P>::msm_bigint(&points, &scalars)
    }
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
