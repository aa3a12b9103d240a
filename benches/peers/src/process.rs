//! What the system knows of a process: bytes written, memory, files.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use crate::Result;

/// Counts the bytes that are written to disk.
pub(crate) struct Written {
    /// Of the file system that is looked at.
    dir: File,
    /// The counters of its device, if it lies on one that has some.
    device: Option<PathBuf>,
}

impl Written {
    /// Of the file system that holds `dir`.
    pub(crate) fn under(dir: &Path) -> Result<Written> {
        let dir = File::open(dir)?;
        let id = dir.metadata()?.dev();
        let device =
            PathBuf::from(format!("/sys/dev/block/{}:{}/stat", rustix::fs::major(id), rustix::fs::minor(id)));
        Ok(Written { dir, device: device.exists().then_some(device) })
    }

    /// Whether the device is asked, and not the process.
    pub(crate) fn is_of_device(&self) -> bool {
        self.device.is_some()
    }

    /// Bytes so far, everything that was left in the page cache included.
    ///
    /// The device counts what it was told to write, the file system's journal included, for all processes. Where nobody counts
    /// that, it is what this process made dirty ([`dirtied_bytes`]), which is more: the page cache is dirtied in
    /// pieces of up to many pages, and the file system writes only the pages in them that were changed.
    pub(crate) fn bytes(&self) -> Result<u64> {
        let Some(device) = &self.device else { return dirtied_bytes() };
        rustix::fs::syncfs(&self.dir)?;
        sectors_written(&std::fs::read_to_string(device)?)
            .map(|sectors| sectors * 512)
            .ok_or_else(|| format!("{} isn't as Linux writes it", device.display()).into())
    }
}

/// The seventh number (Linux, Documentation/block/stat.rst), in sectors of 512 bytes whatever the device has.
fn sectors_written(stat: &str) -> Option<u64> {
    stat.split_whitespace().nth(6)?.parse().ok()
}

/// Bytes that this process has made dirty in files, or written past the page cache. A page that is written twice
/// between two syncs counts once, in a mapping too.
pub(crate) fn dirtied_bytes() -> Result<u64> {
    number_after(&std::fs::read_to_string("/proc/self/io")?, "write_bytes:")
}

/// Bytes of memory that hold nothing at all.
pub(crate) fn free_memory_bytes() -> Result<u64> {
    Ok(number_after(&std::fs::read_to_string("/proc/meminfo")?, "MemFree:")? * 1024)
}

/// Whether this process has no thread but the one that asks.
pub(crate) fn is_one_thread() -> Result<bool> {
    Ok(std::fs::read_dir("/proc/self/task")?.count() == 1)
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

/// Reads a directory's files, holes left out, so that the page cache has them.
pub(crate) fn read_through(dir: &Path) -> Result<u64> {
    const PIECE: usize = 1 << 20;
    let (mut piece, mut count) = (vec![0; PIECE], 0);
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            count += read_through(&entry.path())?;
        } else if kind.is_file() {
            let file = File::open(entry.path())?;
            let mut at = 0;
            loop {
                // Past the last data there is no such place.
                at = match seek(&file, SeekFrom::Data(at)) {
                    Ok(at) => at,
                    Err(Errno::NXIO) => break,
                    Err(error) => return Err(error.into()),
                };
                let end = seek(&file, SeekFrom::Hole(at))?;
                while at < end {
                    let len = usize::try_from(end - at).map_or(PIECE, |len| len.min(PIECE));
                    let read = file.read_at(&mut piece[..len], at)? as u64;
                    if read == 0 {
                        break;
                    }
                    (at, count) = (at + read, count + read);
                }
            }
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    //! Goal: the system's numbers are read right, and files are read whole. Method: something known is written, and counted.

    use super::*;

    #[test]
    fn what_is_written_is_counted() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let written = Written::under(dir.path()).unwrap();
        let (before, dirtied) = (written.bytes().unwrap(), dirtied_bytes().unwrap());
        std::fs::write(dir.path().join("some"), vec![1; 1 << 20]).unwrap();
        assert!(written.bytes().unwrap() - before >= 1 << 20);
        assert!(dirtied_bytes().unwrap() - dirtied >= 1 << 20);
        assert!((1 << 20..3 << 20).contains(&disk_bytes(dir.path()).unwrap()));
        assert!(memory_bytes().unwrap() > 0);
        let stat = "     101        2      303        4      505        6      707        8        0        9       10\n";
        assert_eq!(sectors_written(stat), Some(707));
        assert_eq!(sectors_written("1 2 3"), None);
        assert_eq!(number_after("a: 1\nb:  22 kB\n", "b:").unwrap(), 22);
    }

    #[test]
    fn files_are_read_whole_but_for_their_holes() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let inner = dir.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(dir.path().join("some"), vec![1; (3 << 20) + 5]).unwrap();
        std::fs::write(dir.path().join("empty"), []).unwrap();
        let sparse = File::create_new(inner.join("sparse")).unwrap();
        sparse.set_len(1 << 40).unwrap();
        sparse.write_all_at(&[1; 4096], 1 << 30).unwrap();
        let read = read_through(dir.path()).unwrap();
        // What is beside data in a block of the file system counts as data.
        let least = (3 << 20) + 5 + 4096;
        assert!((least..least + (1 << 20)).contains(&read), "{read}");
        assert!(read_through(&dir.path().join("absent")).is_err());
    }
}
