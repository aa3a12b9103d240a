//! Raw deltas: what leads one raw file of pages to the next, for those who keep raw files.

use std::fs::File;
use std::io::{BufReader, Read as _, Write};
use std::path::Path;

use vellum::{Error, PatchSummary, Snapshot, Store, apply_patch, verify_patch};

use crate::args::{Apply, Endpoint, Reading, Show, Verify};
use crate::error::Failure;
use crate::export::{BUFFER, base_of};
use crate::output::Report;
use crate::progress::Bar;

/// Whether the file is a raw delta. What can't be read is none; whoever opens it next says why.
pub(crate) fn is_patch(path: &Path) -> bool {
    let mut magic = [0; PatchSummary::MAGIC.len()];
    path.is_file()
        && File::open(path).is_ok_and(|mut file| file.read_exact(&mut magic).is_ok())
        && magic == PatchSummary::MAGIC
}

pub(crate) fn export(
    store: &Store,
    snapshot: &Snapshot,
    since: &str,
    to: &mut dyn Write,
    bar: &mut Bar,
) -> Result<Report, Error> {
    Ok(about("format", &snapshot.export_raw_since(&base_of(store, since)?, to, bar)?))
}

pub(crate) fn verify(path: &Path, args: &Verify, show: Show) -> Result<(), Failure> {
    plain(&args.reading)?;
    let mut from = BufReader::with_capacity(BUFFER, open(path)?);
    let summary =
        verify_patch(&mut from, &mut Bar::new(show)).map_err(|error| Failure::of_stream(error, path))?;
    about("kind", &summary).bytes("page_size", summary.page_size.into()).print(show)
}

/// Leads the raw file `raw` to what the delta leads to.
pub(crate) fn apply(raw: &Path, args: &Apply, show: Show) -> Result<(), Failure> {
    plain(&args.reading)?;
    let shown = raw.display();
    let path = args.file.as_ref().and_then(Endpoint::file).ok_or_else(|| {
        Failure::Usage(format!("{shown} is a file: give the FILE of a raw delta, which is read twice"))
    })?;
    let mut patch = open(path)?;
    if !is_patch(path) {
        let path = path.display();
        let reason = format!("{shown} is a file, and {path} no raw delta for it (`export --raw --since`)");
        return Err(Failure::Usage(reason));
    }
    let to = File::options().read(true).write(true).open(raw);
    let to = to.map_err(|error| Failure::file("write to", raw, error))?;
    let summary = apply_patch(&mut patch, &to, &mut Bar::new(show)).map_err(|error| match error {
        Error::Stream { operation: "write to" | "sync", .. } => Failure::of_stream(error, raw),
        error => Failure::of_stream(error, path),
    })?;
    about("format", &summary).text("file", &raw.display()).print(show)
}

/// A raw delta is neither encrypted nor held to a rate.
fn plain(reading: &Reading) -> Result<(), Failure> {
    if reading.key_file.is_none() && reading.rate.is_none() {
        return Ok(());
    }
    Err(Failure::Usage("--key-file and --rate are for streams, not for raw deltas".to_owned()))
}

fn open(path: &Path) -> Result<File, Failure> {
    File::open(path).map_err(|error| Failure::file("open", path, error))
}

fn about(key: &'static str, summary: &PatchSummary) -> Report {
    Report::new()
        .text(key, "raw delta")
        .count("version", summary.version.get())
        .text("fingerprint", &summary.fingerprint)
        .count("page_count", summary.page_count)
        .count("pages", summary.pages)
        .bytes("bytes", summary.bytes)
        .count("since_version", summary.base.version.get())
        .text("since_fingerprint", &summary.base.fingerprint)
        .count("zeroed", summary.zeroed)
}
