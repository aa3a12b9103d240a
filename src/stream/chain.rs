//! Streams one after the other, each of which begins where the one before it ends.

use std::io::{Read, Write};
use std::sync::Arc;

use super::StreamSummary;
use super::options::{ExportOptions, ImportOptions};
use super::read::{Item, StreamReader};
use super::runs::Runs;
use super::write::{Plan, StreamWriter};
use crate::error::{Error, Result};
use crate::format::stream::StreamHeader;
use crate::id::PageId;
use crate::log::cached::PageBytes;
use crate::progress::{Meter, Observer};

/// Checks a chain of streams, each from end to end and each against the one before it, without a store and in little
/// memory. The first may be full or a delta; the others are deltas.
///
/// ```
/// # fn main() -> vellum::Result<()> {
/// use vellum::{Options, Store, verify_chain};
/// let store = Store::in_memory(Options::new())?;
/// let monday = store.snapshot();
/// let (mut full, mut delta) = (Vec::new(), Vec::new());
/// monday.export(&mut full)?;
/// let mut txn = store.begin()?;
/// txn.allocate()?;
/// txn.commit()?;
/// store.snapshot().export_since(&monday, &mut delta)?;
/// let links = verify_chain(&mut [&mut &full[..], &mut &delta[..]], &mut ())?;
/// assert_eq!(links[1].fingerprint, store.snapshot().fingerprint());
/// # Ok(()) }
/// ```
///
/// # Errors
/// As [`verify_stream`](crate::verify_stream), [`Error::WrongBase`] where a stream doesn't begin where the one before it ends, and
/// [`Error::PageSizeMismatch`].
pub fn verify_chain(
    streams: &mut [&mut dyn Read],
    observer: &mut dyn Observer,
) -> Result<Vec<StreamSummary>> {
    verify_chain_as(streams, &ImportOptions::new(), observer)
}

/// As [`verify_chain`], of streams that may be encrypted, and at a rate.
///
/// # Errors
/// As [`verify_chain`], and [`Error::WrongKey`].
pub fn verify_chain_as(
    streams: &mut [&mut dyn Read],
    options: &ImportOptions,
    observer: &mut dyn Observer,
) -> Result<Vec<StreamSummary>> {
    let mut seen: Vec<StreamSummary> = Vec::new();
    let mut before: Option<StreamHeader> = None;
    for stream in streams {
        let mut reader = StreamReader::begin(*stream, options, Meter::new("verify", None, &mut *observer))?;
        if let Some(before) = &before {
            check_link(before, reader.header())?;
        }
        while reader.next()?.is_some() {}
        seen.push(reader.summary());
        before = Some(reader.header().clone());
    }
    Ok(seen)
}

fn check_link(before: &StreamHeader, next: &StreamHeader) -> Result<()> {
    if before.page_size != next.page_size {
        return Err(Error::PageSizeMismatch { asked: next.page_size, found: before.page_size });
    }
    let expected = next.base.map_or(crate::id::Fingerprint::EMPTY, |base| base.fingerprint);
    let found = before.fingerprint;
    if found == expected { Ok(()) } else { Err(Error::WrongBase { expected, found }) }
}

/// Writes one stream that does what several do one after the other: deltas become one delta, a full stream with deltas
/// becomes a full stream, without a store and in little memory. The streams are read once, side by side.
///
/// ```
/// # fn main() -> vellum::Result<()> {
/// # let home = tempfile::tempdir().unwrap();
/// use vellum::{Options, Store, fold};
/// let store = Store::in_memory(Options::new())?;
/// let write = |byte: u8| -> vellum::Result<()> {
///     let mut txn = store.begin()?;
///     let id = txn.allocate()?;
///     txn.write(id, &[byte; 4096])?;
///     txn.commit().map(drop)
/// };
/// let (mut full, mut delta, mut folded) = (Vec::new(), Vec::new(), Vec::new());
/// write(1)?;
/// let monday = store.snapshot();
/// monday.export(&mut full)?;
/// write(2)?;
/// let tuesday = store.snapshot();
/// tuesday.export_since(&monday, &mut delta)?;
///
/// fold(&mut [&mut &full[..], &mut &delta[..]], &mut folded, &mut ())?;
/// let mut expected = Vec::new();
/// tuesday.export(&mut expected)?;
/// assert_eq!(folded, expected);
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`Error::InvalidOption`] for no stream at all, [`Error::WrongBase`] where a stream doesn't begin where the one before it ends,
/// [`Error::PageSizeMismatch`], what [`verify_stream`](crate::verify_stream) gives for each, [`Error::Stream`] for the
/// writing. What was written by then is not a stream: it lacks its end.
pub fn fold(
    streams: &mut [&mut dyn Read],
    w: &mut dyn Write,
    observer: &mut dyn Observer,
) -> Result<StreamSummary> {
    fold_as(streams, w, &ImportOptions::new(), &ExportOptions::new(), observer)
}

