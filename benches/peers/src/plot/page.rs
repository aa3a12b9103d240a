//! The page's text: Markdown with a table of targets, pictures, and every figure with its spread.

use std::fmt::Write;

use super::svg::{Bar, Chart, picture};
use super::{FLOOR, OURS, Records, targets};
use crate::Result;
use crate::args::Plot;
use crate::contender::SLOW;
use crate::record::{Figure, Peer, Value, number};

/// Pictures: file name, heading, and the figures that it shows.
const PICTURES: &[(&str, &str, &[&str])] = &[
    ("pins", "Pins", &["pin/view_ns", "pin/snapshot_ns", "pin@10000/view_ns", "pin@10000/snapshot_ns"]),
    (
        "reads",
        "Reads at a snapshot",
        &[
            "read-random-8-1/ns",
            "read-random-page-1/ns",
            "read-zipfian-8-1/ns",
            "read-zipfian-page-1/ns",
            "read-random-page-2/reads_per_s",
            "read-random-page-8/reads_per_s",
        ],
    ),
    (
        "durable",
        "Durable commits",
        &[
            "durable-1-1/commits_per_s",
            "durable-1-8/commits_per_s",
            "durable-64-1/pages_per_s",
            "durable-1024-1/pages_per_s",
            "durable-1-1/written_per_page",
            "durable-1-1/p99_us",
        ],
    ),
    (
        "buffered",
        "Buffered commits",
        &[
            "buffered-1-1/commits_per_s",
            "buffered-1-8/commits_per_s",
            "buffered-64-1/pages_per_s",
            "buffered-1024-1/pages_per_s",
        ],
    ),
    ("copies", "Copies, clones, openings", &["export/seconds", "delta/ms", "clone/ms", "reopen/ms"]),
    (
        "mixes",
        "Readers beside writers, and YCSB's mixes",
        &[
            "beside/pages_per_s",
            "beside/reads_per_s",
            "mix-a/ops_per_s",
            "mix-b/ops_per_s",
            "mix-d/ops_per_s",
            "mix-e/ops_per_s",
        ],
    ),
];

pub(super) fn write(records: &Records, args: &Plot) -> Result<String> {
    let mut page = String::new();
    head(&mut page, records)?;
    writeln!(page, "## Targets\n")?;
    table(&mut page, &["work", "vellum", "against", "target", "reached", ""], &targets::rows(records))?;
    let base = args.page.parent().unwrap_or_else(|| "".as_ref());
    for (name, heading, ids) in PICTURES {
        let charts: Vec<Chart> = ids.iter().filter_map(|id| chart(records, id)).collect();
        if charts.is_empty() {
            continue;
        }
        let path = args.pictures.join(format!("{name}.svg"));
        std::fs::write(&path, picture(&charts))?;
        let shown = path.strip_prefix(base).unwrap_or(&path).display();
        writeln!(page, "## {heading}\n\n![{heading}]({shown})\n")?;
    }
    writeln!(page, "## Every figure\n\nMedians; the range of the samples in brackets.\n")?;
    let mut header = vec!["figure"];
    header.extend(records.peers.iter().map(|peer| peer.name.as_str()));
    let rows: Vec<Vec<String>> = records.ids.iter().filter_map(|id| row(records, id)).collect();
    table(&mut page, &header, &rows)?;
    writeln!(page, "## What they were set to\n")?;
    let settings: Vec<[String; 2]> =
        records.peers.iter().map(|peer| [peer.name.clone(), peer.settings.clone()]).collect();
    table(&mut page, &["peer", "settings"], &settings)?;
    Ok(page)
}

