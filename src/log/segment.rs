//! The segment files: opened and mapped when first needed, read in place, verified at first touch.
//!
//! What readers need of a segment is a [`Loaded`], found by number in a [`SegmentTable`]. The table is replaced whole when
//! the log enters or leaves a segment; a view's guard keeps the table that it began with ([`super::shared`]), and thereby every
//! mapping that its version can reach. What writers and the reclaimer need is a [`Segment`], which lives as long as the store.
//!
//! The segment that the log is in is read from memory where this session has written it (`tail`), and from the file
//! below that: what was just committed costs no page fault, and buffered commits can be gathered before they are
//! handed to the system.
//!
//! A segment that was rewritten is read from its packed file under the same locations: see [`super::packed`].

use std::sync::Arc;
use std::sync::OnceLock;

use crossbeam_epoch::Guard;

use super::backing::Backing;
use super::base::Base;
use super::cached::{PageBytes, PageCache};
use super::geometry::Geometry;
use super::guess::Guesses;
use super::loaded::Loaded;
use super::shared::{Followed, Shared};
use crate::error::{Error, Result};
use crate::format::checksum::PageChecksum;
use crate::format::{Flaw, node as node_format};
use crate::id::{Location, PageId, StoreId};
use crate::storage::{Mapping, Storage};
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::sync::{Mutex, Swapped};
use crate::table::node::{Entry, NodeAddress};
use crate::table::slab::{NodeImage, NodeSource};

/// Chunk `k` holds `64 << k` segments, so 27 chunks number more than a `u32` can.
const CHUNKS: usize = 27;

/// One segment file, for those who write and free.
pub(crate) struct Segment {
    pub(crate) number: u32,
    /// How often the file was taken into use; 0 means never.
    pub(super) generation: AtomicU32,
    /// Replaced if what was left over under the name is made anew, or the segment is packed.
    pub(super) backing: Mutex<Backing>,
    /// Bytes of pages and nodes that are not freed yet, dead ones that an old version still sees included.
    pub(crate) allocated: AtomicU64,
    /// The length of its file, 0 while it has none; and whether that is a packed one. For those who count.
    pub(super) file_bytes: AtomicU64,
    pub(super) is_packed: AtomicBool,
    /// Bytes of pages and nodes that the tip reaches. Written under the commit lock.
    pub(crate) tip_live: AtomicU64,
}

/// The segments that readers find.
#[derive(Default)]
pub(crate) struct SegmentTable(pub(super) Vec<OnceLock<Arc<Loaded>>>);

/// Segments by number, each made when it becomes known.
type Chunk = Box<[OnceLock<Box<Segment>>]>;

/// All segments of a store.
pub(crate) struct Segments {
    storage: Arc<dyn Storage>,
    store_id: StoreId,
    geometry: Geometry,
    verify_always: bool,
    /// There if pages are read without a mapping.
    cache: Option<PageCache>,
    /// There in a fork.
    pub(super) base: Option<Base>,
    pub(super) chunks: [OnceLock<Chunk>; CHUNKS],
    table: Shared<SegmentTable>,
    pub(super) guesses: Guesses,
    /// Bytes of pages whose checksums were computed, since opening.
    verified_bytes: AtomicU64,
}

impl std::fmt::Debug for Segments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Segments").field("geometry", &self.geometry).finish_non_exhaustive()
    }
}

/// The name of a segment's file.
pub(crate) fn file_name(number: u32) -> String {
    format!("segment-{number:08x}")
}

/// The number in a segment file's name.
pub(crate) fn number_of(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("segment-").filter(|digits| digits.len() == 8)?;
    u32::from_str_radix(digits, 16).ok().filter(|number| file_name(*number) == name)
}

fn place(number: u32) -> (usize, usize) {
    let shifted = u64::from(number) + 64;
    let chunk = shifted.ilog2() - 6;
    let index = shifted - (64 << chunk);
    (chunk as usize, usize::try_from(index).expect("an index fits its chunk"))
}

impl SegmentTable {
    #[inline]
    pub(super) fn entry(&self, number: u32) -> Option<&Arc<Loaded>> {
        self.0.get(number as usize)?.get()
    }
}

