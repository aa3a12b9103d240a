//! Goal: a clone that is being made in a staging place is nobody's loss when it is cut off, and all there at the moment when it is moved;
//! and its parent comes to no harm meanwhile.
//!
//! Method: parent and clone on two simulated disks with hard links between them: what such a link leads to on the other disk is what the
//! parent's disk holds durably at that moment, as if power failed right after it, and from then on a write to the file is an error of the
//! test. Each I/O call of either goes wrong in each way, and after each power cut what is found is held against the model.
#![allow(clippy::cast_possible_truncation, reason = "tests count in small numbers")]

use std::collections::HashSet;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::storage::sim::{Fault, IoKind, SimDisk, SimStorage, Survival};
use crate::storage::{Mapping, Storage, StorageFile};
use crate::{Budget, Cloned, Durability, Error, Options, PageId, Result, Store};

mod left;

const PAGE: usize = 512;
const PAGES: u64 = 300;
const FAULTS: [Fault; 4] = [Fault::Crash, Fault::ENOSPC, Fault::SyncFails, Fault::ShortWrite];
const SURVIVALS: [Survival; 4] =
    [Survival::Nothing, Survival::Everything, Survival::TailLost, Survival::Scattered];

/// Which of a parent's files have a further name. It outlives sessions.
#[derive(Clone, Debug, Default)]
struct Links(Arc<Mutex<HashSet<String>>>);

impl Links {
    fn has(&self, name: &str) -> bool {
        self.0.lock().unwrap().contains(name)
    }

    fn take(&self, name: &str) -> bool {
        self.0.lock().unwrap().remove(name)
    }

    fn add(&self, name: &str) {
        self.0.lock().unwrap().insert(name.to_owned());
    }
}

/// A parent's disk, and where its files are linked to.
#[derive(Debug)]
struct Linking {
    disk: SimDisk,
    storage: SimStorage,
    to: Arc<SimStorage>,
    links: Links,
}

impl Linking {
    fn between(disk: &SimDisk, to: &Arc<SimStorage>, links: &Links) -> Arc<Linking> {
        Arc::new(Linking {
            disk: disk.clone(),
            storage: disk.storage(),
            to: to.clone(),
            links: links.clone(),
        })
    }

    fn watched(&self, name: &str, file: Arc<dyn StorageFile>) -> Arc<dyn StorageFile> {
        Arc::new(Watched { name: name.to_owned(), file, links: self.links.clone() })
    }
}

/// A file of a parent's.
#[derive(Debug)]
struct Watched {
    name: String,
    file: Arc<dyn StorageFile>,
    links: Links,
}

impl Watched {
    fn deny_write(&self) {
        assert!(!self.links.has(&self.name), "{} is written to, and a clone has it too", self.name);
    }
}

impl StorageFile for Watched {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.deny_write();
        self.file.set_len(len)
    }

    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        self.deny_write();
        self.file.reserve(offset, len)
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    fn write_all_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.deny_write();
        self.file.write_all_at(bufs, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn links(&self) -> io::Result<u64> {
        Ok(1 + u64::from(self.links.has(&self.name)))
    }

    fn map(&self, len: usize) -> io::Result<Mapping> {
        self.file.map(len)
    }
}

impl Storage for Linking {
    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        Ok(self.watched(name, self.storage.open(name)?))
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn StorageFile>> {
        Ok(self.watched(name, self.storage.create(name, len)?))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.storage.list()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.storage.remove(name)?;
        self.links.take(name);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.storage.rename(from, to)?;
        self.links.take(to);
        if self.links.take(from) {
            self.links.add(to);
        }
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.storage.sync_dir()
    }

    fn link(&self, name: &str, _to: &Path) -> io::Result<()> {
        let bytes = self.disk.power_cut_with(Survival::Nothing, 0).read_file(name)?;
        let file = self.to.create(name, bytes.len() as u64)?;
        file.write_all_at(&[IoSlice::new(&bytes)], 0)?;
        // The bytes are durable already; what is left to be synced is the name.
        file.sync()?;
        self.links.add(name);
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.storage.path(name)
    }
}

fn options() -> Options {
    Options::new().page_size(PAGE as u32).segment_size(64 << 10).checkpoint_bytes(64 << 10).background(false)
}

fn put(store: &Store, tag: u64, ids: impl Iterator<Item = u64>) -> Result<()> {
    put_with(store, tag, ids, Durability::Sync)
}

fn put_with(store: &Store, tag: u64, ids: impl Iterator<Item = u64>, durability: Durability) -> Result<()> {
    let mut txn = store.begin()?;
    if txn.page_count() == 0 {
        txn.truncate(PAGES)?;
        // Catalogs of several sectors, which can be torn.
        txn.set_meta(&[7; 1000])?;
    }
    for id in ids {
        txn.write(PageId(id), &[tag as u8; PAGE])?;
    }
    txn.commit_with(durability).map(drop)
}

/// A disk with a store on it, all of whose pages are of tag 1.
fn parents_disk() -> SimDisk {
    let disk = SimDisk::new(1);
    let store = Store::open_on(Arc::new(disk.storage()), options()).unwrap();
    put(&store, 1, 0..PAGES).unwrap();
    drop(store);
    disk
}

