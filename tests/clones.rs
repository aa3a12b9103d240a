//! Goal: clones and forks are stores of their own from the first moment: whatever parent and child do, and whichever goes
//! first, neither sees anything of the other, and each gives back its own space.
//!
//! Method: random histories in parents, clones, forks and their children, each against a model of its own, with packing,
//! recycling and reopening in all of them; links counted; the making of a clone cut at each I/O call.
#![allow(clippy::cast_possible_truncation, reason = "tests count in small numbers")]

mod common;

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
#[cfg(feature = "sim")]
use std::sync::Arc;

use common::interposed::{Interposed, Interposer};
use common::{PAGE, Random, contents, env, seed, small};
use vellum::storage::{FileStorage, Storage};
use vellum::{Budget, Durability, Error, PageId, Snapshot, Store};

type Model = BTreeMap<u64, u64>;

struct Kept {
    store: Option<Store>,
    /// `None`: a fork.
    dir: Option<PathBuf>,
    model: Model,
}

impl Kept {
    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }
}

fn write(store: &Store, model: &mut Model, random: &mut Random, tag: u64) {
    let mut txn = store.begin().unwrap();
    for _ in 0..=random.below(60) {
        let id = random.below(500);
        if txn.page_count() <= id {
            txn.truncate(id + 1).unwrap();
        }
        if random.below(5) == 0 && model.remove(&id).is_some() {
            txn.free(PageId(id)).unwrap();
        } else {
            txn.write(PageId(id), &contents(id, tag)).unwrap();
            model.insert(id, tag);
        }
    }
    txn.commit().unwrap();
}

fn check(snapshot: &Snapshot, model: &Model) {
    let view = snapshot.view();
    for id in 0..snapshot.page_count() {
        let expected = model.get(&id).map(|tag| contents(id, *tag));
        assert!(view.page(PageId(id)).unwrap() == expected.as_deref(), "page {id}");
    }
    assert_eq!(snapshot.live_pages(), model.len() as u64);
}

fn check_whole(store: &Store, model: &Model) {
    check(&store.snapshot(), model);
    store.verify(&mut ()).unwrap();
    store.audit().unwrap();
}

#[test]
fn parents_clones_and_forks_know_nothing_of_each_other() {
    let mut random = Random(seed("clones"));
    for _ in 0..env("VELLUM_CASES", 8) {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("first");
        let store = Store::open(&dir, small()).unwrap();
        let mut family = vec![Kept { store: Some(store), dir: Some(dir), model: Model::new() }];
        for tag in 1..=120 {
            let pick = random.index(family.len());
            let size = family.len();
            let at = &mut family[pick];
            match random.below(16) {
                0..8 => write(&at.store.clone().unwrap(), &mut at.model, &mut random, tag),
                8 => drop(at.store().maintain(Budget::unlimited()).unwrap()),
                9 => at.store().sync().unwrap(),
                10 | 11 if size < 8 => {
                    let dir = home.path().join(format!("clone-{tag}"));
                    // Of the current version, or of an older one that is held.
                    let (snapshot, model) = (at.store().snapshot(), at.model.clone());
                    let store = at.store.clone().unwrap();
                    if random.below(2) == 0 {
                        write(&store, &mut at.model, &mut random, tag);
                    }
                    let done = snapshot.clone_to(&dir).unwrap();
                    assert_eq!(done.version, snapshot.version());
                    if at.dir.is_some() {
                        assert_eq!((done.files_copied, done.files_reflinked), (0, 0));
                    }
                    let clone = Store::open(&dir, small()).unwrap();
                    assert_ne!(clone.id(), at.store().id());
                    assert_eq!(clone.snapshot().fingerprint(), snapshot.fingerprint());
                    family.push(Kept { store: Some(clone), dir: Some(dir), model });
                }
                12 | 13 if size < 8 => {
                    let (snapshot, model) = (at.store().snapshot(), at.model.clone());
                    let store = at.store.clone().unwrap();
                    if random.below(2) == 0 {
                        write(&store, &mut at.model, &mut random, tag);
                    }
                    let fork = snapshot.fork().unwrap();
                    family.push(Kept { store: Some(fork), dir: None, model });
                }
                14 if at.dir.is_some() => {
                    let dir = at.dir.clone().unwrap();
                    at.store = None;
                    // A fork of it holds the store, and with it the lock.
                    match Store::open(&dir, small()) {
                        Ok(store) => at.store = Some(store),
                        Err(Error::Locked { .. }) => drop(family.remove(pick)),
                        Err(error) => panic!("{error}"),
                    }
                }
                15 if size > 1 => {
                    let gone = family.remove(pick);
                    drop(gone.store);
                    // As long as a fork has it open, a store's directory has to stay.
                    let is_free = |dir: &PathBuf| Store::open(dir, small()).is_ok();
                    if let Some(dir) = gone.dir.filter(is_free) {
                        std::fs::remove_dir_all(dir).unwrap();
                    }
                }
                _ => {}
            }
            if family.is_empty() {
                break;
            }
        }
        for kept in &family {
            check_whole(kept.store(), &kept.model);
        }
        for kept in family {
            drop(kept.store);
            let Some(dir) = kept.dir else { continue };
            match Store::open(&dir, small()) {
                Ok(store) => check_whole(&store, &kept.model),
                Err(error) => assert!(matches!(error, Error::Locked { .. }), "{error}"),
            }
        }
    }
}

