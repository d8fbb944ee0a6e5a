//! The decision: what is compared, in which order, and what is held.

use std::collections::BTreeMap;

use millstream_types::{Amount, Hash256, Timestamp};

use crate::ask::{Ask, Dimension, Scope, Subject};
use crate::breaker::Tick;
use crate::decision::{Check, Decision, Reason, ReasonKind, Verdict, named, shown};
use crate::ledger::{Ledger, Outcome};
use crate::record::{CounterKey, GaugeKey, Grant, Hold, HoldState, Pause};
use crate::rules::{Budget, Mode, Policy, Rate};
use crate::window::Window;

/// Levels of sub-budgets, at most.
pub(crate) const LINEAGE_MAX: usize = 8;
/// Decisions between two times of forgetting what is over.
const SWEEP_EVERY: u64 = 1_024;

/// What is found out about a payment before anything changes.
#[derive(Default)]
struct Findings {
    refused: Option<Reason>,
    shadowed: Vec<Reason>,
    checks: Vec<Check>,
    /// Sums that what is asked is held in.
    sums: Vec<CounterKey>,
    grants: Vec<u64>,
    running: Vec<CounterKey>,
    ticks: Vec<Tick>,
    trips: Vec<(Scope, Reason)>,
    waits: bool,
}

impl Findings {
    fn fails(&mut self, mode: Mode, reason: Reason) {
        match mode {
            Mode::Enforce if self.refused.is_none() => self.refused = Some(reason),
            Mode::Enforce => {}
            Mode::Shadow => self.shadowed.push(reason),
        }
    }

    fn check(&mut self, rule: &str, of: String, before: Amount, after: Amount, max: Amount) {
        self.checks.push(Check { rule: rule.to_owned(), of, before, after, max });
    }
}

/// What a request that comes again finds.
enum Before {
    /// Nothing.
    Nothing,
    /// It is under way, and asks for more.
    UnderWay(Hold),
    /// It waits.
    Waits(Hold),
    /// It was approved.
    Approved(Hold),
    /// It was denied.
    Denied(Hold),
}

fn count(value: u64) -> Amount {
    Amount::from_units(value.into())
}

impl Ledger {
    /// Decides a payment. What it may cost is held when it is allowed, and when it waits (G-2); a request that comes again goes on with what is
    /// held for it (G-24).
    pub fn ask(&mut self, policy: &Policy, now: Timestamp, ask: &Ask) -> Outcome {
        self.expire(now);
        let subject = policy.categorised(&ask.subject);
        let mut decision = match self.before(ask, &subject) {
            Before::Nothing => self.first(policy, now, ask, &subject),
            Before::UnderWay(hold) => self.more(policy, now, ask, &subject, hold),
            Before::Waits(hold) if ask.price <= hold.price => {
                let expires_at = expiry(&hold);
                self.decided(now, ask, &subject, Verdict::Wait { approval: hold.number, expires_at })
            }
            Before::Denied(hold) if ask.price <= hold.price => {
                let of = hold.number.to_string();
                let reason = Reason { kind: ReasonKind::ApprovalDenied, rule: String::new(), of, max: hold.price, wanted: ask.price };
                self.decided(now, ask, &subject, Verdict::Refuse(reason))
            }
            Before::Approved(hold) if ask.price <= hold.price && ask.adds <= hold.held => self.go_on(policy, now, ask, &subject, hold),
            // It is not what was asked then.
            Before::Waits(hold) | Before::Denied(hold) | Before::Approved(hold) => {
                self.free(&hold);
                self.first(policy, now, ask, &subject)
            }
        };
        decision.number = self.next_number();
        self.put_decision(&decision, policy.decisions_kept);
        if decision.number.is_multiple_of(SWEEP_EVERY) {
            self.forget_over(policy, now);
        }
        Outcome { decision, changes: self.take_changes() }
    }

