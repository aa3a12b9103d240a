//! Serialising the page table's dirty nodes into the log.
//!
//! Nodes are written bottom-up, so that a parent always knows its children's addresses. Each step runs under the
//! commit lock and writes at most one part (4 MiB), so that commits go on in between; the version that is written is
//! pinned all the while, so its nodes stay what and where they are.

use std::collections::{HashMap, HashSet};

use super::append::Appender;
use super::failure::AppendFailure;
use super::segment::Segments;
use crate::format::bytes::Writer;
use crate::format::node::{disk_size, encode};
use crate::id::Version;
use crate::table::node::{Link, NodeAddress, NodePointer, Word};
use crate::table::root::Root;
use crate::table::slab::{NodeRef, Slab};

/// The dirty nodes of some versions, and how far they are written.
pub(crate) struct NodeRun {
    version: Version,
    nodes: Vec<(NodePointer, u8)>,
    done: usize,
    /// Where nodes were put, by segment: (number, bytes).
    pub(crate) written: Vec<(u32, u64)>,
}

impl NodeRun {
    pub(crate) fn new(slab: &Slab, root: &Root) -> NodeRun {
        NodeRun::of_all(slab, &[root])
    }

    /// A node that several of the versions reach is written once. The versions are given in ascending order.
    pub(crate) fn of_all(slab: &Slab, roots: &[&Root]) -> NodeRun {
        let mut nodes = Vec::new();
        // One version reaches each of its nodes once.
        let mut met = (roots.len() > 1).then(HashSet::new);
        let _walk = slab.walk();
        for root in roots.iter().filter(|root| root.height > 0) {
            let level = u8::try_from(root.height - 1).expect("a low tree");
            collect(slab, &root.word, level, &mut nodes, met.as_mut());
        }
        let version = roots.last().map_or(Version(0), |root| root.version);
        NodeRun { version, nodes, done: 0, written: Vec::new() }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.done == self.nodes.len()
    }

    /// Appends as many nodes as one part takes. To be called under the commit lock.
    pub(crate) fn step(
        &mut self,
        slab: &Slab,
        segments: &Segments,
        appender: &mut Appender,
        durable: Version,
    ) -> Result<(), AppendFailure> {
        let geometry = segments.geometry();
        let mut placed: Vec<(NodePointer, NodeAddress)> = Vec::new();
        let mut addresses = HashMap::new();
        let (nodes, version, first) = (&self.nodes, self.version, self.done);
        let mut place = (0, 0);
        appender.append_nodes(version, durable, disk_size(true) as u64, &mut |segment, offset, room| {
            let mut out = Writer::default();
            place = (segment, 0);
            for (pointer, level) in &nodes[first..] {
                let size = disk_size(pointer.is_leaf()) as u64;
                if out.bytes.len() as u64 + size > room {
                    break;
                }
                let address = geometry.node_address(segment, offset + out.bytes.len() as u64);
                let child = |word: &Word| child_address(slab, &addresses, word);
                encode(slab.node_of(*pointer), *level, address, &child, &mut out);
                // Its parent may follow in this very part.
                addresses.insert(*pointer, address);
                placed.push((*pointer, address));
                place.1 += size;
            }
            out.bytes
        })?;
        for (pointer, address) in &placed {
            slab.written(*pointer, *address);
            let bytes = disk_size(pointer.is_leaf()) as u64;
            segments.account_birth(place.0, bytes);
            if slab.head_of(*pointer).has_died() {
                segments.account_death(place.0, bytes);
            }
        }
        self.done += placed.len();
        self.written.push(place);
        Ok(())
    }
}

fn child_address(
    slab: &Slab,
    placed: &HashMap<NodePointer, NodeAddress>,
    word: &Word,
) -> Option<NodeAddress> {
    match word.link() {
        Link::None => None,
        Link::Disk(address) => Some(address),
        Link::Memory(pointer) => {
            let address = placed.get(&pointer).copied().or_else(|| slab.head_of(pointer).disk());
            debug_assert!(address.is_some(), "children are written before their parents");
            address
        }
    }
}

/// The dirty nodes under `word`, children before their parents.
fn collect(
    slab: &Slab,
    word: &Word,
    level: u8,
    nodes: &mut Vec<(NodePointer, u8)>,
    mut met: Option<&mut HashSet<NodePointer>>,
) {
    let Link::Memory(pointer) = word.link() else { return };
    // A clean node has only clean nodes below it.
    if slab.head_of(pointer).disk().is_some() || met.as_mut().is_some_and(|met| !met.insert(pointer)) {
        return;
    }
    if let NodeRef::Inner(inner) = slab.node_of(pointer) {
        for child in &inner.words {
            collect(slab, child, level - 1, nodes, met.as_deref_mut());
        }
    }
    nodes.push((pointer, level));
}