impl Segments {
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        store_id: StoreId,
        geometry: Geometry,
        verify_always: bool,
        cache: Option<PageCache>,
        base: Option<Base>,
    ) -> Segments {
        let segments = Segments {
            storage,
            store_id,
            geometry,
            verify_always,
            cache,
            base,
            chunks: [const { OnceLock::new() }; CHUNKS],
            table: Shared::new(SegmentTable::default()),
            guesses: Guesses::default(),
            verified_bytes: AtomicU64::new(0),
        };
        if let Some(base) = &segments.base {
            segments.size_table(base.limit());
        }
        segments
    }

    pub(crate) fn geometry(&self) -> Geometry {
        self.geometry
    }

    pub(crate) fn store_id(&self) -> StoreId {
        self.store_id
    }

    pub(crate) fn storage(&self) -> &dyn Storage {
        &*self.storage
    }

    pub(super) fn cache(&self) -> Option<&PageCache> {
        self.cache.as_ref()
    }

    pub(crate) fn verified_bytes(&self) -> u64 {
        self.verified_bytes.load(Ordering::Relaxed)
    }

    /// The segment of that number, if the store knows it.
    #[inline]
    pub(crate) fn get(&self, number: u32) -> Option<&Segment> {
        let (chunk, index) = place(number);
        self.chunks.get(chunk)?.get()?.get(index)?.get().map(|segment| &**segment)
    }

    /// Makes a segment known; its file is opened when first needed.
    pub(crate) fn add(&self, number: u32, generation: u32) -> &Segment {
        let (chunk, index) = place(number);
        let slots =
            self.chunks[chunk].get_or_init(|| (0..64usize << chunk).map(|_| OnceLock::new()).collect());
        slots[index].get_or_init(|| {
            Box::new(Segment {
                number,
                generation: AtomicU32::new(generation),
                backing: Mutex::new(Backing::default()),
                allocated: AtomicU64::new(0),
                file_bytes: AtomicU64::new(0),
                is_packed: AtomicBool::new(false),
                tip_live: AtomicU64::new(0),
            })
        })
    }

    /// The file that holds a segment, for errors.
    pub(crate) fn path(&self, number: u32) -> std::path::PathBuf {
        let owner = self.owner(number);
        match owner.get(number) {
            Some(segment) => owner.storage.path(&owner.file_of(segment).0),
            None => owner.storage.path(&file_name(number)),
        }
    }

    /// Lets readers find segments below `len`; to be called before the store is read from.
    pub(crate) fn size_table(&self, len: u32) {
        let mut entries = self.table.load().0.clone();
        entries.resize_with((len as usize).max(entries.len()), OnceLock::new);
        self.table.store(SegmentTable(entries));
    }

    /// Takes note that the segment's file is now in use under `generation`. Nobody can reach any of its former slots.
    pub(crate) fn begin_generation(&self, segment: &Segment, generation: u32) {
        segment.generation.store(generation, Ordering::Relaxed);
        self.replace(segment.number, None);
    }

    /// Lets readers find the slots of a segment from `from` on in `tail`, and those below in the file. To be called
    /// before any of those slots is published.
    pub(crate) fn read_from_tail(&self, number: u32, from: u32, tail: Mapping) {
        self.replace(number, Some(Arc::new(Loaded::new(self.geometry, Some((from, tail))))));
    }

    /// Lets readers find all of a segment in its file again, which now holds all of it.
    pub(crate) fn read_from_file(&self, number: u32) {
        self.replace(number, None);
    }

    /// Replaces one entry of the table; views that are open keep theirs. Called by one thread at a time.
    pub(super) fn replace(&self, number: u32, loaded: Option<Arc<Loaded>>) {
        self.replace_all([(number, loaded)]);
    }

    /// The same of several at once: each table that is replaced stays for a while.
    pub(super) fn replace_all(&self, changes: impl IntoIterator<Item = (u32, Option<Arc<Loaded>>)>) {
        let mut entries: Vec<OnceLock<Arc<Loaded>>> = self.table.load().0.clone();
        for (number, loaded) in changes {
            entries.resize_with(entries.len().max(number as usize + 1), OnceLock::new);
            entries[number as usize] = loaded.map_or_else(OnceLock::new, OnceLock::from);
        }
        self.table.store(SegmentTable(entries));
    }

    /// The table as it is now. Whoever holds it can read every page that is published by now.
    #[inline]
    pub(crate) fn table(&self) -> Swapped<SegmentTable> {
        self.table.load()
    }

    /// The same, for as long as the guard is held.
    #[inline]
    pub(crate) fn follow_table(&self, guard: &Guard) -> Followed<SegmentTable> {
        self.table.follow(guard)
    }

    /// Lets go of tables that were replaced, and so of mappings and tails, after their grace periods: see [`Shared::released`].
    /// Returns whether there were any.
    pub(crate) fn release_tables(&self, passed: u64, issue: impl FnOnce() -> u64) -> bool {
        !self.table.released(passed, issue).is_empty()
    }

    /// How many tables wait for that.
    pub(crate) fn tables_waiting(&self) -> usize {
        self.table.waiting()
    }

    pub(crate) fn generation(&self, segment: &Segment) -> u32 {
        segment.generation.load(Ordering::Relaxed)
    }

    /// The entry of a segment, made if this is its first use.
    #[inline]
    pub(super) fn loaded<'a>(&self, table: &'a SegmentTable, number: u32) -> Result<&'a Loaded> {
        match table.entry(number) {
            Some(loaded) => Ok(loaded),
            None => self.load(table, number),
        }
    }

    #[cold]
    fn load<'a>(&self, table: &'a SegmentTable, number: u32) -> Result<&'a Loaded> {
        let loaded = match self.base_entry(number) {
            Some(entry) => entry?,
            None => {
                self.segment_of(number)?;
                Arc::new(Loaded::new(self.geometry, None))
            }
        };
        match table.0.get(number as usize) {
            Some(entry) => Ok(entry.get_or_init(|| loaded)),
            None => Err(Error::corrupt(self.path(number), 0, "a segment in use", "one that was never used")),
        }
    }

    pub(super) fn segment_of(&self, number: u32) -> Result<&Segment> {
        self.get(number).ok_or_else(|| {
            Error::corrupt(self.path(number), 0, "a segment of this store", "none of that number")
        })
    }

    /// `len` bytes at byte `start` of a segment, unverified.
    #[inline]
    fn bytes<'a>(&self, loaded: &'a Loaded, number: u32, start: usize, len: usize) -> Result<&'a [u8]> {
        if loaded.wants_file(start) {
            self.owner(number).map(loaded, number)?;
        }
        loaded.slice(start, len).ok_or_else(|| self.beyond(number, start))
    }

    #[cold]
    pub(super) fn beyond(&self, number: u32, start: usize) -> Error {
        Error::corrupt(self.path(number), start as u64, "a page or node", "the end of the segment")
    }

    /// The page of `id` where `entry` says that it lies. Its checksum is verified unless that was done since opening, or
    /// since it entered the cache.
    #[inline]
    pub(crate) fn page<'a>(
        &self,
        table: &'a SegmentTable,
        id: PageId,
        entry: Entry,
    ) -> Result<Option<PageBytes<'a>>> {
        let Some(location) = entry.location() else { return Ok(None) };
        let (number, slot) = self.geometry.split(location);
        let loaded = self.loaded(table, number)?;
        let start = usize_of(self.geometry.offset(slot));
        if let Some(cache) = self.cache.as_ref().filter(|_| loaded.is_in_file(start)) {
            let owner = self.owner(number);
            let key = (number, owner.generation(owner.segment_of(number)?), slot);
            if let Some(page) = cache.get(key) {
                if self.verify_always {
                    self.verify(id, entry, location, &page)?;
                }
                return Ok(Some(PageBytes::Copied(page)));
            }
            let page = self.read_page(number, start)?;
            self.verify(id, entry, location, &page)?;
            cache.put(key, page.clone());
            return Ok(Some(PageBytes::Copied(page)));
        }
        let bytes = self.bytes(loaded, number, start, self.geometry.page_size() as usize)?;
        if !loaded.is_verified(slot) {
            self.verify(id, entry, location, bytes)?;
            if !self.verify_always {
                loaded.mark_verified(slot);
            }
        }
        Ok(Some(PageBytes::InPlace(bytes)))
    }

    /// A page from its file, unverified.
    fn read_page(&self, number: u32, start: usize) -> Result<Arc<[u8]>> {
        let mut page: Arc<[u8]> = std::iter::repeat_n(0, self.geometry.page_size() as usize).collect();
        // Nobody else has it yet.
        if let Some(bytes) = Arc::get_mut(&mut page) {
            self.read_file(number, start, bytes)?;
        }
        Ok(page)
    }

    /// The page at `location` if it was verified before and can be had without thinking. A tombstone's location lies in no
    /// segment, and an absent entry's in a slot that is never marked as verified, so neither needs a test of its own.
    #[inline]
    pub(crate) fn quick_page<'a>(&self, table: &'a SegmentTable, entry: Entry) -> Option<&'a [u8]> {
        let location = entry.raw_location();
        table.0.get(self.geometry.segment_index(location))?.get()?.verified_page(location)
    }

    /// Forgets that the page at `location` was verified, because it is no longer what it was.
    pub(crate) fn distrust(&self, location: Location) {
        let (number, slot) = self.geometry.split(location);
        if let Some(loaded) = self.table().entry(number) {
            loaded.distrust(slot);
        }
    }

    #[cold]
    fn verify(&self, id: PageId, entry: Entry, location: Location, bytes: &[u8]) -> Result<PageChecksum> {
        let checksum = PageChecksum::of(id, bytes);
        self.verified_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if checksum.short() == entry.short_checksum() {
            return Ok(checksum);
        }
        let (number, slot) = self.geometry.split(location);
        Err(Error::corrupt(
            self.path(number),
            self.geometry.offset(slot),
            format!("{id} with checksum {:012x}", entry.short_checksum()),
            format!("{:012x}", checksum.short()),
        ))
    }

    /// The page of `id`, verified now whatever was verified before, with its full checksum. It doesn't enter the cache: who
    /// reads everything once would only displace what others need.
    pub(crate) fn verified_page<'a>(
        &self,
        table: &'a SegmentTable,
        id: PageId,
        entry: Entry,
    ) -> Result<Option<(PageBytes<'a>, PageChecksum)>> {
        let Some(location) = entry.location() else { return Ok(None) };
        let (number, slot) = self.geometry.split(location);
        let loaded = self.loaded(table, number)?;
        let start = usize_of(self.geometry.offset(slot));
        let bytes = match self.cache.is_some() && loaded.is_in_file(start) {
            true => PageBytes::Copied(self.read_page(number, start)?),
            false => {
                let len = self.geometry.page_size() as usize;
                PageBytes::InPlace(self.bytes(loaded, number, start, len)?)
            }
        };
        let checksum = self.verify(id, entry, location, &bytes)?;
        Ok(Some((bytes, checksum)))
    }

    /// Reads `slots` slots from `slot` on into memory: for recovery, which trusts nothing.
    pub(crate) fn read_slots(&self, segment: &Segment, slot: u32, bytes: &mut [u8]) -> Result<()> {
        self.file(segment)?
            .read_exact_at(bytes, self.geometry.offset(slot))
            .map_err(|error| Error::io("read", self.path(segment.number), error))
    }
}

impl NodeSource for Arc<Segments> {
    fn read_node(&self, address: NodeAddress, level: u32) -> Result<NodeImage> {
        let (number, offset) = self.geometry.split_node(address);
        let table = self.table();
        let loaded = self.loaded(&table, number)?;
        let (start, len) = (usize_of(offset), node_format::disk_size(level == 0));
        let wrong = |flaw: Flaw| flaw.into_error(self.path(number), offset);
        if self.cache.is_some() && loaded.is_in_file(start) {
            let mut bytes = vec![0; len];
            self.read_file(number, start, &mut bytes)?;
            return node_format::decode(&bytes, address, level).map_err(wrong);
        }
        node_format::decode(self.bytes(loaded, number, start, len)?, address, level).map_err(wrong)
    }
}

/// A byte offset within a segment; the crate only builds for 64-bit targets, where nothing is lost.
#[inline]
pub(super) fn usize_of(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
