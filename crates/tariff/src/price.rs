//! Prices, read from text.

use core::fmt;
use core::num::NonZeroU64;

use crate::number::{Decimal, quantity};
use crate::{ATTOS_PER_BASE_UNIT, Cost, CostError, PriceError, Schedule, Token, Unit, Usage};

/// The price of one unit: `amount` base units of the token for `per` of the unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rate {
    unit: Unit,
    per: NonZeroU64,
    /// As it was written, for people: `0.40` of the token, or of its base unit.
    amount: Decimal,
    in_base_units: bool,
    /// For one of what is metered (a millisecond for a second).
    each: Cost,
}

/// Prices of units in one token, that add up: `2 USDC / 1M input_token + 8 USDC / 1M output_token`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    token: Token,
    /// In the order of [`Unit::ALL`], each unit once at most, one at least.
    rates: Vec<Rate>,
}

impl Rate {
    /// What is counted.
    #[must_use]
    pub const fn unit(&self) -> Unit {
        self.unit
    }

    /// How many of the unit the written amount is for.
    #[must_use]
    pub const fn per(&self) -> NonZeroU64 {
        self.per
    }

    /// The amount as it was written: `0.4 USDC`, or `400 base`.
    #[must_use]
    pub fn written(&self, token: &Token) -> String {
        let symbol = if self.in_base_units { crate::token::BASE } else { token.symbol() };
        format!("{} {symbol}", self.amount)
    }

    /// What one of the unit costs; of [`Unit::Second`], one millisecond.
    #[must_use]
    pub const fn each(&self) -> Cost {
        self.each
    }

    fn parse(text: &str, token: &Token) -> Result<Self, PriceError> {
        let not_a_price = || PriceError::NotAPrice { text: text.trim().to_owned() };
        let (amount_text, per_text) = text.split_once('/').ok_or_else(not_a_price)?;
        let mut words = per_text.split_whitespace();
        let (per, unit) = match (words.next(), words.next(), words.next()) {
            (Some(unit), None, None) => (NonZeroU64::MIN, unit),
            (Some(per), Some(unit), None) => (quantity(per)?, unit),
            _ => return Err(not_a_price()),
        };
        let unit: Unit = unit.parse()?;
        let (amount, decimals) = token.decimal(amount_text)?;
        let in_base_units = decimals == 0 && token.decimals() != 0;
        let each = each(amount, decimals, per, unit)?;
        Ok(Self { unit, per, amount, in_base_units, each })
    }
}

/// The exact cost of one: `digits × 10^(decimals - fraction) / (per × metered in one)` base units.
fn each(amount: Decimal, decimals: u32, per: NonZeroU64, unit: Unit) -> Result<Cost, PriceError> {
    let too_large = || PriceError::TooLarge { text: amount.to_string() };
    let not_exact = || PriceError::NotExact { unit };
    // numerator / denominator base units, reduced as far as the powers of ten go before anything is multiplied.
    let numerator = decimals.saturating_sub(amount.fraction_digits);
    let numerator = 10u128.checked_pow(numerator).and_then(|scale| amount.digits.checked_mul(scale)).ok_or_else(too_large)?;
    let denominator = amount.fraction_digits.saturating_sub(decimals);
    let denominator = 10u128.checked_pow(denominator).ok_or_else(not_exact)?;
    let metered = u128::from(per.get()).checked_mul(u128::from(unit.metered_in_one())).ok_or_else(not_exact)?;
    let denominator = denominator.checked_mul(metered).ok_or_else(not_exact)?;

    let whole = numerator.checked_div(denominator).ok_or_else(not_exact)?;
    let rest = numerator.checked_rem(denominator).ok_or_else(not_exact)?;
    if rest == 0 {
        return Cost::new(whole, 0).map_err(|CostError| too_large());
    }
    // rest / denominator must be attos / 10^18: the reduced denominator divides 10^18.
    let common = gcd(rest, denominator);
    let (rest, denominator) = (rest.checked_div(common).ok_or_else(not_exact)?, denominator.checked_div(common).ok_or_else(not_exact)?);
    let scale = u128::from(ATTOS_PER_BASE_UNIT);
    if scale.checked_rem(denominator) != Some(0) {
        return Err(not_exact());
    }
    let attos = scale.checked_div(denominator).and_then(|attos| attos.checked_mul(rest)).ok_or_else(not_exact)?;
    Cost::new(whole, attos).map_err(|CostError| too_large())
}

fn gcd(mut a: u128, mut b: u128) -> u128 {
    while let Some(rest) = a.checked_rem(b) {
        (a, b) = (b, rest);
    }
    a
}

