//! The least that a durable commit can do: one write and one sync, to a file whose blocks were written before.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::Result;

/// Bytes of a bare commit: a page and something to describe it.
pub(crate) const RECORD: usize = 8192;
const FILE_BYTES: u64 = 64 << 20;

/// A file of 64 MiB that is written round and round.
pub(crate) struct Recycled {
    file: File,
    at: AtomicU64,
}

impl Recycled {
    pub(crate) fn create(path: &Path) -> Result<Recycled> {
        let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        let filler = vec![0xA5; 1 << 20];
        for _ in 0..FILE_BYTES / filler.len() as u64 {
            file.write_all(&filler)?;
        }
        file.sync_all()?;
        Ok(Recycled { file, at: AtomicU64::new(0) })
    }

    /// The next place for `len` bytes, from the start again if the end is too near.
    fn place(&self, len: u64) -> u64 {
        let at = self.at.load(Ordering::Relaxed);
        let at = if at + len > FILE_BYTES { 0 } else { at };
        self.at.store(at + len, Ordering::Relaxed);
        at
    }

    pub(crate) fn write(&self, bytes: &[u8]) -> Result {
        Ok(self.file.write_all_at(bytes, self.place(bytes.len() as u64))?)
    }

    pub(crate) fn sync(&self) -> Result {
        Ok(self.file.sync_data()?)
    }

    pub(crate) fn write_and_sync(&self, bytes: &[u8]) -> Result {
        self.write(bytes)?;
        self.sync()
    }

    /// Writes all of `records` with one call, and syncs.
    fn write_many_and_sync(&self, records: &[Arc<[u8]>]) -> io::Result<()> {
        let slices: Vec<IoSlice<'_>> = records.iter().map(|record| IoSlice::new(record)).collect();
        let total = records.iter().map(|record| record.len()).sum::<usize>();
        let written = rustix::io::pwritev(&self.file, &slices, self.place(total as u64))?;
        if written != total {
            return Err(io::Error::new(io::ErrorKind::WriteZero, format!("{written} of {total} bytes")));
        }
        self.file.sync_data()
    }
}

/// Many threads' records in one write and one sync: who comes while nobody leads, leads for all that wait.
pub(crate) struct Group {
    file: Recycled,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    queue: Vec<Arc<[u8]>>,
    is_led: bool,
    submitted: u64,
    /// The number of the batch that is being gathered, and of the first that isn't written yet.
    gathering: u64,
    unwritten: u64,
    failed: Option<String>,
}

impl Group {
    pub(crate) fn new(file: Recycled) -> Group {
        Group { file, state: Mutex::default(), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that one write and sync took, on average.
    pub(crate) fn mean_batch(&self) -> Result<f64> {
        let state = self.lock();
        Ok(f64::from(u32::try_from(state.submitted)?) / f64::from(u32::try_from(state.gathering)?))
    }

    /// Returns when `record` is on the disk.
    pub(crate) fn submit(&self, record: Arc<[u8]>) -> Result {
        let mut state = self.lock();
        state.queue.push(record);
        state.submitted += 1;
        let mine = state.gathering;
        while state.is_led && state.unwritten <= mine {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.unwritten <= mine {
            state.is_led = true;
            state.gathering += 1;
            let records = std::mem::take(&mut state.queue);
            drop(state);
            let done = self.file.write_many_and_sync(&records);
            state = self.lock();
            state.is_led = false;
            state.unwritten = mine + 1;
            state.failed = done.err().map(|error| error.to_string()).or(state.failed.take());
            self.changed.notify_all();
        }
        state.failed.clone().map_or(Ok(()), |failed| Err(failed.into()))
    }
}
