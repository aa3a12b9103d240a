//! Goal: what a dropped name kept is given back only when no opening can still find the name; and the test that says so
//! would see it if it were given back before.
//!
//! Method: names are created and dropped, everything else overwritten in between so that space is used again, on the
//! simulated disk, with a power cut at each I/O call; what is found listed must be whole. Then the same with a bug
//! planted, in a process of its own, which must fail.

use std::sync::Arc;

use crate::format::control::Catalog;
use crate::planted::{check_found, plant_given};
use crate::storage::sim::{Fault, SimDisk, Survival};
use crate::sync::Planted;
use crate::{Budget, Options, PageId, Store};

const PAGE: usize = 512;
const PAGES: u64 = 40;

fn open(disk: &SimDisk) -> crate::Result<Store> {
    let options =
        Options::new().page_size(512).segment_size(64 << 10).checkpoint_bytes(8 << 20).background(false);
    Store::open_on(Arc::new(disk.storage()), options)
}

fn fill(store: &Store, tag: u8) -> crate::Result<()> {
    let mut txn = store.begin()?;
    txn.truncate(PAGES)?;
    for id in 0..PAGES {
        txn.write(PageId(id), &[tag; PAGE])?;
    }
    txn.commit().map(drop)
}

fn work(disk: &SimDisk) -> crate::Result<()> {
    let mut tag = 0;
    for round in 0..3 {
        let store = open(disk)?;
        for step in 0..3 {
            tag += 1;
            let name = format!("{tag}");
            fill(&store, tag)?;
            store.create_snapshot(&name)?;
            // Some catalogs further the log begins behind the pages, so that their segments can be used again.
            for _ in 0..6 {
                tag += 1;
                fill(&store, tag)?;
                store.write_catalog()?;
            }
            store.drop_snapshot(&name)?;
            for _ in 0..round {
                store.write_catalog()?;
            }
            for _ in 0..8 {
                tag += 1;
                store.core().settle();
                fill(&store, tag)?;
            }
            if step == 2 {
                store.maintain(Budget::unlimited())?;
            }
        }
    }
    Ok(())
}

impl Store {
    /// Writes a checkpoint.
    fn write_catalog(&self) -> crate::Result<()> {
        self.core().write_catalog_anew()
    }
}

fn check(disk: &SimDisk) {
    let store = open(disk).unwrap();
    for named in store.snapshots() {
        let tag: u8 = named.name.parse().unwrap();
        let snapshot = store.open_snapshot(&named.name).unwrap();
        let view = snapshot.view();
        for id in 0..PAGES {
            assert_eq!(
                view.page(PageId(id)).unwrap(),
                Some(&[tag; PAGE][..]),
                "page {id} of {:?}",
                named.name
            );
        }
    }
    store.audit().unwrap();
}

#[test]
fn of_names_to_be_dropped_together_none_goes_if_one_is_gone() {
    let store = open(&SimDisk::new(1)).unwrap();
    let make = |tag: u8, name: &str| {
        fill(&store, tag).unwrap();
        store.create_snapshot(name).unwrap().version()
    };
    let versions = vec![make(1, "kept"), make(2, "gone"), make(3, "kept too")];
    store.drop_snapshot("gone").unwrap();
    let refused = store.drop_versions(versions);
    assert!(matches!(refused, Err(crate::Error::SnapshotNotFound { .. })), "{refused:?}");
    let names: Vec<String> = store.snapshots().into_iter().map(|named| named.name).collect();
    assert_eq!(names, ["kept", "kept too"]);
}

#[test]
fn a_name_that_is_found_is_whole() {
    plant_given();
    let rehearsal = SimDisk::new(1);
    work(&rehearsal).unwrap();
    let mut found = 0;
    for index in 0..rehearsal.io_count() {
        let disk = SimDisk::new(1);
        disk.fail_at(index, Fault::Crash);
        let _ = work(&disk);
        // Either catalog is enough.
        for (damaged, other) in [("catalog-a", "catalog-b"), ("catalog-b", "catalog-a")] {
            let after = disk.power_cut_with(Survival::Everything, index);
            let is_whole = |name| after.read_file(name).is_ok_and(|bytes| Catalog::decode(&bytes).is_ok());
            if is_whole(damaged) && is_whole(other) {
                after.corrupt(damaged, 60, 1).unwrap();
                check(&after);
            }
        }
        for survival in [Survival::Nothing, Survival::Everything, Survival::Scattered] {
            let after = disk.power_cut_with(survival, index);
            check(&after);
            found += open(&after).unwrap().snapshots().len();
        }
    }
    println!("{} cuts, {found} names found", 3 * rehearsal.io_count());
    assert!(found > 0);
}

#[test]
fn bugs_planted_in_the_dropping_of_names_are_found() {
    let test = "names::tests::a_name_that_is_found_is_whole";
    for bug in [Planted::NameGoneAtOnce, Planted::NameGoneAfterOne] {
        check_found(test, &(bug as u8).to_string(), &format!("{bug:?}"));
    }
}
