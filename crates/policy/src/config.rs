//! `[policy]` as it is written: texts and whole tokens, checked and turned into rules.

use std::collections::BTreeMap;

use millstream_types::Amount;
use serde::{Deserialize, Serialize};

use crate::ask::{AssetKey, Dimension};
use crate::error::ConfigError;
use crate::pattern::Pattern;
use crate::rules::{Budget, Category, Lists, Mode, Policy, Rate, When};
use crate::window::Window;

/// The longest moving window, in seconds: a day.
const WITHIN_SECS_MAX: u64 = 86_400;
/// Decisions that are kept in memory, at most.
const DECISIONS_MAX: usize = 1_000_000;

/// `[policy]`. Amounts are whole tokens and a symbol, such as `5 USDC`; they hold for each token of that name apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyConfig {
    /// `shadow`: all of this is counted and noted, and refuses nothing.
    pub mode: Mode,
    /// The most that one payment may cost, of each token one.
    pub payment_max: Vec<String>,
    /// Payments that cost more wait for an approval, of each token one.
    pub approval_above: Vec<String>,
    /// How long an approval is waited for, and an approved request; 3,600 s when it is not set.
    pub approval_secs: Option<u64>,
    /// How many may wait at a time; 100 when it is not set.
    pub waiting_max: Option<usize>,
    /// Decisions that can be explained; the last 10,000 when it is not set.
    pub decisions_kept: Option<usize>,
    /// Where approvals are asked for: an `https` address, or one of this machine. It is told, and decides nothing.
    pub webhook: Option<String>,
    /// Names that are allowed; others of the same dimension are not.
    pub allow: ListConfig,
    /// Names that are denied.
    pub deny: ListConfig,
    /// What kind of thing is bought, by what is asked and who is paid; the first that fits.
    pub category: Vec<CategoryConfig>,
    /// Amounts for windows.
    pub budget: Vec<BudgetConfig>,
    /// How often, and how many at once.
    pub rate: Vec<RateConfig>,
    /// What pauses an agent or a payee by itself.
    pub breaker: BreakerConfig,
}

/// Names of each dimension; `*` stands for any run of characters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListConfig {
    /// Agents.
    pub agent: Vec<Pattern>,
    /// Keys.
    pub key: Vec<Pattern>,
    /// Payees.
    pub payee: Vec<Pattern>,
    /// Categories.
    pub category: Vec<Pattern>,
    /// Routes.
    pub route: Vec<Pattern>,
}

/// What a rule is about.
pub type WhenConfig = ListConfig;

/// `[[policy.category]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CategoryConfig {
    /// Its name.
    pub name: String,
    /// Routes of it.
    #[serde(default)]
    pub route: Vec<Pattern>,
    /// Payees of it.
    #[serde(default)]
    pub payee: Vec<Pattern>,
}

/// `[[policy.budget]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetConfig {
    /// Its name; sums are kept by it.
    pub name: String,
    /// The most, such as `5 USDC`.
    pub max: String,
    /// The window.
    pub window: Window,
    /// What sums are kept by.
    #[serde(default)]
    pub per: Vec<Dimension>,
    /// What it is about; everything when it is not set.
    #[serde(default)]
    pub when: WhenConfig,
    /// `shadow`: this one refuses nothing.
    #[serde(default)]
    pub mode: Mode,
}

/// `[[policy.rate]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateConfig {
    /// Its name.
    pub name: String,
    /// How many, within [`RateConfig::within_secs`].
    #[serde(default)]
    pub requests_max: Option<u64>,
    /// The moving window; 60 s when it is not set.
    #[serde(default)]
    pub within_secs: Option<u64>,
    /// How many at once.
    #[serde(default)]
    pub in_flight_max: Option<u32>,
    /// What is counted apart.
    #[serde(default)]
    pub per: Vec<Dimension>,
    /// What it is about.
    #[serde(default)]
    pub when: WhenConfig,
    /// `shadow`: this one refuses nothing.
    #[serde(default)]
    pub mode: Mode,
}

/// `[policy.breaker]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BreakerConfig {
    /// `shadow`: they only say that they would trip.
    pub mode: Mode,
    /// An agent that pays too fast.
    pub velocity: Option<VelocityConfig>,
    /// An agent that asks the same again and again.
    pub r#loop: Option<LoopConfig>,
    /// A payee whose prices rise.
    pub price: Option<PriceConfig>,
    /// An agent that pays many it never paid before.
    pub payees: Option<PayeesConfig>,
    /// A payee whose answers fail.
    pub errors: Option<ErrorsConfig>,
}

