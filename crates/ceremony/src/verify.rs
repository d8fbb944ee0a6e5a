//! Checking a ceremony from nothing but the circuit and the powers of tau.

use std::path::Path;

use ark_bn254::{Bn254, Fr, G1Affine, g1, g2};
use ark_ec::CurveGroup;
use ark_ec::short_weierstrass::{Affine, Projective};
use ark_ff::{AdditiveGroup, Field, PrimeField};
use blake2::{Blake2b512, Digest};
use millstream_prover::VerifyingKey;

use crate::curve::{Curve, Identity, for_points, same_ratio, scale};
use crate::error::CeremonyError;
use crate::initial::Reference;
use crate::parameters::{A, B_G1, B_G2, H, Header, IC, L, Parameters, has_entries};
use crate::powers::msm;
use crate::random::{Weights, generators};
use crate::sections::{Result, SectionFile};
use crate::transcript::{ContributionRecord, Transcript};

/// A ceremony that holds: everything in its file follows from the circuit, the powers of tau and the contributions.
#[derive(Debug)]
pub struct Verified<'a> {
    pub(crate) reference: &'a Reference,
    pub(crate) parameters: Parameters,
}

impl Reference {
    /// Checks each contribution of a file, and that together they made its parameters of these.
    ///
    /// A ceremony without contribution, or without beacon, holds too: that it is finished is for [`Verified::finish`].
    ///
    /// # Errors
    /// [`CeremonyError`], in this order: the format; another circuit; the chain; the parameters.
    pub fn verify(&self, input: &Path) -> Result<Verified<'_>> {
        let mut parameters = Parameters::open(input)?;
        same_circuit(&mut parameters, self)?;
        let verified = parameters.chain.verify();
        verified.map_err(|(number, reason)| CeremonyError::Chain { path: input.to_path_buf(), number, reason })?;
        divided_by_delta(&mut parameters, self)?;
        Ok(Verified { reference: self, parameters })
    }
}

/// What no contribution changes.
fn same_circuit(parameters: &mut Parameters, initial: &Reference) -> Result<()> {
    let Parameters { file, header, chain } = parameters;
    let path = file.path().to_path_buf();
    let require = |same: bool, what| {
        let error = || CeremonyError::OtherCircuit { path: path.clone(), circuit: initial.circuit, what };
        if same { Ok(()) } else { Err(error()) }
    };
    require(header.shape == initial.header.shape, "the sizes")?;
    let fixed = |header: &Header| (header.alpha_g1, header.beta_g1, header.beta_g2, header.gamma_g2);
    require(fixed(header) == fixed(&initial.header), "alpha, beta or gamma")?;
    require(chain.circuit_hash == initial.circuit_hash, "the circuit hash")?;
    require(has_points(file, IC, &initial.ic)?, "the points of the public inputs")?;
    require(has_entries(file, &initial.structure)?, "the entries of A and B")?;
    require(has_points(file, A, &initial.a)?, "the points of A")?;
    require(has_points(file, B_G1, &initial.b_g1)?, "the points of B in G1")?;
    require(has_points::<g2::Config>(file, B_G2, &initial.b_g2)?, "the points of B in G2")
}

fn has_points<P: Curve>(file: &mut SectionFile, section: u32, expected: &[Affine<P>]) -> Result<bool> {
    let (mut rest, mut same) = (expected, true);
    for_points::<P>(file, section, (0, expected.len()), Identity::Allowed, |points| {
        let (these, later) = rest.split_at(points.len());
        rest = later;
        same &= points == these;
        Ok(())
    })?;
    Ok(same)
}

