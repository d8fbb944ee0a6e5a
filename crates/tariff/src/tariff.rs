//! A price with what belongs to it: steps, discounts, a minimum, and the version that each charge names.

use core::fmt;

use millstream_types::{Amount, Hash256};

use crate::schedule::Schedule;
use crate::{Cost, CostError, Discount, History, Period, Price, PriceError, Token, Usage};

/// Which prices a charge was made under: the name of a set of prices, and its version.
///
/// A changed price is a new version. Versions start at 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TariffVersion {
    name: String,
    version: u32,
}

/// What a route costs: by a price of its own, or by an entry of a rate card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tariff {
    version: TariffVersion,
    /// The card's; nothing for a price of its own.
    digest: Option<Hash256>,
    price: Price,
    schedule: Schedule,
    /// What volume the steps are counted over; nothing for each request by itself.
    over: Option<Period>,
    minimum: Amount,
    /// With the schedule that each comes to.
    discounts: Vec<(Discount, Schedule)>,
}

impl TariffVersion {
    /// Version `version` of the tariff `name`.
    ///
    /// # Errors
    /// [`PriceError::TariffName`].
    pub fn new(name: &str, version: u32) -> Result<Self, PriceError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if name.is_empty() || name.len() > 64 || !name.bytes().all(allowed) {
            return Err(PriceError::TariffName { name: name.to_owned() });
        }
        Ok(Self { name: name.to_owned(), version })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its version.
    #[must_use]
    pub const fn version(&self) -> u32 {
        self.version
    }
}

/// `NAME@VERSION`.
impl fmt::Display for TariffVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}

impl Tariff {
    /// A price, and the least that something delivered costs: the simple form of a card with one entry.
    #[must_use]
    pub fn new(version: TariffVersion, price: Price, minimum: Amount) -> Self {
        let schedule = Schedule::flat(&price);
        Self { version, digest: None, price, schedule, over: None, minimum, discounts: Vec::new() }
    }

    /// An entry of a card. Discounts that do not leave a whole number of attos are refused with the unit.
    pub(crate) fn of_card(plain: Self, schedule: Schedule, over: Option<Period>, discounts: &[Discount]) -> Result<Self, crate::Unit> {
        let discounts = discounts.iter().map(|discount| Ok((*discount, schedule.without(discount.off)?)));
        Ok(Self { discounts: discounts.collect::<Result<_, _>>()?, schedule, over, ..plain })
    }

    /// The same, under the digest of its card.
    pub(crate) fn with_digest(self, digest: Hash256) -> Self {
        Self { digest: Some(digest), ..self }
    }

    /// The digest of the card; nothing for a price of its own.
    #[must_use]
    pub const fn digest(&self) -> Option<&Hash256> {
        self.digest.as_ref()
    }

    /// The steps of its units, discounts left aside.
    #[must_use]
    pub const fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// What volume its steps are counted over; nothing for each request by itself.
    #[must_use]
    pub const fn over(&self) -> Option<Period> {
        self.over
    }

