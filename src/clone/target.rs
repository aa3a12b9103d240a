//! Bringing files to where a clone is made: by a link, by sharing blocks, or by a copy.

use std::collections::HashSet;
use std::io::IoSlice;
use std::path::Path;

use super::Cloned;
use super::files::Piece;
use crate::core::Core;
use crate::error::{Error, Result};
use crate::log::backing::disk_error;
use crate::open::mark;
use crate::progress::Meter;
use crate::storage::Storage;

/// The bytes that are copied in one go.
const CHUNK_BYTES: u64 = 1 << 20;

/// See the head of this file.
pub(super) struct Bring<'a> {
    core: &'a Core,
    to: &'a dyn Storage,
    dir: Option<&'a Path>,
    linked: HashSet<u32>,
    pub(super) done: Cloned,
}

impl<'a> Bring<'a> {
    /// Brings files to a storage, which is the directory `dir` if it is one.
    pub(super) fn new(core: &'a Core, to: &'a dyn Storage, dir: Option<&'a Path>) -> Bring<'a> {
        Bring { core, to, dir, linked: HashSet::new(), done: Cloned::default() }
    }

    /// Links what can be linked, or shares its blocks.
    pub(super) fn link(&mut self, pieces: &[Piece]) -> Result<()> {
        // Whatever is found beside the mark is unfinished. What is staged tells it by where it is.
        let Some(dir) = self.dir else { return mark(self.to) };
        for piece in pieces {
            let (from, to) = (piece.owner.storage(), dir.join(&piece.name));
            if from.link(&piece.name, &to).is_ok() {
                self.done.files_linked += 1;
            } else if from.reflink(&piece.name, &to).is_ok() {
                self.done.files_reflinked += 1;
            } else {
                // What the attempt may have left.
                let _ = self.to.remove(&piece.name);
                continue;
            }
            self.linked.insert(piece.segment.number);
        }
        Ok(())
    }

    /// Copies the others. Their bytes stay as they are: the snapshot is held, and the files are.
    pub(super) fn copy_rest(&mut self, pieces: &[Piece], meter: &mut Meter<'_>) -> Result<()> {
        let page_bytes = self.core.segments.geometry().page_bytes();
        for piece in pieces.iter().filter(|piece| !self.linked.contains(&piece.segment.number)) {
            let from = || piece.owner.storage().path(&piece.name);
            let len = piece.file.len().map_err(|error| Error::io("measure", from(), error))?;
            let to = || self.to.path(&piece.name);
            let full = |error| disk_error("write to", to(), len, error);
            let file = self.to.create(&piece.name, len).map_err(full)?;
            let mut buffer = vec![0; usize::try_from(CHUNK_BYTES.min(len)).unwrap_or(usize::MAX)];
            let mut offset = 0;
            while offset < len {
                let part = usize::try_from((len - offset).min(CHUNK_BYTES)).unwrap_or(usize::MAX);
                let part = &mut buffer[..part];
                piece.file.read_exact_at(part, offset).map_err(|error| Error::io("read", from(), error))?;
                // What was never written reads as zeros there too.
                if part.iter().any(|byte| *byte != 0) {
                    file.write_all_at(&[IoSlice::new(part)], offset).map_err(full)?;
                }
                offset += part.len() as u64;
                meter.add(part.len() as u64 / page_bytes, part.len() as u64)?;
            }
            file.sync().map_err(|error| Error::io("sync", to(), error))?;
            self.done.files_copied += 1;
            self.done.bytes_copied += len;
        }
        Ok(())
    }
}
