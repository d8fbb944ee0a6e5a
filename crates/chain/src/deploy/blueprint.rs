//! Everything about a deployment that is known before anything is sent: addresses, code, and what has to be sent.
//!
//! The deterministic proxy deploys by CREATE2, and so does the factory, so an address follows from what is deployed and from nothing else:
//! no account, no nonce, no order. The code that a creation leaves follows from the committed artefacts and the constructor's arguments.

use std::fmt;

use alloy::primitives::{Address as EvmAddress, B256, Bytes, U256, keccak256};
use alloy::sol_types::{SolCall, SolValue};
use millstream_types::{Address, AssetUnit, ChainId, Hash256};

use super::plan::{DeployPlan, TierPlan, TokenChoice, VerifyingKeyWords, unit};
use super::proxy::{self, CREATE2_PROXY};
use super::{Inventory, LedgerTerms, Located, TierInventory, VerifierInventory};
use crate::artifacts::Artifact;
use crate::bindings::{ILedger, ILedgerFactory, IToken};
use crate::{Call, ChainError, Rpc, convert};

/// Bytes of each of the two contracts that hold the tables of the book paths; the tables end the creation code.
const TABLE_BYTES: usize = 20_769;

/// What a contract of a deployment is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContractRole {
    /// A test token.
    Token,
    /// The verifier of `settle-N`.
    SettleVerifier {
        /// Slots of a book, N.
        slots: u16,
    },
    /// The verifier of `register-N`.
    RegisterVerifier {
        /// Slots of a book, N.
        slots: u16,
    },
    /// What computes roots from the paths of a leave.
    BookPaths,
    /// The factory over them.
    Factory,
    /// The ledger.
    Ledger,
}

impl fmt::Display for ContractRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token => f.write_str("test token"),
            Self::SettleVerifier { slots } => write!(f, "verifier of settle-{slots}"),
            Self::RegisterVerifier { slots } => write!(f, "verifier of register-{slots}"),
            Self::BookPaths => f.write_str("book paths"),
            Self::Factory => f.write_str("ledger factory"),
            Self::Ledger => f.write_str("ledger"),
        }
    }
}

impl ContractRole {
    /// How a deployment of it is called in messages.
    pub(super) const fn operation(self) -> &'static str {
        match self {
            Self::Token => "deploy the test token",
            Self::SettleVerifier { .. } | Self::RegisterVerifier { .. } => "deploy Groth16Verifier",
            Self::BookPaths => "deploy BookPaths",
            Self::Factory => "deploy LedgerFactory",
            Self::Ledger => "create ledger",
        }
    }
}

/// One contract of a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedContract {
    /// What it is for; of several uses of one contract, the first.
    pub role: ContractRole,
    /// Where it is or will be.
    pub address: Address,
    /// Its code; `None` for a test token, of which only the address, which commits to its creation code, is known.
    pub(super) code: Option<Bytes>,
    /// Where to send the input that deploys it.
    pub(super) to: Address,
    /// That input.
    pub(super) input: Bytes,
}

impl PlannedContract {
    /// Keccak-256 of its code; `None` for a test token.
    #[must_use]
    pub fn code_hash(&self) -> Option<Hash256> {
        self.code.as_ref().map(|code| hash_of(code))
    }

    pub(super) fn call(&self) -> Call {
        Call::new(self.role.operation(), self.to, self.input.to_vec())
    }

    fn by_proxy(role: ContractRole, creation: &[u8], code: Option<Vec<u8>>) -> Self {
        let (address, input) = (proxy::address(creation), proxy::input(creation));
        Self { role, address, code: code.map(Into::into), to: CREATE2_PROXY, input }
    }
}

/// A deployment, worked out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blueprint {
    /// The chain.
    pub chain: ChainId,
    /// The contracts, each once, in the order in which they are deployed; the ledger is the last.
    pub contracts: Vec<PlannedContract>,
    /// What the chain must have when all of it is there.
    pub inventory: Inventory,
    pub(super) tiers: Vec<ILedger::Tier>,
    /// What else its contracts consist of: contracts that hold data, made by the constructors.
    pub(super) stores: Vec<(ContractRole, Address, Bytes)>,
}

impl Blueprint {
    /// Works a plan out, after checking it, the deployment proxy and the token. Sends nothing.
    ///
    /// # Errors
    /// As [`DeployPlan::check`], before the chain is asked; [`ChainError::NoCreate2Proxy`]; [`ChainError::ForeignCode`] for another contract
    /// in its place; [`ChainError::NoContract`] for a token that is not there; [`ChainError::InvalidInput`] for one that answers no decimals,
    /// or more than 27; or the endpoint is unavailable.
    pub async fn draw(rpc: &Rpc, plan: &DeployPlan) -> Result<Self, ChainError> {
        plan.check(rpc.chain())?;
        proxy::check(rpc).await?;
        let decimals = match (plan.token, plan.token.known_decimals()) {
            (_, Some(decimals)) => decimals,
            (TokenChoice::Existing(token), None) => token_decimals(rpc, token).await?,
            (TokenChoice::TestUsdc | TokenChoice::TestUsdt, None) => {
                return Err(ChainError::Internal { detail: "the decimals of a test token are not known".to_owned() });
            }
        };
        Self::new(rpc.chain(), plan, decimals)
    }

