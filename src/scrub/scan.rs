//! Finding damage.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::core::Core;
use crate::error::{Error, Result};
use crate::id::{Location, PageId, Version};
use crate::progress::{Meter, Observer};
use crate::space::Held;
use crate::store::Store;
use crate::table::scan::gather_only_in;
use crate::table::slab::NodeSource;
use crate::version::held::HeldRoot;

/// From so many damaged pages on a report is full; those of its last portion may make it twice as many.
pub(super) const DAMAGED_MAX: usize = 1024;
/// Most bytes that are read between two rests.
const PORTION_BYTES: u64 = 4 << 20;
/// Rests a second, if there is a rate.
const RESTS_PER_SECOND: u64 = 8;
/// How long a rest lasts at most before the observer is asked.
const NAP: Duration = Duration::from_millis(100);

/// Where a scrub goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ScrubCursor {
    /// The older version that is being gone through; `None`: the current one.
    version: Option<Version>,
    page: PageId,
}

impl ScrubCursor {
    const START: ScrubCursor = ScrubCursor { version: None, page: PageId(0) };
}

/// How to scrub.
///
/// ```
/// use vellum::Scrub;
/// let gently = Scrub::new().rate(8 << 20).bytes(1 << 30); // a GiB, 8 MiB a second
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Scrub {
    rate: Option<u64>,
    bytes: Option<u64>,
    from: Option<ScrubCursor>,
}

impl Scrub {
    /// Everything, as fast as it can be read.
    #[must_use]
    pub fn new() -> Scrub {
        Scrub::default()
    }

    /// Most bytes a second, at least 64 KiB.
    #[must_use]
    pub fn rate(mut self, bytes_per_second: u64) -> Scrub {
        self.rate = Some(bytes_per_second);
        self
    }

    /// Stops after so many bytes, in portions of a few MiB; the report has the cursor.
    #[must_use]
    pub fn bytes(mut self, bytes: u64) -> Scrub {
        self.bytes = Some(bytes);
        self
    }

    /// Goes on where an earlier scrub has stopped.
    #[must_use]
    pub fn from(mut self, cursor: ScrubCursor) -> Scrub {
        self.from = Some(cursor);
        self
    }
}

/// A page whose bytes aren't what was written.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct DamagedPage {
    /// The page.
    pub page: PageId,
    /// The youngest version that sees these bytes, of those that are kept.
    pub version: Version,
    /// The version that wrote it.
    pub birth: Version,
    /// The damaged file.
    pub file: PathBuf,
    /// Where in the segment, in bytes: in a packed file the place is another.
    pub offset: u64,
    /// What is wrong.
    pub error: String,
    #[serde(skip)]
    pub(super) location: Location,
    /// What the table keeps of the page's checksum.
    #[serde(skip)]
    pub(super) checksum: u64,
}

/// A node of the page table that can't be read from its file.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct DamagedNode {
    /// The first page whose place it tells.
    pub first_page: PageId,
    /// The version that was gone through.
    pub version: Version,
    /// Whether there is a copy of it in memory, so that the pages below it were seen all the same.
    pub is_in_memory: bool,
    /// What is wrong, with file and offset.
    pub error: String,
}

/// What a scrub has found.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct ScrubReport {
    /// Pages whose bytes were checked.
    pub pages: u64,
    /// Nodes of the page table that were checked.
    pub nodes: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Damaged pages; [`Store::repair`] takes them.
    pub damaged: Vec<DamagedPage>,
    /// Damaged nodes. What is below one that isn't in memory could not be checked: restore the store from an export.
    pub damaged_nodes: Vec<DamagedNode>,
    /// Where to go on; `None` if all was checked.
    pub cursor: Option<ScrubCursor>,
}

impl ScrubReport {
    /// Whether everything was checked and nothing was found.
    pub fn is_sound(&self) -> bool {
        self.cursor.is_none() && self.damaged.is_empty() && self.damaged_nodes.is_empty()
    }
}

