//! The prover: from the values of a witness to a proof, without matrices.

use ark_bn254::{Bn254, Fr, G1Projective, G2Projective};
use ark_ec::{CurveGroup, VariableBaseMSM};
use ark_ff::{AdditiveGroup, BigInt, FftField, Field, PrimeField};
use ark_groth16::ProvingKey;
use ark_poly::EvaluationDomain;
use millstream_circuit::Witness;
use rayon::prelude::*;

use crate::error::ProverError;
use crate::proof::Proof;
use crate::setup::{INSTANCE, domain};

/// The randomness of one proof, a secret. Two proofs never share one: what they have in common would cancel, and the rest says
/// something about their witnesses.
#[derive(Clone, Copy)]
pub struct Blinding {
    r: Fr,
    s: Fr,
}

impl Blinding {
    /// From 128 bytes of entropy.
    #[must_use]
    pub fn from_entropy(entropy: &[u8; 128]) -> Self {
        let (r, s) = entropy.split_at(64);
        Self { r: Fr::from_be_bytes_mod_order(r), s: Fr::from_be_bytes_mod_order(s) }
    }

    /// From the operating system.
    ///
    /// # Errors
    /// [`ProverError::Entropy`].
    pub fn from_os() -> Result<Self, ProverError> {
        let mut entropy = [0; 128];
        getrandom::fill(&mut entropy).map_err(ProverError::Entropy)?;
        Ok(Self::from_entropy(&entropy))
    }
}

/// Proves. `wanted` is asked between the long steps; the answer is `None` once it says no.
///
/// The key is for the witness's circuit: as many variables, and a domain of the same size. A witness that does not satisfy the circuit
/// gives a proof that does not verify.
pub(crate) fn prove(key: &ProvingKey<Bn254>, witness: Witness, blinding: &Blinding, wanted: &dyn Fn() -> bool) -> Option<Proof> {
    let Blinding { r, s } = *blinding;
    let integers = |values: &[Fr]| -> Vec<BigInt<4>> { values.par_iter().map(|value| value.into_bigint()).collect() };
    let assignment = integers(&witness.assignment);
    let step = || wanted().then_some(());

    step()?;
    let quotient = integers(&quotient(witness));
    step()?;
    let h: G1Projective = G1Projective::msm_bigint(&key.h_query, &quotient[..key.h_query.len()]);
    drop(quotient);
    step()?;
    let l: G1Projective = G1Projective::msm_bigint(&key.l_query, &assignment[INSTANCE..]);
    step()?;
    let a = G1Projective::msm_bigint(&key.a_query, &assignment) + key.vk.alpha_g1 + key.delta_g1 * r;
    step()?;
    let b_g1 = G1Projective::msm_bigint(&key.b_g1_query, &assignment) + key.beta_g1 + key.delta_g1 * s;
    step()?;
    let b = G2Projective::msm_bigint(&key.b_g2_query, &assignment) + key.vk.beta_g2 + key.vk.delta_g2 * s;
    let c = l + h + a * s + b_g1 * r - key.delta_g1 * (r * s);
    Some(Proof::from_ark(ark_groth16::Proof { a: a.into_affine(), b: b.into_affine(), c: c.into_affine() }))
}

/// The coefficients of `(A·B − C) / Z`, with `C` the entry-wise product of A and B over the domain: it is that when the rows hold.
fn quotient(witness: Witness) -> Vec<Fr> {
    let Witness { assignment, mut a, mut b } = witness;
    let rows = a.len();
    let domain = domain(rows);
    let mut c: Vec<Fr> = a.par_iter().zip(&b).map(|(a, b)| *a * b).collect();
    // The rows after the circuit's: each instance variable is itself, times nothing.
    a.extend_from_slice(&assignment[..INSTANCE]);
    drop(assignment);
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

#[cfg(test)]
mod tests {
    use ark_groth16::Groth16;
    use millstream_circuit::{Book, BookSize, PublicInputs, RegisterStatement, Structure};
    use millstream_types::{Address, BookId, ChainId, LedgerId, Tier};

    use super::*;
    use crate::circuit_id::CircuitId;
    use crate::setup::{ToxicWaste, generate};

    struct Fixture {
        structure: Structure,
        key: ProvingKey<Bn254>,
        witness: Witness,
        public: PublicInputs,
    }

    /// An empty registration in a book of one slot.
    fn fixture() -> Fixture {
        let size = BookSize::new(1).expect("in range");
        let structure = CircuitId::register(size).structure();
        let key = generate(&structure, &ToxicWaste::insecure_dev(&structure.digest()));
        let ledger = LedgerId { chain: ChainId::new(31_337), contract: Address::from_bytes([1; 20]) };
        let place = millstream_circuit::Place { ledger, book: BookId::new(Tier::new(0), 0).expect("small") };
        let statement = RegisterStatement::new(place, &Book::empty(size), &[]).expect("nothing to do");
        Fixture { structure, key, witness: statement.witness(), public: statement.public }
    }

    /// With the same randomness, arkworks' prover makes the same proof from the matrices.
    #[test]
    fn arkworks_makes_the_same_proof() {
        let Fixture { structure, key, witness, public } = fixture();
        assert!(structure.unsatisfied(&witness.assignment).is_empty());
        let blinding = Blinding::from_entropy(&[5; 128]);
        let ours = prove(&key, witness.clone(), &blinding, &|| true).expect("wanted");
        let theirs = Groth16::<Bn254>::create_proof_with_reduction_and_matrices(
            &key,
            blinding.r,
            blinding.s,
            &structure.to_ark_matrices(),
            INSTANCE,
            structure.constraints(),
            &witness.assignment,
        );
        assert_eq!(theirs.as_ref(), Ok(ours.as_ark()));
        let prepared = ark_groth16::prepare_verifying_key(&key.vk);
        assert_eq!(Groth16::<Bn254>::verify_proof(&prepared, ours.as_ark(), &public.to_array()), Ok(true));
    }

    #[test]
    fn a_proof_that_nobody_wants_is_given_up_at_any_step() {
        let Fixture { key, witness, .. } = fixture();
        let blinding = Blinding::from_entropy(&[5; 128]);
        for steps in 0..6u32 {
            let left = core::cell::Cell::new(steps);
            let wanted = || left.replace(left.get().saturating_sub(1)) > 0;
            assert!(prove(&key, witness.clone(), &blinding, &wanted).is_none(), "after {steps} steps");
        }
    }
}