/// The inodes of a store's segment files.
fn inodes(dir: &Path) -> Vec<u64> {
    let files = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap());
    let is_segment = |name: &str| name.starts_with("segment-") || name.starts_with("packed-");
    files
        .filter(|file| is_segment(&file.file_name().to_string_lossy()))
        .map(|file| file.metadata().unwrap().ino())
        .collect()
}

#[test]
fn files_are_shared_and_never_written_to() {
    let home = tempfile::tempdir().unwrap();
    let (dir, copy) = (home.path().join("store"), home.path().join("clone"));
    let store = Store::open(&dir, small()).unwrap();
    let (mut model, mut random) = (Model::new(), Random(seed("shared")));
    (1..20).for_each(|tag| write(&store, &mut model, &mut random, tag));
    let snapshot = store.snapshot();
    let done = snapshot.clone_to(&copy).unwrap();
    let (there, here) = (inodes(&copy), inodes(&dir));
    let shared = there.iter().filter(|inode| here.contains(inode)).count();
    // The clone's first commit makes its first segment.
    assert_eq!((shared, there.len()), (done.files_linked as usize, done.files_linked as usize));
    let before: Vec<(PathBuf, Vec<u8>)> = std::fs::read_dir(&copy)
        .unwrap()
        .map(|file| file.unwrap().path())
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    drop(snapshot);
    // The parent overwrites everything many times, and uses its own dead segments again.
    for tag in 100..400 {
        write(&store, &mut model, &mut random, tag);
        if tag % 20 == 0 {
            store.maintain(Budget::unlimited()).unwrap();
        }
    }
    check_whole(&store, &model);
    for (path, bytes) in before {
        assert!(std::fs::read(&path).unwrap() == bytes, "{} has changed", path.display());
    }
    Store::open(&copy, small()).unwrap().verify(&mut ()).unwrap();
    // And the other way round, with the parent gone.
    drop(store);
    std::fs::remove_dir_all(&dir).unwrap();
    let clone = Store::open(&copy, small()).unwrap();
    let mut model: Model = Model::new();
    let mut txn = clone.begin().unwrap();
    txn.truncate(0).unwrap();
    txn.commit().unwrap();
    (1..200).for_each(|tag| write(&clone, &mut model, &mut random, tag));
    clone.maintain(Budget::unlimited()).unwrap();
    check_whole(&clone, &model);
}

