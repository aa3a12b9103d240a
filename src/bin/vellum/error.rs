//! What a command fails with, how it is told, and the exit code.

use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use vellum::Error;

use crate::top::other_status;

pub(crate) const OTHER: u8 = 1;
pub(crate) const USAGE: u8 = 2;
pub(crate) const DAMAGE: u8 = 3;
pub(crate) const LOCKED: u8 = 4;
pub(crate) const NOT_FOUND: u8 = 5;
pub(crate) const FULL: u8 = 6;
/// What a shell reports for a command that SIGPIPE ended; no output of ours says it, so the help doesn't list it.
pub(crate) const BROKEN_PIPE: u8 = 141;

/// Everything that ends a command early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The library's word, which already says what to do next.
    #[error(transparent)]
    Vellum(#[from] Error),
    /// A command line that clap takes but that makes no sense.
    #[error("{0}")]
    Usage(String),
    #[error("{} holds a store already: give another directory, or use it as it is", .dir.display())]
    StoreExists { dir: PathBuf },
    #[error("{} exists already: give another name, or --force to replace it", .file.display())]
    FileExists { file: PathBuf },
    #[error("{} is not a plain file: give `-` and redirect standard output there", .file.display())]
    NotPlain { file: PathBuf },
    #[error(
        "{} is {bytes} bytes long, which is not a multiple of the page size, {page_size}: \
         load a whole page file, or into a store whose pages fit (--page-size, for a new one)",
        .file.display()
    )]
    OddLength { file: PathBuf, bytes: u64, page_size: usize },
    #[error("the pages that differ need more than {limit} bytes of memory: raise --memory")]
    TooLarge { limit: u64 },
    #[error("{} holds no key: it should be 32 bytes, or 64 hexadecimal digits", .file.display())]
    BadKey { file: PathBuf },
    #[error(
        "{} is the token of another export, of version {version}: finish that one, or end it (export --end) and begin anew",
        .file.display()
    )]
    OtherExport { file: PathBuf, version: u64 },
    #[error(
        "{pages} damaged pages and {nodes} damaged nodes of the page table are left: give --repair-from a clone or an \
         export that has the pages, or restore the store"
    )]
    DamageLeft { pages: u64, nodes: u64 },
    #[error(
        "{} is in use by another process, which doesn't tell how it stands: let it open the store with \
         Options::status_every, or stop it first",
        .dir.display()
    )]
    TellsNothing { dir: PathBuf },
    #[error(
        "{} was written by a version of vellum that this one doesn't understand: use the tool of that version",
        .file.display()
    )]
    OtherStatus { file: PathBuf, found: Option<u64> },
    /// The library's word about a stream, which it knows without its name.
    #[error("{}: {source}", .file.display())]
    InStream { file: PathBuf, source: Error },
    #[error("there is no bookmark named {name:?}: see `vellum bookmark ls`")]
    NoBookmark { name: String },
    #[error("can't {operation} {}: {source}", .file.display())]
    File { operation: &'static str, file: PathBuf, source: Arc<io::Error> },
    #[error("can't write to standard output: {0}")]
    Stdout(Arc<io::Error>),
}

impl Failure {
    pub(crate) fn file(operation: &'static str, file: &Path, source: io::Error) -> Failure {
        Failure::File { operation, file: file.to_owned(), source: Arc::new(source) }
    }

    pub(crate) fn stdout(source: io::Error) -> Failure {
        Failure::Stdout(Arc::new(source))
    }

    /// Puts the name of a file to an error about a nameless stream.
    pub(crate) fn of_stream(error: Error, file: &Path) -> Failure {
        match error {
            Error::Stream { operation, source } => Failure::File { operation, file: file.to_owned(), source },
            Error::BadStream { .. }
            | Error::WrongBase { .. }
            | Error::WrongKey { .. }
            | Error::PageSizeMismatch { .. }
            | Error::Unsupported { .. } => Failure::InStream { file: file.to_owned(), source: error },
            error => Failure::Vellum(error),
        }
    }

