//! Draws what [`super`] found, as an SVG of a fixed width, and of a height that is bounded however large the store is.

use indicatif::{HumanBytes, HumanCount};
use svg::node::element::{Group, Rectangle, Text, Title};
use svg::{Document, Node};

use super::ages::GROUPS_MAX;
use super::{Bar, Cell, Line, Picture};
use crate::output::utc;

const WIDTH: f64 = 1200.0;
const LEFT: f64 = 40.0;
/// Where grids and bars begin, with room for labels before them.
const PLOT: f64 = 130.0;
const PLOT_WIDTH: f64 = 1030.0;
const COLUMNS: usize = 80;

const INK: &str = "#1f2933";
const FAINT: &str = "#6b7785";
const NOTHING: &str = "#eef0f3";
const LIVE: &str = "#2f8f5b";
const KEPT: &str = "#e8a33d";
const DEAD: &str = "#cfd5dc";
/// From what was written just now to what was written long ago: from hot to cold, in even steps of lightness, so that they
/// are told apart in every kind of sight.
const AGES: [&str; GROUPS_MAX] =
    ["#fdc527", "#f89540", "#e66c5c", "#cc4778", "#aa2395", "#7e03a8", "#4c02a1", "#0d0887"];

pub(super) fn svg(picture: &Picture) -> String {
    let mut canvas = Canvas { parts: Vec::new(), y: 52.0 };
    canvas.header(picture);
    canvas.pages(picture);
    canvas.segments(picture);
    canvas.snapshots(picture);
    let mut document = Document::new()
        .set("width", WIDTH)
        .set("height", canvas.y)
        .set("viewBox", (0.0, 0.0, WIDTH, canvas.y))
        .set("font-family", "system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif")
        .add(Title::new(clean(&format!("{}, version {}", picture.title, picture.version))))
        .add(rect((0.0, 0.0), (WIDTH, canvas.y), "#ffffff"));
    for part in canvas.parts {
        document = document.add(part);
    }
    let mut text = document.to_string();
    text.push('\n');
    text
}

/// Parts, one below the other.
struct Canvas {
    parts: Vec<Group>,
    /// Where the next one begins.
    y: f64,
}

impl Canvas {
    fn header(&mut self, picture: &Picture) {
        let size = HumanBytes(picture.live_pages * picture.page_size);
        let facts = format!(
            "version {} of {}  ·  {} pages of {} ({size})  ·  {} on disk",
            HumanCount(picture.version),
            utc(picture.created_at),
            HumanCount(picture.live_pages),
            HumanBytes(picture.page_size),
            HumanBytes(picture.disk_bytes),
        );
        let title = text((LEFT, self.y), &shortened(&picture.title, 60), 26.0, INK).set("font-weight", 600);
        let facts = text((LEFT, self.y + 26.0), &facts, 14.0, FAINT);
        self.parts.push(Group::new().set("id", "store").add(title).add(facts));
        self.y += 74.0;
    }

    fn heading(&mut self, group: &mut Group, title: &str, told: &str) {
        group.append(text((LEFT, self.y), title, 18.0, INK).set("font-weight", 600));
        group.append(text((LEFT, self.y + 20.0), told, 13.0, FAINT));
        self.y += 38.0;
    }

    fn legend(&mut self, group: &mut Group, items: &[(&str, String)]) {
        let width = (PLOT_WIDTH + PLOT - LEFT) / 4.0;
        for (index, (fill, name)) in items.iter().enumerate() {
            let (x, y) = (LEFT + place(index % 4) * width, self.y + place(index / 4) * 22.0);
            let swatch = rect((x, y), (14.0, 14.0), fill).set("stroke", "#b8c0c8").set("stroke-width", 0.5);
            group.append(swatch);
            group.append(text((x + 21.0, y + 12.0), name, 13.0, INK));
        }
        self.y += place(items.len().div_ceil(4)) * 22.0 + 46.0;
    }

