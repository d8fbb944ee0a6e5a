//! Moments of UTC on the command line and in statements.

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
    let (seconds, millis) = (millis / 1_000, millis % 1_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// The date of a day since the Unix epoch, in eras of 400 years that begin on a first of March.
const fn civil(days: u64) -> (u64, u64, u64) {
    const ERA_DAYS: u64 = 146_097;
    const DAYS_TO_EPOCH: u64 = 719_468;
    let days = days.saturating_add(DAYS_TO_EPOCH);
    let (era, day_of_era) = (days / ERA_DAYS, days % ERA_DAYS);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + (month <= 2) as u64;
    (year, month, day)
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
