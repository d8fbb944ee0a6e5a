//! Orders as data: what people ask of a policy, and what they are answered; for a socket, an admin listener, a command line.

use millstream_types::{Amount, Hash256, Timestamp};
use serde::{Deserialize, Serialize};

use crate::ask::{AssetKey, Scope};
use crate::decision::{Decision, Reason, Verdict, shown};
use crate::error::{ConfigError, LedgerError};
use crate::ledger::{Change, Ledger};
use crate::orders::{GRANTS_MAX, GrantOrder, Waiting};
use crate::pattern::Pattern;
use crate::record::{CounterKey, HoldState};
use crate::rules::Policy;
use crate::window::Window;

/// Decisions that are shown at once, at most.
const SHOWN_MAX: usize = 1_000;

/// What is ordered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "kebab-case", deny_unknown_fields)]
pub enum PolicyOrder {
    /// Show what is counted, paused, granted and waits.
    Show,
    /// Show the newest decisions.
    Decisions {
        /// How many, at most 1,000.
        count: usize,
    },
    /// Explain a decision.
    Explain {
        /// Its number, or the id of the request.
        of: String,
    },
    /// Pause everything, or one agent, key, payee, category or route.
    Pause {
        /// `all`, or `agent=NAME`.
        scope: String,
        /// Why.
        why: String,
    },
    /// End a pause.
    Resume {
        /// As it is paused.
        scope: String,
    },
    /// Show what waits for an approval.
    Approvals,
    /// Approve what waits.
    Approve {
        /// The approval.
        number: u64,
    },
    /// Deny what waits.
    Deny {
        /// The approval.
        number: u64,
    },
    /// Give a part of an agent's money to another one.
    Grant {
        /// Who gives.
        parent: String,
        /// Who gets.
        child: String,
        /// How much, such as `5 USDC`.
        max: String,
        /// Payees it is for; all when empty.
        payees: Vec<String>,
        /// Categories it is for.
        categories: Vec<String>,
        /// Routes it is for.
        routes: Vec<String>,
        /// Seconds until it ends.
        expires_in_secs: Option<u64>,
    },
    /// Take a sub-budget back.
    Revoke {
        /// Its number.
        number: u64,
    },
}

/// What is answered, once it is durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", content = "of", rename_all = "kebab-case")]
pub enum PolicyReply {
    /// To [`PolicyOrder::Show`].
    Policy(Box<PolicyView>),
    /// To [`PolicyOrder::Decisions`] and [`PolicyOrder::Explain`].
    Decisions(Vec<DecisionView>),
    /// To [`PolicyOrder::Approvals`].
    Approvals(Vec<ApprovalView>),
    /// Numbers of the sub-budgets: one for each token of the name.
    Granted(Vec<u64>),
    /// It is done.
    Done,
}

/// The policy as it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyView {
    /// Sums of the windows that run, and what their budgets allow.
    pub counters: Vec<CounterView>,
    /// What is paused.
    pub pauses: Vec<PauseView>,
    /// What waits.
    pub approvals: Vec<ApprovalView>,
    /// Sub-budgets.
    pub grants: Vec<GrantView>,
}

/// One sum. Amounts in base units.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterView {
    /// The rule.
    pub rule: String,
    /// What it is kept for.
    pub of: String,
    /// The token's name; empty of counts.
    pub symbol: String,
    /// The window.
    pub window: String,
    /// What was spent.
    pub spent: Amount,
    /// What is held.
    pub held: Amount,
    /// What may be.
    pub max: Amount,
    /// Requests under way, where they are limited.
    pub running: u32,
}

/// One pause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseView {
    /// What: `all`, `agent=NAME`.
    pub scope: String,
    /// Why.
    pub why: String,
    /// The breaker that tripped; nothing when somebody ordered it.
    pub breaker: Option<String>,
    /// Since when, in milliseconds since the Unix epoch.
    pub since_millis: u64,
}

/// What waits, was approved or denied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalView {
    /// Its number.
    pub approval: u64,
    /// `waiting`, `approved` or `denied`.
    pub state: String,
    /// Who.
    pub agent: String,
    /// Whom.
    pub payee: String,
    /// For what kind.
    pub category: String,
    /// Where.
    pub route: String,
    /// The token's name.
    pub symbol: String,
    /// What it costs at most, in base units.
    pub price: Amount,
    /// When it ends by itself, in milliseconds since the Unix epoch.
    pub expires_at_millis: u64,
}

/// A sub-budget. Amounts in base units.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantView {
    /// Its number.
    pub grant: u64,
    /// Who gave it.
    pub parent: String,
    /// Who may spend it.
    pub child: String,
    /// The token's name.
    pub symbol: String,
    /// How much.
    pub max: Amount,
    /// What was spent.
    pub spent: Amount,
    /// What is held.
    pub held: Amount,
    /// `live`, `over` or `revoked`.
    pub state: String,
    /// When it ends, in milliseconds since the Unix epoch.
    pub expires_at_millis: Option<u64>,
}

