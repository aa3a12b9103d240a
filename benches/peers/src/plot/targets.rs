//! What vellum set out to reach, and whether it did.

use super::{FLOOR, OURS, Records};
use crate::record::number;

/// What a figure is held against.
enum Against {
    /// So many times the best peer.
    BestPeer(f64),
    /// So many times a certain peer.
    Peer(&'static str, f64),
    /// So many times as fast as something else that a certain peer does.
    PeersOther(&'static str, &'static str, f64),
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

use Against::{AtLeast, AtMost, BestPeer, Floor, Itself, Peer, PeersOther};

const TARGETS: &[Target] = &[
    target("pin and drop a view", "pin/view_ns", BestPeer(3.0)),
    target("take and drop a snapshot", "pin/snapshot_ns", BestPeer(1.3)),
    target("the same among 10,000 held", "pin@10000/snapshot_ns", Itself("pin/snapshot_ns", 1.3)),
    target("random read, 8 bytes", "read-random-8-1/ns", BestPeer(7.0)),
    target("random read, whole page", "read-random-page-1/ns", BestPeer(2.5)),
    target("random read, whole page", "read-random-page-1/ns", Floor(0.8)),
    target("random read, 8 bytes, 64 ids at once", "read-together-8/ns", BestPeer(7.0)),
    target("random read, whole page, 64 ids at once", "read-together-page/ns", BestPeer(2.5)),
    target("random read, whole page, 64 ids at once", "read-together-page/ns", Floor(0.8)),
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
    target("durable clone, against its checkpoint", "clone/ms", Peer("rocksdb", 1.0)),
    target("fork, against its checkpoint", "fork/us", PeersOther("rocksdb", "clone/ms", 50.0)),
    target("open after SIGKILL, ms", "reopen/ms", AtMost(20.0)),
];

/// The table's lines: work, ours, what it is held against, target, reached, met.
pub(super) fn rows(records: &Records) -> Vec<[String; 6]> {
    TARGETS.iter().filter_map(|target| row(records, target)).collect()
}

fn row(records: &Records, target: &Target) -> Option<[String; 6]> {
    let id = target.figure;
    let figure = records.any(id)?;
    let ours = records.median(id, OURS)?;
    let shown = |value: f64| format!("{} {}", number(value), figure.unit).trim().to_owned();
    let times = |name: &str, (ours, theirs): (f64, f64), least: f64| {
        let ratio = figure.better.ratio(ours, theirs);
        let against = format!("{name}: {}", shown(theirs));
        (ours, against, format!("{least}x or more"), format!("{ratio:.2}x"), ratio >= least)
    };
    // What nobody measured is neither met nor missed.
    let open = |name: &str, id: &str, least: f64| {
        let note = records.figure(id, name).and_then(|figure| figure.note);
        let against = format!("{name}: {}", note.as_deref().unwrap_or("not measured"));
        let wanted = format!("{least}x or more");
        Some([target.work.to_owned(), shown(ours), against, wanted, String::new(), "open".to_owned()])
    };
    let (ours, against, wanted, reached, is_met) = match target.against {
        BestPeer(least) => {
            let (name, pair) = records.best_peer(id)?;
            times(name, pair, least)
        }
        Peer(name, least) => match records.pair(id, name, id) {
            Some(pair) => times(name, pair, least),
            None => return open(name, id, least),
        },
        PeersOther(name, other, least) => {
            let Some((ours, theirs)) = records.pair(id, name, other) else { return open(name, other, least) };
            let unit = &records.any(other)?.unit;
            let ratio = theirs * seconds(unit)? / (ours * seconds(&figure.unit)?);
            let against = format!("{name}: {} {unit}", number(theirs));
            (ours, against, format!("{least}x or more"), format!("{ratio:.1}x"), ratio >= least)
        }
        Floor(least) => times(FLOOR, records.pair(id, FLOOR, id)?, least),
        AtMost(most) => (ours, String::new(), format!("{most} or less"), shown(ours), ours <= most),
        AtLeast(least) => (ours, String::new(), format!("{least} or more"), shown(ours), ours >= least),
        Itself(other, most) => {
            let theirs = records.median(other, OURS)?;
            let (against, ratio) = (format!("with none: {}", shown(theirs)), ours / theirs);
            (ours, against, format!("{most}x or less"), format!("{ratio:.2}x"), ratio <= most)
        }
    };
    let met = if is_met { "met" } else { "**missed**" };
    Some([target.work.to_owned(), shown(ours), against, wanted, reached, met.to_owned()])
}

/// One of a unit of time, in seconds.
fn seconds(unit: &str) -> Option<f64> {
    match unit {
        "s" => Some(1.0),
        "ms" => Some(1e-3),
        "us" => Some(1e-6),
        "ns" => Some(1e-9),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a target is met, missed or open as the figures say. Method: figures made by hand.

    use std::collections::BTreeMap;

    use super::*;
    use crate::record::{Better, Figure, Run, Value};

    /// Id, peer, unit, value.
    type Found<'a> = (&'a str, &'a str, &'a str, Option<f64>);

    fn records(figures: &[Found<'_>]) -> Records {
        heats(&[figures])
    }

    fn heats(heats: &[&[Found<'_>]]) -> Records {
        let run = Run {
            pages: 1,
            page_bytes: 4096,
            rounds: 1,
            millis: 1,
            memory_mib: None,
            together: None,
            cores: 1,
            cpu: String::new(),
            kernel: String::new(),
            file_system: String::new(),
            is_written_of_device: true,
        };
        let mut records = Records { run, peers: Vec::new(), ids: Vec::new(), figures: BTreeMap::new() };
        let figures =
            (0..).zip(heats).flat_map(|(heat, figures)| figures.iter().map(move |one| (heat, *one)));
        for (heat, (id, peer, unit, median)) in figures {
            if records.peers.iter().all(|known| known.name != peer) {
                let (name, settings) = (peer.to_owned(), String::new());
                records.peers.push(crate::record::Peer { name, settings, is_floor: peer == FLOOR });
            }
            let figure = Figure {
                id: id.to_owned(),
                group: String::new(),
                title: String::new(),
                unit: unit.to_owned(),
                better: Better::Less,
                peer: peer.to_owned(),
                heat,
                value: median.and_then(|median| Value::of(vec![median])),
                note: median.is_none().then(|| "failed: some".to_owned()),
            };
            records.figures.insert((id.to_owned(), peer.to_owned(), heat), figure);
        }
        records
    }

    /// What stands in the row of `work`: against, reached, met.
    fn row_of(records: &Records, work: &str) -> [String; 3] {
        let row = rows(records).into_iter().find(|row| row[0] == work);
        let [_, _, against, _, reached, met] = row.unwrap_or_else(|| panic!("no row of {work}"));
        [against, reached, met]
    }

    #[test]
    fn a_target_whose_peer_is_absent_is_open() {
        let ours = [("delta/ms", OURS, "ms", Some(10.0)), ("fork/us", OURS, "us", Some(4.0))];
        let (delta, fork) = ("export of the 1% that changed", "fork, against its checkpoint");
        let absent = records(&ours);
        assert_eq!(row_of(&absent, delta), ["rocksdb: not measured", "", "open"]);
        assert_eq!(row_of(&absent, fork), ["rocksdb: not measured", "", "open"]);
        let failed = records(&[&ours[..], &[("delta/ms", "rocksdb", "ms", None)]].concat());
        assert_eq!(row_of(&failed, delta), ["rocksdb: failed: some", "", "open"]);
        // Of what wasn't measured for vellum itself there is no row.
        assert!(rows(&failed).iter().all(|row| !row[0].contains("clone")));
    }

    #[test]
    fn a_peer_is_held_against_what_vellum_did_beside_it() {
        let heat = |ours, peer, theirs| {
            [
                ("reopen/ms", OURS, "ms", Some(ours)),
                ("read-random-8-1/ns", OURS, "ns", Some(ours)),
                ("read-random-8-1/ns", peer, "ns", Some(theirs)),
            ]
        };
        // The slowest peer of the first heat is the one against which least was won.
        let both = heats(&[&heat(10.0, "one", 90.0), &heat(20.0, "two", 100.0), &heat(90.0, FLOOR, 1.0)]);
        assert_eq!(row_of(&both, "random read, 8 bytes"), ["two: 100 ns", "5.00x", "**missed**"]);
        let row = rows(&both).into_iter().find(|row| row[0] == "open after SIGKILL, ms").unwrap();
        assert_eq!(row[1], "20.0 ms", "the median of all heats");
    }

    #[test]
    fn a_fork_is_held_against_a_checkpoint_whatever_the_units() {
        let work = "fork, against its checkpoint";
        let with =
            |us| records(&[("fork/us", OURS, "us", Some(us)), ("clone/ms", "rocksdb", "ms", Some(1.0))]);
        assert_eq!(row_of(&with(20.0), work), ["rocksdb: 1.00 ms", "50.0x", "met"]);
        assert_eq!(row_of(&with(40.0), work), ["rocksdb: 1.00 ms", "25.0x", "**missed**"]);
        let delta =
            |ms| records(&[("delta/ms", OURS, "ms", Some(ms)), ("delta/ms", "rocksdb", "ms", Some(80.0))]);
        assert_eq!(
            row_of(&delta(50.0), "export of the 1% that changed"),
            ["rocksdb: 80.0 ms", "1.60x", "**missed**"]
        );
        assert_eq!(
            row_of(&delta(40.0), "export of the 1% that changed"),
            ["rocksdb: 80.0 ms", "2.00x", "met"]
        );
    }
}
