//! Checking a whole store: every page, every table node, every total.

use serde::Serialize;

use crate::error::{Error, Result};
use crate::id::{Fingerprint, PageId, Version};
use crate::progress::{Meter, Observer};
use crate::snapshot::Snapshot;
use crate::store::Store;
use crate::table::lookup::for_each_entry;

/// What [`Store::verify`] has checked.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// The version that was checked.
    pub version: Version,
    /// Its fingerprint, computed anew from the pages.
    pub fingerprint: Fingerprint,
    /// Pages whose bytes were checked.
    pub pages: u64,
    /// Bytes of those pages.
    pub bytes: u64,
}

impl Store {
    /// Reads every page of the current version and checks it, and the page table on the way: checksums, page count,
    /// fingerprint. Writers and readers go on meanwhile.
    ///
    /// # Errors
    /// The first damage found, as [`Error::Corrupt`]; [`Error::Cancelled`] if the observer says so.
    ///
    /// ```
    /// # fn main() -> vellum::Result<()> {
    /// use vellum::{Options, Store};
    /// let store = Store::in_memory(Options::new())?;
    /// let report = store.verify(&mut ())?;
    /// assert_eq!(report.pages, 0);
    /// # Ok(()) }
    /// ```
    pub fn verify(&self, observer: &mut dyn Observer) -> Result<VerifyReport> {
        self.snapshot().verify(observer)
    }
}

impl Snapshot {
    /// As [`Store::verify`], for the version of this snapshot.
    ///
    /// # Errors
    /// As [`Store::verify`].
    pub fn verify(&self, observer: &mut dyn Observer) -> Result<VerifyReport> {
        let _in_use = self.in_use()?;
        let (core, root) = (self.core(), self.root());
        let mut meter = Meter::new("verify", Some(root.live_pages), observer);
        meter.report()?;
        let page_bytes = core.page_size() as u64;
        let table = core.segments.table();
        let (mut fingerprint, mut pages, mut last) = (Fingerprint::EMPTY, 0, None);
        for_each_entry(&core.slab, root, PageId(0), &mut |id, entry| {
            if core.segments.verified_page(&table, id, entry)?.is_some() {
                fingerprint = fingerprint.plus(id, entry.short_checksum());
                pages += 1;
                last = Some(id);
                meter.add(1, page_bytes)?;
            }
            Ok(true)
        })?;
        meter.report()?;
        let is_beyond = last.is_some_and(|id| id.0 >= root.page_count);
        if fingerprint != root.fingerprint || pages != root.live_pages || is_beyond {
            let expected = format!("{} pages with fingerprint {}", root.live_pages, root.fingerprint);
            let found = format!("{pages} pages with fingerprint {fingerprint}");
            return Err(Error::corrupt(core.path(), 0, expected, found));
        }
        Ok(VerifyReport { version: root.version, fingerprint, pages, bytes: pages * page_bytes })
    }
}
