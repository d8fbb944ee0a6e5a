//! A verifying key: checked, with its words and its hash.

use ark_bn254::{Bn254, Fr, G2Affine};
use ark_ec::AffineRepr;
use ark_ec::short_weierstrass::{Affine, SWCurveConfig};
use ark_groth16::{Groth16, PreparedVerifyingKey, prepare_verifying_key};
use millstream_types::Hash256;
use sha3::{Digest, Keccak256};

use crate::error::DegenerateKey;
use crate::proof::{Proof, g1_words, g2_words};
use crate::setup::INSTANCE;

/// A verifying key of one of the ledger's circuits; never a degenerate one (spec L-22).
#[derive(Clone, Debug)]
pub struct VerifyingKey(PreparedVerifyingKey<Bn254>);

impl VerifyingKey {
    /// Checks and prepares a key.
    ///
    /// # Errors
    /// [`DegenerateKey`].
    pub fn new(key: &ark_groth16::VerifyingKey<Bn254>) -> Result<Self, DegenerateKey> {
        check(key)?;
        Ok(Self(prepare_verifying_key(key)))
    }

    /// In arkworks' own type.
    #[must_use]
    pub const fn as_ark(&self) -> &ark_groth16::VerifyingKey<Bn254> {
        &self.0.vk
    }

    /// The words that the constructor of the verifier contract takes: alpha `x, y`; beta, gamma and delta as
    /// `x.c1, x.c0, y.c1, y.c0`; then `x, y` of the points of the constant, of `C`, of `r` and of `y`.
    #[must_use]
    pub fn words(&self) -> [[u8; 32]; 22] {
        let key = self.as_ark();
        let g2 = [&key.beta_g2, &key.gamma_g2, &key.delta_g2].map(g2_words);
        let words = g1_words(&key.alpha_g1).into_iter().chain(g2.into_iter().flatten()).chain(key.gamma_abc_g1.iter().flat_map(g1_words));
        let mut all = [[0; 32]; 22];
        // A checked key has four points for inputs: 2 + 12 + 8 words.
        all.iter_mut().zip(words).for_each(|(slot, word)| *slot = word);
        all
    }

    /// Keccak-256 of the 22 words: names the key on chain and in manifests.
    #[must_use]
    pub fn key_hash(&self) -> Hash256 {
        Hash256::from_bytes(Keccak256::digest(self.words().as_flattened()).into())
    }

    /// Whether the proof is good for the public inputs `[C, r, y]`.
    #[must_use]
    pub fn verify(&self, public: &[Fr; 3], proof: &Proof) -> bool {
        // It fails only when the number of inputs is not the key's, and that was checked.
        Groth16::<Bn254>::verify_proof(&self.0, proof.as_ark(), public).unwrap_or(false)
    }
}

fn check(key: &ark_groth16::VerifyingKey<Bn254>) -> Result<(), DegenerateKey> {
    let points = key.gamma_abc_g1.len();
    if points != INSTANCE {
        return Err(DegenerateKey::Inputs { points });
    }
    let g1_good = core::iter::once(&key.alpha_g1).chain(&key.gamma_abc_g1).all(is_good);
    let g2_good = [&key.beta_g2, &key.gamma_g2, &key.delta_g2].into_iter().all(is_good);
    if !g1_good || !g2_good {
        return Err(DegenerateKey::BadPoint);
    }
    if key.gamma_g2 == key.delta_g2 {
        return Err(DegenerateKey::GammaIsDelta);
    }
    if key.gamma_g2 == G2Affine::generator() {
        return Err(DegenerateKey::GammaIsGenerator);
    }
    if key.delta_g2 == G2Affine::generator() {
        return Err(DegenerateKey::DeltaIsGenerator);
    }
    Ok(())
}

fn is_good<P: SWCurveConfig>(point: &Affine<P>) -> bool {
    !point.is_zero() && point.is_on_curve() && point.is_in_correct_subgroup_assuming_on_curve()
}

#[cfg(test)]
mod tests {
    use ark_bn254::{Fq, Fq2, G1Affine, G2Projective};
    use ark_ec::{CurveGroup, PrimeGroup};
    use ark_ff::PrimeField;

    use super::*;