/// `[policy.breaker.velocity]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VelocityConfig {
    /// Payments.
    #[serde(default)]
    pub requests_max: Option<u64>,
    /// What they cost at most, such as `1 USDC`.
    #[serde(default)]
    pub amount_max: Option<String>,
    /// The moving window.
    pub within_secs: u64,
}

/// `[policy.breaker.loop]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoopConfig {
    /// Equal requests.
    pub equal_max: u64,
    /// The moving window.
    pub within_secs: u64,
}

/// `[policy.breaker.price]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceConfig {
    /// Percent above the listed price, or above what the same request cost first.
    pub above_percent: u64,
}

/// `[policy.breaker.payees]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PayeesConfig {
    /// Payees who were never paid before.
    pub new_max: u64,
    /// The moving window.
    pub within_secs: u64,
}

/// `[policy.breaker.errors]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorsConfig {
    /// Percent of requests that may fail.
    pub failed_percent: u64,
    /// From so many requests on.
    pub requests_min: u64,
    /// The moving window.
    pub within_secs: u64,
}

fn wrong(key: impl Into<String>, reason: impl Into<String>) -> ConfigError {
    ConfigError::Setting { key: key.into(), reason: reason.into() }
}

impl ListConfig {
    fn when(&self) -> When {
        let lists = [
            (Dimension::Agent, &self.agent),
            (Dimension::Key, &self.key),
            (Dimension::Payee, &self.payee),
            (Dimension::Category, &self.category),
            (Dimension::Route, &self.route),
        ];
        lists.into_iter().fold(When::default(), |when, (dimension, patterns)| when.only(dimension, patterns.clone()))
    }
}

impl PolicyConfig {
    /// Adds what is written here to a policy that has the tokens, and perhaps limits of its own. What was there stays enforced.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn build(&self, mut policy: Policy) -> Result<Policy, ConfigError> {
        let shadow = |mode: Mode| if self.mode == Mode::Shadow { Mode::Shadow } else { mode };
        let tokens: Vec<(AssetKey, String, u8)> =
            policy.assets.iter().map(|(key, rules)| (*key, rules.symbol.clone(), rules.decimals)).collect();
        for text in &self.payment_max {
            for (asset, max) in amounts("payment_max", text, &tokens)? {
                if let Some(rules) = policy.assets.get_mut(&asset) {
                    rules.payment_max.push((max, self.mode));
                }
            }
        }
        for text in &self.approval_above {
            for (asset, above) in amounts("approval_above", text, &tokens)? {
                if let Some(rules) = policy.assets.get_mut(&asset) {
                    rules.approval_above = Some((above, self.mode));
                }
            }
        }
        policy.approval_secs = bounded("approval_secs", self.approval_secs, policy.approval_secs, 30 * WITHIN_SECS_MAX)?;
        policy.waiting_max = bounded("waiting_max", self.waiting_max, policy.waiting_max, 10_000)?;
        policy.decisions_kept = bounded("decisions_kept", self.decisions_kept, policy.decisions_kept, DECISIONS_MAX)?;
        policy.lists = Lists { allow: self.allow.when(), deny: self.deny.when(), mode: self.mode };
        for category in &self.category {
            if category.name.is_empty() || (category.route.is_empty() && category.payee.is_empty()) {
                return Err(wrong("category", "a category has a name, and routes or payees"));
            }
            let when = When::default().only(Dimension::Route, category.route.clone()).only(Dimension::Payee, category.payee.clone());
            policy.categories.push(Category { name: category.name.clone(), when });
        }
        for budget in &self.budget {
            let key = format!("budget {}", budget.name);
            let max = amounts(&key, &budget.max, &tokens)?.into_iter().collect();
            let (name, per, when) = (budget.name.clone(), budget.per.clone(), budget.when.when());
            policy.add_budget(Budget { name, max, per, when, window: budget.window, mode: shadow(budget.mode) })?;
        }
        for rate in &self.rate {
            let key = format!("rate {}", rate.name);
            let secs = within(&key, rate.within_secs.unwrap_or(60))?;
            if rate.requests_max.is_none() && rate.in_flight_max.is_none() {
                return Err(wrong(key, "expected requests_max or in_flight_max"));
            }
            let (name, per, when) = (rate.name.clone(), rate.per.clone(), rate.when.when());
            let requests_max = rate.requests_max.map(|max| (max, secs));
            policy.add_rate(Rate { name, per, when, requests_max, in_flight_max: rate.in_flight_max, mode: shadow(rate.mode) })?;
        }
        self.build_breakers(&mut policy, &tokens)?;
        Ok(policy)
    }

    fn build_breakers(&self, policy: &mut Policy, tokens: &[(AssetKey, String, u8)]) -> Result<(), ConfigError> {
        let breakers = &mut policy.breakers;
        breakers.mode = if self.mode == Mode::Shadow { Mode::Shadow } else { self.breaker.mode };
        if let Some(velocity) = &self.breaker.velocity {
            let secs = within("breaker.velocity", velocity.within_secs)?;
            if velocity.requests_max.is_none() && velocity.amount_max.is_none() {
                return Err(wrong("breaker.velocity", "expected requests_max or amount_max"));
            }
            breakers.velocity_requests = velocity.requests_max.map(|max| (max, secs));
            if let Some(text) = &velocity.amount_max {
                let max: BTreeMap<AssetKey, Amount> = amounts("breaker.velocity", text, tokens)?.into_iter().collect();
                breakers.velocity_amount = Some((max, secs));
            }
        }
        if let Some(equal) = &self.breaker.r#loop {
            breakers.equal_requests = Some((equal.equal_max, within("breaker.loop", equal.within_secs)?));
        }
        if let Some(price) = &self.breaker.price {
            breakers.price_percent = Some(price.above_percent);
        }
        if let Some(payees) = &self.breaker.payees {
            breakers.new_payees = Some((payees.new_max, within("breaker.payees", payees.within_secs)?));
        }
        if let Some(errors) = &self.breaker.errors {
            if errors.failed_percent > 100 {
                return Err(wrong("breaker.errors", format!("failed_percent is {}, expected 0 to 100", errors.failed_percent)));
            }
            let secs = within("breaker.errors", errors.within_secs)?;
            breakers.failures = Some((errors.failed_percent, errors.requests_min.max(1), secs));
        }
        Ok(())
    }
}

