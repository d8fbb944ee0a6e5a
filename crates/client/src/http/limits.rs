//! The payer's limits as a policy: simple limits become budgets of one, and what it refuses becomes a refusal of the payer's.

use std::collections::BTreeMap;

use millstream_policy::{
    Ask, AssetKey, AssetRules, Budget, ConfigError, CounterKey, Decision, Dimension, Mode, Policy, PolicyConfig, ReasonKind, Subject,
    Verdict, When, Window,
};
use millstream_types::{Address, Amount, Hash256, Timestamp};

use super::asset::{AssetId, AssetLimits, SpendLimits};
use super::book::{RequestRecord, SpentKey, host_of, key_of};
use super::error::{Limit, Refusal};

/// Milliseconds of a day.
const DAY_MILLIS: u64 = 86_400_000;

/// The rules that a payment is decided by, and whose it is.
pub(crate) struct Rules<'a> {
    pub(crate) policy: &'a Policy,
    /// Of its token: deposits are no payments, and limited apart.
    pub(crate) limits: &'a AssetLimits,
    pub(crate) agent: &'a str,
    pub(crate) key: &'a str,
}

/// A payment that is asked for.
pub(crate) struct Asked<'a> {
    pub(crate) id: Hash256,
    pub(crate) host: &'a str,
    pub(crate) payee: Address,
    pub(crate) asset: AssetId,
    pub(crate) fingerprint: Hash256,
    /// By how much what is signed away rises.
    pub(crate) adds: Amount,
    /// The most that the request costs.
    pub(crate) price: Amount,
}

impl<'a> Asked<'a> {
    pub(crate) fn of(request: &'a RequestRecord) -> Self {
        Self {
            id: key_of(&request.id),
            host: host_of(&request.origin),
            payee: request.payee,
            asset: request.asset,
            fingerprint: request.fingerprint,
            adds: request.price,
            price: request.price,
        }
    }
}

impl Rules<'_> {
    pub(crate) fn ask(&self, asked: &Asked<'_>) -> Ask {
        let subject = Subject {
            agent: self.agent.to_owned(),
            key: self.key.to_owned(),
            payee: asked.payee.to_string(),
            category: String::new(),
            route: asked.host.to_owned(),
        };
        Ask {
            id: asked.id,
            subject,
            asset: asset_key(asked.asset),
            adds: asked.adds,
            price: asked.price,
            fingerprint: asked.fingerprint,
            listed: None,
        }
    }
}

pub(super) const fn asset_key(asset: AssetId) -> AssetKey {
    AssetKey { chain: asset.chain, token: asset.token }
}

/// Simple limits and a policy as one: the limits are budgets that come first and are always enforced.
///
/// # Errors
/// [`ConfigError`].
pub(super) fn policy_of(limits: &SpendLimits, config: &PolicyConfig) -> Result<Policy, ConfigError> {
    let rules = |symbol: &str, decimals: u8, request_max: Amount| AssetRules {
        symbol: symbol.to_owned(),
        decimals,
        payment_max: vec![(request_max, Mode::Enforce)],
        approval_above: None,
    };
    let assets = limits.assets().map(|(asset, own)| (asset_key(asset.id), rules(&asset.symbol, asset.decimals, own.request_max)));
    let mut policy = Policy::of_assets(assets);
    let of_all = |limit: fn(&AssetLimits) -> Amount| -> BTreeMap<AssetKey, Amount> {
        limits.assets().map(|(asset, own)| (asset_key(asset.id), limit(own))).collect()
    };
    let simple = [
        (Limit::HostDay, of_all(|own| own.host_day_max), vec![Dimension::Route], Window::Day),
        (Limit::Day, of_all(|own| own.day_max), Vec::new(), Window::Day),
        (Limit::Total, of_all(|own| own.total_max), Vec::new(), Window::Total),
    ];
    for (limit, max, per, window) in simple {
        policy.add_budget(Budget { name: limit.name().to_owned(), max, per, when: When::default(), window, mode: Mode::Enforce })?;
    }
    config.build(policy)
}

fn key(limit: Limit, of: String, asset: AssetId, start: Timestamp) -> CounterKey {
    CounterKey { rule: limit.name().to_owned(), of, asset: Some(asset_key(asset)), start }
}

pub(super) fn day_key(asset: AssetId, now: Timestamp) -> CounterKey {
    key(Limit::Day, "all".to_owned(), asset, Window::Day.start(now))
}

pub(super) fn total_key(asset: AssetId) -> CounterKey {
    key(Limit::Total, "all".to_owned(), asset, Timestamp::from_millis(0))
}

/// Where the policy keeps what an older book kept by itself.
pub(super) fn counter_key(spent: &SpentKey) -> CounterKey {
    let start = |day: u32| Timestamp::from_millis(u64::from(day).saturating_mul(DAY_MILLIS));
    match spent {
        SpentKey::Total(asset) => total_key(*asset),
        SpentKey::Day(asset, day) => key(Limit::Day, "all".to_owned(), *asset, start(*day)),
        SpentKey::HostDay(asset, day, host) => key(Limit::HostDay, format!("route={host}"), *asset, start(*day)),
    }
}

/// What a decision is to the payer.
pub(super) fn judged(decision: &Decision) -> Result<(), Refusal> {
    let reason = match &decision.verdict {
        Verdict::Allow => return Ok(()),
        Verdict::Wait { approval, expires_at } => {
            return Err(Refusal::Approval { approval: *approval, price: decision.price, expires_at: *expires_at });
        }
        Verdict::Refuse(reason) => reason,
    };
    let simple = match reason.kind {
        ReasonKind::PaymentMax => Some(Limit::Request),
        ReasonKind::Budget => [Limit::HostDay, Limit::Day, Limit::Total].into_iter().find(|limit| limit.name() == reason.rule),
        ReasonKind::UnknownAsset => {
            return Err(Refusal::UnknownAsset { chain: decision.asset.chain.get(), token: decision.asset.token });
        }
        _ => None,
    };
    Err(match simple {
        Some(limit) => Refusal::Limit { limit, max: reason.max, wanted: reason.wanted },
        None => Refusal::Policy { decision: decision.number, reason: Box::new(reason.clone()) },
    })
}
