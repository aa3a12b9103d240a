//! Any bytes as a catalog, a record, a header, a node, a change of names: a flaw, or something that encodes to the same again.
//!
//! The first byte chooses the structure, and between checksums as they are and checksums that are ignored.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vellum::fuzzing;

fuzz_target!(|input: &[u8]| {
    let Some((first, bytes)) = input.split_first() else { return };
    fuzzing::ignore_checksums(first / 8 % 8 != 0);
    fuzzing::decode(*first, bytes);
});
