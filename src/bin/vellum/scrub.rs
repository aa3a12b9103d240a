//! `scrub`: every page and node that any version sees is read and checked, and mended where somebody has the right bytes.

use std::fs;
use std::path::Path;

use vellum::{DamagedPage, Error, ImportOptions, RepairOutcome, RepairSource, Scrub, Store};

use crate::args::{Endpoint, Reading, ScrubArgs, Show};
use crate::error::Failure;
use crate::export::source;
use crate::output::{Field, Report};
use crate::place::{check_store, open_to_read};
use crate::progress::Bar;

/// Most damaged pages and nodes that are listed; all are counted.
const LISTED_MAX: usize = 1024;

/// What was found so far, and what became of it.
#[derive(Default)]
struct Found {
    pages: u64,
    nodes: u64,
    bytes: u64,
    damaged_pages: u64,
    damaged_nodes: u64,
    repaired: u64,
    left: u64,
    page_lines: Vec<Report>,
    node_lines: Vec<Report>,
    source_lines: Vec<Report>,
}

pub(crate) fn scrub(args: &ScrubArgs, show: Show) -> Result<(), Failure> {
    // Told now, and not when it is needed: by then nobody may have another source any more.
    args.repair_from.iter().try_for_each(check_there)?;
    let reading = Reading { key_file: args.key_file.clone(), rate: None }.options()?;
    let store = open_to_read(&args.dir, show)?;
    let mut scrub = Scrub::new();
    if let Some(rate) = args.rate {
        scrub = scrub.rate(rate);
    }
    let mut found = Found::default();
    // A scrub ends early where much is damaged, so that this can be mended before the rest is looked at.
    loop {
        let report = store.scrub(scrub, &mut Bar::new(show))?;
        found.pages += report.pages;
        found.nodes += report.nodes;
        found.bytes += report.bytes;
        for node in &report.damaged_nodes {
            found.damaged_nodes += 1;
            if found.node_lines.len() < LISTED_MAX {
                let line = Report::new()
                    .count("first_page", node.first_page.get())
                    .count("version", node.version.get())
                    .with("is_in_memory", Field::Flag(node.is_in_memory))
                    .text("error", &node.error);
                found.node_lines.push(line);
            }
        }
        // A repair walks the page table, and can't where a node is damaged.
        let can_repair = !args.repair_from.is_empty() && found.damaged_nodes == 0;
        let outcomes = match can_repair && !report.damaged.is_empty() {
            true => repair(&store, &report.damaged, (&args.repair_from, &reading), &mut found, show)?,
            false => Vec::new(),
        };
        for (index, page) in report.damaged.iter().enumerate() {
            found.add(page, outcomes.get(index).copied());
        }
        match report.cursor {
            Some(cursor) => scrub = scrub.from(cursor),
            None => break,
        }
    }
    store.close()?;
    let (left, nodes) = (found.left, found.damaged_nodes);
    found.report().print(show)?;
    if left + nodes > 0 { Err(Failure::DamageLeft { pages: left, nodes }) } else { Ok(()) }
}

/// Refuses a source that isn't there.
fn check_there(from: &Endpoint) -> Result<(), Failure> {
    match from {
        Endpoint::Standard => Ok(()),
        Endpoint::File(dir) if dir.is_dir() => check_store(dir),
        Endpoint::File(file) => {
            fs::metadata(file).map(drop).map_err(|error| Failure::file("open", file, error))
        }
    }
}

/// Mends what the sources have the right bytes of. A source that fails is told of, and the others are asked.
fn repair(
    store: &Store,
    damaged: &[DamagedPage],
    (sources, reading): (&[Endpoint], &ImportOptions),
    found: &mut Found,
    show: Show,
) -> Result<Vec<RepairOutcome>, Failure> {
    let (mut stores, mut streams) = (Vec::new(), Vec::new());
    for from in sources {
        let opened = match from {
            Endpoint::File(dir) if dir.is_dir() => {
                open_to_read(dir, show).map(|store| stores.push((from.name(), store)))
            }
            _ => source(from).map(|stream| streams.push((from.name(), stream))),
        };
        if let Err(error) = opened {
            found.source_lines.push(failed(from.name(), &error));
        }
    }
    let mut paths: Vec<&Path> = Vec::new();
    let mut sources: Vec<RepairSource<'_>> = Vec::new();
    for (path, store) in &stores {
        paths.push(path);
        sources.push(RepairSource::Store(store));
    }
    for (path, stream) in &mut streams {
        paths.push(path);
        sources.push(RepairSource::StreamWith(&mut **stream, reading.clone()));
    }
    let done = match store.repair(damaged, &mut sources) {
        Ok(done) => done,
        // A node is damaged, which the scrub comes to tell of: its report matters more than this.
        Err(Error::Corrupt { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    for (index, error) in &done.source_failures {
        if let Some(path) = paths.get(*index) {
            found.source_lines.push(failed(path, error));
        }
    }
    Ok(done.outcomes)
}

fn failed(source: &Path, error: &impl ToString) -> Report {
    Report::new().text("source", &source.display()).text("error", error)
}

impl Found {
    fn add(&mut self, page: &DamagedPage, outcome: Option<RepairOutcome>) {
        self.damaged_pages += 1;
        let (is_well, word) = match outcome {
            Some(RepairOutcome::Repaired) => (true, "repaired"),
            Some(RepairOutcome::Sound) => (true, "sound"),
            Some(RepairOutcome::Gone) => (true, "gone"),
            Some(RepairOutcome::NoSource) => (false, "no_source"),
            Some(RepairOutcome::Blocked) => (false, "blocked"),
            None => (false, "not_tried"),
        };
        self.repaired += u64::from(outcome == Some(RepairOutcome::Repaired));
        self.left += u64::from(!is_well);
        if self.page_lines.len() < LISTED_MAX {
            let line = Report::new()
                .count("page", page.page.get())
                .count("version", page.version.get())
                .text("file", &page.file.display())
                .count("offset", page.offset)
                .text("outcome", word)
                .text("error", &page.error);
            self.page_lines.push(line);
        }
    }

    fn report(self) -> Report {
        Report::new()
            .count("pages", self.pages)
            .count("nodes", self.nodes)
            .bytes("bytes", self.bytes)
            .count("damaged_pages", self.damaged_pages)
            .count("damaged_nodes", self.damaged_nodes)
            .count("repaired", self.repaired)
            .count("left", self.left + self.damaged_nodes)
            .with("damage", Field::List(self.page_lines))
            .with("node_damage", Field::List(self.node_lines))
            .with("source_failures", Field::List(self.source_lines))
    }
}
