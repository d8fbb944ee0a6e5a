//! Making what a blueprint says: what is there is left alone, what is missing is sent, and other code in its place ends it.

use std::time::Duration;

use alloy::primitives::keccak256;
use alloy::providers::Provider;
use alloy::rpc::types::{BlockId, Filter};
use alloy::sol_types::SolEvent;
use millstream_types::{Address, BlockNumber, Hash256};

use super::blueprint::{Blueprint, PlannedContract};
use super::{ContractRole, DeployPlan};
use crate::bindings::ILedgerFactory;
use crate::{ChainError, Ledger, Rpc, Submitter, TxReceipt, convert};

/// What is at the address of a planned contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Nothing.
    Missing,
    /// What belongs there, byte for byte.
    There,
    /// Something else, with this keccak-256.
    Foreign(Hash256),
}

/// A transaction of a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentStep {
    /// What it deployed.
    pub role: ContractRole,
    /// Where.
    pub address: Address,
    /// What came of it.
    pub receipt: TxReceipt,
}

/// What was deployed, or was there.
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
    /// The block of the ledger: an indexer starts here. 0, which is before it, of a ledger that was there and of which the endpoint has
    /// neither the log of its creation nor old state.
    pub block: BlockNumber,
    /// The transaction that created the ledger; `None` when the endpoint does not tell it.
    pub transaction: Option<Hash256>,
    /// The verifiers of each tier: of `settle-N`, then of `register-N`.
    pub verifiers: Vec<(Address, Address)>,
    /// What was sent; nothing for what was there.
    pub sent: Vec<SentStep>,
}

/// Deploys the verifiers, the book paths and a factory over them, all through the deterministic deployment proxy, and through the factory a
/// ledger; and a test token where the plan wants one. What is there already is not sent again. The submitter's account pays the gas and gets
/// no power.
///
/// # Errors
/// As [`Blueprint::draw`], before anything is sent, and [`Blueprint::build`].
pub async fn deploy(submitter: &Submitter, plan: &DeployPlan) -> Result<Deployment, ChainError> {
    Blueprint::draw(submitter.rpc(), plan).await?.build(submitter, |_, _| {}).await
}

impl Blueprint {
    /// What is at the address of each contract now, in their order.
    ///
    /// # Errors
    /// The endpoint is unavailable.
    pub async fn survey(&self, rpc: &Rpc) -> Result<Vec<Presence>, ChainError> {
        let mut found = Vec::new();
        for contract in &self.contracts {
            found.push(presence(rpc, contract).await?);
        }
        Ok(found)
    }

    /// Sends what is missing, one after the other, and waits for each. `step` is told what is about to be sent. A run that broke off is gone
    /// on with by running it again, by any account.
    ///
    /// # Errors
    /// [`ChainError::ForeignCode`] for another contract in the place of one, before anything is sent when it is there already. Final:
    /// `UnsupportedDecimals` and whatever else the contracts refuse. Else as [`Submitter::send`].
    pub async fn build(&self, submitter: &Submitter, mut step: impl FnMut(ContractRole, Address)) -> Result<Deployment, ChainError> {
        let rpc = submitter.rpc();
        for (contract, presence) in self.contracts.iter().zip(self.survey(rpc).await?) {
            refuse_foreign(contract, presence)?;
        }
        let mut sent = Vec::new();
        for contract in &self.contracts {
            if let Some(receipt) = ensure(submitter, contract, &mut step).await? {
                sent.push(SentStep { role: contract.role, address: contract.address, receipt });
            }
        }
        let inventory = &self.inventory;
        let ledger = inventory.ledger.address;
        let own = sent.iter().find(|step| step.role == ContractRole::Ledger);
        let (block, transaction) = match own {
            Some(step) => (step.receipt.block, Some(step.receipt.transaction)),
            None => created(rpc, inventory.factory.address, ledger).await?,
        };
        Ok(Deployment {
            ledger,
            factory: inventory.factory.address,
            book_paths: inventory.book_paths.address,
            token: inventory.token,
            block,
            transaction,
            verifiers: inventory.tiers.iter().map(|tier| (tier.settle.address, tier.register.address)).collect(),
            sent,
        })
    }
}

