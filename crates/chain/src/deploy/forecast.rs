//! What a deployment would do and cost, by simulation: nothing is sent.
//!
//! Each contract but the ledger is independent of the others, so its deployment is simulated as it would be sent. The ledger's needs those
//! before it; where they are missing, the simulation assumes them (state overrides), with the very code and storage that they will have.

use alloy::network::TransactionBuilder;
use alloy::primitives::{B256, Bytes, U256, keccak256};
use alloy::providers::Provider;
use alloy::rpc::types::TransactionRequest;
use alloy::rpc::types::state::{AccountOverride, StateOverride};
use alloy::sol_types::SolValue;
use millstream_types::Address;

use super::ContractRole;
use super::blueprint::{Blueprint, PlannedContract};
use super::build::Presence;
use crate::{ChainError, Rpc, coin_balance, convert};

/// Where the factory has its tiers: the length of the array, whose elements start at the slot's hash (four slots each).
const TIERS_SLOT: U256 = U256::ZERO;
const TIER_SLOTS: usize = 4;

/// How a step was simulated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Simulation {
    /// Not at all: it is there already.
    Unneeded,
    /// On the chain as it is.
    AsIs,
    /// On the chain with the missing contracts before it assumed.
    Assumed,
    /// Not at all, for this reason.
    Impossible(String),
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepForecast {
    /// What it deploys.
    pub role: ContractRole,
    /// Where.
    pub address: Address,
    /// What is there now.
    pub presence: Presence,
    /// How it was simulated.
    pub simulation: Simulation,
    /// The gas that it would use; `None` when it needs none, or was not simulated.
    pub gas: Option<u64>,
}

/// What a deployment would do and cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// The steps, in their order.
    pub steps: Vec<StepForecast>,
    /// What a unit of gas costs now, in wei: the base fee of the newest block and the usual priority fee.
    pub gas_price_wei: u128,
    /// What the sender has, in wei.
    pub balance_wei: u128,
}

impl Forecast {
    /// The gas of all steps that could be simulated.
    #[must_use]
    pub fn gas(&self) -> u64 {
        self.steps.iter().filter_map(|step| step.gas).fold(0, u64::saturating_add)
    }

    /// What that costs at the present price, in wei.
    #[must_use]
    pub fn cost_wei(&self) -> u128 {
        u128::from(self.gas()).saturating_mul(self.gas_price_wei)
    }

    /// Whether something has to be sent.
    #[must_use]
    pub fn sends_something(&self) -> bool {
        self.steps.iter().any(|step| step.presence == Presence::Missing)
    }
}

impl Blueprint {
    /// Simulates what `from` would send.
    ///
    /// # Errors
    /// [`ChainError::ForeignCode`]; [`ChainError::Reverted`] for a step that would be refused; [`ChainError::Inconsistent`] for one that
    /// would end elsewhere; or the endpoint is unavailable.
    pub async fn forecast(&self, rpc: &Rpc, from: Address) -> Result<Forecast, ChainError> {
        let found = self.survey(rpc).await?;
        let mut steps = Vec::new();
        for (contract, presence) in self.contracts.iter().zip(&found) {
            let (simulation, gas) = match presence {
                Presence::There => (Simulation::Unneeded, None),
                Presence::Missing => self.simulate(rpc, from, contract, &found).await?,
                Presence::Foreign(actual) => {
                    let expected = contract.code_hash().unwrap_or(*actual);
                    let (what, address) = (contract.role.to_string(), contract.address);
                    return Err(ChainError::ForeignCode { what, address, expected, actual: *actual });
                }
            };
            steps.push(StepForecast { role: contract.role, address: contract.address, presence: *presence, simulation, gas });
        }
        Ok(Forecast { steps, gas_price_wei: gas_price(rpc).await?, balance_wei: coin_balance(rpc, from).await? })
    }

