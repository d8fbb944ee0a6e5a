//! Deploying verifiers, a token and a ledger.

use alloy::network::TransactionBuilder;
use alloy::primitives::aliases::U40;
use alloy::primitives::{B256, Bytes, U256};
use alloy::providers::Provider;
use alloy::rpc::types::TransactionRequest;
use alloy::sol_types::SolValue;
use millstream_types::{Address, Amount, BlockNumber, ChainId};

use crate::artifacts::Artifact;
use crate::bindings::{ILedger, ILedgerFactory};
use crate::{Call, ChainError, Rpc, Submitter, TxReceipt, convert};

/// The chains that development keys are for (spec L-23).
const DEVELOPMENT_CHAINS: [u64; 2] = [31_337, 1_337];

/// Permit2, at one address on every chain that has it.
pub const PERMIT2: Address = Address::from_bytes([
    0x00, 0x00, 0x00, 0x00, 0x00, 0x22, 0xd4, 0x73, 0x03, 0x0f, 0x11, 0x6d, 0xde, 0xe9, 0xf6, 0xb4, 0x3a, 0xc7, 0x8b, 0xa3,
]);

/// A Groth16 verifying key over BN254 as the verifier's constructor takes it, 22 words of 32 bytes big-endian: alpha (x, y); beta, gamma and
/// delta (x.c1, x.c0, y.c1, y.c0 each); ic0 to ic3 (x, y each).
pub type VerifyingKeyWords = [[u8; 32]; 22];

/// Where verifying keys come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyProvenance {
    /// A ceremony in which at least one contribution was destroyed.
    Ceremony,
    /// A public seed: anyone can forge proofs (spec L-23).
    InsecureDevelopment,
}

impl KeyProvenance {
    /// Refuses development keys on any chain but 31337 and 1337 (spec L-23).
    ///
    /// # Errors
    /// [`ChainError::InsecureKeys`].
    pub fn check(self, chain: ChainId) -> Result<(), ChainError> {
        match self {
            Self::InsecureDevelopment if !DEVELOPMENT_CHAINS.contains(&chain.get()) => Err(ChainError::InsecureKeys { chain }),
            Self::InsecureDevelopment | Self::Ceremony => Ok(()),
        }
    }
}

/// The token of a ledger to be deployed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenChoice {
    /// One that exists.
    Existing(Address),
    /// A new, worthless token that behaves as USDC. For development.
    TestUsdc,
    /// A new, worthless token that behaves as USDT on Ethereum. For development.
    TestUsdt,
}

/// A size of book to deploy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TierPlan {
    /// Slots of a book, N.
    pub slots: u16,
    /// The root of a book of N empty slots: a field element, 32 bytes.
    pub empty_root: [u8; 32],
    /// The key of `settle-N`.
    pub settle_key: VerifyingKeyWords,
    /// The key of `register-N`.
    pub register_key: VerifyingKeyWords,
}

/// A ledger to deploy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeployPlan {
    /// Where the keys of the tiers come from.
    pub provenance: KeyProvenance,
    /// Whom settlements pay.
    pub provider: Address,
    /// Who may settle and register.
    pub operator: Address,
    /// Seconds from a request until it is overdue; at most 30 days.
    pub response_window_secs: u64,
    /// Seconds from a request until its being unserved lets anyone halt the ledger (spec L-25); above the response window, at most 365 days.
    pub halt_window_secs: u64,
    /// What an opening or a top-up must deposit at least (spec L-7); below 2^64 nanos. Zero for no minimum.
    pub deposit_min: Amount,
    /// The token.
    pub token: TokenChoice,
    /// The sizes of book, by tier index; 1 to 256.
    pub tiers: Vec<TierPlan>,
}

/// What was deployed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployment {
    /// The ledger.
    pub ledger: Address,
    /// The factory that made it; it vouches for its code, verifiers and book paths (spec L-29).
    pub factory: Address,
    /// What computes roots from the paths of a leave.
    pub book_paths: Address,
    /// Its token.
    pub token: Address,
    /// The block of the ledger: an indexer starts here.
    pub block: BlockNumber,
    /// The verifiers of each tier: of `settle-N`, then of `register-N`.
    pub verifiers: Vec<(Address, Address)>,
}