    fn good() -> ark_groth16::VerifyingKey<Bn254> {
        let g2 = |scalar: u64| (G2Projective::generator() * Fr::from(scalar)).into_affine();
        let gamma_abc_g1 = vec![G1Affine::generator(); 4];
        ark_groth16::VerifyingKey { alpha_g1: G1Affine::generator(), beta_g2: g2(2), gamma_g2: g2(3), delta_g2: g2(4), gamma_abc_g1 }
    }

    /// L-22.
    #[test]
    fn degenerate_keys_are_refused() {
        let check = |change: &dyn Fn(&mut ark_groth16::VerifyingKey<Bn254>), expected: Option<DegenerateKey>| {
            let mut key = good();
            change(&mut key);
            assert_eq!(VerifyingKey::new(&key).err(), expected);
        };
        check(&|_| {}, None);
        check(&|key| key.gamma_g2 = key.delta_g2, Some(DegenerateKey::GammaIsDelta));
        check(&|key| key.gamma_g2 = G2Affine::generator(), Some(DegenerateKey::GammaIsGenerator));
        check(&|key| key.delta_g2 = G2Affine::generator(), Some(DegenerateKey::DeltaIsGenerator));
        check(&|key| key.beta_g2 = G2Affine::identity(), Some(DegenerateKey::BadPoint));
        check(&|key| key.alpha_g1 = G1Affine::identity(), Some(DegenerateKey::BadPoint));
        check(&|key| key.alpha_g1.x += ark_bn254::Fq::from(1u64), Some(DegenerateKey::BadPoint));
        check(&|key| key.gamma_abc_g1.truncate(3), Some(DegenerateKey::Inputs { points: 3 }));
    }

    #[test]
    fn words_have_the_constructors_order() {
        let words = VerifyingKey::new(&good()).expect("not degenerate").words();
        // The generator of G1 is (1, 2); EIP-197 writes c1 before c0.
        let one = |word: &[u8; 32]| word[..31] == [0; 31] && word[31] == 1;
        assert!(one(&words[0]) && one(&words[14]) && one(&words[20]));
        assert_eq!(words[1], words[15]);
        assert_eq!(words[6..10], g2_words(&good().gamma_g2));
        assert_eq!(words[6], crate::proof::word_of(&good().gamma_g2.x.c1));
    }

    /// The contracts' own vector, made by an independent implementation: a key, inputs and a proof, all as words.
    #[test]
    fn words_mean_the_same_to_the_contracts() {
        let vector: serde_json::Value = serde_json::from_str(include_str!("../../../contracts/vectors/groth16.json")).expect("JSON");
        let words = |name: &str| -> Vec<[u8; 32]> {
            let texts = vector[name].as_array().expect("a list").iter().map(|word| word.as_str().expect("text"));
            texts.map(|text| *text.parse::<Hash256>().expect("a word").as_bytes()).collect()
        };
        let key_words: [[u8; 32]; 22] = words("vk").try_into().expect("22 words");
        let coordinates = key_words.map(|word| Fq::from_be_bytes_mod_order(&word));
        let g1 = |at: usize| G1Affine::new(coordinates[at], coordinates[at + 1]);
        let g2 = |at: usize| {
            let [x1, x0, y1, y0] = [0, 1, 2, 3].map(|index| coordinates[at + index]);
            G2Affine::new(Fq2::new(x0, x1), Fq2::new(y0, y1))
        };
        let key = VerifyingKey::new(&ark_groth16::VerifyingKey {
            alpha_g1: g1(0),
            beta_g2: g2(2),
            gamma_g2: g2(6),
            delta_g2: g2(10),
            gamma_abc_g1: [14, 16, 18, 20].map(g1).to_vec(),
        })
        .expect("not degenerate");
        assert_eq!(key.words(), key_words);

        let proof = Proof::from_words(&words("proof").try_into().expect("eight words")).expect("a proof");
        let inputs: [[u8; 32]; 3] = words("inputs").try_into().expect("three words");
        let inputs = inputs.map(|word| Fr::from_be_bytes_mod_order(&word));
        assert!(key.verify(&inputs, &proof));
        assert!(!key.verify(&[inputs[0], inputs[2], inputs[1]], &proof));
    }
}
