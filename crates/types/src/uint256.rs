//! The EVM's word, for what no channel adds up: nonces, deadlines, moments that a token checks.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Amount;

/// Digits of 2^256 - 1.
const DIGITS_MAX: usize = 78;

/// An unsigned integer of 256 bits. JSON: a decimal string without leading zeros. There is no arithmetic on it: what is added up is an
/// [`Amount`].
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uint256([u8; 32]);

/// Why a decimal string is not an integer of the EVM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseUintError {
    /// Not one or more digits without a leading zero.
    #[error("expected a decimal integer without sign, leading zeros or spaces")]
    NotDecimal,
    /// It does not fit the bits it has to.
    #[error("the integer does not fit {bits} bits")]
    TooLarge {
        /// Bits there are.
        bits: u32,
    },
}

impl Uint256 {
    /// Zero.
    pub const ZERO: Self = Self([0; 32]);
    /// 2^256 - 1: what signers write for "never".
    pub const MAX: Self = Self([0xff; 32]);

    /// From 32 big-endian bytes.
    #[must_use]
    pub const fn from_be_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 big-endian bytes.
    #[must_use]
    pub const fn to_be_bytes(self) -> [u8; 32] {
        self.0
    }

    /// The number as 64 bits, if it fits.
    #[must_use]
    pub fn to_u64(self) -> Option<u64> {
        self.to_u128().and_then(|value| u64::try_from(value).ok())
    }

    /// The number as 128 bits, if it fits.
    #[must_use]
    pub fn to_u128(self) -> Option<u128> {
        let (high, low) = self.0.split_at(16);
        let low = low.iter().fold(0u128, |value, byte| value << 8 | u128::from(*byte));
        high.iter().all(|byte| *byte == 0).then_some(low)
    }

    /// The number as four 64-bit limbs, the least significant first.
    fn limbs(self) -> [u64; 4] {
        let mut limbs = [0; 4];
        for (limb, bytes) in limbs.iter_mut().rev().zip(self.0.chunks_exact(8)) {
            *limb = bytes.iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
        }
        limbs
    }

    fn from_limbs(limbs: [u64; 4]) -> Self {
        let mut bytes = [0; 32];
        for (bytes, limb) in bytes.chunks_exact_mut(8).zip(limbs.iter().rev()) {
            bytes.copy_from_slice(&limb.to_be_bytes());
        }
        Self(bytes)
    }
}

impl From<u64> for Uint256 {
    fn from(value: u64) -> Self {
        Self::from_limbs([value, 0, 0, 0])
    }
}

impl From<u128> for Uint256 {
    fn from(value: u128) -> Self {
        let mut bytes = [0; 32];
        bytes[16..].copy_from_slice(&value.to_be_bytes());
        Self(bytes)
    }
}

impl FromStr for Uint256 {
    type Err = ParseUintError;

    #[allow(clippy::arithmetic_side_effects, clippy::as_conversions, reason = "64 bits times ten and a carry of 64 bits fit 128")]
    fn from_str(text: &str) -> Result<Self, ParseUintError> {
        let digits = canonical_digits(text)?;
        if digits.len() > DIGITS_MAX {
            return Err(ParseUintError::TooLarge { bits: 256 });
        }
        let mut limbs = [0u64; 4];
        for digit in digits {
            let mut carry = u128::from(digit - b'0');
            for limb in &mut limbs {
                let wide = u128::from(*limb) * 10 + carry;
                *limb = wide as u64;
                carry = wide >> 64;
            }
            if carry != 0 {
                return Err(ParseUintError::TooLarge { bits: 256 });
            }
        }
        Ok(Self::from_limbs(limbs))
    }
}

/// The digits of a decimal integer as every encoder writes it.
fn canonical_digits(text: &str) -> Result<&[u8], ParseUintError> {
    let digits = text.as_bytes();
    let canonical = matches!(digits, [b'0'] | [b'1'..=b'9', ..]) && digits.iter().all(u8::is_ascii_digit);
    if canonical { Ok(digits) } else { Err(ParseUintError::NotDecimal) }
}

/// Reads an amount in base units as HTTP 402 writes it: 128 bits, digits without sign, leading zeros or spaces.
///
/// # Errors
/// [`ParseUintError`].
pub fn parse_base_units(text: &str) -> Result<Amount, ParseUintError> {
    canonical_digits(text)?;
    text.parse().map(Amount::from_units).map_err(|_| ParseUintError::TooLarge { bits: 128 })
}

impl fmt::Display for Uint256 {
    #[allow(clippy::arithmetic_side_effects, clippy::as_conversions, reason = "a remainder below ten, and quotients below 2^64")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut limbs = self.limbs();
        let mut digits = Vec::with_capacity(DIGITS_MAX);
        while limbs != [0; 4] {
            let mut rest = 0u128;
            for limb in limbs.iter_mut().rev() {
                let wide = rest << 64 | u128::from(*limb);
                *limb = (wide / 10) as u64;
                rest = wide % 10;
            }
            digits.push(char::from(b'0' + rest as u8));
        }
        if digits.is_empty() {
            digits.push('0');
        }
        f.pad_integral(true, "", &digits.iter().rev().collect::<String>())
    }
}

impl fmt::Debug for Uint256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Uint256 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Uint256 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: &str = "115792089237316195423570985008687907853269984665640564039457584007913129639935";

    #[test]
    fn decimal_strings_are_read_and_written_exactly_or_refused() {
        let check = |text: &str, expected: Result<Uint256, ParseUintError>| {
            assert_eq!(text.parse::<Uint256>(), expected, "{text}");
            if expected.is_ok() {
                assert_eq!(expected.map(|value| value.to_string()).as_deref(), Ok(text));
            }
        };
        check("0", Ok(Uint256::ZERO));
        check("10", Ok(Uint256::from(10u64)));
        check("18446744073709551616", Ok(Uint256::from(1u128 << 64)));
        check("340282366920938463463374607431768211455", Ok(Uint256::from(u128::MAX)));
        check(MAX, Ok(Uint256::MAX));
        let too_large = Err(ParseUintError::TooLarge { bits: 256 });
        check("115792089237316195423570985008687907853269984665640564039457584007913129639936", too_large);
        check(&format!("1{MAX}"), too_large);
        for text in ["", "00", "007", "-1", "+1", " 1", "1 ", "1.0", "1e3", "0x1", "१"] {
            check(text, Err(ParseUintError::NotDecimal));
        }
    }

    #[test]
    fn base_units_are_128_bits_without_leading_zeros() {
        let check =
            |text: &str, expected: Result<u128, ParseUintError>| assert_eq!(parse_base_units(text).map(Amount::units), expected, "{text}");
        check("0", Ok(0));
        check("340282366920938463463374607431768211455", Ok(u128::MAX));
        check("340282366920938463463374607431768211456", Err(ParseUintError::TooLarge { bits: 128 }));
        check("01", Err(ParseUintError::NotDecimal));
    }

    #[test]
    fn narrowing_is_checked() {
        assert_eq!(Uint256::from(u128::MAX).to_u128(), Some(u128::MAX));
        assert_eq!(Uint256::from(u64::MAX).to_u64(), Some(u64::MAX));
        assert_eq!(Uint256::from(1u128 << 64).to_u64(), None);
        assert_eq!(Uint256::MAX.to_u128(), None);
        assert!(Uint256::from(1u128 << 100) > Uint256::from(u64::MAX));
    }
}