    /// Prints the failure on standard error, and says how to exit.
    pub(crate) fn report(&self, is_json: bool) -> ExitCode {
        let code = self.code();
        // Whoever closed our standard output knows that he did; and nobody hears of it if standard error is gone.
        if code != BROKEN_PIPE {
            let text = if is_json { self.to_json().to_string() } else { format!("vellum: {self}") };
            let _ = writeln!(io::stderr(), "{text}");
        }
        ExitCode::from(code)
    }

    fn code(&self) -> u8 {
        match self {
            Failure::Vellum(error) | Failure::InStream { source: error, .. } => code_of(error),
            Failure::NoBookmark { .. } => NOT_FOUND,
            Failure::Usage(_) => USAGE,
            Failure::Stdout(source) if source.kind() == ErrorKind::BrokenPipe => BROKEN_PIPE,
            Failure::File { source, .. } | Failure::Stdout(source) => code_of_io(source),
            Failure::TellsNothing { .. } => LOCKED,
            Failure::DamageLeft { .. } => DAMAGE,
            _ => OTHER,
        }
    }

    fn to_json(&self) -> Value {
        let (kind, details) = match self {
            Failure::Vellum(error) | Failure::InStream { source: error, .. } => describe(error),
            Failure::NoBookmark { name } => ("bookmark_not_found", json!({ "name": name })),
            Failure::Usage(_) => ("usage", json!({})),
            Failure::StoreExists { dir } => ("already_exists", json!({ "dir": text(dir) })),
            Failure::FileExists { file } => ("already_exists", json!({ "file": text(file) })),
            Failure::NotPlain { file } => ("not_plain", json!({ "file": text(file) })),
            Failure::OddLength { file, bytes, page_size } => {
                ("odd_length", json!({ "file": text(file), "bytes": bytes, "page_size": page_size }))
            }
            Failure::TooLarge { limit } => ("transaction_too_large", json!({ "limit": limit })),
            Failure::BadKey { file } => ("bad_key", json!({ "file": text(file) })),
            Failure::OtherExport { file, version } => {
                ("other_export", json!({ "file": text(file), "version": version }))
            }
            Failure::DamageLeft { pages, nodes } => {
                ("damage_left", json!({ "pages": pages, "nodes": nodes }))
            }
            Failure::TellsNothing { dir } => ("locked", json!({ "dir": text(dir) })),
            Failure::OtherStatus { file, found } => ("other_status", other_status(file, *found)),
            Failure::File { operation, file, .. } => {
                ("io", json!({ "operation": operation, "file": text(file) }))
            }
            Failure::Stdout(_) => ("io", json!({ "operation": "write to", "file": "-" })),
        };
        let mut error = Map::new();
        error.insert("kind".to_owned(), kind.into());
        error.insert("message".to_owned(), self.to_string().into());
        error.insert("exit_code".to_owned(), self.code().into());
        if let Value::Object(details) = details {
            error.extend(details);
        }
        if let Failure::InStream { file, .. } = self {
            error.insert("file".to_owned(), text(file).into());
        }
        json!({ "error": error })
    }
}

fn code_of(error: &Error) -> u8 {
    match error {
        Error::Corrupt { .. } | Error::BadStream { .. } => DAMAGE,
        Error::Locked { .. } => LOCKED,
        Error::NotFound { .. }
        | Error::NotAStore { .. }
        | Error::NotADirectory { .. }
        | Error::PageOutOfRange { .. }
        | Error::PageNotAllocated { .. }
        | Error::SnapshotNotFound { .. }
        | Error::VersionNotKept { .. }
        | Error::TimeNotKept { .. }
        | Error::HoldNotFound { .. } => NOT_FOUND,
        Error::Full { .. } => FULL,
        Error::InvalidOption { .. } | Error::InvalidName { .. } | Error::BadToken { .. } => USAGE,
        Error::Io { source, .. } | Error::Stream { source, .. } => code_of_io(source),
        Error::Poisoned { source } => code_of(source),
        _ => OTHER,
    }
}

