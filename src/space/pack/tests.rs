//! Goal: a log whose segments are nearly dead when it comes back to them goes on in their files, however much waste the options allow.
//!
//! Method: durable commits change one page again and again, and now and then one that stays, as a table does that grows by a row each time;
//! beside them much that nobody changes, so that far more waste is allowed than they make. Files are counted.

use std::sync::Arc;

use crate::space::{Budget, Effort};
use crate::storage::sim::SimDisk;
use crate::{Options, PageId, Store};

const PAGE: usize = 512;
const SEGMENT: u64 = 64 << 10;
/// Pages that stay what they are: so many that their share of waste is most of the log.
const STILL: u64 = 3_000;
const COMMITS: u64 = 1_000;

/// The files that there are at the end beyond those that were there at the beginning, and the bytes of zeros written in the last half.
fn grow(waste_percent: u32) -> (u64, u64) {
    let disk = SimDisk::new(5);
    let options = Options::new().page_size(512).segment_size(SEGMENT).background(false);
    let store =
        Store::open_on(Arc::new(disk.storage()), options.pool_segments(2).waste_percent(waste_percent))
            .unwrap();
    let mut txn = store.begin().unwrap();
    txn.truncate(STILL + COMMITS).unwrap();
    (0..STILL).for_each(|id| txn.write(PageId(id), &[1; PAGE]).unwrap());
    txn.commit().unwrap();
    store.core().write_only_checkpoint().unwrap();
    let (before, mut zeros) = (store.stats().segments, 0);
    for commit in 0..COMMITS {
        let mut txn = store.begin().unwrap();
        txn.write(PageId(0), &commit.to_le_bytes().repeat(PAGE / 8)).unwrap();
        if commit % 40 == 0 {
            txn.write(PageId(STILL + commit), &[2; PAGE]).unwrap();
        }
        txn.commit().unwrap();
        if commit % 100 == 0 {
            store.core().write_only_checkpoint().unwrap();
            store.core().settle();
            store.core().tidy(Effort::Least, Budget::unlimited()).unwrap();
        }
        if commit == COMMITS / 2 {
            zeros = store.stats().prepared_bytes;
        }
    }
    let view = store.view();
    assert_eq!(view.page(PageId(0)).unwrap().unwrap()[..8], (COMMITS - 1).to_le_bytes());
    assert!((1..STILL).all(|id| view.page(PageId(id)).unwrap() == Some(&[1; PAGE])));
    assert!((0..COMMITS).step_by(40).all(|id| view.page(PageId(STILL + id)).unwrap() == Some(&[2; PAGE])));
    drop(view);
    store.audit().unwrap();
    // A packed file of some pages is a file, but hardly takes room.
    let whole = store.segments().iter().filter(|segment| !segment.is_packed).count() as u64;
    (whole.saturating_sub(before), store.stats().prepared_bytes - zeros)
}

#[test]
fn nearly_dead_segments_are_packed_early_and_the_log_goes_on_in_their_files() {
    let (files, zeros) = grow(25);
    assert!(files <= 5, "{files} more files");
    assert_eq!(zeros, 0, "the log goes on in files that were written before");
}

#[test]
fn who_allows_much_waste_has_nothing_copied() {
    let (files, zeros) = grow(1_000);
    assert!(files > 8 && zeros > 0, "{files} more files, {zeros} bytes of zeros");
}
