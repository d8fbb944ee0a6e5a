//! What was held and spent, what tripped, waits and was granted: maps in memory, and a record of bytes for each entry.

use std::collections::{BTreeMap, BTreeSet};

use millstream_types::{Amount, Hash256, Timestamp};

use crate::ask::{Ended, Scope};
use crate::codec::{Reader, VERSION, Writer};
use crate::decision::Decision;
use crate::error::{LedgerError, RecordError};
use crate::gauge::Gauge;
use crate::record::{Counter, CounterKey, GaugeKey, Grant, Hold, HoldState, Pause, tag};
use crate::rules::Policy;

/// What a price was: payee, and a hash of the request.
pub(crate) type PriceKey = (String, Hash256);

/// One record to write, or to delete when it has no value. In the order in which they were made; of one key the last one counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Option<Vec<u8>>,
}

/// A decision, and the records that it changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What was decided.
    pub decision: Decision,
    /// What the caller writes in the same batch as the money.
    pub changes: Vec<Change>,
}

/// A sum as it stands. Amounts in base units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// What was settled.
    pub spent: Amount,
    /// What is held.
    pub held: Amount,
    /// Requests under way.
    pub running: u32,
}

/// The state of a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    pub(crate) counters: BTreeMap<CounterKey, Counter>,
    pub(crate) gauges: BTreeMap<GaugeKey, Gauge>,
    pub(crate) holds: BTreeMap<Hash256, Hold>,
    pub(crate) pauses: BTreeMap<Scope, Pause>,
    pub(crate) grants: BTreeMap<u64, Grant>,
    /// Agent and payee, of everyone who was ever paid.
    pub(crate) payees: BTreeSet<(String, String)>,
    /// What equal requests cost first, and when that was asked last.
    pub(crate) prices: BTreeMap<PriceKey, (Amount, Timestamp)>,
    pub(crate) decisions: BTreeMap<u64, Decision>,
    /// Of each request the newest decision; follows from the decisions.
    pub(crate) newest: BTreeMap<Hash256, u64>,
    /// Who gave sub-budgets to an agent; follows from them.
    pub(crate) parents: BTreeMap<String, String>,
    /// Holds by what waits: approvals by number; follows from the holds.
    pub(crate) approvals: BTreeMap<u64, Hash256>,
    changes: Vec<Change>,
}

