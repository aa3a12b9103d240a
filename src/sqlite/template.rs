//! A database for each test: built once, then forked or cloned.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use xxhash_rust::xxh3::xxh3_64;

use super::extension::use_paths;
use super::registry;
use crate::error::{Error, Result};
use crate::options::Options;
use crate::snapshot::Snapshot;
use crate::store::Store;

/// Bytes of a template's segments. A copy of a store in memory copies them whole, and a fork that is written to clears two of its own
/// first: tests touch few pages.
const SEGMENT_BYTES: u64 = 1 << 20;

/// A database that was built once, schema and fixtures, and of which each test gets a writable copy of its own.
///
/// A [`fork`](Template::fork) is for tests in this process: what it writes is in memory, and gone with it. A
/// [`clone_to`](Template::clone_to) is a directory, for another process.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use rusqlite::Connection;
/// use vellum::sqlite::Template;
///
/// let template = Template::build(|uri| {
///     let db = Connection::open(uri)?;
///     db.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)")?;
///     Ok::<_, Box<dyn std::error::Error>>(())
/// })?;
/// for _case in 0..3 {
///     let database = template.fork()?;                   // microseconds, whatever the size
///     let db = Connection::open(database.uri())?;
///     db.execute("UPDATE t SET x = x + 1", [])?;         // nobody else sees it
///     assert_eq!(db.query_row("SELECT x FROM t", [], |row| row.get::<_, i64>(0))?, 2);
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Template {
    snapshot: Snapshot,
    /// Removed after the snapshot, and with it the store, is gone.
    _dir: Option<Removed>,
}

impl Template {
    /// Builds the database in memory: `fill` is given the URI to open it by.
    ///
    /// # Errors
    /// What `fill` gives, and what [`register`](super::register) and opening a store in memory give.
    pub fn build<E: From<Error>>(fill: impl FnOnce(&str) -> Result<(), E>) -> Result<Template, E> {
        let store = Store::in_memory(Options::new().background(false).segment_size(SEGMENT_BYTES))?;
        let database = Database::new(store)?;
        fill(database.uri())?;
        let snapshot = database.store().snapshot();
        Ok(Template { snapshot, _dir: None })
    }

    /// Builds the database in `dir`, once for all processes that ask with the same `key`: for test runners that start a process for
    /// each test. Whoever comes first builds, the others wait for that and clone. `key` says what is in it: a version, or
    /// the schema's text; a database of another key is replaced, so each template has a `dir` of its own (a place
    /// under the target directory, say). What processes leave behind that are killed, the next one removes.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let home = tempfile::tempdir()?;
    /// # let dir = home.path().join("templates");
    /// use rusqlite::Connection;
    /// use vellum::sqlite::Template;
    ///
    /// const SCHEMA: &str = "CREATE TABLE t (x); INSERT INTO t VALUES (1)";
    /// let template = Template::build_in(&dir, SCHEMA, |uri| {
    ///     Connection::open(uri)?.execute_batch(SCHEMA)?;
    ///     Ok::<_, Box<dyn std::error::Error>>(())
    /// })?;
    /// let database = template.fork()?;
    /// # Connection::open(database.uri())?.execute("UPDATE t SET x = 2", [])?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// What `fill` gives, [`Error::Io`], and what opening and cloning a store give. A `fill` that failed leaves nothing.
    pub fn build_in<E: From<Error>>(
        dir: impl AsRef<Path>,
        key: &str,
        fill: impl FnOnce(&str) -> Result<(), E>,
    ) -> Result<Template, E> {
        let dir = dir.as_ref();
        fs::create_dir_all(dir).map_err(io("create", dir))?;
        let lock = dir.join("lock");
        let lock_file = File::create(&lock).map_err(io("create", &lock))?;
        lock_file.lock().map_err(io("lock", &lock))?;
        // The lock is given back when the file is closed.
        let golden = dir.join(format!("golden-{:016x}", xxh3_64(key.as_bytes())));
        remove_others(dir, &golden)?;
        if !golden.exists() {
            build_golden(dir, &golden, fill)?;
        }
        let case = Removed(dir.join(format!("{CASE}{}-{}", std::process::id(), next())));
        let options = || Options::new().create(false).background(false);
        Store::open(&golden, options())?.snapshot().clone_to(&case.0)?;
        drop(lock_file);
        let store = Store::open(&case.0, options())?;
        Ok(Template { snapshot: store.snapshot(), _dir: Some(case) })
    }

