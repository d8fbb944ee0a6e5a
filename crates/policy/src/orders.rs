//! What people order: approve and deny, pause and resume, give and take back sub-budgets.

use std::collections::BTreeMap;

use millstream_types::{Amount, Timestamp};

use crate::ask::{AssetKey, NAME_BYTES_MAX, Scope, Subject};
use crate::decide::LINEAGE_MAX;
use crate::error::LedgerError;
use crate::ledger::{Change, Ledger};
use crate::pattern::{Pattern, any};
use crate::record::{Counter, CounterKey, Grant, Hold, HoldState, Pause};
use crate::rules::Policy;

/// Sub-budgets that are remembered, at most.
pub(crate) const GRANTS_MAX: usize = 10_000;
/// The longest reason of a pause, in bytes.
const WHY_BYTES_MAX: usize = 512;
/// Patterns of a sub-budget, at most.
const PATTERNS_MAX: usize = 64;

/// A sub-budget to be given (G-40).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantOrder {
    /// Who gives.
    pub parent: String,
    /// Who gets.
    pub child: String,
    /// The token.
    pub asset: AssetKey,
    /// How much, in base units.
    pub max: Amount,
    /// Payees it is for; all when empty.
    pub payees: Vec<Pattern>,
    /// Categories it is for; all when empty.
    pub categories: Vec<Pattern>,
    /// Routes it is for; all when empty.
    pub routes: Vec<Pattern>,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
}

/// A request that waits, was approved and has not come again, or was denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting<'a> {
    /// The approval's number.
    pub number: u64,
    /// What is held.
    pub hold: &'a Hold,
}

