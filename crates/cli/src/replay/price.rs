//! What tokens cost: prices in whole tokens of the ledger's currency per million, exact in nanos.

use core::num::NonZeroU64;

use millstream_types::{Amount, AmountError, ParseAmountError, Price};

/// Prices are quoted per so many tokens.
const QUOTE_TOKENS: NonZeroU64 = match NonZeroU64::new(1_000_000) {
    Some(tokens) => tokens,
    None => NonZeroU64::MIN,
};

/// The prices of a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prices {
    context_quote: Amount,
    generated_quote: Amount,
    generated_nanos: u64,
}

/// Why a price cannot be charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PriceError {
    /// Not a decimal number of at most nine fractional digits.
    #[error("the {what} price: {source}")]
    NotAnAmount {
        /// Which price.
        what: &'static str,
        /// What is wrong with it.
        source: ParseAmountError,
    },
    /// A generated token is a payment of its own, so its price must be whole nanos and not zero.
    #[error(
        "the price of a generated token is a payment of its own and must be a whole number of nanos above 0: {quote} per million is not"
    )]
    NotWholeNanos {
        /// The price, in nanos per million tokens.
        quote: Amount,
    },
    /// Larger than a payment can be.
    #[error("the price is too large: {0}")]
    TooLarge(#[from] AmountError),
}

impl Prices {
    /// Prices in tokens of the ledger's currency per million, such as `0.15` and `0.60`.
    ///
    /// # Errors
    /// [`PriceError`].
    pub fn per_million(context: &str, generated: &str) -> Result<Self, PriceError> {
        let parse = |what, text| Amount::parse_tokens(text).map_err(|source| PriceError::NotAnAmount { what, source });
        let (context_quote, generated_quote) = (parse("context", context)?, parse("generated", generated)?);
        let unit = Price::new(generated_quote, QUOTE_TOKENS).per_unit();
        let unit = unit.map_err(|_| PriceError::NotWholeNanos { quote: generated_quote })?;
        if unit.is_zero() {
            return Err(PriceError::NotWholeNanos { quote: generated_quote });
        }
        Ok(Self { context_quote, generated_quote, generated_nanos: unit.to_u64()? })
    }

    /// What `tokens` of context cost, in nanos, with what is below a nano carried to the next request of the channel.
    ///
    /// # Errors
    /// [`AmountError`] when it does not fit 64 bits.
    pub fn context_down(&self, tokens: u32, carried: u64) -> Result<(u64, u64), AmountError> {
        let (cost, carried) = Price::new(self.context_quote, QUOTE_TOKENS).cost_down(tokens.into(), carried)?;
        Ok((cost.to_u64()?, carried))
    }

    /// What one generated token costs, in nanos.
    #[must_use]
    pub const fn generated_nanos(&self) -> u64 {
        self.generated_nanos
    }

    /// Nanos per million tokens of context and generated: what makes two replays' prices the same.
    #[must_use]
    pub const fn quotes(&self) -> (Amount, Amount) {
        (self.context_quote, self.generated_quote)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_per_million_are_exact_in_nanos() {
        let prices = Prices::per_million("0.15", "0.60").expect("exact");
        assert_eq!(prices.generated_nanos(), 600);
        assert_eq!(prices.context_down(374, 0), Ok((56_100, 0)));
        assert_eq!(Prices::per_million("0", "0.001").map(|prices| prices.generated_nanos()), Ok(1));
    }

    #[test]
    fn what_is_below_a_nano_is_carried() {
        let prices = Prices::per_million("0.0000015", "1").expect("a context token costs 0.0015 nanos");
        let (mut paid, mut carried) = (0, 0);
        for _ in 0..1_000 {
            let (cost, rest) = prices.context_down(7, carried).expect("small");
            (paid, carried) = (paid + cost, rest);
        }
        assert_eq!((paid, carried), prices.context_down(7_000, 0).expect("small"));
        assert_eq!(paid, 10);
    }

    #[test]
    fn a_generated_token_costs_whole_nanos_or_the_price_is_refused() {
        let refused = |generated| Prices::per_million("0.15", generated).expect_err(generated);
        assert!(matches!(refused("0.0005"), PriceError::NotWholeNanos { .. }));
        assert!(matches!(refused("0"), PriceError::NotWholeNanos { .. }));
        assert!(matches!(refused("0.6001"), PriceError::NotWholeNanos { .. }));
        assert!(matches!(refused("cheap"), PriceError::NotAnAmount { what: "generated", .. }));
        assert!(matches!(refused("340282366920938463463374607431"), PriceError::NotAnAmount { .. } | PriceError::TooLarge(_)));
    }
}
