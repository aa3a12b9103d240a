//! Which store a file name of SQLite's means.
//!
//! A name is one that was registered, or else the path of a store's directory. Stores opened by path are shared by all
//! connections of the process (a store is one process's at a time), and closed with the last of them: under the same lock
//! under which they are opened, so that whoever comes next finds the directory free.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Weak};

use super::database::Database;
use crate::error::{Error, Result};
use crate::options::Options;
use crate::store::Store;
use crate::sync::Mutex;

#[derive(Default)]
struct Registry {
    names: HashMap<String, Arc<Database>>,
    paths: HashMap<PathBuf, Weak<Database>>,
}

static REGISTRY: LazyLock<Mutex<Registry>> = LazyLock::new(Mutex::default);

/// Adds a store under a name.
pub(super) fn add(store: &Store, name: &str) -> Result<()> {
    let refuse = |expected: &str| {
        let (what, value) = ("the name of a SQLite database", name.to_owned());
        Err(Error::InvalidName { what, value, expected: expected.to_owned() })
    };
    if name.is_empty()
        || name.len() > 255
        || name.contains(['\0', '?', '#', '%', '/'])
        || name.starts_with(':')
    {
        return refuse("give 1 to 255 bytes without '/', '?', '#', '%', and no ':' at the start");
    }
    let mut registry = REGISTRY.lock();
    let same = registry.names.values().find(|other| Arc::ptr_eq(other.store.core(), store.core())).cloned();
    match registry.names.contains_key(name) {
        true => refuse("a name that no other store is registered under, or unregister that one first"),
        false => {
            // Writers of one store take turns at one slot, whatever name they came by.
            let database = same.unwrap_or_else(|| Arc::new(Database::new(store.clone())));
            registry.names.insert(name.to_owned(), database);
            Ok(())
        }
    }
}

/// Takes a name away; whether there was one. Connections that are open go on.
pub(super) fn remove(name: &str) -> bool {
    let gone = REGISTRY.lock().names.remove(name);
    gone.is_some()
}

pub(super) fn is_registered(name: &str) -> bool {
    REGISTRY.lock().names.contains_key(name)
}

/// The database of a registered name, or of the store in the directory `name`. It is created there if `creates`, with
/// pages of `page_size` bytes.
pub(super) fn open(name: &str, creates: bool, page_size: Option<u32>) -> Result<Arc<Database>> {
    let mut registry = REGISTRY.lock();
    if let Some(database) = registry.names.get(name) {
        return Ok(database.clone());
    }
    let dir = Path::new(name);
    // Two paths of one directory are one store.
    let path = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    if let Some(database) = registry.paths.get(&path).and_then(Weak::upgrade) {
        return Ok(database);
    }
    let options = match page_size {
        Some(bytes) => Options::new().page_size(bytes),
        None => Options::new(),
    };
    let store = Store::open(dir, options.create(creates))?;
    let database = Arc::new(Database::new(store));
    registry.paths.retain(|_, database| database.strong_count() > 0);
    let path = dir.canonicalize().unwrap_or(path);
    registry.paths.insert(path, Arc::downgrade(&database));
    Ok(database)
}

/// Lets go of a file, and of its store if it was the last of one that was opened by its path.
pub(super) fn close<T>(file: T) {
    let registry = REGISTRY.lock();
    drop(file);
    drop(registry);
}
