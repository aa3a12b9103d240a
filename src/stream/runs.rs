//! Neighbouring changes that become one record, so that equal changes become equal bytes, however they were found.

use super::StreamSummary;
use super::write::StreamWriter;
use crate::error::Result;
use crate::format::checksum::PageChecksum;
use crate::format::stream::run_pages;
use crate::id::PageId;
use crate::log::cached::PageBytes;
use crate::progress::Meter;

/// See the head of this file.
pub(super) struct Runs<'w, 'p> {
    writer: StreamWriter<'w, 'p>,
    run_max: usize,
    first: u64,
    pages: Vec<(PageBytes<'p>, PageChecksum)>,
    freed: Option<(u64, u64)>,
}

impl<'w, 'p> Runs<'w, 'p> {
    pub(super) fn new(writer: StreamWriter<'w, 'p>, page_size: u32) -> Runs<'w, 'p> {
        Runs { writer, run_max: run_pages(page_size) as usize, first: 0, pages: Vec::new(), freed: None }
    }

    /// Takes one more page; ids ascend over pages and free ids.
    pub(super) fn page(
        &mut self,
        id: PageId,
        page: (PageBytes<'p>, PageChecksum),
        meter: &mut Meter<'_>,
    ) -> Result<()> {
        let continues = self.freed.is_none()
            && self.pages.len() < self.run_max
            && id.0 == self.first + self.pages.len() as u64;
        if !continues {
            self.flush(meter)?;
        }
        if self.pages.is_empty() {
            self.first = id.0;
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
        if !self.pages.is_empty() {
            self.writer.pages((PageId(self.first), &self.pages), meter)?;
            self.pages.clear();
        }
        Ok(())
    }

    pub(super) fn finish(mut self, meter: &mut Meter<'_>) -> Result<StreamSummary> {
        self.flush(meter)?;
        self.writer.finish()
    }
}
