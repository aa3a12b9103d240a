//! The manifest of an exported group snapshot: `group.vellum` in the export's directory, beside one stream for each member.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | magic `"VLGM"` |
//! | 4 | 2 | format version |
//! | 6 | 2 | zero |
//! | 8 | 8 | bytes of the body |
//! | 16 | n | body: [`GroupManifest`] as [`super::code`] writes it |
//! | 16 + n | 16 | XXH3-128 of all before |
//!
//! The stream of the member at index i of the list is the file `member-%02d.vellum`.

use serde::{Deserialize, Serialize};

use super::bytes::{Reader, Writer};
use super::checksum::{digest128, holds};
use super::{FORMAT, Flaw, check_head, code};
use crate::id::{Fingerprint, StoreId, Version};

const MAGIC: u32 = u32::from_le_bytes(*b"VLGM");
const HEAD_BYTES: usize = 16;
/// A manifest larger than this is damage: members are few, and a name has 255 bytes at most.
pub(crate) const BYTES_MAX: usize = 64 << 10;
/// The manifest's file.
pub(crate) const MANIFEST: &str = "group.vellum";

/// The file of the member at `index`.
pub(crate) fn member_file(index: usize) -> String {
    format!("member-{index:02}.vellum")
}

/// One member's stream.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct MemberRecord {
    pub(crate) store_id: StoreId,
    pub(crate) version: Version,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) pages: u64,
    /// Bytes of the file, and XXH3-128 of them.
    pub(crate) bytes: u64,
    pub(crate) digest: u128,
}

/// A group snapshot's streams.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct GroupManifest {
    pub(crate) id: u128,
    pub(crate) name: String,
    /// In milliseconds since 1970 (UTC).
    pub(crate) created_at_ms: u64,
    /// In ascending order of the store ids.
    pub(crate) members: Vec<MemberRecord>,
}

impl GroupManifest {
    pub(crate) fn encode(&self) -> Result<Vec<u8>, String> {
        let body = code::encode(self)?;
        let mut out = Writer::with_capacity(HEAD_BYTES + body.len() + 16);
        out.u32(MAGIC);
        out.u16(FORMAT);
        out.u16(0);
        out.u64(body.len() as u64);
        out.raw(&body);
        let digest = digest128(&out.bytes);
        out.u128(digest);
        Ok(out.bytes)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<GroupManifest, Flaw> {
        let short = || Flaw::damage(0, "a group's manifest", format!("{} bytes", bytes.len()));
        let mut reader = Reader::new(bytes);
        let (magic, format) = (reader.u32().ok_or_else(short)?, reader.u16().ok_or_else(short)?);
        check_head(MAGIC, magic, format)?;
        let (head, digest) = bytes.split_at(bytes.len().saturating_sub(16));
        let (found, computed) = (Reader::new(digest).u128().ok_or_else(short)?, digest128(head));
        if !holds(found, computed) {
            let (expected, found) = (format!("digest {computed:032x}"), format!("{found:032x}"));
            return Err(Flaw::damage(head.len() as u64, expected, found));
        }
        let body = head.get(HEAD_BYTES..).ok_or_else(short)?;
        reader.u16();
        if reader.u64() != Some(body.len() as u64) {
            return Err(Flaw::damage(8, format!("a body of {} bytes", body.len()), "another length"));
        }
        let (manifest, used) = code::decode::<GroupManifest>(body)
            .map_err(|found| Flaw::damage(HEAD_BYTES as u64, "a group's manifest", found))?;
        let is_ascending = manifest.members.windows(2).all(|pair| pair[0].store_id.0 < pair[1].store_id.0);
        match used == body.len() && is_ascending && !manifest.members.is_empty() {
            true => Ok(manifest),
            false => Err(Flaw::damage(HEAD_BYTES as u64, "members in ascending order", "something else")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let member = |n: u64| MemberRecord {
            store_id: StoreId(u128::from(n)),
            version: Version(n),
            fingerprint: Fingerprint(7),
            pages: 3,
            bytes: 4096,
            digest: 5,
        };
        let members = vec![member(1), member(2)];
        let manifest = GroupManifest { id: 9, name: "nightly".to_owned(), created_at_ms: 1, members };
        let bytes = manifest.encode().unwrap();
        assert_eq!(GroupManifest::decode(&bytes), Ok(manifest));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(GroupManifest::decode(&flipped).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(GroupManifest::decode(&bytes[..len]).is_err(), "cut to {len}");
        }
    }
}
