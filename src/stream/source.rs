//! The caller's reader, counted, so that whatever is wrong can be told with its offset.

use std::io::{ErrorKind, Read};

use super::pace::Paced;
use super::write::stream_error;
use crate::error::{Error, Result};

pub(super) fn bad(offset: u64, expected: impl Into<String>, found: impl Into<String>) -> Error {
    Error::BadStream { offset, expected: expected.into(), found: found.into() }
}

/// Bytes as they come, at a rate if one is given.
pub(super) struct Source<'r> {
    from: Paced<&'r mut dyn Read>,
    pub(super) offset: u64,
}

impl<'r> Source<'r> {
    pub(super) fn new(from: &'r mut dyn Read, rate: Option<u64>) -> Source<'r> {
        Source::at(from, rate, 0)
    }

    /// A reader of what comes from `offset` on.
    pub(super) fn at(from: &'r mut dyn Read, rate: Option<u64>, offset: u64) -> Source<'r> {
        Source { from: Paced::new(from, rate), offset }
    }

    pub(super) fn fill(&mut self, buf: &mut [u8]) -> Result<()> {
        let mut filled = 0;
        while filled < buf.len() {
            match self.from.read(&mut buf[filled..]) {
                Ok(0) => {
                    let missing = buf.len() - filled;
                    return Err(bad(self.offset, format!("{missing} more bytes"), "the end of the stream"));
                }
                Ok(read) => {
                    filled += read;
                    self.offset += read as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(stream_error("read from", error)),
            }
        }
        Ok(())
    }

    /// Nothing may follow.
    pub(super) fn end(&mut self) -> Result<()> {
        loop {
            match self.from.read(&mut [0]) {
                Ok(0) => return Ok(()),
                Ok(_) => return Err(bad(self.offset, "the end of the stream", "more bytes")),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(stream_error("read from", error)),
            }
        }
    }
}
