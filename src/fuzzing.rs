//! What fuzzers need beyond the public face; there in builds with `--cfg fuzzing` only.

use crate::format::control::Catalog;
use crate::format::names::NameChange;
use crate::format::node;
use crate::format::packed::{PackedHeader, Ranks};
use crate::format::record::Record;
use crate::format::segment::SegmentHeader;
use crate::format::stream;
use crate::table::node::NodeAddress;

/// Makes decoders take every checksum for right, so that a fuzzer gets to what is behind it. Pages are still checked.
pub fn ignore_checksums(ignores: bool) {
    crate::format::checksum::IGNORED.store(ignores, std::sync::atomic::Ordering::Relaxed);
}

/// Takes `bytes` for one of the structures of the format, which `which` chooses. What decodes also encodes, to what decodes
/// to the same. Whether it decoded.
///
/// # Panics
/// If that isn't so.
pub fn decode(which: u8, bytes: &[u8]) -> bool {
    const SAME: &str = "what was encoded decodes";
    match which % 8 {
        0 => Catalog::decode(bytes).is_ok_and(|(sequence, catalog)| {
            let again = catalog.encode(sequence).expect("what was decoded encodes");
            assert_eq!(Catalog::decode(&again).ok().expect(SAME), (sequence, catalog));
            true
        }),
        1 | 2 => {
            let page_size = if which % 8 == 1 { 512 } else { 4096 };
            if let Some(slot) = bytes.get(..512) {
                let _ = Record::peek_slots(slot);
            }
            Record::decode(bytes, page_size).is_ok_and(|(record, _)| {
                let (again, digest) = record.encode(page_size);
                assert_eq!(Record::decode(&again, page_size).ok().expect(SAME), (record, digest));
                true
            })
        }
        3 => SegmentHeader::decode(bytes, 7).is_ok_and(|header| {
            assert_eq!(SegmentHeader::decode(&header.encode(), 7).ok().expect(SAME), header);
            true
        }),
        4 => PackedHeader::decode(bytes, 7, 128).is_ok_and(|header| {
            let again = PackedHeader::decode(&header.encode(), 7, 128).ok().expect(SAME);
            assert_eq!(again, header);
            let ranks = Ranks::new(header);
            let places = (0..128).filter_map(|slot| ranks.place(slot));
            assert!(places.into_iter().all(|place| place < ranks.file_slots()), "each slot lies in the file");
            true
        }),
        5 => (0..4).any(|level| node::decode(bytes, NodeAddress(77), level).is_ok()),
        6 => NameChange::decode(bytes).is_ok_and(|change| {
            let again = change.encode().expect("what was decoded encodes");
            assert_eq!(NameChange::decode(&again).expect(SAME), change);
            true
        }),
        _ => {
            let prefix = bytes.first_chunk().and_then(stream::Prefix::decode);
            let header = stream::StreamHeader::decode(bytes).is_some_and(|header| header.is_ok());
            let _ = (stream::decode_meta(bytes), stream::decode_free(bytes));
            prefix.is_some() || header
        }
    }
}