fn code_of_io(error: &io::Error) -> u8 {
    match error.kind() {
        ErrorKind::NotFound => NOT_FOUND,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => FULL,
        _ => OTHER,
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// The error's name, and the values that a program may want to act on.
fn describe(error: &Error) -> (&'static str, Value) {
    match error {
        Error::Corrupt { file, offset, expected, found } => {
            ("corrupt", json!({ "file": text(file), "offset": offset, "expected": expected, "found": found }))
        }
        Error::BadStream { offset, expected, found } => {
            ("bad_stream", json!({ "offset": offset, "expected": expected, "found": found }))
        }
        Error::Io { operation, file, .. } => ("io", json!({ "operation": operation, "file": text(file) })),
        Error::Stream { operation, .. } => ("stream", json!({ "operation": operation })),
        Error::Full { needed, file, .. } => ("full", json!({ "needed": needed, "file": text(file) })),
        Error::Poisoned { .. } => ("poisoned", json!({})),
        Error::Locked { dir } => ("locked", json!({ "dir": text(dir) })),
        Error::NotAStore { dir, reason } => ("not_a_store", json!({ "dir": text(dir), "reason": reason })),
        Error::NotFound { dir } => ("not_found", json!({ "dir": text(dir) })),
        Error::AlreadyExists { dir } => ("already_exists", json!({ "dir": text(dir) })),
        Error::NotADirectory { path } => ("not_a_directory", json!({ "path": text(path) })),
        Error::ReadOnly { dir, .. } => ("read_only", json!({ "dir": text(dir) })),
        Error::Unsupported { what, found, supported } => {
            ("unsupported", json!({ "what": what, "found": found, "supported": supported }))
        }
        Error::InvalidOption { option, value, .. } => {
            ("invalid_option", json!({ "option": option, "value": value }))
        }
        Error::PageSizeMismatch { asked, found } => {
            ("page_size_mismatch", json!({ "asked": asked, "found": found }))
        }
        Error::PageOutOfRange { page, page_count } => {
            ("page_out_of_range", json!({ "page": page.get(), "page_count": page_count }))
        }
        Error::PageNotAllocated { page } => ("page_not_allocated", json!({ "page": page.get() })),
        Error::TooManyPages { asked, limit } => ("too_many_pages", json!({ "asked": asked, "limit": limit })),
        Error::SnapshotNotFound { name } => ("snapshot_not_found", json!({ "name": name })),
        Error::VersionNotKept { version, older, newer } => {
            let number = |version: &vellum::Version| version.get();
            let (older, newer) = (older.as_ref().map(number), newer.as_ref().map(number));
            ("version_not_kept", json!({ "version": version.get(), "older": older, "newer": newer }))
        }
        Error::TimeNotKept { oldest, oldest_ms, .. } => {
            ("time_not_kept", json!({ "oldest": oldest.get(), "oldest_ms": oldest_ms }))
        }
        Error::SnapshotExists { name } => ("snapshot_exists", json!({ "name": name })),
        Error::SnapshotHeld { name, holders } => {
            ("snapshot_held", json!({ "name": name, "holders": holders }))
        }
        Error::GroupIncomplete { name, missing } => {
            ("group_incomplete", json!({ "name": name, "missing": missing }))
        }
        Error::DuplicateMember { store } => ("duplicate_member", json!({ "store": store.to_string() })),
        Error::HoldNotFound { name, owner } => ("hold_not_found", json!({ "name": name, "owner": owner })),
        Error::InvalidName { what, value, .. } => ("invalid_name", json!({ "what": what, "value": value })),
        Error::WrongBase { expected, found } => {
            ("wrong_base", json!({ "expected": expected.to_string(), "found": found.to_string() }))
        }
        Error::WrongKey { is_given } => ("wrong_key", json!({ "is_given": is_given })),
        Error::BadToken { expected, .. } => ("bad_token", json!({ "expected": expected })),
        Error::TokenExpired { .. } => ("token_expired", json!({})),
        Error::TokenUnknown { .. } => ("token_unknown", json!({})),
        Error::TokenOfAnotherStore { expected, found } => {
            let (expected, found) = (expected.to_string(), found.to_string());
            ("token_of_another_store", json!({ "expected": expected, "found": found }))
        }
        Error::WrongResumePoint { .. } => ("wrong_resume_point", json!({})),
        Error::CheckFailed { version, .. } => ("check_failed", json!({ "version": version.get() })),
        Error::Cancelled => ("cancelled", json!({})),
        _ => ("other", json!({})),
    }
}
