//! Bytes of the database file as bytes of the store's pages: SQLite's pages may be smaller or larger than those.

use super::header::FORMATS;
use crate::error::Result;
use crate::id::PageId;
use crate::snapshot::Snapshot;
use crate::txn::WriteTxn;

/// The pages that `len` bytes at `offset` lie in: each with where they begin in it, and which of the bytes they are.
pub(super) fn parts(
    page_size: u64,
    offset: u64,
    len: usize,
) -> impl Iterator<Item = (PageId, usize, std::ops::Range<usize>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at >= len {
            return None;
        }
        let position = offset + at as u64;
        let start = position % page_size;
        let part = usize::try_from(page_size - start).unwrap_or(usize::MAX).min(len - at);
        let range = at..at + part;
        at += part;
        Some((PageId(position / page_size), usize::try_from(start).unwrap_or(usize::MAX), range))
    })
}

/// Reads what lies before the file's end; tells up to where, and whether that was all.
pub(super) fn read_snapshot(
    snapshot: &Snapshot,
    page_size: u64,
    buf: &mut [u8],
    offset: u64,
) -> Result<(u64, bool)> {
    let view = snapshot.view();
    let whole = (offset + buf.len() as u64, true);
    // A whole page is by far the most frequent.
    if buf.len() as u64 == page_size
        && offset.is_multiple_of(page_size)
        && offset / page_size < view.page_count()
    {
        match view.page(PageId(offset / page_size))? {
            Some(page) => buf.copy_from_slice(page),
            None => buf.fill(0),
        }
        return Ok(whole);
    }
    for (id, start, part) in parts(page_size, offset, buf.len()) {
        if id.0 >= view.page_count() {
            buf[part.start..].fill(0);
            return Ok((offset + part.start as u64, false));
        }
        let buf = &mut buf[part];
        match view.page(id)? {
            Some(page) => buf.copy_from_slice(&page[start..start + buf.len()]),
            None => buf.fill(0),
        }
    }
    Ok(whole)
}

pub(super) fn read_txn(txn: &WriteTxn, page_size: u64, buf: &mut [u8], offset: u64) -> Result<()> {
    for (id, start, part) in parts(page_size, offset, buf.len()) {
        let buf = &mut buf[part];
        if let Some(page) = txn.written(id) {
            buf.copy_from_slice(&page[start..start + buf.len()]);
        } else if buf.len() as u64 == page_size {
            if !txn.read(id, buf)? {
                buf.fill(0);
            }
        } else {
            let mut page = vec![0; txn.page_size()];
            txn.read(id, &mut page)?;
            buf.copy_from_slice(&page[start..start + buf.len()]);
        }
    }
    Ok(())
}

/// A file that was last used with a WAL says so, and would not be opened without one. Its pages are the same.
pub(super) fn hide_wal(buf: &mut [u8], offset: u64) {
    for at in FORMATS {
        if let Some(byte) = at.checked_sub(offset).and_then(|at| buf.get_mut(usize::try_from(at).ok()?))
            && *byte == 2
        {
            *byte = 1;
        }
    }
}
