//! Goal: damage before the log's end is told, though the next segment is ready. Method: commits and the thread's steps by hand, then
//! bits of the disk are flipped.

use super::*;

#[test]
fn damage_before_the_end_of_the_log_is_told_though_the_next_segment_is_ready() {
    let disk = SimDisk::new(1);
    let store = open(&disk).unwrap();
    let mut tag = 0;
    while !store.core().log.lock().appender.wants_next() {
        tag += 1;
        put(&store, tag).unwrap();
    }
    store.core().make_next_ready().unwrap();
    let before = store.core().log.lock().appender.position();
    for more in 1..8 {
        put(&store, tag + more).unwrap();
    }
    assert_eq!(store.core().log.lock().appender.position().segment, before.segment);
    let offset = store.core().segments.geometry().offset(before.slot) + 40;
    let disk = disk.power_cut_with(Survival::Nothing, 0);
    disk.corrupt(&file_name(before.segment), offset, 8).unwrap();
    let refused = open(&disk);
    assert!(matches!(refused, Err(Error::Corrupt { .. })), "{refused:?}");
}

/// A catalog may list the next segment as what it is now, though the log's position in it lies before.
#[test]
fn damage_of_a_segment_that_was_ready_when_the_catalog_was_written_is_told() {
    for is_used_again in [false, true] {
        let disk = SimDisk::new(1);
        let store = open(&disk).unwrap();
        let position = || store.core().log.lock().appender.position();
        let mut tag = 0;
        while !store.core().log.lock().appender.wants_next() || position().next_is_fresh == is_used_again {
            tag += 1;
            assert!(tag < 5000, "{:?}", position());
            put(&store, tag).unwrap();
            if tag % 150 == 0 {
                store.maintain(Budget::unlimited()).unwrap();
            }
        }
        store.core().make_next_ready().unwrap();
        store.core().write_catalog_anew().unwrap();
        let next = position().next;
        while position().segment != next || position().slot < 20 {
            tag += 1;
            put(&store, tag).unwrap();
        }
        let disk = disk.power_cut_with(Survival::Nothing, 0);
        assert_eq!(last(&open(&disk.power_cut_with(Survival::Nothing, 0)).unwrap()), tag);
        for slots in 1..6 {
            let damaged = disk.power_cut_with(Survival::Nothing, 0);
            (0..slots)
                .for_each(|slot| damaged.corrupt(&file_name(next), slot * PAGE as u64 + 40, 8).unwrap());
            let refused = open(&damaged);
            assert!(matches!(refused, Err(Error::Corrupt { .. })), "{slots} slots: {refused:?}");
        }
    }
}
