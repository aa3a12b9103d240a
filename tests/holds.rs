//! Goal: nothing that reads a named snapshot can have it dropped under it, and nothing that has ended still holds it.
//!
//! Method: the name is dropped from within each operation, in its writer or its observer; then the operation ends well, with an
//! error or in a panic, and the name can be dropped.
#![allow(clippy::cast_possible_truncation, reason = "tests count in small numbers")]

mod common;

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use common::{contents, small};
use vellum::{Error, PageId, Progress, Snapshot, Store};

fn sample() -> (Store, Snapshot, Snapshot) {
    let store = Store::in_memory(small()).unwrap();
    let fill = |tag| {
        let mut txn = store.begin().unwrap();
        txn.truncate(300).unwrap();
        (0..300).for_each(|id| txn.write(PageId(id), &contents(id, tag)).unwrap());
        txn.commit().unwrap();
    };
    fill(1);
    let old = store.create_snapshot("old").unwrap();
    fill(2);
    let new = store.create_snapshot("new").unwrap();
    (store, old, new)
}

fn holders(store: &Store, name: &str) -> Vec<String> {
    match store.drop_snapshot(name) {
        Err(Error::SnapshotHeld { name: held, holders }) => {
            assert_eq!(held, name);
            let listed = store.snapshots().into_iter().find(|snapshot| snapshot.name == name).unwrap();
            let owners: Vec<String> = listed.holds.into_iter().map(|hold| hold.owner).collect();
            assert_eq!(owners, holders, "the list tells the same");
            holders
        }
        other => panic!("{name}: {other:?}"),
    }
}

fn is_free(store: &Store) {
    assert!(store.snapshots().iter().all(|snapshot| snapshot.holds.is_empty()));
}

/// Calls back at its first write, and then does what it is told.
struct Sink<'a> {
    at_first: Option<Box<dyn FnOnce() + 'a>>,
    fails: bool,
}

impl Write for Sink<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if let Some(first) = self.at_first.take() {
            first();
        }
        if self.fails { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(buf.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn sink<'a>(first: impl FnOnce() + 'a) -> Sink<'a> {
    Sink { at_first: Some(Box::new(first)), fails: false }
}

#[test]
fn running_exports_hold_their_snapshots() {
    let (store, old, new) = sample();
    new.export(&mut sink(|| assert!(holders(&store, "new")[0].starts_with("export")))).unwrap();
    is_free(&store);
    let both = || {
        assert_eq!(holders(&store, "new").len(), 1);
        assert!(holders(&store, "old")[0].contains("base"));
    };
    new.export_since(&old, &mut sink(both)).unwrap();
    is_free(&store);
    new.export_raw(&mut sink(|| drop(holders(&store, "new"))), &mut ()).unwrap();
    is_free(&store);
    store.drop_snapshot("old").unwrap();
    store.drop_snapshot("new").unwrap();
}

#[test]
fn a_clone_holds_its_snapshot_while_it_is_made() {
    let (store, _old, new) = sample();
    let home = tempfile::tempdir().unwrap();
    let mut asked = 0;
    let observer = &mut |_: Progress| {
        asked += 1;
        assert!(holders(&store, "new")[0].starts_with("clone"));
        ControlFlow::Continue(())
    };
    new.clone_with(home.path().join("clone"), observer).unwrap();
    assert!(asked > 0);
    is_free(&store);
    store.drop_snapshot("new").unwrap();
}

#[test]
fn holds_end_with_the_operation_however_it_ends() {
    let (store, _old, new) = sample();
    let failing = &mut Sink { at_first: None, fails: true };
    assert!(matches!(new.export(failing), Err(Error::Stream { .. })));
    is_free(&store);
    let stop = &mut |_: Progress| ControlFlow::Break(());
    assert!(matches!(new.export_with(&mut sink(|| ()), stop), Err(Error::Cancelled)));
    is_free(&store);
    let panicked = catch_unwind(AssertUnwindSafe(|| new.export(&mut sink(|| panic!("a sink that panics")))));
    assert!(panicked.is_err());
    is_free(&store);
    store.drop_snapshot("new").unwrap();
}

/// Drops the name that is exported, on request, at its first write.
struct Dropping<'a>(&'a Store, &'a mut Vec<u8>);
impl Write for Dropping<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.1.is_empty() {
            self.0.drop_snapshot_when_released("new").unwrap();
            assert!(self.0.open_snapshot("new").is_err());
        }
        self.1.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_running_export_goes_on_when_its_name_goes_on_request() {
    let (store, _old, new) = sample();
    let mut expected = Vec::new();
    new.export(&mut expected).unwrap();
    let mut stream = Vec::new();
    new.export(&mut Dropping(&store, &mut stream)).unwrap();
    assert!(stream == expected);
}
