//! The two catalog slots: files that are overwritten alternately, so that one is always whole.
//!
//! A slot that is torn or damaged is never repaired in place by recovery: it is simply the one that the next
//! checkpoint overwrites. Because the log is kept back to the version before the newest catalog's, either slot alone
//! is enough to open the store.

use std::io::IoSlice;
use std::sync::Arc;

use super::backing::disk_error;
use crate::error::{Error, Result};
use crate::format::control::{BYTES_MAX, Catalog};
use crate::storage::{Storage, StorageFile};

/// The names of the two slots.
pub(crate) const NAMES: [&str; 2] = ["catalog-a", "catalog-b"];
/// The grain in which a slot's file grows.
const GROW_BYTES: u64 = 4096;

/// The two slots, and which one was written last.
#[derive(Debug)]
pub(crate) struct CatalogSlots {
    files: [Arc<dyn StorageFile>; 2],
    paths: [std::path::PathBuf; 2],
    sequence: u64,
    /// The slot that holds the newest catalog; the other one is overwritten next.
    newest: usize,
}

impl CatalogSlots {
    /// Creates both slots, empty.
    pub(crate) fn create(storage: &dyn Storage) -> Result<CatalogSlots> {
        let make = |name: &str| {
            storage
                .create(name, 0)
                .map_err(|error| disk_error("create", storage.path(name), GROW_BYTES, error))
        };
        let files = [make(NAMES[0])?, make(NAMES[1])?];
        Ok(CatalogSlots { files, paths: NAMES.map(|name| storage.path(name)), sequence: 0, newest: 1 })
    }

    /// Opens both slots and reads the newest catalog.
    pub(crate) fn open(storage: &dyn Storage) -> Result<(CatalogSlots, Catalog)> {
        let open = |name: &str| {
            storage.open(name).map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => {
                    Error::corrupt(storage.path(name), 0, "a catalog file", "no such file")
                }
                _ => Error::io("open", storage.path(name), error),
            })
        };
        let files = [open(NAMES[0])?, open(NAMES[1])?];
        let mut slots =
            CatalogSlots { files, paths: NAMES.map(|name| storage.path(name)), sequence: 0, newest: 1 };
        let read = [slots.read(0), slots.read(1)];
        let mut newest = None;
        let mut first_error = None;
        for (index, slot) in read.into_iter().enumerate() {
            match slot {
                Ok((sequence, catalog)) => {
                    if newest.as_ref().is_none_or(|(_, found, _)| *found < sequence) {
                        newest = Some((index, sequence, catalog));
                    }
                }
                // A newer vellum's catalog must not be overlooked, and a disk that can't be read may hold the newest.
                Err(error @ (Error::Unsupported { .. } | Error::Io { .. })) => return Err(error),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        match (newest, first_error) {
            (Some((index, sequence, mut catalog)), damaged) => {
                (slots.newest, slots.sequence) = (index, sequence);
                if damaged.is_some() {
                    // The other may have been the newer one, which didn't keep this one's older root.
                    catalog.forget_older_roots();
                }
                Ok((slots, catalog))
            }
            (None, Some(error)) => Err(error),
            (None, None) => unreachable!("each slot is read or gives an error"),
        }
    }

    /// The sequence of the newest catalog.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    fn read(&self, index: usize) -> Result<(u64, Catalog)> {
        let path = || self.paths[index].clone();
        let file = &self.files[index];
        let len = file.len().map_err(|error| Error::io("measure", path(), error))?;
        let len = usize::try_from(len).ok().filter(|len| *len <= BYTES_MAX);
        let len = len.ok_or_else(|| Error::corrupt(path(), 0, "a catalog", "a file too large for one"))?;
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, 0).map_err(|error| Error::io("read", path(), error))?;
        Catalog::decode(&bytes).map_err(|flaw| flaw.into_error(path(), 0))
    }

    /// Overwrites the older slot and syncs it. After an error the newest slot is what it was.
    pub(crate) fn write(&mut self, catalog: &Catalog) -> Result<()> {
        let index = self.fill(catalog)?;
        self.files[index].sync().map_err(|error| Error::io("sync", self.paths[index].clone(), error))?;
        self.note_written(index);
        Ok(())
    }

    /// The same without the sync, for a slot that nobody relies on: [`CatalogSlots::write`] has to follow at once.
    pub(crate) fn write_unsynced(&mut self, catalog: &Catalog) -> Result<()> {
        let index = self.fill(catalog)?;
        self.note_written(index);
        Ok(())
    }

    fn note_written(&mut self, index: usize) {
        (self.newest, self.sequence) = (index, self.sequence + 1);
    }

    /// Writes to the older slot, and says which one that is.
    fn fill(&self, catalog: &Catalog) -> Result<usize> {
        let index = 1 - self.newest;
        let path = || self.paths[index].clone();
        let bytes = catalog
            .encode(self.sequence + 1)
            .map_err(|found| Error::corrupt(path(), 0, "a catalog that can be written", found))?;
        let needed = bytes.len() as u64;
        let file = &self.files[index];
        let len = file.len().map_err(|error| Error::io("measure", path(), error))?;
        if len < needed {
            let grown = needed.next_multiple_of(GROW_BYTES);
            file.set_len(grown).map_err(|error| disk_error("lengthen", path(), grown, error))?;
        }
        file.write_all_at(&[IoSlice::new(&bytes)], 0)
            .map_err(|error| disk_error("write to", path(), needed, error))?;
        Ok(index)
    }
}
