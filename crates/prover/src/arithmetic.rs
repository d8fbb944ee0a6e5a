//! What takes the time of a proof, behind one trait: in lanes where the processor has them, in affine additions everywhere, by arkworks as
//! it is to compare with.

use core::fmt::{self, Debug};

use ark_bn254::{Bn254, G1Projective, G2Projective};
use ark_groth16::ProvingKey;
use millstream_circuit::Witness;
use millstream_lanes::Avx512Ifma;

use crate::affine::AffineKey;
use crate::lanes::LaneKey;

/// Which arithmetic a prover proves with. The proofs are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arithmetic {
    /// Eight lanes where the processor has AVX-512 IFMA, affine additions elsewhere.
    #[default]
    Fastest,
    /// Affine additions, on every processor.
    Affine,
    /// That of arkworks.
    Ark,
}

/// The sums of a proof, each over points of the key: what its three points are made of, blinding aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sums {
    /// The variables' values over their A.
    pub(crate) a: G1Projective,
    /// Over their B, in G1.
    pub(crate) b_g1: G1Projective,
    /// Over their B, in G2.
    pub(crate) b_g2: G2Projective,
    /// The quotient's coefficients over the powers of the point, and the private variables' values over what is left of them.
    pub(crate) c: G1Projective,
}

/// A long step of a proof, in the order in which they are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProofStep {
    /// The values of the circuit's variables.
    Witness,
    /// The quotient polynomial.
    Quotient,
    /// The sum in C, over the quotient and the private variables.
    SumC,
    /// The sum in A.
    SumA,
    /// The sum in B, in G1.
    SumBG1,
    /// The sum in B, in G2.
    SumBG2,
    /// Verifying the proof.
    Check,
}

impl ProofStep {
    /// All of them, in order.
    pub const ALL: [Self; 7] = [Self::Witness, Self::Quotient, Self::SumC, Self::SumA, Self::SumBG1, Self::SumBG2, Self::Check];

    /// Its place in [`Self::ALL`], from 0.
    #[must_use]
    pub fn index(self) -> usize {
        Self::ALL.iter().take_while(|step| **step != self).count()
    }
}

impl fmt::Display for ProofStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Witness => "witness",
            Self::Quotient => "quotient",
            Self::SumC => "sum_c",
            Self::SumA => "sum_a",
            Self::SumBG1 => "sum_b_g1",
            Self::SumBG2 => "sum_b_g2",
            Self::Check => "check",
        })
    }
}

/// Asked before each step, which it is told: whether the proof is still wanted.
pub type Wanted<'a> = &'a dyn Fn(ProofStep) -> bool;

/// A proving key, ready for an arithmetic.
pub(crate) trait PreparedKey: Debug + Send + Sync {
    /// For logs.
    fn name(&self) -> &'static str;

    /// The memory that it takes beside the proving key, in bytes.
    fn bytes(&self) -> usize;

    /// The sums of a witness, in the steps from [`ProofStep::Quotient`] to [`ProofStep::SumBG2`]. The answer is `None` once `wanted` says no.
    ///
    /// The witness is of the key's circuit: as many variables, and a domain of the same size.
    fn sums(&self, witness: Witness, wanted: Wanted<'_>) -> Option<Sums>;
}

/// The key in the form that an arithmetic takes it in; nothing for arkworks', which takes it as it is.
pub(crate) fn prepared(arithmetic: Arithmetic, key: &ProvingKey<Bn254>) -> Option<Box<dyn PreparedKey>> {
    let in_lanes = || LaneKey::new(Avx512Ifma::detect()?, key);
    match arithmetic {
        Arithmetic::Ark => None,
        Arithmetic::Affine => Some(Box::new(AffineKey::new(key))),
        Arithmetic::Fastest => Some(match in_lanes() {
            Some(lanes) => Box::new(lanes),
            None => Box::new(AffineKey::new(key)),
        }),
    }
}
