//! What vellum set out to reach, and whether it did.

use super::{FLOOR, OURS, Records};
use crate::record::number;

/// What a figure is held against.
enum Against {
    /// So many times the best peer.
    BestPeer(f64),
    /// So many times a certain peer.
    Peer(&'static str, f64),
    /// So much of the floor.
    Floor(f64),
    AtMost(f64),
    AtLeast(f64),
    /// At most so many times another figure of our own.
    Itself(&'static str, f64),
}

struct Target {
    work: &'static str,
    figure: &'static str,
    against: Against,
}

const fn target(work: &'static str, figure: &'static str, against: Against) -> Target {
    Target { work, figure, against }
}

use Against::{AtLeast, AtMost, BestPeer, Floor, Itself, Peer};

const TARGETS: &[Target] = &[
    target("pin and drop a view", "pin/view_ns", BestPeer(3.0)),
    target("take and drop a snapshot", "pin/snapshot_ns", BestPeer(1.3)),
    target("the same among 10,000 held", "pin@10000/snapshot_ns", Itself("pin/snapshot_ns", 1.3)),
    target("random read, 8 bytes", "read-random-8-1/ns", BestPeer(7.0)),
    target("random read, whole page", "read-random-page-1/ns", BestPeer(2.5)),
    target("random read, whole page", "read-random-page-1/ns", Floor(0.8)),
    target("durable 1-page commits, 1 writer", "durable-1-1/commits_per_s", BestPeer(1.4)),
    target("durable 1-page commits, 1 writer", "durable-1-1/commits_per_s", Floor(0.8)),
    target("durable 1-page commits, 8 writers", "durable-1-8/commits_per_s", BestPeer(1.6)),
    target("durable 1-page commits, 8 writers", "durable-1-8/commits_per_s", Floor(0.8)),
    target("durable 64-page commits", "durable-64-1/pages_per_s", BestPeer(1.05)),
    target("durable 64-page commits", "durable-64-1/pages_per_s", Floor(0.9)),
    target("buffered 1-page commits", "buffered-1-1/commits_per_s", BestPeer(4.0)),
    target("buffered 64-page commits", "buffered-64-1/pages_per_s", BestPeer(3.0)),
    target("KB written for a durable 1-page commit", "durable-1-1/written_per_page", AtMost(8.5)),
    target("KB written for a durable 1-page commit", "durable-1-1/written_per_page", BestPeer(1.0)),
    target("long reader: copies kept", "held/disk_copies", AtMost(1.0)),
    target("long reader: copies that stay", "held/disk_copies_after", AtMost(0.1)),
    target("long reader: the writer keeps", "held/writer_kept", AtLeast(0.9)),
    target("hot export", "export/seconds", Floor(0.9)),
    target("hot export", "export/seconds", BestPeer(1.7)),
    target("hot export: the writer keeps", "export/writer_kept", AtLeast(0.85)),
    target("export of the 1% that changed", "delta/ms", Peer("rocksdb", 2.0)),
    target("durable clone", "clone/ms", Peer("rocksdb", 1.0)),
    target("open after SIGKILL, ms", "reopen/ms", AtMost(20.0)),
];

/// The table's lines: work, ours, what it is held against, target, reached, met.
pub(super) fn rows(records: &Records) -> Vec<[String; 6]> {
    TARGETS.iter().filter_map(|target| row(records, target)).collect()
}

fn row(records: &Records, target: &Target) -> Option<[String; 6]> {
    let figure = records.any(target.figure)?;
    let ours = records.median(target.figure, OURS)?;
    let shown = |value: f64| format!("{} {}", number(value), figure.unit).trim().to_owned();
    let times = |name: &str, theirs: f64, least: f64| {
        let ratio = figure.better.ratio(ours, theirs);
        (
            format!("{name}: {}", shown(theirs)),
            format!("{least}x or more"),
            format!("{ratio:.2}x"),
            ratio >= least,
        )
    };
    let (against, wanted, reached, is_met) = match target.against {
        BestPeer(least) => {
            let (name, theirs) = records.best_peer(target.figure)?;
            times(name, theirs, least)
        }
        Peer(name, least) => times(name, records.median(target.figure, name)?, least),
        Floor(least) => times(FLOOR, records.median(target.figure, FLOOR)?, least),
        AtMost(most) => (String::new(), format!("{most} or less"), shown(ours), ours <= most),
        AtLeast(least) => (String::new(), format!("{least} or more"), shown(ours), ours >= least),
        Itself(other, most) => {
            let theirs = records.median(other, OURS)?;
            let ratio = ours / theirs;
            (
                format!("with none: {}", shown(theirs)),
                format!("{most}x or less"),
                format!("{ratio:.2}x"),
                ratio <= most,
            )
        }
    };
    let met = if is_met { "met" } else { "**missed**" };
    Some([target.work.to_owned(), shown(ours), against, wanted, reached, met.to_owned()])
}
