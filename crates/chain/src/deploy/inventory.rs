//! What a chain must have where a deployment is, and in what it differs.

use std::fmt::Display;

use alloy::primitives::aliases::U40;
use alloy::primitives::{U256, keccak256};
use alloy::providers::Provider;
use alloy::rpc::types::{BlockId, BlockNumberOrTag};
use alloy::sol_types::SolCall;
use millstream_types::{Address, Amount, BlockNumber, ChainId, Hash256};

use super::ContractRole;
use crate::bindings::{IBookPaths, ILedger, ILedgerFactory, IToken, IVerifier};
use crate::{ChainError, Rpc, SlotPath, convert};

/// A contract with its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Located {
    /// Where it is.
    pub address: Address,
    /// Keccak-256 of its code.
    pub code_hash: Hash256,
}

/// A verifier with its code and key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifierInventory {
    /// Where it is.
    pub address: Address,
    /// Keccak-256 of its code.
    pub code_hash: Hash256,
    /// What it answers as `keyHash`.
    pub key_hash: Hash256,
}

/// A size of book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TierInventory {
    /// Slots of a book, N.
    pub slots: u16,
    /// The root of a book of N empty slots: a field element, 32 bytes.
    pub empty_root: [u8; 32],
    /// The verifier of `settle-N`.
    pub settle: VerifierInventory,
    /// The verifier of `register-N`.
    pub register: VerifierInventory,
}

/// The terms of a ledger, which never change, its token aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerTerms {
    /// Whom settlements pay.
    pub provider: Address,
    /// Who may settle and register first; part of the ledger's address. The provider may have named another since.
    pub first_operator: Address,
    /// Seconds from a request until it is overdue.
    pub response_window_secs: u64,
    /// Seconds from a request until its being unserved lets anyone halt the ledger.
    pub halt_window_secs: u64,
    /// What an opening or a top-up must deposit at least, in nanos.
    pub deposit_min: Amount,
}

/// What a deployment consists of, as the chain must answer it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inventory {
    /// The chain.
    pub chain: ChainId,
    /// The token.
    pub token: Address,
    /// Its decimals.
    pub token_decimals: u8,
    /// What computes roots from the paths of a leave.
    pub book_paths: Located,
    /// The factory.
    pub factory: Located,
    /// The ledger.
    pub ledger: Located,
    /// The sizes of book, by tier index.
    pub tiers: Vec<TierInventory>,
    /// The ledger's terms.
    pub terms: LedgerTerms,
    /// Its salt.
    pub salt: [u8; 32],
}

/// Something that the chain has differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What of which contract.
    pub subject: String,
    /// What should be there.
    pub expected: String,
    /// What is there.
    pub actual: String,
}

/// A chain, compared with an inventory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// The block whose state was read.
    pub block: BlockNumber,
    /// Its hash.
    pub block_hash: Hash256,
    /// Everything that differs.
    pub differences: Vec<Difference>,
    /// Who may settle now, which may change; `None` when the ledger does not answer.
    pub operator: Option<Address>,
    /// Whether the ledger is halted; `None` when it does not answer.
    pub halted: Option<bool>,
}

/// A path whose root is known, to see whether book paths compute as they should: every constant of theirs is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownPath {
    /// Slots of the book.
    pub slots: u16,
    /// The path of one of its channels.
    pub path: SlotPath,
    /// The book's root.
    pub root: [u8; 32],
}

impl Inventory {
    /// Each contract with its code, the token aside.
    fn located(&self) -> Vec<(ContractRole, Located)> {
        let mut all = Vec::new();
        for tier in &self.tiers {
            let slots = tier.slots;
            let verifiers =
                [(ContractRole::SettleVerifier { slots }, tier.settle), (ContractRole::RegisterVerifier { slots }, tier.register)];
            all.extend(verifiers.map(|(role, VerifierInventory { address, code_hash, .. })| (role, Located { address, code_hash })));
        }
        all.extend([
            (ContractRole::BookPaths, self.book_paths),
            (ContractRole::Factory, self.factory),
            (ContractRole::Ledger, self.ledger),
        ]);
        all
    }

