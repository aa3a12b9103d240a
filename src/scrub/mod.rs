//! Scrubbing: reading everything that is kept, now and then, to find damage while there is still something to mend it from; and
//! mending it.
//!
//! # How every page is met once
//! The current version is gone through first, then each older one that is pinned, the youngest first, as far as it differs from the
//! next younger: the lives of pages are intervals, so that is each page that any of them sees, once. It is done in portions;
//! pins are held for one portion only, so a scrub of days keeps nothing for days, and a cursor is all that it takes to go on later.
//!
//! # How a page is mended
//! 1. Nothing is written but bytes that have the checksum which the table keeps of the page, under its id, wherever they come
//!    from.
//! 2. The segment is rewritten as by packing (see `space`): a new file with the right bytes in the page's place, synced; then
//!    readers are led to it, then both catalogs, and only then the old file goes. The page's location stays, so every
//!    snapshot is mended with it; a crash leaves the old file or the new one.
//! 3. The damaged file is never written to, so a clone that has it too keeps what it has; and it isn't used again.

mod repair;
mod scan;
mod source;

pub use repair::{RepairOutcome, RepairReport};
pub use scan::{DamagedNode, DamagedPage, Scrub, ScrubCursor, ScrubReport};
pub use source::RepairSource;
