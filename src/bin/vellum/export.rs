//! `export`, `import`, `clone`, `apply`, `fold`, `verify`: stores and streams of bytes.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

use vellum::{
    Bookmark, DeltaBase, Error, ExportOptions, Options, Snapshot, Store, StreamSummary, VerifyReport,
    Version, verify_chain_as, verify_stream_as,
};

use crate::args::{Apply, CloneTo, Endpoint, Export, Fold, Import, Reading, Show, Verify, Writing};
use crate::error::Failure;
use crate::output::{Field, Report, put, stdout};
use crate::part::{Part, check_outside, check_target};
use crate::patch;
use crate::place::open_to_read;
use crate::progress::Bar;
use crate::resume;
use crate::sources::Sources;

pub(crate) const BUFFER: usize = 1 << 20;

pub(crate) fn export(args: &Export, show: Show) -> Result<(), Failure> {
    if args.expires.is_some() && !args.resume && args.token_file.is_none() {
        let reason = "--expires is for an export with a token: give --resume, or --token-file";
        return Err(Failure::Usage(reason.to_owned()));
    }
    let file = match args.file.as_ref() {
        _ if args.end => {
            let token_file = &resume::token_file(args)?;
            resume::end_export(args, token_file, show)?;
            return Report::new().text("token_file", &token_file.display()).print(show);
        }
        Some(Endpoint::File(file)) => file,
        given => return export_to_stdout(args, given.is_some(), show),
    };
    if args.from.is_some() {
        let reason = "--from is for standard output: for a FILE, --resume finds out itself from where on";
        return Err(Failure::Usage(reason.to_owned()));
    }
    if args.resume || args.token_file.is_some() {
        let summary = resume::export(args, file, show)?;
        return about(Report::new().text("format", "stream"), &summary)
            .text("file", &file.display())
            .print(show);
    }
    let options = args.writing.options()?;
    check_target(file, args.force)?;
    check_outside(&args.dir, file)?;
    let store = open_to_read(&args.dir, show)?;
    let snapshot = args.which.open(&store)?;
    let (part, to) = Part::create(file, args.force)?;
    let mut to = BufWriter::with_capacity(BUFFER, to);
    let report = write(&store, &snapshot, &mut to, args, (&options, show))
        .map_err(|error| Failure::of_stream(error, part.path()))?;
    let to = to.into_inner().map_err(|error| Failure::file("write to", part.path(), error.into_error()))?;
    part.finish(to)?;
    drop((snapshot, store));
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
    if let Some(token_file) = &args.token_file {
        return resume::export_to_stdout(args, token_file, show);
    }
    if args.resume {
        let reason = "--resume is for a FILE: for standard output give --token-file, and --from to go on";
        return Err(Failure::Usage(reason.to_owned()));
    }
    let options = args.writing.options()?;
    let store = open_to_read(&args.dir, show)?;
    let mut to = BufWriter::with_capacity(BUFFER, stdout()?);
    let snapshot = args.which.open(&store)?;
    let written = write(&store, &snapshot, &mut to, args, (&options, show));
    // What a broken pipe didn't take must not be tried again on dropping.
    let _ = to.into_parts();
    match written {
        Ok(_) => Ok(()),
        Err(Error::Stream { source, .. }) => Err(Failure::Stdout(source)),
        Err(error) => Err(error.into()),
    }
}

/// What a delta begins at.
pub(crate) enum Base {
    Snapshot(Snapshot),
    Bookmark(Bookmark),
}

impl Base {
    pub(crate) fn version(&self) -> Version {
        match self {
            Base::Snapshot(snapshot) => snapshot.version(),
            Base::Bookmark(bookmark) => bookmark.version,
        }
    }
}

impl<'a> From<&'a Base> for DeltaBase<'a> {
    fn from(base: &'a Base) -> DeltaBase<'a> {
        match base {
            Base::Snapshot(snapshot) => snapshot.into(),
            Base::Bookmark(bookmark) => bookmark.into(),
        }
    }
}

/// The named snapshot or bookmark of this name.
pub(crate) fn base_of(store: &Store, name: &str) -> Result<Base, Error> {
    match store.open_snapshot(name) {
        Err(Error::SnapshotNotFound { .. }) => store.bookmark(name).map(Base::Bookmark),
        found => found.map(Base::Snapshot),
    }
}