/// One decision. Amounts in base units.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionView {
    /// Its number.
    pub decision: u64,
    /// When, in milliseconds since the Unix epoch.
    pub at_millis: u64,
    /// `allow`, `wait` or `refuse`.
    pub verdict: String,
    /// Why, where it was refused.
    pub reason: Option<ReasonView>,
    /// Who.
    pub agent: String,
    /// Whom.
    pub payee: String,
    /// For what kind.
    pub category: String,
    /// Where.
    pub route: String,
    /// The token.
    pub token: String,
    /// Its name, where it is one that may be paid with.
    pub symbol: String,
    /// By how much what is spent was to rise.
    pub adds: Amount,
    /// What the request costs at most.
    pub price: Amount,
    /// What would have refused it and is in shadow mode.
    pub shadowed: Vec<ReasonView>,
    /// What was compared, in this order.
    pub checks: Vec<CheckView>,
}

/// Why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonView {
    /// In one word.
    pub kind: String,
    /// In a sentence.
    pub text: String,
}

/// One comparison.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckView {
    /// The rule.
    pub rule: String,
    /// What was counted.
    pub of: String,
    /// Before.
    pub before: Amount,
    /// After.
    pub after: Amount,
    /// At most.
    pub max: Amount,
}

/// Why an order is not carried out. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// What is to be paused or resumed is nothing that can be.
    #[error("{scope} is nothing that is paused: expected all, or agent, key, payee, category or route, as in agent=NAME")]
    Scope {
        /// What was given.
        scope: String,
    },
    /// No such decision is kept.
    #[error("no decision is kept with the number, or for the request, {of}")]
    UnknownDecision {
        /// What was asked for.
        of: String,
    },
    /// The ledger does not take it.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// An amount that cannot be.
    #[error(transparent)]
    Amount(#[from] ConfigError),
}

impl Ledger {
    /// Carries out an order. The answer may leave when the changes are durable. `id_of` says which request a text names.
    ///
    /// # Errors
    /// [`OrderError`].
    pub fn carry_out(
        &mut self,
        policy: &Policy,
        now: Timestamp,
        order: PolicyOrder,
        id_of: impl FnOnce(&str) -> Option<Hash256>,
    ) -> Result<(PolicyReply, Vec<Change>), OrderError> {
        let shown = |reply: PolicyReply| Ok((reply, Vec::new()));
        let done = |changes: Vec<Change>| Ok((PolicyReply::Done, changes));
        match order {
            PolicyOrder::Show => shown(PolicyReply::Policy(Box::new(self.policy_view(policy, now)))),
            PolicyOrder::Decisions { count } => {
                let rows = self.decisions().take(count.min(SHOWN_MAX)).map(|decision| decision_view(policy, decision));
                shown(PolicyReply::Decisions(rows.collect()))
            }
            PolicyOrder::Explain { of } => {
                let by_number = of.parse().ok().and_then(|number| self.decision(number));
                let found = by_number.or_else(|| id_of(&of).and_then(|id| self.decision_on(id)));
                let view = found.map(|decision| decision_view(policy, decision)).ok_or(OrderError::UnknownDecision { of })?;
                shown(PolicyReply::Decisions(vec![view]))
            }
            PolicyOrder::Approvals => {
                shown(PolicyReply::Approvals(self.approvals().map(|waiting| approval_view(policy, waiting)).collect()))
            }
            PolicyOrder::Pause { scope, why } => done(self.pause(now, read_scope(scope)?, &why)),
            PolicyOrder::Resume { scope } => done(self.resume(&read_scope(scope)?)?),
            PolicyOrder::Approve { number } => done(self.approve(policy, now, number)?),
            PolicyOrder::Deny { number } => done(self.deny(now, number)?),
            PolicyOrder::Revoke { number } => done(self.revoke(now, number)?),
            PolicyOrder::Grant { parent, child, max, payees, categories, routes, expires_in_secs } => {
                let patterns = |texts: Vec<String>| texts.iter().map(|text| Pattern::new(text)).collect::<Vec<_>>();
                let (payees, categories, routes) = (patterns(payees), patterns(categories), patterns(routes));
                let expires_at = expires_in_secs.map(|secs| now.plus_millis(secs.saturating_mul(1_000)));
                let (mut numbers, mut changes) = (Vec::new(), Vec::new());
                let amounts = policy.amounts(&max)?;
                if self.grants.len().saturating_add(amounts.len()) > GRANTS_MAX {
                    return Err(LedgerError::Grant("there are 10,000 of them").into());
                }
                // One for each token of the name. The names are the same for each, so all are given or none.
                for (asset, max) in amounts {
                    let (parent, child) = (parent.clone(), child.clone());
                    let (payees, categories, routes) = (payees.clone(), categories.clone(), routes.clone());
                    let order = GrantOrder { parent, child, asset, max, payees, categories, routes, expires_at };
                    let (number, more) = self.grant(now, order)?;
                    numbers.push(number);
                    changes.extend(more);
                }
                Ok((PolicyReply::Granted(numbers), changes))
            }
        }
    }

