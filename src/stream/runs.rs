//! Neighbouring changes that become one record, so that equal changes become equal bytes, however they were found.

use super::StreamSummary;
use super::write::{Page, StreamWriter};
use crate::error::Result;
use crate::format::stream::{StreamHeader, run_pages};
use crate::id::PageId;
use crate::progress::Meter;

/// See the head of this file.
pub(super) struct Runs<'w, 'p> {
    writer: StreamWriter<'w, 'p>,
    run_max: usize,
    /// Whether pages may have other ids between them.
    is_scattered: bool,
    pages: Vec<Page<'p>>,
    freed: Option<(u64, u64)>,
}

impl<'w, 'p> Runs<'w, 'p> {
    pub(super) fn new(writer: StreamWriter<'w, 'p>, header: &StreamHeader) -> Runs<'w, 'p> {
        let (run_max, is_scattered) = (run_pages(header.page_size) as usize, header.base.is_some());
        Runs { writer, run_max, is_scattered, pages: Vec::new(), freed: None }
    }

    /// Takes one more page; ids ascend over pages and free ids.
    pub(super) fn page(&mut self, page: Page<'p>, meter: &mut Meter<'_>) -> Result<()> {
        let is_next = |(last, ..): &Page<'p>| self.is_scattered || last.0 + 1 == page.0.0;
        let continues =
            self.freed.is_none() && self.pages.len() < self.run_max && self.pages.last().is_none_or(is_next);
        if !continues {
            self.flush(meter)?;
        }
        self.pages.push(page);
        Ok(())
    }

    /// Takes so many ids that hold nothing.
    pub(super) fn free(&mut self, start: PageId, count: u64, meter: &mut Meter<'_>) -> Result<()> {
        match &mut self.freed {
            Some((first, before)) if *first + *before == start.0 => *before += count,
            _ => {
                self.flush(meter)?;
                self.freed = Some((start.0, count));
            }
        }
        Ok(())
    }

    fn flush(&mut self, meter: &mut Meter<'_>) -> Result<()> {
        if let Some((first, count)) = self.freed.take() {
            self.writer.free(PageId(first), count)?;
        }
        self.writer.pages(&self.pages, meter)?;
        self.pages.clear();
        Ok(())
    }

    pub(super) fn finish(mut self, meter: &mut Meter<'_>) -> Result<StreamSummary> {
        self.flush(meter)?;
        self.writer.finish()
    }
}
