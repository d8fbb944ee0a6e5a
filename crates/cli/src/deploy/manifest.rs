//! The manifest: what was deployed, in a form that anyone can check against the chain and against this build.

use std::io::Write;
use std::path::Path;

use millstream_chain::{
    DeployPlan, Deployment, Inventory, LedgerTerms, Located, TierInventory, TierPlan, TokenChoice, VerifierInventory, VerifyingKeyWords,
};
use millstream_prover::{CircuitId, VerifierKey};
use millstream_types::{Address, Amount, BlockNumber, ChainId, Hash256};
use serde::{Deserialize, Serialize};

use super::plan::{KeySource, KeyedPlan};
use crate::error::{CliError, CliResult};

/// The form that this build writes, and the only one that it reads.
const VERSION: u32 = 1;

/// A deployment. Amounts are decimal strings; unknown keys are errors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The form of this document.
    pub manifest_version: u32,
    /// The version of the tool that wrote it.
    pub tool_version: String,
    /// The chain.
    pub chain_id: u64,
    /// The block at which everything was read back.
    pub block: u64,
    /// Its hash.
    pub block_hash: Hash256,
    /// Who paid the gas last; none when all of it was there.
    pub deployer: Option<Address>,
    /// Where the verifying keys come from.
    pub keys: KeySource,
    /// The token.
    pub token: TokenEntry,
    /// The ledger.
    pub ledger: LedgerEntry,
    /// The factory that made it.
    pub factory: ContractEntry,
    /// What computes roots from the paths of a leave.
    pub book_paths: ContractEntry,
    /// The sizes of book, by tier index.
    pub tiers: Vec<TierEntry>,
}

/// The token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenEntry {
    /// Where it is.
    pub address: Address,
    /// Its decimals.
    pub decimals: u8,
}

/// A contract.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContractEntry {
    /// Where it is.
    pub address: Address,
    /// Keccak-256 of its code.
    pub code_hash: Hash256,
    /// The transaction that deployed it; none when it was there before, or is not known.
    pub transaction: Option<Hash256>,
}

/// The ledger with its terms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerEntry {
    /// Where it is.
    pub address: Address,
    /// Keccak-256 of its code.
    pub code_hash: Hash256,
    /// The transaction that created it, if it is known.
    pub transaction: Option<Hash256>,
    /// The block that created it, or 0 if that is not known: a node reads logs from here.
    pub start_block: u64,
    /// Whom settlements pay.
    pub provider: Address,
    /// Who may settle and register first.
    pub first_operator: Address,
    /// Seconds from a request until it is overdue.
    pub response_window_secs: u64,
    /// Seconds from a request until its being unserved lets anyone halt the ledger.
    pub halt_window_secs: u64,
    /// What an opening or a top-up must deposit at least, in nanos.
    #[serde(with = "decimal")]
    pub deposit_min_nanos: Amount,
    /// Tells ledgers of equal terms apart.
    pub salt: Hash256,
}

/// A size of book.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TierEntry {
    /// Slots of a book.
    pub slots: u16,
    /// The root of an empty book.
    pub empty_root: Hash256,
    /// The verifier of `settle-N`.
    pub settle: VerifierEntry,
    /// The verifier of `register-N`.
    pub register: VerifierEntry,
}

/// A verifier with its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifierEntry {
    /// The circuit, such as `settle-96`.
    pub circuit: String,
    /// Keccak-256 of the circuit's matrices.
    pub circuit_digest: Hash256,
    /// Where it is.
    pub address: Address,
    /// Keccak-256 of its code.
    pub code_hash: Hash256,
    /// Keccak-256 of the verifying key.
    pub key_hash: Hash256,
    /// The verifying key: the 22 words that the constructor took.
    pub verifying_key: Vec<Hash256>,
    /// The transaction that deployed it; none when it was there before, or is not known.
    pub transaction: Option<Hash256>,
}

mod decimal {
    //! An amount as a decimal string.