impl Store {
    /// Reads and checks every page and table node that any version which is kept sees: the current one, named snapshots, open
    /// ones; each once. Damage is listed, not mended, and doesn't end the scrub; from then on reading such a page is an error,
    /// also where it had been verified before. Writers and readers go on, and nothing is kept for longer than a portion of it.
    ///
    /// It ends early, with a cursor to go on from, when the observer says so (which is no error here), when the budget is used
    /// up, or when 1,024 damaged pages or more are listed. What is committed meanwhile may or may not be checked.
    ///
    /// Bytes come as the system gives them: what it has in its page cache isn't read from the medium again.
    ///
    /// ```
    /// # fn main() -> vellum::Result<()> {
    /// use vellum::{Options, Scrub, Store};
    /// let store = Store::in_memory(Options::new())?;
    /// let report = store.scrub(Scrub::new().rate(16 << 20), &mut ())?;
    /// assert!(report.is_sound());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for a rate that is too low. Damage is none.
    pub fn scrub(&self, scrub: Scrub, observer: &mut dyn Observer) -> Result<ScrubReport> {
        if let Some(rate) = scrub.rate.filter(|rate| *rate < 64 << 10) {
            let expected = "65536 or more is".to_owned();
            return Err(Error::InvalidOption { option: "rate", value: rate.to_string(), expected });
        }
        let mut meter = Meter::new("scrub", None, observer);
        let mut report =
            ScrubReport { cursor: Some(scrub.from.unwrap_or(ScrubCursor::START)), ..ScrubReport::default() };
        let core = self.core();
        let portion = scrub.rate.map_or(PORTION_BYTES, |rate| PORTION_BYTES.min(rate / RESTS_PER_SECOND));
        let portion = portion.min(scrub.bytes.unwrap_or(u64::MAX));
        let limit = usize::try_from(portion / core.page_size() as u64).unwrap_or(usize::MAX).max(1);
        while let Some(cursor) = report.cursor {
            let is_spent = scrub.bytes.is_some_and(|bytes| report.bytes >= bytes);
            if is_spent || report.damaged.len() >= DAMAGED_MAX {
                break;
            }
            let (begun, bytes, pages) = (Instant::now(), report.bytes, report.pages);
            let limit = limit.min(DAMAGED_MAX - report.damaged.len());
            report.cursor = core.scrub_portion(cursor, limit, &mut report)?;
            let bytes = report.bytes - bytes;
            let done = meter
                .add(report.pages - pages, bytes)
                .and_then(|()| rest(scrub.rate, bytes, begun, &mut meter));
            match done {
                Err(Error::Cancelled) => break,
                other => other?,
            }
        }
        match meter.report() {
            Err(Error::Cancelled) | Ok(()) => Ok(report),
            Err(error) => Err(error),
        }
    }
}

/// Keeps to the rate, and asks the observer meanwhile.
fn rest(rate: Option<u64>, bytes: u64, begun: Instant, meter: &mut Meter<'_>) -> Result<()> {
    let Some(rate) = rate else { return meter.report() };
    #[expect(clippy::cast_precision_loss, reason = "a duration need not be exact")]
    let whole = Duration::from_secs_f64(bytes as f64 / rate as f64);
    loop {
        meter.report()?;
        let left = whole.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(NAP));
    }
}

impl Core {
    /// Checks a portion; where the next one begins.
    fn scrub_portion(
        &self,
        cursor: ScrubCursor,
        limit: usize,
        report: &mut ScrubReport,
    ) -> Result<Option<ScrubCursor>> {
        let mut held = Held::new(self);
        let newest = held.hold_current();
        let mut live: BTreeMap<Version, HeldRoot> = BTreeMap::new();
        held.hold_live(|_, root| {
            live.insert(root.root().version, root);
        });
        let newest = newest.root();
        let current = newest.version;
        let (version, root, next) = match cursor.version {
            None => (current, newest, None),
            Some(bound) => {
                let Some((version, root)) = live.range(..=bound).next_back().filter(|(at, _)| **at < current)
                else {
                    return Ok(None);
                };
                let after = Version(version.0 + 1);
                let next = live.range(after..current).next().map_or(newest, |(_, root)| root.root());
                (*version, root.root(), Some(next))
            }
        };
        // A version that is gone since takes its place in it along.
        let from = if cursor.version.is_none_or(|bound| bound == version) { cursor.page } else { PageId(0) };
        let stretch = gather_only_in(&self.slab, root, next, from, limit)?;
        let page_bytes = self.page_size() as u64;
        let table = self.segments.table();
        for (page, entry) in stretch.pages {
            report.pages += 1;
            report.bytes += page_bytes;
            let error = match self.segments.verified_page(&table, page, entry) {
                Ok(_) => continue,
                Err(error @ (Error::Corrupt { .. } | Error::Io { .. })) => error,
                Err(error) => return Err(error),
            };
            let Some(location) = entry.location() else { continue };
            self.segments.distrust(location);
            let (number, slot) = self.segments.geometry().split(location);
            report.damaged.push(DamagedPage {
                page,
                version,
                birth: entry.birth(),
                file: self.segments.path(number),
                offset: self.segments.geometry().offset(slot),
                error: error.to_string(),
                location,
                checksum: entry.short_checksum(),
            });
        }
        for (first_page, address, level) in stretch.nodes {
            report.nodes += 1;
            report.bytes += self.segments.node_place(address, level == 0).1;
            // One that has no copy in memory was met as lost.
            let is_lost = || stretch.lost.iter().any(|(first, at, _)| (*first, *at) == (first_page, level));
            match self.segments.read_node(address, level) {
                Ok(_) => {}
                Err(_) if is_lost() => {}
                Err(error) => report.damaged_nodes.push(DamagedNode {
                    first_page,
                    version,
                    is_in_memory: true,
                    error: error.to_string(),
                }),
            }
        }
        report.damaged_nodes.extend(stretch.lost.into_iter().map(|(first_page, _, error)| DamagedNode {
            first_page,
            version,
            is_in_memory: false,
            error: error.to_string(),
        }));
        let older = version.0.checked_sub(1).map(Version);
        Ok(match (stretch.next, cursor.version) {
            (Some(page), None) => Some(ScrubCursor { version: None, page }),
            (Some(page), Some(_)) => Some(ScrubCursor { version: Some(version), page }),
            (None, _) => older.map(|older| ScrubCursor { version: Some(older), page: PageId(0) }),
        })
    }
}