/// Delta in G1 and G2, and that the points of sections 8 and 9 are the initial ones divided by it.
fn divided_by_delta(parameters: &mut Parameters, initial: &Reference) -> Result<()> {
    let Parameters { file, header, chain } = parameters;
    let path = file.path().to_path_buf();
    let require = |holds: bool, what| if holds { Ok(()) } else { Err(CeremonyError::Parameters { path: path.clone(), what }) };
    require(header.delta_g1 == chain.delta_g1(), "delta is not that of the last contribution")?;
    let (g1, g2) = generators();
    require(same_ratio((g1, header.delta_g1), (g2, header.delta_g2)), "delta in G2 is not delta in G1")?;
    let mut weights = Weights::from_os()?;
    for (section, before, what) in [(L, &initial.l, "the points of the private variables"), (H, &initial.h, "the points of the quotient")] {
        let (was, is) = weighted_sums(file, section, before, &mut weights)?;
        require(same_ratio((is, was), (g2, header.delta_g2)), what)?;
    }
    Ok(())
}

/// The same weighted sum of the points as they were and as they are.
fn weighted_sums(file: &mut SectionFile, section: u32, before: &[G1Affine], weights: &mut Weights) -> Result<(G1Affine, G1Affine)> {
    let (mut was, mut is) = (Projective::<g1::Config>::ZERO, Projective::<g1::Config>::ZERO);
    let mut rest = before;
    for_points::<g1::Config>(file, section, (0, before.len()), Identity::Allowed, |points| {
        let (these, later) = rest.split_at(points.len());
        rest = later;
        let weights = weights.draw(points.len());
        was += msm(these, &weights);
        is += msm(points, &weights);
        Ok(())
    })?;
    Ok((was.into_affine(), is.into_affine()))
}

impl Verified<'_> {
    /// Contributions of participants, beacons not counted.
    #[must_use]
    pub fn participants(&self) -> usize {
        self.parameters.chain.contributions.iter().filter(|contribution| contribution.beacon.is_none()).count()
    }

    /// Whether a beacon closes the ceremony.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.parameters.chain.is_closed()
    }

    /// The verifying key of the parameters as they are now; of an unfinished ceremony, no key to use.
    ///
    /// In the file gamma is the generator, as snarkjs keeps it, and a verifier that sees only the key refuses that (spec L-22). So gamma and
    /// the points of the public inputs are multiplied and divided by one public factor. Every proof is as good under the one key as under
    /// the other.
    pub(crate) fn verifying_key(&self) -> ark_groth16::VerifyingKey<Bn254> {
        let Header { alpha_g1, beta_g2, gamma_g2, delta_g2, .. } = self.parameters.header;
        let factor = self.gamma_factor();
        let inverse = factor.inverse().expect("the factor is not zero");
        let gamma_g2 = (gamma_g2 * factor).into_affine();
        ark_groth16::VerifyingKey { alpha_g1, beta_g2, gamma_g2, delta_g2, gamma_abc_g1: scale(&self.reference.ic, inverse) }
    }

    /// The verifying key, once somebody contributed and it is not degenerate.
    fn sound_key(&self) -> Option<VerifyingKey> {
        (self.participants() > 0).then(|| VerifyingKey::new(&self.verifying_key()).ok()).flatten()
    }

    /// The public factor of gamma: a hash of the whole ceremony, so that nobody chose it.
    fn gamma_factor(&self) -> Fr {
        let mut hasher = Blake2b512::new_with_prefix(b"millstream ceremony gamma 1");
        hasher.update(self.parameters.chain.encode());
        // Zero has a chance of 2^-253.
        Fr::from_le_bytes_mod_order(&hasher.finalize())
    }

    /// Everything that was checked, for publication.
    #[must_use]
    pub fn transcript(&self) -> Transcript {
        Transcript {
            circuit: self.reference.circuit.to_string(),
            circuit_digest: format!("0x{}", hex::encode(self.reference.structure.digest())),
            constraints: self.reference.structure.constraints(),
            powers_hash: self.reference.powers_hash.to_string(),
            circuit_hash: self.reference.circuit_hash.to_string(),
            contributions: self.parameters.chain.contributions.iter().enumerate().map(ContributionRecord::of).collect(),
            gamma_factor: self.gamma_factor().to_string(),
            verifying_key_hash: self.sound_key().map(|key| key.key_hash().to_string()),
        }
    }
}