impl Policy {
    /// An amount such as `5 USDC`, for each token of that name.
    ///
    /// # Errors
    /// [`ConfigError::Setting`].
    pub fn amounts(&self, text: &str) -> Result<Vec<(AssetKey, Amount)>, ConfigError> {
        let tokens: Vec<_> = self.assets.iter().map(|(key, rules)| (*key, rules.symbol.clone(), rules.decimals)).collect();
        amounts("amount", text, &tokens)
    }
}

fn within(key: &str, secs: u64) -> Result<u64, ConfigError> {
    if (1..=WITHIN_SECS_MAX).contains(&secs) {
        Ok(secs)
    } else {
        Err(wrong(key, format!("within_secs is {secs}, expected 1 to {WITHIN_SECS_MAX}")))
    }
}

fn bounded<T: PartialOrd + From<u8> + Copy + core::fmt::Display>(
    key: &str,
    value: Option<T>,
    default: T,
    max: T,
) -> Result<T, ConfigError> {
    match value {
        None => Ok(default),
        Some(value) if value >= T::from(1) && value <= max => Ok(value),
        Some(value) => Err(wrong(key, format!("{value} is not within 1 to {max}"))),
    }
}

/// `5 USDC`, for each token of that name.
fn amounts(key: &str, text: &str, tokens: &[(AssetKey, String, u8)]) -> Result<Vec<(AssetKey, Amount)>, ConfigError> {
    let Some((number, symbol)) = text.trim().split_once(' ') else {
        return Err(wrong(key, format!("{text:?} is no amount: expected whole tokens and a symbol, such as \"5 USDC\"")));
    };
    let named = tokens.iter().filter(|(_, name, _)| name == symbol.trim());
    let read = named.map(|(asset, _, decimals)| Ok((*asset, whole_tokens(key, number, *decimals)?)));
    let read = read.collect::<Result<Vec<_>, ConfigError>>()?;
    if read.is_empty() {
        let known = tokens.iter().map(|(_, name, _)| name.as_str()).collect::<std::collections::BTreeSet<_>>();
        let known = known.into_iter().collect::<Vec<_>>().join(", ");
        return Err(wrong(key, format!("{text:?} is in no token that may be paid with: {known}")));
    }
    Ok(read)
}

/// Whole tokens as base units; what is finer than one is refused.
fn whole_tokens(key: &str, text: &str, decimals: u8) -> Result<Amount, ConfigError> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let places = usize::from(decimals);
    if whole.is_empty() || !digits(whole) || !digits(fraction) || (text.contains('.') && fraction.is_empty()) {
        return Err(wrong(key, format!("{text:?} is no decimal number")));
    }
    if fraction.len() > places {
        return Err(wrong(key, format!("{text:?} has more than the token's {decimals} digits after the point")));
    }
    let units = format!("{whole}{fraction:0<places$}").parse::<u128>();
    units.map(Amount::from_units).map_err(|_| wrong(key, format!("{text:?} is too large")))
}
