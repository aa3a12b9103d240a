//! The simulated disk: seeded, replayable and hostile, for tests of vellum and of engines on top of it.
//!
//! It keeps to what a disk and a kernel promise and to nothing more. What is written is seen at once by everybody, and
//! by the next session if only the process dies; it is durable only after a sync. A power cut keeps any part of what
//! isn't: each 512-byte sector for itself, in its newest version, in one that was overwritten since, or as it was;
//! lengths and names likewise. A sync of a file makes its bytes and its length durable but not its name, as POSIX has
//! it, and a sync of the directory the names alone.
//!
//! Everything random follows from the seeds and from the index of the call, so a failure is replayed by repeating the
//! same calls. The usual experiment runs a workload once to learn how many I/O calls it makes, and then once more for
//! each of them, with something going wrong there:
//!
//! ```
//! use std::io::{self, IoSlice};
//! use vellum::storage::Storage;
//! use vellum::storage::sim::{Fault, SimDisk, SimStorage};
//!
//! fn workload(storage: &SimStorage) -> io::Result<()> {
//!     let file = storage.create("file", 512)?;
//!     storage.sync_dir()?;
//!     file.write_all_at(&[IoSlice::new(&[7; 512])], 0)?;
//!     file.sync()
//! }
//!
//! let start = SimDisk::new(1);
//! let rehearsal = start.clone_state();
//! workload(&rehearsal.storage())?;
//! for index in 0..rehearsal.io_count() {
//!     let disk = start.clone_state();
//!     disk.fail_at(index, Fault::Crash);
//!     assert!(workload(&disk.storage()).is_err());
//!     // Either never created, or created but perhaps not of its full length, or full of zeros or of sevens.
//!     let after = disk.power_cut(index);
//!     if let Ok(bytes) = after.read_file("file") {
//!         assert!(bytes.iter().all(|byte| *byte == 0) || bytes == [7; 512]);
//!     }
//! }
//! # Ok::<(), io::Error>(())
//! ```

use std::io;
use std::sync::{Arc, Mutex};

use super::memory::lock;
use super::name;

mod disk;
mod fault;
mod medium;
mod session;
#[cfg(test)]
mod tests;

use disk::Disk;
use fault::Rng;
pub use fault::{Crashed, Fault, IoCall, IoKind, is_crash};
use medium::Medium;
pub use session::SimStorage;

/// Which unsynced changes a power cut spares.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survival {
    /// Only what was synced.
    Nothing,
    /// All of them, as if the kernel had just written everything back.
    Everything,
    /// Everything up to some moment, and nothing that was written after it.
    TailLost,
    /// Each sector, length and name for itself.
    Scattered,
}

/// A disk. Its clones are the same disk; [`SimDisk::clone_state`] makes another one.
///
/// Copying a disk takes memory like any allocation: where there is none left, these methods panic.
#[derive(Debug, Clone)]
pub struct SimDisk {
    state: Arc<Mutex<Disk>>,
}

impl SimDisk {
    /// An empty disk. The seed decides what is random in the effects of faults.
    #[must_use]
    pub fn new(seed: u64) -> SimDisk {
        SimDisk::of(Disk::new(seed))
    }

    fn of(disk: Disk) -> SimDisk {
        SimDisk { state: Arc::new(Mutex::new(disk)) }
    }

    /// Begins a session: the one handle on the disk until it is dropped or crashes.
    ///
    /// # Panics
    /// If a session has the disk; [`SimDisk::try_storage`] gives an error instead.
    #[must_use]
    pub fn storage(&self) -> SimStorage {
        self.try_storage().expect("one session at a time")
    }

    /// Begins a session, or gives `WouldBlock` if another one has the disk.
    pub fn try_storage(&self) -> io::Result<SimStorage> {
        SimStorage::begin(&self.state)
    }

    /// The number of I/O calls made so far: the index of the next one.
    #[must_use]
    pub fn io_count(&self) -> u64 {
        lock(&self.state).io_count
    }

    /// The I/O calls made so far, by index, up to the first million: to see what a fault struck, or to choose.
    #[must_use]
    pub fn calls(&self) -> Vec<IoCall> {
        lock(&self.state).calls.clone()
    }

    /// Plans that the call of this index (0 is the first ever) goes wrong. Planning again for it replaces the fault.
    pub fn fail_at(&self, index: u64, fault: Fault) {
        lock(&self.state).plan.insert(index, fault);
    }