#[test]
fn a_thousand_forks_and_many_clones_of_one_snapshot() {
    let clones = env("VELLUM_CLONES", 100);
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path().join("store"), small()).unwrap();
    let (mut model, mut random) = (Model::new(), Random(seed("many")));
    (1..10).for_each(|tag| write(&store, &mut model, &mut random, tag));
    let snapshot = store.snapshot();
    let before = store.stats().disk_bytes;
    let mut forks: Vec<Store> = (0..1000).map(|_| snapshot.fork().unwrap()).collect();
    for (tag, fork) in (1000..).zip(&forks) {
        let mut txn = fork.begin().unwrap();
        txn.write(PageId(3), &contents(3, tag)).unwrap();
        txn.commit().unwrap();
    }
    for (tag, fork) in (1000..).zip(&forks) {
        assert!(fork.view().page(PageId(3)).unwrap() == Some(&contents(3, tag)[..]));
    }
    check_whole(&forks[500], &{
        let mut model = model.clone();
        model.insert(3, 1500);
        model
    });
    let grandchild = forks[7].snapshot().fork().unwrap();
    drop(forks.drain(..));
    assert!(grandchild.view().page(PageId(3)).unwrap() == Some(&contents(3, 1007)[..]));
    for index in 0..clones {
        snapshot.clone_to(home.path().join(format!("clone-{index}"))).unwrap();
    }
    // The table was written, nothing else.
    assert!(store.stats().disk_bytes <= before + (128 << 10), "{} after {before}", store.stats().disk_bytes);
    for index in [0, clones - 1] {
        check_whole(&Store::open(home.path().join(format!("clone-{index}")), small()).unwrap(), &model);
    }
    check_whole(&store, &model);
}

#[test]
fn generations_of_forks_and_clones_outlive_their_parents() {
    let home = tempfile::tempdir().unwrap();
    let dir = |generation: u64| home.path().join(format!("{generation}"));
    let store = Store::open(dir(0), small()).unwrap();
    let (mut model, mut random) = (Model::new(), Random(seed("clones")));
    for tag in 1..10 {
        write(&store, &mut model, &mut random, tag);
    }
    let first = model.clone();
    // Forks of forks: each generation writes, and is a parent at once.
    let mut forks: Vec<(Store, Model)> = Vec::new();
    for tag in 0..env("VELLUM_GENERATIONS", 24) {
        let parent = forks.last().map_or(&store, |(parent, _)| parent);
        let child = parent.snapshot().fork().unwrap();
        write(&child, &mut model, &mut random, 1000 + tag);
        forks.push((child, model.clone()));
    }
    // Parents go before their children, and children before their parents.
    while forks.len() > 1 {
        drop(forks.remove(random.index(forks.len())));
        let (fork, model) = &forks[random.index(forks.len())];
        check_whole(fork, model);
    }
    check_whole(&store, &first);
    drop((forks, store));
    // Clones of clones, each in its own directory.
    let mut generations = vec![(0, first.clone())];
    model = first;
    for generation in 1..env("VELLUM_GENERATIONS", 24) / 2 {
        let parent = Store::open(dir(generation - 1), small()).unwrap();
        parent.snapshot().clone_to(dir(generation)).unwrap();
        let child = Store::open(dir(generation), small()).unwrap();
        write(&child, &mut model, &mut random, 2000 + generation);
        generations.push((generation, model.clone()));
    }
    while generations.len() > 1 {
        let (gone, _) = generations.remove(random.index(generations.len()));
        std::fs::remove_dir_all(dir(gone)).unwrap();
        let (kept, model) = &generations[random.index(generations.len())];
        check_whole(&Store::open(dir(*kept), small()).unwrap(), model);
    }
}

/// A page that is `tag` over and over.
fn tagged(tag: u64) -> Vec<u8> {
    tag.to_le_bytes().repeat(PAGE / 8)
}