    fn pages(&mut self, picture: &Picture) {
        let mut group = Group::new().set("id", "pages");
        let each = match picture.ids_per_cell {
            1 => "each cell is a page".to_owned(),
            ids => format!("each cell is {} page ids", HumanCount(ids)),
        };
        let told = format!(
            "{each}; its colour says when most of its pages were written, its filling how many of its ids hold a page"
        );
        self.heading(&mut group, "Pages by age", &told);
        let side = PLOT_WIDTH / place(COLUMNS);
        for (row, cells) in picture.cells.chunks(COLUMNS).enumerate() {
            let y = self.y + place(row) * side;
            if row % 4 == 0 {
                let first = HumanCount(row as u64 * COLUMNS as u64 * picture.ids_per_cell).to_string();
                let label = text((PLOT - 8.0, y + side - 3.0), &first, 11.0, FAINT);
                group.append(label.set("text-anchor", "end"));
            }
            for (column, cell) in cells.iter().enumerate() {
                for part in draw_cell(cell, picture, (PLOT + place(column) * side, y), side - 1.0) {
                    group.append(part);
                }
            }
        }
        self.y += place(picture.cells.len().div_ceil(COLUMNS)) * side + 14.0;
        let mut items = Vec::new();
        for index in 0..picture.ages.len() {
            let pages: u64 = picture.cells.iter().map(|cell| cell.pages[index]).sum();
            let name = format!("{}: {} pages", picture.ages.name(index), HumanCount(pages));
            items.push((colour(index, picture.ages.len()), name));
        }
        let empty = picture.page_count.saturating_sub(picture.live_pages);
        items.push((NOTHING, format!("holds nothing: {} ids", HumanCount(empty))));
        self.legend(&mut group, &items);
        self.parts.push(group);
    }

    fn segments(&mut self, picture: &Picture) {
        let mut group = Group::new().set("id", "segments");
        let file = HumanBytes(picture.segment_bytes);
        let each = match picture.segments_per_bar {
            1 => format!("each bar is a segment file of {file}"),
            several => format!("each bar is {several} segment files of {file} each"),
        };
        let count: u64 = picture.bars.iter().map(|bar| bar.segments).sum();
        let told = format!("{each}, {} in all, in the order of their numbers", HumanCount(count));
        self.heading(&mut group, "Segments by liveness", &told);
        let height = 120.0;
        let capacity = picture.bars.iter().map(|bar| bar.capacity).max().unwrap_or(0);
        for (share, bytes) in [(0.0, 0), (0.5, capacity / 2), (1.0, capacity)] {
            let y = self.y + height * (1.0 - share);
            let label = text((PLOT - 8.0, y + 4.0), &HumanBytes(bytes).to_string(), 11.0, FAINT);
            group.append(label.set("text-anchor", "end"));
            group.append(rect((PLOT, y), (PLOT_WIDTH, 0.5), "#dde2e7"));
        }
        let step = (PLOT_WIDTH / place(picture.bars.len().max(1))).min(34.0);
        for (index, bar) in picture.bars.iter().enumerate() {
            let place = (PLOT + place(index) * step, self.y, step * 0.85, height);
            group.append(draw_bar(bar, capacity, place));
        }
        self.y += height + 24.0;
        let sum = |of: fn(&Bar) -> u64| picture.bars.iter().map(of).sum::<u64>();
        let packed = sum(|bar| bar.packed);
        let saved = sum(|bar| bar.capacity.saturating_sub(bar.disk));
        let items = [
            (LIVE, format!("current version: {}", HumanBytes(sum(|bar| bar.live)))),
            (KEPT, format!("only older versions: {}", HumanBytes(sum(|bar| bar.kept)))),
            (DEAD, format!("log, dead, or free: {}", HumanBytes(sum(unneeded)))),
            ("#ffffff", format!("given back, {packed} packed: {}", HumanBytes(saved))),
        ];
        self.legend(&mut group, &items);
        self.parts.push(group);
    }

    fn snapshots(&mut self, picture: &Picture) {
        let mut group = Group::new().set("id", "snapshots");
        let told = match picture.lines.len() {
            0 => "there are none".to_owned(),
            _ => format!(
                "what dropping that one alone would give back; dropping all of them: {}",
                HumanBytes(picture.all_unique)
            ),
        };
        self.heading(&mut group, "Snapshots by unique bytes", &told);
        let most = picture.lines.iter().map(|line| line.unique).max().unwrap_or(0);
        for line in &picture.lines {
            group.append(draw_line(line, most, self.y));
            self.y += 24.0;
        }
        if picture.left_out.count > 0 {
            let (count, bytes) = (HumanCount(picture.left_out.count), HumanBytes(picture.left_out.bytes));
            let told = format!("{count} more, which keep less: {bytes} together, each counted alone");
            group.append(text((LEFT, self.y + 13.0), &told, 13.0, FAINT));
            self.y += 24.0;
        }
        self.y += 24.0;
        self.parts.push(group);
    }
}

/// A cell, filled from below; and behind it, where it isn't full, what is empty.
fn draw_cell(cell: &Cell, picture: &Picture, (x, y): (f64, f64), side: f64) -> Vec<Rectangle> {
    let live: u64 = cell.pages.iter().sum();
    let last = cell.first + cell.ids - 1;
    let ids = if cell.ids == 1 { format!("page {last}") } else { format!("pages {} to {last}", cell.first) };
    let empty = |told: &str| rect((x, y), (side, side), NOTHING).add(Title::new(format!("{ids}: {told}")));
    let most = (0..picture.ages.len()).max_by_key(|group| (cell.pages[*group], std::cmp::Reverse(*group)));
    let Some(group) = most.filter(|_| live > 0) else { return vec![empty("nothing").set("class", "cell")] };
    let told = format!("{live} hold bytes, most {}", picture.ages.name(group));
    let height = (side * share(live, cell.ids)).max(1.0);
    let full = rect((x, y + side - height), (side, height), colour(group, picture.ages.len()))
        .set("class", "cell")
        .add(Title::new(format!("{ids}: {told}")));
    if live < cell.ids { vec![empty(&told), full] } else { vec![full] }
}

