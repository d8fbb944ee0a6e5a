//! The times of a trace, as nanoseconds since the Unix epoch.

/// Not a time, or one before 1970 or after 2553.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("TIMESTAMP is {found:?}, expected a time such as 2023-11-16 18:17:03.9799600")]
pub struct TimestampError {
    /// What is there.
    found: String,
}

/// Reads `YYYY-MM-DD hh:mm:ss`, with `T` or a space between, up to nine digits of a second, and `Z` or `+00:00` at the end if anything.
///
/// # Errors
/// [`TimestampError`].
pub fn parse_nanos(text: &str) -> Result<u64, TimestampError> {
    parse(text).ok_or_else(|| TimestampError { found: text.chars().take(60).collect() })
}

fn parse(text: &str) -> Option<u64> {
    let text = text.strip_suffix("+00:00").or_else(|| text.strip_suffix('Z')).unwrap_or(text);
    let (date, time) = text.split_once([' ', 'T'])?;
    let (year, month, day) = three(date, '-', [4, 2, 2])?;
    let (time, fraction) = time.split_once('.').map_or((time, None), |(time, fraction)| (time, Some(fraction)));
    let (hour, minute, second) = three(time, ':', [2, 2, 2])?;
    if !(1970..=2553).contains(&year) || !(1..=12).contains(&month) || day == 0 || day > days_in(year, month) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = ((days_since_epoch(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    let nanos = match fraction {
        None => 0,
        Some(digits) if (1..=9).contains(&digits.len()) => number(&format!("{digits:0<9}"))?,
        Some(_) => return None,
    };
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos)
}

/// Three numbers of fixed widths.
fn three(text: &str, separator: char, widths: [usize; 3]) -> Option<(u64, u64, u64)> {
    let mut parts = text.split(separator);
    let mut next = |width: usize| parts.next().filter(|part| part.len() == width).and_then(number);
    let found = (next(widths[0])?, next(widths[1])?, next(widths[2])?);
    parts.next().is_none().then_some(found)
}

fn number(digits: &str) -> Option<u64> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

const fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_in(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn days_since_epoch(year: u64, month: u64, day: u64) -> u64 {
    // Leap years from year 1 to the year before this one, less those to 1969.
    let before = year - 1;
    let leap_days = before / 4 - before / 100 + before / 400 - 477;
    let months: u64 = (1..month).map(|month| days_in(year, month)).sum();
    (year - 1970) * 365 + leap_days + months + day - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_nanoseconds_since_the_unix_epoch() {
        let check = |text: &str, seconds: u64, nanos: u64| {
            assert_eq!(parse_nanos(text), Ok(seconds * 1_000_000_000 + nanos), "{text}");
        };
        check("1970-01-01 00:00:00", 0, 0);
        check("1972-02-29 00:00:00", 68_169_600, 0);
        check("2000-03-01 00:00:00", 951_868_800, 0);
        check("2100-03-01 00:00:00", 4_107_542_400, 0);
        check("2023-11-16 18:17:03.9799600", 1_700_158_623, 979_960_000);
        check("2024-05-10T00:00:00.009930+00:00", 1_715_299_200, 9_930_000);
        check("2024-05-10T00:00:00.123456789Z", 1_715_299_200, 123_456_789);
        check("2024-12-31 23:59:59", 1_735_689_599, 0);
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2023-11-16",
            "2023-02-29 00:00:00",
            "2023-13-01 00:00:00",
            "2023-00-01 00:00:00",
            "2023-04-31 00:00:00",
            "2023-01-00 00:00:00",
            "1969-12-31 23:59:59",
            "2554-01-01 00:00:00",
            "2023-11-16 24:00:00",
            "2023-11-16 18:60:00",
            "2023-11-16 18:17:60",
            "2023-11-16 18:17:03.",
            "2023-11-16 18:17:03.1234567890",
            "2023-11-16 18:17:03.12a",
            "2023-11-16 18:17",
            "2023-11-16 18:17:03:00",
            "23-11-16 18:17:03",
            "2023-11-16 18:17:03+02:00",
            "2023-11-16 +8:17:03",
        ] {
            assert!(parse_nanos(text).is_err(), "{text}");
        }
    }
}
