//! The clients: threads that run random transactions on a store and record what they see. A client can be given a flaw, which
//! makes the store look as if it had that bug.

use std::sync::atomic::{AtomicBool, Ordering};
#[cfg(not(shuttle))]
use std::thread;

#[cfg(shuttle)]
use shuttle::thread;
use vellum::{Durability, Error, Isolation, PageId, Snapshot, Store, Version, WriteTxn};

use crate::common::{PAGE, Random};
use crate::history::{Key, Kind, Op, Outcome, Recorder, Txn, Value};

/// What a client does wrong, in the store's name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flaw {
    None,
    /// Reads the current version and not the transaction's.
    ReadsCurrent,
    /// Reads without the transaction's knowing of it, so that nothing is refused for what was read.
    ReadsAside,
    /// Doesn't see its own writes.
    ForgetsOwn,
    /// Writes what it has worked out although somebody else was first.
    OverwritesWinner,
    /// Commits each write for itself.
    CommitsInPieces,
    /// Commits what it says was given up.
    CommitsAborted,
    /// Says that it was committed, and gives it up.
    LosesCommits,
    /// Reads a version that was current some time ago.
    ReadsOld,
}

/// Which isolation the transactions ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Levels {
    All(Isolation),
    Mixed,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    pub(crate) kind: Kind,
    pub(crate) levels: Levels,
    pub(crate) durability: Option<Durability>,
    pub(crate) flaw: Flaw,
    pub(crate) threads: u64,
    /// Transactions of each thread.
    pub(crate) count: u64,
}

/// Keys that are used at the same time: few, so that transactions meet.
const KEYS: u64 = 6;
/// Most values in a list.
const LEN_MAX: usize = 56;
/// A key's page; neighbours lie in different leaves of the table.
const SPREAD: u64 = 67;
/// Most keys in a store.
pub(crate) const KEYS_MAX: u64 = 400;

fn page_of(key: Key) -> PageId {
    PageId(key * SPREAD)
}

/// Makes room for all keys.
pub(crate) fn prepare(store: &Store) -> vellum::Result<()> {
    let mut txn = store.begin()?;
    txn.truncate(KEYS_MAX * SPREAD)?;
    txn.commit().map(drop)
}

/// The values, their number, and something that shows whether all of the page is of one write.
fn encode(values: &[Value]) -> Vec<u8> {
    let mut page = Vec::with_capacity(PAGE);
    page.extend((values.len() as u64).to_le_bytes());
    for value in values {
        page.extend(value.to_le_bytes());
    }
    let mut filler = Random(values.iter().fold(7u64, |sum, value| sum.wrapping_mul(31).wrapping_add(*value)));
    while page.len() < PAGE {
        page.extend(filler.next().to_le_bytes());
    }
    page
}

fn decode(page: &[u8]) -> Vec<Value> {
    let mut words = page.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap()));
    let len = usize::try_from(words.next().unwrap()).unwrap();
    let values: Vec<Value> = words.take(len).collect();
    assert!(encode(&values) == page, "a page that nobody wrote");
    values
}

fn read_in(snapshot: &Snapshot, key: Key) -> vellum::Result<Vec<Value>> {
    Ok(snapshot.view().page(page_of(key))?.map_or_else(Vec::new, decode))
}

fn read_of(txn: &WriteTxn, key: Key) -> vellum::Result<Vec<Value>> {
    let mut page = vec![0; PAGE];
    Ok(if txn.read(page_of(key), &mut page)? { decode(&page) } else { Vec::new() })
}