fn write(
    store: &Store,
    snapshot: &Snapshot,
    to: &mut dyn Write,
    args: &Export,
    (options, show): (&ExportOptions, Show),
) -> Result<Report, Error> {
    let mut bar = Bar::new(show);
    if let (true, Some(since)) = (args.raw, args.since.as_deref()) {
        return patch::export(store, snapshot, since, to, &mut bar);
    }
    if args.raw {
        let summary = snapshot.export_raw(to, &mut bar)?;
        return Ok(Report::new()
            .text("format", "raw")
            .count("version", summary.version.get())
            .text("fingerprint", &snapshot.fingerprint())
            .count("page_count", summary.page_count)
            .count("pages", snapshot.live_pages())
            .bytes("bytes", summary.bytes));
    }
    let summary = match args.since.as_deref() {
        None => snapshot.export_as(to, options, &mut bar)?,
        Some(since) => snapshot.export_since_as(&base_of(store, since)?, to, options, &mut bar)?,
    };
    Ok(about(Report::new().text("format", "stream"), &summary))
}

/// What a stream holds.
fn about(report: Report, summary: &StreamSummary) -> Report {
    let report = report
        .count("version", summary.version.get())
        .text("fingerprint", &summary.fingerprint)
        .count("page_count", summary.page_count)
        .count("pages", summary.pages)
        .bytes("bytes", summary.bytes);
    match summary.base {
        Some(base) => report
            .count("since_version", base.version.get())
            .text("since_fingerprint", &base.fingerprint)
            .count("freed", summary.freed),
        None => report,
    }
}

pub(crate) fn clone(args: &CloneTo, show: Show) -> Result<(), Failure> {
    check_outside(&args.dir, &args.to)?;
    let store = open_to_read(&args.dir, show)?;
    let snapshot = args.which.open(&store)?;
    let done = snapshot.clone_with(&args.to, &mut Bar::new(show))?;
    let report = Report::new()
        .count("version", done.version.get())
        .text("fingerprint", &snapshot.fingerprint())
        .count("files_linked", done.files_linked)
        .count("files_reflinked", done.files_reflinked)
        .count("files_copied", done.files_copied)
        .bytes("bytes_copied", done.bytes_copied);
    drop((snapshot, store));
    report.print(show)
}

pub(crate) fn apply(args: &Apply, show: Show) -> Result<(), Failure> {
    if args.dir.is_file() {
        return patch::apply(&args.dir, args, show);
    }
    let from = stream_of(args.file.as_ref())?;
    if from.file().is_some_and(patch::is_patch) {
        let reason =
            "a raw delta is for a raw file, not for a store: give the file that `export --raw` wrote";
        return Err(Failure::Usage(reason.to_owned()));
    }
    let store = open_to_read(&args.dir, show)?;
    let mut stream = source(from)?;
    let reading = args.reading.options()?;
    let version = store
        .apply_as(&mut *stream, &reading, &mut Bar::new(show))
        .map_err(|error| Failure::of_stream(error, from.name()))?;
    let snapshot = store.snapshot();
    let report = Report::new()
        .count("version", version.get())
        .text("fingerprint", &snapshot.fingerprint())
        .count("page_count", snapshot.page_count())
        .count("pages", snapshot.live_pages());
    drop(snapshot);
    store.close()?;
    report.print(show)
}

pub(crate) fn fold(args: &Fold, show: Show) -> Result<(), Failure> {
    let reading = Reading { key_file: args.key_file.clone(), rate: None }.options()?;
    let (compress, key_file) = (args.compress, args.key_file.clone());
    let writing = Writing { compress, key_file, rate: None, mark_every: None }.options()?;
    let mut sources = Sources::open(&args.files)?;
    let mut bar = Bar::new(show);
    let Some(file) = args.out.file() else {
        if show.json {
            let reason = "with --json give a file: standard output can't carry the stream and the JSON";
            return Err(Failure::Usage(reason.to_owned()));
        }
        let mut to = BufWriter::with_capacity(BUFFER, stdout()?);
        let folded = vellum::fold_as(&mut sources.streams(), &mut to, &reading, &writing, &mut bar);
        // What a broken pipe didn't take must not be tried again on dropping.
        let _ = to.into_parts();
        return match folded {
            Ok(_) => Ok(()),
            Err(Error::Stream { operation: "write to", source }) => Err(Failure::Stdout(source)),
            Err(error) => Err(sources.blame(error)),
        };
    };
    check_target(file, args.force)?;
    let (part, to) = Part::create(file, args.force)?;
    let mut to = BufWriter::with_capacity(BUFFER, to);
    let folded = vellum::fold_as(&mut sources.streams(), &mut to, &reading, &writing, &mut bar);
    let summary = folded.map_err(|error| match error {
        Error::Stream { operation: "write to", .. } => Failure::of_stream(error, part.path()),
        error => sources.blame(error),
    })?;
    let to = to.into_inner().map_err(|error| Failure::file("write to", part.path(), error.into_error()))?;
    part.finish(to)?;
    about(Report::new().text("format", "stream"), &summary).text("file", &file.display()).print(show)
}

