//! The token that prices are in.

use core::fmt;

use millstream_types::{Amount, AssetUnit};

use crate::PriceError;
use crate::number::Decimal;

/// The word that stands for a token's base unit in a price.
pub(crate) const BASE: &str = "base";

/// A token, as far as prices must know it: its symbol and its decimals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    symbol: String,
    unit: AssetUnit,
}

impl Token {
    /// A token of this symbol, of which 10^`decimals` base units are one.
    ///
    /// # Errors
    /// [`PriceError::Symbol`] or [`PriceError::Decimals`].
    pub fn new(symbol: &str, decimals: u8) -> Result<Self, PriceError> {
        let letters = symbol.bytes().next().is_some_and(|first| first.is_ascii_alphabetic())
            && symbol.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !letters || symbol.len() > 16 || symbol == BASE {
            return Err(PriceError::Symbol { symbol: symbol.to_owned() });
        }
        let unit = AssetUnit::new(decimals).map_err(|_| PriceError::Decimals { decimals })?;
        Ok(Self { symbol: symbol.to_owned(), unit })
    }

    /// Its symbol, as prices name it.
    #[must_use]
    pub fn symbol(&self) -> &str {
        &self.symbol
    }

    /// Its decimals, at most 27.
    #[must_use]
    pub const fn decimals(&self) -> u8 {
        self.unit.decimals()
    }

    /// Reads an amount that can be paid, `0.001 USDC` or `1000 base`, as base units.
    ///
    /// # Errors
    /// [`PriceError`]; what is not a whole number of base units is refused, never rounded.
    pub fn parse_amount(&self, text: &str) -> Result<Amount, PriceError> {
        let (decimal, decimals) = self.decimal(text)?;
        let not_whole =
            || PriceError::NotWholeBaseUnits { text: text.trim().to_owned(), symbol: self.symbol.clone(), decimals: self.decimals() };
        let too_large = || PriceError::TooLarge { text: text.trim().to_owned() };
        let zeros = decimals.checked_sub(decimal.fraction_digits).ok_or_else(not_whole)?;
        let units = 10u128.checked_pow(zeros).and_then(|scale| decimal.digits.checked_mul(scale));
        units.map(Amount::from_units).ok_or_else(too_large)
    }

    /// An amount of base units in whole tokens, without loss: `1000` base units of USDC are `0.001 USDC`.
    #[must_use]
    pub fn show(&self, amount: Amount) -> String {
        let decimal = Decimal { digits: amount.units(), fraction_digits: u32::from(self.decimals()) };
        format!("{decimal} {}", self.symbol)
    }

    /// The number of `0.15 USDC`, and the decimals that make it base units.
    pub(crate) fn decimal(&self, text: &str) -> Result<(Decimal, u32), PriceError> {
        let not_a_price = || PriceError::NotAPrice { text: text.trim().to_owned() };
        let (number, symbol) = text.trim().split_once(' ').ok_or_else(not_a_price)?;
        let decimals = match symbol.trim() {
            BASE => 0,
            symbol if symbol == self.symbol => u32::from(self.decimals()),
            other => return Err(PriceError::OtherToken { expected: self.symbol.clone(), found: other.to_owned() }),
        };
        Ok((Decimal::parse(number)?, decimals))
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.symbol)
    }
}
