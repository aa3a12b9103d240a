//! What the system knows of a process: bytes written, memory, files.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::Result;

/// Bytes that this process has made dirty in files, or written past the page cache: what goes to the disk for it.
/// A page that is written twice between two syncs counts once, in a mapping too. The file system's own
/// journal doesn't count.
pub(crate) fn written_bytes() -> Result<u64> {
    number_after(&std::fs::read_to_string("/proc/self/io")?, "write_bytes:")
}

/// Bytes of memory of this process that lie in no file.
pub(crate) fn memory_bytes() -> Result<u64> {
    Ok(number_after(&std::fs::read_to_string("/proc/self/status")?, "RssAnon:")? * 1024)
}

/// The first number of the line that begins with `name`.
fn number_after(text: &str, name: &str) -> Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).ok_or_else(|| format!("no {name}"))?;
    Ok(line.split_whitespace().next().ok_or_else(|| format!("no number after {name}"))?.parse()?)
}

/// Bytes of disk that a directory's files take.
pub(crate) fn disk_bytes(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        // A file may go while others are looked at.
        let Ok(metadata) = entry.metadata() else { continue };
        bytes += if metadata.is_dir() { disk_bytes(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    //! Goal: the system's numbers are read right. Method: something known is written, and counted.

    use super::*;

    #[test]
    fn what_is_written_is_counted() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let before = written_bytes().unwrap();
        std::fs::write(dir.path().join("some"), vec![1; 1 << 20]).unwrap();
        assert!(written_bytes().unwrap() - before >= 1 << 20);
        assert!((1 << 20..3 << 20).contains(&disk_bytes(dir.path()).unwrap()));
        assert!(memory_bytes().unwrap() > 0);
        assert_eq!(number_after("a: 1\nb:  22 kB\n", "b:").unwrap(), 22);
    }
}
