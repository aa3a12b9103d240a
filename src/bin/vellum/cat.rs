//! `cat`: the bytes of one page.

use std::fmt::Write as _;

use vellum::{Error, PageId};

use crate::args::{Cat, Show};
use crate::error::Failure;
use crate::output::{Report, put};
use crate::place::open_to_read;

pub(crate) fn cat(args: &Cat, show: Show) -> Result<(), Failure> {
    let store = open_to_read(&args.dir, show)?;
    let id = PageId(args.page);
    let mut page = vec![0; store.page_size()];
    if !args.which.open(&store)?.read(id, &mut page)? {
        return Err(Error::PageNotAllocated { page: id }.into());
    }
    // Whoever reads our output slowly shouldn't keep the store locked.
    drop(store);
    if show.json {
        let digits: String = page.iter().fold(String::new(), |mut digits, byte| {
            let _ = write!(digits, "{byte:02x}");
            digits
        });
        return Report::new()
            .count("page", args.page)
            .count("page_size", page.len() as u64)
            .text("hex", &digits)
            .print(show);
    }
    if args.hex { put(dump(&page).as_bytes()) } else { put(&page) }
}

/// Sixteen bytes a line: where, in hexadecimal, and as text where they are text.
fn dump(page: &[u8]) -> String {
    let mut text = String::with_capacity(page.len() * 5);
    for (line, bytes) in page.chunks(16).enumerate() {
        let _ = write!(text, "{:08x} ", line * 16);
        for (index, byte) in bytes.iter().enumerate() {
            let gap = if index == 8 { " " } else { "" };
            let _ = write!(text, "{gap} {byte:02x}");
        }
        let shown = |byte: &u8| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '.' };
        let _ = writeln!(text, "  |{}|", bytes.iter().map(shown).collect::<String>());
    }
    text
}
