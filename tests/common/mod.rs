//! What the tests share: seeded randomness, pages that tell where they come from, the small geometry.
#![allow(dead_code)]

pub(crate) mod files;
pub(crate) mod interposed;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use vellum::{History, Options, PageId, ReadMode, Store};

/// Bytes of a page in the small geometry.
pub(crate) const PAGE: usize = 512;

/// SplitMix64: small, seeded, the same everywhere.
#[derive(Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    pub(crate) fn index(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

/// The page that was filled from `id` and `tag`: no two are alike.
pub(crate) fn contents(id: u64, tag: u64) -> Vec<u8> {
    let mut random = Random(id ^ (tag << 24));
    (0..PAGE / 8).flat_map(|_| random.next().to_le_bytes()).collect()
}

/// Commits these pages, filled from `tag`; the store grows as far as they reach. Gives the version.
pub(crate) fn fill(store: &Store, ids: impl Iterator<Item = u64>, tag: u64) -> u64 {
    let mut txn = store.begin().unwrap();
    for id in ids {
        if id >= txn.page_count() {
            txn.truncate(id + 1).unwrap();
        }
        txn.write(PageId(id), &contents(id, tag)).unwrap();
    }
    txn.commit().unwrap().0
}

/// A small store in memory whose one commit has filled all of its pages, from tag 0.
pub(crate) fn filled(pages: u64) -> Store {
    let store = Store::in_memory(small()).unwrap();
    fill(&store, 0..pages, 0);
    store
}

/// The usual options, but a store is read without a mapping if `VELLUM_READ_MODE` is `buffered`.
pub(crate) fn usual() -> Options {
    let mode = match std::env::var("VELLUM_READ_MODE").as_deref() {
        Ok("buffered") => ReadMode::Buffered,
        _ => ReadMode::Mapped,
    };
    Options::new().read_mode(mode)
}

/// The smallest store there is: 512-byte pages, 128 of them in a segment, a checkpoint every 64 KiB.
pub(crate) fn small() -> Options {
    usual()
        .cache_bytes(1 << 20)
        .page_size(512)
        .segment_size(64 << 10)
        .checkpoint_bytes(64 << 10)
        .limbo_bytes(64 << 10)
        .background(false)
}

/// A number from the environment, or `default`.
pub(crate) fn env(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

/// A seed from `VELLUM_SEED`, or a new one; printed either way, so that a failure can be replayed.
pub(crate) fn seed(test: &str) -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = env("VELLUM_SEED", now);
    println!("replay with: VELLUM_SEED={seed} cargo test --test {test} -- --nocapture");
    seed
}

/// A clock that stands where the test puts it.
#[derive(Clone)]
pub(crate) struct Clock(Arc<AtomicU64>);

impl Clock {
    pub(crate) fn at_ms(millis: u64) -> Clock {
        Clock(Arc::new(AtomicU64::new(millis)))
    }

    pub(crate) fn at_seconds(seconds: u64) -> Clock {
        Clock::at_ms(seconds * 1000)
    }

    pub(crate) fn set_seconds(&self, seconds: u64) {
        self.0.store(seconds * 1000, Ordering::Relaxed);
    }

    pub(crate) fn set_ms(&self, millis: u64) {
        self.0.store(millis, Ordering::Relaxed);
    }

    pub(crate) fn advance_ms(&self, millis: u64) {
        self.0.fetch_add(millis, Ordering::Relaxed);
    }

    pub(crate) fn ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.ms())
    }

    pub(crate) fn of(&self, options: Options) -> Options {
        let clock = self.clone();
        options.clock(move || clock.now())
    }
}

/// The history window once more, as one would explain it: versions with their times in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Restated {
    pub(crate) rule: Rule,
    pub(crate) kept: Vec<(u64, u64)>,
}

/// A policy: how many versions or milliseconds, and the interval (0: none).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Rule {
    #[default]
    Off,
    Versions(usize, u64),
    Within(u64, u64),
}

impl Rule {
    pub(crate) fn policy(self) -> History {
        let per = |history: History, interval: u64| match interval {
            0 => history,
            millis => history.one_per(Duration::from_millis(millis)),
        };
        match self {
            Rule::Off => History::off(),
            Rule::Versions(count, interval) => per(History::versions(count), interval),
            Rule::Within(millis, interval) => per(History::within(Duration::from_millis(millis)), interval),
        }
    }

    pub(crate) fn random(random: &mut Random) -> Rule {
        let interval = if random.below(2) == 0 { 0 } else { 1 + random.below(4000) };
        match random.below(7) {
            0 => Rule::Off,
            1..4 => Rule::Versions(1 + random.index(12), interval),
            _ => Rule::Within(random.below(12_000), interval),
        }
    }
}

impl Restated {
    pub(crate) fn commit(&mut self, version: u64, at_ms: u64) {
        if self.rule == Rule::Off {
            return;
        }
        let (Rule::Versions(_, interval) | Rule::Within(_, interval)) = self.rule else { unreachable!() };
        // The newest of each stretch: a later one takes the place of an earlier one.
        let is_same = |last: &(u64, u64)| interval > 0 && last.1 / interval == at_ms / interval;
        if self.kept.last().is_some_and(is_same) {
            self.kept.pop();
        }
        self.kept.push((version, at_ms));
        self.trim(at_ms);
    }

    /// The rule changes with the commit of `version`, which the old one let in already.
    pub(crate) fn set(&mut self, rule: Rule, version: u64, at_ms: u64) {
        self.rule = rule;
        if rule == Rule::Off {
            self.kept.clear();
        } else if self.kept.last().is_none_or(|(last, _)| *last != version) {
            self.commit(version, at_ms);
        }
        self.trim(at_ms);
    }

    fn trim(&mut self, newest_ms: u64) {
        match self.rule {
            Rule::Off => {}
            Rule::Versions(count, _) => drop(self.kept.drain(..self.kept.len().saturating_sub(count))),
            Rule::Within(millis, _) => {
                let begins = newest_ms - millis;
                let current =
                    self.kept.iter().filter(|(_, at_ms)| *at_ms <= begins).map(|(version, _)| *version).max();
                self.kept.retain(|(version, at_ms)| *at_ms > begins || Some(*version) == current);
            }
        }
    }

    pub(crate) fn versions(&self) -> Vec<u64> {
        self.kept.iter().map(|(version, _)| *version).collect()
    }
}
