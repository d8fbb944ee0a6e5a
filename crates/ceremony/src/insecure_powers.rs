//! INSECURE powers of tau: the secrets are derived from a seed, so whoever knows the seed forges proofs under every key made from them.
//! For tests and measurements, where no public file of the right size is at hand.

use std::path::Path;

use ark_bn254::{Fq, Fr, G1Affine, G1Projective, G2Affine, G2Projective};
use ark_ec::scalar_mul::BatchMulPreprocessing;
use ark_ec::{CurveGroup, PrimeGroup};
use ark_ff::{AdditiveGroup, Field, PrimeField};
use ark_poly::{EvaluationDomain, Radix2EvaluationDomain};

use crate::curve::{Blake2bHash, FIELD_BYTES, write_points};
use crate::powers::hash_file;
use crate::r1cs::little_endian;
use crate::random::Stream;
use crate::sections::{Result, SectionWriter};

/// Whether a file has the Lagrange values that a second phase needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prepared {
    /// It has them.
    Yes,
    /// They have to be computed from the powers.
    No,
}

/// Writes a powers-of-tau file of `2^power` powers, made from a seed that everyone may know, and gives its hash.
///
/// # Errors
/// [`CeremonyError::Exists`](crate::CeremonyError::Exists), [`CeremonyError::File`](crate::CeremonyError::File).
///
/// # Panics
/// When `power` is above 27.
pub fn write_insecure_powers(path: &Path, power: u32, seed: &[u8; 32], prepared: Prepared) -> Result<Blake2bHash> {
    assert!(power <= 27, "the field has no larger domain");
    let mut stream = Stream::new(seed);
    let [tau, alpha, beta] = [stream.scalar(), stream.scalar(), stream.scalar()];
    let n = 1_usize << power;
    let powers: Vec<Fr> = core::iter::successors(Some(Fr::ONE), |last| Some(*last * tau)).take(2 * n - 1).collect();
    let times = |factor: Fr, values: &[Fr]| -> Vec<Fr> { values.iter().map(|value| factor * value).collect() };
    let g1_table = BatchMulPreprocessing::new(G1Projective::generator(), 4 * n);
    let g2_table = BatchMulPreprocessing::new(G2Projective::generator(), 2 * n);
    let g1 = |scalars: &[Fr]| -> Vec<G1Affine> { g1_table.batch_mul(scalars) };
    let g2 = |scalars: &[Fr]| -> Vec<G2Affine> { g2_table.batch_mul(scalars) };

    let mut writer = SectionWriter::create(path, "ptau", 1, if prepared == Prepared::Yes { 11 } else { 7 })?;
    let mut header = (FIELD_BYTES as u32).to_le_bytes().to_vec();
    header.extend(little_endian(&Fq::MODULUS));
    header.extend(power.to_le_bytes());
    header.extend(power.to_le_bytes());
    writer.section(1, &header)?;
    write_points(&mut writer, 2, &g1(&powers))?;
    write_points(&mut writer, 3, &g2(&powers[..n]))?;
    write_points(&mut writer, 4, &g1(&times(alpha, &powers[..n])))?;
    write_points(&mut writer, 5, &g1(&times(beta, &powers[..n])))?;
    write_points(&mut writer, 6, &[(G2Projective::generator() * beta).into_affine()])?;
    // No contributions: there was no first phase.
    writer.section(7, &0_u32.to_le_bytes())?;
    if prepared == Prepared::Yes {
        let lagrange = |log: u32| domain(1 << log).evaluate_all_lagrange_coefficients(tau);
        let all: Vec<Fr> = (0..=power).flat_map(lagrange).collect();
        // The largest domain lacks its last power, which the file does not have.
        let mut largest = powers.clone();
        largest.push(Fr::ZERO);
        domain(2 * n).ifft_in_place(&mut largest);
        write_points(&mut writer, 12, &g1(&[&all[..], &largest].concat()))?;
        write_points(&mut writer, 13, &g2(&all))?;
        write_points(&mut writer, 14, &g1(&times(alpha, &all)))?;
        write_points(&mut writer, 15, &g1(&times(beta, &all)))?;
    }
    writer.finish()?;
    hash_file(path)
}

fn domain(size: usize) -> Radix2EvaluationDomain<Fr> {
    Radix2EvaluationDomain::new(size).expect("at most 2^28")
}