/// The stream that was given, or standard input if none was and that is no terminal.
fn stream_of(given: Option<&Endpoint>) -> Result<&Endpoint, Failure> {
    if given.is_none() && io::stdin().is_terminal() {
        let reason = "standard input is a terminal: give a FILE, or pipe an export into this";
        return Err(Failure::Usage(reason.to_owned()));
    }
    Ok(given.unwrap_or(&Endpoint::Standard))
}

pub(crate) fn import(args: &Import, show: Show) -> Result<(), Failure> {
    if args.point {
        let point = resume::point(args, show)?;
        return match show.json {
            true => Report::new().with("point", point.map_or(Field::Unknown, Field::Text)).print(show),
            // A word for a command line, and no word where there is none.
            false => put(point.map_or_else(String::new, |point| point + "\n").as_bytes()),
        };
    }
    let from = stream_of(args.file.as_ref())?;
    let mut options = Options::new().background(false);
    if let Some(bytes) = args.segment_size {
        options = options.segment_size(bytes);
    }
    let store = if args.resume {
        resume::import(args, from, options, show)?
    } else {
        let (mut stream, reading) = (source(from)?, args.reading.options()?);
        Store::import_as(&mut *stream, &args.dir, options, &reading, &mut Bar::new(show))
            .map_err(|error| Failure::of_stream(error, from.name()))?
    };
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
    match args.paths.as_slice() {
        [Endpoint::File(dir)] if dir.is_dir() => verify_store(dir, args, show),
        _ if args.all || args.which.snapshot.is_some() || args.which.at.is_some() => {
            let reason = "--snapshot, --at and --all are for a store: give its directory, and nothing else";
            Err(Failure::Usage(reason.to_owned()))
        }
        [Endpoint::File(file)] if patch::is_patch(file) => patch::verify(file, args, show),
        [from] => {
            let mut stream = source(from)?;
            let summary = verify_stream_as(&mut *stream, &args.reading.options()?, &mut Bar::new(show))
                .map_err(|error| Failure::of_stream(error, from.name()))?;
            about(Report::new().text("kind", "stream"), &summary)
                .text("store_id", &summary.store_id)
                .bytes("page_size", summary.page_size.into())
                .print(show)
        }
        streams => {
            let mut sources = Sources::open(streams)?;
            let reading = args.reading.options()?;
            let links = verify_chain_as(&mut sources.streams(), &reading, &mut Bar::new(show));
            let links = links.map_err(|error| sources.blame(error))?;
            let lines = links.iter().zip(streams).map(|(link, from)| {
                Report::new()
                    .text("file", &from.name().display())
                    .count("since", link.base.map_or(0, |base| base.version.get()))
                    .count("version", link.version.get())
                    .text("fingerprint", &link.fingerprint)
                    .count("pages", link.pages)
                    .bytes("bytes", link.bytes)
            });
            Report::new().text("kind", "chain").with("links", Field::List(lines.collect())).print(show)
        }
    }
}

fn verify_store(dir: &Path, args: &Verify, show: Show) -> Result<(), Failure> {
    let store = open_to_read(dir, show)?;
    if !args.all {
        let report = args.which.open(&store)?.verify(&mut Bar::new(show))?;
        drop(store);
        return checked(Report::new().text("kind", "store"), report).print(show);
    }
    let mut versions = vec![(Field::No(""), store.snapshot())];
    for named in store.snapshots() {
        let snapshot = store.open_snapshot(&named.name)?;
        versions.push((Field::Text(named.name), snapshot));
    }
    for kept in store.history() {
        if versions.iter().all(|(_, snapshot)| snapshot.version() != kept.version) {
            versions.push((Field::No(""), store.snapshot_at(kept.version)?));
        }
    }
    let mut lines = Vec::new();
    for (name, snapshot) in versions {
        let report = snapshot.verify(&mut Bar::new(show))?;
        lines.push(checked(Report::new().with("name", name), report));
    }
    drop(store);
    Report::new().text("kind", "store").with("versions", Field::List(lines)).print(show)
}

fn checked(report: Report, found: VerifyReport) -> Report {
    report
        .count("version", found.version.get())
        .text("fingerprint", &found.fingerprint)
        .count("pages", found.pages)
        .bytes("bytes", found.bytes)
}

/// A stream to read.
pub(crate) fn source(from: &Endpoint) -> Result<Box<dyn Read>, Failure> {
    let Some(file) = from.file() else {
        let opened = io::stdin().as_fd().try_clone_to_owned().map(File::from);
        return buffered(opened, from.name());
    };
    open_stream(file)
}

pub(crate) fn open_stream(file: &Path) -> Result<Box<dyn Read>, Failure> {
    buffered(File::open(file), file)
}

fn buffered(opened: io::Result<File>, name: &Path) -> Result<Box<dyn Read>, Failure> {
    let file = opened.map_err(|error| Failure::file("open", name, error))?;
    Ok(Box::new(BufReader::with_capacity(BUFFER, file)))
}