    /// What would be decided now. Nothing changes; a payment that would wait is told so with the number that its approval would have.
    #[must_use]
    pub fn preview(&self, policy: &Policy, now: Timestamp, ask: &Ask) -> Decision {
        // A copy of a few kilobytes to some megabytes would be simpler and is too dear for each offer.
        let subject = policy.categorised(&ask.subject);
        let findings = match self.before(ask, &subject) {
            Before::Approved(hold) if !is_over(&hold, now) && ask.price <= hold.price && ask.adds <= hold.held => {
                self.standing(policy, ask, &subject)
            }
            Before::Denied(hold) if !is_over(&hold, now) && ask.price <= hold.price => {
                let of = hold.number.to_string();
                let reason = Reason { kind: ReasonKind::ApprovalDenied, rule: String::new(), of, max: hold.price, wanted: ask.price };
                return self.decided(now, ask, &subject, Verdict::Refuse(reason));
            }
            Before::Waits(hold) if !is_over(&hold, now) && ask.price <= hold.price => {
                let expires_at = expiry(&hold);
                return self.decided(now, ask, &subject, Verdict::Wait { approval: hold.number, expires_at });
            }
            Before::UnderWay(hold) => self.find(policy, now, ask, &subject, Some(&hold)),
            Before::Nothing | Before::Approved(_) | Before::Denied(_) | Before::Waits(_) => self.find(policy, now, ask, &subject, None),
        };
        let expires_at = now.plus_millis(policy.approval_secs.saturating_mul(1_000));
        let verdict = match findings.refused {
            Some(reason) => Verdict::Refuse(reason),
            None if findings.waits => Verdict::Wait { approval: self.next_number(), expires_at },
            None => Verdict::Allow,
        };
        let mut decision = self.decided(now, ask, &subject, verdict);
        (decision.shadowed, decision.checks) = (findings.shadowed, findings.checks);
        decision
    }

    fn before(&self, ask: &Ask, subject: &Subject) -> Before {
        let as_is = |hold: &Hold| match hold.state {
            HoldState::Held => Before::UnderWay(hold.clone()),
            HoldState::Waiting { .. } => Before::Waits(hold.clone()),
            HoldState::Approved { .. } => Before::Approved(hold.clone()),
            HoldState::Denied { .. } => Before::Denied(hold.clone()),
        };
        if let Some(hold) = self.holds.get(&ask.id) {
            let same = hold.asset == ask.asset && hold.subject == *subject;
            // Of a request that is under way the payer says what it is; an approval is for what was approved.
            return if same || hold.state == HoldState::Held { as_is(hold) } else { Before::Nothing };
        }
        // The same under another name: whoever was told to wait may ask anew.
        let equal = |hold: &&Hold| hold.fingerprint == ask.fingerprint && hold.asset == ask.asset && hold.subject == *subject;
        let waiting = self.approvals.values().filter_map(|id| self.holds.get(id)).find(equal);
        waiting.map_or(Before::Nothing, as_is)
    }

    /// A request that nothing is held for.
    fn first(&mut self, policy: &Policy, now: Timestamp, ask: &Ask, subject: &Subject) -> Decision {
        let mut findings = self.find(policy, now, ask, subject, None);
        let mut adds = ask.adds;
        if findings.refused.is_none() && findings.waits && ask.price > ask.adds {
            // While it waits, other payments may take what it counted on; all that it can cost is held.
            adds = ask.price;
            findings = self.find(policy, now, &Ask { adds, ..ask.clone() }, subject, None);
        }
        let number = self.next_number();
        let expires_at = now.plus_millis(policy.approval_secs.saturating_mul(1_000));
        let (state, verdict) = match findings.refused.take() {
            Some(reason) => {
                self.trip(policy, now, &findings, &reason);
                let mut decision = self.decided(now, ask, subject, Verdict::Refuse(reason));
                (decision.shadowed, decision.checks) = (findings.shadowed, findings.checks);
                return decision;
            }
            None if findings.waits => (HoldState::Waiting { expires_at }, Verdict::Wait { approval: number, expires_at }),
            None => (HoldState::Held, Verdict::Allow),
        };
        // An id that waited for something else.
        if let Some(old) = self.holds.get(&ask.id).cloned() {
            self.free(&old);
        }
        let mut hold = Hold {
            id: ask.id,
            subject: subject.clone(),
            asset: ask.asset,
            price: ask.price,
            held: Amount::ZERO,
            fingerprint: ask.fingerprint,
            made_at: now,
            number,
            approved: None,
            state,
            sums: Vec::new(),
            grants: Vec::new(),
            running: Vec::new(),
        };
        self.add(&mut hold, adds, &findings);
        if state == HoldState::Held {
            self.start(&mut hold, &findings.running);
        }
        for tick in core::mem::take(&mut findings.ticks) {
            self.tick(now, tick);
        }
        if state == HoldState::Held {
            self.remember(policy, now, ask, subject);
        }
        self.put_hold(hold);
        let mut decision = self.decided(now, ask, subject, verdict);
        (decision.adds, decision.shadowed, decision.checks) = (adds, findings.shadowed, findings.checks);
        decision
    }

