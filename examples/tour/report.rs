//! What is said on the way, and the table at the end.

use std::fmt;
use std::time::{Duration, Instant};

use vellum::Stats;

use crate::check::Exported;
use crate::crash::Round;
use crate::exports::Export;
use crate::states::Committed;

/// The tour's book-keeping.
pub(crate) struct Report {
    begun: Instant,
    states: u64,
    pages: u64,
    checks: usize,
    kept: Exported,
    rows: Vec<(&'static str, String)>,
}

/// Megabytes, and megabytes a second: bytes a microsecond.
fn rate(bytes: u64, took: Duration) -> String {
    let micros = took.as_micros().max(1);
    format!("{} MB at {} MB/s", bytes / 1_000_000, u128::from(bytes) / micros)
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "killed after {} ms; {} acknowledged, {} recovered, in {:.1} ms from {} KB of log{}",
            self.lifetime,
            self.acknowledged,
            self.recovered,
            Duration::from_nanos(self.recovery.nanos).as_secs_f64() * 1e3,
            self.recovery.bytes_read / 1000,
            if self.recovery.is_torn { ", its end torn" } else { "" },
        )
    }
}

impl Report {
    pub(crate) fn new() -> Report {
        let begun = Instant::now();
        Report { begun, states: 0, pages: 0, checks: 0, kept: Exported::default(), rows: Vec::new() }
    }

    /// A line of progress.
    pub(crate) fn say(&self, what: &str) {
        println!("{:5.1} s  {what}", self.begun.elapsed().as_secs_f64());
    }

    pub(crate) fn state(&mut self, number: usize, kind: &str, committed: &Committed) {
        let written = committed.changes.iter().filter(|(_, is_written)| *is_written).count() as u64;
        let cut = committed.changes.len() as u64 - written;
        self.states += 1;
        self.pages += written;
        let length = committed.snapshot.page_count();
        let cut = if cut == 0 { String::new() } else { format!(", {cut} cut off") };
        self.say(&format!("state {number:2} ({kind}): {written} of {length} pages committed{cut}"));
    }

    pub(crate) fn pages_committed(&self) -> u64 {
        self.pages
    }

    pub(crate) fn held(&mut self, snapshots: usize, reads: u64) {
        self.rows.push(("states committed", format!("{}, {} pages", self.states, self.pages)));
        self.rows
            .push(("snapshots held", format!("{snapshots}, {reads} reads of their pages, none changed")));
    }

    pub(crate) fn exports(&mut self, exports: [(&'static str, &Export); 2]) {
        for (name, export) in exports {
            let rate = rate(export.bytes, export.took);
            self.rows.push((name, format!("{rate}, fsync included; {} commits meanwhile", export.commits)));
        }
    }

    pub(crate) fn checked(&mut self, files: usize, exported: &Exported) {
        self.checks += files;
        self.kept.files += exported.files;
        self.kept.bytes += exported.bytes;
        self.kept.took += exported.took;
    }

    pub(crate) fn space(&mut self, before: u64, after: &Stats) {
        let mega = |bytes: u64| bytes / 1_000_000;
        self.rows.push((
            "space in use",
            format!("{} MB with the snapshots, {} MB without", mega(before), mega(after.allocated_bytes)),
        ));
    }

    pub(crate) fn crashes(&mut self, rounds: &[Round]) {
        let sum = |of: fn(&Round) -> u64| rounds.iter().map(of).sum::<u64>();
        let (acknowledged, recovered) = (sum(|round| round.acknowledged), sum(|round| round.recovered));
        self.rows.push((
            "crashes survived",
            format!("{}: {acknowledged} transactions acknowledged, {recovered} recovered", rounds.len()),
        ));
        let slowest = rounds.iter().map(|round| round.recovery.nanos).max().unwrap_or(0);
        let most = rounds.iter().map(|round| round.recovery.bytes_read).max().unwrap_or(0);
        let millis = Duration::from_nanos(slowest).as_secs_f64() * 1e3;
        self.rows.push(("recovery", format!("{millis:.1} ms and {} KB read at most", most / 1000)));
    }

    /// The table.
    pub(crate) fn print(mut self) {
        let raw = format!("{}, {}", self.kept.files, rate(self.kept.bytes, self.kept.took));
        let at = self.rows.len().min(4);
        self.rows.insert(at, ("raw exports afterwards", raw));
        let checks = format!("{} passed, every row as it was", self.checks);
        self.rows.insert(at + 1, ("SQLite integrity checks", checks));
        self.rows.push(("time", format!("{:.1} s", self.begun.elapsed().as_secs_f64())));
        let width = self.rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        println!();
        for (name, value) in &self.rows {
            println!("  {name:width$}   {value}");
        }
        println!("\nEverything is as it should be.");
    }
}
