//! What a deployment would do, and what it did.

use std::path::{Path, PathBuf};

use millstream_chain::{Blueprint, Forecast, Presence, Simulation};
use millstream_types::{Address, ChainId, Hash256};
use serde::Serialize;

use super::manifest::Manifest;
use super::plan::{KeySource, KeyedPlan};
use crate::ledger::for_people;
use crate::output::{View, columns, pairs};

/// Decimals of a chain's own coin.
const COIN_DECIMALS: u32 = 18;

/// The plan, worked out and simulated.
#[derive(Debug, Serialize)]
pub struct PlanView {
    chain_id: u64,
    /// Who pays the gas.
    from: Address,
    keys: KeySource,
    token: Address,
    token_decimals: u8,
    provider: Address,
    operator: Address,
    response_window_secs: u64,
    halt_window_secs: u64,
    deposit_min_nanos: String,
    salt: Hash256,
    ledger: Address,
    contracts: Vec<StepView>,
    /// The gas of all steps that were simulated.
    gas: u64,
    /// Whether every step was simulated.
    gas_is_complete: bool,
    gas_price_wei: String,
    /// At the present gas price.
    cost_wei: String,
    balance_wei: String,
    circuits: Vec<CircuitView>,
}

#[derive(Debug, Serialize)]
struct StepView {
    contract: String,
    address: Address,
    code_hash: Option<Hash256>,
    /// `missing` or `there`.
    present: &'static str,
    /// How it was simulated: `unneeded`, `as_is`, `assumed`, `impossible`.
    simulated: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_simulated_because: Option<String>,
    gas: Option<u64>,
}

#[derive(Debug, Serialize)]
struct CircuitView {
    circuit: String,
    circuit_digest: Hash256,
    key_hash: Hash256,
}

impl PlanView {
    /// A plan with what came of its simulation.
    #[must_use]
    pub fn new(from: Address, source: KeySource, plan: &KeyedPlan, blueprint: &Blueprint, forecast: &Forecast) -> Self {
        let step = |(step, contract): (&millstream_chain::StepForecast, &millstream_chain::PlannedContract)| StepView {
            contract: step.role.to_string(),
            address: step.address,
            code_hash: contract.code_hash(),
            present: match step.presence {
                Presence::Missing => "missing",
                Presence::There => "there",
                Presence::Foreign(_) => "foreign",
            },
            simulated: match step.simulation {
                Simulation::Unneeded => "unneeded",
                Simulation::AsIs => "as_is",
                Simulation::Assumed => "assumed",
                Simulation::Impossible(_) => "impossible",
            },
            not_simulated_because: match &step.simulation {
                Simulation::Impossible(reason) => Some(reason.clone()),
                Simulation::Unneeded | Simulation::AsIs | Simulation::Assumed => None,
            },
            gas: step.gas,
        };
        let inventory = &blueprint.inventory;
        let circuits = plan.keys.iter().zip(&inventory.tiers).flat_map(|([settle, register], tier)| {
            [(settle, tier.settle.key_hash), (register, tier.register.key_hash)].map(|(key, key_hash)| CircuitView {
                circuit: key.circuit.to_string(),
                circuit_digest: key.circuit_digest,
                key_hash,
            })
        });
        Self {
            chain_id: blueprint.chain.get(),
            from,
            keys: source,
            token: inventory.token,
            token_decimals: inventory.token_decimals,
            provider: inventory.terms.provider,
            operator: inventory.terms.first_operator,
            response_window_secs: inventory.terms.response_window_secs,
            halt_window_secs: inventory.terms.halt_window_secs,
            deposit_min_nanos: inventory.terms.deposit_min.units().to_string(),
            salt: Hash256::from_bytes(inventory.salt),
            ledger: inventory.ledger.address,
            contracts: forecast.steps.iter().zip(&blueprint.contracts).map(step).collect(),
            gas: forecast.gas(),
            gas_is_complete: forecast.steps.iter().all(|step| step.presence == Presence::There || step.gas.is_some()),
            gas_price_wei: forecast.gas_price_wei.to_string(),
            cost_wei: forecast.cost_wei().to_string(),
            balance_wei: forecast.balance_wei.to_string(),
            circuits: circuits.collect(),
        }
    }
}