    /// Whether the price is known before anything is delivered: it is for the call alone, whoever calls.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.price.is_fixed() && !self.schedule.is_tiered()
    }

    /// Whether what a request costs depends on what was used or charged in a period.
    #[must_use]
    pub fn needs_periods(&self) -> bool {
        self.over.is_some() || self.discounts.iter().any(|(discount, _)| discount.of.period().is_some())
    }

    /// The discount that a payer with this history has: the highest of those that are reached (T-9).
    #[must_use]
    pub fn discount(&self, history: &History) -> Option<&Discount> {
        self.reached(history).map(|(discount, _)| discount)
    }

    fn reached(&self, history: &History) -> Option<&(Discount, Schedule)> {
        self.discounts.iter().filter(|(discount, _)| discount.is_reached(history)).max_by_key(|(discount, _)| discount.off)
    }

    /// Which prices these are.
    #[must_use]
    pub const fn version(&self) -> &TariffVersion {
        &self.version
    }

    /// The price.
    #[must_use]
    pub const fn price(&self) -> &Price {
        &self.price
    }

    /// The token.
    #[must_use]
    pub const fn token(&self) -> &Token {
        self.price.token()
    }

    /// The least that something delivered costs, in base units; zero for no such bound.
    #[must_use]
    pub const fn minimum(&self) -> Amount {
        self.minimum
    }

    /// What usage costs a payer of whom nothing is known, exactly: the price, or the minimum where that is more.
    ///
    /// # Errors
    /// [`CostError`].
    pub fn cost(&self, usage: &Usage) -> Result<Cost, CostError> {
        self.cost_for(&History::default(), usage)
    }

    /// What usage costs a payer with this history, exactly: the steps, with the discount, or the minimum where that is more.
    ///
    /// # Errors
    /// [`CostError`].
    pub fn cost_for(&self, history: &History, usage: &Usage) -> Result<Cost, CostError> {
        let schedule = self.reached(history).map_or(&self.schedule, |(_, schedule)| schedule);
        let nothing = Usage::default();
        let before = if self.over.is_some() { &history.used } else { &nothing };
        Ok(schedule.cost(before, usage)?.max(Cost::whole(self.minimum)))
    }

    /// The most that usage within these bounds can be charged, in base units, whoever pays.
    ///
    /// # Errors
    /// [`CostError`].
    pub fn ceiling_up(&self, bound: &Usage) -> Result<Amount, CostError> {
        let nothing = Usage::default();
        let before = if self.over.is_some() { None } else { Some(&nothing) };
        self.schedule.cost_at_most(before, bound)?.max(Cost::whole(self.minimum)).up()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minimum_is_charged_when_the_price_is_lower() {
        let token = Token::new("USDC", 6).expect("a token");
        let price = Price::parse("0.40 USDC / 1M output_token", &token).expect("a price");
        let minimum = token.parse_amount("0.0001 USDC").expect("an amount");
        let tariff = Tariff::new(TariffVersion::new("chat", 1).expect("a name"), price, minimum);
        for (output_tokens, base_units, ceiling) in [(0, 100, 100), (250, 100, 100), (251, 100, 101), (1_000, 400, 400)] {
            let usage = Usage { output_tokens, ..Usage::default() };
            assert_eq!(tariff.cost(&usage).expect("small").down().units(), base_units, "{output_tokens}");
            assert_eq!(tariff.ceiling_up(&usage).expect("small").units(), ceiling, "{output_tokens}");
        }
        assert_eq!(tariff.version().to_string(), "chat@1");
    }

    #[test]
    fn amounts_that_can_be_paid_are_whole_base_units() {
        let token = Token::new("USDC", 6).expect("a token");
        let check = |text: &str, expected: Option<u128>| assert_eq!(token.parse_amount(text).ok().map(Amount::units), expected, "{text}");
        check("0.001 USDC", Some(1_000));
        check("1000 base", Some(1_000));
        check("2 USDC", Some(2_000_000));
        check("0.0000001 USDC", None);
        check("0.5 base", None);
        check("1 DAI", None);
        check("1", None);
        check("340282366920938463463374607431768211455 USDC", None);
        assert_eq!(token.show(Amount::from_units(1_000)), "0.001 USDC");
        assert_eq!(token.show(Amount::from_units(2_000_000)), "2 USDC");
        assert_eq!(Token::new("E", 0).expect("a token").show(Amount::from_units(20)), "20 E");
        for (symbol, decimals) in [("", 6), ("base", 6), ("US DC", 6), ("1INCH", 6), ("ABCDEFGHIJKLMNOPQ", 6), ("USDC", 28)] {
            assert!(Token::new(symbol, decimals).is_err(), "{symbol} {decimals}");
        }
        for name in ["", "a b", "ä", &"x".repeat(65)] {
            assert!(TariffVersion::new(name, 1).is_err(), "{name}");
        }
    }
}
