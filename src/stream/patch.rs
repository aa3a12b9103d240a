//! Raw deltas: what leads a raw file from one version to another, as a list that anybody can apply (`format/patch.rs`).

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use serde::Serialize;
use xxhash_rust::xxh3::Xxh3;

use super::StreamBase;
use super::delta::{Changes, DeltaBase};
use super::source::{Source, bad};
use super::write::stream_error;
use crate::error::{Error, Result};
use crate::format::checksum::{PageChecksum, holds};
use crate::format::patch::{ENTRY_BYTES, FORMAT, HEADER_BYTES, MAGIC, PatchEntry, PatchHeader};
use crate::format::stream::BaseState;
use crate::id::{Fingerprint, PageId, Version};
use crate::pins::PinKind;
use crate::progress::{Meter, Observer};
use crate::snapshot::Snapshot;

/// What a raw delta holds, as far as it was written or checked.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PatchSummary {
    /// The version that the raw file must hold.
    pub base: StreamBase,
    /// The version that it holds afterwards.
    pub version: Version,
    /// That version's fingerprint.
    pub fingerprint: Fingerprint,
    /// Bytes of a page.
    pub page_size: u32,
    /// Pages of the raw file afterwards.
    pub page_count: u64,
    /// Pages in the list.
    pub pages: u64,
    /// Pages that become zeros.
    pub zeroed: u64,
    /// Bytes of the list.
    pub bytes: u64,
}

impl PatchSummary {
    /// The first bytes of every raw delta, by which it is told from a stream.
    pub const MAGIC: [u8; 8] = MAGIC;

    fn new(header: &PatchHeader) -> PatchSummary {
        let BaseState { version, fingerprint } = header.base;
        PatchSummary {
            base: StreamBase { version, fingerprint },
            version: header.version,
            fingerprint: header.fingerprint,
            page_size: header.page_size,
            page_count: header.page_count,
            pages: 0,
            zeroed: 0,
            bytes: 0,
        }
    }
}

impl Snapshot {
    /// Writes what leads a raw export of `base` to a raw export of this snapshot ([`Snapshot::export_raw`]), as a list of pages at
    /// their places, each with its checksum. [`apply_patch`] applies it; its form is simple enough for others to do so
    /// (ARCHITECTURE.md, "The format").
    ///
    /// # Errors
    /// As [`Snapshot::export_since_with`].
    pub fn export_raw_since<'a>(
        &self,
        base: impl Into<DeltaBase<'a>>,
        w: &mut dyn Write,
        observer: &mut dyn Observer,
    ) -> Result<PatchSummary> {
        let base = base.into();
        self.check_base(&base)?;
        let _in_use = self.in_use_by(PinKind::Export, "raw export")?;
        let _base_in_use = match base {
            DeltaBase::Snapshot(base) => Some(base.in_use_by(PinKind::Export, "raw export (as its base)")?),
            DeltaBase::Bookmark(_) => None,
        };
        let (core, root) = (self.core(), self.root());
        let header = PatchHeader {
            page_size: core.segments.geometry().page_size(),
            base: base.state(),
            version: root.version,
            fingerprint: root.fingerprint,
            page_count: root.page_count,
        };
        let mut meter = Meter::new("export", None, observer);
        meter.report()?;
        let mut list = ListWriter::begin(w, &header)?;
        let table = core.segments.table();
        let mut changes = Changes::new(self, base, PageId(0))?;
        while let Some(stretch) = changes.next_stretch()? {
            for (first, count, entry) in stretch {
                let page = match entry {
                    Some(entry) => core.segments.verified_page(&table, first, entry)?,
                    None => None,
                };
                match page {
                    Some((bytes, sum)) => {
                        list.page(first, sum, &bytes)?;
                        meter.add(1, bytes.len() as u64)?;
                    }
                    None => list.zeros(first, count)?,
                }
            }
        }
        changes.check()?;
        let summary = list.finish()?;
        meter.report()?;
        Ok(summary)
    }
}

/// Writes a list.
struct ListWriter<'w> {
    to: &'w mut dyn Write,
    summary: PatchSummary,
    entries: u64,
    digest: Xxh3,
    /// Zeros that may go on.
    zeros: Option<(u64, u64)>,
}

