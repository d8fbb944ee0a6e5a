//! Breakers: what trips, and what is forgotten when it is resumed.

use millstream_types::{Amount, Hash256, Timestamp};

use crate::ask::{Ask, Dimension, Ended, Scope, Subject};
use crate::decision::{Reason, ReasonKind};
use crate::ledger::{Ledger, PriceKey};
use crate::record::{GaugeKey, Hold, Pause};
use crate::rules::{Mode, Policy};

/// Prices of requests that are remembered, at most; the ones that were asked for longest ago go first.
const PRICES_MAX: usize = 65_536;
/// Prices that go at a time, so that looking for them is rare.
const PRICES_DROPPED: usize = 1_024;

const VELOCITY: &str = "breaker velocity";
const EQUAL: &str = "breaker loop";
const NEW_PAYEES: &str = "breaker new-payee";
const ANSWERS: &str = "breaker answers";
const FAILURES: &str = "breaker failures";

/// A gauge that counts when the payment is held: which, its window, how much.
pub(crate) type Tick = (GaugeKey, u64, Amount);

fn gauge(rule: &str, of: String) -> GaugeKey {
    GaugeKey { rule: rule.to_owned(), of }
}

fn within(secs: u64) -> String {
    format!("{secs} s")
}

impl Ledger {
    pub(crate) fn counts(&self, key: &GaugeKey, now: Timestamp, within_secs: u64) -> (u64, Amount) {
        self.gauges.get(key).map_or((0, Amount::ZERO), |gauge| gauge.within(now, within_secs))
    }

    pub(crate) fn tick(&mut self, now: Timestamp, (key, within_secs, amount): Tick) {
        let mut gauge = self.gauges.get(&key).cloned().unwrap_or_default();
        gauge.add(now, within_secs, amount);
        self.put_gauge(key, gauge);
    }

    /// The breakers that a payment would trip, with what each would pause, and what they count when it is held.
    pub(crate) fn breakers(&self, policy: &Policy, now: Timestamp, ask: &Ask, subject: &Subject) -> (Vec<(Scope, Reason)>, Vec<Tick>) {
        let (mut trips, mut ticks) = (Vec::new(), Vec::new());
        let breakers = &policy.breakers;
        let agent = &subject.agent;
        let whose = format!("agent={agent}");
        let scope = || Scope::Of(Dimension::Agent, agent.clone());
        let mut count = |kind: ReasonKind, key: GaugeKey, max: u64, secs: u64, trips: &mut Vec<(Scope, Reason)>| {
            let wanted = self.counts(&key, now, secs).0.saturating_add(1);
            if wanted > max {
                let (max, wanted) = (Amount::from_units(max.into()), Amount::from_units(wanted.into()));
                trips.push((scope(), Reason { kind, rule: within(secs), of: whose.clone(), max, wanted }));
            }
            ticks.push((key, secs, Amount::ZERO));
        };
        if let Some((max, secs)) = breakers.velocity_requests {
            count(ReasonKind::Velocity, gauge(VELOCITY, whose.clone()), max, secs, &mut trips);
        }
        if let Some((max, secs)) = breakers.equal_requests {
            count(ReasonKind::Loop, gauge(EQUAL, format!("{whose}\n{}", ask.fingerprint)), max, secs, &mut trips);
        }
        if let Some((max, secs)) = breakers.new_payees
            && !self.payees.contains(&(agent.clone(), subject.payee.clone()))
        {
            count(ReasonKind::NewPayee, gauge(NEW_PAYEES, whose.clone()), max, secs, &mut trips);
        }
        if let Some((amounts, secs)) = &breakers.velocity_amount
            && let Some(max) = amounts.get(&ask.asset)
        {
            let key = gauge(VELOCITY, format!("{whose}\n{} {}", ask.asset.chain.get(), ask.asset.token));
            let wanted = self.counts(&key, now, *secs).1.checked_add(ask.adds).unwrap_or(Amount::from_units(u128::MAX));
            if wanted > *max {
                trips.push((scope(), Reason { kind: ReasonKind::Velocity, rule: within(*secs), of: whose.clone(), max: *max, wanted }));
            }
            ticks.push((key, *secs, ask.adds));
        }
        trips.extend(self.drift(policy, ask, subject));
        (trips, ticks)
    }

    /// Whether a price is above what it may be.
    fn drift(&self, policy: &Policy, ask: &Ask, subject: &Subject) -> Option<(Scope, Reason)> {
        let percent = policy.breakers.price_percent?;
        let first = self.prices.get(&(subject.payee.clone(), ask.fingerprint)).map(|(price, _)| *price);
        let listed = ask.listed.or(first)?;
        let max = percent_of_down(listed, percent.saturating_add(100));
        let of = format!("payee={}", subject.payee);
        let reason = Reason { kind: ReasonKind::PriceDrift, rule: format!("{percent} %"), of, max, wanted: ask.price };
        (ask.price > max).then(|| (Scope::Of(Dimension::Payee, subject.payee.clone()), reason))
    }

