//! Points in a store's history, as people write them: a version's number, a time, or how long ago.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What `--at` is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    Version(u64),
    /// What was current at that time.
    Time(SystemTime),
}

/// A version, as `1234`; a time in UTC, as `2026-11-27`, `2026-11-27T03:15` or `2026-11-27T03:15:00.250Z`; or how long ago, as `90s`,
/// `15m`, `12h`, `7d`, `2w`.
pub(crate) fn at(text: &str) -> Result<At, String> {
    if let Ok(version) = text.parse() {
        return Ok(At::Version(version));
    }
    let wrong = || {
        format!(
            "{text:?} is no version and no time: a number, a time in UTC such as 2026-11-27T03:15, or how long ago, such as 12h"
        )
    };
    let time = match duration(text) {
        Ok(ago) => SystemTime::now().checked_sub(ago),
        Err(_) => utc(text),
    };
    time.map(At::Time).ok_or_else(wrong)
}

/// A number and its unit.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time: a number and s, m, h, d or w, such as 12h");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return Err(wrong()),
    };
    let count: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    count.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

/// A date, with or without a time of day, from 1970 on.
fn utc(text: &str) -> Option<SystemTime> {
    let (date, time) = match text.split_once(['T', ' ']) {
        Some((date, time)) => (date, time.strip_suffix('Z').unwrap_or(time)),
        None => (text, "00:00"),
    };
    let mut parts = date.split('-').map(digits);
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let (clock, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut parts = clock.split(':').map(digits);
    let (hour, minute) = (parts.next()??, parts.next()??);
    let second = parts.next().unwrap_or(Some(0))?;
    let is_over = date.split('-').count() != 3 || parts.next().is_some() || !(1970..=9999).contains(&year);
    let is_day = (1..=12).contains(&month) && (1..=days_in(year, month)).contains(&day);
    if is_over || !is_day || hour > 23 || minute > 59 || second > 59 || fraction.len() > 9 {
        return None;
    }
    let millis = match fraction {
        "" => 0,
        fraction => digits(&format!("{fraction:0<3}")[..3])?,
    };
    let days = days_before(year, month) + day - 1;
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    UNIX_EPOCH.checked_add(Duration::from_millis(seconds * 1000 + millis))
}

fn digits(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.len() <= 9 && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

fn is_leap(year: u64) -> bool {
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

/// Days from 1970 to the first of the month.
fn days_before(year: u64, month: u64) -> u64 {
    let years: u64 = (1970..year).map(|year| 365 + u64::from(is_leap(year))).sum();
    years + (1..month).map(|month| days_in(year, month)).sum::<u64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_as_a_time_is_read_as_one() {
        for seconds in [0, 951_782_399, 951_782_400, 1_709_251_199, 4_107_542_400, 1_767_225_599] {
            let time = UNIX_EPOCH + Duration::from_millis(seconds * 1000 + 250);
            assert_eq!(at(&crate::output::utc(time)), Ok(At::Time(time)));
        }
        let day = UNIX_EPOCH + Duration::from_hours(264_384);
        for text in ["2000-02-29", "2000-02-29T00:00", "2000-02-29 00:00:00", "2000-02-29T00:00:00.0Z"] {
            assert_eq!(at(text), Ok(At::Time(day)), "{text}");
        }
    }

    #[test]
    fn numbers_are_versions_and_what_is_neither_is_refused() {
        assert_eq!(at("1234"), Ok(At::Version(1234)));
        assert!(matches!(at("12h"), Ok(At::Time(time)) if time < SystemTime::now()));
        for text in [
            "",
            "h",
            "12y",
            "-1",
            "2026-13-01",
            "2026-02-29",
            "2026-11",
            "2026-11-27-1",
            "2026-11-27T",
            "2026-11-27T24:00",
            "2026-11-27T1",
            "2026-11-27T01:60",
            "2026-11-27T01:00:00:00",
            "1969-12-31",
            "2026-11-27T01:00.x",
            "é",
            "12é",
            "99999999999999999999",
            "9999999999999999999w",
            "2026-1é-01",
        ] {
            assert!(at(text).is_err(), "{text:?}");
        }
    }
}
