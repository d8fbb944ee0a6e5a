//! The rules: what a policy says, once it is read and checked.

use std::collections::BTreeMap;

use millstream_types::Amount;
use serde::{Deserialize, Serialize};

use crate::ask::{AssetKey, Dimension, Subject};
use crate::error::ConfigError;
use crate::pattern::{Pattern, any};
use crate::window::Window;

/// Whether a rule refuses, or only says that it would.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It refuses.
    #[default]
    Enforce,
    /// It is counted and noted, and refuses nothing.
    Shadow,
}

/// A token that may be paid with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssetRules {
    /// Its name for people; several chains may have the same.
    pub symbol: String,
    /// Digits after the point of a whole token.
    pub decimals: u8,
    /// The most that one payment may cost, in base units; the enforced and the shadowed ones.
    pub payment_max: Vec<(Amount, Mode)>,
    /// Payments that cost more than this wait for an approval, in base units; in shadow mode they would.
    pub approval_above: Option<(Amount, Mode)>,
}

/// Names that are meant: of each dimension all, or those that match. Empty lists mean all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct When {
    lists: BTreeMap<Dimension, Vec<Pattern>>,
}

/// An amount for a window (G-10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Its name; sums are kept by it, so a new name begins anew.
    pub name: String,
    /// The most that may be held and spent in a window, in base units of each token. Of other tokens it says nothing.
    pub max: BTreeMap<AssetKey, Amount>,
    /// What sums are kept by: with an agent and a payee there is one for each pair. Without any there is one.
    pub per: Vec<Dimension>,
    /// Payments that it is about.
    pub when: When,
    /// When it begins anew.
    pub window: Window,
    /// Whether it refuses.
    pub mode: Mode,
}

/// How often, and how many at once (G-13).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Its name.
    pub name: String,
    /// What is counted apart.
    pub per: Vec<Dimension>,
    /// Payments that it is about.
    pub when: When,
    /// How many in the moving window before each moment: count and seconds.
    pub requests_max: Option<(u64, u64)>,
    /// How many that are held at a time.
    pub in_flight_max: Option<u32>,
    /// Whether it refuses.
    pub mode: Mode,
}

/// Who and what is allowed and denied. A name that is denied is refused; where there is a list of allowed names, others are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lists {
    /// Where a dimension has a list, its names are the only ones.
    pub allow: When,
    /// These are refused.
    pub deny: When,
    /// Whether they refuse.
    pub mode: Mode,
}

/// What makes a breaker trip; it pauses an agent or a payee until it is resumed (G-30).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Breakers {
    /// Payments of one agent: count and seconds.
    pub velocity_requests: Option<(u64, u64)>,
    /// What payments of one agent cost at most, and seconds.
    pub velocity_amount: Option<(BTreeMap<AssetKey, Amount>, u64)>,
    /// Equal requests of one agent: count and seconds.
    pub equal_requests: Option<(u64, u64)>,
    /// Percent by which a price may be above the listed one, or above what the same request cost first.
    pub price_percent: Option<u64>,
    /// Payees whom an agent has not paid before: count and seconds.
    pub new_payees: Option<(u64, u64)>,
    /// Of requests paid to one payee, percent that may fail; requests from which on that counts; seconds.
    pub failures: Option<(u64, u64, u64)>,
    /// Whether they trip, or only say that they would.
    pub mode: Mode,
}

/// What a kind of thing is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Category {
    pub(crate) name: String,
    pub(crate) when: When,
}

/// The rules. Built by [`PolicyConfig::build`](crate::PolicyConfig::build), or from tokens and budgets of one's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub(crate) assets: BTreeMap<AssetKey, AssetRules>,
    pub(crate) budgets: Vec<Budget>,
    pub(crate) rates: Vec<Rate>,
    pub(crate) lists: Lists,
    pub(crate) categories: Vec<Category>,
    pub(crate) breakers: Breakers,
    pub(crate) approval_secs: u64,
    pub(crate) waiting_max: usize,
    pub(crate) decisions_kept: usize,
}

impl When {
    /// Also only names of a dimension that match one of these. An empty list changes nothing.
    #[must_use]
    pub fn only(mut self, dimension: Dimension, patterns: Vec<Pattern>) -> Self {
        if !patterns.is_empty() {
            self.lists.insert(dimension, patterns);
        }
        self
    }

    /// Whether a subject is meant.
    #[must_use]
    pub fn matches(&self, subject: &Subject) -> bool {
        self.lists.iter().all(|(dimension, patterns)| any(patterns, subject.of(*dimension)))
    }

    /// The first name that is in a list of its dimension.
    pub(crate) fn hit<'a>(&self, subject: &'a Subject) -> Option<(Dimension, &'a str)> {
        let hits = self.lists.iter().map(|(dimension, patterns)| (*dimension, patterns, subject.of(*dimension)));
        hits.filter(|(_, patterns, name)| any(patterns, name)).map(|(dimension, _, name)| (dimension, name)).next()
    }

    /// The first name that is not in the list that its dimension has.
    pub(crate) fn miss<'a>(&self, subject: &'a Subject) -> Option<(Dimension, &'a str)> {
        let names = self.lists.iter().map(|(dimension, patterns)| (*dimension, patterns, subject.of(*dimension)));
        names.filter(|(_, patterns, name)| !any(patterns, name)).map(|(dimension, _, name)| (dimension, name)).next()
    }

    /// Whether it has a list of a dimension.
    pub(crate) fn names(&self, dimension: Dimension) -> bool {
        self.lists.contains_key(&dimension)
    }
}