/// A bar in a place: left, top, width, height.
fn draw_bar(bar: &Bar, capacity: u64, (x, top, width, height): (f64, f64, f64, f64)) -> Group {
    let numbers = match bar.segments {
        1 => format!("segment {}", bar.first),
        _ => format!("segments {} to {}", bar.first, bar.last),
    };
    let mut told = format!(
        "{numbers}: {} for the current version, {} for older ones, {} on disk",
        HumanBytes(bar.live),
        HumanBytes(bar.kept),
        HumanBytes(bar.disk)
    );
    if bar.is_active {
        told.push_str("; the log goes on here");
    }
    let mut group = Group::new().set("class", "bar").add(Title::new(told));
    let outline = rect((x, top), (width, height * share(bar.capacity, capacity)), "#ffffff")
        .set("y", rounded(top + height * (1.0 - share(bar.capacity, capacity))))
        .set("stroke", "#b8c0c8")
        .set("stroke-width", 0.5);
    group.append(outline);
    let mut from = top + height;
    for (fill, bytes) in [(LIVE, bar.live), (KEPT, bar.kept), (DEAD, unneeded(bar))] {
        let part = height * share(bytes, capacity);
        from -= part;
        group.append(rect((x, from), (width, part), fill));
    }
    if bar.is_active {
        let mark = text((x + width / 2.0, top + height + 13.0), "▲ log", 11.0, INK);
        group.append(mark.set("text-anchor", "middle"));
    }
    group
}

fn draw_line(line: &Line, most: u64, y: f64) -> Group {
    let bytes = HumanBytes(line.unique).to_string();
    let told = format!("{}: version {}, {} of pages", line.name, line.version, HumanBytes(line.bytes));
    let width = (470.0 * share(line.unique, most)).max(1.0);
    let when = utc(line.created_at);
    let when = when.get(..16).unwrap_or(&when).replace('T', " ");
    let held = if line.holds > 0 { ", held" } else { "" };
    let value = format!("{bytes} of {}{held}", HumanBytes(line.bytes));
    Group::new()
        .set("class", "snapshot")
        .add(Title::new(clean(&told)))
        .add(text((LEFT, y + 13.0), &shortened(&line.name, 36), 13.0, INK))
        .add(text((360.0, y + 13.0), &when, 12.0, FAINT))
        .add(rect((490.0, y), (width, 17.0), KEPT))
        .add(text((490.0 + width + 8.0, y + 13.0), &value, 12.0, INK))
}

/// Bytes of files that hold nothing that any version needs.
fn unneeded(bar: &Bar) -> u64 {
    bar.disk.saturating_sub(bar.live + bar.kept)
}

/// The colours of `groups` groups are spread over all that there are.
fn colour(group: usize, groups: usize) -> &'static str {
    match groups {
        0 | 1 => AGES[0],
        groups => AGES[(group * (GROUPS_MAX - 1) / (groups - 1)).min(GROUPS_MAX - 1)],
    }
}

fn rect((x, y): (f64, f64), (width, height): (f64, f64), fill: &str) -> Rectangle {
    Rectangle::new()
        .set("x", rounded(x))
        .set("y", rounded(y))
        .set("width", rounded(width.max(0.0)))
        .set("height", rounded(height.max(0.0)))
        .set("fill", fill)
}

fn text((x, y): (f64, f64), content: &str, size: f64, fill: &str) -> Text {
    let place = Text::new(clean(content)).set("x", rounded(x)).set("y", rounded(y));
    place.set("font-size", size).set("fill", fill)
}

/// Without what no XML may hold: names of directories are any bytes.
fn clean(text: &str) -> String {
    let shown = |char: char| {
        if char.is_control() || matches!(char, '\u{fffe}' | '\u{ffff}') { '\u{fffd}' } else { char }
    };
    text.chars().map(shown).collect()
}

fn shortened(text: &str, most: usize) -> String {
    match text.chars().count() > most {
        true => text.chars().take(most - 1).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

/// To a hundredth, so that the file stays small.
fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[expect(clippy::cast_precision_loss, reason = "a part of a picture")]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 / whole as f64).min(1.0) }
}

#[expect(clippy::cast_precision_loss, reason = "a place in a picture, which has few of them")]
fn place(index: usize) -> f64 {
    index as f64
}
