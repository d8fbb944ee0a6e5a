//! Metrics of claims and sweeps. No channel or payer labels: their number has no bound.

use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What the claimer counts.
#[derive(Debug, Default)]
pub struct ClaimMetrics {
    pub(super) claims: Counter<u64, AtomicU64>,
    pub(super) rows: Counter<u64, AtomicU64>,
    pub(super) failures: Counter<u64, AtomicU64>,
    pub(super) sweeps: Counter<u64, AtomicU64>,
    pub(super) sweep_failures: Counter<u64, AtomicU64>,
    gas: Counter<u64, AtomicU64>,
    gwei: Counter<u64, AtomicU64>,
    withdrawal_secs: Gauge<i64, AtomicI64>,
}

impl ClaimMetrics {
    /// Metrics that the registry shows.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("claims", "Claims that landed", metrics.claims.clone());
        registry.register("claim_rows", "Channels that landed claims were of", metrics.rows.clone());
        registry.register("claim_failures", "Claims that reverted or were displaced", metrics.failures.clone());
        registry.register("sweeps", "Sweeps that landed", metrics.sweeps.clone());
        registry.register("sweep_failures", "Sweeps that reverted or were displaced", metrics.sweep_failures.clone());
        registry.register("claim_gas", "Gas used by claims and sweeps", metrics.gas.clone());
        registry.register("claim_gwei", "What claims and sweeps cost, in gwei", metrics.gwei.clone());
        registry.register(
            "withdrawal_seconds",
            "Time until a payer can withdraw from a channel with something unclaimed; -1 when nobody leaves",
            metrics.withdrawal_secs.clone(),
        );
        metrics.withdrawals(None);
        metrics
    }

    /// A transaction was mined.
    pub(super) fn spent(&self, gas: u64, wei: u128) {
        self.gas.inc_by(gas);
        self.gwei.inc_by(u64::try_from(wei.div_ceil(1_000_000_000)).unwrap_or(u64::MAX));
    }

    /// The nearest withdrawal of something unclaimed, in seconds from the chain's time.
    pub(super) fn withdrawals(&self, nearest_secs: Option<u64>) {
        self.withdrawal_secs.set(nearest_secs.map_or(-1, |secs| i64::try_from(secs).unwrap_or(i64::MAX)));
    }
}
