//! What can be made to go wrong in the simulated disk, and how a call is known.

use std::fmt;
use std::io;

use rustix::io::Errno;

/// What happens instead of, or besides, what an I/O call asks for. A fault strikes one call and is then used up; only
/// [`Fault::Crash`] lasts.
///
/// A fault that makes no sense for the call which it strikes becomes the nearest that does: so every fault can be
/// tried at every index.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The call fails with an error of this kind and changes nothing; what is unsynced stays so.
    Error(io::ErrorKind),
    /// The same with an error number of the system, such as [`Fault::EIO`] or [`Fault::ENOSPC`].
    Errno(i32),
    /// A write stops after a random number of its bytes and fails with ENOSPC. Other calls fail with ENOSPC.
    ShortWrite,
    /// A sync fails with EIO, having made only some of the sectors durable. Reads go on to show the bytes that the
    /// disk lacks, and the lost sectors count as clean: no later sync makes them durable, unless they are written
    /// again. A sync of the directory loses names in the same way. Other calls fail with EIO.
    SyncFails,
    /// The process dies: this call and all later ones of the session fail with [`Crashed`]. Of a write, any of its
    /// sectors may have been written.
    Crash,
    /// One bit of what a read returns, or of what a write writes, is not what it should be, and nobody says so. Other
    /// calls are left alone.
    BitFlip,
    /// The call panics, as a bug in a storage of somebody else's might, and changes nothing.
    Panic,
}

impl Fault {
    /// The device failed.
    pub const EIO: Fault = Fault::Errno(Errno::IO.raw_os_error());
    /// The disk is full.
    pub const ENOSPC: Fault = Fault::Errno(Errno::NOSPC.raw_os_error());
    /// The quota is used up.
    pub const EDQUOT: Fault = Fault::Errno(Errno::DQUOT.raw_os_error());

    /// What the call gives back if nothing more is to be said.
    pub(super) fn to_error(self) -> io::Error {
        match self {
            Fault::Error(kind) => io::Error::new(kind, "a simulated fault"),
            Fault::Errno(number) => io::Error::from_raw_os_error(number),
            Fault::ShortWrite => Fault::ENOSPC.to_error(),
            Fault::SyncFails | Fault::BitFlip | Fault::Panic => Fault::EIO.to_error(),
            Fault::Crash => io::Error::other(Crashed),
        }
    }
}

/// The error of every call after a simulated crash: the process that made the call no longer lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crashed;

impl fmt::Display for Crashed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the simulated process has crashed")
    }
}

impl std::error::Error for Crashed {}

/// Whether an error says that the simulated process has crashed.
#[must_use]
pub fn is_crash(error: &io::Error) -> bool {
    error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<Crashed>)
}

/// The kind of an I/O call. Asking for a length or a path is no I/O.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IoKind {
    /// [`Storage::open`](crate::storage::Storage::open)
    Open,
    /// [`Storage::create`](crate::storage::Storage::create)
    Create,
    /// [`Storage::list`](crate::storage::Storage::list)
    List,
    /// [`Storage::remove`](crate::storage::Storage::remove)
    Remove,
    /// [`Storage::rename`](crate::storage::Storage::rename)
    Rename,
    /// [`Storage::sync_dir`](crate::storage::Storage::sync_dir)
    SyncDir,
    /// [`StorageFile::set_len`](crate::storage::StorageFile::set_len)
    SetLen,
    /// [`StorageFile::reserve`](crate::storage::StorageFile::reserve)
    Reserve,
    /// [`StorageFile::read_exact_at`](crate::storage::StorageFile::read_exact_at)
    Read,
    /// [`StorageFile::write_all_at`](crate::storage::StorageFile::write_all_at)
    Write,
    /// [`StorageFile::sync`](crate::storage::StorageFile::sync)
    Sync,
    /// [`StorageFile::map`](crate::storage::StorageFile::map)
    Map,
}

/// One I/O call as the disk saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IoCall {
    /// What was asked for.
    pub kind: IoKind,
    /// Of which file; empty for the directory.
    pub file: String,
    /// From which byte on.
    pub offset: u64,
    /// How many bytes.
    pub len: u64,
}

impl fmt::Display for IoCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?} {}+{}", self.kind, self.file, self.offset, self.len)
    }
}

/// A small generator of random numbers (SplitMix64, Steele and others 2014). Its numbers depend on the seed alone, not
/// on a crate's version, so that a seed replays for ever.
#[derive(Debug, Clone)]
pub(super) struct Rng(u64);

impl Rng {
    /// The numbers of `seed` for one of many uses, such as the index of a call.
    pub(super) fn new(seed: u64, salt: u64) -> Rng {
        let mut rng = Rng(seed ^ salt.wrapping_mul(0xd1b5_4a32_d192_ed03));
        rng.next();
        rng
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 if the bound is 0. The bias of the remainder doesn't matter here.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next().checked_rem(bound).unwrap_or(0)
    }

    /// An index of something with `len` elements, or 0 of nothing.
    pub(super) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }

    /// True `eighths` times out of eight.
    pub(super) fn chance(&mut self, eighths: u64) -> bool {
        self.below(8) < eighths
    }
}
