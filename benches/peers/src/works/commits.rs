//! Commits: how many, how long, how many bytes.

use std::sync::Barrier;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::settle::settle;
use super::{Ground, Values, rate, values};
use crate::Result;
use crate::engine::{Engine, Promise, Writer, missing};
use crate::measure::{Random, percentile};
use crate::pages::{Contents, Oracle, Page};

/// Pages in a transaction when a store is filled.
const FILLING: usize = 4096;

/// Writes every page once, in order of their ids.
pub(crate) fn fill<E: Engine>(engine: &E, oracle: &Oracle, contents: &Contents) -> Result {
    let (mut batch, mut random) = (contents.batch(FILLING), Random::new(oracle.pages()));
    engine.promise(Promise::Buffered)?;
    for from in (0..oracle.pages()).step_by(FILLING) {
        let count = usize::try_from(oracle.pages() - from)?.min(FILLING);
        for (at, page) in batch[..count].iter_mut().enumerate() {
            page.become_page(at, from + at as u64, random.next());
        }
        engine.fill(&batch[..count])?;
        oracle.note(&batch[..count]);
    }
    engine.promise(Promise::Durable)?;
    engine.sync()
}

/// One thread that commits pages of its own share, and tells the oracle.
pub(super) struct Committer<'a, E: Engine> {
    writer: E::Writer,
    oracle: &'a Oracle,
    batch: Vec<Page>,
    random: Random,
    promise: Promise,
    /// Which share of how many: page ids are dealt out in turn, so that no two writers ever want the same.
    share: (u64, u64),
    /// Of the pages below which ids it commits.
    below: u64,
}

impl<'a, E: Engine> Committer<'a, E> {
    pub(super) fn new(
        ground: &'a Ground<E>,
        pages: usize,
        promise: Promise,
        seed: u64,
    ) -> Result<Committer<'a, E>> {
        Ok(Committer {
            writer: ground.engine.writer()?,
            oracle: &ground.oracle,
            batch: ground.contents.batch(pages),
            random: Random::new(seed),
            promise,
            share: (0, 1),
            below: ground.oracle.pages(),
        })
    }

    pub(super) fn shared(mut self, share: u64, of: u64) -> Self {
        self.share = (share, of);
        self
    }

    pub(super) fn below(mut self, id: u64) -> Self {
        self.below = id;
        self
    }

    /// The page that is written next, if nobody says otherwise.
    fn next_id(&mut self) -> u64 {
        let (share, of) = self.share;
        self.random.below(self.below / of) * of + share
    }

    /// Commits one batch of random pages.
    pub(super) fn commit(&mut self) -> Result {
        for at in 0..self.batch.len() {
            let id = self.next_id();
            self.batch[at].become_page(at, id, self.random.next());
        }
        // Twice the same page in one batch: the later one counts, for the store and for the oracle.
        self.finish()
    }

    /// Commits one batch whose pages are `ids`, as many as fit.
    pub(super) fn commit_ids(&mut self, ids: impl Iterator<Item = u64>) -> Result {
        for (at, (page, id)) in self.batch.iter_mut().zip(ids).enumerate() {
            page.become_page(at, id, self.random.next());
        }
        self.finish()
    }

    fn finish(&mut self) -> Result {
        self.writer.commit(&self.batch, self.promise)?;
        if !E::IS_FLOOR {
            self.oracle.note(&self.batch);
        }
        Ok(())
    }
}

pub(super) fn commit<E: Engine>(
    ground: &Ground<E>,
    is_durable: bool,
    pages: u32,
    writers: u32,
    time: Duration,
    seed: u64,
) -> Result<Values> {
    if is_durable && !E::HAS_SYNC {
        return missing("its flush doesn't wait for the disk");
    }
    let promise = if is_durable { Promise::Durable } else { Promise::Buffered };
    ground.engine.promise(promise)?;
    let barrier = Barrier::new(writers as usize);
    let before = ground.written.bytes()?;
    let one = |writer: u32| -> Result<(Vec<f64>, Instant, Instant)> {
        let seed = seed.wrapping_mul(64).wrapping_add(u64::from(writer));
        let committer = Committer::new(ground, pages as usize, promise, seed)?;
        let mut committer = committer.shared(u64::from(writer), u64::from(writers));
        let mut micros = Vec::with_capacity(1 << 16);
        barrier.wait();
        let start = Instant::now();
        let mut last = start;
        while micros.is_empty() || last - start < time {
            committer.commit()?;
            let now = Instant::now();
            micros.push((now - last).as_secs_f64() * 1e6);
            last = now;
        }
        Ok((micros, start, last))
    };
    let each: Vec<(Vec<f64>, Instant, Instant)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..writers).map(|writer| scope.spawn(move || one(writer))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| "a writer panicked")?)
            .collect::<Result<_>>()
    })?;
    if is_durable {
        settle(ground)?;
        ground.is_settled.store(true, Ordering::Relaxed);
    }
    let written = ground.written.bytes()? - before;
    let (starts, ends) = (each.iter().map(|one| one.1).min(), each.iter().map(|one| one.2).max());
    let (Some(start), Some(end)) = (starts, ends) else { return Err("nobody wrote".into()) };
    let mut micros: Vec<f64> = each.into_iter().flat_map(|one| one.0).collect();
    micros.sort_by(f64::total_cmp);
    let commits = micros.len() as u64;
    let all_pages = commits * u64::from(pages);
    ground.engine.promise(Promise::Durable)?;
    Ok(values([
        ("commits_per_s", rate(commits, end - start)),
        ("pages_per_s", rate(all_pages, end - start)),
        ("p50_us", percentile(&micros, 0.5)),
        ("p99_us", percentile(&micros, 0.99)),
        // The parent divides the sums over all rounds.
        ("written", written as f64),
        ("pages", all_pages as f64),
    ]))
}

/// Commits that an opening after a kill must find.
const BEFORE_KILL: u32 = 500;

pub(super) fn before_kill<E: Engine>(ground: &Ground<E>, seed: u64) -> Result<Values> {
    ground.engine.sync()?;
    let mut committer = Committer::new(ground, 1, Promise::Durable, seed)?;
    for _ in 0..BEFORE_KILL {
        committer.commit()?;
    }
    Ok(Values::new())
}
