//! Goal: what views read of segments that the log has left stays while they read it, and not longer.
//!
//! Method: buffered commits through many small segments in memory, beside a view and without one; tables that wait and tails that
//! are used are counted.

use std::sync::Arc;

use crate::storage::{MemoryFile, MemoryStorage};
use crate::{Durability, Options, PageId, Store};

const PAGES: u64 = 16;

fn open(has_thread: bool) -> Store {
    let options = Options::new().page_size(512).segment_size(64 << 10).background(has_thread);
    Store::open_on(Arc::new(MemoryStorage::new()), options).unwrap()
}

fn put(store: &Store, tag: u64) {
    let mut txn = store.begin().unwrap();
    if txn.page_count() == 0 {
        txn.truncate(PAGES).unwrap();
    }
    txn.write(PageId(tag % PAGES), &[tag.to_le_bytes()[0]; 512]).unwrap();
    txn.commit_with(Durability::Buffered).unwrap();
}

#[test]
fn a_view_keeps_what_it_reads_of_segments_that_the_log_has_left_and_nothing_else_does() {
    // Without a thread, so that nothing but the view and commits has a say.
    let store = open(false);
    put(&store, 1);
    let view = store.view();
    let page = view.page(PageId(1)).unwrap().unwrap();
    let before = page.to_vec();
    for tag in 2..1000 {
        put(&store, tag);
    }
    assert!(store.core().segments.tables_waiting() > 3, "what the view might read waits for it");
    assert_eq!(page, before);
    drop(view);
    store.core().settle();
    assert_eq!(store.core().segments.tables_waiting(), 0);
}

#[test]
fn memory_of_segments_that_the_log_has_left_is_used_again() {
    let store = open(true);
    let mut tails: Vec<Arc<MemoryFile>> = Vec::new();
    for tag in 0..2000 {
        put(&store, tag);
        let tail = store.core().log.lock().appender.tail().expect("the last commit is read from it");
        if !tails.iter().any(|known| Arc::ptr_eq(known, &tail)) {
            tails.push(tail);
        }
        // As the thread does when something is handed over, and commits do now and then.
        store.core().grace.advance(&store.core().epoch);
        store.core().attend();
    }
    assert!(store.core().log.lock().appender.position().sequence > 12);
    assert!(tails.len() <= 3, "{} tails", tails.len());
}
