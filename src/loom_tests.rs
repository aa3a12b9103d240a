//! Goal: the concurrent core keeps its promises under every interleaving and every reordering that the memory model
//! allows.
//!
//! Method: loom runs the real `Published`, `Epoch`, `Grace`, `Registry` and `GroupCommit` (with the real crossbeam-epoch)
//! exhaustively up to a number of preemptions, one that takes seconds each (`LOOM_MAX_PREEMPTIONS` overrules it). Payloads carry a canary that loom
//! watches: using one that was freed, or freeing one in use, is an error. Each model prints how many interleavings it
//! explored. Then the same models run with a bug planted, in the model or in the code itself (`sync::Planted`), and must fail.
//!
//! `RUSTFLAGS="--cfg loom --cfg crossbeam_loom" cargo test --lib --release --target-dir target/loom loom_tests -- --nocapture`
#![allow(unsafe_code)]

mod checkpoint;
mod handover;
mod limbo;
mod pins;
mod queue;
mod segments;

use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering as StdOrdering};

use loom::cell::UnsafeCell;
use loom::sync::Arc;

use crate::id::{Location, PageId, Version};
use crate::planted::{CHILD, check_found};
use crate::sync::{PLANTED, Planted};
use crate::table::lookup::lookup;
use crate::table::node::{Entry, FANOUT, Link, NodeAddress, NodePointer};
use crate::table::places::for_each_place;
use crate::table::root::Root;
use crate::table::slab::{NodeImage, NodeSource, Slab};
use crate::version::epoch::Epoch;
use crate::version::grace::Grace;
use crate::version::published::Published;
use crate::version::registry::{Note, Registry, Released};

/// What stands for a version's root: its canary is 1 while it lives.
struct Payload {
    canary: UnsafeCell<u32>,
}

impl Payload {
    fn new() -> Box<Payload> {
        Box::new(Payload { canary: UnsafeCell::new(1) })
    }

    fn read(&self) {
        // SAFETY: loom checks that nobody writes meanwhile; that is the point.
        self.canary.with(|canary| assert_eq!(unsafe { *canary }, 1, "a freed version was read"));
    }

    /// Ends a payload's life. The memory itself is only given back when the model ends, so that a wrong use shows as a
    /// wrong canary and not as a crash of the test.
    fn end(&self) {
        // SAFETY: loom checks that nobody reads meanwhile; that is the point.
        self.canary.with_mut(|canary| unsafe { *canary = 0 });
    }
}

/// Bugs planted in a model's reclaimer or reader.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bug {
    None,
    /// Freed at once after the publish.
    NoGrace,
    /// The grace period begins before the publish.
    TicketBeforePublish,
    /// The slots are scanned before the grace period has passed.
    ScanBeforeGrace,
    /// The slot is filled after the guard was dropped.
    RegisterAfterUnpin,
    /// The slots are not looked at at all.
    NoScan,
}

struct Core {
    epoch: Epoch,
    grace: Grace,
    published: Published<Payload>,
    registry: Registry<Payload>,
}

impl Core {
    fn new() -> Arc<Core> {
        let published = Published::new(Payload::new());
        Arc::new(Core { epoch: Epoch::new(), grace: Grace::new(), published, registry: Registry::new() })
    }

    fn current(&self) -> NonNull<Payload> {
        let guard = self.epoch.pin();
        NonNull::from(self.published.load(&guard))
    }

    fn sees(&self, payload: NonNull<Payload>) -> bool {
        let mut is_seen = false;
        self.registry.scan(|found| is_seen |= found == payload);
        is_seen
    }

