//! Discounts, and what of a payer they are given for.

use millstream_types::Amount;

use crate::{Percent, Period, Usage};

/// What a discount is given for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DiscountOf {
    /// What was charged on the payer's channel since it was opened.
    Loyalty,
    /// What was charged to the payer in the period so far, under the cards of this name.
    Volume(Period),
}

/// So much less, from an amount on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discount {
    /// What it is given for.
    pub of: DiscountOf,
    /// The amount from which on it is given, in base units.
    pub from: Amount,
    /// What is taken off each price. Never off a minimum.
    pub off: Percent,
}

/// What of a payer its price may depend on, as it is when a request is held. It stays that for the whole request (T-9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Charged on the channel since it was opened, in base units.
    pub charged: Amount,
    /// Charged since midnight.
    pub charged_in_day: Amount,
    /// Charged since the first of the month.
    pub charged_in_month: Amount,
    /// Used of what the entry sells, in the period that its steps are counted over.
    pub used: Usage,
}

impl DiscountOf {
    /// The period that is counted; nothing when it is the channel's life.
    #[must_use]
    pub const fn period(self) -> Option<Period> {
        match self {
            Self::Loyalty => None,
            Self::Volume(period) => Some(period),
        }
    }
}

impl Discount {
    /// Whether a payer with this history has it.
    #[must_use]
    pub fn is_reached(&self, history: &History) -> bool {
        let charged = match self.of {
            DiscountOf::Loyalty => history.charged,
            DiscountOf::Volume(Period::Day) => history.charged_in_day,
            DiscountOf::Volume(Period::Month) => history.charged_in_month,
        };
        charged >= self.from
    }
}
