//! Where a ceremony begins: the parameters of a circuit before anyone has contributed, a function of circuit and powers of tau alone.

use std::path::Path;

use ark_bn254::{Fr, G1Affine, G2Affine};
use ark_poly::{EvaluationDomain, Radix2EvaluationDomain};
use blake2::{Blake2b512, Digest};
use millstream_circuit::{MatrixName, PUBLIC_INPUTS, Structure};
use millstream_prover::CircuitId;

use crate::chain::Chain;
use crate::curve::{Blake2bHash, hash_points};
use crate::error::CeremonyError;
use crate::group::{Columns, sum_columns};
use crate::parameters::{Header, Shape, write};
use crate::powers::{Powers, PowersPin};
use crate::r1cs::number;
use crate::random::generators;
use crate::sections::Result;

/// Instance variables: the one and the public inputs.
pub(crate) const INSTANCE: usize = PUBLIC_INPUTS + 1;

/// The parameters of a circuit without any contribution: what a ceremony starts with, and what it is checked against.
///
/// Deriving it is most of the work of [`Reference::start`] and of [`Reference::verify`], and it is the same for every file of a ceremony.
#[derive(Debug)]
pub struct Reference {
    pub(crate) circuit: CircuitId,
    pub(crate) structure: Structure,
    pub(crate) domain: Radix2EvaluationDomain<Fr>,
    pub(crate) powers_hash: Blake2bHash,
    pub(crate) header: Header,
    pub(crate) ic: Vec<G1Affine>,
    pub(crate) a: Vec<G1Affine>,
    pub(crate) b_g1: Vec<G1Affine>,
    pub(crate) b_g2: Vec<G2Affine>,
    pub(crate) l: Vec<G1Affine>,
    pub(crate) h: Vec<G1Affine>,
    /// The name that snarkjs gives to circuit and powers of tau: what every contribution is bound to.
    pub(crate) circuit_hash: Blake2bHash,
}

impl Reference {
    /// Derives the parameters from the circuit and the powers of tau, which are checked: hash, format, and that they are powers of one
    /// secret. The result depends on nothing else.
    ///
    /// # Errors
    /// [`CeremonyError`]: of the powers of tau.
    pub fn derive(circuit: CircuitId, powers: &Path, pin: PowersPin) -> Result<Self> {
        let structure = circuit.structure();
        let domain = Radix2EvaluationDomain::new(structure.constraints() + INSTANCE);
        let domain = domain.ok_or_else(|| CeremonyError::TooFewPowers { circuit, path: powers.to_path_buf(), needed: 29, found: 28 })?;
        tracing::info!(%circuit, rows = structure.constraints(), domain = domain.size(), "reading the powers of tau");
        let powers = Powers::load(powers, pin, circuit, domain)?;
        let all = 0..structure.variables();
        tracing::info!(entries = structure.entries(MatrixName::A), "summing the columns of A");
        let columns = Columns::of(&structure, MatrixName::A);
        let a = sum_columns(&[(&columns, &powers.tau_g1[..])], all.clone());
        let a_part = columns;
        tracing::info!(entries = structure.entries(MatrixName::B), "summing the columns of B");
        let b_part = Columns::of(&structure, MatrixName::B);
        let b_g1 = sum_columns(&[(&b_part, &powers.tau_g1[..])], all.clone());
        let b_g2 = sum_columns(&[(&b_part, &powers.tau_g2[..])], all.clone());
        tracing::info!(entries = structure.entries(MatrixName::C), "summing the columns of all three");
        let c_part = Columns::of(&structure, MatrixName::C);
        let terms = [(&a_part, &powers.beta_tau_g1[..]), (&b_part, &powers.alpha_tau_g1[..]), (&c_part, &powers.tau_g1[..])];
        let mut ic = sum_columns(&terms, all);
        let l = ic.split_off(INSTANCE);

        let (g1, g2) = generators();
        let header = Header {
            shape: Shape { variables: structure.variables(), domain: domain.size() },
            alpha_g1: powers.alpha_g1,
            beta_g1: powers.beta_g1,
            beta_g2: powers.beta_g2,
            gamma_g2: g2,
            delta_g1: g1,
            delta_g2: g2,
        };
        let circuit_hash = {
            let mut hasher = Blake2b512::new();
            hash_points(&mut hasher, &[header.alpha_g1, header.beta_g1]);
            hash_points(&mut hasher, &[header.beta_g2, header.gamma_g2]);
            hash_points(&mut hasher, &[header.delta_g1]);
            hash_points(&mut hasher, &[header.delta_g2]);
            let mut list = |count: usize, points: &[G1Affine]| {
                hasher.update(number(count).to_be_bytes());
                hash_points(&mut hasher, points);
            };
            list(ic.len(), &ic);
            list(domain.size() - 1, &powers.vanishing);
            list(l.len(), &l);
            list(a.len(), &a);
            list(b_g1.len(), &b_g1);
            hasher.update(number(b_g2.len()).to_be_bytes());
            hash_points(&mut hasher, &b_g2);
            Blake2bHash::of(hasher)
        };
        let (powers_hash, h) = (powers.hash, powers.odd_tau_g1);
        Ok(Self { circuit, structure, domain, powers_hash, header, ic, a, b_g1, b_g2, l, h, circuit_hash })
    }

    /// Writes the parameters that a ceremony starts with.
    ///
    /// # Errors
    /// [`CeremonyError::Exists`], [`CeremonyError::File`].
    pub fn start(&self, out: &Path) -> Result<()> {
        write(self, &Chain::new(self.circuit_hash), out)
    }

    /// The circuit.
    #[must_use]
    pub const fn circuit(&self) -> CircuitId {
        self.circuit
    }

    /// Its matrices.
    #[must_use]
    pub const fn structure(&self) -> &Structure {
        &self.structure
    }

    /// The points of its domain, a power of two.
    #[must_use]
    pub fn domain_size(&self) -> usize {
        self.domain.size()
    }

    /// BLAKE2b-512 of the powers-of-tau file.
    #[must_use]
    pub const fn powers_hash(&self) -> Blake2bHash {
        self.powers_hash
    }

    /// BLAKE2b-512 over the parameters, which every contribution is bound to: what snarkjs calls the circuit hash.
    #[must_use]
    pub const fn circuit_hash(&self) -> Blake2bHash {
        self.circuit_hash
    }
}