    async fn simulate(
        &self,
        rpc: &Rpc,
        from: Address,
        contract: &PlannedContract,
        found: &[Presence],
    ) -> Result<(Simulation, Option<u64>), ChainError> {
        let assumed = if contract.role == ContractRole::Ledger { self.assumed(found) } else { StateOverride::default() };
        let how = if assumed.is_empty() { Simulation::AsIs } else { Simulation::Assumed };
        let operation = contract.role.operation();
        let request = TransactionRequest::default()
            .with_from(convert::evm_address(from))
            .with_to(convert::evm_address(contract.to))
            .with_input(contract.input.clone());
        let call = rpc.provider().call(request.clone()).overrides_opt((!assumed.is_empty()).then(|| assumed.clone()));
        let impossible = |reason: &str| Ok((Simulation::Impossible(reason.to_owned()), None));
        let answer = match rpc.ask(operation, call).await {
            Err(ChainError::Refused { .. }) if how == Simulation::Assumed => {
                return impossible("the endpoint takes no state overrides, and the contracts before it are missing");
            }
            answer => answer?,
        };
        if answer.is_empty() && how == Simulation::Assumed {
            return impossible("the endpoint ignores state overrides, and the contracts before it are missing");
        }
        // The proxy answers the 20 bytes of an address, the factory a word.
        if answer.get(answer.len().saturating_sub(20)..) != Some(contract.address.as_bytes().as_slice()) {
            let detail = format!("{operation} was simulated and did not end at {}", contract.address);
            return Err(ChainError::inconsistent(detail));
        }
        let estimate = rpc.provider().estimate_gas(request).overrides_opt((!assumed.is_empty()).then_some(assumed));
        match rpc.ask(operation, estimate).await {
            Err(ChainError::Refused { .. } | ChainError::Reverted { .. }) if how == Simulation::Assumed => Ok((how, None)),
            gas => Ok((how, Some(gas?))),
        }
    }

    /// The contracts that are missing, as they will be.
    fn assumed(&self, found: &[Presence]) -> StateOverride {
        let mut assumed = StateOverride::default();
        let missing = self.contracts.iter().zip(found).filter(|(_, presence)| **presence == Presence::Missing);
        for (contract, _) in missing.filter(|(contract, _)| contract.role != ContractRole::Ledger) {
            let code = contract.code.clone().unwrap_or_else(|| answering(self.inventory.token_decimals));
            let mut account = AccountOverride::default().with_nonce(1).with_code(code);
            if contract.role == ContractRole::Factory {
                account.set_state_diff(self.factory_storage());
            }
            assumed.insert(convert::evm_address(contract.address), account);
            for (_, store, code) in self.stores.iter().filter(|(role, ..)| *role == contract.role) {
                assumed.insert(convert::evm_address(*store), AccountOverride::default().with_code(code.clone()));
            }
        }
        assumed
    }

    /// The factory's tiers as its constructor leaves them in storage.
    fn factory_storage(&self) -> Vec<(B256, B256)> {
        let word = |slot: U256| B256::from(slot.to_be_bytes());
        let mut storage = vec![(word(TIERS_SLOT), word(U256::from(self.tiers.len())))];
        let first = U256::from_be_bytes(keccak256(TIERS_SLOT.abi_encode()).0);
        for (index, tier) in self.tiers.iter().enumerate() {
            let words =
                [word(U256::from(tier.slots)), word(tier.emptyRoot), tier.settleVerifier.into_word(), tier.registerVerifier.into_word()];
            for (offset, value) in words.into_iter().enumerate() {
                storage.push((word(first.wrapping_add(U256::from(index * TIER_SLOTS + offset))), value));
            }
        }
        storage
    }
}

/// The code of a contract that answers a small number to everything: PUSH1 number, PUSH0, MSTORE, PUSH1 32, PUSH0, RETURN.
fn answering(number: u8) -> Bytes {
    vec![0x60, number, 0x5f, 0x52, 0x60, 0x20, 0x5f, 0xf3].into()
}

/// What a unit of gas costs now: the node's own idea, which on chains with a base fee includes it.
async fn gas_price(rpc: &Rpc) -> Result<u128, ChainError> {
    rpc.ask("eth_gasPrice", rpc.provider().get_gas_price()).await
}
