//! `map`: a picture of a store: its pages by age, its segments by what is alive in them, its snapshots by what each keeps.
//!
//! This file finds out what there is to draw, in as many parts as the picture has room for; `draw` draws it.

mod ages;
mod draw;

use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::SystemTime;

use vellum::{SegmentSpace, Snapshot, Store};

use self::ages::{Ages, GROUPS_MAX};
use crate::args::{Endpoint, Map, Show};
use crate::error::Failure;
use crate::output::{Report, put};
use crate::part::{Part, check_outside, check_target};
use crate::place::open_to_read;
use crate::progress::Waiting;

/// Cells of the pages' part, at most.
const CELLS_MAX: u64 = 80 * 32;
/// Bars of the segments' part, at most.
const BARS_MAX: usize = 160;
/// Lines of the snapshots' part, at most.
const LINES_MAX: usize = 40;

/// Pages with neighbouring ids.
struct Cell {
    first: u64,
    /// Ids below the page count.
    ids: u64,
    /// Pages that hold bytes, by the group of their age.
    pages: [u64; GROUPS_MAX],
}

/// Segments with neighbouring numbers.
#[derive(Default)]
struct Bar {
    first: u32,
    last: u32,
    segments: u64,
    /// What as many segments could hold.
    capacity: u64,
    disk: u64,
    live: u64,
    /// What only older versions see.
    kept: u64,
    packed: u64,
    is_active: bool,
}

/// A named snapshot.
struct Line {
    name: String,
    version: u64,
    created_at: SystemTime,
    holds: usize,
    bytes: u64,
    unique: u64,
}

/// Snapshots for which there is no room, and the sum of what each keeps alone.
#[derive(Default)]
struct LeftOut {
    count: u64,
    bytes: u64,
}

/// What there is to draw.
struct Picture {
    title: String,
    version: u64,
    created_at: SystemTime,
    page_count: u64,
    live_pages: u64,
    page_size: u64,
    disk_bytes: u64,
    ages: Ages,
    cells: Vec<Cell>,
    ids_per_cell: u64,
    bars: Vec<Bar>,
    segments_per_bar: usize,
    segment_bytes: u64,
    /// The oldest version first.
    lines: Vec<Line>,
    left_out: LeftOut,
    /// What dropping all snapshots would give back.
    all_unique: u64,
}

pub(crate) fn map(args: &Map, show: Show) -> Result<(), Failure> {
    let file = args.file.as_ref().and_then(Endpoint::file);
    match file {
        Some(file) => {
            check_target(file, args.force)?;
            check_outside(&args.dir, file)?;
        }
        None if show.json => {
            let reason = "with --json give a FILE: standard output can't carry the picture and the JSON";
            return Err(Failure::Usage(reason.to_owned()));
        }
        None if args.file.is_none() && io::stdout().is_terminal() => {
            let reason = "standard output is a terminal: give a FILE, such as store.svg, or `-`";
            return Err(Failure::Usage(reason.to_owned()));
        }
        None => {}
    }
    let store = open_to_read(&args.dir, show)?;
    let waiting = Waiting::new("draw", show);
    let picture = look(&store, &args.dir)?;
    drop(store);
    let text = draw::svg(&picture);
    drop(waiting);
    let Some(file) = file else { return put(text.as_bytes()) };
    let (part, mut to) = Part::create(file, args.force)?;
    to.write_all(text.as_bytes()).map_err(|error| Failure::file("write to", part.path(), error))?;
    part.finish(to)?;
    Report::new()
        .count("version", picture.version)
        .count("page_count", picture.page_count)
        .count("pages_per_cell", picture.ids_per_cell)
        .count("segments_per_bar", picture.segments_per_bar as u64)
        .count("snapshots", picture.lines.len() as u64 + picture.left_out.count)
        .bytes("bytes", text.len() as u64)
        .text("file", &file.display())
        .print(show)
}

