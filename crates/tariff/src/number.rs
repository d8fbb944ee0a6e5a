//! Decimal numbers and quantities, as text has them.

use core::fmt;
use core::num::NonZeroU64;

use crate::PriceError;

/// `digits × 10^-fraction_digits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decimal {
    pub(crate) digits: u128,
    pub(crate) fraction_digits: u32,
}

impl Decimal {
    /// `12` or `0.15`; underscores between digits are allowed, signs and exponents are not. Zeros at the end of the fraction do not count.
    pub(crate) fn parse(text: &str) -> Result<Self, PriceError> {
        let not_decimal = || PriceError::NotDecimal { text: text.to_owned() };
        let (whole, fraction) = text.split_once('.').map_or((text, None), |(whole, fraction)| (whole, Some(fraction)));
        let whole = digits(whole).ok_or_else(not_decimal)?;
        let fraction = fraction.map_or(Some(String::new()), digits).ok_or_else(not_decimal)?;
        let fraction = fraction.trim_end_matches('0');
        let too_large = || PriceError::TooLarge { text: text.to_owned() };
        let digits = format!("{whole}{fraction}").parse().map_err(|_| too_large())?;
        Ok(Self { digits, fraction_digits: u32::try_from(fraction.len()).map_err(|_| too_large())? })
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = usize::try_from(self.fraction_digits).map_err(|_| fmt::Error)?;
        let digits = format!("{:0>width$}", self.digits, width = width.saturating_add(1));
        let (whole, fraction) = digits.split_at(digits.len().saturating_sub(width));
        match fraction.trim_end_matches('0') {
            "" => f.write_str(whole),
            fraction => write!(f, "{whole}.{fraction}"),
        }
    }
}

/// Digits without the underscores between them.
fn digits(text: &str) -> Option<String> {
    let bounded = text.starts_with(|c: char| c.is_ascii_digit()) && text.ends_with(|c: char| c.is_ascii_digit());
    let plain: String = text.chars().filter(|c| *c != '_').collect();
    (bounded && plain.bytes().all(|byte| byte.is_ascii_digit())).then_some(plain)
}

/// `1`, `1000`, `1_000`, `1K`, `1M`, `1G`, and `1Ki`, `1Mi`, `1Gi` for powers of 1,024.
pub(crate) fn quantity(text: &str) -> Result<NonZeroU64, PriceError> {
    const SUFFIXES: [(&str, u64); 6] =
        [("Ki", 1 << 10), ("Mi", 1 << 20), ("Gi", 1 << 30), ("K", 1_000), ("M", 1_000_000), ("G", 1_000_000_000)];
    let not_a_quantity = || PriceError::NotAQuantity { text: text.to_owned() };
    let suffixed = SUFFIXES.iter().find_map(|(suffix, scale)| Some((text.strip_suffix(suffix)?, *scale)));
    let (number, scale) = suffixed.unwrap_or((text, 1));
    let number: u64 = digits(number).and_then(|digits| digits.parse().ok()).ok_or_else(not_a_quantity)?;
    number.checked_mul(scale).and_then(NonZeroU64::new).ok_or_else(not_a_quantity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read_exactly_or_refused() {
        let check = |text: &str, expected: Option<(u128, u32)>| {
            assert_eq!(Decimal::parse(text).ok().map(|d| (d.digits, d.fraction_digits)), expected, "{text}");
        };
        check("0", Some((0, 0)));
        check("12", Some((12, 0)));
        check("0.40", Some((4, 1)));
        check("1_000.5", Some((10_005, 1)));
        check("0.000000000000000001", Some((1, 18)));
        for refused in ["", ".5", "5.", "-1", "+1", "1e9", "0x1", "1,000", "_1", "1_", "1._5", " 1", "NaN", "٣"] {
            check(refused, None);
        }
        check("340282366920938463463374607431768211456", None);
    }

    #[test]
    fn decimals_are_written_as_they_are_read() {
        for text in ["0", "12", "0.15", "0.000000001", "18446744073.709551615"] {
            assert_eq!(Decimal::parse(text).map(|d| d.to_string()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn quantities() {
        let check = |text: &str, expected: Option<u64>| assert_eq!(quantity(text).ok().map(NonZeroU64::get), expected, "{text}");
        check("1", Some(1));
        check("1_000", Some(1_000));
        check("2K", Some(2_000));
        check("1M", Some(1_000_000));
        check("1Ki", Some(1_024));
        check("1Gi", Some(1 << 30));
        for refused in ["", "0", "0M", "M", "1.5M", "-1", "1T", "1m", "99999999999G"] {
            check(refused, None);
        }
    }
}