/// Runs a workload to its end, or until the store fails. Whether it came to its end.
pub(crate) fn run(store: &Store, recorder: &Recorder, workload: Workload, seed: u64) -> bool {
    let has_failed = AtomicBool::new(false);
    thread::scope(|scope| {
        for thread in 0..workload.threads {
            let has_failed = &has_failed;
            scope.spawn(move || {
                let random = Random(seed ^ thread << 40);
                let mut client = Client { store, recorder, workload, random, old: None };
                for n in 0..workload.count {
                    if has_failed.load(Ordering::Relaxed) {
                        return;
                    }
                    if client.step(&format!("t{thread}.{n}")).is_err() {
                        has_failed.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    !has_failed.into_inner()
}

/// Reads every key, when all is done.
pub(crate) fn read_all(store: &Store, recorder: &Recorder) {
    let began = recorder.now();
    let snapshot = store.snapshot();
    let read = |key| Op::Read { key, found: read_in(&snapshot, key).unwrap() };
    recorder.add(Txn {
        name: "the last look".into(),
        level: Isolation::Serializable,
        ops: (0..KEYS_MAX).map(read).collect(),
        outcome: Outcome::Committed(snapshot.version().0),
        is_durable: false,
        began,
        ended: recorder.now(),
    });
}

struct Client<'a> {
    store: &'a Store,
    recorder: &'a Recorder,
    workload: Workload,
    random: Random,
    old: Option<Snapshot>,
}

/// The store takes no more.
struct Failed;

impl Client<'_> {
    fn pick(&mut self) -> Key {
        let used = self.recorder.len() / 60 * KEYS;
        used.min(KEYS_MAX - KEYS) + self.random.below(KEYS)
    }

    /// Lets others go first now and then, so that transactions overlap on a machine with few processors too.
    fn pause(&mut self) {
        match self.random.below(12) {
            // shuttle has no time: there it only yields.
            0 => thread::sleep(std::time::Duration::from_micros(self.random.below(100))),
            1..5 => thread::yield_now(),
            _ => {}
        }
    }

    fn step(&mut self, name: &str) -> Result<(), Failed> {
        if self.random.below(4) == 0 { self.look(name) } else { self.transact(name) }
    }

    /// A snapshot that is read, and read again after a while.
    fn look(&mut self, name: &str) -> Result<(), Failed> {
        let began = self.recorder.now();
        let snapshot = self.store.snapshot();
        let mut ops = Vec::new();
        let keys: Vec<Key> = (0..2 + self.random.below(3)).map(|_| self.pick()).collect();
        for key in keys.iter().chain(&keys) {
            self.pause();
            let from = match self.workload.flaw {
                Flaw::ReadsCurrent => &self.store.snapshot(),
                _ => &snapshot,
            };
            ops.push(Op::Read { key: *key, found: read_in(from, *key).map_err(|_| Failed)? });
        }
        let (level, outcome) = (Isolation::Serializable, Outcome::Committed(snapshot.version().0));
        let ended = self.recorder.now();
        self.recorder.add(Txn { name: name.into(), level, ops, outcome, is_durable: false, began, ended });
        Ok(())
    }

    fn transact(&mut self, name: &str) -> Result<(), Failed> {
        let level = match self.workload.levels {
            Levels::All(level) => level,
            Levels::Mixed if self.random.below(2) == 0 => Isolation::Snapshot,
            Levels::Mixed => Isolation::Serializable,
        };
        let began = self.recorder.now();
        let mut txn = self.store.begin_with(level).map_err(|_| Failed)?;
        if self.random.below(8) == 0 || self.old.is_none() {
            self.old = Some(self.store.snapshot());
        }
        let beside = match self.workload.flaw {
            Flaw::ReadsOld => self.old.clone().unwrap(),
            _ => self.store.snapshot(),
        };
        let mut ops = Vec::new();
        let mut writes: Vec<(Key, Vec<Value>)> = Vec::new();
        let mut has_failed = false;
        for _ in 0..=self.random.below(4) {
            self.pause();
            let (key, choice) = (self.pick(), self.random.below(8));
            let is_blind = self.workload.kind == Kind::Register && choice == 0;
            let mut values = Vec::new();
            if !is_blind {
                let found = match self.workload.flaw {
                    Flaw::ReadsCurrent => read_in(&self.store.snapshot(), key),
                    Flaw::ForgetsOwn | Flaw::ReadsOld => read_in(&beside, key),
                    Flaw::ReadsAside => match writes.iter().rfind(|(written, _)| *written == key) {
                        Some((_, values)) => Ok(values.clone()),
                        None => read_in(&beside, key),
                    },
                    _ => read_of(&txn, key),
                };
                // A read that fails shows nothing.
                let Ok(found) = found else {
                    has_failed = true;
                    break;
                };
                values.clone_from(&found);
                ops.push(Op::Read { key, found });
            }
            if choice > 4 || values.len() >= LEN_MAX {
                continue;
            }
            if self.workload.kind == Kind::Register {
                values.clear();
            }
            let value = self.recorder.new_value();
            values.push(value);
            ops.push(Op::Write { key, value });
            has_failed |= txn.write(page_of(key), &encode(&values)).is_err();
            writes.push((key, values));
        }
        self.pause();
        let durability = match (self.workload.durability, self.random.below(3)) {
            (Some(durability), _) => durability,
            (None, 0) => Durability::Sync,
            (None, _) => Durability::Buffered,
        };
        let is_given_up = self.random.below(10) == 0;
        let result = match self.workload.flaw {
            Flaw::CommitsInPieces if !is_given_up => self.commit_in_pieces(&writes),
            Flaw::LosesCommits if self.random.below(10) == 0 => Ok(self.store.version()),
            Flaw::CommitsAborted if is_given_up => txn.commit_with(durability).and(Err(given_up())),
            _ if is_given_up || has_failed => Err(given_up()),
            Flaw::OverwritesWinner => match txn.commit_with(durability) {
                Err(error) if error.is_conflict() => self.overwrite(&writes),
                done => done,
            },
            _ => txn.commit_with(durability),
        };
        let (outcome, mut ended) = match &result {
            Ok(version) => (Outcome::Committed(version.0), 0),
            Err(
                Error::Conflict { .. }
                | Error::LimboFull { .. }
                | Error::Full { .. }
                | Error::NotFound { .. },
            ) => (Outcome::Aborted, 0),
            Err(_) => (Outcome::InDoubt, u64::MAX),
        };
        if ended == 0 {
            ended = self.recorder.now();
        }
        // What wrote nothing has nothing that could be lost.
        let is_durable = result.is_ok() && durability == Durability::Sync && !writes.is_empty();
        self.recorder.add(Txn { name: name.into(), level, ops, outcome, is_durable, began, ended });
        if outcome == Outcome::InDoubt { Err(Failed) } else { Ok(()) }
    }

    fn overwrite(&self, writes: &[(Key, Vec<Value>)]) -> vellum::Result<Version> {
        let mut txn = self.store.begin()?;
        for (key, values) in writes {
            txn.write(page_of(*key), &encode(values))?;
        }
        txn.commit_with(Durability::Buffered)
    }

    /// Each write in a transaction of its own, whatever anybody has read.
    fn commit_in_pieces(&mut self, writes: &[(Key, Vec<Value>)]) -> vellum::Result<Version> {
        let mut version = self.store.version();
        for write in writes {
            version = self.overwrite(std::slice::from_ref(write))?;
            self.pause();
        }
        Ok(version)
    }
}

/// Stands for a transaction that was dropped.
fn given_up() -> Error {
    Error::NotFound { dir: "given up".into() }
}
