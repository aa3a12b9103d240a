//! The state of a simulated disk: its files, their names, the plan of faults, and who has it open.
//!
//! Names are kept twice, as everybody sees them and as the disk would still have them after a power cut, with the
//! changes since the last sync of the directory in between. A file is known by a number, since one name may stand for
//! several files before anything is synced, and a file lives on without a name while a handle does.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::Survival;
use super::fault::{Crashed, Fault, IoCall, IoKind, Rng};
use super::medium::{Clock, Judge, Medium};
use crate::storage::buffer::Contents;
use crate::storage::name;

/// How many calls are remembered for [`Disk::calls`]; later ones are only counted.
const CALLS_KEPT_MAX: usize = 1 << 20;

/// Knows a file whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileId(u64);

/// A file, and a mark of which each open handle has a copy.
#[derive(Debug)]
struct Inode {
    medium: Medium,
    handles: Arc<()>,
}

/// A change of a name that isn't durable: from now on it stands for `file`, or for nothing.
#[derive(Debug, Clone)]
struct Renaming {
    serial: u64,
    name: String,
    file: Option<FileId>,
}

/// Everything about a disk, to be kept behind one lock.
#[derive(Debug, Default)]
pub(super) struct Disk {
    pub(super) seed: u64,
    pub(super) io_count: u64,
    pub(super) calls: Vec<IoCall>,
    pub(super) plan: BTreeMap<u64, Fault>,
    /// The number of the newest session, whether its handle lives, and whether its process does.
    session: u64,
    is_held: bool,
    pub(super) has_crashed: bool,
    pub(super) clock: Clock,
    names: BTreeMap<String, FileId>,
    durable_names: BTreeMap<String, FileId>,
    renamings: Vec<Renaming>,
    files: BTreeMap<FileId, Inode>,
    next_file: u64,
}

impl Disk {
    pub(super) fn new(seed: u64) -> Disk {
        Disk { seed, ..Disk::default() }
    }

