//! Goal: a parent goes on in another file than the one that its clone has too, and does so only when it writes.
//!
//! Method: as for clones; the calls of both disks counted, and the bytes of what is linked compared.

use super::*;

/// A parent, its disk, and what its files are linked to.
struct Family {
    disk: SimDisk,
    links: Links,
}

impl Family {
    fn new() -> Family {
        Family { disk: parents_disk(), links: Links::default() }
    }

    /// Opens the parent, whose next clone goes to `clone`.
    fn open(&self, clone: &SimDisk) -> (Store, Arc<SimStorage>) {
        let to = Arc::new(clone.storage());
        (Store::open_on(Linking::between(&self.disk, &to, &self.links), options()).unwrap(), to)
    }

    /// What the files hold that have a further name.
    fn linked(&self) -> Vec<(String, Vec<u8>)> {
        let mut names: Vec<String> = self.links.0.lock().unwrap().iter().cloned().collect();
        names.sort();
        names.into_iter().map(|name| (name.clone(), self.disk.read_file(&name).unwrap())).collect()
    }
}

fn clone_of(store: &Store, to: &SimStorage) -> Cloned {
    let done = store.snapshot().clone_into(to, Some(Path::new("staged")), &mut ()).unwrap();
    assert!(done.files_linked > 1 && done.files_copied == 0, "{done:?}");
    done
}

/// The calls since the first `from` that change a disk, and the syncs among them.
fn changes(disk: &SimDisk, from: u64) -> (usize, usize) {
    let calls = disk.calls().split_off(usize::try_from(from).unwrap());
    let syncs = calls.iter().filter(|call| matches!(call.kind, IoKind::Sync | IoKind::SyncDir)).count();
    let reads = [IoKind::Open, IoKind::List, IoKind::Read, IoKind::Map];
    (calls.iter().filter(|call| !reads.contains(&call.kind)).count(), syncs)
}

#[test]
fn a_clone_takes_one_sync_of_its_parent_and_none_where_nothing_is_unsynced() {
    for durability in [Durability::Sync, Durability::Buffered] {
        let (family, clone) = (Family::new(), SimDisk::new(1));
        let (store, to) = family.open(&clone);
        put_with(&store, 2, 0..10, durability).unwrap();
        let active = store.core().log.lock().appender.position();
        let from = family.disk.io_count();
        let done = clone_of(&store, &to);
        assert_eq!(changes(&family.disk, from).1, 1);
        // The newer catalog and the names; beside them, each link of the test's own syncs what it leads to.
        let links = usize::try_from(done.files_linked).unwrap();
        assert_eq!(changes(&clone, 0).1, links + 2);
        drop((store, to));
        // A second one, in the same session and in the next: nothing is left to be done.
        for _ in 0..2 {
            let second = SimDisk::new(2);
            let (store, to) = family.open(&second);
            for to in [&to, &Arc::new(SimDisk::new(3).storage())] {
                let from = family.disk.io_count();
                store.snapshot().clone_into(&**to, Some(Path::new("staged")), &mut ()).unwrap();
                assert_eq!(changes(&family.disk, from), (0, 0));
            }
            assert_eq!(store.core().log.lock().appender.position().segment, active.segment);
        }
        check(&Store::open_on(Arc::new(clone.power_cut(1).storage()), options()).unwrap(), &[2]);
    }
}

#[test]
fn a_parent_that_is_opened_and_cloned_at_once_takes_one_sync() {
    let (family, clone) = (Family::new(), SimDisk::new(1));
    let (store, to) = family.open(&clone);
    let from = family.disk.io_count();
    clone_of(&store, &to);
    // Of the end of its log, behind which something may have been begun before it was opened.
    assert!(changes(&family.disk, from).1 <= 1);
    let before = family.linked();
    put(&store, 2, 0..10).unwrap();
    assert_eq!(family.linked(), before);
}

