//! How a stream is written and read: its coding, its key, its pace.

use std::fmt;

use crate::error::{Error, Result};
use crate::format::stream::{Coding, XCHACHA20_POLY1305, ZSTD};

/// Fewest bytes a second that may be asked for, so that a stream can still be cancelled within a second.
const RATE_MIN: u64 = 1 << 20;
/// Fewest bytes between two marks.
const MARK_BYTES_MIN: u64 = 4 << 10;

/// The secret key of encrypted streams: 32 bytes that nobody can guess, from the system's randomness or a key store (a password is
/// no key; a function such as Argon2 makes one of it). Any number of streams may be written with one key. It isn't shown by `Debug`,
/// and is wiped from memory when it is dropped.
#[derive(Clone)]
pub struct StreamKey(
    #[cfg_attr(
        not(feature = "encrypt"),
        expect(dead_code, reason = "nobody reads it where nothing is encrypted")
    )]
    [u8; 32],
);

impl StreamKey {
    /// A key of these bytes.
    pub fn new(bytes: [u8; 32]) -> StreamKey {
        StreamKey(bytes)
    }

    #[cfg(feature = "encrypt")]
    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StreamKey(..)")
    }
}

#[cfg(feature = "encrypt")]
impl Drop for StreamKey {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}

/// How a stream is written. The default is a stream that every version of vellum reads: neither compressed nor encrypted, as fast as
/// it goes.
///
/// ```
/// # fn main() -> vellum::Result<()> {
/// use vellum::{ExportOptions, Options, Store};
/// let store = Store::in_memory(Options::new())?;
/// let slowly = ExportOptions::new().rate(8 << 20);
/// let mut stream = Vec::new();
/// store.snapshot().export_as(&mut stream, &slowly, &mut ())?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default)]
pub struct ExportOptions {
    level: Option<i32>,
    key: Option<StreamKey>,
    rate: Option<u64>,
    mark_bytes: u64,
    is_resumable: bool,
}

impl ExportOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> ExportOptions {
        ExportOptions::default()
    }

    /// Compresses the pages with zstd, each record (256 KiB of pages at most) by itself and only where that makes it shorter.
    /// `level` is zstd's: 1 (fast) to 19 (small). Equal states give equal bytes by one version of zstd. Needs the feature `zstd`.
    #[must_use]
    pub fn compress(mut self, level: i32) -> ExportOptions {
        self.level = Some(level);
        self
    }

    /// Encrypts and authenticates everything but the number, types and lengths of the records and the page size, with
    /// XChaCha20-Poly1305. Two exports of one state differ then: each draws a salt of its own. Needs the feature `encrypt`.
    #[must_use]
    pub fn encrypt(mut self, key: StreamKey) -> ExportOptions {
        self.key = Some(key);
        self
    }

    /// Most bytes a second that are handed to the writer, so that an export leaves the disk or the line to others. At least 1 MiB;
    /// without a limit by default.
    #[must_use]
    pub fn rate(mut self, bytes_per_second: u64) -> ExportOptions {
        self.rate = Some(bytes_per_second);
        self
    }

    /// About how many bytes of the stream lie between two marks, from each of which it can be resumed. At least 4 KiB;
    /// 64 MiB by default.
    #[must_use]
    pub fn mark_every(mut self, bytes: u64) -> ExportOptions {
        self.mark_bytes = bytes;
        self
    }

    /// The same, of a stream that can be gone on with.
    pub(super) fn resumable(mut self) -> ExportOptions {
        self.is_resumable = true;
        self
    }

    pub(super) fn rate_max(&self) -> Option<u64> {
        self.rate
    }

    /// The rate, if it can be kept to.
    pub(super) fn checked_rate(&self) -> Result<Option<u64>> {
        check_rate(self.rate).map(|()| self.rate)
    }

    pub(super) fn key(&self) -> Option<&StreamKey> {
        self.key.as_ref()
    }

    /// The coding of a stream that is begun under these options.
    pub(super) fn coding(&self) -> Result<Coding> {
        check_rate(self.rate)?;
        let refuse = |option, value: String, expected: &str| {
            Err(Error::InvalidOption { option, value, expected: expected.to_owned() })
        };
        if let Some(level) = self.level.filter(|level| !(1..=19).contains(level)) {
            return refuse("compress", level.to_string(), "a level from 1 to 19 is");
        }
        if self.mark_bytes != 0 && self.mark_bytes < MARK_BYTES_MIN {
            return refuse("mark_every", self.mark_bytes.to_string(), "4096 or more is");
        }
        let coding = Coding {
            codec: if self.level.is_some() { ZSTD } else { 0 },
            level: self.level.unwrap_or(0),
            cipher: if self.key.is_some() { XCHACHA20_POLY1305 } else { 0 },
            is_chained: false,
            mark_bytes: self.mark_bytes,
        };
        check_features(coding.codec, coding.cipher)?;
        Ok(Coding { is_chained: self.is_resumable || coding != Coding::PLAIN, ..coding })
    }
}

/// How a stream is read.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    key: Option<StreamKey>,
    rate: Option<u64>,
}

impl ImportOptions {
    /// The defaults: no key, no limit.
    #[must_use]
    pub fn new() -> ImportOptions {
        ImportOptions::default()
    }

    /// The key of encrypted streams; others are read as well. Needs the feature `encrypt`.
    #[must_use]
    pub fn key(mut self, key: StreamKey) -> ImportOptions {
        self.key = Some(key);
        self
    }

    /// Most bytes a second that are taken from the reader. At least 1 MiB; without a limit by default.
    #[must_use]
    pub fn rate(mut self, bytes_per_second: u64) -> ImportOptions {
        self.rate = Some(bytes_per_second);
        self
    }

    /// The same without a rate.
    pub(super) fn at_once(mut self) -> ImportOptions {
        self.rate = None;
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        check_rate(self.rate)
    }

    pub(super) fn rate_max(&self) -> Option<u64> {
        self.rate
    }

    pub(super) fn stream_key(&self) -> Option<&StreamKey> {
        self.key.as_ref()
    }
}

fn check_rate(rate: Option<u64>) -> Result<()> {
    match rate.filter(|rate| *rate < RATE_MIN) {
        None => Ok(()),
        Some(rate) => Err(Error::InvalidOption {
            option: "rate",
            value: rate.to_string(),
            expected: "1048576 or more is".to_owned(),
        }),
    }
}

/// Whether this build knows the codec and the cipher.
pub(super) fn check_features(codec: u8, cipher: u8) -> Result<()> {
    let unsupported = |found: String, supported: &str| {
        Err(Error::Unsupported { what: "the stream".to_owned(), found, supported: supported.to_owned() })
    };
    match codec {
        0 => {}
        ZSTD if cfg!(feature = "zstd") => {}
        ZSTD => {
            let supported = "no compression (codec 1 with vellum's feature `zstd`)";
            return unsupported("codec 1 (zstd)".to_owned(), supported);
        }
        other => return unsupported(format!("codec {other}"), "codec 1 (zstd)"),
    }
    match cipher {
        0 => Ok(()),
        XCHACHA20_POLY1305 if cfg!(feature = "encrypt") => Ok(()),
        XCHACHA20_POLY1305 => {
            let supported = "no encryption (cipher 1 with vellum's feature `encrypt`)";
            unsupported("cipher 1 (XChaCha20-Poly1305)".to_owned(), supported)
        }
        other => unsupported(format!("cipher {other}"), "cipher 1 (XChaCha20-Poly1305)"),
    }
}