fn look(store: &Store, dir: &Path) -> Result<Picture, Failure> {
    let (snapshot, stats) = (store.snapshot(), store.stats());
    let name = dir.canonicalize().ok().and_then(|dir| Some(dir.file_name()?.to_string_lossy().into_owned()));
    let (ages, cells, ids_per_cell) = pages(&snapshot)?;
    let segments = store.segments();
    let segments_per_bar = segments.len().div_ceil(BARS_MAX).max(1);
    let bars = segments.chunks(segments_per_bar).map(|some| bar(some, stats.segment_bytes)).collect();
    let (lines, left_out, all_unique) = lines(store)?;
    Ok(Picture {
        title: name.unwrap_or_else(|| dir.display().to_string()),
        version: snapshot.version().get(),
        created_at: snapshot.created_at(),
        page_count: snapshot.page_count(),
        live_pages: snapshot.live_pages(),
        page_size: store.page_size() as u64,
        disk_bytes: stats.disk_bytes,
        ages,
        cells,
        ids_per_cell,
        bars,
        segments_per_bar,
        segment_bytes: stats.segment_bytes,
        lines,
        left_out,
        all_unique,
    })
}

/// The pages in cells, by age.
fn pages(snapshot: &Snapshot) -> Result<(Ages, Vec<Cell>, u64), Failure> {
    let (now, page_count) = (snapshot.version().get(), snapshot.page_count());
    let age_of = |birth: vellum::Version| now.saturating_sub(birth.get());
    let mut oldest = 0;
    snapshot.births(&mut |_, birth| {
        oldest = oldest.max(age_of(birth));
        ControlFlow::Continue(())
    })?;
    let ages = Ages::up_to(oldest);
    let ids_per_cell = page_count.div_ceil(CELLS_MAX).next_power_of_two();
    let firsts = (0..page_count.div_ceil(ids_per_cell)).map(|cell| cell * ids_per_cell);
    let cell = |first| Cell { first, ids: ids_per_cell.min(page_count - first), pages: [0; GROUPS_MAX] };
    let mut cells: Vec<Cell> = firsts.map(cell).collect();
    snapshot.births(&mut |id, birth| {
        let cell = usize::try_from(id.get() / ids_per_cell).ok().and_then(|cell| cells.get_mut(cell));
        if let Some(cell) = cell {
            cell.pages[ages.group_of(age_of(birth))] += 1;
        }
        ControlFlow::Continue(())
    })?;
    Ok((ages, cells, ids_per_cell))
}

fn bar(segments: &[SegmentSpace], segment_bytes: u64) -> Bar {
    let mut bar = Bar { first: segments.first().map_or(0, |segment| segment.number), ..Bar::default() };
    for segment in segments {
        bar.last = segment.number;
        bar.segments += 1;
        bar.capacity += segment_bytes;
        bar.disk += segment.disk_bytes;
        bar.live += segment.live_bytes;
        bar.kept += segment.allocated_bytes.saturating_sub(segment.live_bytes);
        bar.packed += u64::from(segment.is_packed);
        bar.is_active |= segment.is_active;
    }
    bar
}

/// The snapshots for which there is room, those left out, and what all together keep.
fn lines(store: &Store) -> Result<(Vec<Line>, LeftOut, u64), Failure> {
    let known = store.snapshots();
    let names: Vec<&str> = known.iter().map(|snapshot| snapshot.name.as_str()).collect();
    let all_unique = store.would_free(&names)?;
    let mut spaces = store.snapshot_space()?;
    let mut left_out = LeftOut::default();
    if spaces.len() > LINES_MAX {
        // One line is for those that are left out.
        spaces.sort_by_key(|space| std::cmp::Reverse(space.unique_bytes));
        for space in spaces.drain(LINES_MAX - 1..) {
            left_out.count += 1;
            left_out.bytes += space.unique_bytes;
        }
        spaces.sort_by_key(|space| space.version);
    }
    let line = |space: vellum::SnapshotSpace| {
        let found = known.iter().find(|snapshot| snapshot.name == space.name)?;
        Some(Line {
            version: space.version.get(),
            created_at: found.created_at,
            holds: found.holds.len(),
            bytes: space.page_bytes,
            unique: space.unique_bytes,
            name: space.name,
        })
    };
    Ok((spaces.into_iter().filter_map(line).collect(), left_out, all_unique))
}