    /// More for a request that is under way.
    fn more(&mut self, policy: &Policy, now: Timestamp, ask: &Ask, subject: &Subject, mut hold: Hold) -> Decision {
        let findings = self.find(policy, now, ask, subject, Some(&hold));
        let verdict = match findings.refused.clone() {
            Some(reason) => Verdict::Refuse(reason),
            None => {
                self.add(&mut hold, ask.adds, &findings);
                hold.price = hold.price.max(ask.price);
                self.put_hold(hold);
                Verdict::Allow
            }
        };
        let mut decision = self.decided(now, ask, subject, verdict);
        (decision.shadowed, decision.checks) = (findings.shadowed, findings.checks);
        decision
    }

    /// A request that was approved comes again.
    fn go_on(&mut self, policy: &Policy, now: Timestamp, ask: &Ask, subject: &Subject, hold: Hold) -> Decision {
        let findings = self.standing(policy, ask, subject);
        if let Some(reason) = findings.refused.clone() {
            let mut decision = self.decided(now, ask, subject, Verdict::Refuse(reason));
            (decision.shadowed, decision.checks) = (findings.shadowed, findings.checks);
            return decision;
        }
        self.free(&hold);
        // What was held for it is there; only what it needs of that is held again.
        let (sums, grants) =
            (hold.sums.iter().map(|(key, _)| key.clone()).collect(), hold.grants.iter().map(|(number, _)| *number).collect());
        let held = Findings { sums, grants, ..Findings::default() };
        let mut hold = Hold {
            id: ask.id,
            held: Amount::ZERO,
            price: ask.price,
            approved: Some(hold.price),
            state: HoldState::Held,
            sums: Vec::new(),
            grants: Vec::new(),
            running: Vec::new(),
            ..hold
        };
        self.add(&mut hold, ask.adds, &held);
        let running: Vec<CounterKey> = policy.rates.iter().filter_map(|rate| running_of(rate, subject)).collect();
        self.start(&mut hold, &running);
        self.remember(policy, now, ask, subject);
        self.put_hold(hold);
        let mut decision = self.decided(now, ask, subject, Verdict::Allow);
        (decision.shadowed, decision.checks) = (findings.shadowed, findings.checks);
        decision
    }