    use millstream_types::Amount;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(amount: &Amount, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&amount.units())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Amount, D::Error> {
        let text = String::deserialize(deserializer)?;
        let units: u64 = text.parse().map_err(|_| serde::de::Error::custom("expected nanos in 64 bits, as a decimal string"))?;
        // One form for one amount: no sign, no leading zero.
        if units.to_string() == text {
            Ok(Amount::from_nanos(units))
        } else {
            Err(serde::de::Error::custom("expected a decimal string without sign and leading zeros"))
        }
    }
}

/// Who deployed, and where everything was read back.
#[derive(Clone, Copy, Debug)]
pub struct Made {
    /// Who paid the gas.
    pub deployer: Address,
    /// The block at which everything was read back.
    pub block: BlockNumber,
    /// Its hash.
    pub block_hash: Hash256,
}

impl Manifest {
    /// What was deployed. Transactions that are not of this run are taken from an earlier manifest of the same ledger.
    #[must_use]
    pub fn of(
        source: KeySource,
        plan: &KeyedPlan,
        inventory: &Inventory,
        deployment: &Deployment,
        made: Made,
        earlier: Option<&Self>,
    ) -> Self {
        let transaction = |address: Address| {
            let own = deployment.sent.iter().find(|step| step.address == address).map(|step| step.receipt.transaction);
            own.or_else(|| earlier?.transactions().into_iter().find(|(_, at, ..)| *at == address).map(|(.., hash)| hash))
        };
        let contract = |Located { address, code_hash }| ContractEntry { address, code_hash, transaction: transaction(address) };
        let verifier = |inventory: &VerifierInventory, key: &VerifierKey| VerifierEntry {
            circuit: key.circuit.to_string(),
            circuit_digest: key.circuit_digest,
            address: inventory.address,
            code_hash: inventory.code_hash,
            key_hash: inventory.key_hash,
            verifying_key: key.words.iter().map(|word| Hash256::from_bytes(*word)).collect(),
            transaction: transaction(inventory.address),
        };
        let tiers = inventory.tiers.iter().zip(&plan.keys).map(|(tier, [settle, register])| TierEntry {
            slots: tier.slots,
            empty_root: Hash256::from_bytes(tier.empty_root),
            settle: verifier(&tier.settle, settle),
            register: verifier(&tier.register, register),
        });
        let LedgerTerms { provider, first_operator, response_window_secs, halt_window_secs, deposit_min } = inventory.terms;
        Self {
            manifest_version: VERSION,
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            chain_id: inventory.chain.get(),
            block: made.block.height(),
            block_hash: made.block_hash,
            deployer: if deployment.sent.is_empty() { earlier.and_then(|earlier| earlier.deployer) } else { Some(made.deployer) },
            keys: source,
            token: TokenEntry { address: inventory.token, decimals: inventory.token_decimals },
            ledger: LedgerEntry {
                address: inventory.ledger.address,
                code_hash: inventory.ledger.code_hash,
                transaction: deployment.transaction.or_else(|| transaction(inventory.ledger.address)),
                start_block: deployment.block.height(),
                provider,
                first_operator,
                response_window_secs,
                halt_window_secs,
                deposit_min_nanos: deposit_min,
                salt: Hash256::from_bytes(inventory.salt),
            },
            factory: contract(inventory.factory),
            book_paths: contract(inventory.book_paths),
            tiers: tiers.collect(),
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// It cannot be read, is not one, or is of another version.
    pub fn read(path: &Path) -> CliResult<Self> {
        #[derive(Deserialize)]
        struct Head {
            manifest_version: u32,
        }
        let wrong = |what: String| CliError::usage("manifest", format!("the manifest {}: {what}", path.display()));
        let bytes = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
        let Head { manifest_version } = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        if manifest_version != VERSION {
            return Err(wrong(format!("it has version {manifest_version}, and this build reads version {VERSION}")));
        }
        serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))
    }