    /// Publishes a new version and ends the old one, following the reclaimer's protocol. Returns whether it ended.
    fn commit(&self, bug: Bug) -> bool {
        let old = self.current();
        let issue = || self.grace.issue(&self.epoch.pin());
        let early = (bug == Bug::TicketBeforePublish).then(issue);
        if early.is_some() {
            self.grace.advance(&self.epoch);
        }
        self.published.publish(Payload::new());
        let ticket = early.unwrap_or_else(issue);
        let seen_early = self.sees(old);
        if bug != Bug::NoGrace {
            self.grace.advance(&self.epoch);
            if self.grace.passed() < ticket {
                return false;
            }
        }
        let is_seen = match bug {
            Bug::NoScan => false,
            Bug::ScanBeforeGrace => seen_early,
            _ => self.sees(old),
        };
        if !is_seen {
            // SAFETY: the memory lives until the model ends; whether it may end is what is tested.
            unsafe { old.as_ref() }.end();
        }
        !is_seen
    }
}

/// Runs a model under loom, up to `bound` preemptions (`LOOM_MAX_PREEMPTIONS` overrules it), and tells what was explored.
fn explore(name: &str, bound: usize, model: impl Fn() + Sync + Send + 'static) {
    if std::env::var(CHILD).is_ok_and(|planted| planted != name) {
        return;
    }
    // Of this model: others run beside it.
    let iterations = std::sync::Arc::new(AtomicUsize::new(0));
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 20_000;
    let bound =
        std::env::var("LOOM_MAX_PREEMPTIONS").ok().and_then(|bound| bound.parse().ok()).unwrap_or(bound);
    builder.preemption_bound = Some(bound);
    // A run that is cut short would still say "ok".
    builder.max_duration = None;
    let begun = std::time::Instant::now();
    let counted = iterations.clone();
    builder.check(move || {
        counted.fetch_add(1, StdOrdering::Relaxed);
        model();
    });
    let iterations = iterations.load(StdOrdering::Relaxed);
    println!(
        "{name}: {iterations} interleavings, exhausted up to {bound} preemptions, {:.1?}",
        begun.elapsed()
    );
}

/// Runs a model with a bug planted; it must fail. A process of its own does it, because loom may abort on what it finds.
fn explore_planted(name: &str, bound: usize, bug: Option<Planted>, model: impl Fn() + Sync + Send + 'static) {
    if let Ok(planted) = std::env::var(CHILD) {
        if planted == name {
            PLANTED.store(bug.map_or(0, |bug| bug as u8), StdOrdering::Relaxed);
            explore(name, bound, model);
        }
        return;
    }
    let test = std::thread::current().name().expect("a test has its name").to_owned();
    check_found(&test, name, name);
}

/// A thread that opens a view, reads, and is through.
fn spawn_view(core: &Arc<Core>) -> loom::thread::JoinHandle<()> {
    let core = core.clone();
    loom::thread::spawn(move || {
        let guard = core.epoch.pin();
        core.published.load(&guard).read();
    })
}

fn a_view_beside_a_commit(bug: Bug) -> impl Fn() + Sync + Send + 'static {
    move || {
        let core = Core::new();
        let reader = spawn_view(&core);
        core.commit(bug);
        reader.join().unwrap();
    }
}

fn a_snapshot_beside_a_commit(bug: Bug) -> impl Fn() + Sync + Send + 'static {
    move || {
        let core = Core::new();
        let reader = {
            let core = core.clone();
            loom::thread::spawn(move || {
                let guard = core.epoch.pin();
                let payload = NonNull::from(core.published.load(&guard));
                let slot = if bug == Bug::RegisterAfterUnpin {
                    drop(guard);
                    core.registry.take(payload, Note::new(0, 0))
                } else {
                    let slot = core.registry.take(payload, Note::new(0, 0));
                    drop(guard);
                    slot
                };
                // SAFETY: the memory lives until the model ends; whether the version does is what is tested.
                unsafe { payload.as_ref() }.read();
                let _ = core.registry.release(slot);
            })
        };
        core.commit(bug);
        reader.join().unwrap();
    }
}

/// A disk with one inner node over one leaf.
struct TwoNodes;

const TOP: NodeAddress = NodeAddress(1);
const LEAF: NodeAddress = NodeAddress(2);

