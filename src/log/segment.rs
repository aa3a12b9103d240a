//! The segment files: opened and mapped when first needed, read in place, verified at first touch.
//!
//! Segments are found by number in an append-only array of chunks, so a reader gets from a location to its bytes
//! with a few loads and no lock. A segment's object lives as long as the store; when its file is recycled the marks
//! of what was verified are cleared (no reader can reach any of its slots then: invariants 4 and 8).

use std::sync::OnceLock;
use std::sync::Arc;

use super::geometry::Geometry;
use crate::error::{Error, Result};
use crate::format::checksum::PageChecksum;
use crate::format::segment::{HEADER_BYTES, SegmentHeader};
use crate::format::{Flaw, node as node_format};
use crate::id::{Location, PageId, StoreId};
use crate::storage::{Mapping, Storage, StorageFile};
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::table::node::{Entry, NodeAddress};
use crate::table::slab::{NodeImage, NodeSource};

/// Chunk `k` holds `64 << k` segments, so 27 chunks number more than a `u32` can.
const CHUNKS: usize = 27;

/// One segment file.
pub(crate) struct Segment {
    pub(crate) number: u32,
    /// How often the file was taken into use; 0 means never.
    generation: AtomicU32,
    file: OnceLock<Arc<dyn StorageFile>>,
    mapping: OnceLock<Mapping>,
    /// The header was checked since opening.
    is_checked: AtomicBool,
    /// One bit a slot: its page was verified since opening. Bits are only ever hints: bytes under a location don't change.
    verified: OnceLock<Box<[AtomicU64]>>,
    /// Bytes of pages and nodes that are not freed yet, dead ones that an old version still sees included.
    pub(crate) allocated: AtomicU64,
    /// Bytes of pages and nodes that the tip reaches. Written under the commit lock.
    pub(crate) tip_live: AtomicU64,
}

/// All segments of a store.
pub(crate) struct Segments {
    storage: Arc<dyn Storage>,
    store_id: StoreId,
    geometry: Geometry,
    verify_always: AtomicBool,
    chunks: [OnceLock<Box<[OnceLock<Segment>]>>; CHUNKS],
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
    let chunk = 63 - shifted.leading_zeros() - 6;
    let index = shifted - (64 << chunk);
    (chunk as usize, usize::try_from(index).expect("an index fits its chunk"))
}

