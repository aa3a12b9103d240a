//! Goal: the store does what a plain map of maps does, whatever the order of operations.
//!
//! Method: proptest draws a list of operations (several transactions open at once, snapshots taken, cloned and dropped,
//! snapshots named, renamed and dropped, truncations both ways, frees, meta, rollbacks, bursts of commits, syncs, maintenance, clean reopening) and runs it on
//! a store and on a model: one `State` a version, and for conflicts the version in which each page id was last
//! changed. Every answer is compared, conflicts included; snapshots are compared page by page.
//!
//! `VELLUM_CASES=n` sets the number of lists for each of three kinds of store (default 300), `VELLUM_SEED=s` their seed;
//! a failure prints both the seed and the smallest list that fails.
#![allow(
    clippy::too_many_lines,
    clippy::assigning_clones,
    clippy::cast_possible_truncation,
    reason = "tests count in small numbers"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use common::{PAGE, contents, env, seed, small};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use vellum::storage::MemoryStorage;
use vellum::{Durability, Error, Isolation, Options, PageId, Snapshot, Store, Version, WriteTxn};

#[derive(Clone, Debug)]
enum Op {
    Begin {
        serializable: bool,
    },
    Write {
        txn: usize,
        page: u64,
        tag: u64,
    },
    Mutate {
        txn: usize,
        page: u64,
        tag: u64,
    },
    Read {
        txn: usize,
        page: u64,
    },
    Allocate {
        txn: usize,
        count: u64,
    },
    Free {
        txn: usize,
        page: u64,
    },
    Truncate {
        txn: usize,
        count: u64,
    },
    SetMeta {
        txn: usize,
        tag: u64,
    },
    ReadMeta {
        txn: usize,
    },
    ReadPageCount {
        txn: usize,
    },
    Commit {
        txn: usize,
        synced: bool,
    },
    Rollback {
        txn: usize,
    },
    /// Begin, write a few pages, commit; many times.
    Burst {
        commits: u64,
        page: u64,
        tag: u64,
    },
    Snapshot,
    Clone {
        snapshot: usize,
    },
    Drop {
        snapshot: usize,
    },
    /// Creates the named snapshot, or drops it if it is there.
    Name {
        name: u8,
    },
    Rename {
        from: u8,
        to: u8,
    },
    Check,
    Diff {
        older: usize,
        newer: usize,
    },
    Sync,
    Maintain,
    Verify,
    Reopen {
        close: bool,
    },
}

/// Page ids: dense ones, and those at the edges of leaves and of inner nodes.
fn page() -> impl Strategy<Value = u64> {
    prop_oneof![
        14 => 0u64..5,
        6 => 0u64..20,
        6 => 0u64..300,
        2 => prop_oneof![Just(63u64), Just(64), Just(127), Just(128), Just(4095), Just(4096), Just(4097), Just(9000)],
    ]
}

