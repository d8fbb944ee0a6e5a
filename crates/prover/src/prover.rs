//! Statements in, checked proofs out.

use std::collections::BTreeMap;

use ark_bn254::Bn254;
use ark_groth16::ProvingKey;
use millstream_circuit::{PublicInputs, RegisterStatement, SettleStatement, Witness};
use millstream_types::ChainId;

use crate::circuit_id::CircuitId;
use crate::dev_keys::{InsecureDevKeys, refuse_public_chain};
use crate::error::ProverError;
use crate::groth16::{self, Blinding};
use crate::production_keys::ProductionKeys;
use crate::proof::Proof;
use crate::verifying_key::VerifyingKey;

/// What a proof takes at its peak for each point of its domain, keys left aside: witness, polynomials, digits of scalars and buckets.
const BYTES_PER_POINT: u64 = 1_024;

/// Proves statements with the keys it holds. Synchronous, and busy on all of rayon's threads: call it where blocking is allowed.
#[derive(Clone, Debug)]
pub struct Prover {
    keys: BTreeMap<CircuitId, Keys>,
}

/// Keys of one kind or the other.
#[derive(Clone, Debug)]
enum Keys {
    InsecureDev(InsecureDevKeys),
    Production(ProductionKeys),
}

impl Keys {
    const fn circuit(&self) -> CircuitId {
        match self {
            Self::InsecureDev(keys) => keys.circuit(),
            Self::Production(keys) => keys.circuit(),
        }
    }

    fn verifying_key(&self) -> &VerifyingKey {
        match self {
            Self::InsecureDev(keys) => keys.verifying_key(),
            Self::Production(keys) => keys.verifying_key(),
        }
    }

    fn proving_key(&self) -> &ProvingKey<Bn254> {
        match self {
            Self::InsecureDev(keys) => keys.proving_key(),
            Self::Production(keys) => keys.proving_key(),
        }
    }
}

impl Prover {
    /// A prover with development keys: it refuses statements for public chains (spec L-23).
    #[must_use]
    pub fn insecure_dev(keys: impl IntoIterator<Item = InsecureDevKeys>) -> Self {
        Self { keys: keys.into_iter().map(|keys| (keys.circuit(), Keys::InsecureDev(keys))).collect() }
    }

    /// A prover with keys from ceremonies, for any chain (spec L-24).
    #[must_use]
    pub fn production(keys: impl IntoIterator<Item = ProductionKeys>) -> Self {
        Self { keys: keys.into_iter().map(|keys| (keys.circuit(), Keys::Production(keys))).collect() }
    }

    /// The circuits it can prove.
    pub fn circuits(&self) -> impl Iterator<Item = CircuitId> + '_ {
        self.keys.keys().copied()
    }

    /// The verifying key of a circuit, when it holds the circuit's keys.
    #[must_use]
    pub fn verifying_key(&self, circuit: CircuitId) -> Option<&VerifyingKey> {
        self.keys.get(&circuit).map(Keys::verifying_key)
    }

    /// The memory that a proof takes at its peak, in bytes, the keys left aside; 0 for a circuit that it has no keys of.
    #[must_use]
    pub fn memory_bytes(&self, circuit: CircuitId) -> u64 {
        let points = self.keys.get(&circuit).map_or(0, |keys| keys.proving_key().h_query.len() as u64 + 1);
        points.saturating_mul(BYTES_PER_POINT)
    }

    /// Proves a settlement of one book.
    ///
    /// # Errors
    /// [`ProverError::PublicChain`], [`ProverError::NoKeys`], [`ProverError::Shape`], [`ProverError::SelfCheck`], in this order.
    pub fn prove_settle(&self, statement: &SettleStatement, blinding: &Blinding) -> Result<Proof, ProverError> {
        self.prove_settle_while(statement, blinding, &|| true)
    }

    /// Proves a registration in one book.
    ///
    /// # Errors
    /// As [`Self::prove_settle`].
    pub fn prove_register(&self, statement: &RegisterStatement, blinding: &Blinding) -> Result<Proof, ProverError> {
        self.prove_register_while(statement, blinding, &|| true)
    }

    /// As [`Self::prove_settle`], but gives up between steps, within a fraction of the whole time, once `wanted` says no.
    ///
    /// # Errors
    /// As [`Self::prove_settle`], and [`ProverError::Cancelled`].
    pub fn prove_settle_while(
        &self,
        statement: &SettleStatement,
        blinding: &Blinding,
        wanted: &dyn Fn() -> bool,
    ) -> Result<Proof, ProverError> {
        let circuit = CircuitId::settle(statement.book_after.size());
        let keys = self.keys_for(circuit, statement.place.ledger.chain)?;
        prove(keys, statement.witness(), statement.public, blinding, wanted)
    }

    /// As [`Self::prove_register`], with `wanted` as in [`Self::prove_settle_while`].
    ///
    /// # Errors
    /// As [`Self::prove_settle`], and [`ProverError::Cancelled`].
    pub fn prove_register_while(
        &self,
        statement: &RegisterStatement,
        blinding: &Blinding,
        wanted: &dyn Fn() -> bool,
    ) -> Result<Proof, ProverError> {
        let circuit = CircuitId::register(statement.book_after.size());
        let keys = self.keys_for(circuit, statement.place.ledger.chain)?;
        prove(keys, statement.witness(), statement.public, blinding, wanted)
    }

    fn keys_for(&self, circuit: CircuitId, chain: ChainId) -> Result<&Keys, ProverError> {
        let keys = self.keys.get(&circuit);
        // Also without keys: the answer on a public chain does not depend on what was loaded.
        if !matches!(keys, Some(Keys::Production(_))) {
            refuse_public_chain(chain)?;
        }
        keys.ok_or(ProverError::NoKeys { circuit })
    }
}

fn prove(
    keys: &Keys,
    witness: Witness,
    public: PublicInputs,
    blinding: &Blinding,
    wanted: &dyn Fn() -> bool,
) -> Result<Proof, ProverError> {
    let circuit = keys.circuit();
    let key = keys.proving_key();
    let (key_variables, witness_variables) = (key.a_query.len(), witness.assignment.len());
    if key_variables != witness_variables || key.h_query.len() + 1 != crate::setup::domain_size(witness.a.len()) {
        return Err(ProverError::Shape { circuit, key_variables, witness_variables });
    }
    let proof = groth16::prove(key, witness, blinding, wanted).ok_or(ProverError::Cancelled)?;
    if keys.verifying_key().verify(&public.to_array(), &proof) { Ok(proof) } else { Err(ProverError::SelfCheck { circuit }) }
}