impl View for PlanView {
    fn table(&self) -> String {
        let keys = match self.keys {
            KeySource::Production => "production, pinned",
            KeySource::InsecureDevelopment => "INSECURE DEVELOPMENT KEYS",
        };
        let head = pairs([
            ("chain", self.chain_id.to_string()),
            ("from", self.from.to_string()),
            ("keys", keys.to_owned()),
            ("token", format!("{} ({} decimals)", self.token, self.token_decimals)),
            ("provider", self.provider.to_string()),
            ("operator", self.operator.to_string()),
            ("response window", for_people(self.response_window_secs)),
            ("halt window", for_people(self.halt_window_secs)),
            ("minimum deposit", format!("{} nanos", self.deposit_min_nanos)),
            ("salt", self.salt.to_string()),
        ]);
        let rows = self.contracts.iter().map(|step| {
            let simulated = match (&step.not_simulated_because, step.simulated) {
                (Some(reason), _) => format!("NOT simulated: {reason}"),
                (None, "assumed") => "with the missing ones assumed".to_owned(),
                (None, "as_is") => "on the chain as it is".to_owned(),
                (None, _) => "-".to_owned(),
            };
            let gas = step.gas.map_or_else(|| "-".to_owned(), |gas| gas.to_string());
            vec![step.contract.clone(), step.address.to_string(), step.present.to_owned(), gas, simulated]
        });
        let steps = columns(&["contract", "address", "now", "gas", "simulated"], &[3], rows);
        let at_least = if self.gas_is_complete { "" } else { "at least " };
        let foot = pairs([
            ("gas", format!("{at_least}{}", self.gas)),
            ("gas price", format!("{} wei", self.gas_price_wei)),
            ("cost", format!("{at_least}{}", coins(&self.cost_wei))),
            ("balance", coins(&self.balance_wei)),
        ]);
        format!("{head}\n\n{steps}\n\n{foot}")
    }
}

/// Wei as coins, exactly.
fn coins(wei: &str) -> String {
    let decimals = usize::try_from(COIN_DECIMALS).unwrap_or(18);
    let padded = format!("{wei:0>width$}", width = decimals + 1);
    let (whole, rest) = padded.split_at(padded.len() - decimals);
    let rest = rest.trim_end_matches('0');
    if rest.is_empty() { format!("{whole} coins") } else { format!("{whole}.{rest} coins") }
}

/// What was done.
#[derive(Debug, Serialize)]
pub struct DeployedView {
    /// `deployed` or `already_there`.
    outcome: &'static str,
    /// How many transactions were sent.
    transactions: usize,
    gas_used: u64,
    fee_wei: String,
    chain_id: u64,
    ledger: Address,
    /// Where the manifest is.
    manifest_file: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_config_file: Option<PathBuf>,
    manifest: Manifest,
}

impl DeployedView {
    /// What came of a run.
    #[must_use]
    pub fn new(deployment: &millstream_chain::Deployment, manifest: Manifest, file: &Path, node_config: Option<&Path>) -> Self {
        let receipts = || deployment.sent.iter().map(|step| &step.receipt);
        Self {
            outcome: if deployment.sent.is_empty() { "already_there" } else { "deployed" },
            transactions: deployment.sent.len(),
            gas_used: receipts().map(|receipt| receipt.gas_used).fold(0, u64::saturating_add),
            fee_wei: receipts().map(|receipt| receipt.fee_wei).fold(0, u128::saturating_add).to_string(),
            chain_id: ChainId::new(manifest.chain_id).get(),
            ledger: manifest.ledger.address,
            manifest_file: file.to_owned(),
            node_config_file: node_config.map(Path::to_owned),
            manifest,
        }
    }
}

impl View for DeployedView {
    fn table(&self) -> String {
        let outcome = match self.outcome {
            "already_there" => "all of it was there already; nothing was sent".to_owned(),
            _ => format!("{} transactions, {} gas, {}", self.transactions, self.gas_used, coins(&self.fee_wei)),
        };
        let mut rows = vec![
            ("outcome", outcome),
            ("ledger", format!("{} on chain {}", self.ledger, self.chain_id)),
            ("start block", self.manifest.ledger.start_block.to_string()),
            ("factory", self.manifest.factory.address.to_string()),
            ("read back", format!("at block {}, nothing differs", self.manifest.block)),
            ("manifest", self.manifest_file.display().to_string()),
        ];
        rows.extend(self.node_config_file.iter().map(|path| ("node config", path.display().to_string())));
        pairs(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wei_are_written_as_coins_exactly() {
        let check = |wei: &str, text: &str| assert_eq!(coins(wei), text);
        check("0", "0 coins");
        check("1", "0.000000000000000001 coins");
        check("1500000000000000000", "1.5 coins");
        check("340282366920938463463374607431768211455", "340282366920938463463.374607431768211455 coins");
    }
}