/// Forks are taken, written to, forked again and cloned beside a writer whose log goes from segment to segment, whose nodes are written,
/// evicted and read again, and whose segments are packed and used again.
#[test]
fn forks_beside_a_writer_stand_at_their_snapshots() {
    let home = tempfile::tempdir().unwrap();
    let options = small().table_memory(1 << 20).checkpoint_bytes(256 << 10).durability(Durability::Buffered);
    let store = Store::open(home.path().join("store"), options.background(true)).unwrap();
    // The table of all takes more than its memory; the first are written again and again.
    let (all, pages) = (70_000, 2000);
    for first in (0..all).step_by(1000) {
        let mut txn = store.begin().unwrap();
        txn.truncate(first + 1000).unwrap();
        (first..first + 1000).for_each(|id| txn.write(PageId(id), &tagged(0)).unwrap());
        txn.commit().unwrap();
    }
    // These are alike in a version, but for those that a round has not come to.
    let look = |store: &Store, tag: Option<u64>| {
        let (snapshot, mut tags) = (store.snapshot(), Vec::new());
        let view = snapshot.view();
        for id in (0..pages).step_by(7).chain(0..20) {
            let page = view.page(PageId(id)).unwrap().unwrap();
            let found = u64::from_le_bytes(page[..8].try_into().unwrap());
            assert!(page == &tagged(found)[..], "page {id}");
            tags.push(found);
        }
        for id in (pages..all).step_by(61) {
            assert!(view.page(PageId(id)).unwrap().unwrap() == &tagged(0)[..], "page {id}");
        }
        let (least, most) = (tags.iter().min().unwrap(), tags.iter().max().unwrap());
        assert!(most - least <= 1, "{least} to {most} in one version");
        assert!(tag.is_none_or(|tag| tags[0] == tag));
    };
    let rounds = env("VELLUM_FORKS", 30);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (home, store, stop, look) = (&home, &store, &stop, &look);
        scope.spawn(move || {
            for tag in 1.. {
                for first in (0..pages).step_by(50) {
                    if stop.load(std::sync::atomic::Ordering::Relaxed) {
                        return;
                    }
                    let mut txn = store.begin().unwrap();
                    (first..first + 50).for_each(|id| txn.write(PageId(id), &tagged(tag)).unwrap());
                    txn.commit().unwrap();
                }
            }
        });
        let forkers: Vec<_> = (0..2)
            .map(|thread| {
                scope.spawn(move || {
                    for round in 0..rounds {
                        let snapshot = store.snapshot();
                        let fork = snapshot.fork().unwrap();
                        look(&fork, None);
                        assert_eq!(fork.snapshot().fingerprint(), snapshot.fingerprint());
                        drop(snapshot);
                        let mut txn = fork.begin().unwrap();
                        (0..pages).for_each(|id| txn.write(PageId(id), &tagged(1 << 40)).unwrap());
                        txn.commit().unwrap();
                        let grandchild = fork.snapshot().fork().unwrap();
                        look(&grandchild, Some(1 << 40));
                        if round % 8 == 0 {
                            fork.verify(&mut ()).unwrap();
                            fork.maintain(Budget::unlimited()).unwrap();
                            fork.audit().unwrap();
                            let dir = home.path().join(format!("clone-{thread}-{round}"));
                            store.snapshot().fork().unwrap().snapshot().clone_to(&dir).unwrap();
                            let clone = Store::open(&dir, small()).unwrap();
                            look(&clone, None);
                            clone.audit().unwrap();
                            drop(clone);
                            std::fs::remove_dir_all(&dir).unwrap();
                        }
                    }
                })
            })
            .collect();
        let ended: Vec<_> = forkers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        for ended in ended {
            ended.unwrap();
        }
    });
    look(&store, None);
    assert!(store.stats().table_evictions > 0);
    store.maintain(Budget::unlimited()).unwrap();
    store.audit().unwrap();
}

/// A directory whose file system can share blocks, but has no hard links.
#[derive(Debug)]
struct Reflinking;

