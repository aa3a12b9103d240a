//! Pages that SQLite reads where they lie (`PRAGMA mmap_size`), without copying them into its cache.
//!
//! What keeps a version's pages in their place is a [`Lender`]. It is made for the first page that is lent, and given up
//! with the last, or with the transaction if that is later; between pages it keeps nothing that can be revoked.

use super::file::MainFile;
use crate::id::PageId;
use crate::snapshot::Lender;

#[derive(Default)]
pub(super) struct Lending {
    /// Of each version of which pages are lent.
    lenders: Vec<Lender>,
    lent: u64,
    /// Bytes of the file that SQLite wants to be lent.
    pub(super) limit: i64,
}

impl MainFile {
    /// Lends bytes of a page where they lie, until [`MainFile::take_back`]; `None`: read them instead.
    pub(super) fn lend(&mut self, offset: u64, len: usize) -> Option<*const u8> {
        let end = offset.checked_add(len as u64)?;
        if end > u64::try_from(self.lending.limit).ok()? || self.is_overtaken() {
            return None;
        }
        let page_size = self.page_size;
        let (id, start) = (PageId(offset / page_size), usize::try_from(offset % page_size).ok()?);
        if start as u64 + len as u64 > page_size || id.0 == 0 {
            return None;
        }
        let file = self.file.as_ref()?;
        if let Some((txn, len)) = file.written()
            && (txn.written(id).is_some() || end > *len)
        {
            return None;
        }
        let snapshot = file.snapshot();
        let Lending { lenders, lent, .. } = &mut self.lending;
        if lenders.last().is_none_or(|lender| lender.version() != snapshot.version()) {
            lenders.push(Lender::new(snapshot));
        }
        let lender = lenders.last_mut()?;
        // What can't be had is found out again, and told, when it is read.
        lender.begin().ok()?;
        let bytes = match lender.page(id) {
            Ok(Some(page)) => page.get(start..start + len).map(<[u8]>::as_ptr),
            _ => None,
        };
        match bytes {
            Some(_) => *lent += 1,
            None if *lent == 0 => lender.end(),
            None => {}
        }
        bytes
    }

    /// One that was lent is no longer used.
    pub(super) fn take_back(&mut self) {
        self.lending.lent = self.lending.lent.saturating_sub(1);
        if self.lending.lent > 0 {
            return;
        }
        match (&self.file, &mut self.lending.lenders[..]) {
            // Most often the next page is lent from the same version, at once.
            (Some(file), [lender]) if lender.version() == file.snapshot().version() => lender.end(),
            _ => self.lending.lenders.clear(),
        }
    }

    /// The transaction has ended, or reads another version from now on.
    pub(super) fn end_lending(&mut self) {
        if self.lending.lent == 0 {
            self.lending.lenders.clear();
        }
    }
}