/// As [`fold`], of streams that may be encrypted, into one that is compressed or encrypted as `writing` says.
///
/// # Errors
/// As [`fold`], and [`Error::WrongKey`].
pub fn fold_as(
    streams: &mut [&mut dyn Read],
    w: &mut dyn Write,
    reading: &ImportOptions,
    writing: &ExportOptions,
    observer: &mut dyn Observer,
) -> Result<StreamSummary> {
    let plan = Plan::of(writing)?;
    let mut quiet = vec![(); streams.len()];
    let mut sources: Vec<Source<'_>> = Vec::new();
    for (stream, quiet) in streams.iter_mut().zip(&mut quiet) {
        let next = StreamReader::begin(*stream, reading, Meter::new("fold", None, quiet))?;
        if let Some(before) = sources.last() {
            check_link(before.reader.header(), next.header())?;
        }
        sources.push(Source::new(next));
    }
    let (Some(first), Some(last)) = (sources.first(), sources.last()) else {
        return Err(Error::InvalidOption {
            option: "streams",
            value: "none".to_owned(),
            expected: "one or more are".to_owned(),
        });
    };
    let header = StreamHeader { base: first.reader.header().base, ..last.reader.header().clone() };
    let mut meter = Meter::new("fold", None, observer);
    meter.report()?;
    let (is_full, page_count) = (header.base.is_none(), header.page_count);
    let mut runs = Runs::new(StreamWriter::begin(w, header.clone(), &plan)?, &header);
    sources.iter_mut().try_for_each(Source::advance)?;
    while let Some(start) = sources.iter().filter_map(Source::start).min() {
        let covers = |source: &Source<'_>| source.start() == Some(start);
        let winner = sources.iter().rposition(covers).unwrap_or(0);
        // What a later stream says of an id counts, so an earlier range of free ids ends where that begins.
        let later = sources[winner + 1..].iter().filter_map(Source::start).min().unwrap_or(u64::MAX);
        let end = match &sources[winner].head {
            Some(Head::Page(_)) | None => {
                let Source { reader, index, .. } = &sources[winner];
                let (id, checksum, bytes) = reader.page(*index);
                if start < page_count {
                    runs.page((id, PageBytes::Copied(Arc::from(bytes)), checksum), &mut meter)?;
                }
                start + 1
            }
            Some(Head::Free(range)) => {
                let end = range.end.min(later);
                let count = end.min(page_count).saturating_sub(start);
                // A full stream names what there is.
                if !is_full && count > 0 {
                    runs.free(PageId(start), count, &mut meter)?;
                }
                end
            }
        };
        sources.iter_mut().try_for_each(|source| source.skip_to(end))?;
    }
    let summary = runs.finish(&mut meter)?;
    meter.report()?;
    Ok(summary)
}

/// What a stream says next.
enum Head {
    Page(u64),
    Free(std::ops::Range<u64>),
}

/// One of the streams that are folded.
struct Source<'r> {
    reader: StreamReader<'r>,
    head: Option<Head>,
    /// Where the head lies in the reader's run, and how many pages that has.
    index: usize,
    count: usize,
    /// Whether the ids beyond the page count were told of: they hold nothing, though no record says so.
    is_ended: bool,
}

impl<'r> Source<'r> {
    fn new(reader: StreamReader<'r>) -> Source<'r> {
        Source { reader, head: None, index: 0, count: 0, is_ended: false }
    }

    fn start(&self) -> Option<u64> {
        match &self.head {
            Some(Head::Page(id)) => Some(*id),
            Some(Head::Free(range)) => Some(range.start),
            None => None,
        }
    }

    fn advance(&mut self) -> Result<()> {
        if matches!(self.head, Some(Head::Page(_))) && self.index + 1 < self.count {
            self.index += 1;
            self.head = Some(Head::Page(self.reader.page(self.index).0.0));
            return Ok(());
        }
        self.head = match self.reader.next()? {
            Some(Item::Pages(count)) => {
                (self.index, self.count) = (0, count);
                Some(Head::Page(self.reader.page(0).0.0))
            }
            Some(Item::Free(first, count)) => Some(Head::Free(first.0..first.0 + count)),
            None if self.is_ended => None,
            None => {
                self.is_ended = true;
                Some(Head::Free(self.reader.header().page_count..u64::MAX))
            }
        };
        Ok(())
    }

    /// Leaves everything before `end` behind.
    fn skip_to(&mut self, end: u64) -> Result<()> {
        loop {
            match &mut self.head {
                Some(Head::Page(id)) if *id < end => {}
                Some(Head::Free(range)) if range.end <= end => {}
                Some(Head::Free(range)) => {
                    range.start = range.start.max(end);
                    return Ok(());
                }
                _ => return Ok(()),
            }
            self.advance()?;
        }
    }
}
