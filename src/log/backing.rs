//! The file behind a segment: opened when needed, whole or packed, its header checked before anything in it is believed.

use std::io::IoSlice;
use std::sync::Arc;

use super::ahead::SPARE;
use super::loaded::Loaded;
use super::packed::{Packed, packed_name};
use super::segment::{Segment, Segments, file_name, usize_of};
use crate::error::{Error, Result};
use crate::format::control::PackedRecord;
use crate::format::packed::Ranks;
use crate::format::segment::{HEADER_BYTES, SegmentHeader};
use crate::storage::{Storage, StorageFile};
use crate::sync::atomic::Ordering;

/// The file that holds a segment's bytes.
#[derive(Default)]
pub(super) struct Backing {
    /// Opened when first needed.
    file: Option<Arc<dyn StorageFile>>,
    /// If the file is a packed one: its rewrite, and its length in slots.
    packed: Option<(u32, u32)>,
    /// The file was written to since its last sync, so it must stay open: a failure to write it back may be reported to
    /// this very file and to nobody else.
    is_written: bool,
    /// One count for each mapping of a whole file, beside this one: while there are others the file's bytes must stay, even
    /// when it is no longer the segment's.
    readers: Arc<()>,
    /// Set when the file's header was checked: where the slots lie, if it is a packed one.
    checked: Option<Arc<Option<Ranks>>>,
}

/// A segment's file at one moment.
pub(super) struct Opened {
    pub(super) file: Arc<dyn StorageFile>,
    /// If it is a packed one.
    pub(super) record: Option<PackedRecord>,
    reader: Arc<()>,
    checked: Option<Arc<Option<Ranks>>>,
    /// The file was closed before.
    pub(super) is_new: bool,
}

impl Opened {
    /// Where the slots lie, if the file is a packed one whose header was checked.
    pub(super) fn ranks(&self) -> Option<&Ranks> {
        self.checked.as_ref()?.as_ref().as_ref()
    }
}

impl Backing {
    fn record(&self, number: u32) -> Option<PackedRecord> {
        self.packed.map(|(rewrite, file_slots)| PackedRecord { number, rewrite, file_slots })
    }
}

impl Segments {
    /// The file of a segment, opened and its length checked.
    pub(crate) fn file(&self, segment: &Segment) -> Result<Arc<dyn StorageFile>> {
        self.open(segment).map(|opened| opened.file)
    }