    /// The contracts that hold nothing but data, made by the constructors of the others: address and code.
    pub fn stores(&self) -> impl Iterator<Item = (Address, &[u8])> {
        self.stores.iter().map(|(_, address, code)| (*address, &code[..]))
    }

    /// Works a plan out for a token of so many decimals. Asks nobody, and checks nothing but the decimals.
    ///
    /// # Errors
    /// [`ChainError::InvalidInput`].
    pub fn new(chain: ChainId, plan: &DeployPlan, token_decimals: u8) -> Result<Self, ChainError> {
        let unit = unit(token_decimals)?;
        let mut contracts = Vec::new();
        let token = match plan.token {
            TokenChoice::Existing(token) => token,
            TokenChoice::TestUsdc => test_token(&mut contracts, Artifact::TestUsdc)?,
            TokenChoice::TestUsdt => test_token(&mut contracts, Artifact::TestUsdt)?,
        };
        let (mut tiers, mut tier_inventories) = (Vec::new(), Vec::new());
        for tier in &plan.tiers {
            let (planned, inventory) = plan_tier(&mut contracts, tier)?;
            tiers.push(planned);
            tier_inventories.push(inventory);
        }
        let mut stores = Vec::new();
        let book_paths = plan_book_paths(&mut stores)?;
        let factory = plan_factory(&book_paths, &tiers, &mut stores)?;
        let terms = plan.terms(token)?;
        let ledger = plan_ledger(&factory, &book_paths, &tiers, &terms, unit, plan.salt)?;
        let inventory = Inventory {
            chain,
            token,
            token_decimals,
            book_paths: located(&book_paths),
            factory: located(&factory),
            ledger: located(&ledger),
            tiers: tier_inventories,
            terms: LedgerTerms {
                provider: plan.provider,
                first_operator: plan.operator,
                response_window_secs: plan.response_window_secs,
                halt_window_secs: plan.halt_window_secs,
                deposit_min: plan.deposit_min,
            },
            salt: plan.salt,
        };
        contracts.extend([book_paths, factory, ledger]);
        Ok(Self { chain, contracts, inventory, tiers, stores })
    }
}

/// The decimals of a token that must be there.
async fn token_decimals(rpc: &Rpc, token: Address) -> Result<u8, ChainError> {
    if !rpc.has_code(token).await? {
        return Err(ChainError::NoContract { address: token, chain: rpc.chain() });
    }
    match rpc.view("decimals", token, &IToken::decimalsCall {}).await {
        Err(ChainError::Unrepresentable { .. } | ChainError::Reverted { .. }) => {
            Err(ChainError::invalid("token", format!("{token} answers no decimals: it is no ERC-20 token that a ledger takes")))
        }
        decimals => decimals,
    }
}

fn test_token(contracts: &mut Vec<PlannedContract>, artifact: Artifact) -> Result<Address, ChainError> {
    let token = PlannedContract::by_proxy(ContractRole::Token, &artifact.creation_code()?, None);
    let address = token.address;
    contracts.push(token);
    Ok(address)
}

fn plan_tier(contracts: &mut Vec<PlannedContract>, tier: &TierPlan) -> Result<(ILedger::Tier, TierInventory), ChainError> {
    let slots = tier.slots;
    let mut plan = |role, key: &VerifyingKeyWords| {
        let contract = verifier(role, key)?;
        let Located { address, code_hash } = located(&contract);
        // One key is one contract, whatever uses it.
        if contracts.iter().all(|known| known.address != address) {
            contracts.push(contract);
        }
        Ok::<_, ChainError>(VerifierInventory { address, code_hash, key_hash: hash_of(key.as_flattened()) })
    };
    let settle = plan(ContractRole::SettleVerifier { slots }, &tier.settle_key)?;
    let register = plan(ContractRole::RegisterVerifier { slots }, &tier.register_key)?;
    let abi = ILedger::Tier {
        slots,
        emptyRoot: convert::word(tier.empty_root),
        settleVerifier: convert::evm_address(settle.address),
        registerVerifier: convert::evm_address(register.address),
    };
    Ok((abi, TierInventory { slots, empty_root: tier.empty_root, settle, register }))
}

fn verifier(role: ContractRole, key: &VerifyingKeyWords) -> Result<PlannedContract, ChainError> {
    let creation = with_arguments(Artifact::Groth16Verifier, &key.map(U256::from_be_bytes).abi_encode())?;
    let mut immutables = key.to_vec();
    immutables.push(*hash_of(key.as_flattened()).as_bytes());
    Ok(PlannedContract::by_proxy(role, &creation, Some(Artifact::Groth16Verifier.runtime_code(&immutables)?)))
}

