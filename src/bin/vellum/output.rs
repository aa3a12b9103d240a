//! Results: one list of named values, shown as a table to people and as one JSON object to programs.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use indicatif::HumanBytes;
use serde::{Serialize, Serializer};

use crate::args::Show;
use crate::error::Failure;

/// A value, by what it means to people.
pub(crate) enum Field {
    Count(u64),
    Bytes(u64),
    Nanos(u64),
    Time(SystemTime),
    Text(String),
    /// Several, in an order that means something.
    Texts(Vec<String>),
    Pairs(Vec<(String, String)>),
    Flag(bool),
    /// What can't be told: `null`.
    Unknown,
    /// What is `null` in JSON and has a word for it among people.
    No(&'static str),
    Group(Report),
    List(Vec<Report>),
}

/// Named values in the order in which they are shown. The names are the JSON keys, and stay.
pub(crate) struct Report(Vec<(&'static str, Field)>);

impl Report {
    pub(crate) fn new() -> Report {
        Report(Vec::new())
    }

    pub(crate) fn with(mut self, key: &'static str, field: Field) -> Report {
        self.0.push((key, field));
        self
    }

    pub(crate) fn count(self, key: &'static str, count: u64) -> Report {
        self.with(key, Field::Count(count))
    }

    pub(crate) fn bytes(self, key: &'static str, bytes: u64) -> Report {
        self.with(key, Field::Bytes(bytes))
    }

    /// A value that is text in JSON too: identities and fingerprints, which are wider than JSON's numbers.
    pub(crate) fn text(self, key: &'static str, value: &(impl ToString + ?Sized)) -> Report {
        self.with(key, Field::Text(value.to_string()))
    }

    /// Prints the report on standard output.
    pub(crate) fn print(&self, show: Show) -> Result<(), Failure> {
        let mut text = if show.json {
            serde_json::to_string(self).map_err(|error| Failure::stdout(error.into()))?
        } else {
            self.to_table()
        };
        if !text.ends_with('\n') {
            text.push('\n');
        }
        put(text.as_bytes())
    }

    pub(crate) fn to_table(&self) -> String {
        let mut rows = Vec::new();
        self.add_rows("", &mut rows);
        let width = rows.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
        let mut table = String::new();
        for (label, value) in rows {
            let _ = writeln!(table, "{label:width$}  {value}");
        }
        for (_, field) in &self.0 {
            if let Field::List(reports) = field {
                table.push_str(&columns(reports));
            }
        }
        table
    }

    fn add_rows(&self, before: &str, rows: &mut Vec<(String, String)>) {
        for (key, field) in &self.0 {
            // The value tells its unit.
            let key = if matches!(field, Field::Nanos(_)) {
                key.replace("nanos", "time")
            } else {
                (*key).to_owned()
            };
            let label = format!("{before}{}", key.replace('_', " "));
            match field {
                Field::Group(group) => group.add_rows(&format!("{label}: "), rows),
                Field::List(_) => {}
                field => rows.push((label, field.to_text())),
            }
        }
    }
}

/// Reports of the same keys as the lines of a table.
fn columns(reports: &[Report]) -> String {
    let Some(first) = reports.first() else { return String::new() };
    let mut lines: Vec<Vec<String>> =
        vec![first.0.iter().map(|(key, _)| key.replace('_', " ").to_uppercase()).collect()];
    lines.extend(reports.iter().map(|report| report.0.iter().map(|(_, field)| field.to_text()).collect()));
    let widths: Vec<usize> = (0..first.0.len())
        .map(|column| lines.iter().filter_map(|line| line.get(column)).map(String::len).max().unwrap_or(0))
        .collect();
    let mut table = String::new();
    for line in lines {
        let cells: Vec<String> =
            line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        table.push_str(cells.join("  ").trim_end());
        table.push('\n');
    }
    table
}

impl Field {
    fn to_text(&self) -> String {
        match self {
            Field::Count(count) => count.to_string(),
            Field::Bytes(bytes) if *bytes < 1024 => format!("{bytes} bytes"),
            Field::Bytes(bytes) => format!("{bytes} bytes ({})", HumanBytes(*bytes)),
            Field::Nanos(nanos) => format!("{:.1?}", Duration::from_nanos(*nanos)),
            Field::Time(time) => utc(*time),
            Field::Text(text) => text.clone(),
            Field::Texts(texts) => texts.join(", "),
            Field::Pairs(pairs) => {
                let joined = pairs.iter().map(|(key, value)| format!("{key}={value}"));
                joined.collect::<Vec<_>>().join(", ")
            }
            Field::Unknown => "-".to_owned(),
            Field::No(word) => (*word).to_owned(),
            Field::Flag(flag) => (if *flag { "yes" } else { "no" }).to_owned(),
            Field::Group(_) | Field::List(_) => String::new(),
        }
    }
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, field)| (key, field)))
    }
}

impl Serialize for Field {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Field::Count(number) | Field::Bytes(number) | Field::Nanos(number) => {
                serializer.serialize_u64(*number)
            }
            Field::Time(time) => serializer.serialize_str(&utc(*time)),
            Field::Text(text) => serializer.serialize_str(text),
            Field::Texts(texts) => texts.serialize(serializer),
            Field::Pairs(pairs) => serializer.collect_map(pairs.iter().map(|(key, value)| (key, value))),
            Field::Unknown | Field::No(_) => serializer.serialize_none(),
            Field::Flag(flag) => serializer.serialize_bool(*flag),
            Field::Group(group) => group.serialize(serializer),
            Field::List(list) => list.serialize(serializer),
        }
    }
}

/// A time as RFC 3339 in UTC, to the millisecond, which is what a store keeps.
pub(crate) fn utc(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Days to a date by way of eras of 400 years that begin in March, so that the leap day is an era's last.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
}

/// Standard output without the standard library's line buffer, which would look for line ends in pages.
pub(crate) fn stdout() -> Result<File, Failure> {
    io::stdout().as_fd().try_clone_to_owned().map(File::from).map_err(Failure::stdout)
}

/// Writes all of `bytes` to standard output.
pub(crate) fn put(bytes: &[u8]) -> Result<(), Failure> {
    stdout()?.write_all(bytes).map_err(Failure::stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_right_around_leap_days() {
        let at = |seconds| utc(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000Z");
        assert_eq!(at(951_868_800), "2000-03-01T00:00:00.000Z");
        assert_eq!(at(1_709_251_199), "2024-02-29T23:59:59.000Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00.000Z");
        assert_eq!(utc(UNIX_EPOCH + Duration::from_millis(1_767_225_599_999)), "2025-12-31T23:59:59.999Z");
    }
}
