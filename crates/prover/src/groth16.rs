//! The prover: from the values of a witness to a proof, without matrices.

use ark_bn254::{Bn254, Fr};
use ark_ec::CurveGroup;
use ark_ff::PrimeField;
use ark_groth16::ProvingKey;
use millstream_circuit::Witness;

use crate::arithmetic::{PreparedKey, Wanted};
use crate::error::ProverError;
use crate::proof::Proof;

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

/// Proves with a prepared key. The answer is `None` once `wanted` says no.
///
/// `prepared` is `key`, which is for the witness's circuit: as many variables, and a domain of the same size. A witness that does not
/// satisfy the circuit gives a proof that does not verify.
pub(crate) fn prove(
    prepared: &dyn PreparedKey,
    key: &ProvingKey<Bn254>,
    witness: Witness,
    blinding: &Blinding,
    wanted: Wanted<'_>,
) -> Option<Proof> {
    let Blinding { r, s } = *blinding;
    let sums = prepared.sums(witness, wanted)?;
    let a = sums.a + key.vk.alpha_g1 + key.delta_g1 * r;
    let b_g1 = sums.b_g1 + key.beta_g1 + key.delta_g1 * s;
    let b = sums.b_g2 + key.vk.beta_g2 + key.vk.delta_g2 * s;
    let c = sums.c + a * s + b_g1 * r - key.delta_g1 * (r * s);
    Some(Proof::from_ark(ark_groth16::Proof { a: a.into_affine(), b: b.into_affine(), c: c.into_affine() }))
}

#[cfg(test)]
mod tests {
    use ark_ff::{AdditiveGroup, Field};
    use ark_groth16::Groth16;
    use millstream_circuit::{Book, BookSize, PublicInputs, RegisterStatement, Structure};
    use millstream_lanes::Plain;
    use millstream_types::{Address, BookId, ChainId, LedgerId, Tier};

    use super::*;
    use crate::affine::AffineKey;
    use crate::arithmetic::{Arithmetic, prepared};
    use crate::ark::ArkKey;
    use crate::circuit_id::CircuitId;
    use crate::lanes::LaneKey;
    use crate::setup::{INSTANCE, ToxicWaste, generate};

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

    /// Every arithmetic there is.
    fn arithmetics(key: &ProvingKey<Bn254>) -> Vec<Box<dyn PreparedKey + '_>> {
        let mut all: Vec<Box<dyn PreparedKey>> = vec![Box::new(ArkKey(key))];
        all.push(Box::new(LaneKey::new(Plain, key).expect("the domain is large enough")));
        all.push(Box::new(AffineKey::new(key)));
        all.extend(prepared(Arithmetic::Fastest, key));
        all
    }

    /// With the same randomness, arkworks' prover makes the same proof from the matrices.
    #[test]
    fn every_arithmetic_makes_the_proof_that_arkworks_makes() {
        let Fixture { structure, key, witness, public } = fixture();
        assert!(structure.unsatisfied(&witness.assignment).is_empty());
        for blinding in [[5; 128], [0; 128]].map(|entropy| Blinding::from_entropy(&entropy)) {
            let theirs = Groth16::<Bn254>::create_proof_with_reduction_and_matrices(
                &key,
                blinding.r,
                blinding.s,
                &structure.to_ark_matrices(),
                INSTANCE,
                structure.constraints(),
                &witness.assignment,
            );
            for arithmetic in arithmetics(&key) {
                let ours = prove(&*arithmetic, &key, witness.clone(), &blinding, &|_| true).expect("wanted");
                assert_eq!(theirs.as_ref(), Ok(ours.as_ark()), "{arithmetic:?}");
                let prepared = ark_groth16::prepare_verifying_key(&key.vk);
                assert_eq!(Groth16::<Bn254>::verify_proof(&prepared, ours.as_ark(), &public.to_array()), Ok(true));
            }
        }
    }

    /// Nothing is taken for granted of the values: those of a witness that satisfies nothing have the same sums.
    #[test]
    fn sums_of_any_values_are_the_same() {
        let Fixture { key, witness, .. } = fixture();
        let edges = [Fr::ZERO, Fr::ONE, -Fr::ONE, Fr::from(2u64).pow([253]), -Fr::from(1_000u64)];
        for turn in 0..3 {
            let values =
                |count: usize, step: usize| -> Vec<Fr> { (0..count).map(|index| edges[(index / step + turn) % edges.len()]).collect() };
            let Witness { assignment, a, b } = &witness;
            let witness = Witness { assignment: values(assignment.len(), 1 << (4 * turn)), a: values(a.len(), 1), b: values(b.len(), 3) };
            let expected = ArkKey(&key).sums(witness.clone(), &|_| true).expect("wanted");
            for arithmetic in arithmetics(&key) {
                assert_eq!(arithmetic.sums(witness.clone(), &|_| true), Some(expected), "{arithmetic:?}");
            }
        }
    }

    #[test]
    fn a_proof_that_nobody_wants_is_given_up_at_any_step() {
        let Fixture { key, witness, .. } = fixture();
        let blinding = Blinding::from_entropy(&[5; 128]);
        for arithmetic in arithmetics(&key) {
            let asked = core::cell::Cell::new(0u32);
            let counted = |_| {
                asked.set(asked.get() + 1);
                true
            };
            assert!(prove(&*arithmetic, &key, witness.clone(), &blinding, &counted).is_some());
            assert!(asked.get() >= 5, "{arithmetic:?} has five steps");
            for steps in 0..asked.get() {
                let left = core::cell::Cell::new(steps);
                let wanted = |_| left.replace(left.get().saturating_sub(1)) > 0;
                assert!(prove(&*arithmetic, &key, witness.clone(), &blinding, &wanted).is_none(), "after {steps} steps of {arithmetic:?}");
            }
        }
    }
}
