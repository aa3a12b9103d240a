//! From a directory to a store: creation, and recovery.

use std::collections::{BTreeMap, HashSet};
use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use crate::commit::found::{apply_found, found_run};
use crate::commit::lead::LogState;
use crate::core::{Core, Parts};
use crate::error::{Error, Result};
use crate::format::checksum::digest128;
use crate::format::control::{Catalog, LogPosition, RootRecord, SegmentRecord};
use crate::format::history::HistorySection;
use crate::format::names::NamedSection;
use crate::format::segment::SegmentHeader;
use crate::id::{Fingerprint, StoreId, Version};
use crate::log::ahead::SPARE;
use crate::log::append::Appender;
use crate::log::backing::disk_error;
use crate::log::cached::PageCache;
use crate::log::catalog::{CatalogSlots, NAMES};
use crate::log::geometry::Geometry;
use crate::log::packed::{packed_name, packed_number_of};
use crate::log::recover::{Tail, read_tail};
use crate::log::segment::{Segments, file_name, number_of};
use crate::options::Options;
use crate::space::Leftover;
use crate::stats::Recovery;
use crate::storage::{Storage, StorageFile};
use crate::stream::WAITING;
use crate::sync::atomic::Ordering;
use crate::table::root::Root;
use crate::table::slab::Slab;

/// Stands in the directory while a store is being created: what is found beside it is unfinished.
const CREATING: &str = "creating";

/// What a store in use tells about itself (see `Options::status_every`): one that is found was left by a crash.
const STATUS: [&str; 2] = ["status.json", "status.new"];

/// Opens the store that `storage` holds, or creates one.
pub(crate) fn open(storage: Arc<dyn Storage>, options: Options) -> Result<(Core, Recovery)> {
    let begun = Instant::now();
    let mut names = list(&*storage)?;
    let is_unfinished = names.iter().any(|name| name == CREATING);
    let is_store = names.iter().any(|name| NAMES.contains(&name.as_str()));
    if is_unfinished || names.is_empty() {
        if !options.creates() {
            return Err(Error::NotFound { dir: storage.path("") });
        }
        refuse_foreign(&*storage, &names)?;
        create(&*storage, &options, &names)?;
        names = list(&*storage)?;
    } else if !is_store {
        refuse_foreign(&*storage, &names)?;
        let reason = "segments without a catalog".to_owned();
        return Err(Error::NotAStore { dir: storage.path(""), reason });
    }
    let (slots, catalog) = CatalogSlots::open(&*storage)?;
    if let Some(asked) = options.asked_page_size().filter(|asked| *asked != catalog.page_size) {
        return Err(Error::PageSizeMismatch { asked, found: catalog.page_size });
    }
    refuse_missing(&*storage, &names, &catalog)?;
    let passing =
        |name: &&String| name.starts_with(WAITING) || *name == SPARE || STATUS.contains(&name.as_str());
    for name in names.iter().filter(passing) {
        // What can't be removed now takes room until the next opening, and does no other harm.
        let _ = storage.remove(name);
    }
    let (core, mut recovery) = recover(storage, options, slots, catalog, names)?;
    recovery.nanos = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
    Ok((core, recovery))
}

/// Refuses a store of which a file is gone, before anything is read from the others.
fn refuse_missing(storage: &dyn Storage, names: &[String], catalog: &Catalog) -> Result<()> {
    let found: HashSet<&str> = names.iter().map(String::as_str).collect();
    let packed: BTreeMap<u32, u32> =
        catalog.packed.iter().map(|record| (record.number, record.rewrite)).collect();
    let name = |record: &SegmentRecord| match packed.get(&record.number) {
        Some(rewrite) => packed_name(record.number, *rewrite),
        None => file_name(record.number),
    };
    match catalog.segments.iter().map(name).find(|name| !found.contains(name.as_str())) {
        Some(name) => Err(Error::corrupt(storage.path(&name), 0, "a segment of the store", "no such file")),
        None => Ok(()),
    }
}

