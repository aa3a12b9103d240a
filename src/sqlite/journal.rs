//! Journals, in memory.
//!
//! SQLite keeps a rollback journal so that it can take back what it wrote into the file. Within a process it still needs one, for
//! `ROLLBACK` and savepoints; after a crash it doesn't, since nothing of an unfinished transaction is in the store. So no
//! journal ever reaches a disk, whatever `journal_mode` says.
//!
//! A super-journal, which SQLite writes for a transaction over several files, names their journals; whoever finds a journal after a
//! crash looks there whether it still counts. For files of vellum's nobody will. An ordinary file's journal is on a disk, though, and
//! would be taken for one that is done with, since a super-journal in memory is gone by then: the file would stay half written. So
//! a super-journal takes no such name.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Room that a journal begins with: enough for a transaction of a few small pages.
const FIRST_BYTES: usize = 20 << 10;
/// The greatest length that SQLite's 32-bit arithmetic on journals is held to here.
const LEN_MAX: u64 = 1 << 40;

#[derive(Default)]
pub(super) struct Journal {
    bytes: Vec<u8>,
}

impl Journal {
    pub(super) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Fills `buf`; whether there was that much.
    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> bool {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.bytes.len());
        let found = &self.bytes[start..];
        let have = found.len().min(buf.len());
        buf[..have].copy_from_slice(&found[..have]);
        buf[have..].fill(0);
        have == buf.len()
    }

    /// Whether there was memory for it.
    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) -> bool {
        let end = offset + bytes.len() as u64;
        let (Ok(start), Ok(end)) = (usize::try_from(offset), usize::try_from(end.min(LEN_MAX))) else {
            return false;
        };
        if end.checked_sub(start) != Some(bytes.len()) {
            return false;
        }
        if end > self.bytes.len() {
            let room = end.max(FIRST_BYTES) - self.bytes.len();
            if self.bytes.try_reserve(room).is_err() {
                return false;
            }
            self.bytes.resize(end, 0);
        }
        self.bytes[start..end].copy_from_slice(bytes);
        true
    }

    pub(super) fn truncate(&mut self, len: u64) {
        self.bytes.truncate(usize::try_from(len).unwrap_or(usize::MAX));
    }
}

/// Whether what is written into a super-journal names the journal of a file that isn't one of vellum's.
pub(super) fn names_ordinary_file(bytes: &[u8]) -> bool {
    let name = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    let file = name.strip_suffix(b"-journal").unwrap_or(name);
    // The system's VFS makes every path absolute, so a name without a directory is a registered one; and a store is a directory.
    file.contains(&b'/') && !Path::new(OsStr::from_bytes(file)).is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_the_rest_is_zeros() {
        let mut journal = Journal::default();
        assert!(journal.write(&[1, 2, 3], 5));
        let mut buf = [9; 10];
        assert!(!journal.read(&mut buf, 0), "there are 8 bytes");
        assert_eq!(buf, [0, 0, 0, 0, 0, 1, 2, 3, 0, 0]);
        journal.truncate(6);
        assert_eq!(journal.len(), 6);
        assert!(!journal.read(&mut buf, 100));
        assert!(!journal.write(&[1], LEN_MAX), "a limit, and not an abort for want of memory");
    }
}
