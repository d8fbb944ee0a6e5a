//! Statements in, checked proofs out.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ark_bn254::Bn254;
use ark_groth16::ProvingKey;
use millstream_circuit::{PublicInputs, RegisterStatement, SettleStatement, Witness};
use millstream_types::{ChainId, Hash256};

use crate::arithmetic::{Arithmetic, PreparedKey, ProofStep, Wanted, prepared};
use crate::ark::ArkKey;
use crate::circuit_id::CircuitId;
use crate::dev_keys::{InsecureDevKeys, refuse_public_chain};
use crate::error::ProverError;
use crate::groth16::{self, Blinding};
use crate::key_pins::KeyPins;
use crate::production_keys::ProductionKeys;
use crate::proof::Proof;
use crate::verifying_key::VerifyingKey;

/// What a proof takes at its peak for each point of its domain, keys left aside: witness, polynomials, digits of scalars and buckets. On
/// two threads, lanes were seen to take up to 261 and arkworks, which a proof falls back to, up to 891.
const BYTES_PER_POINT: u64 = 1_024;

/// What each thread takes beside: sums of buckets under way.
const BYTES_PER_THREAD: u64 = 2 << 20;

/// Proves statements with the keys it holds. Synchronous, and busy on all of rayon's threads: call it where blocking is allowed.
///
/// Our own arithmetic never judges alone: a proof that it made and that does not verify is made again by arkworks, and if that one does, it
/// is not used any more. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Prover {
    circuits: BTreeMap<CircuitId, Arc<Circuit>>,
    wrong_proofs: Arc<AtomicU64>,
}