impl Segments {
    pub(crate) fn new(storage: Arc<dyn Storage>, store_id: StoreId, geometry: Geometry, verify_always: bool) -> Segments {
        Segments {
            storage,
            store_id,
            geometry,
            verify_always: AtomicBool::new(verify_always),
            chunks: [const { OnceLock::new() }; CHUNKS],
            verified_bytes: AtomicU64::new(0),
        }
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

    pub(crate) fn verified_bytes(&self) -> u64 {
        self.verified_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn set_verify_always(&self, always: bool) {
        self.verify_always.store(always, Ordering::Relaxed);
    }

    /// The segment of that number, if the store knows it.
    #[inline]
    pub(crate) fn get(&self, number: u32) -> Option<&Segment> {
        let (chunk, index) = place(number);
        self.chunks.get(chunk)?.get()?.get(index)?.get()
    }

    /// Makes a segment known; its file is opened when first needed.
    pub(crate) fn add(&self, number: u32, generation: u32) -> &Segment {
        let (chunk, index) = place(number);
        let slots = self.chunks[chunk]
            .get_or_init(|| (0..64usize << chunk).map(|_| OnceLock::new()).collect());
        slots[index].get_or_init(|| Segment {
            number,
            generation: AtomicU32::new(generation),
            file: OnceLock::new(),
            mapping: OnceLock::new(),
            is_checked: AtomicBool::new(false),
            verified: OnceLock::new(),
            allocated: AtomicU64::new(0),
            tip_live: AtomicU64::new(0),
        })
    }

    fn path(&self, number: u32) -> std::path::PathBuf {
        self.storage.path(&file_name(number))
    }

    /// The file of a segment, opened and its length checked.
    pub(crate) fn file<'a>(&self, segment: &'a Segment) -> Result<&'a Arc<dyn StorageFile>> {
        if let Some(file) = segment.file.get() {
            return Ok(file);
        }
        let name = file_name(segment.number);
        let file = self.storage.open(&name).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                Error::corrupt(self.storage.path(&name), 0, "a segment file", "no such file")
            }
            _ => Error::io("open", self.storage.path(&name), error),
        })?;
        let len = file.len().map_err(|error| Error::io("measure", self.storage.path(&name), error))?;
        if len != self.geometry.segment_bytes() {
            let expected = format!("a file of {} bytes", self.geometry.segment_bytes());
            return Err(Error::corrupt(self.storage.path(&name), len, expected, format!("{len} bytes")));
        }
        Ok(segment.file.get_or_init(|| file))
    }

    /// Creates the file of a segment that was never used. A file that a crash or a full disk left over is taken as it
    /// is: nothing refers to it, and what it holds doesn't continue the log.
    pub(crate) fn create_file(&self, segment: &Segment) -> Result<()> {
        if segment.file.get().is_some() {
            return Ok(());
        }
        let name = file_name(segment.number);
        let (path, bytes) = (self.storage.path(&name), self.geometry.segment_bytes());
        let created = match self.storage.create(&name, bytes) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                self.storage.open(&name).and_then(|file| {
                    file.set_len(bytes)?;
                    Ok(file)
                })
            }
            other => other,
        };
        let file = created.map_err(|error| disk_error("create", path, bytes, error))?;
        segment.file.get_or_init(|| file);
        Ok(())
    }

    /// Reads and checks a segment's header.
    pub(crate) fn read_header(&self, segment: &Segment) -> Result<SegmentHeader> {
        let file = self.file(segment)?;
        let mut bytes = [0; HEADER_BYTES];
        file.read_exact_at(&mut bytes, 0)
            .map_err(|error| Error::io("read", self.path(segment.number), error))?;
        let header = SegmentHeader::decode(&bytes, segment.number)
            .map_err(|flaw| flaw.into_error(self.path(segment.number), 0))?;
        if header.store_id != self.store_id {
            let found = format!("store {}", header.store_id);
            return Err(Error::corrupt(self.path(segment.number), 8, format!("store {}", self.store_id), found));
        }
        if header.page_size != self.geometry.page_size() || header.slots != self.geometry.segment_slots() {
            let expected = format!("pages of {} bytes", self.geometry.page_size());
            return Err(Error::corrupt(self.path(segment.number), 32, expected, header.page_size.to_string()));
        }
        Ok(header)
    }

    /// Takes note that the segment's file is now in use under `generation`, header written by this process.
    pub(crate) fn begin_generation(&self, segment: &Segment, generation: u32) {
        if let Some(verified) = segment.verified.get() {
            for bits in verified {
                bits.store(0, Ordering::Relaxed);
            }
        }
        segment.generation.store(generation, Ordering::Relaxed);
        segment.is_checked.store(true, Ordering::Release);
    }

    pub(crate) fn generation(&self, segment: &Segment) -> u32 {
        segment.generation.load(Ordering::Relaxed)
    }

    /// The whole segment, mapped, its header checked.
    #[inline]
    fn mapping<'a>(&self, segment: &'a Segment) -> Result<&'a Mapping> {
        if let (Some(mapping), true) = (segment.mapping.get(), segment.is_checked.load(Ordering::Acquire)) {
            return Ok(mapping);
        }
        self.map(segment)
    }

    #[cold]
    fn map<'a>(&self, segment: &'a Segment) -> Result<&'a Mapping> {
        if !segment.is_checked.load(Ordering::Acquire) {
            let header = self.read_header(segment)?;
            let generation = segment.generation.load(Ordering::Relaxed);
            if header.generation != generation {
                let expected = format!("generation {generation}");
                return Err(Error::corrupt(self.path(segment.number), 28, expected, header.generation.to_string()));
            }
            segment.is_checked.store(true, Ordering::Release);
        }
        if let Some(mapping) = segment.mapping.get() {
            return Ok(mapping);
        }
        let len = usize::try_from(self.geometry.segment_bytes()).expect("a 64-bit target");
        let mapping = self
            .file(segment)?
            .map(len)
            .map_err(|error| Error::io("map", self.path(segment.number), error))?;
        Ok(segment.mapping.get_or_init(|| mapping))
    }

    fn segment_of(&self, number: u32) -> Result<&Segment> {
        self.get(number)
            .ok_or_else(|| Error::corrupt(self.path(number), 0, "a segment of this store", "none of that number"))
    }

    /// The bytes at `location`, unverified.
    #[inline]
    fn slot_bytes(&self, location: Location) -> Result<(&Segment, u32, &[u8])> {
        let (number, slot) = self.geometry.split(location);
        let segment = self.segment_of(number)?;
        let mapping = self.mapping(segment)?;
        let offset = usize::try_from(self.geometry.offset(slot)).expect("a 64-bit target");
        match mapping.slice(offset, self.geometry.page_size() as usize) {
            Some(bytes) => Ok((segment, slot, bytes)),
            None => Err(Error::corrupt(self.path(number), offset as u64, "a page", "the end of the segment")),
        }
    }

    /// The page of `id` where `entry` says that it lies. Its checksum is verified unless that was done since opening.
    #[inline]
    pub(crate) fn page(&self, id: PageId, entry: Entry) -> Result<Option<&[u8]>> {
        let Some(location) = entry.location() else { return Ok(None) };
        let (segment, slot, bytes) = self.slot_bytes(location)?;
        let verified = segment.verified.get_or_init(|| self.fresh_marks());
        let (index, bit) = ((slot / 64) as usize, 1u64 << (slot % 64));
        if verified[index].load(Ordering::Relaxed) & bit == 0 || self.verify_always.load(Ordering::Relaxed) {
            self.verify(id, entry, location, bytes)?;
            verified[index].fetch_or(bit, Ordering::Relaxed);
        }
        Ok(Some(bytes))
    }

    fn fresh_marks(&self) -> Box<[AtomicU64]> {
        let words = self.geometry.segment_slots().div_ceil(64);
        (0..words).map(|_| AtomicU64::new(0)).collect()
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

    /// The page of `id`, verified now whatever was verified before, with its full checksum.
    pub(crate) fn verified_page(&self, id: PageId, entry: Entry) -> Result<Option<(&[u8], PageChecksum)>> {
        let Some(location) = entry.location() else { return Ok(None) };
        let (_, _, bytes) = self.slot_bytes(location)?;
        let checksum = self.verify(id, entry, location, bytes)?;
        Ok(Some((bytes, checksum)))
    }

    /// Tells the system that these bytes are about to be read one after the other.
    pub(crate) fn will_read(&self, location: Location, pages: u32) {
        let (number, slot) = self.geometry.split(location);
        if let Some(mapping) = self.get(number).and_then(|segment| segment.mapping.get()) {
            let offset = usize::try_from(self.geometry.offset(slot)).expect("a 64-bit target");
            mapping.populate(offset, (pages as usize) * (self.geometry.page_size() as usize));
        }
    }

    /// Counts `bytes` at `segment` as reached by the tip and not freed.
    pub(crate) fn account_birth(&self, number: u32, bytes: u64) {
        if let Some(segment) = self.get(number) {
            segment.tip_live.fetch_add(bytes, Ordering::Relaxed);
            segment.allocated.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Counts `bytes` as no longer reached by the tip.
    pub(crate) fn account_death(&self, number: u32, bytes: u64) {
        if let Some(segment) = self.get(number) {
            let before = segment.tip_live.fetch_sub(bytes, Ordering::Relaxed);
            debug_assert!(before >= bytes, "invariant 5: a death is counted once");
        }
    }

    /// Counts `bytes` as freed.
    pub(crate) fn account_freed(&self, number: u32, bytes: u64) {
        if let Some(segment) = self.get(number) {
            let before = segment.allocated.fetch_sub(bytes, Ordering::Relaxed);
            debug_assert!(before >= bytes, "invariant 5: each item is freed once");
        }
    }

    /// The segment and the bytes on disk of a node.
    pub(crate) fn node_place(&self, address: NodeAddress, is_leaf: bool) -> (u32, u64) {
        (self.geometry.split_node(address).0, node_format::disk_size(is_leaf) as u64)
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
        let segment = self.segment_of(number)?;
        let mapping = self.mapping(segment)?;
        let start = usize::try_from(offset).expect("a 64-bit target");
        let bytes = mapping.slice(start, node_format::disk_size(level == 0)).ok_or_else(|| {
            Error::corrupt(self.path(number), offset, "a table node", "the end of the segment")
        })?;
        node_format::decode(bytes, address, level)
            .map_err(|flaw: Flaw| flaw.into_error(self.path(number), offset))
    }
}

/// An error of the system, told apart: a full disk is one that the user can mend.
pub(crate) fn disk_error(operation: &'static str, file: std::path::PathBuf, needed: u64, error: std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded | std::io::ErrorKind::FileTooLarge => {
            Error::Full { needed, file, source: Arc::new(error) }
        }
        _ => Error::io(operation, file, error),
    }
}
