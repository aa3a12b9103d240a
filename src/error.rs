//! The one error type. Every variant keeps the values that disagree and says what to do next.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::calendar::clock;
use crate::id::{Fingerprint, PageId, StoreId, Version};
use crate::quiesce::{HookCause, HookPhase};

/// What every fallible call returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong. Match on what you can act on: [`Error::Conflict`] (retry), [`Error::Full`]
/// (make room), [`Error::Poisoned`] (reopen), [`Error::Corrupt`] (restore), [`Error::Locked`] (wait or stop the other process).
#[non_exhaustive]
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Another transaction committed first to a page that this one wrote (or, when serializable, read).
    #[error(
        "{page} was committed in {winner}, after this transaction's snapshot of {snapshot}: begin again and retry"
    )]
    Conflict {
        /// The page that both touched; [`PageId::META`] and [`PageId::PAGE_COUNT`] stand for what isn't a page.
        page: PageId,
        /// The version that won.
        winner: Version,
        /// The version that this transaction read from.
        snapshot: Version,
    },
    /// Bytes that are not what was written: damage of the medium, or somebody else's writing.
    #[error("{} is damaged at offset {offset}: expected {expected}, found {found}; restore the store from an export, or the file from a copy", .file.display())]
    Corrupt {
        /// The damaged file.
        file: PathBuf,
        /// Where in the file, in bytes.
        offset: u64,
        /// What should have been there.
        expected: String,
        /// What was there.
        found: String,
    },
    /// The operating system refused an operation on a file.
    #[error("can't {operation} {}: {source}", .file.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file or directory.
        file: PathBuf,
        /// The system's word.
        source: Arc<io::Error>,
    },
    /// The disk (or the quota) is full. The transaction is gone, the store is as before and stays readable.
    #[error("no room for {needed} more bytes in {}: free some space, then retry", .file.display())]
    Full {
        /// How many bytes were asked for.
        needed: u64,
        /// Which file needed them.
        file: PathBuf,
        /// The system's word.
        source: Arc<io::Error>,
    },
    /// An earlier write or sync failed, so nothing more is written; reads go on. It is final for this handle.
    #[error(
        "the store takes no more writes since an earlier failure ({source}): close it, see to the disk, and open it again"
    )]
    Poisoned {
        /// The failure that ended writing.
        source: Arc<Error>,
    },
    /// Another handle, in this process or another, has the store open.
    #[error("{} is in use by another process or handle: close that one first", .dir.display())]
    Locked {
        /// The store's directory.
        dir: PathBuf,
    },
    /// The directory holds something that is not a vellum store.
    #[error("{} is not a vellum store ({reason}): give an empty or new directory, or the right path", .dir.display())]
    NotAStore {
        /// The directory.
        dir: PathBuf,
        /// What was found there.
        reason: String,
    },
    /// There is no store there, and the options say not to create one.
    #[error("{} holds no store: create one first (Options::create, or `vellum init`)", .dir.display())]
    NotFound {
        /// The directory.
        dir: PathBuf,
    },
    /// Something is already where a new store should go.
    #[error("{} already exists and is not empty: give another path, or remove it first", .dir.display())]
    AlreadyExists {
        /// The directory.
        dir: PathBuf,
    },
    /// The path of a store leads to something that is not a directory.
    #[error("{} is not a directory: a store is a directory of its own", .path.display())]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// The store's directory can't be written to.
    #[error("{} can't be written to: {source}; give this user the right to write there, or another directory", .dir.display())]
    ReadOnly {
        /// The directory.
        dir: PathBuf,
        /// The system's word.
        source: Arc<io::Error>,
    },
    /// Data of a format that this build doesn't know.
    #[error("{what} has format {found}, this build reads up to {supported}: use a newer vellum")]
    Unsupported {
        /// Which file or stream.
        what: String,
        /// The format found.
        found: String,
        /// The newest format that this build knows.
        supported: String,
    },
    /// An option that can't be honoured.
    #[error("option {option} can't be {value}; {expected} possible")]
    InvalidOption {
        /// The option's name.
        option: &'static str,
        /// What was given.
        value: String,
        /// What would do.
        expected: String,
    },
    /// The store was created with another page size.
    #[error(
        "the store's pages are {found} bytes, not {asked}: open it with page_size({found}), or without a page size"
    )]
    PageSizeMismatch {
        /// What the options asked for.
        asked: u32,
        /// What the store has.
        found: u32,
    },
    /// Bytes handed in or a buffer that are not exactly one page long.
    #[error("{found} bytes given, but a page is exactly {expected} bytes")]
    WrongLength {
        /// The store's page size.
        expected: usize,
        /// The length given.
        found: usize,
    },
    /// A page id at or beyond the end of the store.
    #[error(
        "{page} is beyond the end: there are {page_count} pages; allocate it first, or raise the page count with truncate"
    )]
    PageOutOfRange {
        /// The page asked for.
        page: PageId,
        /// The number of pages there are.
        page_count: u64,
    },
    /// A page that was never written, or was freed, where one is needed.
    #[error("{page} holds nothing: it was never written, or was freed")]
    PageNotAllocated {
        /// The page asked for.
        page: PageId,
    },
    /// More pages than page ids can number.
    #[error("{asked} pages are more than a store can number ({limit})")]
    TooManyPages {
        /// What was asked for.
        asked: u64,
        /// The greatest number of pages.
        limit: u64,
    },
    /// All versions that can be numbered are used up.
    #[error("the store has reached its last version ({limit}): export it and import it into a new store")]
    VersionsExhausted {
        /// The last version.
        limit: u64,
    },
    /// A transaction that holds more in memory than the options allow. Nothing of it was written.
    #[error(
        "the transaction needs more than {limit} bytes of memory: commit in smaller steps, or raise Options::transaction_memory"
    )]
    TransactionTooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// Meta bytes beyond the limit.
    #[error("{found} meta bytes given, at most {limit} are kept: put larger things into pages")]
    MetaTooLarge {
        /// The limit, in bytes.
        limit: usize,
        /// The length given.
        found: usize,
    },
    /// A view has been held for so long that too much memory waits to be freed.
    #[error(
        "{limbo} bytes wait for a view that is still open (limit {limit}): drop views soon, and hold a Snapshot for longer reads"
    )]
    LimboFull {
        /// How many bytes wait.
        limbo: u64,
        /// The limit (`Options::limbo_bytes`).
        limit: u64,
    },
    /// An export stream that is cut, altered, out of order or foreign.
    #[error(
        "the stream is damaged at byte {offset}: expected {expected}, found {found}; nothing was imported, take a fresh export"
    )]
    BadStream {
        /// Where in the stream, in bytes.
        offset: u64,
        /// What should have been there.
        expected: String,
        /// What was there.
        found: String,
    },
    /// A delta that begins at another state than the store's, or that doesn't lead where it says.
    #[error(
        "the delta is not for this state (fingerprint {found}, expected {expected}): apply what comes before it first, or take a full export; nothing was changed"
    )]
    WrongBase {
        /// The fingerprint that the delta's base, or what it leads to, should have.
        expected: Fingerprint,
        /// The fingerprint that was found.
        found: Fingerprint,
    },
    /// An encrypted stream, and no key or another.
    #[error("the stream is encrypted {}: give its key (--key-file, ImportOptions::key, or that of the options it was begun with)", if *.is_given { "with another key" } else { "and no key was given" })]
    WrongKey {
        /// Whether a key was given.
        is_given: bool,
    },
    /// A word that is no export token, or no resume point.
    #[error(
        "{found:?} is no {expected} token, or not the whole of one: copy it again, from its first letter to its last"
    )]
    BadToken {
        /// What kind of token it should be.
        expected: &'static str,
        /// How the word begins.
        found: String,
    },
    /// An export token after its time. What it held may be gone.
    #[error("the export token {id:032x} has expired: begin the export anew")]
    TokenExpired {
        /// The token's number.
        id: u128,
        /// When it expired.
        expired_at: std::time::SystemTime,
    },
    /// An export token for which the store holds nothing: the export was ended, or the token isn't of this store's history.
    #[error("the store holds nothing for the export token {id:032x}: it was ended, so begin the export anew")]
    TokenUnknown {
        /// The token's number.
        id: u128,
    },
    /// An export token of another store.
    #[error(
        "the export token is one of store {expected}, and this is {found}: open that store, or begin a new export here"
    )]
    TokenOfAnotherStore {
        /// The store that gave the token.
        expected: StoreId,
        /// The store that got it.
        found: StoreId,
    },
    /// The check that a drill was given has found something wrong in the restored store.
    #[error("the restored store of {version} is not as it should be: {source}")]
    CheckFailed {
        /// The version that was restored.
        version: Version,
        /// What the check said.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// A mark in another stream than the one that is to be resumed.
    #[error(
        "the resume point is one of another stream ({found:032x}, not {expected:032x}), or of one with another key: give that of the stream that was cut, or begin anew without one"
    )]
    WrongResumePoint {
        /// The stream that is to be resumed.
        expected: u128,
        /// The stream that the point is of.
        found: u128,
    },
    /// Reading from or writing to the caller's stream failed.
    #[error("can't {operation} the stream: {source}")]
    Stream {
        /// What was tried.
        operation: &'static str,
        /// The stream's word.
        source: Arc<io::Error>,
    },
    /// No snapshot or bookmark has the name.
    #[error("there is no snapshot named {name:?}: see Store::snapshots, or `vellum snapshot ls`")]
    SnapshotNotFound {
        /// The name asked for.
        name: String,
    },
    /// A version that neither the history window nor a name keeps.
    #[error("{version} is not kept ({}): open one that is, or keep more from now on (Store::set_history)", nearest(.older.as_ref(), .newer.as_ref()))]
    VersionNotKept {
        /// The version asked for.
        version: Version,
        /// The nearest older one that is kept.
        older: Option<Version>,
        /// The nearest newer one that is kept.
        newer: Option<Version>,
    },
    /// A time before everything that the history window or a name keeps.
    #[error("nothing is kept from {} or before (the oldest: {oldest}, of {}): ask for a later time, or keep more from now on (Store::set_history)", clock(*.asked_ms), clock(*.oldest_ms))]
    TimeNotKept {
        /// The time asked for, in milliseconds since 1970 (UTC).
        asked_ms: u64,
        /// The oldest version that is kept.
        oldest: Version,
        /// When that was committed, in milliseconds since 1970 (UTC).
        oldest_ms: u64,
    },
    /// A snapshot or a bookmark has the name already.
    #[error(
        "there is a snapshot or bookmark named {name:?} already: drop or rename that one, or choose another name"
    )]
    SnapshotExists {
        /// The name.
        name: String,
    },
    /// A named snapshot that somebody holds can't be dropped.
    #[error("the snapshot {name:?} is held by {}: release the holds first, or drop it with its last hold", .holders.join(", "))]
    SnapshotHeld {
        /// The snapshot's name.
        name: String,
        /// Who holds it.
        holders: Vec<String>,
    },
    /// The owner has no hold on the snapshot.
    #[error("{owner:?} has no hold on the snapshot {name:?}")]
    HoldNotFound {
        /// The snapshot's name.
        name: String,
        /// The owner given.
        owner: String,
    },
    /// An application's hook kept a quiesced snapshot from being taken. The application goes on, and there is no snapshot.
    #[error(
        "the hook {hook:?} {cause}, when asked to {phase}: see to the application, then take the snapshot again"
    )]
    HookFailed {
        /// The hook's name.
        hook: String,
        /// What it was asked to do.
        phase: HookPhase,
        /// What came of it.
        cause: HookCause,
    },
    /// A quiesced snapshot was there only when the application had gone on already, and was dropped.
    #[error(
        "the snapshot took longer than the application may stand still ({deadline:?}): try again, or allow for more with Quiesce::deadline"
    )]
    QuiesceLate {
        /// How long it may stand still.
        deadline: Duration,
    },
    /// The store's hooks were in use by other snapshots all the time.
    #[error("the hooks are in use by another snapshot since {waited:?}: try again later")]
    QuiesceBusy {
        /// How long they were waited for.
        waited: Duration,
    },
    /// A hook of that name is registered already.
    #[error("a hook named {hook:?} is registered already: remove that one, or choose another name")]
    HookExists {
        /// The hook's name.
        hook: String,
    },
    /// No hook of that name is registered.
    #[error("no hook named {hook:?} is registered: see Store::hook_infos")]
    HookNotFound {
        /// The hook's name.
        hook: String,
    },
    /// A group has each store once.
    #[error(
        "store {store} is given twice, or shares the first half of its id with another: give each member of a group once"
    )]
    DuplicateMember {
        /// The store.
        store: StoreId,
    },
    /// A group snapshot that not all of its members have is no consistent whole.
    #[error("the group snapshot {name:?} is missing in {}: drop it, or make the group of all its stores", .missing.join(", "))]
    GroupIncomplete {
        /// The group snapshot's name.
        name: String,
        /// The members without it, by the first 16 digits of their ids.
        missing: Vec<String>,
    },
    /// The snapshot kept more than the store's limit allows, and was taken from its holders.
    #[error(
        "the snapshot of {version} was revoked because old versions kept too much: take a new one, or raise Options::retained_limit"
    )]
    SnapshotRevoked {
        /// The version that it pinned.
        version: Version,
    },
    /// Old versions keep more than the store's limit allows, so that no further snapshot may be taken.
    #[error(
        "old versions keep {retained} bytes (limit {limit}), the most of it for {worst}: drop that, or raise Options::retained_limit"
    )]
    RetainedLimit {
        /// Bytes that only old versions see.
        retained: u64,
        /// The limit.
        limit: u64,
        /// The pin that keeps the most.
        worst: String,
    },
    /// A name, label or owner that can't be kept.
    #[error("{value:?} can't be {what}: {expected}")]
    InvalidName {
        /// What it was given for.
        what: &'static str,
        /// What was given.
        value: String,
        /// What would do.
        expected: String,
    },
    /// SQLite refused something.
    #[error("SQLite can't {operation}: {message} (result code {code})")]
    Sqlite {
        /// What was tried.
        operation: &'static str,
        /// SQLite's extended result code.
        code: i32,
        /// What it says.
        message: String,
    },
    /// The progress observer asked to stop. Nothing was changed.
    #[error("cancelled on request")]
    Cancelled,
}

fn nearest(older: Option<&Version>, newer: Option<&Version>) -> String {
    match (older, newer) {
        (Some(older), Some(newer)) => format!("the nearest are {older} and {newer}"),
        (Some(one), None) | (None, Some(one)) => format!("the nearest is {one}"),
        (None, None) => "nothing is".to_owned(),
    }
}

impl Error {
    /// An error of the operating system, told apart by what can be done about it.
    pub(crate) fn io(operation: &'static str, file: PathBuf, source: io::Error) -> Error {
        Error::Io { operation, file, source: Arc::new(source) }
    }

    /// Damage found at `offset` of `file`.
    pub(crate) fn corrupt(
        file: PathBuf,
        offset: u64,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Error {
        Error::Corrupt { file, offset, expected: expected.into(), found: found.into() }
    }

    /// Whether trying the same transaction again, from `begin`, can succeed without anything else changing.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Error::Conflict { .. })
    }
}
