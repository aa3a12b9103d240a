//! What the tests share: seeded randomness, pages that tell where they come from, the small geometry.
#![allow(dead_code)]

use vellum::{Options, ReadMode};

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

/// The smallest store there is: 512-byte pages, 128 of them in a segment, a checkpoint every 64 KiB. Read without a mapping
/// if `VELLUM_READ_MODE` is `buffered`.
pub(crate) fn small() -> Options {
    let mode = match std::env::var("VELLUM_READ_MODE").as_deref() {
        Ok("buffered") => ReadMode::Buffered,
        _ => ReadMode::Mapped,
    };
    Options::new()
        .read_mode(mode)
        .cache_bytes(1 << 20)
        .page_size(512)
        .segment_size(64 << 10)
        .checkpoint_bytes(64 << 10)
        .limbo_bytes(64 << 10)
        .background(false)
}

/// A number from the environment, or `default`.
pub(crate) fn env(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// A seed from `VELLUM_SEED`, or a new one; printed either way, so that a failure can be replayed.
pub(crate) fn seed(test: &str) -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = env("VELLUM_SEED", now);
    println!("replay with: VELLUM_SEED={seed} cargo test --test {test} -- --nocapture");
    seed
}