/// Keys, and the form of them that our own arithmetic takes.
#[derive(Debug)]
struct Circuit {
    keys: Keys,
    prepared: Option<Box<dyn PreparedKey>>,
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
        Self::insecure_dev_with(keys, Arithmetic::Fastest)
    }

    /// As [`Self::insecure_dev`], with an arithmetic.
    #[must_use]
    pub fn insecure_dev_with(keys: impl IntoIterator<Item = InsecureDevKeys>, arithmetic: Arithmetic) -> Self {
        Self::with(keys.into_iter().map(Keys::InsecureDev), arithmetic)
    }

    /// A prover with keys from ceremonies, for any chain (spec L-33).
    #[must_use]
    pub fn production(keys: impl IntoIterator<Item = ProductionKeys>) -> Self {
        Self::with(keys.into_iter().map(Keys::Production), Arithmetic::Fastest)
    }

    /// The prover of a ledger's circuits, given with the hashes of the keys that the ledger verifies them with. On a development chain it has
    /// development keys, which are made in `directory` when they are not there; on every other one the pinned keys, which have to be there.
    ///
    /// # Errors
    /// As [`InsecureDevKeys::load_or_generate`] or [`ProductionKeys::load`]; [`ProverError::ForeignKey`].
    pub fn for_chain(
        chain: ChainId,
        circuits: impl IntoIterator<Item = (CircuitId, Hash256)>,
        directory: &Path,
        pins: &KeyPins,
    ) -> Result<Self, ProverError> {
        let is_public = refuse_public_chain(chain).is_err();
        let load = |(circuit, expected): (CircuitId, Hash256)| {
            let keys = if is_public {
                Keys::Production(ProductionKeys::load(circuit, directory, pins)?)
            } else {
                Keys::InsecureDev(InsecureDevKeys::load_or_generate(circuit, directory)?)
            };
            let ours = keys.verifying_key().key_hash();
            if ours == expected { Ok(keys) } else { Err(ProverError::ForeignKey { circuit, expected, ours }) }
        };
        let keys = circuits.into_iter().map(load).collect::<Result<Vec<_>, _>>()?;
        tracing::info!(circuits = keys.len(), insecure = !is_public, "proving keys loaded");
        Ok(Self::with(keys.into_iter(), Arithmetic::Fastest))
    }

    /// Preparing a key takes up to a second for the largest.
    fn with(keys: impl Iterator<Item = Keys>, arithmetic: Arithmetic) -> Self {
        let ready = |keys: Keys| {
            let circuit = keys.circuit();
            let prepared = prepared(arithmetic, keys.proving_key());
            let (name, bytes) = prepared.as_ref().map_or(("ark", 0), |key| (key.name(), key.bytes()));
            tracing::info!(%circuit, arithmetic = name, bytes, "proving key ready");
            (circuit, Arc::new(Circuit { keys, prepared }))
        };
        Self { circuits: keys.map(ready).collect(), wrong_proofs: Arc::default() }
    }

    /// The circuits it can prove.
    pub fn circuits(&self) -> impl Iterator<Item = CircuitId> + '_ {
        self.circuits.keys().copied()
    }

    /// The verifying key of a circuit, when it holds the circuit's keys.
    #[must_use]
    pub fn verifying_key(&self, circuit: CircuitId) -> Option<&VerifyingKey> {
        self.circuits.get(&circuit).map(|circuit| circuit.keys.verifying_key())
    }

    /// The memory that a proof takes at its peak, in bytes, the keys left aside; 0 for a circuit that it has no keys of.
    #[must_use]
    pub fn memory_bytes(&self, circuit: CircuitId) -> u64 {
        let Some(circuit) = self.circuits.get(&circuit) else {
            return 0;
        };
        let points = circuit.keys.proving_key().h_query.len() as u64 + 1;
        points
            .saturating_mul(BYTES_PER_POINT)
            .saturating_add(BYTES_PER_THREAD.saturating_mul(rayon::current_num_threads() as u64))
    }

    /// The memory that the circuit's key takes in the form for our own arithmetic, in bytes, beside the key itself; 0 where that of arkworks
    /// is used.
    #[must_use]
    pub fn prepared_key_bytes(&self, circuit: CircuitId) -> u64 {
        let prepared = self.circuits.get(&circuit).and_then(|circuit| circuit.prepared.as_ref());
        prepared.map_or(0, |key| key.bytes() as u64)
    }

    /// Proofs that our own arithmetic made wrong and arkworks right. Above zero it says that the processor computes wrongly or that there is a
    /// bug; since the first one, arkworks makes the proofs.
    #[must_use]
    pub fn wrong_proofs(&self) -> u64 {
        self.wrong_proofs.load(Ordering::Relaxed)
    }

    /// Proves a settlement of one book.
    ///
    /// # Errors
    /// [`ProverError::PublicChain`], [`ProverError::NoKeys`], [`ProverError::Shape`], [`ProverError::SelfCheck`], in this order.
    pub fn prove_settle(&self, statement: &SettleStatement, blinding: &Blinding) -> Result<Proof, ProverError> {
        self.prove_settle_while(statement, blinding, &|_| true)
    }

    /// Proves a registration in one book.
    ///
    /// # Errors
    /// As [`Self::prove_settle`].
    pub fn prove_register(&self, statement: &RegisterStatement, blinding: &Blinding) -> Result<Proof, ProverError> {
        self.prove_register_while(statement, blinding, &|_| true)
    }

    /// As [`Self::prove_settle`], but gives up between steps, within a fraction of the whole time, once `wanted` says no. Where a wrong
    /// proof was made, the steps begin again.
    ///
    /// # Errors
    /// As [`Self::prove_settle`], and [`ProverError::Cancelled`].
    pub fn prove_settle_while(&self, statement: &SettleStatement, blinding: &Blinding, wanted: Wanted<'_>) -> Result<Proof, ProverError> {
        let circuit = CircuitId::settle(statement.book_after.size());
        let circuit = self.circuit(circuit, statement.place.ledger.chain)?;
        self.prove(circuit, &|| statement.witness(), statement.public, blinding, wanted)
    }

    /// As [`Self::prove_register`], with `wanted` as in [`Self::prove_settle_while`].
    ///
    /// # Errors
    /// As [`Self::prove_settle`], and [`ProverError::Cancelled`].
    pub fn prove_register_while(
        &self,
        statement: &RegisterStatement,
        blinding: &Blinding,
        wanted: Wanted<'_>,
    ) -> Result<Proof, ProverError> {
        let circuit = CircuitId::register(statement.book_after.size());
        let circuit = self.circuit(circuit, statement.place.ledger.chain)?;
        self.prove(circuit, &|| statement.witness(), statement.public, blinding, wanted)
    }

    fn circuit(&self, circuit: CircuitId, chain: ChainId) -> Result<&Circuit, ProverError> {
        let found = self.circuits.get(&circuit).map(AsRef::as_ref);
        // Also without keys: the answer on a public chain does not depend on what was loaded.
        if !found.is_some_and(|found| matches!(found.keys, Keys::Production(_))) {
            refuse_public_chain(chain)?;
        }
        found.ok_or(ProverError::NoKeys { circuit })
    }

    fn prove(
        &self,
        circuit: &Circuit,
        witness: &dyn Fn() -> Witness,
        public: PublicInputs,
        blinding: &Blinding,
        wanted: Wanted<'_>,
    ) -> Result<Proof, ProverError> {
        let prepared = circuit.prepared.as_deref().filter(|_| self.wrong_proofs() == 0);
        let Some(prepared) = prepared else {
            return circuit.prove(&ArkKey(circuit.keys.proving_key()), witness, public, blinding, wanted);
        };
        let answer = circuit.prove(prepared, witness, public, blinding, wanted);
        if !matches!(answer, Err(ProverError::SelfCheck { .. })) {
            return answer;
        }
        // Either the statement is wrong or the arithmetic is.
        let proof = circuit.prove(&ArkKey(circuit.keys.proving_key()), witness, public, blinding, wanted)?;
        self.wrong_proofs.fetch_add(1, Ordering::Relaxed);
        let arithmetic = prepared.name();
        tracing::error!(circuit = %circuit.keys.circuit(), arithmetic, "a wrong proof was made: from now on arkworks makes them");
        Ok(proof)
    }
}

