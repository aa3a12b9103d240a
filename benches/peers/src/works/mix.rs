//! YCSB's mixes A to F, on pages: one thread, buffered commits of one page, pages by zipfian rank.

use std::time::{Duration, Instant};

use super::commits::Committer;
use super::{Ground, Values, rate, values};
use crate::Result;
use crate::engine::{Engine, Pages, Promise, Reader};
use crate::measure::Random;
use crate::pages::{Wrong, sum};
use crate::work::Mix;

/// What one step does.
enum Step {
    Read(u64),
    Scan(u64, u64),
    Write(u64),
    ReadAndWrite(u64),
}

pub(super) fn mix<E: Engine>(ground: &Ground<E>, mix: Mix, time: Duration, seed: u64) -> Result<Values> {
    ground.engine.promise(Promise::Buffered)?;
    let mut writer = Committer::new(ground, 1, Promise::Buffered, seed)?;
    let reader = ground.engine.reader()?;
    let mut random = Random::new(seed ^ 0x5CA1E);
    let pages = ground.oracle.pages();
    // Where "what was written last" ends, in D: writes go around.
    let mut newest = random.below(pages);
    let (start, mut count) = (Instant::now(), 0);
    while count % 64 != 0 || start.elapsed() < time {
        let chance = random.below(100);
        let some = ground.zipf.page(&mut random);
        #[expect(clippy::match_same_arms, reason = "one mix after the other, as YCSB lists them")]
        let step = match mix {
            Mix::A if chance < 50 => Step::Write(some),
            Mix::B if chance < 5 => Step::Write(some),
            Mix::A | Mix::B | Mix::C => Step::Read(some),
            Mix::D if chance < 5 => {
                newest = (newest + 1) % pages;
                Step::Write(newest)
            }
            Mix::D => Step::Read((newest + pages - ground.zipf.rank(&mut random)) % pages),
            Mix::E if chance < 5 => Step::Write(some),
            Mix::E => Step::Scan(some, 1 + random.below(100)),
            Mix::F if chance < 50 => Step::ReadAndWrite(some),
            Mix::F => Step::Read(some),
        };
        match step {
            Step::Read(id) => read::<E>(ground, &reader, id..id + 1)?,
            Step::Scan(id, len) => read::<E>(ground, &reader, id..(id + len).min(pages))?,
            Step::Write(id) => writer.commit_ids(std::iter::once(id))?,
            Step::ReadAndWrite(id) => {
                read::<E>(ground, &reader, id..id + 1)?;
                writer.commit_ids(std::iter::once(id))?;
            }
        }
        count += 1;
    }
    let rate = rate(count, start.elapsed());
    ground.engine.promise(Promise::Durable)?;
    Ok(values([("ops_per_s", rate)]))
}

/// Reads whole pages in one view, and checks each.
fn read<E: Engine>(ground: &Ground<E>, reader: &E::Reader, ids: std::ops::Range<u64>) -> Result {
    let view = reader.pin()?;
    for id in ids {
        let seen = view.read(id, sum)?;
        if seen != ground.contents.sum(id, ground.oracle.word(id)) {
            return Err(Box::new(Wrong(format!("page {id} isn't what was last committed to it"))));
        }
    }
    Ok(())
}
