//! Windows of budgets: the calendar's, in UTC.

use millstream_types::Timestamp;
use serde::{Deserialize, Serialize};

const MINUTE_MILLIS: u64 = 60_000;
const HOUR_MILLIS: u64 = 3_600_000;
const DAY_MILLIS: u64 = 86_400_000;

/// How long a budget lasts before it begins anew (G-11).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Window {
    /// A minute of the clock.
    Minute,
    /// An hour of the clock.
    Hour,
    /// A day, UTC.
    Day,
    /// A month of the calendar, UTC.
    Month,
    /// For ever.
    Total,
}

impl Window {
    /// The name, as in configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
            Self::Total => "total",
        }
    }

    /// The beginning of the window that a moment is in; zero for [`Window::Total`].
    #[must_use]
    pub const fn start(self, now: Timestamp) -> Timestamp {
        let millis = now.as_millis();
        let past = match self {
            Self::Minute => millis % MINUTE_MILLIS,
            Self::Hour => millis % HOUR_MILLIS,
            Self::Day => millis % DAY_MILLIS,
            Self::Month => (millis % DAY_MILLIS).saturating_add(day_of_month(millis / DAY_MILLIS).saturating_mul(DAY_MILLIS)),
            Self::Total => millis,
        };
        Timestamp::from_millis(millis.saturating_sub(past))
    }
}

/// Days since the first of the month, of a day since the Unix epoch.
#[allow(clippy::arithmetic_side_effects, reason = "a day is at most 2^64 / 86,400,000, and the rest are years and months of one era")]
const fn day_of_month(day: u64) -> u64 {
    /// From 1 March of the year 0 to the Unix epoch.
    const EPOCH_DAY: u64 = 719_468;
    /// Days of 400 years.
    const ERA_DAYS: u64 = 146_097;
    // Years that begin in March have their leap day at the end, and 400 of them are like any other 400.
    let day = (day + EPOCH_DAY) % ERA_DAYS;
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    day_of_year - (153 * month + 2) / 5
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "the numbers are small")]
mod tests {
    use super::*;

    /// Counts months one by one.
    fn month_start_by_counting(day: u64) -> u64 {
        let (mut year, mut month, mut first) = (1_970u64, 0usize, 0u64);
        loop {
            let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
            let days = [31, 28 + u64::from(leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month];
            if day < first + days {
                return first;
            }
            first += days;
            month = (month + 1) % 12;
            year += u64::from(month == 0);
        }
    }

    #[test]
    fn months_begin_where_the_calendar_says() {
        for day in (0..60_000).step_by(17).chain([11_015, 11_016, 11_017, 47_540, 47_541, 47_542]) {
            let now = Timestamp::from_millis(day * DAY_MILLIS + 5);
            assert_eq!(Window::Month.start(now).as_millis(), month_start_by_counting(day) * DAY_MILLIS, "{day}");
        }
    }

    #[test]
    fn windows_begin_at_their_first_millisecond() {
        let check = |window: Window, now: u64, start: u64| {
            assert_eq!(window.start(Timestamp::from_millis(now)).as_millis(), start, "{window:?} {now}");
        };
        check(Window::Minute, 119_999, 60_000);
        check(Window::Minute, 120_000, 120_000);
        check(Window::Hour, 7_199_999, 3_600_000);
        check(Window::Day, 86_399_999, 0);
        check(Window::Day, 86_400_000, 86_400_000);
        check(Window::Total, u64::MAX, 0);
        assert!(Window::Month.start(Timestamp::from_millis(u64::MAX)).as_millis() > 0);
    }
}
