//! Which names a storage takes for its files: plain ones, so that no name leads out of the store's directory.

use std::io;

/// The file whose lock keeps other handles out of a directory; never listed, never handed out.
pub(super) const LOCK: &str = "LOCK";
/// What common file systems take, in bytes.
const BYTES_MAX: usize = 255;

/// Refuses a name that isn't that of a plain file, with `InvalidInput`.
pub(super) fn check(name: &str) -> io::Result<()> {
    let reason = if name.is_empty() || name == "." || name == ".." {
        "it names no file"
    } else if name.contains(['/', '\\', '\0']) {
        "it has a separator or a zero byte"
    } else if name.len() > BYTES_MAX {
        "it is longer than 255 bytes"
    } else if name == LOCK {
        "it is kept for the lock of the directory"
    } else {
        return Ok(());
    };
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("{name:?} can't be the name of a file: {reason}"),
    ))
}

/// That there is no file of this name.
pub(super) fn not_found(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("there is no file {name:?}"))
}

/// That there is a file of this name already.
pub(super) fn already_exists(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::AlreadyExists, format!("there is a file {name:?} already"))
}