impl Price {
    /// Reads `0.40 USDC / 1M output_token`, or several of these with ` + ` between them. `base` stands for the token's base unit:
    /// `150 base / 1K byte`.
    ///
    /// # Errors
    /// [`PriceError`]; a price that is not a whole number of attos for one unit is refused, never rounded.
    pub fn parse(text: &str, token: &Token) -> Result<Self, PriceError> {
        let mut rates = text.split('+').map(|part| Rate::parse(part, token)).collect::<Result<Vec<_>, _>>()?;
        rates.sort_by_key(Rate::unit);
        let twice = rates.iter().zip(rates.iter().skip(1)).find(|(one, next)| one.unit == next.unit);
        match twice {
            Some((rate, _)) => Err(PriceError::UnitTwice { unit: rate.unit }),
            None => Ok(Self { token: token.clone(), rates }),
        }
    }

    /// The token.
    #[must_use]
    pub const fn token(&self) -> &Token {
        &self.token
    }

    /// The prices of its units, in the order of [`Unit::ALL`].
    #[must_use]
    pub fn rates(&self) -> &[Rate] {
        &self.rates
    }

    /// What one of a unit costs, if it has a price of its own.
    #[must_use]
    pub fn each(&self, unit: Unit) -> Option<Cost> {
        self.rates.iter().find(|rate| rate.unit == unit).map(|rate| rate.each)
    }

    /// Whether the unit changes what is paid. Cached tokens do when input tokens do.
    #[must_use]
    pub fn counts(&self, unit: Unit) -> bool {
        let fallback = unit == Unit::CachedToken && self.each(Unit::InputToken).is_some();
        fallback || self.each(unit).is_some()
    }

    /// Whether the price is known before anything is delivered: it is for the call alone.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.rates.iter().all(|rate| rate.unit == Unit::Call)
    }

    /// What the usage costs, exactly, by a schedule of one step.
    ///
    /// # Errors
    /// [`CostError`].
    pub fn cost(&self, usage: &Usage) -> Result<Cost, CostError> {
        Schedule::flat(self).cost(&Usage::default(), usage)
    }

    /// The most that usage within these bounds can cost: a token that is read may come from a cache or not, whichever costs more.
    ///
    /// # Errors
    /// [`CostError`].
    pub fn cost_at_most(&self, bound: &Usage) -> Result<Cost, CostError> {
        Schedule::flat(self).cost_at_most(Some(&Usage::default()), bound)
    }
}

/// What the amount is for: `1M output_token`.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.per.get() {
            1 => write!(f, "{}", self.unit),
            per if per.is_multiple_of(1_000_000) => write!(f, "{}M {}", per / 1_000_000, self.unit),
            per if per.is_multiple_of(1_000) => write!(f, "{}K {}", per / 1_000, self.unit),
            per => write!(f, "{per} {}", self.unit),
        }
    }
}