    /// Forgets all faults that have not struck yet.
    pub fn clear_faults(&self) {
        lock(&self.state).plan.clear();
    }

    /// Kills the process that has the disk: all its calls fail from now on, and a new session can begin, which sees
    /// everything that was written, synced or not.
    pub fn crash(&self) {
        lock(&self.state).has_crashed = true;
    }

    /// Whether the newest session has crashed.
    #[must_use]
    pub fn has_crashed(&self) -> bool {
        lock(&self.state).has_crashed
    }

    /// The disk as it is found after a power cut at this moment. The seed chooses one of the ways of [`Survival`], most
    /// often that each change survives or not by itself, and then everything else. This disk is left as it is.
    #[must_use]
    pub fn power_cut(&self, seed: u64) -> SimDisk {
        let survival = match Rng::new(seed, 0).below(8) {
            0 => Survival::Nothing,
            1 => Survival::Everything,
            2 | 3 => Survival::TailLost,
            _ => Survival::Scattered,
        };
        self.power_cut_with(survival, seed)
    }

    /// The disk as it is found after a power cut that spares what `survival` says.
    ///
    /// # Panics
    /// If there is no memory for another disk.
    #[must_use]
    pub fn power_cut_with(&self, survival: Survival, seed: u64) -> SimDisk {
        SimDisk::of(lock(&self.state).after_power_cut(survival, seed).expect("memory for another disk"))
    }

    /// The disk as it is found after a power cut that spares exactly those unsynced changes, in the order in which they
    /// were made, whose bit in `changes` is set: to try all of the 2 ^ [`SimDisk::unsynced`] disks that one moment may leave.
    ///
    /// # Panics
    /// If there is no memory for another disk.
    #[must_use]
    pub fn power_cut_sparing(&self, changes: u64) -> SimDisk {
        SimDisk::of(lock(&self.state).after_power_cut_sparing(changes).expect("memory for another disk"))
    }

    /// Another disk in the same state, unsynced changes included, with no session, no faults planned and no calls
    /// counted: many experiments can start from one state.
    ///
    /// # Panics
    /// If there is no memory for another disk.
    #[must_use]
    pub fn clone_state(&self) -> SimDisk {
        SimDisk::of(lock(&self.state).copy().expect("memory for another disk"))
    }

    /// How many changes a power cut might lose: sectors, lengths, names. Zero means that everything is durable, unless
    /// a sync has failed.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        lock(&self.state).unsynced()
    }

    /// How many sectors failed syncs have lost: they read well and are not on the disk.
    #[must_use]
    pub fn lost_sectors(&self) -> usize {
        lock(&self.state).lost_sectors()
    }

    /// Flips the bits of `mask` in the byte at `offset` of a file, on the disk and in what is seen of it. As with any
    /// write, nobody may be looking at that byte through a mapping at this moment.
    pub fn corrupt(&self, name: &str, offset: u64, mask: u8) -> io::Result<()> {
        let mut disk = lock(&self.state);
        let file = disk.find(name)?;
        disk.medium_mut(file)?.0.corrupt(offset, mask)
    }

    /// Sets the length of a file as if it had always been so. A mapped file can't be shortened (`ResourceBusy`).
    pub fn truncate(&self, name: &str, len: u64) -> io::Result<()> {
        let mut disk = lock(&self.state);
        let file = disk.find(name)?;
        disk.medium_mut(file)?.0.truncate(len)
    }

    /// Puts a file with these bytes there, or in the place of one, as if it had always been so.
    pub fn put_file(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        name::check(name)?;
        lock(&self.state).put(name, bytes)
    }

    /// The names and lengths of all files, as they are seen, by name.
    #[must_use]
    pub fn files(&self) -> Vec<(String, u64)> {
        let disk = lock(&self.state);
        let len_of =
            |name: &String| disk.find(name).and_then(|file| disk.medium(file)).map_or(0, Medium::len);
        disk.names().map(|name| (name.clone(), len_of(name))).collect()
    }

    /// The bytes of a file as they are seen.
    pub fn read_file(&self, name: &str) -> io::Result<Vec<u8>> {
        let disk = lock(&self.state);
        let medium = disk.medium(disk.find(name)?)?;
        let len = usize::try_from(medium.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let mut bytes = vec![0; len];
        medium.read(&mut bytes, 0)?;
        Ok(bytes)
    }
}