impl Policy {
    /// A policy that allows these tokens without any other limit.
    #[must_use]
    pub fn of_assets(assets: impl IntoIterator<Item = (AssetKey, AssetRules)>) -> Self {
        Self {
            assets: assets.into_iter().collect(),
            budgets: Vec::new(),
            rates: Vec::new(),
            lists: Lists::default(),
            categories: Vec::new(),
            breakers: Breakers::default(),
            approval_secs: 3_600,
            waiting_max: 100,
            decisions_kept: 10_000,
        }
    }

    /// Adds a budget.
    ///
    /// # Errors
    /// [`ConfigError::Setting`]: its name is taken or cannot be one, or there are too many.
    pub fn add_budget(&mut self, budget: Budget) -> Result<(), ConfigError> {
        self.check_name("budget", &budget.name)?;
        self.budgets.push(budget);
        Ok(())
    }

    /// Adds a limit of a rate.
    ///
    /// # Errors
    /// [`ConfigError::Setting`].
    pub fn add_rate(&mut self, rate: Rate) -> Result<(), ConfigError> {
        self.check_name("rate", &rate.name)?;
        self.rates.push(rate);
        Ok(())
    }

    fn check_name(&self, key: &str, name: &str) -> Result<(), ConfigError> {
        let wrong = |reason: String| Err(ConfigError::Setting { key: key.to_owned(), reason });
        let sound = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if name.is_empty() || name.len() > 64 || !name.bytes().all(sound) {
            return wrong(format!("the name {name:?} is not 1 to 64 letters, digits, '.', '_' and '-'"));
        }
        let taken = self.budgets.iter().map(|budget| &budget.name).chain(self.rates.iter().map(|rate| &rate.name));
        if taken.into_iter().any(|taken| taken == name) {
            return wrong(format!("the name {name} is given twice"));
        }
        if self.budgets.len().saturating_add(self.rates.len()) >= RULES_MAX {
            return wrong(format!("there are more than {RULES_MAX} rules"));
        }
        Ok(())
    }

    /// The budgets, in the order in which they are checked.
    #[must_use]
    pub fn budgets(&self) -> &[Budget] {
        &self.budgets
    }

    /// The rates.
    #[must_use]
    pub fn rates(&self) -> &[Rate] {
        &self.rates
    }

    /// The breakers.
    #[must_use]
    pub const fn breakers(&self) -> &Breakers {
        &self.breakers
    }

    /// A token's rules, if it may be paid with.
    #[must_use]
    pub fn asset(&self, asset: AssetKey) -> Option<&AssetRules> {
        self.assets.get(&asset)
    }

    /// All tokens, in the order of chain and address.
    pub fn assets(&self) -> impl Iterator<Item = (AssetKey, &AssetRules)> {
        self.assets.iter().map(|(key, rules)| (*key, rules))
    }

    /// A subject with its category.
    pub(crate) fn categorised(&self, subject: &Subject) -> Subject {
        if !subject.category.is_empty() {
            return subject.clone();
        }
        let found = self.categories.iter().find(|category| category.when.matches(subject));
        Subject { category: found.map(|category| category.name.clone()).unwrap_or_default(), ..subject.clone() }
    }
}

/// Budgets and rates of a policy, at most: each is checked for each payment.
const RULES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_and_given_once() {
        let budget = |name: &str| Budget {
            name: name.to_owned(),
            max: BTreeMap::new(),
            per: Vec::new(),
            when: When::default(),
            window: Window::Day,
            mode: Mode::Enforce,
        };
        let mut policy = Policy::of_assets([]);
        assert!(policy.add_budget(budget("day")).is_ok());
        for name in ["day", "", "a b", &"x".repeat(65)] {
            assert!(policy.add_budget(budget(name)).is_err(), "{name}");
        }
    }

    #[test]
    fn lists_mean_what_they_name() {
        let subject = Subject { agent: "research-1".to_owned(), route: "api.example".to_owned(), ..Subject::default() };
        let when = |dimension, pattern: &str| When::default().only(dimension, vec![Pattern::new(pattern)]);
        assert!(When::default().matches(&subject));
        assert!(when(Dimension::Agent, "research-*").matches(&subject));
        assert!(!when(Dimension::Agent, "research-*").only(Dimension::Route, vec![Pattern::new("other")]).matches(&subject));
        assert_eq!(when(Dimension::Route, "*.example").hit(&subject), Some((Dimension::Route, "api.example")));
        assert_eq!(When::default().hit(&subject), None);
        assert_eq!(when(Dimension::Payee, "0x1").miss(&subject), Some((Dimension::Payee, "")));
    }
}
