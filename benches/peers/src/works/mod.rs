//! The measured loops. Each gives values by their names, which [`crate::figures`] knows.

mod commits;
mod copies;
mod held;
mod mix;
mod reads;
mod settle;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::Result;
use crate::engine::Engine;
use crate::measure::Zipf;
use crate::pages::{Contents, Oracle};
use crate::process::Written;
use crate::work::{Choice, Work};

pub(crate) use commits::fill;

/// Values by what was measured.
pub(crate) type Values = BTreeMap<String, f64>;

/// Everything that a child works with.
pub(crate) struct Ground<E: Engine> {
    pub(crate) engine: E,
    pub(crate) oracle: Oracle,
    pub(crate) contents: Contents,
    /// The directory of the store.
    pub(crate) store: PathBuf,
    /// A directory for copies.
    pub(crate) scratch: PathBuf,
    /// Ids to read, made once.
    pub(crate) ids: Ids,
    pub(crate) zipf: Zipf,
    pub(crate) written: Written,
    /// Whether the last work left nothing to be done in the background.
    pub(crate) is_settled: AtomicBool,
}

/// Ids that don't depend on what was read, so that the processor may look up several at once, as in a real scan.
pub(crate) struct Ids {
    uniform: Vec<u64>,
    zipfian: Vec<u64>,
}

impl Ids {
    pub(crate) fn new(pages: u64, zipf: &Zipf) -> Ids {
        const COUNT: u64 = 1 << 19;
        let mut random = crate::measure::Random::new(1);
        let uniform = (0..COUNT).map(|_| random.below(pages)).collect();
        let zipfian = (0..COUNT).map(|_| zipf.page(&mut random)).collect();
        Ids { uniform, zipfian }
    }

    fn chosen(&self, choice: Choice) -> &[u64] {
        match choice {
            Choice::Uniform => &self.uniform,
            Choice::Zipfian => &self.zipfian,
        }
    }
}

/// Does what was asked.
pub(crate) fn perform<E: Engine>(
    ground: &Ground<E>,
    held: &mut Vec<E::Snapshot>,
    work: &Work,
    time: Duration,
    seed: u64,
) -> Result<Values> {
    let was_settled = ground.is_settled.swap(false, Ordering::Relaxed);
    match work {
        Work::Pin => reads::pin(ground, time),
        Work::Read { choice, look, threads } => {
            reads::read(ground, (*choice, *look), *threads, 1, time, seed)
        }
        Work::ReadTogether { look } => reads::read(ground, (Choice::Uniform, *look), 1, 64, time, seed),
        Work::Commit { is_durable, pages, writers } => {
            if *is_durable && E::HAS_SYNC && !was_settled {
                settle::settle(ground)?;
            }
            commits::commit(ground, *is_durable, *pages, *writers, time, seed)
        }
        Work::Beside => held::beside(ground, time, seed),
        Work::LongReader => held::long_reader(ground, seed),
        Work::Export => copies::export(ground, time, seed),
        Work::Delta => copies::delta(ground, seed),
        Work::Clone => copies::clone(ground, seed),
        Work::Fork => copies::fork(ground, seed),
        Work::Mix(mix) => mix::mix(ground, *mix, time, seed),
        Work::BeforeKill => commits::before_kill(ground, seed),
        Work::Hold { count, changes } => held::hold(ground, held, *count, *changes, seed),
        Work::Release => {
            held.clear();
            Ok(Values::new())
        }
        Work::Check => {
            use crate::engine::Reader;
            let reader = ground.engine.reader()?;
            ground.oracle.check(&ground.contents, &reader.pin()?)?;
            Ok(Values::new())
        }
        Work::Sync => {
            // Of what is durable and settled, this leaves nothing.
            ground.is_settled.store(was_settled, Ordering::Relaxed);
            ground.engine.sync().map(|()| Values::new())
        }
        Work::Exit => Ok(Values::new()),
    }
}

/// Some values.
fn values<const N: usize>(values: [(&str, f64); N]) -> Values {
    values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Nanoseconds each.
fn nanos_each(count: u64, took: Duration) -> f64 {
    took.as_secs_f64() * 1e9 / count as f64
}

/// How many a second.
fn rate(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

fn millis(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}