#[test]
fn what_a_clone_has_too_keeps_its_bytes_whatever_the_parent_writes_next() {
    type Step = fn(&Store);
    let steps: [(&str, Step); 5] = [
        ("a durable commit", |store| put(store, 3, 0..10).unwrap()),
        ("a buffered commit", |store| {
            put_with(store, 3, 0..10, Durability::Buffered).unwrap();
            store.sync().unwrap();
        }),
        ("a checkpoint", |store| {
            store.core().write_catalog_anew().unwrap();
            put(store, 3, 0..10).unwrap();
        }),
        ("room ahead", |store| {
            let appender = &mut store.core().log.lock().appender;
            // An opening may have gone on already, with a checkpoint.
            if appender.position().segment == 2 {
                assert!(!appender.wants_room_ahead(1 << 20));
                assert!(appender.prepare_ahead(1 << 20).unwrap().is_none());
            }
        }),
        ("the next segment, made ready", |store| {
            let is_left = || store.core().log.lock().appender.wants_next();
            assert!(store.core().log.lock().appender.position().segment != 2 || is_left());
            store.core().make_next_ready().unwrap();
            put(store, 3, 0..10).unwrap();
        }),
    ];
    for (what, step) in steps {
        for reopens in [false, true] {
            for is_older in [false, true] {
                let (family, clone) = (Family::new(), SimDisk::new(1));
                let (mut store, mut to) = family.open(&clone);
                put(&store, 2, 0..10).unwrap();
                let snapshot = store.snapshot();
                if is_older {
                    put(&store, 3, 0..10).unwrap();
                }
                let active = store.core().log.lock().appender.position().segment;
                assert_eq!(active, 2);
                snapshot.clone_into(&*to, Some(Path::new("staged")), &mut ()).unwrap();
                drop(snapshot);
                let before = family.linked();
                assert!(before.iter().any(|(name, _)| *name == crate::log::segment::file_name(active)));
                if reopens {
                    drop((store, to));
                    (store, to) = family.open(&SimDisk::new(2));
                }
                step(&store);
                (4..8).for_each(|tag| put(&store, tag, 0..10).unwrap());
                assert_ne!(store.core().log.lock().appender.position().segment, active);
                assert_eq!(family.linked(), before, "{what}, {reopens}, {is_older}");
                for _ in 0..3 {
                    store.maintain(Budget::unlimited()).unwrap();
                    put(&store, 7, 0..10).unwrap();
                }
                check(&store, &[7]);
                drop((store, to));
                let after = family.disk.power_cut_with(Survival::Nothing, 1);
                check(&Store::open_on(Arc::new(after.storage()), options()).unwrap(), &[7]);
                check(&Store::open_on(Arc::new(clone.power_cut(1).storage()), options()).unwrap(), &[2]);
            }
        }
    }
}