impl NodeSource for TwoNodes {
    fn read_node(&self, address: NodeAddress, _: u32) -> crate::error::Result<NodeImage> {
        let birth = Version(1);
        Ok(match address {
            TOP => {
                let mut children = [None; FANOUT];
                children[0] = Some(LEAF);
                NodeImage::Inner { birth, children }
            }
            _ => NodeImage::Leaf { birth, entries: [Entry::page(Location(7), birth, 7); FANOUT] },
        })
    }
}

struct Table {
    epoch: Epoch,
    grace: Grace,
    slab: Slab,
    root: Root,
}

impl Table {
    /// A tree on disk.
    fn new() -> Arc<Table> {
        let mut root = Root::empty(0);
        (root.height, root.page_count) = (2, FANOUT as u64);
        root.word.set(Link::Disk(TOP));
        let slab = Slab::new(Box::new(TwoNodes), u64::MAX);
        Arc::new(Table { epoch: Epoch::new(), grace: Grace::new(), slab, root })
    }

    fn read(&self) {
        let guard = self.epoch.pin();
        let entry = lookup(&self.slab, &self.root, PageId(0), &guard).expect("both nodes are there");
        assert_eq!(entry.location(), Some(Location(7)));
    }

    fn walk(&self) {
        let mut places = 0;
        for_each_place(&self.slab, &self.root, &mut |_| {
            places += 1;
            Ok(())
        })
        .expect("both nodes are there");
        assert_eq!(places, 2 + FANOUT);
    }

    /// Evicts, as [`Reclaimer::evict`](crate::version::reclaim::Reclaimer::evict) does. Returns the copies and their ticket.
    fn evict(&self) -> (Vec<NodePointer>, u64) {
        match self.slab.evict([&self.root].into_iter()) {
            Some(copies) => (copies.into_values().collect(), self.grace.issue(&self.epoch.pin())),
            None => (Vec::new(), 0),
        }
    }

    /// Ends copies whose grace period has passed.
    fn free(&self, copies: &mut Vec<NodePointer>, ticket: u64, bug: Bug) {
        self.grace.advance(&self.epoch);
        if bug == Bug::NoGrace || self.grace.passed() >= ticket {
            assert!(self.slab.free_copies(copies, usize::MAX));
        }
    }
}

/// What is in memory before the reader and the eviction begin.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    /// Nothing: the reader brings it in.
    Cold,
    /// All of it, and every word leads to it.
    Warm,
    /// All of it, but one word still leads to the disk, as one of another version's does.
    Shared,
}

fn a_reader_beside_an_eviction(bug: Bug, is_walk: bool, start: Start) -> impl Fn() + Sync + Send + 'static {
    move || {
        let mut table = Table::new();
        if start != Start::Cold {
            table.read();
        }
        if start == Start::Shared {
            let table = Arc::get_mut(&mut table).expect("nobody has it yet");
            table.root.word.set(Link::Disk(TOP));
        }
        let reader = {
            let table = table.clone();
            loom::thread::spawn(move || if is_walk { table.walk() } else { table.read() })
        };
        let (mut copies, ticket) = table.evict();
        table.free(&mut copies, ticket, bug);
        reader.join().unwrap();
        // Nobody reads any more, so no word that stayed may lead to what is freed now.
        table.free(&mut copies, ticket, bug);
        table.read();
    }
}

#[test]
fn a_node_that_is_evicted_outlives_every_reader_of_it() {
    for (name, bound, start) in [
        ("lookup beside eviction", 2, Start::Warm),
        // The longest of all: with two it takes as long as all others. The bug planted in it needs two, and is found with them.
        ("lookup that reads nodes in beside eviction", 1, Start::Cold),
        ("lookup of shared nodes beside eviction", 2, Start::Shared),
    ] {
        explore(name, bound, a_reader_beside_an_eviction(Bug::None, false, start));
    }
    explore("walk beside eviction", 2, a_reader_beside_an_eviction(Bug::NoGrace, true, Start::Warm));
    explore_planted(
        "lookup beside eviction, no grace",
        2,
        None,
        a_reader_beside_an_eviction(Bug::NoGrace, false, Start::Warm),
    );
    for (name, start) in [
        ("lookup that reads nodes in, word set late", Start::Cold),
        ("lookup of shared nodes, word set late", Start::Shared),
    ] {
        let model = a_reader_beside_an_eviction(Bug::None, false, start);
        explore_planted(name, 2, Some(Planted::LateRebase), model);
    }
}

