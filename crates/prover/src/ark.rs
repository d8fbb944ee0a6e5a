//! A proof's arithmetic by arkworks: what lanes are compared with, and what proves where there are none.

use ark_bn254::{Bn254, Fr, G1Projective, G2Projective};
use ark_ec::VariableBaseMSM;
use ark_ff::{AdditiveGroup, BigInt, FftField, Field, PrimeField};
use ark_groth16::ProvingKey;
use ark_poly::{EvaluationDomain, Radix2EvaluationDomain};
use millstream_circuit::Witness;
use rayon::prelude::*;

use crate::arithmetic::{PreparedKey, ProofStep, Sums, Wanted};
use crate::setup::{INSTANCE, domain_size};

/// A proving key as it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ArkKey<'a>(pub(crate) &'a ProvingKey<Bn254>);

impl PreparedKey for ArkKey<'_> {
    fn name(&self) -> &'static str {
        "ark"
    }

    fn bytes(&self) -> usize {
        0
    }

    fn sums(&self, witness: Witness, wanted: Wanted<'_>) -> Option<Sums> {
        let Self(key) = self;
        let integers = |values: &[Fr]| -> Vec<BigInt<4>> { values.par_iter().map(|value| value.into_bigint()).collect() };
        let step = |step| wanted(step).then_some(());
        let Witness { assignment, mut a, b } = witness;

        step(ProofStep::Quotient)?;
        let points = domain_size(a.len());
        // The rows after the circuit's: each instance variable is itself, times nothing.
        a.extend_from_slice(&assignment[..INSTANCE]);
        let assignment = integers(&assignment);
        let quotient = integers(&quotient(a, b, points));
        step(ProofStep::SumC)?;
        let h: G1Projective = G1Projective::msm_bigint(&key.h_query, &quotient[..key.h_query.len()]);
        drop(quotient);
        step(ProofStep::SumC)?;
        let l: G1Projective = G1Projective::msm_bigint(&key.l_query, &assignment[INSTANCE..]);
        step(ProofStep::SumA)?;
        let a = G1Projective::msm_bigint(&key.a_query, &assignment);
        step(ProofStep::SumBG1)?;
        let b_g1 = G1Projective::msm_bigint(&key.b_g1_query, &assignment);
        step(ProofStep::SumBG2)?;
        let b_g2 = G2Projective::msm_bigint(&key.b_g2_query, &assignment);
        Some(Sums { a, b_g1, b_g2, c: h + l })
    }
}

/// The coefficients of `(A·B − C) / Z`, with `C` the entry-wise product of A and B over the domain: it is that when the rows hold. Values
/// that are not there are zero.
pub(crate) fn quotient(mut a: Vec<Fr>, mut b: Vec<Fr>, points: usize) -> Vec<Fr> {
    let domain = Radix2EvaluationDomain::new(points).expect("the field has a domain of 2^28 points, the largest circuit here uses 2^24");
    let mut c: Vec<Fr> = a.par_iter().zip(&b).map(|(a, b)| *a * b).collect();
    let coset = domain.get_coset(Fr::GENERATOR).expect("a shift that is not zero has a coset");
    for polynomial in [&mut a, &mut b, &mut c] {
        polynomial.resize(domain.size(), Fr::ZERO);
        domain.ifft_in_place(polynomial);
        coset.fft_in_place(polynomial);
    }
    let vanishing = domain.evaluate_vanishing_polynomial(Fr::GENERATOR);
    let inverse = vanishing.inverse().expect("the coset does not meet the domain");
    a.par_iter_mut().zip(&b).zip(&c).for_each(|((a, b), c)| *a = (*a * b - c) * inverse);
    coset.ifft_in_place(&mut a);
    a
}
