//! What is counted.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::PriceError;

/// A unit that a price can be for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// A request that was answered.
    Call,
    /// A token that a model read, and did not have in its cache.
    InputToken,
    /// A token that a model wrote.
    OutputToken,
    /// A token that a model had in its cache. Without a price of its own it costs what an input token does.
    CachedToken,
    /// A second of delivery, metered in milliseconds.
    Second,
    /// A byte of a response's body, as it is delivered.
    Byte,
    /// An image that was made.
    Image,
}

impl Unit {
    /// All of them, in the order in which prices are written.
    pub const ALL: [Self; 7] = [Self::Call, Self::InputToken, Self::OutputToken, Self::CachedToken, Self::Second, Self::Byte, Self::Image];

    /// Its name in prices, JSON and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::InputToken => "input_token",
            Self::OutputToken => "output_token",
            Self::CachedToken => "cached_token",
            Self::Second => "second",
            Self::Byte => "byte",
            Self::Image => "image",
        }
    }

    /// How many of what is metered make one of the unit: time is metered in milliseconds.
    pub(crate) const fn metered_in_one(self) -> u64 {
        match self {
            Self::Second => 1_000,
            Self::Call | Self::InputToken | Self::OutputToken | Self::CachedToken | Self::Byte | Self::Image => 1,
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Unit {
    type Err = PriceError;

    fn from_str(text: &str) -> Result<Self, PriceError> {
        let named = Self::ALL.into_iter().find(|unit| unit.as_str() == text);
        named.ok_or_else(|| PriceError::UnknownUnit { unit: text.to_owned() })
    }
}