fn count() -> impl Strategy<Value = u64> {
    prop_oneof![
        6 => 0u64..30,
        4 => 0u64..300,
        2 => prop_oneof![Just(0u64), Just(1), Just(64), Just(65), Just(4096), Just(4097), Just(10_000)],
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let txn = || 0usize..4;
    prop_oneof![
        10 => any::<bool>().prop_map(|serializable| Op::Begin { serializable }),
        20 => (txn(), page(), 0u64..1000).prop_map(|(txn, page, tag)| Op::Write { txn, page, tag }),
        10 => (txn(), page(), 0u64..1000).prop_map(|(txn, page, tag)| Op::Mutate { txn, page, tag }),
        10 => (txn(), page()).prop_map(|(txn, page)| Op::Read { txn, page }),
        12 => (txn(), 1u64..12).prop_map(|(txn, count)| Op::Allocate { txn, count }),
        8 => (txn(), page()).prop_map(|(txn, page)| Op::Free { txn, page }),
        4 => (txn(), count()).prop_map(|(txn, count)| Op::Truncate { txn, count }),
        3 => (txn(), 0u64..1000).prop_map(|(txn, tag)| Op::SetMeta { txn, tag }),
        2 => txn().prop_map(|txn| Op::ReadMeta { txn }),
        2 => txn().prop_map(|txn| Op::ReadPageCount { txn }),
        20 => (txn(), any::<bool>()).prop_map(|(txn, synced)| Op::Commit { txn, synced }),
        3 => txn().prop_map(|txn| Op::Rollback { txn }),
        4 => (1u64..60, page(), 0u64..1000).prop_map(|(commits, page, tag)| Op::Burst { commits, page, tag }),
        6 => Just(Op::Snapshot),
        3 => (0usize..8).prop_map(|snapshot| Op::Clone { snapshot }),
        7 => (0usize..8).prop_map(|snapshot| Op::Drop { snapshot }),
        6 => (0u8..6).prop_map(|name| Op::Name { name }),
        2 => (0u8..6, 0u8..6).prop_map(|(from, to)| Op::Rename { from, to }),
        3 => Just(Op::Check),
        3 => (0usize..8, 0usize..8).prop_map(|(older, newer)| Op::Diff { older, newer }),
        2 => Just(Op::Sync),
        3 => Just(Op::Maintain),
        2 => Just(Op::Verify),
        2 => any::<bool>().prop_map(|close| Op::Reopen { close }),
    ]
}

#[derive(Clone, Default, PartialEq, Eq)]
struct State {
    page_count: u64,
    pages: BTreeMap<u64, Rc<Vec<u8>>>,
    meta: Vec<u8>,
}

/// A transaction as the model sees it.
struct ModelTxn {
    snapshot: u64,
    base: Rc<State>,
    view: State,
    /// Ids whose change is to be committed.
    changed: BTreeSet<u64>,
    truncate_to: Option<u64>,
    sets_meta: bool,
    reads: Option<BTreeSet<u64>>,
    reads_page_count: bool,
    reads_meta: bool,
}

impl ModelTxn {
    /// Whether the transaction knows of its own what the page holds.
    fn knows(&self, id: u64) -> bool {
        self.changed.contains(&id) || self.truncate_to.is_some_and(|cut| id >= cut)
    }

    fn note_read(&mut self, id: u64) {
        if !self.knows(id)
            && let Some(reads) = &mut self.reads
        {
            reads.insert(id);
        }
    }

    fn put(&mut self, id: u64, bytes: Vec<u8>) {
        self.view.pages.insert(id, Rc::new(bytes));
        self.changed.insert(id);
    }

    fn free(&mut self, id: u64) {
        self.view.pages.remove(&id);
        let is_stored = self.base.pages.contains_key(&id) && self.truncate_to.is_none_or(|cut| id < cut);
        if is_stored {
            self.changed.insert(id);
        } else {
            // It was the transaction's own; nothing of it remains.
            self.changed.remove(&id);
        }
    }

    fn truncate(&mut self, count: u64) {
        self.view.pages.split_off(&count);
        self.changed.split_off(&count);
        self.truncate_to = Some(self.truncate_to.map_or(count, |cut| cut.min(count)));
        self.view.page_count = count;
    }

    fn is_empty(&self) -> bool {
        self.changed.is_empty()
            && self.truncate_to.is_none()
            && !self.sets_meta
            && self.view.page_count == self.base.page_count
    }
}

struct Model {
    versions: BTreeMap<u64, Rc<State>>,
    /// The version that last changed each id, frees included.
    births: BTreeMap<u64, u64>,
    cuts: Vec<(u64, u64)>,
    page_count_birth: u64,
    meta_birth: u64,
    names: BTreeMap<String, u64>,
}

impl Model {
    fn new() -> Model {
        Model {
            versions: BTreeMap::from([(0, Rc::new(State::default()))]),
            births: BTreeMap::new(),
            cuts: Vec::new(),
            page_count_birth: 0,
            meta_birth: 0,
            names: BTreeMap::new(),
        }
    }

    /// A version with the contents of the one before: what a change of the names makes.
    fn next_version(&mut self) -> u64 {
        let (tip, state) = self.tip();
        self.versions.insert(tip + 1, state);
        tip + 1
    }

    fn tip(&self) -> (u64, Rc<State>) {
        let (version, state) = self.versions.last_key_value().unwrap();
        (*version, state.clone())
    }

    fn begin(&self, serializable: bool) -> ModelTxn {
        let (snapshot, base) = self.tip();
        ModelTxn {
            snapshot,
            view: (*base).clone(),
            base,
            changed: BTreeSet::new(),
            truncate_to: None,
            sets_meta: false,
            reads: serializable.then(BTreeSet::new),
            reads_page_count: false,
            reads_meta: false,
        }
    }

    fn was_changed_since(&self, id: u64, snapshot: u64) -> bool {
        self.births.get(&id).is_some_and(|birth| *birth > snapshot)
            || self.cuts.iter().any(|(version, count)| *version > snapshot && id >= *count)
    }

    fn conflicts(&self, txn: &ModelTxn) -> bool {
        let pages = txn.changed.iter().chain(txn.reads.iter().flatten());
        let on_pages = pages.into_iter().any(|id| self.was_changed_since(*id, txn.snapshot));
        let on_end =
            (txn.truncate_to.is_some() || txn.reads_page_count) && self.page_count_birth > txn.snapshot;
        let on_cut = txn
            .truncate_to
            .is_some_and(|cut| self.births.range(cut..).any(|(_, birth)| *birth > txn.snapshot));
        let on_meta = (txn.sets_meta || txn.reads_meta) && self.meta_birth > txn.snapshot;
        on_pages || on_end || on_cut || on_meta
    }

    fn commit(&mut self, txn: &ModelTxn) -> u64 {
        let (tip, state) = self.tip();
        let version = tip + 1;
        let mut next = (*state).clone();
        if let Some(cut) = txn.truncate_to {
            next.pages.split_off(&cut);
            self.births.split_off(&cut);
            self.cuts.push((version, cut));
            if next.page_count != cut {
                self.page_count_birth = version;
            }
            next.page_count = cut;
        }
        for id in &txn.changed {
            match txn.view.pages.get(id) {
                Some(bytes) => next.pages.insert(*id, bytes.clone()),
                None => next.pages.remove(id),
            };
            self.births.insert(*id, version);
        }
        let moves_end = txn.truncate_to.is_some() || txn.view.page_count > txn.base.page_count;
        if moves_end && txn.view.page_count > next.page_count {
            next.page_count = txn.view.page_count;
            self.page_count_birth = version;
        }
        if txn.sets_meta {
            next.meta = txn.view.meta.clone();
            self.meta_birth = version;
        }
        self.versions.insert(version, Rc::new(next));
        version
    }
}

/// Where the store lives.
enum Home {
    Unnamed,
    Memory(Arc<MemoryStorage>),
    Dir(tempfile::TempDir),
}

impl Home {
    fn open(&self, options: &Options) -> vellum::Result<Store> {
        match self {
            Home::Unnamed => Store::in_memory(options.clone()),
            Home::Memory(storage) => Store::open_on(storage.clone(), options.clone()),
            Home::Dir(dir) => Store::open(dir.path().join("store"), options.clone()),
        }
    }
}

struct World {
    home: Home,
    options: Options,
    store: Option<Store>,
    model: Model,
    txns: Vec<(WriteTxn, ModelTxn)>,
    snapshots: Vec<Snapshot>,
    conflicts: u64,
    commits: u64,
}

impl World {
    fn new(home: Home, options: Options) -> World {
        let store = Some(home.open(&options).unwrap());
        let (txns, snapshots) = (Vec::new(), Vec::new());
        World { home, options, store, model: Model::new(), txns, snapshots, conflicts: 0, commits: 0 }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn run(&mut self, op: &Op) {
        match *op {
            Op::Begin { serializable } => {
                if self.txns.len() < 4 {
                    let isolation = if serializable { Isolation::Serializable } else { Isolation::Snapshot };
                    let txn = self.store().begin_with(isolation).unwrap();
                    let model = self.model.begin(serializable);
                    assert_eq!(txn.version(), Version(model.snapshot));
                    self.txns.push((txn, model));
                }
            }
            Op::Commit { txn, synced } => {
                if !self.txns.is_empty() {
                    let (txn, model) = self.txns.remove(txn % self.txns.len());
                    self.commit(txn, &model, synced);
                }
            }
            Op::Rollback { txn } => {
                if !self.txns.is_empty() {
                    self.txns.remove(txn % self.txns.len());
                }
            }
            Op::Burst { commits, page, tag } => self.burst(commits, page, tag),
            Op::Snapshot => {
                if self.snapshots.len() < 8 {
                    self.snapshots.push(self.store().snapshot());
                }
            }
            Op::Clone { snapshot } => {
                if !self.snapshots.is_empty() && self.snapshots.len() < 8 {
                    let clone = self.snapshots[snapshot % self.snapshots.len()].clone();
                    self.snapshots.push(clone);
                }
            }
            Op::Drop { snapshot } => {
                if !self.snapshots.is_empty() {
                    self.snapshots.remove(snapshot % self.snapshots.len());
                }
            }
            Op::Name { name } => self.name(&format!("n{name}")),
            Op::Rename { from, to } => self.rename(&format!("n{from}"), &format!("n{to}")),
            Op::Check => self.check(),
            Op::Diff { older, newer } => self.diff(older, newer),
            Op::Sync => {
                self.store().sync().unwrap();
                assert_eq!(self.store().stats().durable_version, Version(self.model.tip().0));
            }
            Op::Maintain => {
                assert!(self.store().maintain(vellum::Budget::unlimited()).unwrap().is_done);
                self.store().audit().unwrap();
            }
            Op::Verify => self.verify(),
            Op::Reopen { close } => self.reopen(close),
            ref inner => self.change(inner),
        }
    }

    /// Operations within a transaction.
    fn change(&mut self, op: &Op) {
        let (Op::Write { txn, .. }
        | Op::Mutate { txn, .. }
        | Op::Read { txn, .. }
        | Op::Allocate { txn, .. }
        | Op::Free { txn, .. }
        | Op::Truncate { txn, .. }
        | Op::SetMeta { txn, .. }
        | Op::ReadMeta { txn }
        | Op::ReadPageCount { txn }) = op
        else {
            unreachable!("the other operations are done")
        };
        if self.txns.is_empty() {
            return;
        }
        let index = txn % self.txns.len();
        let (txn, model) = &mut self.txns[index];
        let check_end = |result: &vellum::Result<()>, page: u64, model: &mut ModelTxn| {
            let is_beyond = page >= model.view.page_count;
            if is_beyond {
                let count = model.view.page_count;
                assert!(
                    matches!(result, Err(Error::PageOutOfRange { page: p, page_count: c }) if *p == PageId(page) && *c == count),
                    "{result:?}"
                );
                model.reads_page_count = model.reads.is_some();
            }
            is_beyond
        };
        match *op {
            Op::Write { page, tag, .. } => {
                let bytes = contents(page, tag);
                let result = txn.write(PageId(page), &bytes);
                if !check_end(&result, page, model) {
                    result.unwrap();
                    model.put(page, bytes);
                }
            }
            Op::Mutate { page, tag, .. } => {
                let result = txn.page_mut(PageId(page)).map(|bytes| bytes[(tag as usize) % PAGE] = tag as u8);
                if !check_end(&result, page, model) {
                    result.unwrap();
                    model.note_read(page);
                    let mut bytes = model.view.pages.get(&page).map_or(vec![0; PAGE], |old| (**old).clone());
                    bytes[(tag as usize) % PAGE] = tag as u8;
                    model.put(page, bytes);
                }
            }
            Op::Read { page, .. } => {
                let mut bytes = vec![0xee; PAGE];
                let found = txn.read(PageId(page), &mut bytes);
                if !check_end(&found.clone().map(drop), page, model) {
                    match model.view.pages.get(&page) {
                        Some(expected) => {
                            assert!(found.unwrap() && **expected == bytes, "page {page} of a transaction");
                        }
                        None => assert!(!found.unwrap() && bytes == vec![0xee; PAGE], "absent page {page}"),
                    }
                    model.note_read(page);
                }
            }
            Op::Allocate { count, .. } => {
                for _ in 0..count {
                    let id = txn.allocate().unwrap().0;
                    assert!(!model.view.pages.contains_key(&id), "allocated page {id} is in use");
                    model.view.page_count = model.view.page_count.max(id + 1);
                    model.put(id, vec![0; PAGE]);
                }
            }
            Op::Free { page, .. } => {
                let result = txn.free(PageId(page));
                if !check_end(&result, page, model) {
                    if model.view.pages.contains_key(&page) {
                        result.unwrap();
                        model.free(page);
                    } else {
                        assert!(
                            matches!(result, Err(Error::PageNotAllocated { page: p }) if p == PageId(page))
                        );
                        // The answer tells that the page holds nothing.
                        model.note_read(page);
                    }
                }
            }
            Op::Truncate { count, .. } => {
                txn.truncate(count).unwrap();
                model.truncate(count);
            }
            Op::SetMeta { tag, .. } => {
                let meta =
                    [contents(tag, 0), contents(tag, 1)].concat()[..(tag * 41 % 1025) as usize].to_vec();
                txn.set_meta(&meta).unwrap();
                model.view.meta = meta;
                model.sets_meta = true;
            }
            Op::ReadMeta { .. } => {
                assert_eq!(txn.meta(), model.view.meta);
                model.reads_meta |= model.reads.is_some() && !model.sets_meta;
            }
            Op::ReadPageCount { .. } => {
                assert_eq!(txn.page_count(), model.view.page_count);
                model.reads_page_count |= model.reads.is_some();
            }
            _ => unreachable!("matched above"),
        }
    }

    fn commit(&mut self, txn: WriteTxn, model: &ModelTxn, synced: bool) {
        let durability = if synced { Durability::Sync } else { Durability::Buffered };
        let result = txn.commit_with(durability);
        if model.is_empty() {
            assert_eq!(result.unwrap(), Version(model.snapshot));
        } else if self.model.conflicts(model) {
            assert!(result.as_ref().is_err_and(Error::is_conflict), "expected a conflict, not {result:?}");
            self.conflicts += 1;
        } else {
            let version = self.model.commit(model);
            assert_eq!(result.unwrap(), Version(version));
            self.commits += 1;
            if synced {
                assert_eq!(self.store().stats().durable_version, Version(version));
            }
        }
        assert_eq!(self.store().version(), Version(self.model.tip().0));
        let (snapshot, (_, state)) = (self.store().snapshot(), self.model.tip());
        assert_eq!(snapshot.live_pages(), state.pages.len() as u64);
        assert_eq!((snapshot.page_count(), snapshot.meta()), (state.page_count, &*state.meta));
    }

    fn burst(&mut self, commits: u64, page: u64, tag: u64) {
        for n in 0..commits {
            let (mut txn, mut model) = (self.store().begin().unwrap(), self.model.begin(false));
            for k in 0..=(n % 4) {
                let id = page + k;
                if id < model.view.page_count {
                    txn.write(PageId(id), &contents(id, tag + n)).unwrap();
                    model.put(id, contents(id, tag + n));
                } else {
                    let id = txn.allocate().unwrap().0;
                    model.view.page_count = model.view.page_count.max(id + 1);
                    model.put(id, vec![0; PAGE]);
                }
            }
            // In a store on disk every sync costs; one in eight is enough.
            self.commit(txn, &model, n % 8 == 0);
        }
    }

    fn name(&mut self, name: &str) {
        if self.model.names.remove(name).is_some() {
            let again = self.store().create_snapshot(name);
            assert!(matches!(again, Err(Error::SnapshotExists { .. })), "{again:?}");
            self.store().drop_snapshot(name).unwrap();
            self.model.next_version();
        } else {
            let gone = self.store().drop_snapshot(name);
            assert!(matches!(gone, Err(Error::SnapshotNotFound { .. })), "{gone:?}");
            let snapshot = self.store().create_snapshot(name).unwrap();
            let version = self.model.next_version();
            assert_eq!(snapshot.version(), Version(version));
            self.model.names.insert(name.to_owned(), version);
        }
        assert_eq!(self.store().version(), Version(self.model.tip().0));
    }

    fn rename(&mut self, from: &str, to: &str) {
        let result = self.store().rename_snapshot(from, to);
        let names = &mut self.model.names;
        match (names.contains_key(from), names.contains_key(to)) {
            (false, _) => assert!(matches!(result, Err(Error::SnapshotNotFound { .. })), "{result:?}"),
            (true, true) => assert!(matches!(result, Err(Error::SnapshotExists { .. })), "{result:?}"),
            (true, false) => {
                result.unwrap();
                let version = names.remove(from).unwrap();
                names.insert(to.to_owned(), version);
                self.model.next_version();
            }
        }
    }

    fn check(&self) {
        let found: BTreeMap<String, u64> =
            self.store().snapshots().into_iter().map(|named| (named.name, named.version.0)).collect();
        assert_eq!(found, self.model.names);
        for (name, version) in &self.model.names {
            check_snapshot(&self.store().open_snapshot(name).unwrap(), &self.model.versions[version]);
        }
        let tip = self.store().snapshot();
        for snapshot in self.snapshots.iter().chain([&tip]) {
            check_snapshot(snapshot, &self.model.versions[&snapshot.version().0]);
        }
        let view = self.store().view();
        let state = &self.model.tip().1;
        for (id, bytes) in &state.pages {
            assert!(view.page(PageId(*id)).unwrap() == Some(bytes), "page {id} of the current version");
        }
    }

    fn diff(&self, older: usize, newer: usize) {
        if self.snapshots.is_empty() {
            return;
        }
        let older = &self.snapshots[older % self.snapshots.len()];
        let newer = &self.snapshots[newer % self.snapshots.len()];
        let before = &self.model.versions[&older.version().0];
        let after = &self.model.versions[&newer.version().0];
        let found: BTreeMap<u64, bool> =
            newer.diff(older).unwrap().into_iter().map(|(id, held)| (id.0, held)).collect();
        let ids: BTreeSet<u64> = before.pages.keys().chain(after.pages.keys()).copied().collect();
        for id in ids {
            let (old, new) = (before.pages.get(&id), after.pages.get(&id));
            if old != new {
                assert_eq!(found.get(&id), Some(&new.is_some()), "page {id} differs");
            }
        }
        for (id, held) in found {
            assert_eq!(after.pages.contains_key(&id), held, "page {id} of the diff");
        }
    }

    /// Equal contents have equal fingerprints, whatever their history; others differ.
    fn verify(&self) {
        let report = self.store().verify(&mut ()).unwrap();
        let (version, state) = self.model.tip();
        assert_eq!((report.version, report.pages), (Version(version), state.pages.len() as u64));
        assert_eq!(report.fingerprint, self.store().snapshot().fingerprint());
        let other = Store::in_memory(small()).unwrap();
        let ids: Vec<u64> = state.pages.keys().rev().copied().collect();
        for some in ids.chunks(7) {
            let mut txn = other.begin().unwrap();
            txn.truncate(txn.page_count().max(some[0] + 1)).unwrap();
            for id in some {
                txn.write(PageId(*id), &contents(*id, 77)).unwrap();
            }
            txn.commit().unwrap();
            let mut txn = other.begin().unwrap();
            for id in some {
                txn.write(PageId(*id), &state.pages[id]).unwrap();
            }
            txn.commit().unwrap();
        }
        assert_eq!(other.snapshot().fingerprint(), report.fingerprint, "the same pages");
        if let Some(id) = ids.first() {
            let mut txn = other.begin().unwrap();
            txn.page_mut(PageId(*id)).unwrap()[PAGE - 1] ^= 1;
            txn.commit().unwrap();
            assert_ne!(other.snapshot().fingerprint(), report.fingerprint, "another page");
        }
    }

    fn reopen(&mut self, close: bool) {
        self.check();
        if matches!(self.home, Home::Unnamed) {
            return;
        }
        self.txns.clear();
        let store = self.store.take().unwrap();
        if close {
            self.snapshots.clear();
            store.close().unwrap();
        } else {
            // Snapshots outlive the handle.
            drop(store);
            for snapshot in &self.snapshots {
                check_snapshot(snapshot, &self.model.versions[&snapshot.version().0]);
            }
            if matches!(self.home, Home::Dir(_)) && !self.snapshots.is_empty() {
                assert!(matches!(self.home.open(&self.options), Err(Error::Locked { .. })));
            }
            self.snapshots.clear();
        }
        let store = self.home.open(&self.options).unwrap();
        let recovery = store.recovery();
        assert_eq!((recovery.batches, recovery.is_torn), (0, false), "a closed store has nothing to recover");
        assert_eq!(recovery.checkpoint, Version(self.model.tip().0));
        store.audit().unwrap();
        self.store = Some(store);
        self.check();
    }
}

fn check_snapshot(snapshot: &Snapshot, state: &State) {
    let version = snapshot.version();
    assert_eq!(snapshot.page_count(), state.page_count, "page count of {version}");
    assert_eq!(snapshot.live_pages(), state.pages.len() as u64, "live pages of {version}");
    assert_eq!(snapshot.meta(), state.meta, "meta of {version}");
    let view = snapshot.view();
    for id in 0..state.page_count {
        let expected = state.pages.get(&id).map(|bytes| &***bytes);
        assert!(view.page(PageId(id)).unwrap() == expected, "page {id} of {version}");
    }
    let mut bytes = vec![0; PAGE];
    for (id, expected) in state.pages.iter().take(3) {
        assert!(snapshot.read(PageId(*id), &mut bytes).unwrap() && bytes == **expected);
    }
    assert!(matches!(view.page(PageId(state.page_count)), Err(Error::PageOutOfRange { .. })));
}

fn explore(kind: &str, home: impl Fn() -> Home) {
    let begun = std::time::Instant::now();
    let seed = seed("model");
    let cases = env("VELLUM_CASES", 300) as u32;
    let config = Config {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters: 4000,
        ..Config::default()
    };
    let totals = std::cell::Cell::new((0u64, 0u64, 0u64));
    let strategy =
        (any::<bool>(), prop_oneof![Just(0u64), 1u64..8, 1u64..300], prop::collection::vec(op(), 1..400));
    let outcome = TestRunner::new(config).run(&strategy, |(background, start, ops)| {
        let mut world = World::new(home(), small().background(background));
        if start > 0 {
            // Some lists begin with pages, so that conflicts are met early.
            world.run(&Op::Begin { serializable: false });
            world.run(&Op::Allocate { txn: 0, count: start });
            world.run(&Op::Commit { txn: 0, synced: true });
        }
        for op in &ops {
            world.run(op);
        }
        world.check();
        world.verify();
        world.reopen(false);
        let (o, c, f) = totals.get();
        totals.set((o + ops.len() as u64, c + world.commits, f + world.conflicts));
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("VELLUM_SEED={seed} VELLUM_CASES={cases} cargo test --test model {kind}\n{failure}");
    }
    let (ops, commits, conflicts) = totals.get();
    println!(
        "{kind}: {cases} lists, {ops} operations, {commits} commits, {conflicts} conflicts, {:?}",
        begun.elapsed()
    );
}

#[test]
fn store_in_memory_follows_the_model() {
    explore("store_in_memory", || Home::Unnamed);
}

#[test]
fn store_reopened_from_memory_follows_the_model() {
    explore("store_reopened_from_memory", || Home::Memory(Arc::new(MemoryStorage::new())));
}

#[test]
fn store_on_disk_follows_the_model() {
    explore("store_on_disk", || Home::Dir(tempfile::tempdir().unwrap()));
}