fn plan_book_paths(stores: &mut Vec<(ContractRole, Address, Bytes)>) -> Result<PlannedContract, ChainError> {
    let creation = Artifact::BookPaths.creation_code()?;
    let address = proxy::address(&creation);
    let (rest, second) = split_end(&creation)?;
    let (_, first) = split_end(rest)?;
    let mut immutables = Vec::new();
    for (nonce, table) in [(1, first), (2, second)] {
        let at = made_by(address, nonce);
        immutables.push(word_of(at));
        stores.push((ContractRole::BookPaths, at, table.to_vec().into()));
    }
    Ok(PlannedContract::by_proxy(ContractRole::BookPaths, &creation, Some(Artifact::BookPaths.runtime_code(&immutables)?)))
}

fn split_end(creation: &[u8]) -> Result<(&[u8], &[u8]), ChainError> {
    let at = creation.len().checked_sub(TABLE_BYTES);
    at.map(|at| creation.split_at(at))
        .ok_or_else(|| ChainError::Internal { detail: "the book paths have no tables".to_owned() })
}

fn plan_factory(
    book_paths: &PlannedContract,
    tiers: &[ILedger::Tier],
    stores: &mut Vec<(ContractRole, Address, Bytes)>,
) -> Result<PlannedContract, ChainError> {
    let arguments = (convert::evm_address(book_paths.address), tiers.to_vec()).abi_encode_params();
    let creation = with_arguments(Artifact::LedgerFactory, &arguments)?;
    let address = proxy::address(&creation);
    let ledger = Artifact::Ledger.creation_code()?;
    let (first, second) = ledger.split_at(ledger.len() / 2);
    let mut immutables = vec![word_of(book_paths.address), *hash_of(&ledger).as_bytes()];
    for (nonce, half) in [(1, first), (2, second)] {
        let at = made_by(address, nonce);
        immutables.push(word_of(at));
        stores.push((ContractRole::Factory, at, [&[0], half].concat().into()));
    }
    Ok(PlannedContract::by_proxy(ContractRole::Factory, &creation, Some(Artifact::LedgerFactory.runtime_code(&immutables)?)))
}

fn plan_ledger(
    factory: &PlannedContract,
    book_paths: &PlannedContract,
    tiers: &[ILedger::Tier],
    terms: &ILedger::Terms,
    unit: AssetUnit,
    salt: [u8; 32],
) -> Result<PlannedContract, ChainError> {
    let paths = convert::evm_address(book_paths.address);
    let creation = with_arguments(Artifact::Ledger, &(terms.clone(), paths, tiers.to_vec()).abi_encode_params())?;
    let salt = B256::new(salt);
    let address = convert::address(convert::evm_address(factory.address).create2(salt, keccak256(&creation)));
    let tier_count = U256::from(tiers.len());
    let immutables = [
        terms.provider.into_word(),
        terms.token.into_word(),
        paths.into_word(),
        U256::from(terms.responseWindowSecs).into(),
        U256::from(terms.haltWindowSecs).into(),
        U256::from(terms.depositMinNanos).into(),
        U256::from(nanos_per_base_unit(unit)).into(),
        U256::from(base_units_per_nano(unit)).into(),
        tier_count.into(),
    ];
    let code = Artifact::Ledger.runtime_code(&immutables.map(|word: B256| word.0))?;
    let input = ILedgerFactory::createCall { terms: terms.clone(), salt }.abi_encode();
    Ok(PlannedContract { role: ContractRole::Ledger, address, code: Some(code.into()), to: factory.address, input: input.into() })
}

/// Zero when a base unit is less than a nano (spec L-1).
fn nanos_per_base_unit(unit: AssetUnit) -> u128 {
    9u32.checked_sub(u32::from(unit.decimals())).map_or(0, |zeros| 10u128.pow(zeros))
}

/// Zero when a nano is less than a base unit (spec L-1).
fn base_units_per_nano(unit: AssetUnit) -> u128 {
    // At most 27 decimals: 18 zeros.
    u32::from(unit.decimals()).checked_sub(9).map_or(0, |zeros| 10u128.pow(zeros))
}

fn with_arguments(artifact: Artifact, arguments: &[u8]) -> Result<Vec<u8>, ChainError> {
    let mut creation = artifact.creation_code()?;
    creation.extend_from_slice(arguments);
    Ok(creation)
}

/// The address of what a contract makes in its constructor, counted from 1.
fn made_by(maker: Address, nonce: u64) -> Address {
    convert::address(convert::evm_address(maker).create(nonce))
}

fn word_of(address: Address) -> [u8; 32] {
    EvmAddress::into_word(&convert::evm_address(address)).0
}

fn hash_of(bytes: &[u8]) -> Hash256 {
    convert::hash(keccak256(bytes))
}

fn located(contract: &PlannedContract) -> Located {
    // What is deployed through here has known code, test tokens aside, which are not located.
    Located { address: contract.address, code_hash: contract.code_hash().unwrap_or_else(|| hash_of(&[])) }
}
