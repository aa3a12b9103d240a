//! The files of a storage, as bytes: what a killed process leaves, and what may have happened to it.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::sync::Arc;

use vellum::storage::{MemoryStorage, Storage};

pub(crate) fn read_all(storage: &dyn Storage, name: &str) -> Vec<u8> {
    let file = storage.open(name).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// The records of a stream: 16 bytes of preamble, then prefixes of 48 bytes with the payload's length at offset 8.
pub(crate) fn records(stream: &[u8]) -> Vec<&[u8]> {
    let mut records = vec![&stream[..16]];
    let mut at = 16;
    while at < stream.len() {
        let len = u64::from_le_bytes(stream[at + 8..at + 16].try_into().unwrap()) as usize;
        records.push(&stream[at..at + 48 + len]);
        at += 48 + len;
    }
    records
}

/// All files, as they are now.
pub(crate) fn save(storage: &dyn Storage) -> BTreeMap<String, Vec<u8>> {
    let read = |name: String| {
        let bytes = read_all(storage, &name);
        (name, bytes)
    };
    storage.list().unwrap().into_iter().map(read).collect()
}

/// A storage in memory with these files, one of them with other bytes.
pub(crate) fn load(files: &BTreeMap<String, Vec<u8>>, changed: Option<(&str, &[u8])>) -> Arc<MemoryStorage> {
    let storage = MemoryStorage::new();
    for (name, bytes) in files {
        let bytes = changed.filter(|(changed, _)| changed == name).map_or(&bytes[..], |(_, bytes)| bytes);
        let file = storage.create(name, bytes.len() as u64).unwrap();
        // Segments are mostly zeros; blocks of them cost nothing.
        for (index, block) in
            bytes.chunks(4096).enumerate().filter(|(_, block)| block.iter().any(|byte| *byte != 0))
        {
            file.write_all_at(&[IoSlice::new(block)], index as u64 * 4096).unwrap();
        }
    }
    Arc::new(storage)
}

/// What is there if the process is killed now.
pub(crate) fn copy_of(storage: &dyn Storage) -> Arc<MemoryStorage> {
    load(&save(storage), None)
}
