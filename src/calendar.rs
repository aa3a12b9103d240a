//! Periods of the calendar, in UTC: no time zone and no summer time, so a period is the same for everybody who asks.
//!
//! Days are turned into dates by the proleptic Gregorian calendar (Howard Hinnant, "chrono-Compatible Low-Level Date
//! Algorithms", `civil_from_days`); weeks are those of ISO 8601: they begin on a Monday and belong to the year of their
//! Thursday.

use std::time::Duration;

use serde::Serialize;

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// A period of the calendar, in UTC.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Period {
    /// From a full hour to the next.
    Hour,
    /// From midnight to midnight.
    Day,
    /// From Monday to Monday (ISO 8601).
    Week,
    /// A month of the calendar.
    Month,
    /// A year of the calendar.
    Year,
}

impl Period {
    /// The number of the period that a time (in milliseconds since 1970) lies in: equal for two times in the same one, and
    /// rising.
    pub(crate) fn number_of(self, at_ms: u64) -> u64 {
        let days = at_ms / DAY_MS;
        let (year, month, _) = date_of(days);
        match self {
            Period::Hour => at_ms / HOUR_MS,
            Period::Day => days,
            // 1970 began on a Thursday.
            Period::Week => (days + 3) / 7,
            Period::Month => year * 12 + month - 1,
            Period::Year => year,
        }
    }

    /// How people call the period that a time lies in.
    pub(crate) fn name_of(self, at_ms: u64) -> String {
        let days = at_ms / DAY_MS;
        let (year, month, day) = date_of(days);
        match self {
            Period::Hour => format!("{year:04}-{month:02}-{day:02}T{:02}", at_ms / HOUR_MS % 24),
            Period::Day => format!("{year:04}-{month:02}-{day:02}"),
            Period::Week => {
                // The week's Thursday has the number of the week times seven.
                let thursday = self.number_of(at_ms) * 7;
                let year = date_of(thursday).0;
                let first = first_day_of(thursday);
                format!("{year:04}-W{:02}", (thursday - first) / 7 + 1)
            }
            Period::Month => format!("{year:04}-{month:02}"),
            Period::Year => format!("{year:04}"),
        }
    }
}

/// The first day of the year that a day lies in.
fn first_day_of(days: u64) -> u64 {
    let (year, month, day) = date_of(days);
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let before = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let before = usize::try_from(month - 1).ok().and_then(|month| before.get(month)).copied().unwrap_or(0);
    days - (before + u64::from(is_leap && month > 2) + day - 1)
}

/// Year, month (from 1) and day (from 1) of a day, counted from 1970.
fn date_of(days: u64) -> (u64, u64, u64) {
    // Years begin in March here, so that the leap day is the last one; 400 years are 146,097 days.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// A length of time in milliseconds; the greatest there is, if it is longer.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A time as `2026-11-27T02:05:00Z`, for people: ISO 8601 in UTC.
pub(crate) fn clock(at_ms: u64) -> String {
    written(at_ms, ':')
}

/// A time as `2026-11-27T02-05-00Z`, for names: with no sign that a file name or a shell would mind.
pub(crate) fn stamp(at_ms: u64) -> String {
    written(at_ms, '-')
}

fn written(at_ms: u64, between: char) -> String {
    let (year, month, day) = date_of(at_ms / DAY_MS);
    let seconds = at_ms / 1000 % 86_400;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}{between}{minute:02}{between}{second:02}Z")
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Days since 1970 of a date, by counting.
    fn days_of(year: u64, month: u64, day: u64) -> u64 {
        let is_leap =
            |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let years: u64 = (1970..year).map(|year| 365 + u64::from(is_leap(year))).sum();
        let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        years + lengths.iter().take(usize::try_from(month).unwrap() - 1).sum::<u64>() + day - 1
    }

    #[test]
    fn every_day_of_four_centuries_has_its_date() {
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..146_097 + 365 {
            assert_eq!(date_of(days), (year, month, day));
            if days % 97 == 0 {
                assert_eq!(days_of(year, month, day), days);
                assert_eq!(first_day_of(days), days_of(year, 1, 1));
            }
            day += 1;
            if days_of(year, month, day) == days_of(year, month + 1, 1) {
                (month, day) = (month + 1, 1);
            }
            if month == 13 {
                (year, month) = (year + 1, 1);
            }
        }
    }

    #[test]
    fn weeks_are_those_of_iso_8601() {
        // (year, month, day, week), from the tables of ISO 8601 and of `date +%G-W%V`.
        for (year, month, day, week) in [
            (1970, 1, 1, "1970-W01"),
            (2020, 12, 31, "2020-W53"),
            (2021, 1, 3, "2020-W53"),
            (2021, 1, 4, "2021-W01"),
            (2024, 12, 29, "2024-W52"),
            (2024, 12, 30, "2025-W01"),
            (2026, 11, 27, "2026-W48"),
            (2027, 1, 1, "2026-W53"),
        ] {
            assert_eq!(Period::Week.name_of(days_of(year, month, day) * DAY_MS + 5), week);
        }
    }

    #[test]
    fn names_and_numbers_change_together() {
        let start = days_of(2023, 12, 28) * DAY_MS;
        for period in [Period::Hour, Period::Day, Period::Week, Period::Month, Period::Year] {
            let mut before = None;
            for hour in 0..24 * 500 {
                for at in [start + hour * HOUR_MS, start + (hour + 1) * HOUR_MS - 1] {
                    let now = (period.number_of(at), period.name_of(at));
                    if let Some((number, name)) = before.replace(now.clone()) {
                        assert!(number <= now.0);
                        assert_eq!(number == now.0, name == now.1, "{name} and {}", now.1);
                    }
                }
            }
        }
        assert_eq!(stamp(days_of(2026, 11, 27) * DAY_MS + 7_505_999), "2026-11-27T02-05-05Z");
        assert_eq!(clock(days_of(2026, 11, 27) * DAY_MS + 7_505_999), "2026-11-27T02:05:05Z");
    }

    #[test]
    fn any_time_that_can_be_written_has_a_period() {
        for at in [0, u64::MAX / 2, u64::MAX] {
            for period in [Period::Hour, Period::Day, Period::Week, Period::Month, Period::Year] {
                assert!(!period.name_of(at).is_empty());
            }
        }
    }
}
