//! A delta onto a store that stands at its base: checked whole before anything is changed, then one commit.

use std::io::{IoSlice, Read};
use std::sync::Arc;

use super::options::ImportOptions;
use super::read::{Item, StreamReader};
use crate::commit::lead::LogState;
use crate::commit::whole::{Put, Whole, commit_whole};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::format::checksum::PageChecksum;
use crate::format::stream::StreamHeader;
use crate::id::{Fingerprint, PageId, Version};
use crate::log::backing::disk_error;
use crate::options::Durability;
use crate::progress::{Meter, Observer};
use crate::storage::StorageFile;
use crate::store::Store;
use crate::table::lookup::for_each_entry;
use crate::table::root::Root;

/// Bytes of pages that wait in memory; more go to a file.
const MEMORY_BYTES: usize = 32 << 20;

/// The beginning of the names of files in which pages wait for their commit. What a crash leaves over is removed by the next
/// opening.
pub(crate) const WAITING: &str = "waiting-";

impl Store {
    /// Applies a delta ([`Snapshot::export_since`](crate::Snapshot::export_since), or several folded into one) as one commit, after
    /// the whole stream was read and checked. The store must stand at the delta's base: what counts is the fingerprint, so
    /// an import, a clone or another store with the same contents will do. An empty store also takes a full stream.
    ///
    /// Writers wait while the commit is written, readers don't. If it can, the store takes on the version of the
    /// stream. Pages wait in memory, beyond 32 MiB in a file of the store's directory.
    ///
    /// ```
    /// # fn main() -> vellum::Result<()> {
    /// # let home = tempfile::tempdir().unwrap();
    /// use vellum::{Options, Store};
    /// let store = Store::in_memory(Options::new())?;
    /// let mut txn = store.begin()?;
    /// let id = txn.allocate()?;
    /// txn.write(id, &[1; 4096])?;
    /// txn.commit()?;
    /// let replica = home.path().join("replica");
    /// store.snapshot().clone_to(&replica)?;
    /// // Enough to know later what has changed since; no page is kept for it.
    /// store.create_bookmark("sent", &store.snapshot())?;
    ///
    /// let mut txn = store.begin()?;
    /// txn.write(id, &[2; 4096])?;
    /// txn.commit()?;
    /// let mut delta = Vec::new();
    /// store.snapshot().export_since(&store.bookmark("sent")?, &mut delta)?;
    ///
    /// let replica = Store::open(&replica, Options::new())?;
    /// replica.apply(&mut &delta[..])?;
    /// assert_eq!(replica.snapshot().fingerprint(), store.snapshot().fingerprint());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::WrongBase`] if the store stands elsewhere (before anything but the stream's header is read, or because of a commit
    /// in between), [`Error::PageSizeMismatch`], what [`verify_stream`](crate::verify_stream) gives for the stream, and what a
    /// commit gives. After any error the store is as it was.
    pub fn apply(&self, r: &mut dyn Read) -> Result<Version> {
        self.apply_with(r, &mut ())
    }

    /// As [`Store::apply`], watched.
    ///
    /// # Errors
    /// As [`Store::apply`], and [`Error::Cancelled`].
    pub fn apply_with(&self, r: &mut dyn Read, observer: &mut dyn Observer) -> Result<Version> {
        self.apply_as(r, &ImportOptions::new(), observer)
    }

    /// As [`Store::apply_with`], from streams that may be encrypted, and at a rate.
    ///
    /// # Errors
    /// As [`Store::apply_with`], and [`Error::WrongKey`].
    pub fn apply_as(
        &self,
        r: &mut dyn Read,
        options: &ImportOptions,
        observer: &mut dyn Observer,
    ) -> Result<Version> {
        let core = self.core();
        core.check_poison()?;
        let mut reader = StreamReader::begin(r, options, Meter::new("apply", None, observer))?;
        let header = reader.header().clone();
        let page_size = core.segments.geometry().page_size();
        if header.page_size != page_size {
            return Err(Error::PageSizeMismatch { asked: header.page_size, found: page_size });
        }
        check_base(self.snapshot().fingerprint(), &header)?;
        let mut waiting = Waiting::new(core);
        while let Some(item) = reader.next()? {
            match item {
                Item::Free(first, count) => waiting.freed.push((first, count)),
                Item::Pages(count) => {
                    for index in 0..count {
                        let (id, checksum, bytes) = reader.page(index);
                        waiting.page(id, checksum, bytes)?;
                    }
                }
            }
        }
        let mut done = waiting.commit(&mut core.log.lock(), &header);
        if matches!(done, Err(Error::Full { .. })) && core.make_room() {
            done = waiting.commit(&mut core.log.lock(), &header);
        }
        core.after_commit();
        done
    }
}

