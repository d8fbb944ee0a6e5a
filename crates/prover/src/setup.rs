//! The set-up: from a circuit's matrices and the secrets to a proving key.
//!
//! The reduction is libsnark's, the one that arkworks' prover assumes: the domain has a point for each row and one for each public
//! input, and row `rows + i` says that input `i` is itself.

use ark_bn254::{Bn254, Fr, G1Affine, G1Projective, G2Affine, G2Projective};
use ark_ec::scalar_mul::BatchMulPreprocessing;
use ark_ec::{CurveGroup, PrimeGroup};
use ark_ff::{AdditiveGroup, Field, PrimeField};
use ark_groth16::{ProvingKey, VerifyingKey};
use ark_poly::{EvaluationDomain, Radix2EvaluationDomain};
use millstream_circuit::{MatrixName, PUBLIC_INPUTS, Structure};
use rayon::prelude::*;

/// Instance variables: the constant one and the public inputs.
pub(crate) const INSTANCE: usize = PUBLIC_INPUTS + 1;

/// The secrets of a set-up. Who knows them can prove anything.
pub(crate) struct ToxicWaste {
    alpha: Fr,
    beta: Fr,
    gamma: Fr,
    delta: Fr,
    /// Where the polynomials are evaluated.
    point: Fr,
}

impl ToxicWaste {
    /// The secrets of the development keys of a circuit: derived from public constants and the circuit's digest, so the same everywhere
    /// and known to everyone.
    pub(crate) fn insecure_dev(circuit_digest: &[u8; 32]) -> Self {
        let mut stream = blake3::Hasher::new_derive_key("millstream 2026 insecure-dev proving key 1").update(circuit_digest).finalize_xof();
        let mut next = || {
            let mut wide = [0; 64];
            stream.fill(&mut wide);
            Fr::from_be_bytes_mod_order(&wide)
        };
        // None is zero and the point is no root of unity, for every digest that anyone will find: chances of 2^-233 and less.
        Self { alpha: next(), beta: next(), gamma: next(), delta: next(), point: next() }
    }
}

/// The domain of a circuit's polynomials.
pub(crate) fn domain(rows: usize) -> Radix2EvaluationDomain<Fr> {
    Radix2EvaluationDomain::new(rows + INSTANCE).expect("the field has a domain of 2^28 points, the largest circuit here uses 2^24")
}

/// The number of points of that domain.
pub(crate) fn domain_size(rows: usize) -> usize {
    domain(rows).size()
}

/// Makes the keys of a circuit, on rayon's threads. The result depends on nothing but the arguments.
pub(crate) fn generate(structure: &Structure, waste: &ToxicWaste) -> ProvingKey<Bn254> {
    let rows = structure.constraints();
    let domain = domain(rows);
    let lagrange = domain.evaluate_all_lagrange_coefficients(waste.point);
    let [mut a, b, c] = [MatrixName::A, MatrixName::B, MatrixName::C].map(|name| columns(structure, name, &lagrange));
    for (column, lagrange) in a[..INSTANCE].iter_mut().zip(&lagrange[rows..]) {
        *column += lagrange;
    }

    let invert = |value: Fr| value.inverse().expect("the secrets are not zero");
    let (by_gamma, by_delta) = (invert(waste.gamma), invert(waste.delta));
    let mixed: Vec<Fr> = a
        .par_iter()
        .zip(&b)
        .zip(&c)
        .enumerate()
        .map(|(index, ((a, b), c))| {
            let by = if index < INSTANCE { by_gamma } else { by_delta };
            (waste.beta * a + waste.alpha * b + c) * by
        })
        .collect();
    let mut power = domain.evaluate_vanishing_polynomial(waste.point) * by_delta;
    let h: Vec<Fr> = (1..domain.size())
        .map(|_| {
            let this = power;
            power *= waste.point;
            this
        })
        .collect();

    let g1_table = BatchMulPreprocessing::new(G1Projective::generator(), 2 * a.len() + mixed.len() + h.len());
    let g1 = |scalar: Fr| -> G1Affine { (G1Projective::generator() * scalar).into_affine() };
    let g2 = |scalar: Fr| -> G2Affine { (G2Projective::generator() * scalar).into_affine() };
    let b_g2_query = BatchMulPreprocessing::new(G2Projective::generator(), b.len()).batch_mul(&b);
    ProvingKey {
        vk: VerifyingKey {
            alpha_g1: g1(waste.alpha),
            beta_g2: g2(waste.beta),
            gamma_g2: g2(waste.gamma),
            delta_g2: g2(waste.delta),
            gamma_abc_g1: g1_table.batch_mul(&mixed[..INSTANCE]),
        },
        beta_g1: g1(waste.beta),
        delta_g1: g1(waste.delta),
        a_query: g1_table.batch_mul(&a),
        b_g1_query: g1_table.batch_mul(&b),
        b_g2_query,
        h_query: g1_table.batch_mul(&h),
        l_query: g1_table.batch_mul(&mixed[INSTANCE..]),
    }
}

/// The verifying key that [`generate`] makes, without the proving key: two orders of magnitude faster.
pub(crate) fn verifying_key(structure: &Structure, waste: &ToxicWaste) -> VerifyingKey<Bn254> {
    let rows = structure.constraints();
    let lagrange = domain(rows).evaluate_all_lagrange_coefficients(waste.point);
    let [mut a, b, c] = [MatrixName::A, MatrixName::B, MatrixName::C].map(|name| columns(structure, name, &lagrange));
    for (column, lagrange) in a[..INSTANCE].iter_mut().zip(&lagrange[rows..]) {
        *column += lagrange;
    }
    let by_gamma = waste.gamma.inverse().expect("the secrets are not zero");
    let g1 = |scalar: Fr| -> G1Affine { (G1Projective::generator() * scalar).into_affine() };
    let g2 = |scalar: Fr| -> G2Affine { (G2Projective::generator() * scalar).into_affine() };
    let input = |index: usize| g1((waste.beta * a[index] + waste.alpha * b[index] + c[index]) * by_gamma);
    VerifyingKey {
        alpha_g1: g1(waste.alpha),
        beta_g2: g2(waste.beta),
        gamma_g2: g2(waste.gamma),
        delta_g2: g2(waste.delta),
        gamma_abc_g1: (0..INSTANCE).map(input).collect(),
    }
}

/// For each variable, the value of its column's polynomial: `Σ_i lagrange_i · M[i][variable]`.
fn columns(structure: &Structure, name: MatrixName, lagrange: &[Fr]) -> Vec<Fr> {
    let mut columns = vec![Fr::ZERO; structure.variables()];
    for (row, lagrange) in lagrange.iter().enumerate().take(structure.constraints()) {
        for (variable, coefficient) in structure.row(name, row) {
            columns[variable] += coefficient * lagrange;
        }
    }
    columns
}
