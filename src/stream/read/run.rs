//! Runs of pages: what one record of pages holds. Nothing is allocated but what the run's own list allows, and no page is handed out
//! whose checksum wasn't compared.

use super::{Item, StreamReader};
use crate::commit::whole::Put;
use crate::error::Result;
use crate::format::bytes::Reader as Fields;
use crate::format::checksum::PageChecksum;
use crate::format::stream::{Prefix, ZSTD, list_bytes, run_pages};
use crate::id::PageId;
use crate::stream::source::bad;

/// Pages that were read and checked.
#[derive(Default)]
pub(in crate::stream) struct Run {
    list: Vec<(PageId, PageChecksum)>,
    bytes: Vec<u8>,
    page_size: usize,
}

impl Run {
    /// Calls `put` with each page.
    pub(in crate::stream) fn each_page(&self, put: &mut Put<'_>) -> Result<()> {
        let pages = self.list.iter().zip(self.bytes.chunks_exact(self.page_size.max(1)));
        pages.into_iter().try_for_each(|((id, sum), bytes)| put(*id, *sum, bytes))
    }
}

/// What a run begins with.
#[derive(Clone, Copy, Default)]
struct RunOpening {
    count: usize,
    /// Where the list ends in the payload.
    list_end: usize,
    is_packed: bool,
}

impl StreamReader<'_> {
    /// The page at `index` of the run that was read last.
    pub(in crate::stream) fn page(&self, index: usize) -> (PageId, PageChecksum, &[u8]) {
        let page_size = self.header.page_size as usize;
        let (id, checksum) = self.list[index];
        (id, checksum, &self.bytes[index * page_size..][..page_size])
    }

    /// The run that was read last, in exchange for one to be filled next.
    pub(in crate::stream) fn take_run(&mut self, spare: Run) -> Run {
        let Run { list, bytes, .. } = spare;
        let list = std::mem::replace(&mut self.list, list);
        let bytes = std::mem::replace(&mut self.bytes, bytes);
        Run { list, bytes, page_size: self.header.page_size as usize }
    }

    /// Reads a run, and checks each of its pages.
    pub(super) fn run(&mut self, prefix: &Prefix) -> Result<Item> {
        let offset = self.source.offset;
        let (page_size, is_delta) = (self.header.page_size as usize, self.header.base.is_some());
        let max = 16 + run_pages(self.header.page_size) as usize * (list_bytes(is_delta) + page_size);
        // What is read before the checksum is looked at: all of it, unless the pages follow as they are.
        let (head, opening) = if self.seal.is_some() {
            let head = self.payload(prefix, max)?;
            let opening = self.opening(&head, offset)?;
            (head, opening)
        } else {
            let mut head = vec![0; 16];
            self.source.fill(&mut head)?;
            let opening = self.opening(&head, offset)?;
            let whole = usize::try_from(prefix.len).unwrap_or(usize::MAX);
            let plain = opening.list_end + opening.count * page_size;
            let is_sane = if opening.is_packed { whole < plain } else { whole == plain };
            if !is_sane {
                return Err(bad(offset, format!("{plain} bytes at most"), whole.to_string()));
            }
            let end = if opening.is_packed { whole } else { opening.list_end };
            head.resize(end.max(16), 0);
            self.source.fill(&mut head[16..])?;
            self.check_sum(prefix, &head, offset)?;
            (head, opening)
        };
        let Some((list, body)) = head.split_at_checked(opening.list_end) else {
            return Err(bad(offset, format!("{} pages", opening.count), "fewer"));
        };
        self.read_list(list, offset)?;
        self.bytes.resize(opening.count * page_size, 0);
        let bodies_at = offset + opening.list_end as u64;
        if opening.is_packed {
            self.unpack(body, bodies_at)?;
        } else if self.seal.is_some() {
            if body.len() != self.bytes.len() {
                return Err(bad(bodies_at, format!("{} bytes", self.bytes.len()), body.len().to_string()));
            }
            self.bytes.copy_from_slice(body);
        } else {
            self.source.fill(&mut self.bytes)?;
        }
        for (index, (bytes, (id, sum))) in (0u64..).zip(self.bytes.chunks_exact(page_size).zip(&self.list)) {
            let found = PageChecksum::of(*id, bytes);
            if found != *sum {
                // Where the page lies, or, packed, how far into the pages that come out.
                let at = bodies_at + index * page_size as u64;
                let expected = format!("{id} with checksum {:016x}", sum.0);
                return Err(bad(at, expected, format!("{:016x}", found.0)));
            }
            self.fingerprint = self.fingerprint.plus(*id, sum.short());
        }
        self.pages += opening.count as u64;
        self.meter.add(opening.count as u64, self.bytes.len() as u64)?;
        Ok(Item::Pages(opening.count))
    }

    /// What the first bytes of a PAGES payload say, within the limits.
    fn opening(&self, head: &[u8], offset: u64) -> Result<RunOpening> {
        let mut fields = Fields::new(head);
        let (first, count, codec) = (fields.u64(), fields.u32(), fields.u32());
        let (Some(first), Some(count), Some(codec)) = (first, count, codec) else {
            return Err(bad(offset, "the beginning of a run", "less"));
        };
        let is_packed = codec == u32::from(ZSTD) && self.unpacker.is_some();
        let is_sane = (1..=run_pages(self.header.page_size)).contains(&count)
            && (codec == 0 || is_packed)
            && first >= self.next_id;
        if !is_sane {
            let expected = format!("pages from {} on", self.next_id);
            return Err(bad(offset, expected, format!("{count} from {first} on, codec {codec}")));
        }
        let count = count as usize;
        let list_end = 16 + count * list_bytes(self.header.base.is_some());
        Ok(RunOpening { count, list_end, is_packed })
    }

    /// Takes over the ids and checksums of a run.
    fn read_list(&mut self, list: &[u8], offset: u64) -> Result<()> {
        let (is_delta, page_count) = (self.header.base.is_some(), self.header.page_count);
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap_or_default());
        let (first, list_bytes) = (number(&list[..8]), list_bytes(is_delta));
        self.list.clear();
        for (index, listed) in (0u64..).zip(list[16..].chunks_exact(list_bytes)) {
            let (id, sum) = listed.split_at(list_bytes - 8);
            let id = if is_delta { number(id) } else { first.saturating_add(index) };
            let least = if index == 0 { first } else { self.next_id };
            if id < least || id >= page_count || (index == 0 && id != first) {
                let expected = format!("a page from {least} to {page_count}");
                return Err(bad(offset, expected, id.to_string()));
            }
            self.next_id = id + 1;
            self.list.push((PageId(id), PageChecksum(number(sum))));
        }
        Ok(())
    }

    /// Fills the run's bytes from a frame with its length before it and zeros behind it.
    fn unpack(&mut self, body: &[u8], offset: u64) -> Result<()> {
        let refused = |found: &str| bad(offset, "a frame that holds the pages of the list", found);
        let (len, rest) = body.split_first_chunk::<8>().ok_or_else(|| refused("none"))?;
        let len = usize::try_from(u64::from_le_bytes(*len)).unwrap_or(usize::MAX);
        let (frame, padding) = rest.split_at_checked(len).ok_or_else(|| refused("less"))?;
        if padding.len() >= 8 || padding.iter().any(|byte| *byte != 0) {
            return Err(refused("more behind it"));
        }
        let Some(unpacker) = &mut self.unpacker else { return Err(refused("one in a stream without")) };
        if unpacker.unpack(frame, &mut self.bytes) { Ok(()) } else { Err(refused("another")) }
    }
}
