//! A ledger with the store that a caller keeps for it: after each step the records are read back and compared.

#![allow(dead_code, reason = "not every test uses all of it")]

use std::collections::BTreeMap;

use millstream_policy::{
    Ask, AssetKey, AssetRules, Change, CounterKey, Decision, Ended, GrantOrder, Ledger, LedgerError, Policy, PolicyConfig, ReasonKind,
    Subject, Verdict, Window,
};
use millstream_types::{Address, Amount, ChainId, Hash256, Timestamp};

pub const ASSET: AssetKey = AssetKey { chain: ChainId::new(1), token: Address::from_bytes([1; 20]) };
pub const OTHER_ASSET: AssetKey = AssetKey { chain: ChainId::new(1), token: Address::from_bytes([2; 20]) };

/// Half a day and a little, so that no window is at its edge.
const START: u64 = 20_000 * 86_400_000 + 43_201_234;

#[derive(Clone)]
pub struct World {
    pub policy: Policy,
    pub ledger: Ledger,
    pub store: BTreeMap<Vec<u8>, Vec<u8>>,
    pub now: u64,
}

/// A request of agent `a` to payee `0x01` at `api`.
pub fn ask(id: u8, units: u128) -> Ask {
    let subject = Subject { agent: "a".to_owned(), payee: "0x01".to_owned(), route: "api".to_owned(), ..Subject::default() };
    let amount = Amount::from_units(units);
    let id = Hash256::from_bytes([id; 32]);
    Ask { id, subject, asset: ASSET, adds: amount, price: amount, fingerprint: id, listed: None }
}

pub fn above(held: u128, wanted: u128) -> LedgerError {
    LedgerError::AboveHeld { held: Amount::from_units(held), wanted: Amount::from_units(wanted) }
}

pub fn policy(rules: &str) -> Result<Policy, String> {
    let config: PolicyConfig = toml::from_str(rules).map_err(|error| error.to_string())?;
    let usdc = AssetRules { symbol: "USDC".to_owned(), decimals: 6, payment_max: Vec::new(), approval_above: None };
    config.build(Policy::of_assets([(ASSET, usdc)])).map_err(|error| error.to_string())
}

impl World {
    pub fn new(rules: &str) -> Self {
        Self { policy: policy(rules).expect("rules"), ledger: Ledger::default(), store: BTreeMap::new(), now: START }
    }

    pub fn at(&self, later: u64) -> Timestamp {
        Timestamp::from_millis(self.now.saturating_add(later))
    }

    /// Writes what changed, and compares what a restart would read.
    pub fn commit(&mut self, changes: Vec<Change>) {
        for Change { key, value } in changes {
            match value {
                Some(value) => drop(self.store.insert(key, value)),
                None => drop(self.store.remove(&key)),
            }
        }
        assert_eq!(Ledger::from_records(self.store.clone()).expect("read"), self.ledger);
    }

    pub fn decide(&mut self, ask: &Ask) -> Decision {
        let outcome = self.ledger.ask(&self.policy, self.at(0), ask);
        self.commit(outcome.changes);
        outcome.decision
    }

    pub fn verdict(&mut self, ask: &Ask) -> Verdict {
        self.decide(ask).verdict
    }

    /// Why it is refused; it must not wait.
    pub fn refused(&mut self, ask: &Ask) -> Option<ReasonKind> {
        match self.verdict(ask) {
            Verdict::Allow => None,
            Verdict::Refuse(reason) => Some(reason.kind),
            Verdict::Wait { approval, .. } => panic!("it waits for {approval}"),
        }
    }

    pub fn waits(&mut self, ask: &Ask) -> Option<u64> {
        match self.verdict(ask) {
            Verdict::Wait { approval, .. } => Some(approval),
            Verdict::Allow | Verdict::Refuse(_) => None,
        }
    }

    pub fn settle(&mut self, id: u8, units: u128) {
        let changes = self.ledger.settle(Hash256::from_bytes([id; 32]), Amount::from_units(units)).expect("settled");
        self.commit(changes);
    }

    pub fn end(&mut self, id: u8, ended: Ended) {
        let now = self.at(0);
        let changes = self.ledger.end(&self.policy, now, Hash256::from_bytes([id; 32]), ended);
        self.commit(changes);
    }

    pub fn order<E>(&mut self, order: impl FnOnce(&mut Ledger, &Policy, Timestamp) -> Result<Vec<Change>, E>) -> Result<(), E> {
        let now = self.at(0);
        let result = order(&mut self.ledger, &self.policy, now);
        self.commit(result?);
        Ok(())
    }

    pub fn grant(&mut self, order: GrantOrder) -> Result<u64, LedgerError> {
        let now = self.at(0);
        let (number, changes) = self.ledger.grant(now, order)?;
        self.commit(changes);
        Ok(number)
    }

    /// Spent and held of the budget `day`.
    pub fn day(&self) -> (u128, u128) {
        let key = CounterKey { rule: "day".to_owned(), of: "all".to_owned(), asset: Some(ASSET), start: Window::Day.start(self.at(0)) };
        let counted = self.ledger.counted(&key);
        (counted.spent.units(), counted.held.units())
    }
}
