//! What the policy is asked of a request, and what its answers are to the gateway; and the operator's orders to it.

use millstream_engine::escrow::RequestId;
use millstream_gateway::GatewayConfig;
use millstream_gateway::port::{PortError, Rejection};
use millstream_policy::{Ask, AssetKey, AssetRules, ConfigError, Decision, Policy, Subject, Verdict};
use millstream_types::{Address, Amount, ChainId, Hash256};

/// Who pays for what.
pub(crate) struct Paying<'a> {
    pub(crate) request: &'a RequestId,
    pub(crate) payer: Address,
    /// Whose signature pays.
    pub(crate) signer: Address,
    pub(crate) receiver: Address,
    /// The path pattern.
    pub(crate) route: &'a str,
    pub(crate) asset: AssetKey,
    /// The most that it costs.
    pub(crate) ceiling: Amount,
    /// SHA-256 over method, path and what else makes it what it is.
    pub(crate) fingerprint: &'a [u8; 32],
}

/// The policy of a gateway's configuration, for the node that keeps its money; nothing where it has none. The token is the one that is sold for.
///
/// # Errors
/// [`ConfigError`]: a rule that cannot be, or a setting of the payer's.
pub fn policy_of(gateway: &GatewayConfig, chain: ChainId, token: Address) -> Result<Option<Policy>, ConfigError> {
    let Some(config) = &gateway.policy else { return Ok(None) };
    if config.webhook.is_some() {
        let reason = "it is the payer's; a gateway's approvals are read from its admin listener".to_owned();
        return Err(ConfigError::Setting { key: "webhook".to_owned(), reason });
    }
    let (symbol, decimals) = (gateway.payment.symbol.clone(), gateway.payment.decimals);
    let rules = AssetRules { symbol, decimals, payment_max: Vec::new(), approval_above: None };
    config.build(Policy::of_assets([(AssetKey { chain, token }, rules)])).map(Some)
}

/// To a provider its customers are the agents.
pub(crate) fn ask(paying: &Paying<'_>) -> Ask {
    let subject = Subject {
        agent: paying.payer.to_string(),
        key: paying.signer.to_string(),
        payee: paying.receiver.to_string(),
        category: String::new(),
        route: paying.route.to_owned(),
    };
    Ask {
        id: Hash256::from_bytes(*paying.request.as_bytes()),
        subject,
        asset: paying.asset,
        adds: paying.ceiling,
        price: paying.ceiling,
        fingerprint: Hash256::from_bytes(*paying.fingerprint),
        listed: None,
    }
}

/// What a client hears of a decision that is not its permission.
pub(crate) fn refused(decision: &Decision) -> PortError {
    match &decision.verdict {
        Verdict::Wait { approval, .. } => Rejection::NeedsApproval { approval: *approval }.into(),
        // Budgets and names of others are none of the client's business.
        Verdict::Refuse(reason) => Rejection::Policy { rule: format!("{} (decision {})", reason.kind.name(), decision.number) }.into(),
        Verdict::Allow => crate::board::fault("a decision that allows refuses"),
    }
}
