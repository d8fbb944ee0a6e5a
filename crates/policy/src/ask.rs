//! What a decision is asked about.

use core::fmt;

use millstream_types::{Address, Amount, ChainId, Hash256};
use serde::{Deserialize, Serialize};

/// The longest name of an agent, key, payee, category or route, in bytes.
pub(crate) const NAME_BYTES_MAX: usize = 512;

/// A token on a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AssetKey {
    /// The chain.
    pub chain: ChainId,
    /// The contract.
    pub token: Address,
}

/// What budgets and pauses can be kept by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dimension {
    /// Who spends: an agent; for a provider its customer.
    Agent,
    /// The key that signs, or by which an agent is known.
    Key,
    /// Who is paid.
    Payee,
    /// What kind of thing is bought.
    Category,
    /// What is asked: for a payer the host, for a provider the path pattern.
    Route,
}

/// Who spends on what. Names are texts of at most 512 bytes without control characters; one that is not known is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject {
    /// See [`Dimension::Agent`].
    pub agent: String,
    /// See [`Dimension::Key`].
    pub key: String,
    /// See [`Dimension::Payee`].
    pub payee: String,
    /// See [`Dimension::Category`]. Empty: the policy's categories say it.
    pub category: String,
    /// See [`Dimension::Route`].
    pub route: String,
}

/// One payment that is to be decided. Amounts in base units of its token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The request. An id that is held already asks for more on the same request.
    pub id: Hash256,
    /// Who, and on what.
    pub subject: Subject,
    /// The token.
    pub asset: AssetKey,
    /// What is to be held for it, on top of what is held.
    pub adds: Amount,
    /// The most that the whole request costs: what caps, approvals and listed prices are compared with.
    pub price: Amount,
    /// Equal for equal requests.
    pub fingerprint: Hash256,
    /// What a rate card says that it costs, where one is known.
    pub listed: Option<Amount>,
}

/// How a request ended, for the breaker of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was answered.
    Delivered,
    /// It was paid for and failed.
    Failed,
    /// Nothing is known, or it was not asked.
    Unknown,
}

/// What a pause holds for: everything, or one value of a dimension. As text: `all`, `agent=NAME`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Every payment.
    All,
    /// Those of one agent, key, payee, category or route.
    Of(Dimension, String),
}

impl Dimension {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Agent, Self::Key, Self::Payee, Self::Category, Self::Route];

    /// The name, as in configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Key => "key",
            Self::Payee => "payee",
            Self::Category => "category",
            Self::Route => "route",
        }
    }

    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Agent => 1,
            Self::Key => 2,
            Self::Payee => 3,
            Self::Category => 4,
            Self::Route => 5,
        }
    }

    pub(crate) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|dimension| dimension.number() == number)
    }
}

impl Subject {
    /// One of its names.
    #[must_use]
    pub fn of(&self, dimension: Dimension) -> &str {
        match dimension {
            Dimension::Agent => &self.agent,
            Dimension::Key => &self.key,
            Dimension::Payee => &self.payee,
            Dimension::Category => &self.category,
            Dimension::Route => &self.route,
        }
    }

    /// Whether every name can be a part of a key.
    pub(crate) fn is_sound(&self) -> bool {
        let sound = |name: &str| name.len() <= NAME_BYTES_MAX && !name.chars().any(char::is_control);
        Dimension::ALL.into_iter().all(|dimension| sound(self.of(dimension)))
    }

    /// The same for another agent.
    pub(crate) fn with_agent(&self, agent: &str) -> Self {
        Self { agent: agent.to_owned(), ..self.clone() }
    }
}

impl Scope {
    /// From its text; `None` when it is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == "all" {
            return Some(Self::All);
        }
        let (name, value) = text.split_once('=')?;
        let dimension = Dimension::ALL.into_iter().find(|dimension| dimension.name() == name)?;
        let sound = !value.is_empty() && value.len() <= NAME_BYTES_MAX && !value.chars().any(char::is_control);
        sound.then(|| Self::Of(dimension, value.to_owned()))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Of(dimension, value) => write!(f, "{}={value}", dimension.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_read_as_they_are_shown() {
        for text in ["all", "agent=research", "payee=0xab=c", "route=api.example:443"] {
            assert_eq!(Scope::parse(text).expect("a scope").to_string(), text);
        }
        for text in ["", "agent", "agent=", "team=a", "agent=a\nb"] {
            assert_eq!(Scope::parse(text), None, "{text}");
        }
    }
}
