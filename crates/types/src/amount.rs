//! Amounts of a channel's unit: checked, exact, and never a float.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Nanos in one whole token: the native unit is 10^-9 of a token, whatever the token's decimals.
const NANOS_PER_TOKEN: u128 = 1_000_000_000;

/// A non-negative quantity in the channel's unit: nanos on the native rail, base units on the others.
///
/// JSON: a decimal string. Native wire and contract form: 64 bits, see [`Amount::to_u64`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(u128);

/// A running total of [`Amount`]s on one channel. It only ever grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CumulativeAmount(u128);

/// Why an amount could not be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// The sum does not fit.
    #[error("the amount {left} + {right} does not fit")]
    Overflow {
        /// The left operand.
        left: u128,
        /// The right operand.
        right: u128,
    },
    /// The difference would be negative.
    #[error("the amount {left} - {right} would be negative")]
    Underflow {
        /// The left operand.
        left: u128,
        /// The right operand.
        right: u128,
    },
    /// The native rail carries 64 bits.
    #[error("{value} nanos do not fit the 64 bits of the native rail")]
    TooWide {
        /// The amount.
        value: u128,
    },
    /// The product does not fit.
    #[error("the amount {left} x {right} does not fit")]
    ProductOverflow {
        /// The unit price or amount.
        left: u128,
        /// The quantity.
        right: u128,
    },
    /// The price does not divide into whole nanos.
    #[error("{price} nanos per {scale} units is not a whole number of nanos a unit")]
    NotWholeNanos {
        /// The price, in nanos per `scale` units.
        price: u128,
        /// Units the price is for.
        scale: u64,
    },
}

/// Why a decimal string is not an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseAmountError {
    /// Not `digits` or `digits.digits`.
    #[error("expected a decimal number such as 12 or 0.15")]
    NotDecimal,
    /// More fractional digits than the unit has: refused, not rounded.
    #[error("more than {max} digits after the point: the amount cannot be represented exactly")]
    TooPrecise {
        /// Fractional digits that the unit can hold.
        max: u32,
    },
    /// Larger than 128 bits.
    #[error("the amount is too large")]
    TooLarge,
}

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// An amount of `units` of the channel's unit.
    #[must_use]
    pub const fn from_units(units: u128) -> Self {
        Self(units)
    }

    /// An amount of nanos, the native unit.
    #[must_use]
    #[allow(clippy::as_conversions, reason = "widening, in a const")]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos as u128)
    }

    /// The number of units.
    #[must_use]
    pub const fn units(self) -> u128 {
        self.0
    }

    /// Whether this is nothing.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The 64 bits that the native wire and the ledger carry.
    ///
    /// # Errors
    /// [`AmountError::TooWide`] from 2^64 up.
    pub fn to_u64(self) -> Result<u64, AmountError> {
        u64::try_from(self.0).map_err(|_| AmountError::TooWide { value: self.0 })
    }

    /// # Errors
    /// [`AmountError::Overflow`].
    pub fn checked_add(self, other: Self) -> Result<Self, AmountError> {
        self.0.checked_add(other.0).map(Self).ok_or(AmountError::Overflow { left: self.0, right: other.0 })
    }

    /// # Errors
    /// [`AmountError::Underflow`].
    pub fn checked_sub(self, other: Self) -> Result<Self, AmountError> {
        self.0.checked_sub(other.0).map(Self).ok_or(AmountError::Underflow { left: self.0, right: other.0 })
    }

    /// # Errors
    /// [`AmountError::ProductOverflow`].
    pub fn checked_mul(self, quantity: u64) -> Result<Self, AmountError> {
        let right = u128::from(quantity);
        self.0.checked_mul(right).map(Self).ok_or(AmountError::ProductOverflow { left: self.0, right })
    }

    /// Reads whole tokens with at most nine fractional digits, such as `12` or `0.15`, as nanos.
    ///
    /// # Errors
    /// [`ParseAmountError`]; a tenth fractional digit is refused, never rounded.
    pub fn parse_tokens(text: &str) -> Result<Self, ParseAmountError> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let dangling = text.contains('.') && fraction.is_empty();
        if whole.is_empty() || dangling || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
            return Err(ParseAmountError::NotDecimal);
        }
        if fraction.len() > 9 {
            return Err(ParseAmountError::TooPrecise { max: 9 });
        }
        let whole: u128 = whole.parse().map_err(|_| ParseAmountError::TooLarge)?;
        let fraction: u128 = format!("{fraction:0<9}").parse().map_err(|_| ParseAmountError::NotDecimal)?;
        whole
            .checked_mul(NANOS_PER_TOKEN)
            .and_then(|nanos| nanos.checked_add(fraction))
            .map(Self)
            .ok_or(ParseAmountError::TooLarge)
    }

    /// The amount, taken as nanos, written in whole tokens without loss: `150` nanos are `0.00000015`.
    #[must_use]
    pub fn to_tokens(self) -> String {
        let whole = self.0 / NANOS_PER_TOKEN;
        let fraction = format!("{:09}", self.0 % NANOS_PER_TOKEN);
        match fraction.trim_end_matches('0') {
            "" => whole.to_string(),
            digits => format!("{whole}.{digits}"),
        }
    }
}

impl CumulativeAmount {
    /// The total of a channel that has paid nothing.
    pub const ZERO: Self = Self(0);

    /// A total of `units` of the channel's unit.
    #[must_use]
    pub const fn from_units(units: u128) -> Self {
        Self(units)
    }