/// As [`Price::parse`] reads it.
impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, rate) in self.rates.iter().enumerate() {
            write!(f, "{}{} / {rate}", if position == 0 { "" } else { " + " }, rate.written(&self.token))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use millstream_types::Amount;

    use super::*;

    fn usdc() -> Token {
        Token::new("USDC", 6).expect("a token")
    }

    #[test]
    fn prices_are_read_exactly_or_refused() {
        let check = |text: &str, decimals: u8, expected: Result<(Unit, u128, u64), PriceError>| {
            let token = Token::new("USDC", decimals).expect("a token");
            let found = Price::parse(text, &token).map(|price| {
                let rate = &price.rates()[0];
                (rate.unit(), rate.each().down().units(), rate.each().attos())
            });
            assert_eq!(found, expected, "{text}");
        };
        check("0.40 USDC / 1M output_token", 6, Ok((Unit::OutputToken, 0, 400_000_000_000_000_000)));
        check("0.001 USDC / call", 6, Ok((Unit::Call, 1_000, 0)));
        check("0.001 USDC/call", 6, Ok((Unit::Call, 1_000, 0)));
        check("  1   USDC  /  1   call ", 6, Ok((Unit::Call, 1_000_000, 0)));
        check("150 base / 1K byte", 6, Ok((Unit::Byte, 0, 150_000_000_000_000_000)));
        check("1 USDC / 1Mi byte", 6, Ok((Unit::Byte, 0, 953_674_316_406_250_000)));
        check("0.0000004 USDC / output_token", 6, Ok((Unit::OutputToken, 0, 400_000_000_000_000_000)));
        check("1 USDC / 1000 second", 6, Ok((Unit::Second, 1, 0)));
        check("0.02 USDC / image", 18, Ok((Unit::Image, 20_000_000_000_000_000, 0)));
        check("1 USDC / 1M input_token", 0, Ok((Unit::InputToken, 0, 1_000_000_000_000)));
        check("1 USDC / 1M cached_token", 27, Ok((Unit::CachedToken, 1_000_000_000_000_000_000_000, 0)));

        check("1 USDC / 3 call", 6, Err(PriceError::NotExact { unit: Unit::Call }));
        check("3 USDC / 3 call", 6, Ok((Unit::Call, 1_000_000, 0)));
        check("1 USDC / 1Gi byte", 6, Err(PriceError::NotExact { unit: Unit::Byte }));
        check("0.0000000000000000000000001 USDC / call", 6, Err(PriceError::NotExact { unit: Unit::Call }));
        check("1 DAI / call", 6, Err(PriceError::OtherToken { expected: "USDC".into(), found: "DAI".into() }));
        check("1 USDC / tokens", 6, Err(PriceError::UnknownUnit { unit: "tokens".into() }));
        check("1 USDC / 1T byte", 6, Err(PriceError::NotAQuantity { text: "1T".into() }));
        check("1e-3 USDC / call", 6, Err(PriceError::NotDecimal { text: "1e-3".into() }));
        check("-1 USDC / call", 6, Err(PriceError::NotDecimal { text: "-1".into() }));
        check("1 USDC per call", 6, Err(PriceError::NotAPrice { text: "1 USDC per call".into() }));
        check("USDC / call", 6, Err(PriceError::NotAPrice { text: "USDC".into() }));
        check("", 6, Err(PriceError::NotAPrice { text: String::new() }));
        check("1 USDC / 1 call each", 6, Err(PriceError::NotAPrice { text: "1 USDC / 1 call each".into() }));
        check(
            "340282366920938463463374607431768211455 USDC / call",
            6,
            Err(PriceError::TooLarge { text: "340282366920938463463374607431768211455".into() }),
        );
        check("1 USDC / call + 2 USDC / call", 6, Err(PriceError::UnitTwice { unit: Unit::Call }));
    }

    #[test]
    fn a_price_is_written_as_it_is_read() {
        for text in [
            "0.4 USDC / 1M output_token",
            "0.001 USDC / call",
            "0.01 USDC / call + 2 USDC / 1M input_token + 8 USDC / 1M output_token + 0.5 USDC / 1M cached_token",
            "150 base / 1K byte",
            "1 USDC / 1024 byte",
        ] {
            let price = Price::parse(text, &usdc()).expect("a price");
            assert_eq!(price.to_string(), text);
            assert_eq!(Price::parse(&price.to_string(), &usdc()).as_ref(), Ok(&price));
        }
    }

    #[test]
    fn what_usage_costs() {
        let check = |price: &str, usage: Usage, base_units: u128, attos: u64| {
            let cost = Price::parse(price, &usdc()).expect("a price").cost(&usage).expect("small");
            assert_eq!((cost.down().units(), cost.attos()), (base_units, attos), "{price} {usage:?}");
        };
        let tokens = Usage { calls: 1, input_tokens: 1_000, output_tokens: 7, cached_tokens: 500, ..Usage::default() };
        check("0.001 USDC / call", tokens, 1_000, 0);
        check("0.40 USDC / 1M output_token", tokens, 2, 800_000_000_000_000_000);
        check("2 USDC / 1M input_token + 8 USDC / 1M output_token", tokens, 3_056, 0);
        check("2 USDC / 1M input_token + 1 USDC / 1M cached_token", tokens, 2_500, 0);
        check("1 USDC / 1M cached_token", tokens, 500, 0);
        check("1 USDC / 1K second", Usage { millis: 1_500, ..Usage::default() }, 1_500, 0);
        check("1 base / 1K byte", Usage { bytes: 1_500, ..Usage::default() }, 1, 500_000_000_000_000_000);
        check("0.02 USDC / image", Usage { images: 3, ..Usage::default() }, 60_000, 0);
    }

    #[test]
    fn the_ceiling_takes_the_dearer_of_input_and_cached() {
        let bound = Usage { input_tokens: 10, output_tokens: 2, ..Usage::default() };
        for (price, expected) in [
            ("2 USDC / 1M input_token + 1 USDC / 1M cached_token", 20),
            ("1 USDC / 1M input_token + 2 USDC / 1M cached_token", 20),
            ("1 USDC / 1M cached_token + 3 USDC / 1M output_token", 16),
        ] {
            let cost = Price::parse(price, &usdc()).expect("a price").cost_at_most(&bound).expect("small");
            assert_eq!(cost, Cost::whole(Amount::from_units(expected)), "{price}");
        }
        let huge = Usage { images: u64::MAX, ..Usage::default() };
        let price = Price::parse("340282366920938463463 USDC / image", &usdc()).expect("a price");
        assert_eq!(price.cost_at_most(&huge), Err(CostError));
    }
}
