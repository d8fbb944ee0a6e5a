//! Why a price is not one, and why a cost cannot be computed.

use crate::Unit;

/// Why text is not a price.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PriceError {
    /// Not `AMOUNT TOKEN / [QUANTITY] UNIT`, with ` + ` between several.
    #[error("`{text}` is not a price such as `0.40 USDC / 1M output_token`")]
    NotAPrice {
        /// The part that does not parse.
        text: String,
    },
    /// A number that is not `12` or `0.15`.
    #[error("`{text}` is not a decimal number such as 12 or 0.15")]
    NotDecimal {
        /// The refused number.
        text: String,
    },
    /// Not a whole number with an optional K, M, G, Ki, Mi or Gi.
    #[error("`{text}` is not a quantity such as 1, 1000, 1K or 1M")]
    NotAQuantity {
        /// The refused quantity.
        text: String,
    },
    /// A token that is not the one the price must be in.
    #[error("the price is in {found}, and this route is paid in {expected}")]
    OtherToken {
        /// The token's symbol.
        expected: String,
        /// What the text says.
        found: String,
    },
    /// A unit that is not counted.
    #[error("`{unit}` is not counted; one of call, input_token, output_token, cached_token, second, byte, image is")]
    UnknownUnit {
        /// The unknown name.
        unit: String,
    },
    /// Two prices for one unit.
    #[error("{unit} has two prices")]
    UnitTwice {
        /// The unit.
        unit: Unit,
    },
    /// Not a whole number of attos for one unit: refused, not rounded.
    #[error("the price of one {unit} cannot be represented exactly: it is not a whole number of 10^-18 base units")]
    NotExact {
        /// The unit.
        unit: Unit,
    },
    /// An amount that must be payable and is not a whole number of base units.
    #[error("`{text}` is not a whole number of base units of {symbol}, which has {decimals} decimals")]
    NotWholeBaseUnits {
        /// The refused amount.
        text: String,
        /// The token.
        symbol: String,
        /// Its decimals.
        decimals: u8,
    },
    /// More than 128 bits.
    #[error("`{text}` is too large")]
    TooLarge {
        /// What does not fit.
        text: String,
    },
    /// A token's symbol that prices could not be written with.
    #[error("`{symbol}` is not a token's symbol: 1 to 16 letters and digits, a letter first, and not `base`")]
    Symbol {
        /// The refused symbol.
        symbol: String,
    },
    /// More decimals than are supported.
    #[error("a token of {decimals} decimals is not supported (at most 27 are)")]
    Decimals {
        /// The token's decimals.
        decimals: u8,
    },
    /// The name of a tariff version.
    #[error("`{name}` is not a tariff's name: 1 to 64 of a-z, A-Z, 0-9, `.`, `_` and `-`")]
    TariffName {
        /// The refused name.
        name: String,
    },
    /// A reason for a refund that there is no code for.
    #[error("`{text}` is no reason for a refund; one of not_delivered, quality, duplicate, overcharged, dispute, goodwill is")]
    RefundReason {
        /// The refused word.
        text: String,
    },
}

/// Why a file is not a rate card.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CardError {
    /// A price or an amount that cannot be read.
    #[error("{place}: {source}")]
    Price {
        /// Where: `entry 2, price`.
        place: String,
        /// Why.
        source: PriceError,
    },
    /// A value that cannot be used.
    #[error("{place}: {reason}")]
    Value {
        /// Where.
        place: String,
        /// Why.
        reason: String,
    },
    /// Payees that are no split.
    #[error("split: {0}")]
    Split(#[from] crate::SplitError),
}

/// Why a cost cannot be computed. Usage of this size was never sold: it is an input that is wrong, not a price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cost does not fit 128 bits of base units")]
pub struct CostError;
