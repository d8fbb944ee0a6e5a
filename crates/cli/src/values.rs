//! Values on the command line and in input lines.

use core::num::NonZeroU32;

use millstream_billing::FRAME_LINES_MAX;
use millstream_types::{Amount, Reference};

/// Reads whole tokens, such as `0.00000015`: more than zero, exact, within a channel's 64 bits.
///
/// # Errors
/// What is wrong with it.
pub fn tokens(text: &str) -> Result<Amount, String> {
    let amount = Amount::parse_tokens(text.trim()).map_err(|error| error.to_string())?;
    if amount.is_zero() {
        return Err("the amount must be more than zero".to_owned());
    }
    amount.to_u64().map_err(|error| error.to_string())?;
    Ok(amount)
}

/// Reads a multiple of real time, such as `2` or `0.5`, as thousandths.
///
/// # Errors
/// What is wrong with it.
pub fn speed(text: &str) -> Result<NonZeroU32, String> {
    let wrong = || "expected a multiple of real time from 0.001 to 1000000, such as 10 or 0.5".to_owned();
    let nanos = Amount::parse_tokens(text).map_err(|_| wrong())?.units();
    let thousandths = nanos / 1_000_000;
    if !nanos.is_multiple_of(1_000_000) || thousandths > 1_000_000_000 {
        return Err(wrong());
    }
    u32::try_from(thousandths).ok().and_then(NonZeroU32::new).ok_or_else(wrong)
}

/// Reads how many payments one signature covers.
///
/// # Errors
/// What is wrong with it.
pub fn frame_lines(text: &str) -> Result<usize, String> {
    let lines = text.parse().ok().filter(|lines| (1..=FRAME_LINES_MAX).contains(lines));
    lines.ok_or_else(|| format!("expected 1 to {FRAME_LINES_MAX}"))
}

/// Reads a payment's reference: 32 hexadecimal digits, a UUID, or a ULID.
///
/// # Errors
/// What is wrong with it.
pub fn reference(text: &str) -> Result<Reference, String> {
    let wrong = || "expected a reference of 16 bytes: 32 hexadecimal digits, a UUID or a ULID".to_owned();
    let text = text.trim();
    match text.len() {
        26 => ulid(text).map(|bits| Reference::from_bytes(bits.to_be_bytes())).ok_or_else(wrong),
        36 if [8, 13, 18, 23].iter().all(|dash| text.as_bytes()[*dash] == b'-') => text.replace('-', "").parse().map_err(|_| wrong()),
        32 | 34 => text.parse().map_err(|_| wrong()),
        _ => Err(wrong()),
    }
}

/// The 128 bits of a ULID: 26 digits of Crockford's base 32, the first at most 7.
fn ulid(text: &str) -> Option<u128> {
    const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let mut bits = 0u128;
    for digit in text.bytes().map(|digit| digit.to_ascii_uppercase()) {
        let value = DIGITS.iter().position(|known| *known == digit).and_then(|value| u128::try_from(value).ok())?;
        bits = bits.checked_mul(32)?.checked_add(value)?;
    }
    Some(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact_and_more_than_zero() {
        let check = |text: &str, nanos: Option<u64>| assert_eq!(tokens(text).ok(), nanos.map(Amount::from_nanos), "{text}");
        check("0.00000015", Some(150));
        check(" 1 ", Some(1_000_000_000));
        check("18446744073.709551615", Some(u64::MAX));
        check("18446744073.709551616", None);
        check("0", None);
        check("0.0000000001", None);
        check("-1", None);
    }

    #[test]
    fn speeds_are_thousandths() {
        let check = |text: &str, thousandths: Option<u32>| assert_eq!(speed(text).ok().map(NonZeroU32::get), thousandths, "{text}");
        check("1", Some(1_000));
        check("0.5", Some(500));
        check("1000000", Some(1_000_000_000));
        check("0", None);
        check("0.0001", None);
        check("1000001", None);
        check("fast", None);
    }

    #[test]
    fn a_signature_covers_one_to_a_thousand_lines() {
        assert_eq!((frame_lines("1"), frame_lines("1024")), (Ok(1), Ok(1_024)));
        assert!(frame_lines("0").is_err() && frame_lines("1025").is_err());
    }

    #[test]
    fn references_are_read_in_three_forms() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(reference(text).ok().map(|reference| reference.to_string()), expected.map(str::to_owned), "{text}");
        };
        let bytes = "0x0123456789abcdef0123456789abcdef";
        check("0123456789abcdef0123456789ABCDEF", Some(bytes));
        check(bytes, Some(bytes));
        check("01234567-89ab-cdef-0123-456789abcdef", Some(bytes));
        check("01ARZ3NDEKTSV4RRFFQ69G5FAV", Some("0x01563e3ab5d3d6764c61efb99302bd5b"));
        check("7ZZZZZZZZZZZZZZZZZZZZZZZZZ", Some("0xffffffffffffffffffffffffffffffff"));
        check("8ZZZZZZZZZZZZZZZZZZZZZZZZZ", None);
        check("01ARZ3NDEKTSV4RRFFQ69G5FAU", None);
        check("0123", None);
        check("", None);
    }
}