#[test]
fn a_parent_is_reopened_after_any_cut_and_goes_on_in_another_file() {
    // A clone, no write; then an opening and the first writes, each call of which is cut off, or fails.
    let family = Family::new();
    {
        let (store, to) = family.open(&SimDisk::new(1));
        put(&store, 2, 0..10).unwrap();
        clone_of(&store, &to);
    }
    let start = family.disk.power_cut_with(Survival::Nothing, 1);
    let to = Arc::new(SimDisk::new(2).storage());
    let links = || Links(Arc::new(Mutex::new(family.links.0.lock().unwrap().clone())));
    let steps = |disk: &SimDisk, links: &Links, came: &mut u64| {
        let store = Store::open_on(Linking::between(disk, &to, links), options())?;
        let mut failed = None;
        for tag in 3..6 {
            match put(&store, tag, 0..10) {
                Ok(()) => *came = tag,
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(()), Err)
    };
    let rehearsal = start.clone_state();
    steps(&rehearsal, &links(), &mut 2).unwrap();
    for index in 0..rehearsal.io_count() {
        for fault in FAULTS {
            let (disk, links, mut came) = (start.clone_state(), links(), 2);
            disk.fail_at(index, fault);
            let _ = steps(&disk, &links, &mut came);
            for survival in SURVIVALS {
                let after = disk.power_cut_with(survival, index);
                let store = Store::open_on(Linking::between(&after, &to, &links), options()).unwrap();
                // What was refused may have been written for all that, if it couldn't be told.
                check(&store, &[came, came + 1]);
                put(&store, 6, 0..10).unwrap();
                drop(store);
                let again = Linking::between(&after.power_cut_with(survival, index), &to, &links);
                check(&Store::open_on(again, options()).unwrap(), &[6]);
            }
        }
    }
}

/// Without checkpoints, which would lead recovery past what is to be met.
fn rarely() -> Options {
    options().checkpoint_bytes(1 << 30)
}

#[test]
fn a_torn_end_in_a_file_that_another_store_has_too_is_mended_in_a_copy() {
    let start = parents_disk();
    let large = |store: &Store| put(store, 2, 0..200);
    let rehearsal = start.clone_state();
    let store = Store::open_on(Arc::new(rehearsal.storage()), rarely()).unwrap();
    let from = rehearsal.io_count();
    large(&store).unwrap();
    let (mut torn, to) = (0, Arc::new(SimDisk::new(2).storage()));
    for index in from..rehearsal.io_count() {
        let disk = start.clone_state();
        {
            let store = Store::open_on(Arc::new(disk.storage()), rarely()).unwrap();
            disk.fail_at(index, Fault::Crash);
            assert!(large(&store).is_err());
        }
        let after = disk.power_cut_with(Survival::Everything, index);
        // As if somebody had linked all files by hand.
        let links = Links::default();
        let files = after.files().into_iter().map(|(name, _)| name);
        files.filter(|name| name.starts_with("segment-")).for_each(|name| links.add(&name));
        let open = |disk: &SimDisk| Store::open_on(Linking::between(disk, &to, &links), rarely()).unwrap();
        let tag = |store: &Store| store.view().page(PageId(0)).unwrap().unwrap()[0];
        let store = open(&after);
        torn += u64::from(store.recovery().is_torn);
        assert!(tag(&store) < 3);
        put(&store, 3, 0..10).unwrap();
        // Before it is closed, which would take a checkpoint.
        let cut = after.power_cut_with(Survival::Nothing, index);
        drop(store);
        let store = open(&cut);
        assert_eq!(tag(&store), 3, "index {index}");
        store.verify(&mut ()).unwrap();
    }
    assert!(torn > 0);
}

#[test]
fn a_batch_that_was_given_up_before_a_clone_leaves_nothing_that_recovery_follows() {
    // Of several parts, the first of which is whole; with nothing for the clone to write over it.
    let large = |store: &Store| put(store, 2, 0..200);
    let begin = |disk: &SimDisk, to: &Arc<SimStorage>, links: &Links| {
        let store = Store::open_on(Linking::between(disk, to, links), rarely()).unwrap();
        store.maintain(Budget::unlimited()).unwrap();
        store
    };
    let (rehearsal, clone) = (parents_disk(), SimDisk::new(1));
    let store = begin(&rehearsal, &Arc::new(clone.storage()), &Links::default());
    let from = rehearsal.io_count();
    large(&store).unwrap();
    let mut given_up = 0;
    for index in from..rehearsal.io_count() {
        let (family, clone) = (Family::new(), SimDisk::new(index));
        let to = Arc::new(clone.storage());
        let store = begin(&family.disk, &to, &family.links);
        family.disk.fail_at(index, Fault::ENOSPC);
        assert!(large(&store).is_err());
        if store.snapshot().clone_into(&*to, Some(Path::new("staged")), &mut ()).is_err() {
            // What failed left open what the disk holds.
            continue;
        }
        given_up += 1;
        let before = family.linked();
        put(&store, 3, 0..10).unwrap();
        assert_eq!(family.linked(), before);
        for survival in SURVIVALS {
            let after = family.disk.power_cut_with(survival, index);
            let to = Arc::new(SimDisk::new(1).storage());
            let store = Store::open_on(Linking::between(&after, &to, &family.links), rarely());
            check(&store.unwrap(), &[3]);
        }
        check(&Store::open_on(Arc::new(clone.power_cut(1).storage()), options()).unwrap(), &[1]);
    }
    assert!(given_up > 3, "{given_up}");
}

#[test]
fn what_a_parent_went_on_with_is_no_proof_of_damage_in_a_clone_of_an_older_version() {
    let disk = SimDisk::new(1);
    let store = Store::open_on(Arc::new(disk.storage()), options()).unwrap();
    put(&store, 1, 0..PAGES).unwrap();
    put(&store, 2, 0..10).unwrap();
    let snapshot = store.snapshot();
    (3..23).for_each(|tag| put(&store, tag, 0..1).unwrap());
    let clone = SimDisk::new(2);
    snapshot.clone_on(&clone.storage(), &mut ()).unwrap();
    let store = Store::open_on(Arc::new(clone.storage()), rarely()).unwrap();
    // Everything is written anew, so the log comes to segments that were the parent's, and still hold its records.
    for _ in 0..2 {
        put(&store, 2, 0..PAGES).unwrap();
        store.maintain(Budget::unlimited()).unwrap();
    }
    for tag in 3..20 {
        put(&store, tag, 0..1).unwrap();
        for survival in SURVIVALS {
            let cut = clone.power_cut_with(survival, tag);
            let store = Store::open_on(Arc::new(cut.storage()), rarely()).unwrap();
            assert_eq!(u64::from(store.view().page(PageId(0)).unwrap().unwrap()[0]), tag);
        }
    }
    assert!(store.core().log.lock().appender.position().generation > 1);
}