impl Ledger {
    /// What waits for an approval, was approved, or was denied, by number.
    pub fn approvals(&self) -> impl Iterator<Item = Waiting<'_>> {
        self.approvals.iter().filter_map(|(number, id)| Some(Waiting { number: *number, hold: self.holds.get(id)? }))
    }

    /// Approves what waits: the request goes on when it comes again, until then it stays held (G-23). The time to come again begins anew.
    ///
    /// # Errors
    /// [`LedgerError::NotWaiting`].
    pub fn approve(&mut self, policy: &Policy, now: Timestamp, number: u64) -> Result<Vec<Change>, LedgerError> {
        self.expire(now);
        let expires_at = now.plus_millis(policy.approval_secs.saturating_mul(1_000));
        match self.waiting(number) {
            Some(hold) => {
                let approved = Some(hold.price);
                self.put_hold(Hold { state: HoldState::Approved { expires_at }, approved, ..hold });
                Ok(self.take_changes())
            }
            None => self.not_waiting(number),
        }
    }

    /// Denies what waits: nothing is held for it any more, and the request is refused when it comes again before the approval would have ended.
    ///
    /// # Errors
    /// [`LedgerError::NotWaiting`].
    pub fn deny(&mut self, now: Timestamp, number: u64) -> Result<Vec<Change>, LedgerError> {
        self.expire(now);
        let Some(hold) = self.waiting(number) else { return self.not_waiting(number) };
        let HoldState::Waiting { expires_at } = hold.state else { return self.not_waiting(number) };
        self.free_sums(&hold);
        let held = Amount::ZERO;
        self.put_hold(Hold { state: HoldState::Denied { expires_at }, held, sums: Vec::new(), grants: Vec::new(), ..hold });
        Ok(self.take_changes())
    }

    fn waiting(&self, number: u64) -> Option<Hold> {
        let hold = self.approvals.get(&number).and_then(|id| self.holds.get(id))?;
        matches!(hold.state, HoldState::Waiting { .. }).then(|| hold.clone())
    }

    /// What ended meanwhile is written all the same, by the next change.
    fn not_waiting(&self, number: u64) -> Result<Vec<Change>, LedgerError> {
        Err(LedgerError::NotWaiting { number })
    }

    /// Pauses everything, or one agent, key, payee, category or route: nothing of it is allowed until it is resumed. A pause of a breaker gets
    /// the new reason.
    pub fn pause(&mut self, now: Timestamp, scope: Scope, why: &str) -> Vec<Change> {
        let end = why
            .char_indices()
            .map(|(at, letter)| at.saturating_add(letter.len_utf8()))
            .take_while(|end| *end <= WHY_BYTES_MAX)
            .last();
        let why = why.get(..end.unwrap_or(0)).unwrap_or_default().to_owned();
        self.put_pause(scope, Pause { why, breaker: None, at: now });
        self.take_changes()
    }

    /// Ends a pause, and forgets what made the breaker trip: counts begin anew, and a payee's prices are as it asks next.
    ///
    /// # Errors
    /// [`LedgerError::NotPaused`].
    pub fn resume(&mut self, scope: &Scope) -> Result<Vec<Change>, LedgerError> {
        if !self.pauses.contains_key(scope) {
            return Err(LedgerError::NotPaused { scope: scope.to_string() });
        }
        self.drop_pause(scope);
        self.forget_trips(scope);
        Ok(self.take_changes())
    }

    /// Gives a part of an agent's money to another one. Returns its number.
    ///
    /// # Errors
    /// [`LedgerError::Grant`]: names that cannot be, an agent that has another giver, a circle, too many levels or sub-budgets.
    pub fn grant(&mut self, now: Timestamp, order: GrantOrder) -> Result<(u64, Vec<Change>), LedgerError> {
        let GrantOrder { parent, child, asset, max, payees, categories, routes, expires_at } = order;
        let sound = |name: &str| !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.chars().any(char::is_control);
        let patterns = [&payees, &categories, &routes];
        if !sound(&parent) || !sound(&child) || patterns.iter().any(|list| list.len() > PATTERNS_MAX) {
            return Err(LedgerError::Grant("a name is empty, too long or has control characters, or there are too many patterns"));
        }
        if patterns.into_iter().flatten().any(|pattern| !sound(pattern.as_str())) {
            return Err(LedgerError::Grant("a pattern is empty, too long or has control characters"));
        }
        if self.parents.get(&child).is_some_and(|known| *known != parent) {
            return Err(LedgerError::Grant("the agent has sub-budgets of another one"));
        }
        let lineage = self.lineage(&parent);
        if lineage.contains(&child) {
            return Err(LedgerError::Grant("the agent would spend its own money"));
        }
        if lineage.len() >= LINEAGE_MAX || self.depth_below(&child) > LINEAGE_MAX.saturating_sub(lineage.len()) {
            return Err(LedgerError::Grant("there are more than eight levels"));
        }
        if self.grants.len() >= GRANTS_MAX {
            return Err(LedgerError::Grant("there are 10,000 of them"));
        }
        let number = self.next_number();
        let grant = Grant {
            number,
            parent,
            child,
            asset,
            max,
            spent: Amount::ZERO,
            held: Amount::ZERO,
            payees,
            categories,
            routes,
            made_at: now,
            expires_at,
            revoked_at: None,
        };
        self.put_grant(grant);
        Ok((number, self.take_changes()))
    }

    /// Levels from an agent to those who spend its money, itself included.
    fn depth_below(&self, agent: &str) -> usize {
        let mut level = vec![agent];
        let mut depth = 0usize;
        while !level.is_empty() && depth <= LINEAGE_MAX {
            depth = depth.saturating_add(1);
            level = self.parents.iter().filter(|(_, parent)| level.contains(&parent.as_str())).map(|(child, _)| child.as_str()).collect();
        }
        depth
    }

    /// Takes a sub-budget back: nothing more of it is held. What is under way was promised, and may end.
    ///
    /// # Errors
    /// [`LedgerError::UnknownGrant`].
    pub fn revoke(&mut self, now: Timestamp, number: u64) -> Result<Vec<Change>, LedgerError> {
        match self.grants.get(&number).filter(|grant| grant.revoked_at.is_none()).cloned() {
            Some(grant) => {
                self.put_grant(Grant { revoked_at: Some(now), ..grant });
                Ok(self.take_changes())
            }
            None => Err(LedgerError::UnknownGrant { number }),
        }
    }

    /// Frees what has waited too long, and forgets what is over: windows, counts. To be called now and then, and at a start.
    pub fn sweep(&mut self, policy: &Policy, now: Timestamp) -> Vec<Change> {
        self.expire(now);
        self.forget_over(policy, now);
        self.take_changes()
    }

    /// Forgets counts and sums of windows that are over and that nothing is held in. Sums of rules that are gone stay: the rule may come back.
    pub(crate) fn forget_over(&mut self, policy: &Policy, now: Timestamp) {
        self.forget_gauges(now);
        let starts: BTreeMap<&str, Timestamp> =
            policy.budgets().iter().map(|budget| (budget.name.as_str(), budget.window.start(now))).collect();
        let is_over = |key: &CounterKey, counter: &Counter| {
            starts.get(key.rule.as_str()).is_some_and(|start| key.start < *start) && counter.held.is_zero() && counter.running == 0
        };
        let over: Vec<CounterKey> =
            self.counters.iter().filter(|(key, counter)| is_over(key, counter)).map(|(key, _)| key.clone()).collect();
        for key in over {
            self.put_counter(key, Counter::default());
        }
    }
}

impl Grant {
    /// Whether it is for such a payment.
    pub(crate) fn is_for(&self, subject: &Subject) -> bool {
        let all = |patterns: &[Pattern], name: &str| patterns.is_empty() || any(patterns, name);
        all(&self.payees, &subject.payee) && all(&self.categories, &subject.category) && all(&self.routes, &subject.route)
    }
}