fn check_base(found: Fingerprint, header: &StreamHeader) -> Result<()> {
    let expected = header.base.map_or(Fingerprint::EMPTY, |base| base.fingerprint);
    if found == expected { Ok(()) } else { Err(Error::WrongBase { expected, found }) }
}

/// What a stream changes, checked and waiting to be committed.
struct Waiting<'a> {
    core: &'a Core,
    pages: Vec<(PageId, PageChecksum)>,
    memory: Vec<u8>,
    /// What came before what is in memory.
    file: Option<(String, Arc<dyn StorageFile>)>,
    written: u64,
    freed: Vec<(PageId, u64)>,
}

impl<'a> Waiting<'a> {
    fn new(core: &'a Core) -> Waiting<'a> {
        let (pages, memory, freed) = (Vec::new(), Vec::new(), Vec::new());
        Waiting { core, pages, memory, file: None, written: 0, freed }
    }

    fn page(&mut self, id: PageId, checksum: PageChecksum, bytes: &[u8]) -> Result<()> {
        if self.memory.len() + bytes.len() > MEMORY_BYTES {
            self.write_out()?;
        }
        self.pages.push((id, checksum));
        self.memory.extend_from_slice(bytes);
        Ok(())
    }

    fn write_out(&mut self) -> Result<()> {
        let storage = self.core.segments.storage();
        let len = self.memory.len() as u64;
        let (name, file) = match self.file.take() {
            Some(file) => file,
            None => {
                let name = format!("{WAITING}{:032x}", crate::open::random128());
                let file = storage
                    .create(&name, 0)
                    .map_err(|error| disk_error("create", storage.path(&name), len, error))?;
                (name, file)
            }
        };
        let end = self.written + len;
        let done = file
            .set_len(end)
            .and_then(|()| file.write_all_at(&[IoSlice::new(&self.memory)], self.written))
            .map_err(|error| disk_error("write to", storage.path(&name), len, error));
        self.file = Some((name, file));
        self.written = end;
        self.memory.clear();
        done
    }

    fn commit(&self, log: &mut LogState, header: &StreamHeader) -> Result<Version> {
        let core = self.core;
        // The commit lock is held, so the tip stays.
        let tip = core.current();
        let tip = tip.root();
        check_base(tip.fingerprint, header)?;
        let whole = Whole {
            version: header.version.max(tip.version.next()),
            created_at_ms: header.created_at_ms.max(tip.created_at_ms),
            truncate_to: Some(header.page_count).filter(|count| *count < tip.page_count),
            freed: self.freed_of(tip, header.page_count)?,
            page_count: header.page_count,
            meta: Some(header.meta.as_slice().into()),
            fingerprint: header.fingerprint,
        };
        let will_sync = core.options.default_durability() == Durability::Sync;
        commit_whole(core, log, &whole, will_sync, &mut |put| self.give(put))
    }

    /// The ids to be freed that hold something.
    fn freed_of(&self, tip: &Root, page_count: u64) -> Result<Vec<(PageId, u64)>> {
        let mut freed: Vec<(PageId, u64)> = Vec::new();
        for (first, count) in &self.freed {
            let end = first.0.saturating_add(*count).min(page_count);
            for_each_entry(&self.core.slab, tip, *first, &mut |id, entry| {
                if id.0 >= end {
                    return Ok(false);
                }
                match freed.last_mut() {
                    _ if !entry.is_page() => {}
                    Some((first, count)) if first.0 + *count == id.0 => *count += 1,
                    _ => freed.push((id, 1)),
                }
                Ok(true)
            })?;
        }
        Ok(freed)
    }

    /// Gives all pages, in their order.
    fn give(&self, put: &mut Put<'_>) -> Result<()> {
        let page_size = self.core.page_size();
        let mut buffer = vec![0; page_size];
        let mut offset = 0;
        for (id, checksum) in &self.pages {
            let bytes = match &self.file {
                Some((name, file)) if offset < self.written => {
                    let path = || self.core.segments.storage().path(name);
                    file.read_exact_at(&mut buffer, offset)
                        .map_err(|error| Error::io("read", path(), error))?;
                    if PageChecksum::of(*id, &buffer) != *checksum {
                        return Err(Error::corrupt(
                            path(),
                            offset,
                            format!("{id} as it was written"),
                            "other bytes",
                        ));
                    }
                    &buffer[..]
                }
                _ => {
                    let start = usize::try_from(offset - self.written).unwrap_or(usize::MAX);
                    &self.memory[start..start + page_size]
                }
            };
            put(*id, *checksum, bytes)?;
            offset += page_size as u64;
        }
        Ok(())
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some((name, _)) = &self.file {
            // What can't be removed now is removed by the next opening.
            let _ = self.core.segments.storage().remove(name);
        }
    }
}
