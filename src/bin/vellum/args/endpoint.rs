//! Where a command reads from, or writes to.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// A file, or `-`: standard input, or standard output. The one place that knows the dash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Standard,
    File(PathBuf),
}

impl From<OsString> for Endpoint {
    fn from(word: OsString) -> Endpoint {
        if word == Endpoint::DASH { Endpoint::Standard } else { Endpoint::File(word.into()) }
    }
}

impl Endpoint {
    const DASH: &str = "-";

    /// The file, if it is one.
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Endpoint::Standard => None,
            Endpoint::File(file) => Some(file),
        }
    }

    /// As it stands on the command line.
    pub(crate) fn name(&self) -> &Path {
        self.file().unwrap_or(Path::new(Endpoint::DASH))
    }
}
