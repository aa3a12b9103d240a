//! What a history is: transactions, what each read and wrote, when it ran and how it ended.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use vellum::Isolation;

pub(crate) type Key = u64;
/// No two writes of a history write the same value.
pub(crate) type Value = u64;

/// What a write does to a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// It appends to a list: each read then shows the whole past of the key.
    List,
    /// It replaces the value: the order of the versions is the order of the commits that made them.
    Register,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Op {
    /// The values found: of a register, at most one.
    Read {
        key: Key,
        found: Vec<Value>,
    },
    Write {
        key: Key,
        value: Value,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// In the version that the store told.
    Committed(u64),
    /// Given up, or refused.
    Aborted,
    /// It failed in a way that leaves open whether it was committed.
    InDoubt,
    /// A crash took it, as it may; what it read doesn't count any more.
    Lost,
}

#[derive(Clone, Debug)]
pub(crate) struct Txn {
    pub(crate) name: String,
    pub(crate) level: Isolation,
    pub(crate) ops: Vec<Op>,
    pub(crate) outcome: Outcome,
    /// Whether the commit was acknowledged as durable.
    pub(crate) is_durable: bool,
    /// Moments of one clock for the whole history.
    pub(crate) began: u64,
    pub(crate) ended: u64,
}

impl Txn {
    pub(crate) fn writes(&self) -> impl DoubleEndedIterator<Item = (Key, Value)> + '_ {
        self.ops.iter().filter_map(|op| match op {
            Op::Write { key, value } => Some((*key, *value)),
            Op::Read { .. } => None,
        })
    }

    /// What the transaction read of a key before it wrote it.
    pub(crate) fn external_reads(&self) -> Vec<(Key, &[Value])> {
        let mut seen = std::collections::BTreeSet::new();
        let mut reads = Vec::new();
        for op in &self.ops {
            match op {
                Op::Read { key, found } if seen.insert(*key) => reads.push((*key, &found[..])),
                Op::Read { .. } => {}
                Op::Write { key, .. } => drop(seen.insert(*key)),
            }
        }
        reads
    }
}

/// Collects what the threads do.
#[derive(Default)]
pub(crate) struct Recorder {
    clock: AtomicU64,
    values: AtomicU64,
    txns: Mutex<Vec<Txn>>,
}

impl Recorder {
    pub(crate) fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    pub(crate) fn new_value(&self) -> Value {
        1 + self.values.fetch_add(1, Ordering::Relaxed)
    }

    /// How many transactions have ended.
    pub(crate) fn len(&self) -> u64 {
        self.txns.lock().unwrap().len() as u64
    }

    pub(crate) fn add(&self, txn: Txn) {
        self.txns.lock().unwrap().push(txn);
    }

    pub(crate) fn history(&self) -> Vec<Txn> {
        self.txns.lock().unwrap().clone()
    }
}
