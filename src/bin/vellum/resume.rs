//! Exports and imports that go on where they were cut.
//!
//! An export that can be gone on with leaves two files when it is cut: FILE.part, as far as it came, and FILE.token, the word with
//! which the store holds the version. Both go when it is done. An import that can be gone on with keeps what has arrived in DIR.inbox.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use vellum::{
    DeltaBase, Error, ExportOptions, ExportToken, Inbox, Options, ResumePoint, Store, StreamSummary,
    resume_point, verify_stream_as,
};

use crate::args::{Endpoint, Export, Import, Reading, Show};
use crate::error::Failure;
use crate::export::{BUFFER, base_of, open_stream, source};
use crate::output::stdout;
use crate::part::{Part, check_outside, check_target};
use crate::place::{Place, look, open_to_read};
use crate::progress::Bar;

/// For how long a token holds its version, unless it is said.
const HELD: Duration = Duration::from_hours(7 * 24);

/// `name` with something behind it.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path.as_os_str());
    name.push(suffix);
    PathBuf::from(name)
}

/// The token that an earlier run left, or else a new one, written down before anything depends on it.
fn token(store: &Store, args: &Export, file: &Path) -> Result<(ExportToken, bool), Failure> {
    let base = args.since.as_deref().map(|since| base_of(store, since)).transpose()?;
    match fs::read_to_string(file) {
        Ok(word) => {
            let token: ExportToken = word.trim().parse()?;
            let (expected, found) = (token.store_id(), store.id());
            if expected != found {
                return Err(Error::TokenOfAnotherStore { expected, found }.into());
            }
            let asked = match args.which.is_given() {
                true => Some(args.which.open(store)?.version()),
                false => None,
            };
            let base_asked = base.as_ref().map(super::export::Base::version);
            // What was begun is gone on with; that mustn't be taken for another one.
            if asked.is_some_and(|asked| asked != token.version())
                || base_asked.is_some_and(|asked| Some(asked) != token.base_version())
            {
                return Err(Failure::OtherExport { file: file.to_owned(), version: token.version().get() });
            }
            Ok((token, true))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let snapshot = args.which.open(store)?;
            let base = base.as_ref().map(DeltaBase::from);
            let held = args.expires.unwrap_or(HELD);
            let token = snapshot.begin_export(base, &args.writing.options()?, held)?;
            let write = || {
                let mut to = File::create_new(file)?;
                writeln!(to, "{token}")?;
                to.sync_all()
            };
            if let Err(error) = write() {
                // Nobody could go on with it.
                let _ = fs::remove_file(file);
                let _ = store.end_export(&token);
                return Err(Failure::file("write to", file, error));
            }
            Ok((token, false))
        }
        Err(error) => Err(Failure::file("read", file, error)),
    }
}

/// What an earlier run has written whole, if it was cut between naming the file and letting go of its token.
fn written_before(
    args: &Export,
    file: &Path,
    token_file: &Path,
    show: Show,
) -> Result<Option<(ExportToken, StreamSummary)>, Failure> {
    // What --force would replace may be any stream.
    if args.force || !file.is_file() || !token_file.is_file() || beside(file, ".part").exists() {
        return Ok(None);
    }
    let word = fs::read_to_string(token_file).map_err(|error| Failure::file("read", token_file, error))?;
    let token: ExportToken = word.trim().parse()?;
    let reading = Reading { key_file: args.writing.key_file.clone(), rate: None }.options()?;
    // What is no such stream is somebody else's file, and stays.
    let found = verify_stream_as(&mut *open_stream(file)?, &reading, &mut Bar::new(show)).ok();
    let is_it = |summary: &StreamSummary| {
        summary.store_id == token.store_id()
            && summary.version == token.version()
            && summary.base.map(|base| base.version) == token.base_version()
    };
    Ok(found.filter(is_it).map(|summary| (token, summary)))
}

/// Refuses a key for an export that was begun without one: whoever gives it counts on a stream that nobody can read.
fn check_key(store: &Store, args: &Export, token: &ExportToken, token_file: &Path) -> Result<(), Failure> {
    if args.writing.key_file.is_none() {
        return Ok(());
    }
    // Without its key an encrypted export is refused before anything is written; another comes as far as its first byte.
    let mut nowhere: &mut [u8] = &mut [];
    match store.run_export(token, None, &mut nowhere, &ExportOptions::new(), &mut ()) {
        Err(Error::Stream { .. }) => {
            let reason = format!(
                "the export of {} was begun without a key: go on without --key-file, or end it (--end) and begin anew",
                token_file.display()
            );
            Err(Failure::Usage(reason))
        }
        _ => Ok(()),
    }
}

/// Where the token of an export is kept.
pub(crate) fn token_file(args: &Export) -> Result<PathBuf, Failure> {
    let file = args.file.as_ref().and_then(Endpoint::file);
    match (&args.token_file, file) {
        (Some(token_file), _) => Ok(token_file.clone()),
        (None, Some(file)) => Ok(beside(file, ".token")),
        (None, None) => {
            let reason = "which export? Give the FILE that it was to write, or its --token-file";
            Err(Failure::Usage(reason.to_owned()))
        }
    }
}

