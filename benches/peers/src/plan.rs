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
}

/// Groups that a peer does one after the other when it is its turn: what it takes to bring its pages into memory is taken
/// once for all of them.
pub(crate) struct Stage {
    pub(crate) groups: Vec<Group>,
    /// Taken before and released after; figures' ids then end in `@count`.
    pub(crate) held: Option<(u32, u32)>,
    pub(crate) is_long: bool,
    /// Whether pages are looked at.
    pub(crate) is_warm: bool,
}

fn group(name: &'static str, works: Vec<Work>) -> Group {
    Group { name, works }
}

fn stage(groups: Vec<Group>) -> Stage {
    Stage { groups, held: None, is_long: false, is_warm: true }
}

impl Stage {
    fn long(self) -> Stage {
        Stage { is_long: true, ..self }
    }

    fn cold(self) -> Stage {
        Stage { is_warm: false, ..self }
    }

    fn among(self, count: u32, changes: u32) -> Stage {
        Stage { held: Some((count, changes)), ..self }
    }
}

fn commits(is_durable: bool) -> Vec<Work> {
    let sizes = [1, 16, 64, 1024];
    let each = |writers| sizes.map(|pages| Work::Commit { is_durable, pages, writers });
    [each(1), each(8)].concat()
}

fn read(choice: Choice, look: Look, threads: u32) -> Work {
    Work::Read { choice, look, threads }
}

/// What takes long or changes much comes last.
pub(crate) fn stages() -> Vec<Stage> {
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
    let mixes = [Mix::A, Mix::B, Mix::C, Mix::D, Mix::E, Mix::F].map(Work::Mix).to_vec();
    vec![
        stage(vec![group("pins", vec![Work::Pin])]).cold(),
        stage(vec![
            group("reads", reads),
            group("threads", threads),
            group("beside", vec![Work::Beside]),
            group("mixes", mixes),
        ]),
        stage(vec![group("pins-10000", vec![Work::Pin])]).cold().among(10_000, 0),
        stage(vec![group("fork", vec![Work::Fork])]).cold(),
        stage(vec![group("snapshots", under)]).among(1000, 16),
        stage(vec![group("held", vec![Work::LongReader])]).long(),
        stage(vec![group("reopen", vec![Work::BeforeKill])]).long().cold(),
        stage(vec![
            group("delta", vec![Work::Delta]),
            group("clone", vec![Work::Clone]),
            group("export", vec![Work::Export]),
        ])
        .long(),
        stage(vec![group("durable", commits(true)), group("buffered", commits(false))]),
    ]
}
