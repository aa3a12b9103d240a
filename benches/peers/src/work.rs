//! What a child is asked to do, and what it answers: one JSON line each.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How pages are chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Choice {
    Uniform,
    Zipfian,
}

/// How much of each page is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Look {
    EightBytes,
    WholePage,
}

/// One sample.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Work {
    /// Pin and drop views, and snapshots.
    Pin,
    /// Read pages at random from `threads` threads.
    Read {
        choice: Choice,
        look: Look,
        threads: u32,
    },
    /// The same at random from one thread, where 64 ids are known at once.
    ReadTogether {
        look: Look,
    },
    /// Commit transactions of `pages` random pages each from `writers` threads.
    Commit {
        is_durable: bool,
        pages: u32,
        writers: u32,
    },
    /// One writer alone, one reader alone, both together.
    Beside,
    /// A reader that stays while much is overwritten.
    LongReader,
    /// A copy of everything while a writer commits durably.
    Export,
    /// What changed since: 1% of the pages.
    Delta,
    Clone,
    Fork,
    /// One of YCSB's mixes.
    Mix(Mix),
    /// Durable commits, the last of which are in no checkpoint; then the parent kills the child.
    BeforeKill,
    /// Take `count` snapshots and keep them, each `changes` pages younger than the one before.
    Hold {
        count: u32,
        changes: u32,
    },
    /// Drop the snapshots.
    Release,
    /// Compare every page with the oracle.
    Check,
    /// Make everything durable.
    Sync,
    Exit,
}

impl Work {
    /// Whether it commits anything.
    pub(crate) fn writes(&self) -> bool {
        match self {
            Work::Commit { .. }
            | Work::Beside
            | Work::LongReader
            | Work::Export
            | Work::Delta
            | Work::Clone
            | Work::Fork
            | Work::BeforeKill => true,
            Work::Mix(mix) => *mix != Mix::C,
            Work::Hold { changes, .. } => *changes > 0,
            Work::Pin
            | Work::Read { .. }
            | Work::ReadTogether { .. }
            | Work::Release
            | Work::Check
            | Work::Sync
            | Work::Exit => false,
        }
    }

    /// Whether a store may take much memory for it, in the page cache or its own.
    pub(crate) fn takes_memory(&self) -> bool {
        matches!(self, Work::Commit { .. } | Work::LongReader | Work::Export)
    }
}

/// YCSB's mixes of operations, on pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Mix {
    /// Half reads, half writes of whole pages.
    A,
    /// 95% reads.
    B,
    /// Reads alone.
    C,
    /// 95% reads of what was written last, 5% writes.
    D,
    /// 95% scans of up to 100 pages, 5% writes.
    E,
    /// Half reads, half reads that change the page and write it.
    F,
}

/// A request, and the time that it should take about.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) work: Work,
    pub(crate) millis: u64,
    /// Different for each sample, so that no two do the same.
    pub(crate) seed: u64,
}

/// What came out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// Values by the names of what was measured.
    Values(BTreeMap<String, f64>),
    /// The store has no such thing.
    Missing(String),
    /// It went wrong; the run may go on without this peer.
    Failed(String),
    /// A byte was wrong: the run ends.
    Wrong(String),
}

/// What a child says of itself when it is ready.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// Milliseconds that opening took, with one page read.
    pub(crate) opening_ms: f64,
    pub(crate) settings: String,
    pub(crate) is_floor: bool,
    pub(crate) is_in_files: bool,
}
