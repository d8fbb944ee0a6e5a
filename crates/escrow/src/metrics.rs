//! What operators see of escrows. No labels: a label by channel or payer would grow with them.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::claimer::ClaimMetrics;

/// Figures of the rail. Amounts are base units of its token.
#[derive(Debug, Default)]
pub struct EscrowMetrics {
    pub(crate) channels: Gauge,
    pub(crate) frozen: Gauge,
    pub(crate) quarantined: Gauge,
    pub(crate) reservations: Gauge,
    pub(crate) deposit: Gauge<f64, AtomicU64>,
    pub(crate) reserved: Gauge<f64, AtomicU64>,
    pub(crate) charged: Gauge<f64, AtomicU64>,
    pub(crate) unclaimed: Gauge<f64, AtomicU64>,
    pub(crate) unconfirmed: Gauge<f64, AtomicU64>,
    pub(crate) block: Gauge,
    pub(crate) behind_blocks: Gauge,
    pub(crate) view_age_seconds: Gauge<f64, AtomicU64>,
    pub(crate) chain_errors: Counter,
    pub(crate) reorganisations: Counter,
    pub(crate) deposits: Counter,
    pub(crate) deposits_failed: Counter,
    pub(crate) refunds: Counter,
    pub(crate) claims: Arc<ClaimMetrics>,
}

impl EscrowMetrics {
    /// Figures under `escrow_` in a registry.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("escrow");
        let metrics = Self { claims: Arc::new(ClaimMetrics::register(registry)), ..Self::default() };
        registry.register("channels", "Channels known", metrics.channels.clone());
        registry.register("channels_frozen", "Channels that take no payments until the chain puts it right", metrics.frozen.clone());
        registry.register("channels_quarantined", "Channels that cannot be claimed on", metrics.quarantined.clone());
        registry.register("reservations", "Deliveries under way", metrics.reservations.clone());
        registry.register("deposit_base_units", "Confirmed deposits of all channels", metrics.deposit.clone());
        registry.register("reserved_base_units", "Held for deliveries under way", metrics.reserved.clone());
        registry.register("charged_base_units", "Charged on channels that are known, since they began", metrics.charged.clone());
        registry.register("unclaimed_base_units", "Charged and not claimed on the chain", metrics.unclaimed.clone());
        let unconfirmed = "Accepted or charged beyond confirmed deposits: what is lost if they never come";
        registry.register("unconfirmed_base_units", unconfirmed, metrics.unconfirmed.clone());
        registry.register("block", "The last block that the engine knows", metrics.block.clone());
        registry.register("behind_blocks", "Blocks between that one and the chain's newest", metrics.behind_blocks.clone());
        registry.register("view_age_seconds", "Seconds since the chain was last known", metrics.view_age_seconds.clone());
        registry.register("chain_errors", "Reads of the chain that failed", metrics.chain_errors.clone());
        registry.register("reorganisations", "Reorganisations below the confirmation depth", metrics.reorganisations.clone());
        registry.register("deposits", "Deposits submitted for payers and confirmed", metrics.deposits.clone());
        registry.register("deposits_failed", "Deposits submitted for payers that failed", metrics.deposits_failed.clone());
        registry.register("refunds", "Refunds that payers asked for and were confirmed", metrics.refunds.clone());
        metrics
    }
}
