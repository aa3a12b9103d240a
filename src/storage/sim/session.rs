//! A session's handle on the simulated disk: the storage trait, with each call counted and its fault applied.

use std::fmt;
use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::disk::{Disk, FileId};
use super::fault::{Fault, IoCall, IoKind};
use crate::storage::memory::lock;
use crate::storage::{Mapping, Storage, StorageFile, name};

/// What one simulated process has of a disk. Dropping it ends the session, as closing the directory's lock would; its
/// files can be used until the next session begins, and fail as after a crash from then on.
pub struct SimStorage {
    disk: Arc<Mutex<Disk>>,
    session: u64,
}

impl SimStorage {
    pub(super) fn begin(disk: &Arc<Mutex<Disk>>) -> io::Result<SimStorage> {
        let session = lock(disk).begin_session()?;
        Ok(SimStorage { disk: Arc::clone(disk), session })
    }

    fn file(&self, disk: &Disk, name: &str, id: FileId) -> io::Result<Arc<dyn StorageFile>> {
        Ok(Arc::new(SimFile {
            disk: Arc::clone(&self.disk),
            session: self.session,
            name: name.to_owned(),
            id,
            _handle: disk.handle(id)?,
        }))
    }
}

impl Drop for SimStorage {
    fn drop(&mut self) {
        lock(&self.disk).end_session(self.session);
    }
}

impl fmt::Debug for SimStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimStorage").field("session", &self.session).finish_non_exhaustive()
    }
}

impl Storage for SimStorage {
    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        name::check(name)?;
        let mut disk = lock(&self.disk);
        disk.begin_call(self.session, call(IoKind::Open, name, 0))?;
        let id = disk.find(name)?;
        self.file(&disk, name, id)
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn StorageFile>> {
        name::check(name)?;
        let mut disk = lock(&self.disk);
        disk.begin_call(self.session, call(IoKind::Create, name, len))?;
        let id = disk.create(name, len)?;
        self.file(&disk, name, id)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut disk = lock(&self.disk);
        disk.begin_call(self.session, call(IoKind::List, "", 0))?;
        Ok(disk.names().cloned().collect())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        name::check(name)?;
        let mut disk = lock(&self.disk);
        disk.begin_call(self.session, call(IoKind::Remove, name, 0))?;
        disk.remove(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        name::check(from)?;
        name::check(to)?;
        let mut disk = lock(&self.disk);
        disk.begin_call(self.session, call(IoKind::Rename, from, 0))?;
        disk.rename(from, to)
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut disk = lock(&self.disk);
        let (fault, mut rng) = disk.begin_call(self.session, call(IoKind::SyncDir, "", 0))?;
        if let Some(fault) = fault {
            disk.fail_sync_dir(&mut rng);
            return Err(fault.to_error());
        }
        disk.sync_dir();
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { PathBuf::from("(sim)") } else { PathBuf::from(format!("(sim)/{name}")) }
    }
}

/// A call that concerns the directory.
fn call(kind: IoKind, file: &str, len: u64) -> IoCall {
    IoCall { kind, file: file.to_owned(), offset: 0, len }
}

/// A session's handle on one file.
struct SimFile {
    disk: Arc<Mutex<Disk>>,
    session: u64,
    name: String,
    id: FileId,
    /// Keeps the file alive after its name is gone.
    _handle: Arc<()>,
}

impl SimFile {
    fn call(&self, kind: IoKind, offset: u64, len: u64) -> IoCall {
        IoCall { kind, file: self.name.clone(), offset, len }
    }
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimFile").field("name", &self.name).field("id", &self.id).finish_non_exhaustive()
    }
}

impl StorageFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        let disk = lock(&self.disk);
        disk.check_session(self.session)?;
        Ok(disk.medium(self.id)?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut disk = lock(&self.disk);
        disk.begin_call(self.session, self.call(IoKind::SetLen, 0, len))?;
        let (medium, clock) = disk.medium_mut(self.id)?;
        medium.set_len(len, clock)
    }

    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        lock(&self.disk).begin_call(self.session, self.call(IoKind::Reserve, offset, len)).map(drop)
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let mut disk = lock(&self.disk);
        let call = self.call(IoKind::Read, offset, buf.len() as u64);
        let (fault, mut rng) = disk.begin_call(self.session, call)?;
        disk.medium(self.id)?.read(buf, offset)?;
        if fault.is_some() && !buf.is_empty() {
            buf[rng.index(buf.len())] ^= 1 << rng.below(8);
        }
        Ok(())
    }

    fn write_all_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let mut bytes: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
        let mut disk = lock(&self.disk);
        let call = self.call(IoKind::Write, offset, bytes.len() as u64);
        let (fault, mut rng) = disk.begin_call(self.session, call)?;
        let mut eighths_kept = 8;
        match fault {
            Some(Fault::BitFlip) if !bytes.is_empty() => {
                let place = rng.index(bytes.len());
                bytes[place] ^= 1 << rng.below(8);
            }
            Some(Fault::ShortWrite) => bytes.truncate(rng.index(bytes.len())),
            // From none of the sectors to all of them.
            Some(Fault::Crash) => eighths_kept = rng.below(9),
            _ => {}
        }
        let (medium, clock) = disk.medium_mut(self.id)?;
        medium.write(&bytes, offset, clock, || eighths_kept == 8 || rng.chance(eighths_kept))?;
        match fault {
            Some(fault @ (Fault::ShortWrite | Fault::Crash)) => Err(fault.to_error()),
            _ => Ok(()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = lock(&self.disk);
        let (fault, mut rng) = disk.begin_call(self.session, self.call(IoKind::Sync, 0, 0))?;
        let (medium, _) = disk.medium_mut(self.id)?;
        if let Some(fault) = fault {
            medium.fail_sync(&mut rng);
            return Err(fault.to_error());
        }
        medium.sync();
        Ok(())
    }

    fn map(&self, len: usize) -> io::Result<Mapping> {
        let mut disk = lock(&self.disk);
        disk.begin_call(self.session, self.call(IoKind::Map, 0, len as u64))?;
        disk.medium(self.id)?.map(len)
    }
}