impl Deployment {
    /// Waits until so many blocks, the one of the last transaction included, hold what was sent. Does not wait when nothing was.
    ///
    /// # Errors
    /// [`ChainError::TimedOut`] after `wait_max`; or the endpoint is unavailable.
    pub async fn await_confirmations(
        &self,
        rpc: &Rpc,
        confirmations: u64,
        poll_interval: Duration,
        wait_max: Duration,
    ) -> Result<(), ChainError> {
        let Some(last) = self.sent.iter().map(|step| step.receipt.block.height()).max() else { return Ok(()) };
        let deep = async {
            while rpc.newest().await?.number.saturating_add(1) < last.saturating_add(confirmations) {
                tokio::time::sleep(poll_interval).await;
            }
            Ok(())
        };
        let waited = tokio::time::timeout(wait_max, deep).await;
        waited.unwrap_or(Err(ChainError::TimedOut { operation: "wait for confirmations", after: wait_max }))
    }
}

async fn presence(rpc: &Rpc, contract: &PlannedContract) -> Result<Presence, ChainError> {
    let code = rpc.code(contract.address, BlockId::latest()).await?;
    Ok(match &contract.code {
        _ if code.is_empty() => Presence::Missing,
        Some(expected) if *expected != code => Presence::Foreign(convert::hash(keccak256(&code))),
        Some(_) | None => Presence::There,
    })
}

fn refuse_foreign(contract: &PlannedContract, presence: Presence) -> Result<(), ChainError> {
    match (presence, contract.code_hash()) {
        (Presence::Foreign(actual), Some(expected)) => {
            Err(ChainError::ForeignCode { what: contract.role.to_string(), address: contract.address, expected, actual })
        }
        _ => Ok(()),
    }
}

/// Sends a contract unless it is there.
async fn ensure(
    submitter: &Submitter,
    contract: &PlannedContract,
    step: &mut impl FnMut(ContractRole, Address),
) -> Result<Option<TxReceipt>, ChainError> {
    let look = async || {
        let found = presence(submitter.rpc(), contract).await?;
        refuse_foreign(contract, found)?;
        Ok::<_, ChainError>(found == Presence::There)
    };
    if look().await? {
        return Ok(None);
    }
    step(contract.role, contract.address);
    match submitter.send(contract.call()).await {
        // An earlier run's transaction, or somebody with the same plan, was faster.
        Err(error @ ChainError::Reverted { .. }) => {
            if look().await? {
                Ok(None)
            } else {
                Err(error)
            }
        }
        sent => sent.map(Some),
    }
}

/// When a ledger was created, and by which transaction: from the factory's log, else from where its code begins.
async fn created(rpc: &Rpc, factory: Address, ledger: Address) -> Result<(BlockNumber, Option<Hash256>), ChainError> {
    let filter = Filter::new()
        .address(convert::evm_address(factory))
        .event_signature(ILedgerFactory::LedgerCreated::SIGNATURE_HASH)
        .topic1(convert::evm_address(ledger).into_word())
        .from_block(0u64);
    // Many endpoints refuse so long a range; then the other way is open.
    if let Ok(logs) = rpc.attempt(rpc.provider().get_logs(&filter)).await
        && let Some(log) = logs.first()
        && let (Some(block), Some(transaction)) = (log.block_number, log.transaction_hash)
    {
        return Ok((convert::block(block), Some(convert::hash(transaction))));
    }
    let block = Ledger::attach(rpc.clone(), ledger).await?.deployed_at().await?;
    Ok((block.unwrap_or(BlockNumber::new(0)), None))
}