/// Files of segments that neither the catalog nor the log leads to: what a crash has left over of a file that was being
/// made or removed.
fn leftovers(names: Vec<String>, catalog: &Catalog, appender: &Appender) -> Vec<Leftover> {
    let packed: BTreeMap<u32, u32> =
        catalog.packed.iter().map(|record| (record.number, record.rewrite)).collect();
    let leftover = |name: String| match (number_of(&name), packed_number_of(&name)) {
        (Some(number), _) => {
            let is_packed = packed.contains_key(&number);
            let is_needed = appender.uses(number) && !is_packed;
            (!is_needed).then_some(Leftover { name, number, is_last: !is_packed })
        }
        (None, Some((number, rewrite))) => {
            (packed.get(&number) != Some(&rewrite)).then_some(Leftover { name, number, is_last: false })
        }
        (None, None) => None,
    };
    names.into_iter().filter_map(leftover).collect()
}

fn list(storage: &dyn Storage) -> Result<Vec<String>> {
    storage.list().map_err(|error| Error::io("list", storage.path(""), error))
}

/// Refuses names of which any isn't ours, before anything is written beside them.
fn refuse_foreign(storage: &dyn Storage, names: &[String]) -> Result<()> {
    match names.iter().find(|name| !is_ours(name)) {
        Some(name) => Err(Error::NotAStore { dir: storage.path(""), reason: format!("it holds {name}") }),
        None => Ok(()),
    }
}

fn is_ours(name: &str) -> bool {
    name == CREATING
        || NAMES.contains(&name)
        || name.starts_with(WAITING)
        || number_of(name).is_some()
        || packed_number_of(name).is_some()
}

/// Refuses a directory of somebody else's before even the lock's file is made in it. What can't be listed is left for
/// the storage to complain about.
pub(crate) fn refuse_foreign_dir(dir: &Path) -> Result<()> {
    // The usual case, told without listing a large store's files.
    if NAMES.iter().chain(&[CREATING]).any(|name| dir.join(name).symlink_metadata().is_ok()) {
        return Ok(());
    }
    let Ok(entries) = std::fs::read_dir(dir) else { return Ok(()) };
    let files = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_dir()));
    let mut foreign = None;
    for entry in files {
        let name = entry.file_name().to_string_lossy().into_owned();
        // One file of ours is enough: it is for the opening to say what is wrong with the others.
        if is_ours(&name) {
            return Ok(());
        }
        foreign = foreign.or(Some(name).filter(|name| name != "LOCK"));
    }
    match foreign {
        Some(name) => Err(Error::NotAStore { dir: dir.to_owned(), reason: format!("it holds {name}") }),
        None => Ok(()),
    }
}

/// A random number that differs from store to store and from opening to opening; not a secret.
pub(crate) fn random128() -> u128 {
    use std::hash::{BuildHasher, Hasher};
    // The standard library seeds each of these from the system's randomness.
    let draw = || std::collections::hash_map::RandomState::new().build_hasher().finish();
    let time = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos());
    let mut bytes = [0; 48];
    bytes[..8].copy_from_slice(&draw().to_le_bytes());
    bytes[8..16].copy_from_slice(&draw().to_le_bytes());
    bytes[16..32].copy_from_slice(&time.to_le_bytes());
    bytes[32..40].copy_from_slice(&u64::from(std::process::id()).to_le_bytes());
    bytes[40..].copy_from_slice(&draw().to_le_bytes());
    digest128(&bytes)
}

/// Half of such a number, which is as random.
pub(crate) fn half(random: u128) -> u64 {
    u64::try_from(random >> 64).expect("64 bits are left of 128")
}

