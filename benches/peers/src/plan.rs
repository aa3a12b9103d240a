//! What is measured, in the order in which works disturb each other least.

use crate::work::{Choice, Look, Mix, Work};

/// How much is done.
#[derive(Clone, Copy)]
pub(crate) struct Scale {
    pub(crate) pages: u64,
    /// Rounds of short works, and of those that copy everything.
    pub(crate) rounds: u32,
    pub(crate) long_rounds: u32,
    pub(crate) millis: u64,
}

/// Works that are chosen by one name.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) works: Vec<Work>,
    /// Taken before and released after; figures' ids then end in `@count`.
    pub(crate) held: Option<(u32, u32)>,
    pub(crate) is_long: bool,
}

fn group(name: &'static str, works: Vec<Work>) -> Group {
    Group { name, works, held: None, is_long: false }
}

fn long(name: &'static str, works: Vec<Work>) -> Group {
    Group { is_long: true, ..group(name, works) }
}

fn among(name: &'static str, works: Vec<Work>, count: u32, changes: u32) -> Group {
    Group { held: Some((count, changes)), ..group(name, works) }
}

fn commits(is_durable: bool) -> Vec<Work> {
    let sizes = [1, 16, 64, 1024];
    let each = |writers| sizes.map(|pages| Work::Commit { is_durable, pages, writers });
    [each(1), each(8)].concat()
}

fn read(choice: Choice, look: Look, threads: u32) -> Work {
    Work::Read { choice, look, threads }
}

pub(crate) fn groups() -> Vec<Group> {
    use Choice::{Uniform, Zipfian};
    use Look::{EightBytes, WholePage};
    let reads = vec![
        read(Uniform, EightBytes, 1),
        read(Uniform, WholePage, 1),
        read(Zipfian, EightBytes, 1),
        read(Zipfian, WholePage, 1),
        Work::ReadTogether { look: EightBytes },
        Work::ReadTogether { look: WholePage },
    ];
    let threads = [2, 4, 8].map(|threads| read(Uniform, WholePage, threads)).to_vec();
    let one = |is_durable| Work::Commit { is_durable, pages: 1, writers: 1 };
    let under = vec![Work::Pin, read(Uniform, WholePage, 1), one(true), one(false)];
    vec![
        group("pins", vec![Work::Pin]),
        group("reads", reads),
        group("threads", threads),
        among("pins-10000", vec![Work::Pin], 10_000, 0),
        group("fork", vec![Work::Fork]),
        long("clone", vec![Work::Clone]),
        long("export", vec![Work::Export]),
        group("durable", commits(true)),
        group("beside", vec![Work::Beside]),
        group("mixes", [Mix::A, Mix::B, Mix::C, Mix::D, Mix::E, Mix::F].map(Work::Mix).to_vec()),
        group("buffered", commits(false)),
        long("delta", vec![Work::Delta]),
        long("reopen", vec![Work::BeforeKill]),
        among("snapshots", under, 1000, 16),
        long("held", vec![Work::LongReader]),
    ]
}