    /// Reads everything back, all of it at the newest block: code, keys, terms, tiers, and what the contracts say of each other.
    ///
    /// # Errors
    /// The endpoint is unavailable. What a contract does not answer is a difference and no error.
    pub async fn compare(&self, rpc: &Rpc, known_path: &KnownPath) -> Result<Comparison, ChainError> {
        let newest = rpc.newest().await?;
        let mut differences = Vec::new();
        differ(&mut differences, "chain id", self.chain, rpc.chain());
        let mut reader = Reader { rpc, at: BlockId::hash(newest.hash), differences };
        for (role, located) in self.located() {
            reader.code(&role.to_string(), located).await?;
        }
        for tier in &self.tiers {
            let slots = tier.slots;
            reader.key(ContractRole::SettleVerifier { slots }, tier.settle).await?;
            reader.key(ContractRole::RegisterVerifier { slots }, tier.register).await?;
        }
        reader.book_paths(self.book_paths.address, known_path).await?;
        reader.factory(self).await?;
        reader.terms(self).await?;
        let decimals = reader.read("token: decimals", self.token, &IToken::decimalsCall {}).await?;
        reader.expect("token: decimals", self.token_decimals, decimals);
        let operator = reader.read("ledger: operator", self.ledger.address, &ILedger::operatorCall {}).await?;
        let halted = reader.read("ledger: halted", self.ledger.address, &ILedger::haltedCall {}).await?;
        Ok(Comparison {
            block: convert::block(newest.number),
            block_hash: convert::hash(newest.hash),
            differences: reader.differences,
            operator: operator.map(convert::address),
            halted,
        })
    }
}

/// Notes a difference, if there is one.
fn differ(differences: &mut Vec<Difference>, subject: &str, expected: impl Display, actual: impl Display) {
    let (expected, actual) = (expected.to_string(), actual.to_string());
    if expected != actual {
        differences.push(Difference { subject: subject.to_owned(), expected, actual });
    }
}

/// Reads a block's state and collects what differs.
struct Reader<'a> {
    rpc: &'a Rpc,
    at: BlockId,
    differences: Vec<Difference>,
}

