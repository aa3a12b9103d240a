//! Where everything that a version reaches lies on disk.

use super::node::{Link, NodeAddress, Word};
use super::root::Root;
use super::slab::Slab;
use crate::error::Result;
use crate::id::Location;

/// A place on disk that a version reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    Page(Location),
    Node { address: NodeAddress, is_leaf: bool },
}

/// Calls `visit` with the place of every page and every node that `root` reaches and that is on disk.
pub(crate) fn for_each_place(
    slab: &Slab,
    root: &Root,
    visit: &mut dyn FnMut(Place) -> Result<()>,
) -> Result<()> {
    match root.height {
        0 => Ok(()),
        height => walk(slab, &root.word, height - 1, visit),
    }
}

fn walk(slab: &Slab, word: &Word, level: u32, visit: &mut dyn FnMut(Place) -> Result<()>) -> Result<()> {
    let address = match word.link() {
        Link::None => return Ok(()),
        Link::Disk(address) => Some(address),
        Link::Memory(pointer) => slab.head_of(pointer).disk(),
    };
    if let Some(address) = address {
        visit(Place::Node { address, is_leaf: level == 0 })?;
    }
    if level == 0 {
        let entries = slab.leaf(word)?.into_iter().flat_map(|leaf| leaf.entries);
        return entries.filter_map(super::node::Entry::location).try_for_each(|at| visit(Place::Page(at)));
    }
    let Some(inner) = slab.inner(word, level)? else { return Ok(()) };
    inner.words.iter().try_for_each(|child| walk(slab, child, level - 1, visit))
}
