//! What the machine can do at all: a bare mapping, a bare write and sync, `cp`. No store; nothing that is committed is kept.

use std::fs::{File, OpenOptions};
use std::io::{IoSlice, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use memmap2::Mmap;

use super::fresh;
use crate::Result;
use crate::engine::{Engine, Pages, Promise, Reader, Writer, lost, missing};
use crate::pages::{Contents, PAGE, Page};

const LOG_BYTES: u64 = 64 << 20;
/// Slices that one call writes.
const SLICES: usize = 1024;

pub(crate) struct Floor {
    path: PathBuf,
    map: Arc<Mmap>,
    log: Arc<Log>,
}

impl Pages for &Mmap {
    #[inline]
    fn read<R>(&self, id: u64, see: impl FnOnce(&[u8]) -> R) -> Result<R> {
        let at = usize::try_from(id)? * PAGE;
        match self.get(at..at + PAGE) {
            Some(bytes) => Ok(see(bytes)),
            None => Err(lost(id)),
        }
    }
}

impl Pages for Arc<Mmap> {
    fn read<R>(&self, id: u64, see: impl FnOnce(&[u8]) -> R) -> Result<R> {
        (&**self).read(id, see)
    }
}

impl Reader for Arc<Mmap> {
    type View<'a> = &'a Mmap;

    #[inline]
    fn pin(&self) -> Result<&Mmap> {
        Ok(self)
    }
}

impl Writer for Arc<Log> {
    fn commit(&mut self, pages: &[Page], promise: Promise) -> Result {
        match promise {
            Promise::Durable => self.submit(pages),
            Promise::Buffered => {
                let mut state = self.lock();
                self.write(&mut state.at, pages)
            }
        }
    }
}

impl Engine for Floor {
    const IS_FLOOR: bool = true;
    const HAS_SNAPSHOTS: bool = false;
    const IS_IN_FILES: bool = true;
    const SETTINGS: &'static str = "reads: a mapping of a plain file; commits: the pages alone, to a file of 64 MiB written over and over; export, clone: cp";

    type Reader = Arc<Mmap>;
    type Writer = Arc<Log>;
    type Snapshot = Arc<Mmap>;

    fn open(dir: &Path, pages: u64) -> Result<Floor> {
        std::fs::create_dir_all(dir)?;
        let path = dir.join("plain");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        file.set_len(pages * PAGE as u64)?;
        // SAFETY: the file is this run's own; it is written only while it is filled, before any read.
        let map = Arc::new(unsafe { Mmap::map(&file)? });
        let log = Arc::new(Log::create(&dir.join("log"))?);
        Ok(Floor { path, map, log })
    }

    fn reader(&self) -> Result<Arc<Mmap>> {
        Ok(self.map.clone())
    }

    fn writer(&self) -> Result<Arc<Log>> {
        Ok(self.log.clone())
    }

    fn snapshot(&self) -> Result<Arc<Mmap>> {
        missing("a mapping is no snapshot")
    }

    fn fill(&self, pages: &[Page]) -> Result {
        let file = OpenOptions::new().write(true).open(&self.path)?;
        for page in pages {
            file.write_all_at(&page.bytes[..], page.id * PAGE as u64)?;
        }
        Ok(())
    }

    fn sync(&self) -> Result {
        Ok(File::open(&self.path)?.sync_all()?)
    }

    fn export(&self, dir: &Path, _pages: u64) -> Result {
        copy(&self.path, &fresh(dir, "copy"))
    }

    fn clone_to(&self, dir: &Path) -> Result {
        let to = fresh(dir, "clone");
        copy(&self.path, &to)?;
        Ok(File::open(to)?.sync_all()?)
    }
}

/// As anybody would call it. (On a file system that can share blocks this copies nothing: no fair floor.)
fn copy(from: &Path, to: &Path) -> Result {
    let status = Command::new("cp").args([from, to]).status()?;
    if status.success() { Ok(()) } else { Err(format!("cp ended with {status}").into()) }
}

/// A file whose blocks were written before, and many threads' pages in one write and one sync: who comes while
/// nobody leads, leads for all that wait.
pub(crate) struct Log {
    file: File,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    at: u64,
    queue: Vec<Page>,
    is_led: bool,
    /// The number of the batch that is being gathered, and of the first that isn't written yet.
    gathering: u64,
    unwritten: u64,
    failed: Option<String>,
}

impl Log {
    fn create(path: &Path) -> Result<Log> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        // Some at a time: a limit on memory may be tight.
        let some = Contents::new().batch(SLICES);
        for _ in 0..LOG_BYTES / (SLICES * PAGE) as u64 {
            for page in &some {
                file.write_all(&page.bytes[..])?;
            }
        }
        file.sync_all()?;
        Ok(Log { file, state: Mutex::default(), changed: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes at `at`, or from the start again if the end is too near.
    fn write(&self, at: &mut u64, pages: &[Page]) -> Result {
        for some in pages.chunks(SLICES) {
            let slices: Vec<IoSlice<'_>> = some.iter().map(|page| IoSlice::new(&page.bytes[..])).collect();
            let len = (some.len() * PAGE) as u64;
            if *at + len > LOG_BYTES {
                *at = 0;
            }
            let written = rustix::io::pwritev(&self.file, &slices, *at)?;
            if written as u64 != len {
                return Err(format!("{written} of {len} bytes were written").into());
            }
            *at += len;
        }
        Ok(())
    }

    /// Returns when `pages` are on the disk.
    fn submit(&self, pages: &[Page]) -> Result {
        let mut state = self.lock();
        if !state.is_led && state.queue.is_empty() {
            // Nobody waits: nothing has to be copied into a queue.
            return self.lead(state, pages);
        }
        state.queue.extend_from_slice(pages);
        let mine = state.gathering;
        while state.is_led && state.unwritten <= mine {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.unwritten <= mine {
            let queue = std::mem::take(&mut state.queue);
            return self.lead(state, &queue);
        }
        state.failed.clone().map_or(Ok(()), |failed| Err(failed.into()))
    }

    fn lead<'a>(&'a self, mut state: MutexGuard<'a, State>, pages: &[Page]) -> Result {
        let (mine, mut at) = (state.gathering, state.at);
        (state.is_led, state.gathering) = (true, mine + 1);
        drop(state);
        let done = self.write(&mut at, pages).and_then(|()| Ok(self.file.sync_data()?));
        state = self.lock();
        state.at = at;
        state.is_led = false;
        state.unwritten = mine + 1;
        state.failed = done.err().map(|error| error.to_string()).or(state.failed.take());
        self.changed.notify_all();
        state.failed.clone().map_or(Ok(()), |failed| Err(failed.into()))
    }
}