    /// The same, and what it is if it is a packed one: in one step, because a segment may be packed at any time.
    pub(super) fn open(&self, segment: &Segment) -> Result<Opened> {
        let mut backing = segment.backing.lock();
        let (record, reader) = (backing.record(segment.number), backing.readers.clone());
        let checked = backing.checked.clone();
        if let Some(file) = &backing.file {
            return Ok(Opened { file: file.clone(), record, reader, checked, is_new: false });
        }
        let (name, expected) = match backing.packed {
            Some((rewrite, slots)) => (packed_name(segment.number, rewrite), self.geometry().offset(slots)),
            None => (file_name(segment.number), self.geometry().segment_bytes()),
        };
        let file = self.storage().open(&name).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                Error::corrupt(self.storage().path(&name), 0, "a segment file", "no such file")
            }
            _ => Error::io("open", self.storage().path(&name), error),
        })?;
        let len = file.len().map_err(|error| Error::io("measure", self.storage().path(&name), error))?;
        if len != expected {
            let expected = format!("a file of {expected} bytes");
            return Err(Error::corrupt(self.storage().path(&name), len, expected, format!("{len} bytes")));
        }
        backing.file = Some(file.clone());
        Ok(Opened { file, record, reader, checked, is_new: true })
    }

    /// The same, with the header checked once.
    pub(super) fn open_checked(&self, segment: &Segment) -> Result<Opened> {
        let mut opened = self.open(segment)?;
        if opened.checked.is_none() {
            let ranks = match &opened.record {
                Some(record) => Some(self.ranks_in(&*opened.file, segment, record)?),
                None => {
                    let header = self.header_in(&*opened.file, segment)?;
                    self.check_generation(segment, header.generation)?;
                    None
                }
            };
            let checked = Arc::new(ranks);
            opened.checked = Some(checked.clone());
            let mut backing = segment.backing.lock();
            // It may have been packed meanwhile; what was checked is then the file that was opened, and that one only.
            if Arc::ptr_eq(&backing.readers, &opened.reader) {
                backing.checked = Some(checked);
            }
        }
        Ok(opened)
    }

    /// Creates the file of a segment that has none. One that a crash or a failure left over is removed first:
    /// nothing refers to it, and nobody knows whether its name or its length would ever become durable.
    pub(crate) fn create_file(&self, segment: &Segment) -> Result<()> {
        let mut backing = segment.backing.lock();
        *backing = Backing::default();
        let file = create_anew(self.storage(), &file_name(segment.number), self.geometry().segment_bytes())?;
        *backing = Backing { file: Some(file), is_written: true, ..Backing::default() };
        self.note_file(segment, None);
        Ok(())
    }

    /// Takes note of the file that a segment has, for those who count.
    pub(crate) fn note_file(&self, segment: &Segment, packed: Option<&PackedRecord>) {
        let len = packed
            .map_or(self.geometry().segment_bytes(), |record| self.geometry().offset(record.file_slots));
        segment.file_bytes.store(len, Ordering::Relaxed);
        segment.is_packed.store(packed.is_some(), Ordering::Relaxed);
    }

    /// Makes a file that nobody needs any more the file of a segment that has none.
    pub(super) fn adopt_file(&self, segment: &Segment, spare: &str) -> Result<()> {
        let (name, storage) = (file_name(segment.number), self.storage());
        let mut backing = segment.backing.lock();
        *backing = Backing::default();
        if spare != name {
            storage.rename(spare, &name).map_err(|error| Error::io("rename", storage.path(spare), error))?;
        }
        let file = storage.open(&name).map_err(|error| Error::io("open", storage.path(&name), error))?;
        *backing = Backing { file: Some(file), is_written: true, ..Backing::default() };
        self.note_file(segment, None);
        Ok(())
    }

    /// Gives a whole segment, which nobody reads from yet, a file of its own with the same bytes, if it shares one.
    pub(super) fn copy_file(&self, segment: &Segment) -> Result<()> {
        let (storage, len, from) = (self.storage(), self.geometry().segment_bytes(), self.file(segment)?);
        let failed = |operation| move |error| disk_error(operation, storage.path(SPARE), len, error);
        // What is left of it by a crash goes at the next opening.
        let file = create_anew(storage, SPARE, len)?;
        let mut slot = vec![0; self.geometry().page_size() as usize];
        for offset in (0..len).step_by(slot.len()) {
            from.read_exact_at(&mut slot, offset)
                .map_err(|error| Error::io("read", self.path(segment.number), error))?;
            if slot.iter().any(|byte| *byte != 0) {
                file.write_all_at(&[IoSlice::new(&slot)], offset).map_err(failed("write to"))?;
            }
        }
        file.sync().map_err(failed("sync"))?;
        self.adopt_file(segment, SPARE)?;
        storage.sync_dir().map_err(|error| Error::io("sync", storage.path(""), error))
    }

    /// What the catalog says of a packed segment.
    pub(crate) fn packed_record(&self, number: u32) -> Option<PackedRecord> {
        self.get(number)?.backing.lock().record(number)
    }

    /// Takes note of what the catalog says of a packed segment; to be called before the store is read from.
    pub(crate) fn set_packed(&self, record: &PackedRecord) {
        if let Some(segment) = self.get(record.number) {
            segment.backing.lock().packed = Some((record.rewrite, record.file_slots));
            self.note_file(segment, Some(record));
        }
    }

    /// Lets readers find what is left of a segment in its packed file, which is whole and synced. Called under the
    /// commit lock, when nobody can reach what was not kept.
    /// Returns what counts those who still read from the file before.
    pub(crate) fn read_from_packed(&self, segment: &Segment, record: &PackedRecord) -> Arc<()> {
        let packed = Some((record.rewrite, record.file_slots));
        let before =
            std::mem::replace(&mut *segment.backing.lock(), Backing { packed, ..Backing::default() });
        self.note_file(segment, Some(record));
        self.replace(record.number, None);
        before.readers
    }

    /// Forgets the files of segments that nobody can reach; the same numbers may get fresh ones.
    pub(crate) fn forget_files(&self, segments: &[&Segment]) {
        for segment in segments {
            *segment.backing.lock() = Backing::default();
            segment.file_bytes.store(0, Ordering::Relaxed);
            segment.is_packed.store(false, Ordering::Relaxed);
        }
        if !segments.is_empty() {
            self.replace_all(segments.iter().map(|segment| (segment.number, None)));
        }
    }

    /// Whether the file is somebody else's too, so that nothing may be written to it. If that can't be told, it may be.
    pub(crate) fn is_shared(&self, number: u32) -> bool {
        let Some(segment) = self.get(number) else { return false };
        self.file(segment)
            .and_then(|file| file.links().map_err(|error| Error::io("look at", self.path(number), error)))
            .map_or(true, |links| links > 1)
    }

    /// The file that a segment is in now, its name, and what keeps its bytes from being overwritten if it becomes another's.
    pub(crate) fn hold_file(&self, segment: &Segment) -> Result<(String, Arc<dyn StorageFile>, Arc<()>)> {
        let opened = self.open(segment)?;
        let name = match &opened.record {
            Some(record) => packed_name(record.number, record.rewrite),
            None => file_name(segment.number),
        };
        Ok((name, opened.file, opened.reader))
    }

    /// The name of the file that a segment is in now, and its length in bytes.
    pub(crate) fn file_of(&self, segment: &Segment) -> (String, u64) {
        match segment.backing.lock().packed {
            Some((rewrite, slots)) => (packed_name(segment.number, rewrite), self.geometry().offset(slots)),
            None => (file_name(segment.number), self.geometry().segment_bytes()),
        }
    }

    /// Reads and checks a segment's header.
    pub(crate) fn read_header(&self, segment: &Segment) -> Result<SegmentHeader> {
        self.header_in(&*self.file(segment)?, segment)
    }

    fn header_in(&self, file: &dyn StorageFile, segment: &Segment) -> Result<SegmentHeader> {
        let mut bytes = [0; HEADER_BYTES];
        file.read_exact_at(&mut bytes, 0)
            .map_err(|error| Error::io("read", self.path(segment.number), error))?;
        let header = SegmentHeader::decode(&bytes, segment.number)
            .map_err(|flaw| flaw.into_error(self.path(segment.number), 0))?;
        if header.store_id != self.store_id() {
            let found = format!("store {}", header.store_id);
            return Err(Error::corrupt(
                self.path(segment.number),
                8,
                format!("store {}", self.store_id()),
                found,
            ));
        }
        if header.page_size != self.geometry().page_size() || header.slots != self.geometry().segment_slots()
        {
            let expected = format!("pages of {} bytes", self.geometry().page_size());
            return Err(Error::corrupt(
                self.path(segment.number),
                32,
                expected,
                header.page_size.to_string(),
            ));
        }
        Ok(header)
    }

    /// Maps the segment's file and checks its header. A mapping needs no open file, so one that was opened for it is closed
    /// again: a large store has more segments than a process may open files.
    #[cold]
    pub(super) fn map(&self, loaded: &Loaded, number: u32) -> Result<()> {
        let segment = self.segment_of(number)?;
        let done = self.map_open(loaded, segment);
        let mut backing = segment.backing.lock();
        if !backing.is_written {
            backing.file = None;
        }
        done
    }

    /// Closes the file of a segment until it is needed again, unless it is being written to.
    pub(super) fn close_unwritten(&self, number: u32) {
        if let Some(segment) = self.get(number) {
            let mut backing = segment.backing.lock();
            if !backing.is_written {
                backing.file = None;
            }
        }
    }

    /// The file of a segment, to be written to. It stays open until [`Segments::close_synced`].
    pub(super) fn file_for_writing(&self, segment: &Segment) -> Result<Arc<dyn StorageFile>> {
        segment.backing.lock().is_written = true;
        self.file(segment)
    }

    /// Closes the file of a segment that the log has left, after its last sync, until it is needed again.
    pub(super) fn close_synced(&self, number: u32) {
        if let Some(segment) = self.get(number) {
            let mut backing = segment.backing.lock();
            (backing.file, backing.is_written) = (None, false);
        }
    }

    fn map_open(&self, loaded: &Loaded, segment: &Segment) -> Result<()> {
        let Opened { file, record, reader, .. } = self.open(segment)?;
        let map = |len: u64| {
            file.map(usize_of(len)).map_err(|error| Error::io("map", self.path(segment.number), error))
        };
        if let Some(record) = record {
            let ranks = self.ranks_in(&*file, segment, &record)?;
            loaded.set_packed(Packed::new(map(self.geometry().offset(record.file_slots))?, ranks));
        } else {
            let header = self.header_in(&*file, segment)?;
            self.check_generation(segment, header.generation)?;
            loaded.set_mapping(map(self.geometry().segment_bytes())?, reader);
        }
        Ok(())
    }

    pub(super) fn check_generation(&self, segment: &Segment, found: u32) -> Result<()> {
        let generation = segment.generation.load(Ordering::Relaxed);
        if found == generation {
            return Ok(());
        }
        let expected = format!("generation {generation}");
        Err(Error::corrupt(self.path(segment.number), 28, expected, found.to_string()))
    }
}