    /// Takes any version of a database as the template. It is kept as it is; its store may go on.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> Template {
        Template { snapshot: snapshot.clone(), _dir: None }
    }

    /// A writable copy for this process, which is gone when dropped. See [`Snapshot::fork`].
    ///
    /// # Errors
    /// As [`Snapshot::fork`].
    pub fn fork(&self) -> Result<Database> {
        Database::new(self.snapshot.fork()?)
    }

    /// A writable copy in a directory, for another process: `file:DIR?vfs=vellum`. The directory goes when the handle is dropped.
    /// See [`Snapshot::clone_to`].
    ///
    /// # Errors
    /// As [`Snapshot::clone_to`].
    pub fn clone_to(&self, dir: impl AsRef<Path>) -> Result<ClonedDatabase> {
        let dir = std::path::absolute(dir.as_ref()).map_err(io("find", dir.as_ref()))?;
        self.snapshot.clone_to(&dir)?;
        Ok(ClonedDatabase { uri: uri_of(&dir), dir: Removed(dir) })
    }
}

/// Makes the golden database under another name first, so that it is whole when it has its own.
fn build_golden<E: From<Error>>(
    dir: &Path,
    golden: &Path,
    fill: impl FnOnce(&str) -> Result<(), E>,
) -> Result<(), E> {
    let building = Removed(dir.join("building"));
    let store = Store::open(&building.0, Options::new().background(false).segment_size(SEGMENT_BYTES))?;
    let database = Database::new(store)?;
    fill(database.uri())?;
    let store = database.store().clone();
    drop(database);
    store.close()?;
    fs::rename(&building.0, golden).map_err(io("rename", &building.0))?;
    Ok(())
}

const CASE: &str = "case-";

/// Removes databases of other keys, what was begun and not finished, and clones of processes that are gone.
fn remove_others(dir: &Path, golden: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(io("list", dir))? {
        let path = entry.map_err(io("list", dir))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_left = match name.strip_prefix(CASE).and_then(|rest| rest.split('-').next()) {
            Some(process) => !Path::new("/proc").join(process).exists(),
            None => name == "building" || (name.starts_with("golden-") && path != golden),
        };
        if is_left {
            fs::remove_dir_all(&path).map_err(io("remove", &path))?;
        }
    }
    Ok(())
}

fn io<'a>(operation: &'static str, file: &'a Path) -> impl FnOnce(std::io::Error) -> Error + 'a {
    move |error| Error::io(operation, file.to_owned(), error)
}

fn next() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(1);
    COUNT.fetch_add(1, Ordering::Relaxed)
}

/// A directory that goes when it is dropped.
#[derive(Debug)]
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        // It may never have been made, or was renamed.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A store that SQLite opens under a name of its own, for as long as this lives.
#[derive(Debug)]
pub struct Database {
    store: Store,
    name: String,
    uri: String,
}

impl Database {
    fn new(store: Store) -> Result<Database> {
        use_paths()?;
        let name = format!("vellum-template-{}.db", next());
        registry::add(&store, &name)?;
        let uri = format!("file:{name}?vfs=vellum");
        Ok(Database { store, name, uri })
    }

    /// What SQLite opens it by, with `SQLITE_OPEN_URI`: any number of connections.
    #[must_use]
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// The store that it lives in.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        registry::remove(&self.name);
    }
}

/// A database in a directory that goes when this is dropped.
#[derive(Debug)]
pub struct ClonedDatabase {
    uri: String,
    dir: Removed,
}

impl ClonedDatabase {
    /// What SQLite opens it by, in any process that has vellum's VFS.
    #[must_use]
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// The store's directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.dir.0
    }
}

/// The URI of the store in a directory, with what URIs need escaped.
///
/// ```
/// let uri = vellum::sqlite::uri_of(std::path::Path::new("/data/what is 100%?"));
/// assert_eq!(uri, "file:/data/what is 100%25%3f?vfs=vellum");
/// ```
#[must_use]
pub fn uri_of(dir: &Path) -> String {
    let mut uri = "file:".to_owned();
    for character in dir.to_string_lossy().chars() {
        match character {
            '%' | '?' | '#' => {
                uri.extend(['%', hex(u32::from(character) >> 4), hex(u32::from(character) & 0xf)]);
            }
            other => uri.push(other),
        }
    }
    uri.push_str("?vfs=vellum");
    uri
}

/// The digit of the lowest four bits.
fn hex(bits: u32) -> char {
    char::from_digit(bits & 0xf, 16).unwrap_or('0')
}
