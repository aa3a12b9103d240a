//! `export`, `import`, `verify`: stores and streams of bytes.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

use vellum::{Error, Options, Snapshot, Store, verify_stream};

use crate::args::{Export, Import, Show, Verify};
use crate::error::Failure;
use crate::output::{Report, stdout};
use crate::part::{Part, check_target};
use crate::place::open_to_read;
use crate::progress::Bar;

const BUFFER: usize = 1 << 20;

pub(crate) fn export(args: &Export, show: Show) -> Result<(), Failure> {
    let file = match args.file.as_deref() {
        Some(file) if file != Path::new("-") => file,
        given => return export_to_stdout(args, given.is_some(), show),
    };
    check_target(file, args.force)?;
    let store = open_to_read(&args.dir)?;
    let (part, to) = Part::create(file, args.force)?;
    let mut to = BufWriter::with_capacity(BUFFER, to);
    let report = write(&store.snapshot(), &mut to, args.raw, show)
        .map_err(|error| Failure::of_stream(error, part.path()))?;
    let to = to.into_inner().map_err(|error| Failure::file("write to", part.path(), error.into_error()))?;
    part.finish(to)?;
    drop(store);
    report.text("file", &file.display()).print(show)
}

/// There the bytes are the result, so nothing else is printed.
fn export_to_stdout(args: &Export, is_asked: bool, show: Show) -> Result<(), Failure> {
    if show.json {
        let reason = "with --json give a FILE: standard output can't carry the export and the JSON";
        return Err(Failure::Usage(reason.to_owned()));
    }
    if !is_asked && io::stdout().is_terminal() {
        let reason =
            "standard output is a terminal: give a FILE, or `-` to write the export there all the same";
        return Err(Failure::Usage(reason.to_owned()));
    }
    let store = open_to_read(&args.dir)?;
    let mut to = BufWriter::with_capacity(BUFFER, stdout()?);
    let written = write(&store.snapshot(), &mut to, args.raw, show);
    // What a broken pipe didn't take must not be tried again on dropping.
    let _ = to.into_parts();
    match written {
        Ok(_) => Ok(()),
        Err(Error::Stream { source, .. }) => Err(Failure::Stdout(source)),
        Err(error) => Err(error.into()),
    }
}

fn write(snapshot: &Snapshot, to: &mut dyn Write, is_raw: bool, show: Show) -> Result<Report, Error> {
    let mut bar = Bar::new(show);
    let report = Report::new().text("format", if is_raw { "raw" } else { "stream" });
    if is_raw {
        let summary = snapshot.export_raw(to, &mut bar)?;
        return Ok(report
            .count("version", summary.version.get())
            .text("fingerprint", &snapshot.fingerprint())
            .count("page_count", summary.page_count)
            .count("pages", snapshot.live_pages())
            .bytes("bytes", summary.bytes));
    }
    let summary = snapshot.export_with(to, &mut bar)?;
    Ok(report
        .count("version", summary.version.get())
        .text("fingerprint", &summary.fingerprint)
        .count("page_count", summary.page_count)
        .count("pages", summary.pages)
        .bytes("bytes", summary.bytes))
}

pub(crate) fn import(args: &Import, show: Show) -> Result<(), Failure> {
    let path = args.file.as_deref().unwrap_or(Path::new("-"));
    if args.file.is_none() && io::stdin().is_terminal() {
        let reason = "standard input is a terminal: give a FILE, or pipe an export into this";
        return Err(Failure::Usage(reason.to_owned()));
    }
    let mut options = Options::new().background(false);
    if let Some(bytes) = args.segment_size {
        options = options.segment_size(bytes);
    }
    let mut from = source(path)?;
    let store = Store::import_with(&mut *from, &args.dir, options, &mut Bar::new(show))
        .map_err(|error| Failure::of_stream(error, path))?;
    let snapshot = store.snapshot();
    let report = Report::new()
        .text("id", &store.id())
        .bytes("page_size", store.page_size() as u64)
        .count("version", snapshot.version().get())
        .text("fingerprint", &snapshot.fingerprint())
        .count("page_count", snapshot.page_count())
        .count("pages", snapshot.live_pages());
    drop((snapshot, store));
    report.print(show)
}

pub(crate) fn verify(args: &Verify, show: Show) -> Result<(), Failure> {
    if args.path.is_dir() {
        let store = open_to_read(&args.path)?;
        let report = store.snapshot().verify(&mut Bar::new(show))?;
        drop(store);
        return Report::new()
            .text("kind", "store")
            .count("version", report.version.get())
            .text("fingerprint", &report.fingerprint)
            .count("pages", report.pages)
            .bytes("bytes", report.bytes)
            .print(show);
    }
    let mut from = source(&args.path)?;
    let summary = verify_stream(&mut *from, &mut Bar::new(show))
        .map_err(|error| Failure::of_stream(error, &args.path))?;
    Report::new()
        .text("kind", "stream")
        .count("version", summary.version.get())
        .text("fingerprint", &summary.fingerprint)
        .count("pages", summary.pages)
        .bytes("bytes", summary.bytes)
        .text("store_id", &summary.store_id)
        .bytes("page_size", summary.page_size.into())
        .count("page_count", summary.page_count)
        .print(show)
}

/// A stream to read: a file, or standard input for `-`.
fn source(path: &Path) -> Result<Box<dyn Read>, Failure> {
    let opened = if path == Path::new("-") {
        io::stdin().as_fd().try_clone_to_owned().map(File::from)
    } else {
        File::open(path)
    };
    let file = opened.map_err(|error| Failure::file("open", path, error))?;
    Ok(Box::new(BufReader::with_capacity(BUFFER, file)))
}