impl Ledger {
    /// A ledger from its records.
    ///
    /// # Errors
    /// [`RecordError`]: bytes that were not written here.
    pub fn from_records(records: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Result<Self, RecordError> {
        let mut ledger = Self::default();
        for (key, value) in records {
            ledger.read(&key, &value)?;
        }
        Ok(ledger)
    }

    fn read(&mut self, key: &[u8], value: &[u8]) -> Result<(), RecordError> {
        let (kind, rest) = key.split_first().ok_or(RecordError::Damaged("an empty key"))?;
        match *kind {
            tag::COUNTER => drop(self.counters.insert(CounterKey::from_bytes(rest)?, Counter::from_bytes(value)?)),
            tag::GAUGE => drop(self.gauges.insert(GaugeKey::from_bytes(rest)?, Gauge::from_bytes(value)?)),
            tag::HOLD => {
                let id = id_of(rest)?;
                let hold = Hold::from_bytes(id, value)?;
                self.index_hold(&hold);
                self.holds.insert(id, hold);
            }
            tag::PAUSE => drop(self.pauses.insert(Scope::from_key(rest)?, Pause::from_bytes(value)?)),
            tag::GRANT => {
                let grant = Grant::from_bytes(number_of(rest)?, value)?;
                self.parents.insert(grant.child.clone(), grant.parent.clone());
                self.grants.insert(grant.number, grant);
            }
            tag::PAYEE => {
                let mut from = Reader(rest);
                self.payees.insert((from.text()?, from.text()?));
                from.end()?;
            }
            tag::PRICE => {
                let (mut from, mut price) = (Reader(rest), Reader::value(value)?);
                self.prices.insert((from.text()?, from.hash()?), (price.amount()?, price.time()?));
                from.end().and_then(|()| price.end())?;
            }
            tag::DECISION => {
                let decision = Decision::from_bytes(number_of(rest)?, value)?;
                let newest = self.newest.entry(decision.id).or_default();
                *newest = (*newest).max(decision.number);
                self.decisions.insert(decision.number, decision);
            }
            _ => return Err(RecordError::Damaged("a record's kind")),
        }
        Ok(())
    }

    /// A sum as it stands; nothing when there was none.
    #[must_use]
    pub fn counted(&self, key: &CounterKey) -> Counted {
        let counter = self.counters.get(key).copied().unwrap_or_default();
        Counted { spent: counter.spent, held: counter.held, running: counter.running }
    }

    /// All sums, in the order of rule, name, token and window.
    pub fn counters(&self) -> impl Iterator<Item = (&CounterKey, Counted)> {
        self.counters.iter().map(|(key, counter)| {
            let Counter { spent, held, running } = *counter;
            (key, Counted { spent, held, running })
        })
    }

    /// What is held for a request.
    #[must_use]
    pub fn hold(&self, id: Hash256) -> Option<&Hold> {
        self.holds.get(&id)
    }

    /// What is paused, and why.
    pub fn pauses(&self) -> impl Iterator<Item = (&Scope, &Pause)> {
        self.pauses.iter()
    }

    /// All sub-budgets, revoked and ended ones too.
    pub fn grants(&self) -> impl Iterator<Item = &Grant> {
        self.grants.values()
    }

    /// A decision that was made, while it is kept.
    #[must_use]
    pub fn decision(&self, number: u64) -> Option<&Decision> {
        self.decisions.get(&number)
    }

    /// The newest decision on a request, while it is kept.
    #[must_use]
    pub fn decision_on(&self, id: Hash256) -> Option<&Decision> {
        self.newest.get(&id).and_then(|number| self.decisions.get(number))
    }

    /// The decisions that are kept, the newest first.
    pub fn decisions(&self) -> impl Iterator<Item = &Decision> {
        self.decisions.values().rev()
    }

    /// Puts a sum in, as from books that were kept in another way. Returns the record.
    pub fn adopt(&mut self, key: CounterKey, spent: Amount) -> Vec<Change> {
        let mut counter = self.counters.get(&key).copied().unwrap_or_default();
        counter.spent = counter.spent.checked_add(spent).unwrap_or(Amount::from_units(u128::MAX));
        self.put_counter(key, counter);
        self.take_changes()
    }

    /// A request cost so much of what is held, and the rest stays held (G-4).
    ///
    /// # Errors
    /// [`LedgerError::UnknownHold`] or [`LedgerError::AboveHeld`]; nothing has changed.
    pub fn settle(&mut self, id: Hash256, amount: Amount) -> Result<Vec<Change>, LedgerError> {
        let mut hold = self.under_way(id)?;
        let Ok(left) = hold.held.checked_sub(amount) else { return Err(LedgerError::AboveHeld { held: hold.held, wanted: amount }) };
        hold.held = left;
        // Of each rule as much as was used, of its earliest window first.
        let mut family: Option<(&str, &str)> = None;
        let mut sums = Vec::with_capacity(hold.sums.len());
        let mut open = amount;
        for (key, held) in &hold.sums {
            if family != Some((key.rule.as_str(), key.of.as_str())) {
                (family, open) = (Some((key.rule.as_str(), key.of.as_str())), amount);
            }
            let used = open.min(*held);
            open = minus(open, used);
            let mut counter = self.counters.get(key).copied().unwrap_or_default();
            counter.held = minus(counter.held, used);
            counter.spent = plus(counter.spent, used);
            self.put_counter(key.clone(), counter);
            sums.push((key.clone(), minus(*held, used)));
        }
        // Each level of a lineage has paid all of it.
        let mut open: BTreeMap<String, Amount> = BTreeMap::new();
        for (number, held) in &mut hold.grants {
            let Some(grant) = self.grants.get(number).cloned() else { continue };
            let open = open.entry(grant.child.clone()).or_insert(amount);
            let used = (*open).min(*held);
            (*open, *held) = (minus(*open, used), minus(*held, used));
            self.put_grant(Grant { held: minus(grant.held, used), spent: plus(grant.spent, used), ..grant });
        }
        hold.sums = sums;
        self.put_hold(hold);
        Ok(self.take_changes())
    }

    /// A request is over: what is still held is freed, and it is no longer under way (G-5). Nothing when nothing is held for it.
    pub fn end(&mut self, policy: &Policy, now: Timestamp, id: Hash256, ended: Ended) -> Vec<Change> {
        if let Some(hold) = self.holds.get(&id).cloned() {
            self.free(&hold);
            self.note_end(policy, now, &hold, ended);
        }
        self.take_changes()
    }

    /// Ends everything that is under way, as after a crash of whoever asked; what waits for an approval goes on waiting.
    pub fn end_all(&mut self) -> Vec<Change> {
        let under_way: Vec<Hold> = self.holds.values().filter(|hold| hold.state == HoldState::Held).cloned().collect();
        under_way.iter().for_each(|hold| self.free(hold));
        self.take_changes()
    }

    fn under_way(&self, id: Hash256) -> Result<Hold, LedgerError> {
        let hold = self.holds.get(&id).filter(|hold| hold.state == HoldState::Held);
        hold.cloned().ok_or(LedgerError::UnknownHold)
    }

    /// Frees what is held, and forgets the hold.
    pub(crate) fn free(&mut self, hold: &Hold) {
        self.free_sums(hold);
        self.holds.remove(&hold.id);
        self.approvals.remove(&hold.number);
        self.delete(Hold::key(hold.id));
    }

    pub(crate) fn free_sums(&mut self, hold: &Hold) {
        for (key, held) in &hold.sums {
            let mut counter = self.counters.get(key).copied().unwrap_or_default();
            counter.held = minus(counter.held, *held);
            self.put_counter(key.clone(), counter);
        }
        for (number, held) in &hold.grants {
            if let Some(grant) = self.grants.get(number).cloned() {
                self.put_grant(Grant { held: minus(grant.held, *held), ..grant });
            }
        }
        for key in &hold.running {
            let mut counter = self.counters.get(key).copied().unwrap_or_default();
            counter.running = counter.running.saturating_sub(1);
            self.put_counter(key.clone(), counter);
        }
    }

    pub(crate) fn next_number(&self) -> u64 {
        let last = |number: Option<&u64>| number.copied().unwrap_or(0);
        let newest = last(self.decisions.keys().next_back()).max(last(self.grants.keys().next_back()));
        newest.saturating_add(1)
    }

    fn index_hold(&mut self, hold: &Hold) {
        match hold.state {
            HoldState::Held => drop(self.approvals.remove(&hold.number)),
            HoldState::Waiting { .. } | HoldState::Approved { .. } | HoldState::Denied { .. } => {
                self.approvals.insert(hold.number, hold.id);
            }
        }
    }

    pub(crate) fn put_counter(&mut self, key: CounterKey, counter: Counter) {
        let bytes = key.to_bytes();
        if counter.is_empty() {
            self.counters.remove(&key);
            self.delete(bytes);
        } else {
            self.put(bytes, counter.to_bytes());
            self.counters.insert(key, counter);
        }
    }

    /// Deletes sums of earlier windows that nothing is held in.
    pub(crate) fn forget_before(&mut self, key: &CounterKey) {
        let first = CounterKey { start: Timestamp::from_millis(0), ..key.clone() };
        let old = self.counters.range(first..key.clone()).filter(|(_, counter)| counter.held.is_zero() && counter.running == 0);
        let old: Vec<CounterKey> = old.map(|(key, _)| key.clone()).collect();
        for key in old {
            self.delete(key.to_bytes());
            self.counters.remove(&key);
        }
    }

    pub(crate) fn put_gauge(&mut self, key: GaugeKey, gauge: Gauge) {
        self.put(key.to_bytes(), gauge.to_bytes());
        self.gauges.insert(key, gauge);
    }

    pub(crate) fn drop_gauge(&mut self, key: &GaugeKey) {
        self.delete(key.to_bytes());
        self.gauges.remove(key);
    }

    pub(crate) fn put_hold(&mut self, hold: Hold) {
        self.put(Hold::key(hold.id), hold.to_bytes());
        self.index_hold(&hold);
        self.holds.insert(hold.id, hold);
    }

    pub(crate) fn put_pause(&mut self, scope: Scope, pause: Pause) {
        self.put(scope.to_key(), pause.to_bytes());
        self.pauses.insert(scope, pause);
    }

    pub(crate) fn drop_pause(&mut self, scope: &Scope) {
        self.delete(scope.to_key());
        self.pauses.remove(scope);
    }

    pub(crate) fn put_grant(&mut self, grant: Grant) {
        self.put(Grant::key(grant.number), grant.to_bytes());
        self.parents.insert(grant.child.clone(), grant.parent.clone());
        self.grants.insert(grant.number, grant);
    }

    pub(crate) fn put_payee(&mut self, agent: &str, payee: &str) {
        if self.payees.insert((agent.to_owned(), payee.to_owned())) {
            self.put(Writer::key(tag::PAYEE).text(agent).text(payee).take(), vec![VERSION]);
        }
    }

    pub(crate) fn put_price(&mut self, key: PriceKey, price: Amount, at: Timestamp) {
        self.put(price_key(&key), Writer::value().amount(price).time(at).take());
        self.prices.insert(key, (price, at));
    }

    pub(crate) fn drop_price(&mut self, key: &PriceKey) {
        self.delete(price_key(key));
        self.prices.remove(key);
    }

    pub(crate) fn put_decision(&mut self, decision: &Decision, kept: usize) {
        self.put(decision_key(decision.number), decision.to_bytes());
        self.newest.insert(decision.id, decision.number);
        self.decisions.insert(decision.number, decision.clone());
        while self.decisions.len() > kept.max(1) {
            let Some((number, old)) = self.decisions.pop_first() else { break };
            if self.newest.get(&old.id) == Some(&number) {
                self.newest.remove(&old.id);
            }
            self.delete(decision_key(number));
        }
    }

    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.changes.push(Change { key, value: Some(value) });
    }

    fn delete(&mut self, key: Vec<u8>) {
        self.changes.push(Change { key, value: None });
    }

    pub(crate) fn take_changes(&mut self) -> Vec<Change> {
        core::mem::take(&mut self.changes)
    }
}

fn price_key((payee, request): &PriceKey) -> Vec<u8> {
    Writer::key(tag::PRICE).text(payee).bytes(request.as_bytes()).take()
}

fn decision_key(number: u64) -> Vec<u8> {
    Writer::key(tag::DECISION).u64(number).take()
}

fn id_of(bytes: &[u8]) -> Result<Hash256, RecordError> {
    let mut from = Reader(bytes);
    let id = from.hash()?;
    from.end().map(|()| id)
}

fn number_of(bytes: &[u8]) -> Result<u64, RecordError> {
    let mut from = Reader(bytes);
    let number = from.u64()?;
    from.end().map(|()| number)
}

/// A sum that was held before it is taken off never falls below nothing.
fn minus(left: Amount, right: Amount) -> Amount {
    left.checked_sub(right).unwrap_or(Amount::ZERO)
}

/// What was held fits when it is spent.
fn plus(left: Amount, right: Amount) -> Amount {
    left.checked_add(right).unwrap_or(Amount::from_units(u128::MAX))
}