    /// Everything that can refuse (G-3), in this order: token, names, pauses, lists, cap, sub-budgets, budgets, rates, breakers, approval.
    fn find(&self, policy: &Policy, now: Timestamp, ask: &Ask, subject: &Subject, under_way: Option<&Hold>) -> Findings {
        let mut findings = self.standing(policy, ask, subject);
        let Some(asset) = policy.assets.get(&ask.asset) else { return findings };
        for (max, mode) in asset.payment_max.iter().copied() {
            findings.check("payment_max", String::new(), Amount::ZERO, ask.price, max);
            if ask.price > max {
                let reason = Reason { kind: ReasonKind::PaymentMax, rule: String::new(), of: String::new(), max, wanted: ask.price };
                findings.fails(mode, reason);
            }
        }
        let lineage = self.lineage(&subject.agent);
        self.find_grants(now, ask, subject, &lineage, &mut findings);
        for budget in &policy.budgets {
            self.find_budget(budget, now, ask, subject, &lineage, &mut findings);
        }
        if under_way.is_none() {
            for rate in &policy.rates {
                self.find_rate(rate, now, subject, &mut findings);
            }
            let (trips, ticks) = self.breakers(policy, now, ask, subject);
            for (_, reason) in &trips {
                findings.fails(policy.breakers.mode, reason.clone());
            }
            findings.trips = trips;
            findings.ticks.extend(ticks);
        }
        if let Some((max, mode)) = asset.approval_above
            && ask.price > max
        {
            let approved = under_way.and_then(|hold| hold.approved).is_some_and(|approved| ask.price <= approved);
            let needed =
                |rule: &str| Reason { kind: ReasonKind::ApprovalNeeded, rule: rule.to_owned(), of: String::new(), max, wanted: ask.price };
            let waiting = self.approvals.values().filter_map(|id| self.holds.get(id));
            let waiting = waiting.filter(|hold| matches!(hold.state, HoldState::Waiting { .. })).count();
            match (mode, under_way) {
                _ if approved => {}
                (Mode::Shadow, _) => findings.fails(Mode::Shadow, needed("it would wait")),
                (Mode::Enforce, Some(_)) => findings.fails(Mode::Enforce, needed("it is under way")),
                (Mode::Enforce, None) if waiting >= policy.waiting_max => findings.fails(Mode::Enforce, needed("too many wait already")),
                (Mode::Enforce, None) => findings.waits = true,
            }
        }
        findings
    }

    /// What can refuse at any time, also after an approval.
    fn standing(&self, policy: &Policy, ask: &Ask, subject: &Subject) -> Findings {
        let mut findings = Findings::default();
        let plain = |kind, rule: String, of: String| Reason { kind, rule, of, max: Amount::ZERO, wanted: ask.price };
        if !subject.is_sound() {
            findings.fails(Mode::Enforce, plain(ReasonKind::BadName, String::new(), String::new()));
            return findings;
        }
        if !policy.assets.contains_key(&ask.asset) {
            let of = format!("{} on chain {}", ask.asset.token, ask.asset.chain.get());
            findings.fails(Mode::Enforce, plain(ReasonKind::UnknownAsset, String::new(), of));
            return findings;
        }
        let lineage = self.lineage(&subject.agent);
        let others = Dimension::ALL.into_iter().filter(|dimension| *dimension != Dimension::Agent);
        let scopes = lineage.iter().map(|agent| (Dimension::Agent, agent.as_str())).chain(others.map(|other| (other, subject.of(other))));
        let scopes = scopes.map(|(dimension, name)| Scope::Of(dimension, name.to_owned()));
        if let Some((scope, pause)) = core::iter::once(Scope::All).chain(scopes).find_map(|scope| {
            let pause = self.pauses.get(&scope)?;
            Some((scope, pause))
        }) {
            findings.fails(Mode::Enforce, plain(ReasonKind::Paused, pause.why.clone(), scope.to_string()));
        }
        let lists = &policy.lists;
        for agent in &lineage {
            let subject = subject.with_agent(agent);
            if let Some((dimension, name)) = lists.deny.hit(&subject) {
                findings.fails(lists.mode, plain(ReasonKind::Denied, String::new(), format!("{}={name}", dimension.name())));
                break;
            }
        }
        if let Some((dimension, name)) = lists.allow.miss(subject) {
            findings.fails(lists.mode, plain(ReasonKind::NotAllowed, String::new(), format!("{}={name}", dimension.name())));
        }
        findings
    }

    /// The agent, and those whose money it spends.
    pub(crate) fn lineage(&self, agent: &str) -> Vec<String> {
        let mut lineage = vec![agent.to_owned()];
        while let Some(parent) = lineage.last().and_then(|agent| self.parents.get(agent)) {
            if lineage.len() >= LINEAGE_MAX || lineage.contains(parent) {
                break;
            }
            lineage.push(parent.clone());
        }
        lineage
    }

