//! Moments as RFC 3339 writes them.

use millstream_types::Timestamp;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::DialectError;

/// Reads a moment, rounded down to milliseconds; one before 1970 is refused.
///
/// # Errors
/// [`DialectError::Field`].
pub fn parse_moment(field: &'static str, text: &str) -> Result<Timestamp, DialectError> {
    let refused = DialectError::field(field, "expected a moment as RFC 3339 has it, such as 2026-01-15T12:05:00Z");
    let moment = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| refused.clone())?;
    let millis = moment.unix_timestamp_nanos().div_euclid(1_000_000);
    u64::try_from(millis).map(Timestamp::from_millis).map_err(|_| refused)
}

/// A moment in UTC; seconds have no fraction when there is none.
///
/// # Errors
/// [`DialectError::Field`] after the year 9999.
pub fn moment_text(field: &'static str, moment: Timestamp) -> Result<String, DialectError> {
    let refused = || DialectError::field(field, "after the year 9999");
    let nanos = i128::from(moment.as_millis()).checked_mul(1_000_000).ok_or_else(refused)?;
    let moment = OffsetDateTime::from_unix_timestamp_nanos(nanos).map_err(|_| refused())?;
    moment.format(&Rfc3339).map_err(|_| refused())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_and_written() {
        let check = |text: &str, millis: Option<u64>| {
            assert_eq!(parse_moment("expires", text).ok().map(Timestamp::as_millis), millis, "{text}");
        };
        check("2025-01-15T12:05:00Z", Some(1_736_942_700_000));
        check("2025-01-15T13:05:00.5+01:00", Some(1_736_942_700_500));
        check("1970-01-01T00:00:00Z", Some(0));
        for text in ["", "2025-01-15", "2025-02-30T00:00:00Z", "1969-12-31T23:59:59Z", "2025-01-15T12:05:00", "tomorrow"] {
            check(text, None);
        }
        let text = |millis| moment_text("expires", Timestamp::from_millis(millis));
        assert_eq!(text(1_736_942_700_000).as_deref(), Ok("2025-01-15T12:05:00Z"));
        assert_eq!(text(1_736_942_700_500).as_deref(), Ok("2025-01-15T12:05:00.5Z"));
        assert!(text(u64::MAX).is_err());
    }
}
