//! Values from seeds, the way snarkjs derives them, so that both make the same points of a transcript and of a beacon; and random weights.

use ark_bn254::{Bn254, Fq, Fq2, Fr, G1Affine, G2Affine, g1};
use ark_ec::AffineRepr;
use ark_ec::pairing::Pairing;
use ark_ec::short_weierstrass::{Affine, SWCurveConfig};
use ark_ff::{AdditiveGroup, BigInt, Field, PrimeField};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use sha2::{Digest, Sha256};

use crate::curve::{Coordinate, Curve};
use crate::error::CeremonyError;

/// ChaCha20 as snarkjs seeds and reads it.
pub(crate) struct Stream(ChaCha20Rng);

impl Stream {
    /// From eight big-endian words.
    pub(crate) fn new(seed: &[u8; 32]) -> Self {
        let mut words = *seed;
        words.chunks_exact_mut(4).for_each(<[u8]>::reverse);
        Self(ChaCha20Rng::from_seed(words))
    }

    /// From the first half of a hash.
    pub(crate) fn from_hash(hash: &[u8; 64]) -> Self {
        let mut seed = [0; 32];
        seed.copy_from_slice(&hash[..32]);
        Self::new(&seed)
    }

    /// From a beacon: SHA-256, `2^iterations_log2` times.
    pub(crate) fn from_beacon(beacon: &[u8], iterations_log2: u8) -> Self {
        let mut hash: [u8; 32] = Sha256::digest(beacon).into();
        for _ in 1..1_u64 << iterations_log2 {
            hash = Sha256::digest(hash).into();
        }
        Self::new(&hash)
    }

    /// Two words, the high one first.
    fn next_u64(&mut self) -> u64 {
        let high = u64::from(self.0.next_u32());
        high << 32 | u64::from(self.0.next_u32())
    }

    /// A Montgomery form below the modulus: 254 bits of the stream, drawn until they are.
    fn below(&mut self, modulus: &BigInt<4>) -> BigInt<4> {
        loop {
            let mut limbs = [0; 4].map(|_: u64| self.next_u64());
            limbs[3] &= u64::MAX >> 2;
            let value = BigInt::new(limbs);
            if value < *modulus {
                return value;
            }
        }
    }

    /// A scalar.
    pub(crate) fn scalar(&mut self) -> Fr {
        Fr::new_unchecked(self.below(&Fr::MODULUS))
    }

    fn fq(&mut self) -> Fq {
        Fq::new_unchecked(self.below(&Fq::MODULUS))
    }

    /// A point of G1 whose logarithm nobody knows.
    pub(crate) fn g1(&mut self) -> G1Affine {
        self.point::<g1::Config>(Self::fq)
    }

    /// A point of G2 whose logarithm nobody knows.
    pub(crate) fn g2(&mut self) -> G2Affine {
        let point = self.point::<ark_bn254::g2::Config>(|stream| {
            let c0 = stream.fq();
            Fq2::new(c0, stream.fq())
        });
        point.mul_by_cofactor()
    }

    fn point<P: Curve<BaseField: Signed>>(&mut self, draw: impl Fn(&mut Self) -> P::BaseField) -> Affine<P> {
        loop {
            let x = draw(self);
            let negative = self.0.next_u32() & 1 == 1;
            let square = x * x * x + <P as SWCurveConfig>::COEFF_B;
            if let Some(y) = square.sqrt() {
                return Affine::new_unchecked(x, if y.is_negative() == negative { y } else { -y });
            }
        }
    }
}

/// A coordinate with a sign: the greater of it and its negation is the negative one.
trait Signed: Coordinate {
    fn is_negative(&self) -> bool;
}

impl Signed for Fq {
    fn is_negative(&self) -> bool {
        self.into_bigint() > Self::MODULUS_MINUS_ONE_DIV_TWO
    }
}

impl Signed for Fq2 {
    fn is_negative(&self) -> bool {
        if self.c1 == Fq::ZERO { self.c0.is_negative() } else { self.c1.is_negative() }
    }
}

/// Random numbers of 128 bits that nobody could foresee: weights under which wrong relations do not cancel, but by a chance of 2^-128.
pub(crate) struct Weights(ChaCha20Rng);

impl Weights {
    pub(crate) fn from_os() -> Result<Self, CeremonyError> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(CeremonyError::Entropy)?;
        Ok(Self(ChaCha20Rng::from_seed(seed)))
    }

    /// The next ones.
    pub(crate) fn draw(&mut self, count: usize) -> Vec<Fr> {
        (0..count)
            .map(|_| {
                let low = self.0.next_u64();
                Fr::from(u128::from(self.0.next_u64()) << 64 | u128::from(low))
            })
            .collect()
    }
}

/// The groups' generators.
pub(crate) fn generators() -> (G1Affine, G2Affine) {
    (<Bn254 as Pairing>::G1Affine::generator(), <Bn254 as Pairing>::G2Affine::generator())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with snarkjs' own generator (ffjavascript 0.3.1), seeded with the words 1 to 8.
    #[test]
    fn values_are_those_of_snarkjs() {
        let mut seed = [0; 32];
        (1..=8_u8).zip(seed.chunks_exact_mut(4)).for_each(|(word, bytes)| bytes[3] = word);
        let mut stream = Stream::new(&seed);
        let decimal = |value: &dyn core::fmt::Display| value.to_string();
        let scalar = stream.scalar();
        let (g1, g2) = (stream.g1(), stream.g2());
        let found =
            [decimal(&scalar), decimal(&g1.x), decimal(&g1.y), decimal(&g2.x.c0), decimal(&g2.x.c1), decimal(&g2.y.c0), decimal(&g2.y.c1)];
        assert_eq!(found, EXPECTED);
        assert!(g2.is_on_curve() && g2.is_in_correct_subgroup_assuming_on_curve());
    }

    const EXPECTED: [&str; 7] = [
        "11421152797359801513699257512876826534900512878648310510227136947029091328776",
        "5217210202433667727191898282504136790707584920818966276224927002650483462798",
        "15329941312121016545992532075626365884228451898446262084449300681562396985945",
        "1996973846761408952709743206232273325766221402180846812791047873222079628840",
        "20896014760810184847783399240781224917845229803520210671865291355729529628958",
        "11775881206310937766160975417337862501296105312646585348996934055966500869359",
        "9344702282622745326555015052443147536161980720492015874433482481257977714285",
    ];
}
