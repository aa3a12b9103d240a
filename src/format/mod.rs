//! Every byte layout that leaves memory, each with its encoder and decoder side by side.
//!
//! All integers are little-endian. Every structure begins with a magic number and a format version and carries its
//! own checksum; decoders take any bytes and answer with a value or with what was wrong, never with a panic.
//!
//! A store's directory holds
//! - `LOCK`: empty; locked while the store is open;
//! - `catalog-a`, `catalog-b`: the two catalog slots (`control`), written alternately;
//! - `segment-%08x`: segments of `segment_size` bytes: a header slot (`segment`), then slots of `page_size` bytes that
//!   hold records (`record`), the pages that follow their record, and runs of table nodes (`node`);
//! - `packed-%08x-%08x`: what a rewrite kept of a sparse segment, by number and rewrite (`packed`);
//! - `creating`: only while a store is being created.
//!
//! An exported group is a directory with `group.vellum` (`group`) and one stream (`stream`) for each member.

pub(crate) mod bytes;
pub(crate) mod checksum;
pub(crate) mod code;
pub(crate) mod control;
pub(crate) mod group;
pub(crate) mod history;
pub(crate) mod names;
pub(crate) mod node;
pub(crate) mod packed;
pub(crate) mod patch;
pub(crate) mod record;
pub(crate) mod segment;
pub(crate) mod stream;

/// The format version that all structures of a store's directory carry.
pub(crate) const FORMAT: u16 = 1;

/// Whether a format number is that of a newer vellum. One that is a single flipped bit away is left to the checksum:
/// numbers of formats are chosen two bits or more apart.
pub(crate) fn is_newer(format: u16) -> bool {
    format > FORMAT && (format ^ FORMAT).count_ones() > 1
}

/// What a decoder found wrong, relative to the start of the structure; the caller knows the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Bytes that can't be right.
    Damage { offset: u64, expected: String, found: String },
    /// A structure of a newer format, or one that uses what this build doesn't know.
    Newer { found: String },
}

/// Holds the magic number and the format version with which a structure begins against what this vellum reads. Segments and records have
/// formats of their own besides.
pub(crate) fn check_head(expected: u32, magic: u32, format: u16) -> Result<(), Flaw> {
    if magic != expected {
        return Err(Flaw::damage(0, format!("magic {expected:08x}"), format!("{magic:08x}")));
    }
    if is_newer(format) {
        return Err(Flaw::Newer { found: format.to_string() });
    }
    Ok(())
}

impl Flaw {
    pub(crate) fn damage(offset: u64, expected: impl Into<String>, found: impl Into<String>) -> Flaw {
        Flaw::Damage { offset, expected: expected.into(), found: found.into() }
    }

    /// The flaw as an error about `file`, in which the structure begins at `base`.
    pub(crate) fn into_error(self, file: std::path::PathBuf, base: u64) -> crate::Error {
        match self {
            Flaw::Damage { offset, expected, found } => {
                crate::Error::Corrupt { file, offset: base + offset, expected, found }
            }
            Flaw::Newer { found } => crate::Error::Unsupported {
                what: file.display().to_string(),
                found,
                supported: FORMAT.to_string(),
            },
        }
    }
}
