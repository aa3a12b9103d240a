//! What is looked at in the 100 bytes at the start of a database file (<https://sqlite.org/fileformat2.html>). All numbers
//! in it are big-endian.

/// Bytes of the header.
pub(super) const HEADER_BYTES: usize = 100;
/// Where the header tells how the file is read and written: 1 for a rollback journal, 2 for a WAL.
pub(super) const FORMATS: std::ops::Range<u64> = 18..20;
/// What a connection compares with what it remembers, to tell whether the file was changed by another.
pub(super) const CHANGE_MARK: std::ops::Range<u64> = 24..40;

/// Where the counter of changes stands, and where it is noted with which one the rest was written.
const COUNTERS: [std::ops::Range<usize>; 2] = [24..28, 92..96];

const MAGIC: &[u8; 16] = b"SQLite format 3\0";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    /// Bytes of a page of SQLite's.
    pub(super) page_size: u64,
    /// Pages, if the header can be believed in that: very old versions don't keep it.
    pub(super) pages: Option<u64>,
    /// Raised by every transaction.
    counter: u32,
    /// Raised by every change of the schema.
    cookie: u32,
}

impl Header {
    /// Reads what begins a database file; `None` if that is something else.
    pub(super) fn read(bytes: &[u8]) -> Option<Header> {
        if bytes.get(..16)? != MAGIC {
            return None;
        }
        let half = bytes.get(16..18)?;
        let page_size = match u64::from(half[0]) << 8 | u64::from(half[1]) {
            1 => 65536,
            size if size.is_power_of_two() && size >= 512 => size,
            _ => return None,
        };
        let word = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let (counter, pages, cookie, valid_for) = (word(24)?, word(28)?, word(40)?, word(92)?);
        let pages = (pages > 0 && counter == valid_for).then_some(u64::from(pages));
        Some(Header { page_size, pages, counter, cookie })
    }

    /// Bytes of the file, if the header tells.
    pub(super) fn file_len(&self) -> Option<u64> {
        self.pages.map(|pages| pages * self.page_size)
    }

    /// Both counters in one word, which isn't 0 for a database that was ever written.
    pub(super) fn counters(&self) -> u64 {
        u64::from(self.counter) << 32 | u64::from(self.cookie)
    }

    /// With counters that are above `counters` and above their own.
    pub(super) fn raised_above(self, counters: u64) -> Header {
        let above = |own: u32, other: u64| own.max(u32::try_from(other).unwrap_or(u32::MAX)).wrapping_add(1);
        let (counter, cookie) = (counters >> 32, counters & u64::from(u32::MAX));
        Header { counter: above(self.counter, counter), cookie: above(self.cookie, cookie), ..self }
    }

    /// Writes both counters, and that the other fields were written with them.
    pub(super) fn write_counters(&self, bytes: &mut [u8]) {
        for (at, value) in [(24, self.counter), (40, self.cookie), (92, self.counter)] {
            if let Some(place) = bytes.get_mut(at..at + 4) {
                place.copy_from_slice(&value.to_be_bytes());
            }
        }
    }
}

/// Whether pages that begin a database file are the same but for the counter of changes.
pub(super) fn are_same_but_for_counters(one: &[u8], other: &[u8]) -> bool {
    let [counter, valid_for] = COUNTERS;
    [0..counter.start, counter.end..valid_for.start, valid_for.end..one.len()].into_iter().all(|part| {
        let (one, other) = (one.get(part.clone()), other.get(part));
        one.is_some() && one == other
    }) && one.len() == other.len()
}

/// A file that was last used with a WAL says so, and would not be opened without one. Its pages are the same.
pub(super) fn hide_wal(buf: &mut [u8], offset: u64) {
    for at in FORMATS {
        if let Some(byte) = at.checked_sub(offset).and_then(|at| buf.get_mut(usize::try_from(at).ok()?))
            && *byte == 2
        {
            *byte = 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_database_has_a_header() {
        let mut bytes = [0; HEADER_BYTES];
        assert_eq!(Header::read(&bytes), None);
        bytes[..16].copy_from_slice(MAGIC);
        assert_eq!(Header::read(&bytes), None, "a page size of 0");
        bytes[17] = 1;
        bytes[27] = 7;
        bytes[31] = 3;
        bytes[43] = 9;
        let header = Header::read(&bytes).unwrap();
        assert_eq!(
            (header.page_size, header.pages),
            (65536, None),
            "the number of pages is another version's"
        );
        bytes[95] = 7;
        assert_eq!(Header::read(&bytes).unwrap().file_len(), Some(3 * 65536));
        assert_eq!(Header::read(&bytes[..50]), None);
    }

    #[test]
    fn only_the_counter_of_changes_is_not_looked_at() {
        let page = [7; 512];
        for at in 0..512 {
            let mut other = page;
            other[at] = 8;
            let expected = (24..28).contains(&at) || (92..96).contains(&at);
            assert_eq!(are_same_but_for_counters(&page, &other), expected, "byte {at}");
        }
        assert!(!are_same_but_for_counters(&page, &page[..500]) && !are_same_but_for_counters(&[], &[]));
    }

    #[test]
    fn counters_are_raised_above_both() {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..18].copy_from_slice(b"SQLite format 3\0\x10\x00");
        (bytes[27], bytes[43]) = (7, 9);
        let header = Header::read(&bytes).unwrap().raised_above((5 << 32) + 20);
        header.write_counters(&mut bytes);
        let raised = Header::read(&bytes).unwrap();
        assert_eq!(raised.counters(), (8 << 32) + 21);
        assert_eq!(bytes[92..96], bytes[24..28], "what is written belongs together");
    }
}