/// Writes a file, or goes on with it.
pub(crate) fn export(args: &Export, file: &Path, show: Show) -> Result<StreamSummary, Failure> {
    check_outside(&args.dir, file)?;
    let token_file = token_file(args)?;
    if let Some((token, summary)) = written_before(args, file, &token_file, show)? {
        end(open_to_read(&args.dir, show)?, &token, &token_file)?;
        return Ok(summary);
    }
    check_target(file, args.force)?;
    let store = open_to_read(&args.dir, show)?;
    let (token, is_old) = token(&store, args, &token_file)?;
    check_key(&store, args, &token, &token_file)?;
    let (part, mut to) = Part::go_on(file, args.force)?;
    let path = part.path().to_owned();
    let failed = |operation, error| Failure::file(operation, &path, error);
    let point = match is_old {
        true => {
            let reading = Reading { key_file: args.writing.key_file.clone(), rate: None }.options()?;
            let mut from = BufReader::with_capacity(BUFFER, &mut to);
            resume_point(&mut from, &reading, &mut Bar::new(show))
                .map_err(|error| Failure::of_stream(error, &path))?
        }
        false => None,
    };
    let from = point.as_ref().map_or(0, ResumePoint::offset);
    to.set_len(from).map_err(|error| failed("cut", error))?;
    to.seek(SeekFrom::Start(from)).map_err(|error| failed("write to", error))?;
    let mut to = BufWriter::with_capacity(BUFFER, to);
    let options = args.writing.options()?;
    let summary = store
        .run_export(&token, point.as_ref(), &mut to, &options, &mut Bar::new(show))
        .map_err(|error| Failure::of_stream(error, part.path()))?;
    let to = to.into_inner().map_err(|error| failed("write to", error.into_error()))?;
    part.finish(to)?;
    end(store, &token, &token_file)?;
    Ok(summary)
}

/// Writes to standard output, from a mark on if one is given. Only the other end knows whether all has arrived, so the token stays.
pub(crate) fn export_to_stdout(args: &Export, token_file: &Path, show: Show) -> Result<(), Failure> {
    let store = open_to_read(&args.dir, show)?;
    let point = args.from.as_deref().filter(|word| !word.is_empty()).map(str::parse).transpose()?;
    let (token, is_old) = token(&store, args, token_file)?;
    if point.is_some() && !is_old {
        let reason =
            "--from goes on with an export that was begun: give the --token-file that it was begun with";
        let _ = store.end_export(&token);
        let _ = fs::remove_file(token_file);
        return Err(Failure::Usage(reason.to_owned()));
    }
    check_key(&store, args, &token, token_file)?;
    let mut to = BufWriter::with_capacity(BUFFER, stdout()?);
    let options = args.writing.options()?;
    let done = store.run_export(&token, point.as_ref(), &mut to, &options, &mut Bar::new(show));
    // What a broken pipe didn't take must not be tried again on dropping; what was written well was flushed.
    let _ = to.into_parts();
    match done {
        Ok(_) => Ok(()),
        Err(Error::Stream { source, .. }) => Err(Failure::Stdout(source)),
        Err(error) => Err(error.into()),
    }
}

/// Ends an export that was begun: what its token held is let go.
pub(crate) fn end_export(args: &Export, token_file: &Path, show: Show) -> Result<(), Failure> {
    let word = fs::read_to_string(token_file).map_err(|error| Failure::file("read", token_file, error))?;
    let token = word.trim().parse()?;
    end(open_to_read(&args.dir, show)?, &token, token_file)
}

fn end(store: Store, token: &ExportToken, token_file: &Path) -> Result<(), Failure> {
    match store.end_export(token) {
        // It has expired, and holds nothing any more.
        Ok(()) | Err(Error::TokenUnknown { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    store.close()?;
    fs::remove_file(token_file).map_err(|error| Failure::file("remove", token_file, error))
}

/// Where an import's stream arrives: beside DIR, also if that is given with a slash at its end.
fn inbox_of(dir: &Path) -> PathBuf {
    beside(dir.components().as_path(), ".inbox")
}

/// The word that says from where on the rest of the stream is needed; none: from its beginning.
pub(crate) fn point(args: &Import, show: Show) -> Result<Option<String>, Failure> {
    let dir = inbox_of(&args.dir);
    if !dir.exists() {
        return Ok(None);
    }
    let point = Inbox::open(&dir)?.resume_point(&args.reading.options()?, &mut Bar::new(show))?;
    Ok(point.map(|point| point.to_string()))
}

/// Receives a stream, or the rest of one, and makes a store of it.
pub(crate) fn import(args: &Import, from: &Endpoint, options: Options, show: Show) -> Result<Store, Failure> {
    let (reading, dir) = (args.reading.options()?, inbox_of(&args.dir));
    // Before anything is received that could go nowhere.
    if !matches!(look(&args.dir)?, Place::Missing | Place::Free) {
        return Err(Error::AlreadyExists { dir: args.dir.clone() }.into());
    }
    let mut stream = source(from)?;
    let inbox = Inbox::open(&dir)?;
    let point = inbox.resume_point(&reading, &mut Bar::new(show))?;
    if let (Some(point), Some(file)) = (&point, from.file()) {
        // The whole stream is there, so what has arrived is passed over.
        let skipped = io::copy(&mut (&mut stream).take(point.offset()), &mut io::sink());
        skipped.map_err(|error| Failure::file("read", file, error))?;
    }
    let received = inbox.receive(&mut *stream, &reading, &mut Bar::new(show));
    received.map_err(|error| Failure::of_stream(error, from.name()))?;
    let key_only = Reading { key_file: args.reading.key_file.clone(), rate: None }.options()?;
    let made = Store::import_as(&mut inbox.reader()?, &args.dir, options, &key_only, &mut Bar::new(show))?;
    drop(inbox);
    fs::remove_dir_all(&dir).map_err(|error| Failure::file("remove", &dir, error))?;
    Ok(made)
}
