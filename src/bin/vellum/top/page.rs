//! What `top` shows: a store in a few lines, and a table of who keeps what.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use indicatif::{HumanBytes, HumanCount};
use serde_json::Value;
use vellum::Histogram;

use super::Found;
use crate::output::{Field, Report};

/// The page, with rates since `before`, if there is one.
pub(super) fn page(found: &Found, before: Option<&Value>, pins_max: usize, dir: &Path) -> String {
    let (status, stats) = (&found.status, &found.status["stats"]);
    let mut page = String::new();
    let who = match found.told {
        None => "not in use; this is what opening it found".to_owned(),
        Some(told) if found.is_late => {
            format!(
                "process {} last told {} ago: it may hang, or be gone",
                number(&status["process"]),
                short(told)
            )
        }
        Some(told) => format!("in use by process {}, told {} ago", number(&status["process"]), short(told)),
    };
    let _ = writeln!(page, "{}: {who}\n", dir.display());
    for (name, told) in [
        ("version", version(stats)),
        ("space", space(stats)),
        ("commits", commits(status, before)),
        ("memory", memory(stats)),
        ("log", log(stats)),
    ] {
        let _ = writeln!(page, "{name:9}{told}");
    }
    let none = Vec::new();
    let pins = status["pins"].as_array().unwrap_or(&none);
    let count = number(&status["pin_count"]);
    let _ = writeln!(page, "\n{} that keep versions, those that keep most first:", plural(count, "pin"));
    let lines: Vec<Report> = pins.iter().take(pins_max).map(line).collect();
    page.push_str(&Report::new().with("pins", Field::List(lines)).to_table());
    let left_out = count.saturating_sub(pins.len().min(pins_max) as u64);
    if left_out > 0 {
        let _ = writeln!(page, "and {left_out} more");
    }
    page
}

fn line(pin: &Value) -> Report {
    let age = Duration::from_secs(number(&pin["age"]["secs"]));
    Report::new()
        .text("kind", &text(&pin["kind"]).to_lowercase())
        .text("owner", text(&pin["owner"]))
        .count("version", number(&pin["version"]))
        .text("age", &short(age))
        .text("keeps_alone", &HumanBytes(number(&pin["retained_bytes"])))
        .text("version_keeps", &HumanBytes(number(&pin["version_bytes"])))
}

fn version(stats: &Value) -> String {
    let (version, durable) = (number(&stats["version"]), number(&stats["durable_version"]));
    let pages = HumanCount(number(&stats["live_pages"]));
    let size = HumanBytes(number(&stats["page_size"]));
    match version.saturating_sub(durable) {
        0 => format!("{}, durable; {pages} pages of {size}", HumanCount(version)),
        behind => {
            format!("{}, of which {behind} not durable yet; {pages} pages of {size}", HumanCount(version))
        }
    }
}

fn space(stats: &Value) -> String {
    let (disk, live) = (number(&stats["disk_bytes"]), number(&stats["live_bytes"]));
    let kept = number(&stats["allocated_bytes"]).saturating_sub(live);
    let rest = disk.saturating_sub(live + kept);
    format!(
        "{} on disk: {} live, {} for older versions, {} log, dead or free",
        HumanBytes(disk),
        HumanBytes(live),
        HumanBytes(kept),
        HumanBytes(rest)
    )
}

fn commits(status: &Value, before: Option<&Value>) -> String {
    let stats = &status["stats"];
    let syncs = histogram(&stats["sync_micros"]);
    let total = format!(
        "{} since it was opened, {} conflicts",
        HumanCount(number(&stats["transactions"])),
        HumanCount(number(&stats["conflicts"]))
    );
    let syncs = match syncs.count() {
        0 => String::new(),
        _ => format!(
            "; half of the syncs within {} us, 99% within {} us",
            syncs.percentile(50),
            syncs.percentile(99)
        ),
    };
    let Some(before) = before else { return total + &syncs };
    let millis = number(&status["written_at_ms"]).saturating_sub(number(&before["written_at_ms"])).max(1);
    // Counters begin anew when the store is opened anew.
    let since = |key: &str| number(&stats[key]).saturating_sub(number(&before["stats"][key]));
    let rate = |count: u64| count.saturating_mul(1000) / millis;
    let bytes = since("pages_written").saturating_mul(number(&stats["page_size"]));
    format!(
        "{}/s, {}/s of pages; {total}{syncs}",
        HumanCount(rate(since("transactions"))),
        HumanBytes(rate(bytes))
    )
}

fn histogram(value: &Value) -> Histogram {
    // As many classes as there can be: what is read here is anybody's.
    let classes = value["classes"].as_array().into_iter().flatten().take(40).map(number).collect();
    Histogram { classes, sum: 0 }
}

fn memory(stats: &Value) -> String {
    let mut told = format!(
        "{} of page table, {} waiting for views",
        HumanBytes(number(&stats["table_memory_bytes"])),
        HumanBytes(number(&stats["limbo_bytes"]))
    );
    let cache = number(&stats["cache_bytes"]);
    if cache > 0 {
        let _ = write!(told, ", {} of cached pages", HumanBytes(cache));
    }
    told
}

fn log(stats: &Value) -> String {
    let age = Duration::from_millis(number(&stats["checkpoint_age_ms"]));
    format!("{} since the last checkpoint, {} ago", HumanBytes(number(&stats["log_bytes"])), short(age))
}

fn plural(count: u64, word: &str) -> String {
    if count == 1 { format!("1 {word}") } else { format!("{} {word}s", HumanCount(count)) }
}

/// A time in its two greatest units.
fn short(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => format!("{} ms", time.as_millis()),
        1..60 => format!("{seconds} s"),
        60..3600 => format!("{} m {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// What isn't there, in a status of another version, is nothing.
fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_two_units() {
        let told = |millis| short(Duration::from_millis(millis));
        assert_eq!([told(7), told(59_999), told(61_000)], ["7 ms", "59 s", "1 m 1 s"]);
        assert_eq!([told(7_320_000), told(90_000_000)], ["2 h 2 m", "1 d 1 h"]);
    }

    #[test]
    fn a_status_that_says_nothing_is_shown_as_nothing() {
        let found = Found { status: Value::Null, told: Some(Duration::ZERO), is_late: true };
        let page = page(&found, Some(&Value::Null), 20, Path::new("shop"));
        assert!(page.contains("it may hang, or be gone") && page.contains("0 pins"), "{page}");
    }
}