    /// Writes it, complete and synced or not at all.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> CliResult<()> {
        let failed = |error: std::io::Error| CliError::failed("manifest", format!("cannot write {}: {error}", path.display()));
        let mut bytes = serde_json::to_vec_pretty(self).map_err(|error| failed(error.into()))?;
        bytes.push(b'\n');
        let unfinished = path.with_extension("unfinished");
        let write = || {
            let mut file = std::fs::File::create(&unfinished)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            std::fs::rename(&unfinished, path)
        };
        write().map_err(failed)
    }

    /// The contracts with a known transaction: name, address, whom it called, its hash.
    #[must_use]
    pub fn transactions(&self) -> Vec<(String, Address, Address, Hash256)> {
        let proxy = millstream_chain::CREATE2_PROXY;
        let mut all = vec![
            ("ledger".to_owned(), self.ledger.address, self.factory.address, self.ledger.transaction),
            ("ledger factory".to_owned(), self.factory.address, proxy, self.factory.transaction),
            ("book paths".to_owned(), self.book_paths.address, proxy, self.book_paths.transaction),
        ];
        for verifier in self.tiers.iter().flat_map(|tier| [&tier.settle, &tier.register]) {
            all.push((format!("verifier of {}", verifier.circuit), verifier.address, proxy, verifier.transaction));
        }
        all.into_iter().filter_map(|(name, address, to, hash)| Some((name, address, to, hash?))).collect()
    }

    /// What the chain must have, according to it.
    #[must_use]
    pub fn inventory(&self) -> Inventory {
        let verifier =
            |entry: &VerifierEntry| VerifierInventory { address: entry.address, code_hash: entry.code_hash, key_hash: entry.key_hash };
        let contract = |entry: &ContractEntry| Located { address: entry.address, code_hash: entry.code_hash };
        let tier = |tier: &TierEntry| TierInventory {
            slots: tier.slots,
            empty_root: *tier.empty_root.as_bytes(),
            settle: verifier(&tier.settle),
            register: verifier(&tier.register),
        };
        Inventory {
            chain: ChainId::new(self.chain_id),
            token: self.token.address,
            token_decimals: self.token.decimals,
            book_paths: contract(&self.book_paths),
            factory: contract(&self.factory),
            ledger: Located { address: self.ledger.address, code_hash: self.ledger.code_hash },
            tiers: self.tiers.iter().map(tier).collect(),
            terms: LedgerTerms {
                provider: self.ledger.provider,
                first_operator: self.ledger.first_operator,
                response_window_secs: self.ledger.response_window_secs,
                halt_window_secs: self.ledger.halt_window_secs,
                deposit_min: self.ledger.deposit_min_nanos,
            },
            salt: *self.ledger.salt.as_bytes(),
        }
    }

    /// The plan that it says it was made from.
    ///
    /// # Errors
    /// A verifying key has not 22 words.
    pub fn plan(&self) -> CliResult<DeployPlan> {
        let tier = |tier: &TierEntry| {
            let (settle_key, register_key) = (tier.settle.words()?, tier.register.words()?);
            Ok(TierPlan { slots: tier.slots, empty_root: *tier.empty_root.as_bytes(), settle_key, register_key })
        };
        Ok(DeployPlan {
            provenance: self.keys.provenance(),
            provider: self.ledger.provider,
            operator: self.ledger.first_operator,
            response_window_secs: self.ledger.response_window_secs,
            halt_window_secs: self.ledger.halt_window_secs,
            deposit_min: self.ledger.deposit_min_nanos,
            token: TokenChoice::Existing(self.token.address),
            salt: *self.ledger.salt.as_bytes(),
            tiers: self.tiers.iter().map(tier).collect::<CliResult<_>>()?,
        })
    }
}

impl VerifierEntry {
    fn words(&self) -> CliResult<VerifyingKeyWords> {
        let words: Vec<[u8; 32]> = self.verifying_key.iter().map(|word| *word.as_bytes()).collect();
        let count = words.len();
        words
            .try_into()
            .map_err(|_| CliError::usage("manifest", format!("the manifest's verifying key of {} has {count} words, not 22", self.circuit)))
    }

    /// The circuit.
    ///
    /// # Errors
    /// It is none.
    pub fn circuit(&self) -> CliResult<CircuitId> {
        self.circuit.parse().map_err(|_| CliError::usage("manifest", format!("the manifest's {} is no circuit", self.circuit)))
    }
}
