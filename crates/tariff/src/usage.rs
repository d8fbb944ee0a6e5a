//! What was used.

use crate::Unit;

/// How much of each unit was used. Also an upper bound of it, for a ceiling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Requests that were answered.
    pub calls: u64,
    /// Tokens read, those from a cache left aside.
    pub input_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
    /// Tokens read that came from a cache.
    pub cached_tokens: u64,
    /// Milliseconds of delivery.
    pub millis: u64,
    /// Bytes of the response's body.
    pub bytes: u64,
    /// Images made.
    pub images: u64,
}

impl Usage {
    /// How much was metered of a unit; milliseconds for [`Unit::Second`].
    #[must_use]
    pub const fn metered(&self, unit: Unit) -> u64 {
        match unit {
            Unit::Call => self.calls,
            Unit::InputToken => self.input_tokens,
            Unit::OutputToken => self.output_tokens,
            Unit::CachedToken => self.cached_tokens,
            Unit::Second => self.millis,
            Unit::Byte => self.bytes,
            Unit::Image => self.images,
        }
    }

    /// Both uses together; what does not fit stays at the largest number.
    #[must_use]
    pub const fn saturating_add(&self, other: &Self) -> Self {
        Self {
            calls: self.calls.saturating_add(other.calls),
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
            cached_tokens: self.cached_tokens.saturating_add(other.cached_tokens),
            millis: self.millis.saturating_add(other.millis),
            bytes: self.bytes.saturating_add(other.bytes),
            images: self.images.saturating_add(other.images),
        }
    }

    /// Both uses together; `None` when one of them does not fit.
    #[must_use]
    pub fn checked_add(&self, other: &Self) -> Option<Self> {
        Some(Self {
            calls: self.calls.checked_add(other.calls)?,
            input_tokens: self.input_tokens.checked_add(other.input_tokens)?,
            output_tokens: self.output_tokens.checked_add(other.output_tokens)?,
            cached_tokens: self.cached_tokens.checked_add(other.cached_tokens)?,
            millis: self.millis.checked_add(other.millis)?,
            bytes: self.bytes.checked_add(other.bytes)?,
            images: self.images.checked_add(other.images)?,
        })
    }
}
