//! A table node on disk.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 2 | magic `0x4e56` ("VN") |
//! | 2 | 1 | level (a leaf is 0) |
//! | 3 | 1 | fan-out bits (6) |
//! | 4 | 4 | zero |
//! | 8 | 8 | birth |
//! | 16 | 64 x 8 or 64 x 16 | inner: children's addresses in units of 16 bytes, 0 for none; leaf: entries, low word then high word |
//! | then | 8 | XXH3-64 of all before, seeded with the node's own address |
//!
//! Padded to a multiple of 16 bytes. The seed makes a node in the wrong place as wrong as a damaged one.

use super::Flaw;
use super::bytes::{Reader, Writer};
use super::checksum::{checksum64, holds};
use crate::id::Version;
use crate::table::node::{Entry, FANOUT, FANOUT_BITS, NodeAddress};
use crate::table::slab::{NodeImage, NodeRef};

const MAGIC: u16 = 0x4e56;
const HEAD: usize = 16;

/// The bytes that a node takes on disk.
pub(crate) const fn disk_size(is_leaf: bool) -> usize {
    let body = if is_leaf { FANOUT * 16 } else { FANOUT * 8 };
    (HEAD + body + 8).next_multiple_of(16)
}

/// Appends the node, which will lie at `address`, to `out`. All its children must be on disk.
pub(crate) fn encode(
    node: NodeRef<'_>,
    level: u8,
    address: NodeAddress,
    child_address: &dyn Fn(&crate::table::node::Word) -> Option<NodeAddress>,
    out: &mut Writer,
) {
    let start = out.bytes.len();
    let bits = u8::try_from(FANOUT_BITS).expect("a few bits");
    let head = match node {
        NodeRef::Inner(inner) => &inner.head,
        NodeRef::Leaf(leaf) => &leaf.head,
    };
    out.u16(MAGIC);
    out.u8(level);
    out.u8(bits);
    out.u32(0);
    out.u64(head.birth.0);
    match node {
        NodeRef::Inner(inner) => {
            for word in &inner.words {
                out.u64(child_address(word).map_or(0, |address| address.0));
            }
        }
        NodeRef::Leaf(leaf) => {
            for entry in &leaf.entries {
                out.u64(entry.low);
                out.u64(entry.high);
            }
        }
    }
    let sum = checksum64(address.0, &out.bytes[start..]);
    out.u64(sum);
    out.pad_to(start + disk_size(matches!(node, NodeRef::Leaf(_))));
}

/// Reads the node at `address`, which must be of `level`.
pub(crate) fn decode(bytes: &[u8], address: NodeAddress, level: u32) -> Result<NodeImage, Flaw> {
    let is_leaf = level == 0;
    let body = if is_leaf { FANOUT * 16 } else { FANOUT * 8 };
    let mut reader = Reader::new(bytes);
    let short = || Flaw::damage(0, format!("a node of {} bytes", disk_size(is_leaf)), "fewer");
    let covered = reader.raw(HEAD + body).ok_or_else(short)?;
    let sum = reader.u64().ok_or_else(short)?;
    if !holds(sum, checksum64(address.0, covered)) {
        return Err(Flaw::damage(0, format!("a table node with checksum {sum:016x}"), "other bytes"));
    }
    let mut reader = Reader::new(covered);
    let head = (reader.u16(), reader.u8(), reader.u8(), reader.u32());
    if head.0 != Some(MAGIC) || head.2.map(u32::from) != Some(FANOUT_BITS) {
        return Err(Flaw::damage(0, "a table node", format!("{head:?}")));
    }
    if head.1.map(u32::from) != Some(level) {
        return Err(Flaw::damage(2, format!("a node of level {level}"), format!("{:?}", head.1)));
    }
    let birth = Version(reader.u64().ok_or_else(short)?);
    if birth > Version::MAX {
        return Err(Flaw::damage(8, format!("a birth up to {}", Version::MAX), birth.to_string()));
    }
    if is_leaf {
        let mut entries = [Entry::ABSENT; FANOUT];
        for entry in &mut entries {
            *entry = Entry { low: reader.u64().ok_or_else(short)?, high: reader.u64().ok_or_else(short)? };
        }
        Ok(NodeImage::Leaf { birth, entries })
    } else {
        let mut children = [None; FANOUT];
        for child in &mut children {
            let address = reader.u64().ok_or_else(short)?;
            if address >> 52 != 0 {
                return Err(Flaw::damage(16, "a child's address of 52 bits", format!("{address:#x}")));
            }
            *child = (address != 0).then_some(NodeAddress(address));
        }
        Ok(NodeImage::Inner { birth, children })
    }
}