    /// Each agent of the lineage but the first of all needs a sub-budget that covers it.
    fn find_grants(&self, now: Timestamp, ask: &Ask, subject: &Subject, lineage: &[String], findings: &mut Findings) {
        for child in lineage.iter().filter(|agent| self.parents.contains_key(*agent)) {
            let covers = |grant: &&Grant| grant.child == *child && grant.is_live(now) && grant.asset == ask.asset && grant.is_for(subject);
            let live: Vec<&Grant> = self.grants.values().filter(covers).collect();
            let of = format!("agent={child}");
            match live.iter().find(|grant| ask.adds <= grant.left()) {
                Some(grant) => {
                    let before = grant.max.checked_sub(grant.left()).unwrap_or(grant.max);
                    let after = before.checked_add(ask.adds).unwrap_or(grant.max);
                    findings.check(&format!("sub-budget {}", grant.number), of, before, after, grant.max);
                    findings.grants.push(grant.number);
                }
                None => {
                    let left = live.iter().map(|grant| grant.left()).max().unwrap_or(Amount::ZERO);
                    let reason = Reason { kind: ReasonKind::SubBudget, rule: String::new(), of, max: left, wanted: ask.adds };
                    findings.fails(Mode::Enforce, reason);
                }
            }
        }
    }

    /// A budget that is kept by agent, or is about some agents, counts for each of the lineage.
    fn find_budget(&self, budget: &Budget, now: Timestamp, ask: &Ask, subject: &Subject, lineage: &[String], findings: &mut Findings) {
        let Some(max) = budget.max.get(&ask.asset).copied() else { return };
        let by_agent = budget.per.contains(&Dimension::Agent) || budget.when.names(Dimension::Agent);
        let whose = if by_agent { lineage } else { lineage.get(..1).unwrap_or_default() };
        let mut keys: Vec<CounterKey> = Vec::new();
        for subject in whose.iter().map(|agent| subject.with_agent(agent)).filter(|subject| budget.when.matches(subject)) {
            let start = budget.window.start(now);
            let key = CounterKey { rule: budget.name.clone(), of: named(&budget.per, &subject), asset: Some(ask.asset), start };
            // Several of a lineage may fall into one sum.
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        for key in keys {
            let before = self.counters.get(&key).copied().unwrap_or_default().used();
            let after = before.checked_add(ask.adds);
            let wanted = after.unwrap_or(Amount::from_units(u128::MAX));
            let of = format!("{}, {}", shown(&key.of), budget.window.name());
            findings.check(&budget.name, of.clone(), before, wanted, max);
            if after.is_err() || wanted > max {
                let reason = Reason { kind: ReasonKind::Budget, rule: budget.name.clone(), of, max, wanted };
                findings.fails(if after.is_err() { Mode::Enforce } else { budget.mode }, reason);
            }
            findings.sums.push(key);
        }
    }

    fn find_rate(&self, rate: &Rate, now: Timestamp, subject: &Subject, findings: &mut Findings) {
        if !rate.when.matches(subject) {
            return;
        }
        let of = named(&rate.per, subject);
        if let Some((max, secs)) = rate.requests_max {
            let key = GaugeKey { rule: format!("rate {}", rate.name), of: of.clone() };
            let (before, _) = self.counts(&key, now, secs);
            let (max, wanted) = (count(max), count(before.saturating_add(1)));
            let of = format!("{}, {secs} s", shown(&of));
            findings.check(&rate.name, of.clone(), count(before), wanted, max);
            if wanted > max {
                findings.fails(rate.mode, Reason { kind: ReasonKind::Rate, rule: rate.name.clone(), of, max, wanted });
            }
            findings.ticks.push((key, secs, Amount::ZERO));
        }
        if let (Some(max), Some(key)) = (rate.in_flight_max, running_of(rate, subject)) {
            let before = self.counters.get(&key).copied().unwrap_or_default().running;
            let (max, wanted) = (count(max.into()), count(u64::from(before).saturating_add(1)));
            let of = format!("{}, under way", shown(&of));
            findings.check(&rate.name, of.clone(), count(before.into()), wanted, max);
            if wanted > max {
                findings.fails(rate.mode, Reason { kind: ReasonKind::InFlight, rule: rate.name.clone(), of, max, wanted });
            }
            findings.running.push(key);
        }
    }

    /// Holds more for a request.
    fn add(&mut self, hold: &mut Hold, adds: Amount, findings: &Findings) {
        let over = Amount::from_units(u128::MAX);
        hold.held = hold.held.checked_add(adds).unwrap_or(over);
        // Sums of a request stay in order, so that those of one rule are side by side.
        let mut sums: BTreeMap<CounterKey, Amount> = core::mem::take(&mut hold.sums).into_iter().collect();
        for key in &findings.sums {
            let mut counter = self.counters.get(key).copied().unwrap_or_default();
            counter.held = counter.held.checked_add(adds).unwrap_or(over);
            self.forget_before(key);
            self.put_counter(key.clone(), counter);
            let held = sums.entry(key.clone()).or_insert(Amount::ZERO);
            *held = held.checked_add(adds).unwrap_or(over);
        }
        hold.sums = sums.into_iter().collect();
        let mut grants: BTreeMap<u64, Amount> = core::mem::take(&mut hold.grants).into_iter().collect();
        for number in &findings.grants {
            if let Some(grant) = self.grants.get(number).cloned() {
                self.put_grant(Grant { held: grant.held.checked_add(adds).unwrap_or(over), ..grant });
                let held = grants.entry(*number).or_insert(Amount::ZERO);
                *held = held.checked_add(adds).unwrap_or(over);
            }
        }
        hold.grants = grants.into_iter().collect();
    }

    /// Counts a request as under way.
    fn start(&mut self, hold: &mut Hold, running: &[CounterKey]) {
        for key in running {
            let mut counter = self.counters.get(key).copied().unwrap_or_default();
            counter.running = counter.running.saturating_add(1);
            self.put_counter(key.clone(), counter);
        }
        hold.running = running.to_vec();
    }

    /// Pauses what a breaker found, when that is why the payment is refused.
    fn trip(&mut self, policy: &Policy, now: Timestamp, findings: &Findings, reason: &Reason) {
        if policy.breakers.mode == Mode::Enforce && reason.kind.is_breaker() {
            for (scope, reason) in &findings.trips {
                if !self.pauses.contains_key(scope) {
                    self.put_pause(scope.clone(), Pause::of(reason, now));
                }
            }
        }
    }

    fn decided(&self, now: Timestamp, ask: &Ask, subject: &Subject, verdict: Verdict) -> Decision {
        Decision {
            number: 0,
            at: now,
            id: ask.id,
            subject: subject.clone(),
            asset: ask.asset,
            adds: ask.adds,
            price: ask.price,
            verdict,
            shadowed: Vec::new(),
            checks: Vec::new(),
        }
    }

    /// Frees what has waited too long.
    pub(crate) fn expire(&mut self, now: Timestamp) {
        let over = self.approvals.values().filter_map(|id| self.holds.get(id)).filter(|hold| is_over(hold, now));
        let over: Vec<Hold> = over.cloned().collect();
        over.iter().for_each(|hold| self.free(hold));
    }

    /// The approval that a request waits for, if it does.
    #[must_use]
    pub fn approval_of(&self, id: Hash256) -> Option<u64> {
        self.holds.get(&id).filter(|hold| matches!(hold.state, HoldState::Waiting { .. })).map(|hold| hold.number)
    }
}

fn running_of(rate: &Rate, subject: &Subject) -> Option<CounterKey> {
    let counted = rate.in_flight_max.is_some() && rate.when.matches(subject);
    let start = Window::Total.start(Timestamp::from_millis(0));
    counted.then(|| CounterKey { rule: rate.name.clone(), of: named(&rate.per, subject), asset: None, start })
}

fn expiry(hold: &Hold) -> Timestamp {
    match hold.state {
        HoldState::Held => hold.made_at,
        HoldState::Waiting { expires_at } | HoldState::Approved { expires_at } | HoldState::Denied { expires_at } => expires_at,
    }
}

fn is_over(hold: &Hold, now: Timestamp) -> bool {
    hold.state != HoldState::Held && expiry(hold) <= now
}