fn head(page: &mut String, records: &Records) -> Result {
    let run = &records.run;
    let mebibytes = (run.pages * run.page_bytes as u64) >> 20;
    let written = if run.is_written_of_device {
        "what the device was told to write (`/sys/dev/block`), the file system's journal included; all other peers stand \
         still, and so must whatever else writes on that device"
    } else {
        "what the process made dirty in files (`/proc/PID/io`), since no device that counts was found: in whole pieces of the \
         page cache, which may be larger than what was written"
    };
    let warm = if run.memory_mib.is_some() {
        "Nobody's pages are brought into memory before its turn: what a limit on memory costs is measured too."
    } else {
        "Before its turn its pages are brought into memory, untimed, since the stores together may be larger than the machine's, and \
         some systems take out what nobody looks at for a minute: the files of a store that reads by way of the page cache are read \
         through, and each page is read by every store's own way if it has written since other works began."
    };
    let heats = match run.together {
        Some(count) => format!(
            "They run in heats of {count} peers with the floor and vellum, whose stores are there at once; a peer is held against what \
             vellum did in its heat, and of vellum and the floor the samples of all heats are shown. "
        ),
        None => String::new(),
    };
    let memory = run.memory_mib.map(|mib| format!(", {mib} MiB of memory for each")).unwrap_or_default();
    writeln!(
        page,
        "# vellum beside its peers\n\n\
         This page is made by a command; what it says of speed was measured in one run on one machine: {} cores, {}, {}, \
         {}. {} pages of {} bytes ({mebibytes} MiB) in each store{memory}; {} rounds of about {} ms.\n\n\
         ```sh\n\
         just peers                                 # measures, and makes this page; with --quick in a few minutes\n\
         just peers_with=rocksdb,libmdbx peers      # these two too; RocksDB compiles for long\n\
         ```\n\n\
         Each peer has a process of its own, which stands still while it isn't its turn: what it does in the background \
         it does in its own time. {heats}All take turns, round by round, in an order that changes; in its turn a peer does related works one \
         after the other. {warm} What others left to the disk is written by then, and the disk is asked for small synced writes until they take no longer than at rest; and before \
         a work that writes some memory is taken and let go, because a virtual machine may have to fetch what nobody used from its host, at 200 to 300 MB/s on the one this was \
         measured on, which a store that grows would wait for. Who needs more than {} s for a sample of what copies or overwrites everything takes no further \
         one of it: n says how many were taken where others took more. Pages can't be compressed; every sum that is read and, before, after and when all were killed, every byte of every page is \
         compared with an oracle; a wrong one ends the run. \
         Durable means on the disk when the call returns. Buffered means that a crash may lose it: \
         LMDB's NOSYNC may then lose the whole store, all others only the end. What is written to disk is {written}. Before \
         and after, each store gets the time to do what it does in the background, until it stands still: what is counted is what \
         these commits caused, all that followed them included. Only what a store puts off until there is more of it isn't in the \
         figure: RocksDB, fjall and canopydb write what they gather in memory at least once more, later; vellum packs segments when \
         enough of them is dead. The floor is no store: a bare mapping, a bare write and `fdatasync` of the pages alone, `cp`.\n",
        run.cores,
        run.cpu,
        run.kernel,
        run.file_system,
        run.pages,
        run.page_bytes,
        run.rounds,
        run.millis,
        SLOW.as_secs(),
    )?;
    Ok(())
}

fn table<R: AsRef<[C]>, C: AsRef<str>>(page: &mut String, header: &[&str], rows: &[R]) -> Result {
    writeln!(page, "| {} |\n|{}", header.join(" | "), "---|".repeat(header.len()))?;
    for row in rows {
        let cells: Vec<&str> = row.as_ref().iter().map(AsRef::as_ref).collect();
        writeln!(page, "| {} |", cells.join(" | "))?;
    }
    writeln!(page)?;
    Ok(())
}

fn row(records: &Records, id: &str) -> Option<Vec<String>> {
    let any = records.any(id)?;
    let unit = if any.unit.is_empty() { String::new() } else { format!(", {}", any.unit) };
    let mut row = vec![format!("{}{unit}", any.title)];
    let others = records.peers.iter().filter(|peer| ![OURS, FLOOR].contains(&peer.name.as_str()));
    let samples = |peer: &Peer| Some(records.figure(id, &peer.name)?.value?.samples.len());
    let most = others.filter_map(samples).max().unwrap_or(0);
    for peer in &records.peers {
        row.push(match records.figure(id, &peer.name) {
            Some(Figure { value: Some(value), .. }) => cell(&value, peer.name == OURS, most),
            Some(Figure { note: Some(note), .. }) if note.starts_with("failed") => "failed".to_owned(),
            _ => "-".to_owned(),
        });
    }
    Some(row)
}

/// The median, its spread, and of how many samples if others have more.
fn cell(value: &Value, is_ours: bool, most: usize) -> String {
    let median = if is_ours { format!("**{}**", number(value.median)) } else { number(value.median) };
    let count = value.samples.len();
    let spread = (count > 1).then(|| format!("{}-{}", number(value.min), number(value.max)));
    let fewer = (count < most).then(|| format!("n={count}"));
    let said: Vec<String> = [spread, fewer].into_iter().flatten().collect();
    if said.is_empty() { median } else { format!("{median} ({})", said.join(", ")) }
}

fn chart(records: &Records, id: &str) -> Option<Chart> {
    let any = records.any(id)?;
    let bars: Vec<Bar> = records
        .peers
        .iter()
        .filter_map(|peer| {
            let value = records.figure(id, &peer.name)?.value?;
            let color = match peer.name.as_str() {
                OURS => "#c0392b",
                FLOOR => "#b0b0b0",
                _ => "#5b7fa6",
            };
            Some(Bar { name: peer.name.clone(), median: value.median, min: value.min, max: value.max, color })
        })
        .collect();
    if bars.is_empty() {
        return None;
    }
    Some(Chart { title: any.title.clone(), unit: any.unit.clone(), better: any.better, bars })
}
