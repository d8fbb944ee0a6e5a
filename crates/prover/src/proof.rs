//! A proof and its eight words.

use ark_bn254::{Bn254, Fq, Fq2, G1Affine, G2Affine};
use ark_ec::AffineRepr;
use ark_ec::short_weierstrass::{Affine, SWCurveConfig};
use ark_ff::{BigInteger, PrimeField};

use crate::error::ProofWordsError;

/// A Groth16 proof. It can be rerandomised by anyone, so its bytes identify nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Proof(ark_groth16::Proof<Bn254>);

impl Proof {
    pub(crate) const fn from_ark(proof: ark_groth16::Proof<Bn254>) -> Self {
        Self(proof)
    }

    /// In arkworks' own type.
    #[must_use]
    pub const fn as_ark(&self) -> &ark_groth16::Proof<Bn254> {
        &self.0
    }

    /// The eight words that the ledger takes, in the order of EIP-197: `A.x, A.y, B.x.c1, B.x.c0, B.y.c1, B.y.c0, C.x, C.y`.
    #[must_use]
    pub fn words(&self) -> [[u8; 32]; 8] {
        let [ax, ay] = g1_words(&self.0.a);
        let [bx1, bx0, by1, by0] = g2_words(&self.0.b);
        let [cx, cy] = g1_words(&self.0.c);
        [ax, ay, bx1, bx0, by1, by0, cx, cy]
    }

    /// Reads the eight words.
    ///
    /// # Errors
    /// [`ProofWordsError`] for the first word, then the first point, that is wrong.
    pub fn from_words(words: &[[u8; 32]; 8]) -> Result<Self, ProofWordsError> {
        let mut coordinates = [Fq::from(0u64); 8];
        for (word, (coordinate, bytes)) in coordinates.iter_mut().zip(words).enumerate() {
            *coordinate = Fq::from_be_bytes_mod_order(bytes);
            if word_of(coordinate) != *bytes {
                return Err(ProofWordsError::NotCanonical { word });
            }
        }
        let [ax, ay, bx1, bx0, by1, by0, cx, cy] = coordinates;
        let a = in_group(G1Affine::new_unchecked(ax, ay), 'A')?;
        let b = in_group(G2Affine::new_unchecked(Fq2::new(bx0, bx1), Fq2::new(by0, by1)), 'B')?;
        let c = in_group(G1Affine::new_unchecked(cx, cy), 'C')?;
        Ok(Self(ark_groth16::Proof { a, b, c }))
    }
}

fn in_group<P: SWCurveConfig>(affine: Affine<P>, point: char) -> Result<Affine<P>, ProofWordsError> {
    let good = affine.is_on_curve() && affine.is_in_correct_subgroup_assuming_on_curve();
    good.then_some(affine).ok_or(ProofWordsError::NotInGroup { point })
}

/// A base field element as a word.
pub(crate) fn word_of(value: &Fq) -> [u8; 32] {
    let mut word = [0; 32];
    word.copy_from_slice(&value.into_bigint().to_bytes_be());
    word
}

/// `x, y`; zeros for the identity.
pub(crate) fn g1_words(point: &G1Affine) -> [[u8; 32]; 2] {
    if point.is_zero() { [[0; 32]; 2] } else { [word_of(&point.x), word_of(&point.y)] }
}

/// `x.c1, x.c0, y.c1, y.c0`, the order of EIP-197; zeros for the identity.
pub(crate) fn g2_words(point: &G2Affine) -> [[u8; 32]; 4] {
    if point.is_zero() {
        return [[0; 32]; 4];
    }
    [&point.x.c1, &point.x.c0, &point.y.c1, &point.y.c0].map(word_of)
}