/// Every page has its tag: 1, but for the first ones, which a later commit may have written.
fn check(store: &Store, first: &[u64]) {
    let snapshot = store.snapshot();
    let view = snapshot.view();
    let tag = |id: u64| u64::from(view.page(PageId(id)).unwrap().unwrap()[0]);
    assert_eq!(snapshot.page_count(), PAGES);
    assert!(first.contains(&tag(0)), "{} and not {first:?}", tag(0));
    assert!((1..10).all(|id| tag(id) == tag(0)) && (10..PAGES).all(|id| tag(id) == 1));
    store.verify(&mut ()).unwrap();
    store.audit().unwrap();
}

/// Opens a parent, commits tag 2 to its first pages, clones it, and goes on with tag 3. Says how far that came: the last tag that was
/// acknowledged, and whether the clone was.
fn work(parent: &SimDisk, clone: &SimDisk, links: &Links, came: &mut (u64, bool)) -> Result<Cloned> {
    let to = Arc::new(clone.storage());
    let store = Store::open_on(Linking::between(parent, &to, links), options())?;
    put(&store, 2, 0..10)?;
    came.0 = 2;
    let done = store.snapshot().clone_into(&*to, Some(Path::new("staged")), &mut ())?;
    came.1 = true;
    put(&store, 3, 0..10)?;
    came.0 = 3;
    Ok(done)
}

#[test]
fn a_staged_clone_that_was_cut_off_never_opens_with_less_than_all() {
    let start = parents_disk();
    let rehearsal = SimDisk::new(1);
    let done = work(&start.clone_state(), &rehearsal, &Links::default(), &mut (0, false)).unwrap();
    assert!(done.files_linked > 1 && done.files_copied == 0, "{done:?}");
    let (mut whole, mut refused) = (0, 0);
    for index in 0..rehearsal.io_count() {
        for fault in FAULTS {
            let (parent, clone, mut came) = (start.clone_state(), SimDisk::new(index), (0, false));
            clone.fail_at(index, fault);
            // A link that fails is made up for by a copy.
            let _ = work(&parent, &clone, &Links::default(), &mut came);
            for survival in SURVIVALS {
                let after = clone.power_cut_with(survival, index);
                match Store::open_on(Arc::new(after.storage()), options().create(false)) {
                    Ok(store) => {
                        check(&store, &[2]);
                        whole += 1;
                    }
                    Err(error) => {
                        let is_clear = matches!(
                            error,
                            Error::NotFound { .. } | Error::NotAStore { .. } | Error::Corrupt { .. }
                        );
                        assert!(is_clear && !came.1, "index {index}, {fault:?}, {survival:?}: {error}");
                        refused += 1;
                    }
                }
            }
            let again = Store::open_on(Arc::new(parent.power_cut(index).storage()), options()).unwrap();
            check(&again, &[came.0]);
        }
    }
    assert!(whole > 0 && refused > 50, "{whole} and {refused}");
}

#[test]
fn a_clone_that_is_whole_stays_so_through_its_first_steps() {
    let clone = SimDisk::new(1);
    work(&parents_disk(), &clone, &Links::default(), &mut (0, false)).unwrap();
    // Opened at once, with what no sync has reached still to be seen; and after each cut.
    let cuts = (0..2).flat_map(|seed| SURVIVALS.map(|survival| clone.power_cut_with(survival, seed)));
    for start in std::iter::once(clone.clone_state()).chain(cuts) {
        let steps = |disk: &SimDisk, tag: &mut u64| {
            let store = Store::open_on(Arc::new(disk.storage()), options())?;
            for next in 3..6 {
                put(&store, next, 0..10)?;
                *tag = next;
                store.maintain(Budget::unlimited())?;
            }
            Ok::<(), Error>(())
        };
        let rehearsal = start.clone_state();
        steps(&rehearsal, &mut 2).unwrap();
        for index in 0..rehearsal.io_count() {
            let (disk, mut tag) = (start.clone_state(), 2);
            disk.fail_at(index, Fault::Crash);
            let _ = steps(&disk, &mut tag);
            for survival in SURVIVALS {
                let after = disk.power_cut_with(survival, index);
                check(&Store::open_on(Arc::new(after.storage()), options()).unwrap(), &[tag, tag + 1]);
            }
        }
    }
}

#[test]
fn a_parent_that_is_cut_off_while_it_is_cloned_comes_to_no_harm() {
    let start = parents_disk();
    let rehearsal = start.clone_state();
    work(&rehearsal, &SimDisk::new(1), &Links::default(), &mut (0, false)).unwrap();
    for index in 0..rehearsal.io_count() {
        for fault in FAULTS {
            let (parent, clone, mut came) = (start.clone_state(), SimDisk::new(index), (1, false));
            let links = Links::default();
            parent.fail_at(index, fault);
            let _ = work(&parent, &clone, &links, &mut came);
            let (after, to) = (parent.power_cut(index), Arc::new(SimDisk::new(1).storage()));
            // Whether the clone still has its files, or has given them up.
            for links in [links, Links::default()] {
                let after = after.clone_state();
                let store = Store::open_on(Linking::between(&after, &to, &links), options()).unwrap();
                check(&store, &[came.0, came.0 + 1]);
                put(&store, 4, 0..10).unwrap();
                drop(store);
                let again = Linking::between(&after.power_cut(index), &to, &links);
                check(&Store::open_on(again, options()).unwrap(), &[4]);
            }
            if came.1 {
                let clone = clone.power_cut_with(Survival::Nothing, index);
                check(&Store::open_on(Arc::new(clone.storage()), options()).unwrap(), &[2]);
            }
        }
    }
}
