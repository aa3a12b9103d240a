//! The audit: whether the store's account of its space is true.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;

use crate::core::Core;
use crate::error::{Error, Result};
use crate::format::node::disk_size;
use crate::store::Store;
use crate::sync::atomic::Ordering;
use crate::table::edit::Dead;
use crate::table::places::{Place, for_each_place};

/// What [`Store::audit`] has counted.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// Versions that are pinned, the current one included.
    pub versions: u64,
    /// Bytes of pages and table nodes that any of them reaches; in a fork, of those that aren't its parent's.
    pub reachable_bytes: u64,
    /// Bytes of pages and table nodes that nobody reaches and that wait to be freed.
    pub pending_bytes: u64,
}

impl Store {
    /// Checks the account of disk space: what the pinned versions reach and what waits to be freed is, segment by segment,
    /// exactly what counts as in use; nothing overlaps; everything lies in a segment that the store has.
    ///
    /// For tests and for the suspicious: it reads the whole page table, keeps a few words for each page in memory, and holds
    /// commits up meanwhile. It reads no pages: that is [`Store::verify`].
    ///
    /// # Errors
    /// The first difference found, as [`Error::Corrupt`].
    ///
    /// ```
    /// # fn main() -> vellum::Result<()> {
    /// use vellum::{Options, Store};
    /// let store = Store::in_memory(Options::new())?;
    /// assert_eq!(store.audit()?.pending_bytes, 0);
    /// # Ok(()) }
    /// ```
    pub fn audit(&self) -> Result<Audit> {
        self.core().audit()
    }
}

/// The places met so far, by segment: start and length in bytes.
#[derive(Default)]
struct Places {
    pages: HashSet<u64>,
    nodes: HashSet<u64>,
    by_segment: BTreeMap<u32, Vec<(u64, u64)>>,
    bytes: u64,
}

impl Core {
    fn audit(&self) -> Result<Audit> {
        // Under both locks nothing is born, dies or is freed, and no version's end is noticed.
        let log = self.log.lock();
        let reclaimer = self.reclaimer.lock();
        let guard = self.epoch.pin();
        let tip = self.published.load(&guard);
        let mut places = Places::default();
        let live = reclaimer.live_roots();
        let older = live.iter().filter(|root| root.root().version != tip.version);
        let mut versions = 0;
        for root in older.map(crate::version::held::HeldRoot::root).chain([tip]) {
            versions += 1;
            for_each_place(&self.slab, root, &mut |place| {
                self.note(&mut places, place);
                Ok(())
            })?;
        }
        let reachable_bytes = places.bytes;
        for item in reclaimer.pending() {
            match *item {
                Dead::Page { location, .. } => self.note(&mut places, Place::Page(location)),
                Dead::Stored { address, is_leaf, .. } => {
                    self.note(&mut places, Place::Node { address, is_leaf });
                }
                Dead::Node { pointer, .. } => {
                    if let Some(address) = self.slab.head_of(pointer).disk() {
                        self.note(&mut places, Place::Node { address, is_leaf: pointer.is_leaf() });
                    }
                }
            }
        }
        let audit = Audit { versions, reachable_bytes, pending_bytes: places.bytes - reachable_bytes };
        for (number, ..) in log.appender.files() {
            let found = places.by_segment.remove(&number).unwrap_or_default();
            self.compare(number, found, reclaimer.leaks() > 0)?;
        }
        match places.by_segment.into_iter().next() {
            Some((number, items)) => Err(Error::corrupt(
                self.segments.path(number),
                items[0].0,
                "a segment of the store",
                format!("none, though {} pages or nodes lie there", items.len()),
            )),
            None => Ok(audit),
        }
    }

    fn note(&self, places: &mut Places, place: Place) {
        let geometry = self.segments.geometry();
        let (number, start, len) = match place {
            Place::Page(location) if places.pages.insert(location.0) => {
                let (number, slot) = geometry.split(location);
                (number, geometry.offset(slot), geometry.page_bytes())
            }
            Place::Node { address, is_leaf } if places.nodes.insert(address.0) => {
                let (number, offset) = geometry.split_node(address);
                (number, offset, disk_size(is_leaf) as u64)
            }
            _ => return,
        };
        if self.segments.is_base(number) {
            return;
        }
        places.bytes += len;
        places.by_segment.entry(number).or_default().push((start, len));
    }

    /// Compares what was found in a segment with its count.
    fn compare(&self, number: u32, mut found: Vec<(u64, u64)>, has_leaks: bool) -> Result<()> {
        let wrong = |offset: u64, expected: String, found: String| {
            Err(Error::corrupt(self.segments.path(number), offset, expected, found))
        };
        found.sort_unstable();
        for pair in found.windows(2) {
            if pair[0].0 + pair[0].1 > pair[1].0 {
                return wrong(pair[1].0, "one page or node".to_owned(), "two that overlap".to_owned());
            }
        }
        let sum: u64 = found.iter().map(|(_, len)| len).sum();
        let counted =
            self.segments.get(number).map_or(0, |segment| segment.allocated.load(Ordering::Acquire));
        // What couldn't be read when its version ended stays counted until the store is opened again.
        if counted == sum || (has_leaks && counted > sum) {
            return Ok(());
        }
        wrong(0, format!("{sum} bytes in use"), format!("{counted} counted"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;

    #[test]
    fn a_wrong_count_and_a_place_too_many_are_found() {
        let store = Store::in_memory(Options::new().background(false)).unwrap();
        let mut txn = store.begin().unwrap();
        let id = txn.allocate().unwrap();
        txn.write(id, &[1; 4096]).unwrap();
        txn.commit().unwrap();
        assert_eq!(store.audit().unwrap().reachable_bytes, 4096);
        let segment = store.core().segments.get(0).unwrap();
        segment.allocated.fetch_add(4096, Ordering::Relaxed);
        let error = store.audit().unwrap_err().to_string();
        assert!(error.contains("4096 bytes in use") && error.contains("8192 counted"), "{error}");
        segment.allocated.fetch_sub(4096, Ordering::Relaxed);

        let core = store.core();
        let overlapping = vec![(4096, 4096), (8000, 1048)];
        assert!(core.compare(0, overlapping, false).unwrap_err().to_string().contains("overlap"));
        store.audit().unwrap();
    }
}