    /// Begins a session, unless one has the disk.
    pub(super) fn begin_session(&mut self) -> io::Result<u64> {
        if self.is_held && !self.has_crashed {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, "the simulated disk is in use"));
        }
        (self.is_held, self.has_crashed) = (true, false);
        self.session += 1;
        Ok(self.session)
    }

    pub(super) fn end_session(&mut self, session: u64) {
        if session == self.session {
            self.is_held = false;
        }
    }

    /// Refuses the calls of a process that no longer lives.
    pub(super) fn check_session(&self, session: u64) -> io::Result<()> {
        if self.has_crashed || session != self.session {
            return Err(io::Error::other(Crashed));
        }
        Ok(())
    }

    /// Counts a call and says what is to go wrong in it, with random numbers of its own. A fault that leaves nothing
    /// to be done is an error at once.
    pub(super) fn begin_call(&mut self, session: u64, call: IoCall) -> io::Result<(Option<Fault>, Rng)> {
        self.check_session(session)?;
        let index = self.io_count;
        self.io_count += 1;
        let kind = call.kind;
        if self.calls.len() < CALLS_KEPT_MAX {
            self.calls.push(call);
        }
        let fault = self.plan.remove(&index);
        self.has_crashed = fault == Some(Fault::Crash);
        match (fault, kind) {
            (None, _)
            | (Some(Fault::Crash | Fault::ShortWrite | Fault::BitFlip), IoKind::Write)
            | (Some(Fault::BitFlip), IoKind::Read)
            | (Some(Fault::SyncFails), IoKind::Sync | IoKind::SyncDir) => {
                Ok((fault, Rng::new(self.seed, index)))
            }
            (Some(Fault::Panic), kind) => panic!("a planted panic in call {index} ({kind:?})"),
            (Some(Fault::BitFlip), _) => Ok((None, Rng::new(self.seed, index))),
            (Some(fault), _) => Err(fault.to_error()),
        }
    }

    pub(super) fn medium(&self, file: FileId) -> io::Result<&Medium> {
        self.files.get(&file).map(|inode| &inode.medium).ok_or_else(gone)
    }

    /// A file and the clock, both to be changed.
    pub(super) fn medium_mut(&mut self, file: FileId) -> io::Result<(&mut Medium, &mut Clock)> {
        let inode = self.files.get_mut(&file).ok_or_else(gone)?;
        Ok((&mut inode.medium, &mut self.clock))
    }

    pub(super) fn find(&self, name: &str) -> io::Result<FileId> {
        self.names.get(name).copied().ok_or_else(|| name::not_found(name))
    }

    /// A mark that keeps a file alive without a name.
    pub(super) fn handle(&self, file: FileId) -> io::Result<Arc<()>> {
        self.files.get(&file).map(|inode| Arc::clone(&inode.handles)).ok_or_else(gone)
    }

    pub(super) fn create(&mut self, name: &str, len: u64) -> io::Result<FileId> {
        if self.names.contains_key(name) {
            return Err(name::already_exists(name));
        }
        let serial = self.clock.tick();
        let medium = Medium::new(len, &mut self.clock)?;
        let file = self.add(medium);
        self.names.insert(name.to_owned(), file);
        self.renamings.push(Renaming { serial, name: name.to_owned(), file: Some(file) });
        Ok(file)
    }

    /// Puts a file there, or in the place of one, as if it had always been so.
    pub(super) fn put(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut contents = Contents::new(bytes.len() as u64)?;
        contents.write(bytes, 0)?;
        let file = self.add(Medium::durable(contents));
        self.renamings.retain(|renaming| renaming.name != name);
        self.names.insert(name.to_owned(), file);
        self.durable_names.insert(name.to_owned(), file);
        self.forget_unreachable();
        Ok(())
    }

    fn add(&mut self, medium: Medium) -> FileId {
        let file = FileId(self.next_file);
        self.next_file += 1;
        self.files.insert(file, Inode { medium, handles: Arc::new(()) });
        file
    }

    pub(super) fn remove(&mut self, name: &str) -> io::Result<()> {
        self.names.remove(name).ok_or_else(|| name::not_found(name))?;
        let serial = self.clock.tick();
        self.renamings.push(Renaming { serial, name: name.to_owned(), file: None });
        Ok(())
    }

    /// The two halves of a renaming persist apart from each other: after a power cut either name may stand, both, or none.
    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let file = self.names.remove(from).ok_or_else(|| name::not_found(from))?;
        self.names.insert(to.to_owned(), file);
        for (name, file) in [(to, Some(file)), (from, None)] {
            let serial = self.clock.tick();
            self.renamings.push(Renaming { serial, name: name.to_owned(), file });
        }
        Ok(())
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.names.keys()
    }

    pub(super) fn sync_dir(&mut self) {
        for renaming in std::mem::take(&mut self.renamings) {
            rename(&mut self.durable_names, &renaming);
        }
        self.forget_unreachable();
    }

    /// Makes some names durable and loses the other changes, at least one.
    pub(super) fn fail_sync_dir(&mut self, rng: &mut Rng) {
        let surely_lost = rng.index(self.renamings.len());
        for (position, renaming) in std::mem::take(&mut self.renamings).iter().enumerate() {
            if position != surely_lost && !rng.chance(6) {
                rename(&mut self.durable_names, renaming);
            }
        }
    }

    /// Lets go of files that have neither a name nor a handle.
    fn forget_unreachable(&mut self) {
        let named: Vec<FileId> = self.names.values().chain(self.durable_names.values()).copied().collect();
        let renamed: Vec<FileId> = self.renamings.iter().filter_map(|renaming| renaming.file).collect();
        self.files.retain(|file, inode| {
            named.contains(file) || renamed.contains(file) || Arc::strong_count(&inode.handles) > 1
        });
    }

    /// How many changes a power cut may lose.
    pub(super) fn unsynced(&self) -> usize {
        self.unsynced_serials().len()
    }

    /// How many sectors failed syncs have lost for good.
    pub(super) fn lost_sectors(&self) -> usize {
        self.files.values().map(|inode| inode.medium.lost_sectors()).sum()
    }

    fn unsynced_serials(&self) -> Vec<u64> {
        let named = self.files.iter().filter(|(file, _)| self.is_reachable(**file));
        let of_files = named.flat_map(|(_, inode)| inode.medium.unsynced_serials());
        of_files.chain(self.renamings.iter().map(|renaming| renaming.serial)).collect()
    }

    /// Whether a file can still have a name after a power cut.
    fn is_reachable(&self, file: FileId) -> bool {
        self.durable_names.values().any(|named| *named == file)
            || self.names.values().any(|named| *named == file)
            || self.renamings.iter().any(|renaming| renaming.file == Some(file))
    }

    /// The same state, with no session, no plan and no calls counted.
    pub(super) fn copy(&self) -> io::Result<Disk> {
        let copy_of = |(file, inode): (&FileId, &Inode)| {
            Ok((*file, Inode { medium: inode.medium.copy()?, handles: Arc::new(()) }))
        };
        Ok(Disk {
            seed: self.seed,
            clock: self.clock,
            names: self.names.clone(),
            durable_names: self.durable_names.clone(),
            renamings: self.renamings.clone(),
            files: self.files.iter().map(copy_of).collect::<io::Result<_>>()?,
            next_file: self.next_file,
            ..Disk::default()
        })
    }

    /// The disk as it is found after a power cut.
    pub(super) fn after_power_cut(&self, survival: Survival, seed: u64) -> io::Result<Disk> {
        let mut rng = Rng::new(seed, self.clock.now());
        let judge = match survival {
            Survival::Nothing => Judge::Nothing,
            Survival::Everything => Judge::Everything,
            Survival::TailLost => {
                let serials = self.unsynced_serials();
                // The chosen change is the first one lost.
                Judge::Until(serials.get(rng.index(serials.len())).map_or(0, |serial| serial - 1))
            }
            Survival::Scattered => {
                let eighths = 1 + rng.below(7);
                Judge::Each(rng, eighths)
            }
        };
        self.judged(judge, seed)
    }

    /// The disk as it is found after a power cut that spares the n-th unsynced change if the n-th bit is set.
    pub(super) fn after_power_cut_sparing(&self, changes: u64) -> io::Result<Disk> {
        let mut serials = self.unsynced_serials();
        serials.sort_unstable();
        serials.dedup();
        let spared = |(n, serial)| (n < 64 && changes >> n & 1 == 1).then_some(serial);
        self.judged(Judge::Chosen(serials.into_iter().enumerate().filter_map(spared).collect()), changes)
    }

    fn judged(&self, mut judge: Judge, seed: u64) -> io::Result<Disk> {
        let mut names = self.durable_names.clone();
        for renaming in &self.renamings {
            if judge.spares(renaming.serial) {
                rename(&mut names, renaming);
            }
        }
        let mut disk = Disk { clock: self.clock, next_file: self.next_file, ..Disk::new(seed) };
        for file in names.values() {
            let medium = self.medium(*file)?.after_power_cut(&mut judge)?;
            disk.files.insert(*file, Inode { medium, handles: Arc::new(()) });
        }
        disk.durable_names = names.clone();
        disk.names = names;
        Ok(disk)
    }
}

fn rename(names: &mut BTreeMap<String, FileId>, renaming: &Renaming) {
    match renaming.file {
        Some(file) => names.insert(renaming.name.clone(), file),
        None => names.remove(&renaming.name),
    };
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the simulated file is gone")
}
