//! What all figures are measured on: a store and a plain file of the same bytes, on one disk.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use vellum::{Durability, Options, PageId, Store};

use crate::Result;
use crate::frame::scratch;
use crate::measure::Random;

/// Bytes of a page.
pub(crate) const PAGE: usize = 4096;

/// How much is done.
pub(crate) struct Scale {
    /// Pages of the store: 1 GiB of them.
    pub(crate) pages: u64,
    /// Rounds of ours and its floor.
    pub(crate) rounds: usize,
    /// Rounds of whole-store copies.
    pub(crate) copies: usize,
    /// Snapshots that are held at once.
    pub(crate) snapshots: usize,
    /// Commits that overwrite the same few pages.
    pub(crate) overwrites: u64,
    /// Batches that a reopening finds.
    pub(crate) batches: &'static [u64],
}

impl Scale {
    fn full() -> Scale {
        Scale {
            pages: 256 << 10,
            rounds: 21,
            copies: 11,
            snapshots: 1000,
            overwrites: 200_000,
            batches: &[100, 1000, 10_000],
        }
    }

    fn quick() -> Scale {
        Scale {
            pages: 32 << 10,
            rounds: 3,
            copies: 1,
            snapshots: 125,
            overwrites: 25_000,
            batches: &[100, 1000],
        }
    }
}

/// See the head of this file.
pub(crate) struct Ground {
    pub(crate) scale: Scale,
    pub(crate) store: Store,
    /// A file with the bytes that the store's pages had at first, in the order of their ids.
    pub(crate) plain: PathBuf,
    // Dropped last, and with it everything on the disk.
    dir: TempDir,
}

impl Ground {
    pub(crate) fn prepare(is_quick: bool) -> Result<Ground> {
        let scale = if is_quick { Scale::quick() } else { Scale::full() };
        let dir = scratch()?;
        eprintln!("loading {} MiB into {}", (scale.pages * PAGE as u64) >> 20, dir.path().display());
        let plain = dir.path().join("plain");
        let path = dir.path().join("store");
        load(&Store::open(&path, options())?, &plain, scale.pages)?;
        let store = Store::open(&path, options())?;
        touch(&store.snapshot())?;
        Ok(Ground { scale, store, plain, dir })
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The store's segment files, in order.
    pub(crate) fn segments(&self) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(self.dir().join("store"))? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with("segment-") {
                files.push(entry.path());
            }
        }
        files.sort();
        Ok(files)
    }
}

/// As most would open a store.
fn options() -> Options {
    Options::new().page_size(4096)
}

/// Fills the store, 256 pages a commit, and the plain file with the same.
fn load(store: &Store, plain: &Path, pages: u64) -> Result {
    let mut plain = BufWriter::with_capacity(1 << 20, File::create_new(plain)?);
    let mut random = Random::new(pages);
    let mut page = [0; PAGE];
    let mut txn = store.begin()?;
    txn.truncate(pages)?;
    txn.commit_with(Durability::Buffered)?;
    for from in (0..pages).step_by(256) {
        let mut txn = store.begin()?;
        for id in from..pages.min(from + 256) {
            for word in page.chunks_exact_mut(8) {
                word.copy_from_slice(&random.next().to_le_bytes());
            }
            txn.write(PageId(id), &page)?;
            plain.write_all(&page)?;
        }
        txn.commit_with(Durability::Buffered)?;
    }
    plain.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
    store.clone().close()?;
    Ok(())
}

/// Reads every page once, so that all are mapped and verified.
pub(crate) fn touch(snapshot: &vellum::Snapshot) -> Result {
    for from in (0..snapshot.page_count()).step_by(1024) {
        let view = snapshot.view();
        for id in from..snapshot.page_count().min(from + 1024) {
            std::hint::black_box(first_word(&view, id)?);
        }
    }
    Ok(())
}

/// The first 8 bytes of a page.
#[inline]
pub(crate) fn first_word(view: &vellum::View<'_>, id: u64) -> Result<u64> {
    let page = view.page(PageId(id))?.and_then(|page| page.first_chunk());
    page.map(|word| u64::from_le_bytes(*word)).ok_or_else(|| format!("page {id} holds nothing").into())
}

/// Commits one page that begins with `word`.
pub(crate) fn commit_one(store: &Store, id: u64, word: u64, durability: Durability) -> Result {
    let mut page = [0x5A; PAGE];
    page[..8].copy_from_slice(&word.to_le_bytes());
    let mut txn = store.begin()?;
    txn.write(PageId(id), &page)?;
    txn.commit_with(durability)?;
    Ok(())
}
