//! The pages of a stream, for those who want nothing else of it.

use std::io::Read;

use super::ImportOptions;
use super::read::StreamReader;
use crate::error::Result;
use crate::id::PageId;
use crate::progress::Meter;

/// Calls `visit` with every page of a stream, full or delta, each checked against its own checksum. Those before the place where a
/// stream is damaged have been given when that is told.
pub(crate) fn each_page_of(
    r: &mut dyn Read,
    options: &ImportOptions,
    visit: &mut dyn FnMut(PageId, &[u8]),
) -> Result<()> {
    let mut quiet = ();
    let mut reader = StreamReader::begin(r, options, Meter::new("repair", None, &mut quiet))?;
    reader.each_page(&mut |id, _, bytes| {
        visit(id, bytes);
        Ok(())
    })
}
