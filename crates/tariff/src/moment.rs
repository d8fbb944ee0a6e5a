//! Moments and days as a rate card has them: UTC, and the calendar's months.

use core::fmt;

use millstream_types::Timestamp;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A stretch of time that volume is counted over, in UTC. It begins anew with the calendar, not with the payer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// From midnight to midnight.
    Day,
    /// From the first of a month to the first of the next.
    Month,
}

impl Period {
    /// Its name in cards.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    /// When the one that holds `at` began. After the year 9999 time has one period.
    #[must_use]
    pub fn start(self, at: Timestamp) -> Timestamp {
        let millis = i128::from(at.as_millis()).saturating_mul(1_000_000);
        let Ok(moment) = OffsetDateTime::from_unix_timestamp_nanos(millis) else { return Timestamp::from_millis(u64::MAX) };
        let date = match self {
            Self::Day => moment.date(),
            Self::Month => moment.date().replace_day(1).unwrap_or(moment.date()),
        };
        from_secs(date.midnight().assume_utc().unix_timestamp())
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Reads a moment as RFC 3339 has it, in whole seconds, from 1970 to 9999.
pub(crate) fn parse(text: &str) -> Option<Timestamp> {
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    let secs = u64::try_from(moment.unix_timestamp()).ok()?;
    (moment.nanosecond() == 0).then(|| Timestamp::from_millis(secs.saturating_mul(1_000)))
}

/// A moment in UTC, in whole seconds.
#[must_use]
pub fn moment(at: Timestamp) -> String {
    let secs = i64::try_from(at.as_secs_down()).ok().and_then(|secs| OffsetDateTime::from_unix_timestamp(secs).ok());
    secs.and_then(|moment| moment.format(&Rfc3339).ok()).unwrap_or_else(|| format!("{} ms", at.as_millis()))
}

fn from_secs(secs: i64) -> Timestamp {
    Timestamp::from_millis(u64::try_from(secs).unwrap_or_default().saturating_mul(1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_whole_seconds_of_any_offset() {
        let check = |text: &str, expected: Option<&str>| assert_eq!(parse(text).map(moment).as_deref(), expected, "{text}");
        check("2026-12-01T00:00:00Z", Some("2026-12-01T00:00:00Z"));
        check("2026-12-01T01:30:00+01:30", Some("2026-12-01T00:00:00Z"));
        for refused in ["", "2026-12-01", "2026-12-01T00:00:00", "2026-12-01T00:00:00.5Z", "2026-02-30T00:00:00Z", "1969-12-31T23:59:59Z"] {
            check(refused, None);
        }
    }

    #[test]
    fn periods_begin_with_the_calendar() {
        let check = |period: Period, at: &str, start: &str| {
            assert_eq!(moment(period.start(parse(at).expect("a moment"))), start, "{period} {at}");
        };
        check(Period::Day, "2026-12-31T23:59:59Z", "2026-12-31T00:00:00Z");
        check(Period::Day, "2027-01-01T00:00:00Z", "2027-01-01T00:00:00Z");
        check(Period::Month, "2028-02-29T12:00:00Z", "2028-02-01T00:00:00Z");
        check(Period::Month, "2028-03-01T00:00:00Z", "2028-03-01T00:00:00Z");
        assert_eq!(Period::Month.start(Timestamp::from_millis(u64::MAX)), Timestamp::from_millis(u64::MAX));
    }
}