/// Creates an empty store. A crash on the way leaves the `creating` mark, and the next opening begins anew.
fn create(storage: &dyn Storage, options: &Options, leftovers: &[String]) -> Result<()> {
    if !leftovers.iter().any(|name| name == CREATING) {
        mark(storage)?;
    }
    for name in leftovers.iter().filter(|name| *name != CREATING) {
        storage.remove(name).map_err(|error| disk_error("remove", storage.path(name), 0, error))?;
    }
    let geometry = options.geometry();
    let store_id = StoreId(random128());
    let header = SegmentHeader {
        store_id,
        number: 0,
        generation: 1,
        page_size: geometry.page_size(),
        slots: geometry.segment_slots(),
        sequence: 0,
        next: 1,
        previous_digest: Some(store_id.0),
        durable: Version(0),
    };
    let created_at_ms = options.clock_ms();
    let catalog = Catalog {
        store_id,
        page_size: geometry.page_size(),
        segment_slots: geometry.segment_slots(),
        created_at_ms,
        roots: vec![RootRecord {
            version: Version(0),
            address: None,
            height: 0,
            page_count: 0,
            live_pages: 0,
            fingerprint: Fingerprint::EMPTY,
            meta: Vec::new(),
            created_at_ms,
            log_sequence: 0,
        }],
        log: LogPosition { segment: 0, generation: 1, sequence: 0, slot: 1, digest: store_id.0 },
        segments: vec![SegmentRecord { number: 0, generation: 1, sequence: 0, live_bytes: 0, tip_bytes: 0 }],
        packed: Vec::new(),
        named: NamedSection::default(),
        identity: None,
        history: HistorySection::default(),
    };
    found(storage, Some(&header), &catalog)?;
    unmark(storage)
}

/// Puts the `creating` mark on an empty storage, before anything else is durable there.
pub(crate) fn mark(storage: &dyn Storage) -> Result<()> {
    storage.create(CREATING, 0).map_err(|error| disk_error("create", storage.path(CREATING), 0, error))?;
    sync_names(storage)
}

/// Takes the mark away: from here on the store is there.
pub(crate) fn unmark(storage: &dyn Storage) -> Result<()> {
    storage.remove(CREATING).map_err(|error| disk_error("remove", storage.path(CREATING), 0, error))?;
    sync_names(storage)
}

fn sync_names(storage: &dyn Storage) -> Result<()> {
    storage.sync_dir().map_err(|error| disk_error("sync", storage.path(""), 0, error))
}

/// Begins a store of what is there already: both catalog slots, and its log's first segment, unless the log begins behind a segment that
/// is there. All of it is durable then, under names that are.
pub(crate) fn found(storage: &dyn Storage, header: Option<&SegmentHeader>, catalog: &Catalog) -> Result<()> {
    let segment = header.map(|header| begin_log(storage, header)).transpose()?;
    let mut slots = CatalogSlots::create(storage)?;
    // Both slots, so that a store is never without a second one. Only the newer one is synced: it is enough after a crash, and until the
    // first checkpoint has overwritten the other one, durably, nobody needs that.
    slots.write_unsynced(catalog)?;
    if let Some((name, file)) = segment {
        file.sync().map_err(|error| disk_error("sync", storage.path(&name), 0, error))?;
    }
    slots.write(catalog)?;
    sync_names(storage)
}

/// Makes a log's first segment. It is not durable then.
fn begin_log(storage: &dyn Storage, header: &SegmentHeader) -> Result<(String, Arc<dyn StorageFile>)> {
    let (name, geometry) = (file_name(header.number), Geometry::new(header.page_size, header.slots));
    let file = storage
        .create(&name, geometry.segment_bytes())
        .map_err(|error| disk_error("create", storage.path(&name), geometry.segment_bytes(), error))?;
    file.write_all_at(&[IoSlice::new(&header.encode_slot())], 0)
        .map_err(|error| disk_error("write to", storage.path(&name), geometry.page_bytes(), error))?;
    Ok((name, file))
}

