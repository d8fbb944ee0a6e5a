//! A price with what belongs to it: a minimum, and the version that each charge names.

use core::fmt;

use millstream_types::Amount;

use crate::{Cost, CostError, Price, PriceError, Token, Usage};

/// Which prices a charge was made under: the name of a set of prices, and its version.
///
/// A changed price is a new version. Versions start at 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TariffVersion {
    name: String,
    version: u32,
}

/// What a route costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tariff {
    version: TariffVersion,
    price: Price,
    minimum: Amount,
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
    /// A price, and the least that something delivered costs.
    #[must_use]
    pub const fn new(version: TariffVersion, price: Price, minimum: Amount) -> Self {
        Self { version, price, minimum }
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

    /// What usage costs, exactly: the price, or the minimum where that is more.
    ///
    /// # Errors
    /// [`CostError`].
    pub fn cost(&self, usage: &Usage) -> Result<Cost, CostError> {
        Ok(self.price.cost(usage)?.max(Cost::whole(self.minimum)))
    }

    /// The most that usage within these bounds can be charged, in base units.
    ///
    /// # Errors
    /// [`CostError`].
    pub fn ceiling_up(&self, bound: &Usage) -> Result<Amount, CostError> {
        self.price.cost_at_most(bound)?.max(Cost::whole(self.minimum)).up()
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
