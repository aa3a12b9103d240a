//! The page table: a persistent radix tree from page ids to locations, one root for every version.
//!
//! - `node`: the words, entries and nodes that the tree is made of;
//! - `cells`: the memory that nodes are in;
//! - `slab`: where nodes live in memory, and the only place that turns a word into a reference;
//! - `evict`: how nodes in memory are kept within their bound;
//! - `graft`: the top of a tree for another store's slab;
//! - `walk`: going through a tree without keeping what is read;
//! - `root`: what a version is: the top of its tree and its totals;
//! - `lookup`: from a page id to its entry, and the walk over all pages in order;
//! - `edit`: the path copy that makes the next version;
//! - `diff`: the walk of two roots, for what differs and for what only one of them sees;
//! - `since`: what was written since a version that is gone;
//! - `scan`: the walk that goes on over damage;
//! - `places`: where everything that a version reaches lies on disk.

mod cells;
pub(crate) mod diff;
pub(crate) mod edit;
mod evict;
pub(crate) mod graft;
pub(crate) mod lookup;
pub(crate) mod node;
pub(crate) mod places;
pub(crate) mod root;
pub(crate) mod scan;
pub(crate) mod since;
pub(crate) mod slab;
pub(crate) mod walk;

#[cfg(test)]
mod tests;