/// Deploys the verifiers, the book paths and a factory over them, and through it a ledger; and its token where the plan wants a new one. The
/// submitter's account pays the gas and gets no power.
///
/// # Errors
/// [`ChainError::InsecureKeys`] before anything is sent. Final: `DegenerateKey` (spec L-22), `InvalidTier`, `UnsupportedDecimals`,
/// `InvalidProvider`, `InvalidWindows`; else as [`Submitter::send`]. What was deployed before a failure stays, unused.
pub async fn deploy(submitter: &Submitter, plan: &DeployPlan) -> Result<Deployment, ChainError> {
    plan.provenance.check(submitter.rpc().chain())?;
    let terms = terms(plan)?;
    let token = match plan.token {
        TokenChoice::Existing(token) => token,
        TokenChoice::TestUsdc => create(submitter, "deploy TestUSDC", Artifact::TestUsdc, &[]).await?.0,
        TokenChoice::TestUsdt => create(submitter, "deploy TestUSDT", Artifact::TestUsdt, &[]).await?.0,
    };
    let (mut tiers, mut verifiers) = (Vec::new(), Vec::new());
    for tier in &plan.tiers {
        let settle = deploy_verifier(submitter, &tier.settle_key).await?;
        let register = deploy_verifier(submitter, &tier.register_key).await?;
        verifiers.push((settle, register));
        tiers.push(ILedger::Tier {
            slots: tier.slots,
            emptyRoot: convert::word(tier.empty_root),
            settleVerifier: convert::evm_address(settle),
            registerVerifier: convert::evm_address(register),
        });
    }
    let (book_paths, _) = create(submitter, "deploy BookPaths", Artifact::BookPaths, &[]).await?;
    let arguments = (convert::evm_address(book_paths), tiers).abi_encode_params();
    let (factory, _) = create(submitter, "deploy LedgerFactory", Artifact::LedgerFactory, &arguments).await?;

    let terms = ILedger::Terms { token: convert::evm_address(token), ..terms };
    // One factory makes one ledger here, so nothing has to be told apart by a salt.
    let call = ILedgerFactory::createCall { terms, salt: B256::ZERO };
    let receipt = submitter.send(Call::encode("create ledger", factory, &call)).await?;
    let created = receipt.event::<ILedgerFactory::LedgerCreated>(factory);
    let created = created.ok_or_else(|| ChainError::inconsistent("a ledger was created without its event"))?;
    let ledger = convert::address(created.ledger);
    Ok(Deployment { ledger, factory, book_paths, token, block: receipt.block, verifiers })
}

/// The terms of the plan, but for the token, which may not be there yet.
fn terms(plan: &DeployPlan) -> Result<ILedger::Terms, ChainError> {
    let window = |what, secs| U40::try_from(secs).map_err(|_| ChainError::invalid(what, "does not fit 40 bits"));
    let deposit_min = plan.deposit_min.to_u64().map_err(|error| ChainError::invalid("minimum deposit", error))?;
    Ok(ILedger::Terms {
        provider: convert::evm_address(plan.provider),
        operator: convert::evm_address(plan.operator),
        token: alloy::primitives::Address::ZERO,
        responseWindowSecs: window("response window", plan.response_window_secs)?,
        haltWindowSecs: window("halt window", plan.halt_window_secs)?,
        depositMinNanos: deposit_min,
    })
}

/// Puts an implementation of ours of the part of Permit2 that ledgers use at [`PERMIT2`], where a development chain (anvil) has nothing there.
/// Returns whether it had to.
///
/// # Errors
/// [`ChainError::InvalidInput`] on every chain but 31337 and 1337; [`ChainError::Refused`] by a node that lets nobody set code; or the
/// endpoint is unavailable.
pub async fn place_development_permit2(rpc: &Rpc) -> Result<bool, ChainError> {
    if !DEVELOPMENT_CHAINS.contains(&rpc.chain().get()) {
        return Err(ChainError::invalid("chain", format!("{} is no development chain", rpc.chain())));
    }
    if rpc.has_code(PERMIT2).await? {
        return Ok(false);
    }
    // Running creation code without creating anything returns the code that would be there. It keeps nothing in it, so it works anywhere.
    let creation = TransactionRequest::default().with_deploy_code(Artifact::DevPermit2.creation_code()?);
    let code: Bytes = rpc.ask("eth_call", rpc.provider().call(creation)).await?;
    let set = rpc.provider().raw_request::<_, ()>("anvil_setCode".into(), (convert::evm_address(PERMIT2), code));
    rpc.ask("anvil_setCode", set).await?;
    Ok(true)
}

async fn deploy_verifier(submitter: &Submitter, key: &VerifyingKeyWords) -> Result<Address, ChainError> {
    let arguments = key.map(U256::from_be_bytes).abi_encode();
    create(submitter, "deploy Groth16Verifier", Artifact::Groth16Verifier, &arguments).await.map(|(address, _)| address)
}

async fn create(
    submitter: &Submitter,
    operation: &'static str,
    artifact: Artifact,
    arguments: &[u8],
) -> Result<(Address, TxReceipt), ChainError> {
    let mut code = artifact.creation_code()?;
    code.extend_from_slice(arguments);
    let receipt = submitter.send(Call::create(operation, code)).await?;
    let created = receipt.created.ok_or_else(|| ChainError::inconsistent("a deployment succeeded without an address"))?;
    Ok((created, receipt))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn insecure_keys_are_for_development_chains_only() {
        let check = |provenance: KeyProvenance, chain: u64, allowed: bool| {
            assert_eq!(provenance.check(ChainId::new(chain)).is_ok(), allowed, "{provenance:?} on {chain}");
        };
        for chain in [31_337, 1_337] {
            check(KeyProvenance::InsecureDevelopment, chain, true);
        }
        for chain in [1, 10, 8_453, 84_532, 42_161, 11_155_111, 0] {
            check(KeyProvenance::InsecureDevelopment, chain, false);
            check(KeyProvenance::Ceremony, chain, true);
        }
    }
}