fn recover(
    storage: Arc<dyn Storage>,
    options: Options,
    slots: CatalogSlots,
    catalog: Catalog,
    names: Vec<String>,
) -> Result<(Core, Recovery)> {
    let geometry = Geometry::new(catalog.page_size, catalog.segment_slots);
    let segments = Arc::new(Segments::new(
        storage,
        catalog.store_id,
        geometry,
        options.verifies_always(),
        options.cache_max().map(|bytes| PageCache::new(bytes, geometry.page_size())),
        None,
    ));
    let mut files = BTreeMap::new();
    let limit = geometry.segment_limit();
    if let Some(record) = catalog.segments.iter().find(|record| record.number >= limit) {
        let path = segments.storage().path(NAMES[0]);
        let expected = format!("segment numbers below {limit}");
        return Err(Error::corrupt(path, 0, expected, record.number.to_string()));
    }
    for record in &catalog.segments {
        let segment = segments.add(record.number, record.generation);
        segment.allocated.store(record.live_bytes, Ordering::Relaxed);
        segment.tip_live.store(record.tip_bytes, Ordering::Relaxed);
        segments.note_file(segment, None);
        files.insert(record.number, (record.generation, record.sequence));
    }
    for record in &catalog.packed {
        segments.set_packed(record);
    }
    let newest = catalog.roots.last().map_or(Version(0), |root| root.version);
    let number_max = files.keys().next_back().copied().unwrap_or(0).max(catalog.log.segment);
    let listed = |number| files.get(&number).map(|(_, sequence): &(u32, u64)| *sequence);
    let tail = read_tail(&segments, catalog.log, newest, &listed, number_max)?;
    for (number, generation, sequence) in &tail.visited {
        files.insert(*number, (*generation, *sequence));
        segments.note_file(segments.add(*number, *generation), None);
    }
    segments.size_table(files.keys().next_back().map_or(0, |number| number.saturating_add(1)));
    let mut appender = Appender::new(segments.clone(), half(random128()), tail.position, files);
    appender.leave_shared(tail.is_torn)?;
    let leftovers = leftovers(names, &catalog, &appender);
    appender.vacate_gaps(|number| leftovers.iter().all(|leftover| leftover.number != number));
    let log = LogState { appender, truncations: std::collections::VecDeque::new(), unreclaimed: 0 };
    let slab = Arc::new(Slab::new(Box::new(segments.clone()), options.table_memory_max()));
    let tip = Root::from_record(catalog.roots.last().expect("a checked catalog has a root"));
    let parts = Parts { options, segments, slab, log, slots, catalog, tip, leftovers, parent: None };
    let core = Core::new(parts);
    let recovery = apply_tail(&core, &tail, newest)?;
    Ok((core, recovery))
}

fn apply_tail(core: &Core, tail: &Tail, checkpoint: Version) -> Result<Recovery> {
    let (mut left, mut since_pass) = (&tail.batches[..], 0);
    while !left.is_empty() {
        let (run, behind) = left.split_at(found_run(core, left));
        apply_found(core, run)?;
        (left, since_pass) = (behind, since_pass + run.len());
        if since_pass >= 64 {
            core.grace.advance(&core.epoch);
            core.pass();
            since_pass = 0;
        }
    }
    let guard = core.epoch.pin();
    let tip = core.published.load(&guard);
    // Recovery synced whatever nothing proved durable.
    core.durable.store(tip.version.0, Ordering::Release);
    *core.allocator.lock() = crate::alloc::Allocator::new(tip.page_count, tip.live_pages);
    drop(guard);
    core.reclaim(&mut core.log.lock());
    Ok(Recovery {
        checkpoint,
        batches: tail.batches.len() as u64,
        bytes_read: tail.bytes_read,
        bytes_rewritten: tail.bytes_rewritten,
        is_torn: tail.is_torn,
        nanos: 0,
    })
}