impl Reader<'_> {
    /// Nothing was read where the contract gave no answer, which is noted already.
    fn expect(&mut self, subject: &str, expected: impl Display, actual: Option<impl Display>) {
        if let Some(actual) = actual {
            differ(&mut self.differences, subject, expected, actual);
        }
    }

    /// What a contract answers; that it does not is a difference.
    async fn read<C: SolCall>(&mut self, subject: &str, to: Address, call: &C) -> Result<Option<C::Return>, ChainError> {
        match self.rpc.view_at("read a deployment", to, call, self.at).await {
            Ok(answer) => Ok(Some(answer)),
            Err(ChainError::Reverted { .. } | ChainError::Unrepresentable { .. }) => {
                differ(&mut self.differences, subject, "an answer", format!("none from {to}"));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn code(&mut self, name: &str, located: Located) -> Result<(), ChainError> {
        let code = self.rpc.code(located.address, self.at).await?;
        let actual = if code.is_empty() { "no code".to_owned() } else { convert::hash(keccak256(&code)).to_string() };
        differ(&mut self.differences, &format!("{name}: code at {}", located.address), located.code_hash, actual);
        Ok(())
    }

    async fn key(&mut self, role: ContractRole, verifier: VerifierInventory) -> Result<(), ChainError> {
        let subject = format!("{role}: key hash");
        let hash = self.read(&subject, verifier.address, &IVerifier::keyHashCall {}).await?;
        self.expect(&subject, verifier.key_hash, hash.map(convert::hash));
        Ok(())
    }

    /// Their tables are contracts of their own; a root that they compute has every constant in it.
    async fn book_paths(&mut self, at: Address, known: &KnownPath) -> Result<(), ChainError> {
        let subject = "book paths: root of a known path";
        let call = IBookPaths::rootCall { slots: known.slots, path: known.path.to_abi() };
        let root = self.read(subject, at, &call).await?;
        self.expect(subject, Hash256::from_bytes(known.root), root.map(|root| Hash256::from_bytes(convert::bytes(root))));
        Ok(())
    }

    async fn factory(&mut self, inventory: &Inventory) -> Result<(), ChainError> {
        let at = inventory.factory.address;
        let paths = self.read("ledger factory: book paths", at, &ILedgerFactory::BOOK_PATHSCall {}).await?;
        self.expect("ledger factory: book paths", inventory.book_paths.address, paths.map(convert::address));
        let count = self.read("ledger factory: tiers", at, &ILedgerFactory::tierCountCall {}).await?;
        self.expect("ledger factory: tiers", inventory.tiers.len(), count);
        for (index, tier) in inventory.tiers.iter().enumerate() {
            let subject = format!("ledger factory: tier {index}");
            let answer = self.read(&subject, at, &ILedgerFactory::tierCall { index: U256::from(index) }).await?;
            self.expect(&subject, tier_text(&planned_tier(tier)), answer.map(|tier| tier_text(&tier)));
        }
        let made = ILedgerFactory::isLedgerCall { ledger: convert::evm_address(inventory.ledger.address) };
        let is_ledger = self.read("ledger factory: isLedger of the ledger", at, &made).await?;
        self.expect("ledger factory: isLedger of the ledger", true, is_ledger);
        let deposit_min = inventory.terms.deposit_min.to_u64().map_err(|error| ChainError::invalid("minimum deposit", error))?;
        let window = |what, secs: u64| U40::try_from(secs).map_err(|_| ChainError::invalid(what, "does not fit 40 bits"));
        let terms = ILedger::Terms {
            provider: convert::evm_address(inventory.terms.provider),
            operator: convert::evm_address(inventory.terms.first_operator),
            token: convert::evm_address(inventory.token),
            responseWindowSecs: window("response window", inventory.terms.response_window_secs)?,
            haltWindowSecs: window("halt window", inventory.terms.halt_window_secs)?,
            depositMinNanos: deposit_min,
        };
        // It hashes the ledger's creation code as the factory stores it, with terms, first operator and salt.
        let subject = "ledger factory: address of these terms and salt";
        let predicted = self.read(subject, at, &ILedgerFactory::predictCall { terms, salt: inventory.salt.into() }).await?;
        self.expect(subject, inventory.ledger.address, predicted.map(convert::address));
        Ok(())
    }

    async fn terms(&mut self, inventory: &Inventory) -> Result<(), ChainError> {
        let (at, terms) = (inventory.ledger.address, inventory.terms);
        let provider = self.read("ledger: provider", at, &ILedger::PROVIDERCall {}).await?;
        self.expect("ledger: provider", terms.provider, provider.map(convert::address));
        let token = self.read("ledger: token", at, &ILedger::TOKENCall {}).await?;
        self.expect("ledger: token", inventory.token, token.map(convert::address));
        let window = self.read("ledger: response window", at, &ILedger::RESPONSE_WINDOWCall {}).await?;
        self.expect("ledger: response window", terms.response_window_secs, window);
        let window = self.read("ledger: halt window", at, &ILedger::HALT_WINDOWCall {}).await?;
        self.expect("ledger: halt window", terms.halt_window_secs, window);
        let least = self.read("ledger: minimum deposit", at, &ILedger::DEPOSIT_MIN_NANOSCall {}).await?;
        self.expect("ledger: minimum deposit", terms.deposit_min.units(), least);
        let paths = self.read("ledger: book paths", at, &ILedger::BOOK_PATHSCall {}).await?;
        self.expect("ledger: book paths", inventory.book_paths.address, paths.map(convert::address));
        let count = self.read("ledger: tiers", at, &ILedger::tierCountCall {}).await?;
        self.expect("ledger: tiers", inventory.tiers.len(), count);
        // An index has eight bits, and a ledger at most 256 tiers.
        for (index, tier) in (0..=u8::MAX).zip(&inventory.tiers) {
            let subject = format!("ledger: tier {index}");
            let answer = self.read(&subject, at, &ILedger::tierCall { index }).await?;
            self.expect(&subject, tier_text(&planned_tier(tier)), answer.map(|tier| tier_text(&tier)));
        }
        Ok(())
    }
}

fn planned_tier(tier: &TierInventory) -> ILedger::Tier {
    ILedger::Tier {
        slots: tier.slots,
        emptyRoot: convert::word(tier.empty_root),
        settleVerifier: convert::evm_address(tier.settle.address),
        registerVerifier: convert::evm_address(tier.register.address),
    }
}

fn tier_text(tier: &ILedger::Tier) -> String {
    let root = Hash256::from_bytes(convert::bytes(tier.emptyRoot));
    let [settle, register] = [tier.settleVerifier, tier.registerVerifier].map(convert::address);
    format!("{} slots, empty root {root}, verifiers {settle} and {register}", tier.slots)
}

/// What the chain says of a transaction of a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinedTransaction {
    /// Who sent it.
    pub from: Address,
    /// Whom it called; `None` for a creation.
    pub to: Option<Address>,
    /// The block that it is in.
    pub block: BlockNumber,
    /// Whether it succeeded.
    pub succeeded: bool,
}

/// Looks a mined transaction up; `None` when the endpoint does not have it, or not any more.
///
/// # Errors
/// The endpoint is unavailable.
pub async fn mined_transaction(rpc: &Rpc, transaction: Hash256) -> Result<Option<MinedTransaction>, ChainError> {
    let call = rpc.provider().get_transaction_receipt(convert::evm_hash(transaction));
    let receipt = rpc.ask("eth_getTransactionReceipt", call).await?;
    Ok(receipt.and_then(|receipt| {
        Some(MinedTransaction {
            from: convert::address(receipt.from),
            to: receipt.to.map(convert::address),
            block: convert::block(receipt.block_number?),
            succeeded: receipt.status(),
        })
    }))
}

/// The hash of a block; `None` when the chain has none of that number.
///
/// # Errors
/// The endpoint is unavailable.
pub async fn block_hash(rpc: &Rpc, block: BlockNumber) -> Result<Option<Hash256>, ChainError> {
    let header = rpc.header(BlockNumberOrTag::Number(block.height())).await?;
    Ok(header.map(|header| convert::hash(header.hash)))
}
