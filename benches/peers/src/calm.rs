//! The same start for all: a disk that isn't busy with what others left to it, and memory that needn't be fetched from afar.
//!
//! A sync says that the disk has taken everything, not that it has nothing more to do: a disk behind a virtual machine's may go on
//! with it for seconds, and a GiB that one peer has copied then costs the next. So before each turn the disk is asked for small synced writes until they
//! take no longer than they took at rest.
//!
//! And a virtual machine may give memory that nobody uses back to its host, which takes long to give it again (Linux, free page reporting: measured, pages that are
//! first used then come at 160 to 280 MB/s, where others take 5 GB/s and more). A store that grows then waits for memory as long as for a slow disk, and one
//! that goes on in files of its own doesn't. So just before a work that writes some memory is taken, touched and let go: what is
//! taken next is taken of that.

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use memmap2::MmapMut;

use crate::Result;
use crate::measure::percentile;
use crate::process::free_memory_bytes;

/// Synced writes that one look at the disk takes.
const WRITES: usize = 24;
/// A disk at rest is at most so many times slower than the best that was seen of it.
const RESTS: f64 = 1.5;
const PAUSE: Duration = Duration::from_millis(100);
/// Nobody waits longer: the disk may have become slower for good.
const MOST: Duration = Duration::from_secs(3);
/// Memory for the works that write for some hundred milliseconds, and for those that copy everything.
const SHORT_BYTES: usize = 512 << 20;
const LONG_BYTES: usize = 2 << 30;

/// See the head of this file.
pub(crate) struct Calm {
    probe: File,
    /// The best median of a look, in microseconds.
    best: f64,
}

impl Calm {
    pub(crate) fn new(dir: &Path) -> Result<Calm> {
        let probe = tempfile::tempfile_in(dir)?;
        probe.write_all_at(&vec![1; WRITES << 12], 0)?;
        probe.sync_all()?;
        Ok(Calm { probe, best: f64::INFINITY })
    }

    /// Waits until all that anybody wrote is on the disk and the disk is at rest.
    pub(crate) fn await_disk(&mut self) -> Result {
        // Of the others nobody writes now; what they have removed, or never synced, is written or forgotten here.
        rustix::fs::syncfs(&self.probe)?;
        let start = Instant::now();
        loop {
            let median = self.look()?;
            self.best = self.best.min(median);
            if median <= self.best * RESTS || start.elapsed() >= MOST {
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// How long the disk takes for a synced write, in microseconds.
    fn look(&self) -> Result<f64> {
        let mut micros = Vec::with_capacity(WRITES);
        for at in 0..WRITES as u64 {
            let start = Instant::now();
            self.probe.write_all_at(&[2; 1 << 12], at << 12)?;
            self.probe.sync_data()?;
            micros.push(start.elapsed().as_secs_f64() * 1e6);
        }
        micros.sort_by(f64::total_cmp);
        Ok(percentile(&micros, 0.5))
    }
}

/// Fetches the memory that the next work takes, of what nobody uses: nobody's pages are to go for it.
pub(crate) fn fetch_memory(is_long: bool) -> Result {
    let free = usize::try_from(free_memory_bytes()?)?;
    let bytes = if is_long { LONG_BYTES } else { SHORT_BYTES }.min(free / 4 * 3);
    let mut memory = MmapMut::map_anon(bytes.max(1))?;
    // Not in huge pages, which would be quicker: where memory is in fragments the system throws others' pages out to make some.
    memory.iter_mut().step_by(1 << 12).for_each(|byte| *byte = 1);
    black_box(memory);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_was_never_quicker_is_at_rest() {
        let dir = tempfile::tempdir().unwrap();
        let mut calm = Calm::new(dir.path()).unwrap();
        calm.await_disk().unwrap();
        assert!(calm.best.is_finite() && calm.best > 0.0);
    }

    #[test]
    fn a_disk_that_has_become_slow_for_good_is_not_waited_for_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let mut calm = Calm::new(dir.path()).unwrap();
        calm.best = 0.0;
        let start = Instant::now();
        calm.await_disk().unwrap();
        assert!(start.elapsed() >= MOST);
    }
}
