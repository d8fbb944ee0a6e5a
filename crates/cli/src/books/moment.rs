//! Moments of UTC on the command line and in statements.

use millstream_tariff::moment;
use millstream_types::Timestamp;

use crate::replay::parse_nanos;

/// Reads a day, `2026-11-01`, or a moment, `2026-11-01T08:30:00Z`, as milliseconds since the Unix epoch.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parse_millis(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let whole = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    let nanos =
        parse_nanos(&whole).map_err(|_| format!("{text:?} is no day or moment of UTC, such as 2026-11-01 or 2026-11-01T08:30:00Z"))?;
    Ok(nanos / 1_000_000)
}

/// A moment as RFC 3339 with milliseconds.
pub(super) fn rfc3339(millis: u64) -> String {
    let whole = moment(Timestamp::from_millis(millis));
    match whole.strip_suffix('Z') {
        Some(seconds) => format!("{seconds}.{:03}Z", millis % 1_000),
        // After the year 9999 it is a count of milliseconds.
        None => whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_they_are_read() {
        for text in [
            "1970-01-01T00:00:00.000Z",
            "1972-02-29T23:59:59.999Z",
            "2000-03-01T00:00:00.001Z",
            "2026-11-28T10:40:00.000Z",
            "2100-02-28T12:00:00.000Z",
            "2400-12-31T00:00:00.000Z",
        ] {
            assert_eq!(rfc3339(parse_millis(text).expect("a moment")), text);
        }
        assert_eq!(parse_millis("2026-11-01").map(rfc3339).as_deref(), Ok("2026-11-01T00:00:00.000Z"));
        assert!(parse_millis("2026-13-01").is_err() && parse_millis("yesterday").is_err());
    }
}