impl Circuit {
    /// Proves with the circuit's key as it is prepared, and checks.
    fn prove(
        &self,
        prepared: &dyn PreparedKey,
        witness: &dyn Fn() -> Witness,
        public: PublicInputs,
        blinding: &Blinding,
        wanted: Wanted<'_>,
    ) -> Result<Proof, ProverError> {
        let circuit = self.keys.circuit();
        let key = self.keys.proving_key();
        let step = |step| if wanted(step) { Ok(()) } else { Err(ProverError::Cancelled) };
        step(ProofStep::Witness)?;
        let witness = witness();
        let (key_variables, witness_variables) = (key.a_query.len(), witness.assignment.len());
        if key_variables != witness_variables || key.h_query.len() + 1 != crate::setup::domain_size(witness.a.len()) {
            return Err(ProverError::Shape { circuit, key_variables, witness_variables });
        }
        let proof = groth16::prove(prepared, key, witness, blinding, wanted).ok_or(ProverError::Cancelled)?;
        step(ProofStep::Check)?;
        if self.keys.verifying_key().verify(&public.to_array(), &proof) { Ok(proof) } else { Err(ProverError::SelfCheck { circuit }) }
    }
}

#[cfg(test)]
mod tests {
    use ark_ec::PrimeGroup;
    use millstream_circuit::{Book, BookSize, Place};
    use millstream_types::{Address, BookId, LedgerId, Tier};

    use super::*;
    use crate::arithmetic::Sums;

    /// Right but for one sum.
    #[derive(Debug)]
    struct Wrong(InsecureDevKeys);

    impl PreparedKey for Wrong {
        fn name(&self) -> &'static str {
            "wrong"
        }

        fn bytes(&self) -> usize {
            7
        }

        fn sums(&self, witness: Witness, wanted: Wanted<'_>) -> Option<Sums> {
            let mut sums = ArkKey(self.0.proving_key()).sums(witness, wanted)?;
            sums.c += ark_bn254::G1Projective::generator();
            Some(sums)
        }
    }

    /// Nothing happens in an empty book.
    fn statement(size: BookSize) -> RegisterStatement {
        let ledger = LedgerId { chain: ChainId::new(31_337), contract: Address::from_bytes([1; 20]) };
        let place = Place { ledger, book: BookId::new(Tier::new(0), 0).expect("small") };
        RegisterStatement::new(place, &Book::empty(size), &[]).expect("nothing to do")
    }

    #[test]
    fn a_wrong_proof_is_made_again_by_arkworks_and_counted_and_ends_the_use_of_what_made_it() {
        let size = BookSize::new(1).expect("in range");
        let circuit = CircuitId::register(size);
        let keys = InsecureDevKeys::generate(circuit).expect("keys");
        let wrong = Circuit { keys: Keys::InsecureDev(keys.clone()), prepared: Some(Box::new(Wrong(keys.clone()))) };
        let prover = Prover { circuits: BTreeMap::from([(circuit, Arc::new(wrong))]), wrong_proofs: Arc::default() };
        let (statement, blinding) = (statement(size), Blinding::from_entropy(&[3; 128]));

        // A wrong statement is nobody's failure.
        let mut another = statement.clone();
        another.public.value += ark_bn254::Fr::from(1u64);
        assert!(matches!(prover.prove_register(&another, &blinding), Err(ProverError::SelfCheck { .. })));
        assert_eq!(prover.wrong_proofs(), 0);

        let expected = Prover::insecure_dev_with([keys], Arithmetic::Ark).prove_register(&statement, &blinding).expect("a proof");
        for _ in 0..2 {
            assert_eq!(prover.prove_register(&statement, &blinding).expect("a proof").as_ark(), expected.as_ark());
            assert_eq!(prover.wrong_proofs(), 1);
        }
        assert_eq!(prover.prepared_key_bytes(circuit), 7);
        assert_eq!(prover.clone().wrong_proofs(), 1);
    }
}
