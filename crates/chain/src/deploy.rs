//! Deploying verifiers, a token and a ledger.

use alloy::primitives::U256;
use alloy::sol_types::SolValue;
use millstream_types::{Address, Amount, BlockNumber, ChainId};

use crate::artifacts::Artifact;
use crate::bindings::ILedger;
use crate::{Call, ChainError, Submitter, TxReceipt, convert};

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
            Self::InsecureDevelopment if !chain.is_development() => Err(ChainError::InsecureKeys { chain }),
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
    /// Seconds from a request until it is overdue; below 2^40.
    pub response_window_secs: u64,
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
    /// Its token.
    pub token: Address,
    /// The block of the ledger: an indexer starts here.
    pub block: BlockNumber,
    /// The verifiers of each tier: of `settle-N`, then of `register-N`.
    pub verifiers: Vec<(Address, Address)>,
}

/// Deploys a ledger with its verifiers, and its token where the plan wants a new one. The submitter's account pays the gas and gets no power.
///
/// # Errors
/// [`ChainError::InsecureKeys`] before anything is sent. Final: `DegenerateKey` (spec L-22), `InvalidTier`, `UnsupportedDecimals`,
/// `InvalidProvider`; else as [`Submitter::send`]. What was deployed before a failure stays, unused.
pub async fn deploy(submitter: &Submitter, plan: &DeployPlan) -> Result<Deployment, ChainError> {
    plan.provenance.check(submitter.rpc().chain())?;
    let window = alloy::primitives::aliases::U40::try_from(plan.response_window_secs)
        .map_err(|_| ChainError::invalid("response window", "does not fit 40 bits"))?;
    let deposit_min = plan.deposit_min.to_u64().map_err(|error| ChainError::invalid("minimum deposit", error))?;
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
    let [provider, operator, token_address] = [plan.provider, plan.operator, token].map(convert::evm_address);
    let arguments = (provider, operator, token_address, window, deposit_min, tiers).abi_encode_params();
    let (ledger, receipt) = create(submitter, "deploy Ledger", Artifact::Ledger, &arguments).await?;
    Ok(Deployment { ledger, token, block: receipt.block, verifiers })
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