impl Interposer for Reflinking {
    fn link(&self, _storage: &dyn Storage, _name: &str, _to: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn reflink(&self, storage: &dyn Storage, name: &str, to: &Path) -> io::Result<()> {
        std::fs::copy(storage.path(name), to).map(drop)
    }
}

#[test]
fn where_blocks_can_be_shared_that_is_done_and_told() {
    let home = tempfile::tempdir().unwrap();
    let storage = FileStorage::open(&home.path().join("store"), true).unwrap();
    let store = Store::open_on(Interposed::before(storage, Reflinking), small()).unwrap();
    let (mut model, mut random) = (Model::new(), Random(seed("clones")));
    for tag in 1..10 {
        write(&store, &mut model, &mut random, tag);
    }
    let done = store.snapshot().clone_to(home.path().join("clone")).unwrap();
    assert!(done.files_reflinked > 0 && done.files_linked == 0, "{done:?}");
    assert!(done.files_copied == 0 && done.bytes_copied == 0, "{done:?}");
    let before = model.clone();
    write(&store, &mut model, &mut random, 10);
    check_whole(&Store::open(home.path().join("clone"), small()).unwrap(), &before);
    check_whole(&store, &model);
}

#[test]
fn where_nothing_can_be_linked_bytes_are_copied() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::in_memory(small()).unwrap();
    let (mut model, mut random) = (Model::new(), Random(seed("copied")));
    (1..10).for_each(|tag| write(&store, &mut model, &mut random, tag));
    let done = store.snapshot().clone_to(home.path().join("clone")).unwrap();
    assert!(done.files_linked == 0 && done.files_copied > 0 && done.bytes_copied > 0, "{done:?}");
    check_whole(&Store::open(home.path().join("clone"), small()).unwrap(), &model);
    let taken = store.snapshot().clone_to(home.path().join("clone")).unwrap_err();
    assert!(matches!(taken, Error::AlreadyExists { .. }), "{taken}");
    let nowhere = store.snapshot().clone_to(home.path().join("no").join("where")).unwrap_err();
    assert!(matches!(nowhere, Error::Io { .. }), "{nowhere}");
    // An empty store is cloned too.
    Store::in_memory(small()).unwrap().snapshot().clone_to(home.path().join("empty")).unwrap();
    check_whole(&Store::open(home.path().join("empty"), small()).unwrap(), &Model::new());
    let left: Vec<_> =
        std::fs::read_dir(home.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[cfg(feature = "sim")]
#[test]
fn a_clone_that_was_cut_off_is_no_store() {
    use vellum::storage::sim::{Fault, SimDisk};

    let store = Store::in_memory(small()).unwrap();
    let (mut model, mut random) = (Model::new(), Random(seed("cut")));
    (1..8).for_each(|tag| write(&store, &mut model, &mut random, tag));
    let snapshot = store.snapshot();
    let rehearsal = SimDisk::new(1);
    snapshot.clone_on(&rehearsal.storage(), &mut ()).unwrap();
    let (mut whole, mut cut) = (0, 0);
    for index in 0..rehearsal.io_count() {
        for fault in [Fault::Crash, Fault::ENOSPC, Fault::SyncFails, Fault::ShortWrite] {
            let disk = SimDisk::new(index);
            disk.fail_at(index, fault);
            let done = snapshot.clone_on(&disk.storage(), &mut ());
            assert!(done.is_err(), "index {index}: {fault:?} went unnoticed");
            let after = disk.power_cut(index);
            match Store::open_on(Arc::new(after.storage()), small().create(false)) {
                Ok(clone) => {
                    check_whole(&clone, &model);
                    whole += 1;
                }
                Err(error) => {
                    assert!(matches!(error, Error::NotFound { .. }), "index {index}: {error}");
                    cut += 1;
                }
            }
        }
    }
    assert!(cut > 20, "{whole} and {cut}");
    let disk = SimDisk::new(7);
    snapshot.clone_on(&disk.storage(), &mut ()).unwrap();
    check_whole(&Store::open_on(Arc::new(disk.power_cut(3).storage()), small()).unwrap(), &model);
    check_whole(&store, &model);
}
