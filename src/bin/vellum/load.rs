//! `load`: a page file becomes the contents of a store, and only what differs is written.

use std::fs::File;
use std::io::{self, BufReader, Chain, Cursor, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use vellum::{Error, Observer, Options, PageId, Progress, Snapshot, Store};

use crate::args::{Load, Show};
use crate::error::Failure;
use crate::output::{Field, Report};
use crate::place::{Fresh, Place, look, open};
use crate::progress::Bar;

/// Pages between two reports of progress.
const STEP: u64 = 256;

pub(crate) fn load(args: &Load, show: Show) -> Result<(), Failure> {
    let mut source = Source::open(&args.file)?;
    let mut options = Options::new().background(false).transaction_memory(args.memory);
    if let Some(bytes) = args.page_size {
        options = options.page_size(bytes);
    }
    if matches!(look(&args.dir)?, Place::Missing | Place::Free) {
        let page_size = args.page_size.or(source.sqlite_page_size()).unwrap_or(4096);
        // A page size that can't be is for the library to refuse.
        source.check_length(page_size.max(1) as usize)?;
        // Declared first, so that the store is closed before it is removed.
        let mut fresh = Fresh::new(&args.dir)?;
        let store = fresh.create(options.page_size(page_size))?;
        let report = fill(&store, &mut source, show, args.memory)?;
        fresh.keep();
        drop(store);
        return finish(&args.file, &report, show);
    }
    let store = open(&args.dir, options, show)?;
    source.check_length(store.page_size())?;
    let report = fill(&store, &mut source, show, args.memory)?;
    drop(store);
    finish(&args.file, &report, show)
}

fn finish(file: &Path, report: &Report, show: Show) -> Result<(), Failure> {
    let mut wal = file.as_os_str().to_owned();
    wal.push("-wal");
    let has_wal = std::fs::metadata(&wal).is_ok_and(|found| found.len() > 0);
    if has_wal && !show.json && !show.quiet {
        let wal = PathBuf::from(wal);
        let _ = writeln!(
            io::stderr(),
            "vellum: note: {} holds changes that were not loaded: close the database and load it again",
            wal.display()
        );
    }
    report.print(show)
}

/// One transaction that makes the store's pages those of the file.
fn fill(store: &Store, source: &mut Source, show: Show, memory: u64) -> Result<Report, Failure> {
    let too_large = |error| match error {
        Error::TransactionTooLarge { .. } => Failure::TooLarge { limit: memory },
        error => Failure::Vellum(error),
    };
    let snapshot = store.snapshot();
    let mut txn = store.begin()?;
    let mut page = vec![0; store.page_size()];
    let mut bar = Bar::new(show);
    let total = source.length.map(|length| length / page.len() as u64);
    let (mut read, mut written) = (0, 0);
    let mut tell = |read: u64, page_size: usize| {
        let bytes_done = read * page_size as u64;
        // This observer never asks to stop.
        let _ = bar.progress(Progress { task: "load", pages_done: read, pages_total: total, bytes_done });
    };
    tell(0, page.len());
    while source.next(&mut page)? {
        let id = PageId(read);
        if is_different(&snapshot, id, &page)? {
            if read >= txn.page_count() {
                txn.truncate(read + 1)?;
            }
            txn.write(id, &page).map_err(too_large)?;
            written += 1;
        }
        read += 1;
        if read % STEP == 0 {
            tell(read, page.len());
        }
    }
    if txn.page_count() != read {
        txn.truncate(read)?;
    }
    let before = snapshot.version();
    drop(snapshot);
    let version = txn.commit()?;
    Ok(Report::new()
        .count("pages_read", read)
        .count("pages_written", written)
        .count("version", version.get())
        .with("is_new_version", Field::Flag(version != before))
        .text("fingerprint", &store.snapshot().fingerprint())
        .bytes("page_size", page.len() as u64))
}

fn is_different(snapshot: &Snapshot, id: PageId, page: &[u8]) -> Result<bool, Failure> {
    Ok(id.get() >= snapshot.page_count() || snapshot.view().page(id)? != Some(page))
}

/// The page file, read from its beginning to its end.
struct Source {
    file: PathBuf,
    /// Its first bytes.
    head: Vec<u8>,
    /// Of a plain file; a pipe tells its length only at its end.
    length: Option<u64>,
    bytes_read: u64,
    from: BufReader<Chain<Cursor<Vec<u8>>, File>>,
}

impl Source {
    fn open(path: &Path) -> Result<Source, Failure> {
        let fail = |operation| move |error| Failure::file(operation, path, error);
        let file = File::open(path).map_err(fail("open"))?;
        let found = file.metadata().map_err(fail("look at"))?;
        let mut head = Vec::new();
        (&file).take(18).read_to_end(&mut head).map_err(fail("read"))?;
        let from = BufReader::with_capacity(1 << 20, Cursor::new(head.clone()).chain(file));
        let length = found.is_file().then_some(found.len());
        Ok(Source { file: path.to_owned(), head, length, bytes_read: 0, from })
    }

    /// What the header of a SQLite database says: big-endian, with 1 for 65,536, which doesn't fit.
    fn sqlite_page_size(&self) -> Option<u32> {
        let stored = self.head.strip_prefix(b"SQLite format 3\0")?;
        let stored = u32::from(u16::from_be_bytes(stored.try_into().ok()?));
        let page_size = if stored == 1 { 65536 } else { stored };
        (page_size.is_power_of_two() && page_size >= 512).then_some(page_size)
    }

    /// Refuses what isn't whole pages before anything is done.
    fn check_length(&self, page_size: usize) -> Result<(), Failure> {
        match self.length {
            Some(bytes) if bytes % page_size as u64 != 0 => Err(self.odd(bytes, page_size)),
            _ => Ok(()),
        }
    }

    fn odd(&self, bytes: u64, page_size: usize) -> Failure {
        Failure::OddLength { file: self.file.clone(), bytes, page_size }
    }

    /// Reads the next page; `false` at the end.
    fn next(&mut self, page: &mut [u8]) -> Result<bool, Failure> {
        let mut filled = 0;
        while filled < page.len() {
            match self.from.read(&mut page[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Failure::file("read", &self.file, error)),
            }
        }
        self.bytes_read += filled as u64;
        match filled {
            0 => Ok(false),
            filled if filled == page.len() => Ok(true),
            _ => Err(self.odd(self.bytes_read, page.len())),
        }
    }
}