/// Creates a file of `len` zeros; one of that name that was left over is removed first.
pub(super) fn create_anew(storage: &dyn Storage, name: &str, len: u64) -> Result<Arc<dyn StorageFile>> {
    let path = || storage.path(name);
    let created = match storage.create(name, len) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            storage.remove(name).map_err(|error| Error::io("remove", path(), error))?;
            storage.create(name, len)
        }
        other => other,
    };
    created.map_err(|error| disk_error("create", path(), len, error))
}

/// An error of the system, told apart: a full disk is one that the user can mend.
pub(crate) fn disk_error(
    operation: &'static str,
    file: std::path::PathBuf,
    needed: u64,
    error: std::io::Error,
) -> Error {
    match error.kind() {
        std::io::ErrorKind::StorageFull
        | std::io::ErrorKind::QuotaExceeded
        | std::io::ErrorKind::FileTooLarge => Error::Full { needed, file, source: Arc::new(error) },
        _ => Error::io(operation, file, error),
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind::{FileTooLarge, Interrupted, Other, QuotaExceeded, StorageFull};

    use super::*;

    #[test]
    fn what_the_user_can_mend_is_a_full_disk_and_nothing_else() {
        for (kind, is_full) in [
            (StorageFull, true),
            (QuotaExceeded, true),
            (FileTooLarge, true),
            (Interrupted, false),
            (Other, false),
        ] {
            match disk_error("write to", "segment".into(), 7, kind.into()) {
                Error::Full { needed: 7, .. } => assert!(is_full, "{kind}"),
                Error::Io { .. } => assert!(!is_full, "{kind}"),
                other => panic!("{kind}: {other:?}"),
            }
        }
    }
}
