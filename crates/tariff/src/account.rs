//! One payer under one rate card: what its price depends on, and what it is charged.

use std::collections::BTreeMap;

use millstream_types::{Amount, Timestamp};

use crate::{Carry, Cost, CostError, Credit, Entry, History, Percent, Period, Promo, Usage};

/// What must be known of a payer to charge it: under all versions of one card, on one channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    carry: Carry,
    charged: Amount,
    in_day: Counted<Amount>,
    in_month: Counted<Amount>,
    /// By entry, what it used in the period of the entry's tiers.
    used: BTreeMap<String, Counted<Usage>>,
    credit: Option<Credit>,
}

/// A count of one period; zero in any other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counted<T> {
    start: Timestamp,
    count: T,
}

/// One charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charged {
    /// In whole base units: what is paid.
    pub amount: Amount,
    /// What it cost, exactly, after the discount.
    pub cost: Cost,
    /// What of the cost was paid in credit.
    pub credit: Cost,
    /// What was taken off each price.
    pub off: Percent,
}

impl Account {
    /// A payer of whom nothing is known.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the card's credit, if it has any and the payer was never given one.
    pub fn grant(&mut self, promo: Option<&Promo>, now: Timestamp) {
        if let (None, Some(promo)) = (self.credit, promo) {
            self.credit = Some(promo.grant(now));
        }
    }

    /// What its price depends on, for a request under an entry.
    #[must_use]
    pub fn history(&self, entry: &Entry, now: Timestamp) -> History {
        let used = entry.tariff().over().and_then(|period| Some(self.used.get(entry.name())?.of(period, now)));
        History {
            charged: self.charged,
            charged_in_day: self.in_day.of(Period::Day, now),
            charged_in_month: self.in_month.of(Period::Month, now),
            used: used.unwrap_or_default(),
        }
    }

    /// What it is charged in all.
    #[must_use]
    pub const fn charged(&self) -> Amount {
        self.charged
    }

    /// What it paid too much by rounding.
    #[must_use]
    pub const fn carry(&self) -> Carry {
        self.carry
    }

    /// Its credit.
    #[must_use]
    pub const fn credit(&self) -> Option<&Credit> {
        self.credit.as_ref()
    }

    /// Charges a request: the steps from where the payer stands, less its discount, at least the minimum; of that its credit; the rest rounded up
    /// once, the carry taken off.
    ///
    /// # Errors
    /// [`CostError`], and nothing changed.
    pub fn charge(&mut self, entry: &Entry, now: Timestamp, usage: &Usage) -> Result<Charged, CostError> {
        let (tariff, history) = (entry.tariff(), self.history(entry, now));
        let cost = tariff.cost_for(&history, usage)?;
        let mut credit = self.credit;
        let (rest, paid) = credit.as_mut().map_or(Ok((cost, Cost::ZERO)), |credit| credit.spend(now, cost))?;
        let (amount, carry) = self.carry.charge_up(rest)?;
        let sum = |before: Amount| before.checked_add(amount).map_err(|_| CostError);
        let (charged, in_day, in_month) = (sum(self.charged)?, sum(history.charged_in_day)?, sum(history.charged_in_month)?);
        if let Some(period) = tariff.over() {
            let count = history.used.checked_add(usage).ok_or(CostError)?;
            self.used.insert(entry.name().to_owned(), Counted { start: period.start(now), count });
        }
        (self.carry, self.charged, self.credit) = (carry, charged, credit);
        self.in_day = Counted { start: Period::Day.start(now), count: in_day };
        self.in_month = Counted { start: Period::Month.start(now), count: in_month };
        let off = tariff.discount(&history).map_or(Percent::ZERO, |discount| discount.off);
        Ok(Charged { amount, cost, credit: paid, off })
    }
}

impl<T: Copy + Default> Counted<T> {
    fn of(&self, period: Period, now: Timestamp) -> T {
        if self.start == period.start(now) { self.count } else { T::default() }
    }
}