#[test]
fn a_version_outlives_every_view_of_it() {
    explore("view beside commit", 2, a_view_beside_a_commit(Bug::None));
    explore_planted("view beside commit, no grace", 2, None, a_view_beside_a_commit(Bug::NoGrace));
    let model = a_view_beside_a_commit(Bug::TicketBeforePublish);
    explore_planted("view beside commit, grace before the publish", 2, None, model);
    let model = a_view_beside_a_commit(Bug::None);
    explore_planted("view beside commit, relaxed publish", 2, Some(Planted::RelaxedPublish), model);
}

#[test]
fn a_version_outlives_every_snapshot_of_it() {
    explore("snapshot beside commit", 2, a_snapshot_beside_a_commit(Bug::None));
    for (name, bug) in [
        ("snapshot beside commit, no scan", Bug::NoScan),
        ("snapshot beside commit, scan before grace", Bug::ScanBeforeGrace),
        ("snapshot beside commit, register after unpin", Bug::RegisterAfterUnpin),
    ] {
        explore_planted(name, 2, None, a_snapshot_beside_a_commit(bug));
    }
    let model = a_snapshot_beside_a_commit(Bug::None);
    explore_planted("snapshot beside commit, relaxed release", 2, Some(Planted::RelaxedRelease), model);
}

#[test]
fn a_clone_keeps_the_pin_until_the_last_is_dropped() {
    explore("clones beside a scan", 4, || {
        let registry = Arc::new(Registry::new());
        let mut payload = Payload::new();
        let pointer = NonNull::from(&mut *payload);
        let slot = registry.take(pointer, Note::new(0, 0));
        registry.retain(slot);
        let other = {
            let registry = registry.clone();
            loom::thread::spawn(move || registry.release(slot))
        };
        let mut is_seen = false;
        registry.scan(|found| is_seen |= found == pointer);
        assert!(is_seen, "a pin that is held is seen by every scan");
        let was_last = registry.release(slot) == Released::Last;
        let other_was = other.join().unwrap() == Released::Last;
        assert!(was_last ^ other_was, "one of two is the last");
        registry.scan(|_| panic!("nothing is pinned any more"));
    });
}

#[test]
fn slots_are_never_shared() {
    explore("free list of slots", 2, || {
        let registry = Arc::new(Registry::new());
        let take_and_release = |registry: &Registry<Payload>| {
            let mut payload = Payload::new();
            let pointer = NonNull::from(&mut *payload);
            let slots = [registry.take(pointer, Note::new(0, 0)), registry.take(pointer, Note::new(0, 0))];
            assert_ne!(slots[0], slots[1]);
            for slot in slots {
                assert_eq!(registry.payload(slot), Some(pointer), "the slot is this thread's own");
                let _ = registry.release(slot);
            }
        };
        // The first chunk is there before the threads begin: loom doesn't see the lock inside `OnceLock`.
        take_and_release(&registry);
        let other = {
            let registry = registry.clone();
            loom::thread::spawn(move || {
                let mut payload = Payload::new();
                let pointer = NonNull::from(&mut *payload);
                let slot = registry.take(pointer, Note::new(0, 0));
                assert_eq!(registry.payload(slot), Some(pointer), "the slot is this thread's own");
                let _ = registry.release(slot);
            })
        };
        let mut payload = Payload::new();
        let pointer = NonNull::from(&mut *payload);
        for _ in 0..2 {
            let slot = registry.take(pointer, Note::new(0, 0));
            assert_eq!(registry.payload(slot), Some(pointer), "the slot is this thread's own");
            let _ = registry.release(slot);
        }
        other.join().unwrap();
        assert_eq!(registry.live(), 0);
    });
}
