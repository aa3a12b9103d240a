//! What pages hold, and the oracle that knows it.
//!
//! A page is one of 16 random templates with its *word* in front and a mix of word and id at the end; the word's low
//! four bits name the template. So a page's contents follow from its id and its word, nothing in it can be compressed or shared,
//! the sum of its words is known without looking at it, and a writer has a fresh page by changing 16 bytes.
//!
//! The oracle is a file of one word a page, mapped: it survives when the process is killed.

use std::fs::OpenOptions;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::MmapRaw;

use crate::Result;
use crate::engine::Pages;
use crate::measure::Random;

/// Bytes of a page.
pub(crate) const PAGE: usize = 4096;
const TEMPLATES: usize = 16;

/// A page to be written.
#[derive(Clone)]
pub(crate) struct Page {
    pub(crate) id: u64,
    pub(crate) bytes: Box<[u8; PAGE]>,
}

/// The templates and their sums.
pub(crate) struct Contents {
    templates: Vec<[u8; PAGE]>,
    /// Of all words but the first and the last.
    sums: Vec<u64>,
}

fn last_word(id: u64, word: u64) -> u64 {
    (word ^ id.wrapping_mul(0x9E37_79B9_7F4A_7C15)).rotate_left(23)
}

fn template_of(word: u64) -> usize {
    // Below 16.
    (word % TEMPLATES as u64) as usize
}

impl Contents {
    pub(crate) fn new() -> Contents {
        let mut random = Random::new(0x7E11);
        let mut templates = vec![[0; PAGE]; TEMPLATES];
        for word in templates.iter_mut().flat_map(|template| template.chunks_exact_mut(8)) {
            word.copy_from_slice(&random.next().to_le_bytes());
        }
        let sums = templates.iter().map(|template| sum(&template[8..PAGE - 8])).collect();
        Contents { templates, sums }
    }

    /// `count` pages to write, with one template after the other.
    pub(crate) fn batch(&self, count: usize) -> Vec<Page> {
        let page = |at| Page { id: 0, bytes: Box::new(self.templates[at % TEMPLATES]) };
        (0..count).map(page).collect()
    }

    /// The sum of a page's words.
    pub(crate) fn sum(&self, id: u64, word: u64) -> u64 {
        word.wrapping_add(last_word(id, word)).wrapping_add(self.sums[template_of(word)])
    }

    /// Whether these are the bytes of page `id` with `word`.
    fn is(&self, id: u64, word: u64, bytes: &[u8]) -> bool {
        bytes.len() == PAGE
            && bytes[..8] == word.to_le_bytes()
            && bytes[PAGE - 8..] == last_word(id, word).to_le_bytes()
            && bytes[8..PAGE - 8] == self.templates[template_of(word)][8..PAGE - 8]
    }
}

impl Page {
    /// Makes it page `id` with a word of its own out of `random`; gives the word. The template stays, which is what the
    /// `at`-th page of a batch has.
    pub(crate) fn become_page(&mut self, at: usize, id: u64, random: u64) -> u64 {
        let word = (random << 4) | (at % TEMPLATES) as u64;
        self.id = id;
        self.bytes[..8].copy_from_slice(&word.to_le_bytes());
        self.bytes[PAGE - 8..].copy_from_slice(&last_word(id, word).to_le_bytes());
        word
    }

    /// What it was made with.
    pub(crate) fn word(&self) -> u64 {
        first_word(&self.bytes[..])
    }
}

/// The first 8 bytes.
#[inline]
pub(crate) fn first_word(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |word| u64::from_le_bytes(*word))
}

/// The sum of all words.
#[inline]
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    bytes.as_chunks().0.iter().fold(0, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)))
}

/// See the head of this file.
pub(crate) struct Oracle {
    map: MmapRaw,
    pages: u64,
}

impl Oracle {
    pub(crate) fn open(path: &Path, pages: u64) -> Result<Oracle> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        file.set_len(pages * 8)?;
        Ok(Oracle { map: MmapRaw::map_raw(&file)?, pages })
    }

    #[expect(clippy::cast_ptr_alignment, reason = "a mapping begins at the start of a page of memory")]
    fn words(&self) -> &[AtomicU64] {
        let len = usize::try_from(self.pages).unwrap_or(0);
        // SAFETY: the mapping is as long as `pages` words, aligned to a page, lives as long as `self`, and is only ever
        // reached as atomics, here; another process has the file only after this one is gone.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().cast::<AtomicU64>(), len) }
    }

    pub(crate) fn pages(&self) -> u64 {
        self.pages
    }

    /// The word of page `id`.
    pub(crate) fn word(&self, id: u64) -> u64 {
        usize::try_from(id)
            .ok()
            .and_then(|id| self.words().get(id))
            .map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// Notes what was committed.
    pub(crate) fn note(&self, pages: &[Page]) {
        for page in pages {
            if let Some(word) = usize::try_from(page.id).ok().and_then(|id| self.words().get(id)) {
                word.store(page.word(), Ordering::Relaxed);
            }
        }
    }

    /// Compares every byte of every page with what it should be.
    pub(crate) fn check(&self, contents: &Contents, pages: &impl Pages) -> Result {
        for id in 0..self.pages {
            let word = self.word(id);
            let is_right =
                pages.read(id, |bytes| contents.is(id, word, bytes)).map_err(|error| gone(id, &error))?;
            if !is_right {
                return Err(Box::new(Wrong(format!("page {id} isn't what was last committed to it"))));
            }
        }
        Ok(())
    }
}

/// A page that was committed and can't be had is as bad as one with other bytes.
fn gone(id: u64, error: &crate::Fault) -> crate::Fault {
    Box::new(Wrong(format!("page {id} can't be read: {error}")))
}

/// A store gave other bytes than it was given: that ends a run.
#[derive(Debug)]
pub(crate) struct Wrong(pub(crate) String);

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Wrong {}
