//! Where everything that a version reaches lies on disk.

use super::node::{Entry, Link, NodeAddress};
use super::root::Root;
use super::slab::Slab;
use super::walk::{Peeked, Walk};
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
        height => {
            let walk = slab.walk();
            go(&walk, root.word.link(), height - 1, visit)
        }
    }
}

fn go(walk: &Walk<'_>, link: Link, level: u32, visit: &mut dyn FnMut(Place) -> Result<()>) -> Result<()> {
    if let Some(address) = walk.address(link) {
        visit(Place::Node { address, is_leaf: level == 0 })?;
    }
    match walk.peek(link, level)? {
        Some(Peeked::Inner(_, links)) => {
            links.into_iter().try_for_each(|child| go(walk, child, level - 1, visit))
        }
        Some(Peeked::Leaf(_, entries)) => {
            entries.into_iter().filter_map(Entry::location).try_for_each(|at| visit(Place::Page(at)))
        }
        None => Ok(()),
    }
}