    /// A total in nanos, the native unit.
    #[must_use]
    #[allow(clippy::as_conversions, reason = "widening, in a const")]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos as u128)
    }

    /// The number of units.
    #[must_use]
    pub const fn units(self) -> u128 {
        self.0
    }

    /// The 64 bits that the native wire and the ledger carry.
    ///
    /// # Errors
    /// [`AmountError::TooWide`] from 2^64 up.
    pub fn to_u64(self) -> Result<u64, AmountError> {
        u64::try_from(self.0).map_err(|_| AmountError::TooWide { value: self.0 })
    }

    /// The total after paying `amount` more.
    ///
    /// # Errors
    /// [`AmountError::Overflow`].
    pub fn checked_add(self, amount: Amount) -> Result<Self, AmountError> {
        self.0.checked_add(amount.0).map(Self).ok_or(AmountError::Overflow { left: self.0, right: amount.0 })
    }

    /// What was paid since `earlier`.
    ///
    /// # Errors
    /// [`AmountError::Underflow`] when `earlier` is the larger.
    pub fn delta_since(self, earlier: Self) -> Result<Amount, AmountError> {
        self.0.checked_sub(earlier.0).map(Amount).ok_or(AmountError::Underflow { left: self.0, right: earlier.0 })
    }

    /// The total as a plain amount.
    #[must_use]
    pub const fn as_amount(self) -> Amount {
        Amount(self.0)
    }
}

/// A price: nanos for a number of units, such as 150,000,000 nanos per 1,000,000 tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    nanos: u128,
    scale: core::num::NonZeroU64,
}

impl Price {
    /// A price of `nanos` for `scale` units.
    #[must_use]
    pub const fn new(nanos: Amount, scale: core::num::NonZeroU64) -> Self {
        Self { nanos: nanos.0, scale }
    }

    /// What one unit costs.
    ///
    /// # Errors
    /// [`AmountError::NotWholeNanos`] when a unit costs a fraction of a nano.
    #[allow(clippy::arithmetic_side_effects, reason = "the scale is not zero")]
    pub fn per_unit(self) -> Result<Amount, AmountError> {
        let scale = u128::from(self.scale.get());
        if !self.nanos.is_multiple_of(scale) {
            return Err(AmountError::NotWholeNanos { price: self.nanos, scale: self.scale.get() });
        }
        Ok(Amount(self.nanos / scale))
    }

    /// What `quantity` units cost, with the remainder, in 1/scale nanos, that the caller carries to the next charge.
    ///
    /// # Errors
    /// [`AmountError::ProductOverflow`] or [`AmountError::Overflow`].
    #[allow(clippy::arithmetic_side_effects, reason = "the scale is not zero")]
    pub fn cost_down(self, quantity: u64, carried: u64) -> Result<(Amount, u64), AmountError> {
        let scale = u128::from(self.scale.get());
        let exact = Amount(self.nanos).checked_mul(quantity)?.checked_add(Amount(u128::from(carried)))?;
        let remainder = u64::try_from(exact.0 % scale).map_err(|_| AmountError::TooWide { value: exact.0 })?;
        Ok((Amount(exact.0 / scale), remainder))
    }
}

macro_rules! decimal_string {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = ParseAmountError;

            fn from_str(text: &str) -> Result<Self, ParseAmountError> {
                if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
                    return Err(ParseAmountError::NotDecimal);
                }
                text.parse().map(Self).map_err(|_| ParseAmountError::TooLarge)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

decimal_string!(Amount);
decimal_string!(CumulativeAmount);

#[cfg(test)]
mod tests {
    use core::num::NonZeroU64;

    use super::*;

    #[test]
    fn tokens_are_read_exactly_or_refused() {
        let check = |text: &str, expected: Result<u128, ParseAmountError>| {
            assert_eq!(Amount::parse_tokens(text).map(Amount::units), expected, "{text}");
        };
        check("0", Ok(0));
        check("12", Ok(12_000_000_000));
        check("0.15", Ok(150_000_000));
        check("0.000000001", Ok(1));
        check("0.0000000001", Err(ParseAmountError::TooPrecise { max: 9 }));
        check("", Err(ParseAmountError::NotDecimal));
        check(".5", Err(ParseAmountError::NotDecimal));
        check("5.", Err(ParseAmountError::NotDecimal));
        check("-1", Err(ParseAmountError::NotDecimal));
        check("1e9", Err(ParseAmountError::NotDecimal));
        check("340282366920938463463374607431768211456", Err(ParseAmountError::TooLarge));
    }

    #[test]
    fn tokens_are_written_as_they_are_read() {
        for text in ["0", "12", "0.15", "0.000000001", "18446744073.709551615"] {
            assert_eq!(Amount::parse_tokens(text).map(Amount::to_tokens).as_deref(), Ok(text));
        }
    }

    #[test]
    fn totals_never_decrease_and_never_wrap() {
        let total = CumulativeAmount::from_nanos(5);
        assert_eq!(total.delta_since(CumulativeAmount::from_nanos(2)), Ok(Amount::from_nanos(3)));
        assert!(CumulativeAmount::from_nanos(2).delta_since(total).is_err());
        assert!(CumulativeAmount::from_units(u128::MAX).checked_add(Amount::from_nanos(1)).is_err());
        assert!(Amount::from_units(1 << 64).to_u64().is_err());
    }

    #[test]
    fn a_long_stream_costs_what_one_large_charge_would() {
        let third = Price::new(Amount::from_nanos(1), NonZeroU64::new(3).expect("three"));
        let (mut paid, mut carried) = (Amount::ZERO, 0);
        for _ in 0..1_000 {
            let (cost, rest) = third.cost_down(1, carried).expect("small");
            paid = paid.checked_add(cost).expect("small");
            carried = rest;
        }
        assert_eq!((paid, carried), third.cost_down(1_000, 0).expect("small"));
        assert!(third.per_unit().is_err());
    }
}
