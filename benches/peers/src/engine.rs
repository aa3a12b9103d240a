//! What a page store must offer to be measured, and what it may.
//!
//! The measured loops are generic over these traits, so that nothing but the store itself is between two looks at the clock.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use crate::Result;
use crate::pages::{PAGE, Page};

/// What a commit waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Promise {
    /// It is on the disk.
    Durable,
    /// Others can see it, and a crash leaves the store whole, if that can be had without a sync.
    Buffered,
}

/// A consistent picture of all pages.
pub(crate) trait Pages {
    /// Lets `see` look at the bytes of page `id`, in place if the store can do that.
    fn read<R>(&self, id: u64, see: impl FnOnce(&[u8]) -> R) -> Result<R>;

    /// Adds up what `see` says of several pages, in one call of the store if it has such a call.
    fn read_together(&self, ids: &[u64], see: impl Fn(&[u8]) -> u64) -> Result<u64> {
        ids.iter().try_fold(0_u64, |sum, id| Ok(sum.wrapping_add(self.read(*id, &see)?)))
    }
}

/// One thread's way to read.
pub(crate) trait Reader {
    type View<'a>: Pages
    where
        Self: 'a;

    /// The cheapest picture of the current state that the store has, for a moment.
    fn pin(&self) -> Result<Self::View<'_>>;
}

/// One thread's way to write.
pub(crate) trait Writer {
    /// Replaces all of `pages` in one transaction.
    fn commit(&mut self, pages: &[Page], promise: Promise) -> Result;
}

/// What is still to be done when something has changed.
pub(crate) type Later<'a> = Box<dyn FnOnce() -> Result + 'a>;

/// A page store that is measured.
pub(crate) trait Engine: Sized + Send + Sync + 'static {
    /// Whether it is no store but what the machine can do at all: it keeps nothing of what is committed.
    const IS_FLOOR: bool = false;
    /// Whether it keeps what a reader sees while writers go on.
    const HAS_SNAPSHOTS: bool = true;
    /// Whether a durable commit waits for the disk, and not only for the system.
    const HAS_SYNC: bool = true;
    /// Whether it reads pages where the system's page cache has them, and not from a cache of its own.
    const IS_IN_FILES: bool;
    /// Its settings, in a few words.
    const SETTINGS: &'static str;

    type Reader: Reader;
    type Writer: Writer + Send;
    /// A picture that can be kept.
    type Snapshot: Pages;

    /// Opens or creates the store in `dir`, which will hold about `pages` pages.
    fn open(dir: &Path, pages: u64) -> Result<Self>;
    fn reader(&self) -> Result<Self::Reader>;
    fn writer(&self) -> Result<Self::Writer>;
    fn snapshot(&self) -> Result<Self::Snapshot>;

    /// Writes pages that are new, as part of filling the store. Buffered.
    fn fill(&self, pages: &[Page]) -> Result {
        self.writer()?.commit(pages, Promise::Buffered)
    }

    /// Called before commits of another promise follow.
    fn promise(&self, _promise: Promise) -> Result {
        Ok(())
    }

    /// Makes everything durable.
    fn sync(&self) -> Result;

    /// Waits until what it does in the background is done, if it can be asked.
    fn settle(&self) -> Result {
        Ok(())
    }

    /// Writes a consistent copy of `pages` pages into `dir`, as good as the store can: by reading them all at one
    /// snapshot if there is nothing better.
    fn export(&self, dir: &Path, pages: u64) -> Result {
        copy_pages(&self.snapshot()?, &dir.join("pages"), pages)
    }

    /// Remembers the current state, and gives what exports the pages that have changed since.
    fn delta(&self, _dir: &Path) -> Result<Later<'_>> {
        missing("it can't tell what has changed")
    }

    /// Makes an independent, writable, durable store in `dir`.
    fn clone_to(&self, _dir: &Path) -> Result {
        missing("it has no clones")
    }

    /// Makes a writable child in the process, and drops it.
    fn fork(&self) -> Result {
        missing("it has no forks")
    }
}

/// Reads all pages in order of their ids and writes them to a file.
fn copy_pages(pages: &impl Pages, to: &Path, count: u64) -> Result {
    let mut file = BufWriter::with_capacity(256 * PAGE, File::create_new(to)?);
    for id in 0..count {
        pages.read(id, |bytes| file.write_all(bytes))??;
    }
    file.flush()?;
    Ok(())
}

/// Something that a store doesn't have. No fault of a run.
#[derive(Debug)]
pub(crate) struct Missing(pub(crate) &'static str);

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Missing {}

/// Says that the store doesn't have that.
pub(crate) fn missing<T>(why: &'static str) -> Result<T> {
    Err(Box::new(Missing(why)))
}

/// What every store says of a page that it doesn't have.
pub(crate) fn lost(id: u64) -> crate::Fault {
    format!("page {id} is gone").into()
}