impl<'w> ListWriter<'w> {
    fn begin(to: &'w mut dyn Write, header: &PatchHeader) -> Result<ListWriter<'w>> {
        let mut list = ListWriter {
            to,
            summary: PatchSummary::new(header),
            entries: 0,
            digest: Xxh3::new(),
            zeros: None,
        };
        let bytes = header.encode();
        list.digest.update(&bytes);
        list.write(&bytes)?;
        Ok(list)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.summary.bytes += bytes.len() as u64;
        self.to.write_all(bytes).map_err(|error| stream_error("write to", error))
    }

    fn entry(&mut self, entry: PatchEntry) -> Result<()> {
        let bytes = entry.encode();
        self.digest.update(&bytes);
        self.entries += 1;
        self.write(&bytes)
    }

    fn end_zeros(&mut self) -> Result<()> {
        let Some((first, count)) = self.zeros.take() else { return Ok(()) };
        self.summary.zeroed += count;
        self.entry(PatchEntry::Zeros { first, count })
    }

    fn page(&mut self, id: PageId, sum: PageChecksum, bytes: &[u8]) -> Result<()> {
        self.end_zeros()?;
        self.summary.pages += 1;
        self.entry(PatchEntry::Page { id: id.0, sum: sum.0 })?;
        self.write(bytes)
    }

    fn zeros(&mut self, start: PageId, count: u64) -> Result<()> {
        match &mut self.zeros {
            Some((first, before)) if *first + *before == start.0 => *before += count,
            _ => {
                self.end_zeros()?;
                self.zeros = Some((start.0, count));
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<PatchSummary> {
        self.end_zeros()?;
        let end = PatchEntry::End { entries: self.entries, digest: self.digest.digest() };
        self.write(&end.encode())?;
        self.to.flush().map_err(|error| stream_error("write to", error))?;
        Ok(self.summary)
    }
}

/// Takes an entry and the bytes of its page.
type Take<'a> = dyn FnMut(PatchEntry, &[u8]) -> Result<()> + 'a;

/// Checks a raw delta ([`Snapshot::export_raw_since`]) from end to end, in little memory.
///
/// # Errors
/// [`Error::BadStream`] with the offset of the first thing that is wrong, [`Error::Unsupported`] for a newer format, [`Error::Stream`]
/// if reading fails, [`Error::Cancelled`].
pub fn verify_patch(r: &mut dyn Read, observer: &mut dyn Observer) -> Result<PatchSummary> {
    let mut meter = Meter::new("verify", None, observer);
    meter.report()?;
    let summary = read(r, &mut |_, bytes| meter.add(u64::from(!bytes.is_empty()), bytes.len() as u64))?;
    meter.report()?;
    Ok(summary)
}

/// Leads a raw file to what the delta `patch` leads to. The whole delta is checked before the file is touched; it is for whoever applies
/// it to see that the file holds the delta's base, since a raw file doesn't say what it holds. The file is synced at the end; after a
/// crash on the way, apply it again.
///
/// ```
/// # fn main() -> vellum::Result<()> {
/// # let home = tempfile::tempdir().unwrap();
/// # let path = home.path().join("raw");
/// use std::io::Cursor;
/// use vellum::{Options, Store, apply_patch};
/// let store = Store::in_memory(Options::new())?;
/// let write = |byte: u8| -> vellum::Result<()> {
///     let mut txn = store.begin()?;
///     let id = txn.allocate()?;
///     txn.write(id, &[byte; 4096])?;
///     txn.commit().map(drop)
/// };
/// write(1)?;
/// let monday = store.snapshot();
/// monday.export_raw(&mut std::fs::File::create(&path).unwrap(), &mut ())?;
/// write(2)?;
/// let mut patch = Cursor::new(Vec::new());
/// store.snapshot().export_raw_since(&monday, &mut patch, &mut ())?;
///
/// patch.set_position(0);
/// let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
/// apply_patch(&mut patch, &file, &mut ())?;
/// assert_eq!(std::fs::read(&path).unwrap()[4096..], [2; 4096]);
/// # Ok(()) }
/// ```
///
/// # Errors
/// As [`verify_patch`], before anything is written; [`Error::Stream`] if writing to the file fails.
pub fn apply_patch<R: Read + Seek>(
    patch: &mut R,
    file: &File,
    observer: &mut dyn Observer,
) -> Result<PatchSummary> {
    let failed = |error| stream_error("write to", error);
    let lost = |error| stream_error("read from", error);
    let start = patch.stream_position().map_err(lost)?;
    let checked = verify_patch(&mut BufReader::new(&mut *patch), &mut *observer)?;
    patch.seek(SeekFrom::Start(start)).map_err(lost)?;
    let page_size = u64::from(checked.page_size);
    let zeros = vec![0; checked.page_size as usize];
    let mut meter = Meter::new("apply", Some(checked.pages), observer);
    let before = file.metadata().map_err(failed)?.len();
    file.set_len(checked.page_count * page_size).map_err(failed)?;
    let applied = read(&mut BufReader::new(patch), &mut |entry, bytes| match entry {
        PatchEntry::Page { id, .. } => {
            file.write_all_at(bytes, id * page_size).map_err(failed)?;
            meter.add(1, page_size)
        }
        PatchEntry::Zeros { first, count } => {
            // What the file didn't have reads as zeros already.
            let end = (first + count).min(before.div_ceil(page_size));
            (first..end).try_for_each(|id| {
                file.write_all_at(&zeros, id * page_size).map_err(failed)?;
                meter.add(0, page_size)
            })
        }
        PatchEntry::End { .. } => Ok(()),
    })?;
    file.sync_all().map_err(|error| stream_error("sync", error))?;
    meter.report()?;
    Ok(applied)
}

/// Reads a list, checking everything.
fn read(r: &mut dyn Read, take: &mut Take<'_>) -> Result<PatchSummary> {
    let mut source = Source::new(r, None);
    let mut bytes = [0; HEADER_BYTES];
    source.fill(&mut bytes)?;
    let (format, header) =
        PatchHeader::decode(&bytes).ok_or_else(|| bad(0, "the header of a raw delta", "something else"))?;
    if format > FORMAT {
        let (found, supported) = (format.to_string(), FORMAT.to_string());
        return Err(Error::Unsupported { what: "the raw delta".to_owned(), found, supported });
    }
    let is_sane = header.page_size.is_power_of_two()
        && (512..=65536).contains(&header.page_size)
        && header.page_count <= PageId::MAX.0 + 1;
    if !is_sane {
        return Err(bad(0, "a header within the limits", format!("{header:?}")));
    }
    let (mut summary, mut digest) = (PatchSummary::new(&header), Xxh3::new());
    digest.update(&bytes);
    let mut page = vec![0; header.page_size as usize];
    let (mut next, mut entries) = (0, 0);
    loop {
        let offset = source.offset;
        let mut bytes = [0; ENTRY_BYTES];
        source.fill(&mut bytes)?;
        let entry = PatchEntry::decode(&bytes).ok_or_else(|| bad(offset, "an entry", "something else"))?;
        let expected = || format!("an id from {next} to {}", header.page_count);
        match entry {
            PatchEntry::Page { id, .. } if id < next || id >= header.page_count => {
                return Err(bad(offset, expected(), id.to_string()));
            }
            PatchEntry::Page { id, sum } => {
                source.fill(&mut page)?;
                let found = PageChecksum::of(PageId(id), &page).0;
                if !holds(found, sum) {
                    return Err(bad(
                        offset,
                        format!("a page with checksum {sum:016x}"),
                        format!("{found:016x}"),
                    ));
                }
                take(entry, &page)?;
                summary.pages += 1;
                next = id + 1;
            }
            PatchEntry::Zeros { first, count } => {
                let end = first.checked_add(count).filter(|end| *end <= header.page_count);
                let (Some(end), true) = (end, first >= next && count > 0) else {
                    return Err(bad(offset, expected(), format!("{count} from {first} on")));
                };
                take(entry, &[])?;
                summary.zeroed += count;
                next = end;
            }
            PatchEntry::End { entries: told, digest: sum } => {
                if told != entries || !holds(sum, digest.digest()) {
                    return Err(bad(offset, format!("the end, after {entries} entries"), "another"));
                }
                source.end()?;
                summary.bytes = source.offset;
                return Ok(summary);
            }
        }
        digest.update(&bytes);
        entries += 1;
    }
}