    fn policy_view(&self, policy: &Policy, now: Timestamp) -> PolicyView {
        let counters = self.counters().filter_map(|(key, counted)| {
            let (window, max) = limit_of(policy, key, now)?;
            let symbol = key.asset.map(|asset| symbol(policy, asset)).unwrap_or_default();
            let (rule, of) = (key.rule.clone(), shown(&key.of));
            Some(CounterView { rule, of, symbol, window, spent: counted.spent, held: counted.held, max, running: counted.running })
        });
        let pauses = self.pauses().map(|(scope, pause)| PauseView {
            scope: scope.to_string(),
            why: pause.why.clone(),
            breaker: pause.breaker.clone(),
            since_millis: pause.at.as_millis(),
        });
        let grants = self.grants().map(|grant| GrantView {
            grant: grant.number,
            parent: grant.parent.clone(),
            child: grant.child.clone(),
            symbol: symbol(policy, grant.asset),
            max: grant.max,
            spent: grant.spent,
            held: grant.held,
            state: match (grant.revoked_at, grant.is_live(now)) {
                (Some(_), _) => "revoked",
                (None, true) => "live",
                (None, false) => "over",
            }
            .to_owned(),
            expires_at_millis: grant.expires_at.map(Timestamp::as_millis),
        });
        PolicyView {
            counters: counters.collect(),
            pauses: pauses.collect(),
            approvals: self.approvals().map(|waiting| approval_view(policy, waiting)).collect(),
            grants: grants.collect(),
        }
    }
}

fn symbol(policy: &Policy, asset: AssetKey) -> String {
    policy.asset(asset).map(|rules| rules.symbol.clone()).unwrap_or_default()
}

/// Window and maximum of a sum whose window runs and whose rule is there.
fn limit_of(policy: &Policy, key: &CounterKey, now: Timestamp) -> Option<(String, Amount)> {
    if let Some(asset) = key.asset {
        let budget = policy.budgets().iter().find(|budget| budget.name == key.rule)?;
        let max = budget.max.get(&asset).copied()?;
        return (budget.window.start(now) == key.start).then(|| (budget.window.name().to_owned(), max));
    }
    let rate = policy.rates().iter().find(|rate| rate.name == key.rule)?;
    Some((Window::Total.name().to_owned(), Amount::from_units(rate.in_flight_max?.into())))
}

fn approval_view(policy: &Policy, Waiting { number, hold }: Waiting<'_>) -> ApprovalView {
    let (state, expires_at) = match hold.state {
        HoldState::Held => ("under-way", hold.made_at),
        HoldState::Waiting { expires_at } => ("waiting", expires_at),
        HoldState::Approved { expires_at } => ("approved", expires_at),
        HoldState::Denied { expires_at } => ("denied", expires_at),
    };
    let subject = hold.subject.clone();
    ApprovalView {
        approval: number,
        state: state.to_owned(),
        agent: subject.agent,
        payee: subject.payee,
        category: subject.category,
        route: subject.route,
        symbol: symbol(policy, hold.asset),
        price: hold.price,
        expires_at_millis: expires_at.as_millis(),
    }
}

fn decision_view(policy: &Policy, decision: &Decision) -> DecisionView {
    let shown = |reason: &Reason| ReasonView { kind: reason.kind.name().to_owned(), text: reason.to_string() };
    let verdict = match &decision.verdict {
        Verdict::Allow => "allow",
        Verdict::Wait { .. } => "wait",
        Verdict::Refuse(_) => "refuse",
    };
    let checks = decision.checks.iter().map(|check| CheckView {
        rule: check.rule.clone(),
        of: check.of.clone(),
        before: check.before,
        after: check.after,
        max: check.max,
    });
    let subject = decision.subject.clone();
    DecisionView {
        decision: decision.number,
        at_millis: decision.at.as_millis(),
        verdict: verdict.to_owned(),
        reason: decision.refusal().map(shown),
        agent: subject.agent,
        payee: subject.payee,
        category: subject.category,
        route: subject.route,
        token: decision.asset.token.to_string(),
        symbol: symbol(policy, decision.asset),
        adds: decision.adds,
        price: decision.price,
        shadowed: decision.shadowed.iter().map(shown).collect(),
        checks: checks.collect(),
    }
}

fn read_scope(scope: String) -> Result<Scope, OrderError> {
    Scope::parse(&scope).ok_or(OrderError::Scope { scope })
}
