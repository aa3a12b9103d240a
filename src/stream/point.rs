//! Where a stream can be gone on with: what its reader and its writer know of all that lies before a mark.

use std::fmt;
use std::str::FromStr;

use super::printed;
use crate::error::{Error, Result};
use crate::format::bytes::{Reader, Writer};
use crate::id::Fingerprint;

/// A mark in an export stream, from which it can be resumed: [`Inbox::resume_point`](crate::Inbox::resume_point) and
/// [`resume_point`](crate::resume_point) find it where the stream arrives, [`Store::run_export`](crate::Store::run_export) goes on
/// from it. It is printed as one word, and read from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResumePoint {
    /// Tells streams apart: the digest of their first two prefixes.
    pub(super) stream: u128,
    pub(super) offset: u64,
    pub(super) sequence: u64,
    pub(super) previous: u64,
    pub(super) digest: u128,
    pub(super) next_id: u64,
    pub(super) pages: u64,
    pub(super) freed: u64,
    pub(super) fingerprint: Fingerprint,
}

const NAME: &str = "vellum-at";

impl ResumePoint {
    /// Bytes of the stream before the mark's end: what is sent next belongs there, and whatever is there goes.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Pages of the stream before it.
    pub fn pages(&self) -> u64 {
        self.pages
    }
}

impl fmt::Display for ResumePoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Writer::default();
        out.u128(self.stream);
        for number in [self.offset, self.sequence, self.previous, self.next_id, self.pages, self.freed] {
            out.u64(number);
        }
        out.u128(self.digest);
        out.u128(self.fingerprint.0);
        printed::print(NAME, &out.bytes, f)
    }
}

impl FromStr for ResumePoint {
    type Err = Error;

    fn from_str(word: &str) -> Result<ResumePoint> {
        let bytes = printed::parse(NAME, word)?;
        let mut reader = Reader::new(&bytes);
        let mut read = || {
            let stream = reader.u128()?;
            let (offset, sequence, previous) = (reader.u64()?, reader.u64()?, reader.u64()?);
            let (next_id, pages, freed) = (reader.u64()?, reader.u64()?, reader.u64()?);
            let (digest, fingerprint) = (reader.u128()?, Fingerprint(reader.u128()?));
            Some(ResumePoint {
                stream,
                offset,
                sequence,
                previous,
                digest,
                next_id,
                pages,
                freed,
                fingerprint,
            })
        };
        read().ok_or_else(|| Error::BadToken { expected: NAME, found: "a shorter one".to_owned() })
    }
}
