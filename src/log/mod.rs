//! The log: batches appended to segments, and what makes them durable and found again.
//!
//! - `geometry`: how locations, slots and byte offsets belong together;
//! - `segment`: the segments as readers see them;
//! - `loaded`: where the bytes of one are, and what was verified;
//! - `shared`: their table, which views follow and the log replaces;
//! - `guess`: where a page probably lies;
//! - `backing`: the file behind each;
//! - `base`: segments that a fork reads and that are its parent's;
//! - `account`: what segments hold, counted;
//! - `packed`: sparse segments, rewritten without what nobody needs;
//! - `cached`: reading them without a mapping;
//! - `append`: records and pages at the log's end;
//! - `tail`: the memory from which readers read what it has written;
//! - `failure`: what it means that something can't be written;
//! - `unsynced`: what no sync has followed yet;
//! - `attempt`: the way back from what can't be written whole;
//! - `gather`: its open group of small batches;
//! - `rotate`: its way from segment to segment;
//! - `group`: small batches gathered into one record;
//! - `handover`: full groups on their way to the system;
//! - `left`: the active segment, when another store has its file too;
//! - `ready`: the next segment, made ready beside commits;
//! - `layout`: how a batch is cut into parts;
//! - `catalog`: the two slots of the small durable root;
//! - `recover`: from the catalog and the log's tail to the tip;
//! - `checkpoint`: the table's dirty nodes into the log, then the catalog on to them.

mod account;
pub(crate) mod ahead;
pub(crate) mod append;
mod attempt;
pub(crate) mod backing;
pub(crate) mod base;
pub(crate) mod cached;
pub(crate) mod catalog;
pub(crate) mod checkpoint;
#[cfg(all(test, not(loom)))]
mod edges;
pub(crate) mod failure;
mod gather;
pub(crate) mod geometry;
pub(crate) mod group;
mod guess;
pub(crate) mod handover;
pub(crate) mod layout;
mod left;
mod loaded;
pub(crate) mod packed;
pub(crate) mod ready;
pub(crate) mod recover;
mod rotate;
pub(crate) mod segment;
pub(crate) mod shared;
mod tail;
pub(crate) mod unsynced;