    /// Remembers whom an agent paid, and what for.
    pub(crate) fn remember(&mut self, policy: &Policy, now: Timestamp, ask: &Ask, subject: &Subject) {
        if policy.breakers.new_payees.is_some() {
            self.put_payee(&subject.agent, &subject.payee);
        }
        if policy.breakers.price_percent.is_some() {
            let key: PriceKey = (subject.payee.clone(), ask.fingerprint);
            // What it cost first stays, so that many small steps do not add up to a large one.
            let price = self.prices.get(&key).map_or(ask.price, |(price, _)| *price);
            if self.prices.len() >= PRICES_MAX && !self.prices.contains_key(&key) {
                let mut oldest: Vec<(Timestamp, PriceKey)> = self.prices.iter().map(|(key, (_, at))| (*at, key.clone())).collect();
                oldest.sort_unstable();
                oldest.iter().take(PRICES_DROPPED).for_each(|(_, key)| self.drop_price(key));
            }
            self.put_price(key, price, now);
        }
    }

    /// Counts how a request ended, and trips when too many fail.
    pub(crate) fn note_end(&mut self, policy: &Policy, now: Timestamp, hold: &Hold, ended: Ended) {
        let Some((percent, requests_min, secs)) = policy.breakers.failures else { return };
        let failed = match ended {
            Ended::Delivered => false,
            Ended::Failed => true,
            Ended::Unknown => return,
        };
        let of = format!("payee={}", hold.subject.payee);
        self.tick(now, (gauge(ANSWERS, of.clone()), secs, Amount::ZERO));
        if !failed {
            return;
        }
        self.tick(now, (gauge(FAILURES, of.clone()), secs, Amount::ZERO));
        let (answers, _) = self.counts(&gauge(ANSWERS, of.clone()), now, secs);
        let (failures, _) = self.counts(&gauge(FAILURES, of.clone()), now, secs);
        let share = failures.saturating_mul(100).checked_div(answers).unwrap_or(0);
        if answers >= requests_min
            && failures.saturating_mul(100) > percent.saturating_mul(answers)
            && policy.breakers.mode == Mode::Enforce
        {
            let (max, wanted) = (Amount::from_units(percent.into()), Amount::from_units(share.into()));
            let reason = Reason { kind: ReasonKind::ErrorRate, rule: within(secs), of, max, wanted };
            let scope = Scope::Of(Dimension::Payee, hold.subject.payee.clone());
            if !self.pauses.contains_key(&scope) {
                self.put_pause(scope, Pause::of(&reason, now));
            }
        }
    }

    /// Forgets what made a breaker trip, so that it does not trip again at once.
    pub(crate) fn forget_trips(&mut self, scope: &Scope) {
        let whose = match scope {
            Scope::All => None,
            Scope::Of(dimension, value) => Some(format!("{}={value}", dimension.name())),
        };
        let ours = |key: &GaugeKey| {
            key.rule.starts_with("breaker ") && whose.as_ref().is_none_or(|whose| key.of.split('\n').next() == Some(whose.as_str()))
        };
        let gauges: Vec<GaugeKey> = self.gauges.keys().filter(|key| ours(key)).cloned().collect();
        gauges.iter().for_each(|key| self.drop_gauge(key));
        if let Scope::Of(Dimension::Payee, payee) = scope {
            let from = (payee.clone(), Hash256::from_bytes([0; 32]));
            let prices: Vec<PriceKey> =
                self.prices.range(from..).take_while(|((of, _), _)| of == payee).map(|(key, _)| key.clone()).collect();
            prices.iter().for_each(|key| self.drop_price(key));
        }
    }

    /// Forgets gauges that no window reaches any more.
    pub(crate) fn forget_gauges(&mut self, now: Timestamp) {
        let gauges: Vec<GaugeKey> = self.gauges.iter().filter(|(_, gauge)| gauge.is_over(now)).map(|(key, _)| key.clone()).collect();
        gauges.iter().for_each(|key| self.drop_gauge(key));
    }
}

/// So many percent of an amount, rounded down, without leaving 128 bits on the way.
fn percent_of_down(amount: Amount, percent: u64) -> Amount {
    let (whole, rest) = (amount.units() / 100, amount.units() % 100);
    let percent = u128::from(percent);
    let rest = rest.saturating_mul(percent) / 100;
    Amount::from_units(whole.saturating_mul(percent).saturating_add(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percents_round_down_and_stay_in_range() {
        let check = |amount: u128, percent: u64, expected: u128| {
            assert_eq!(percent_of_down(Amount::from_units(amount), percent).units(), expected, "{amount} {percent}");
        };
        check(199, 150, 298);
        check(1, 199, 1);
        check(0, 150, 0);
        check(u128::MAX, 100, u128::MAX);
        check(u128::MAX, 200, u128::MAX);
    }
}
