//! How a store is opened: a builder whose values are checked when it is used.

mod check;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::core::now_ms;
use crate::govern::{Event, EventSink, RetainedPolicy};
use crate::history::History;
use crate::log::geometry::Geometry;
use crate::names::millis_of;

/// When a commit is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Durability {
    /// When it is on the disk (fdatasync). It then survives a power cut.
    #[default]
    Sync,
    /// When others can see it. A crash may lose it, together with everything that was committed after it and nothing
    /// that was committed before: a power cut what was not synced, a killed process what was not yet handed to the
    /// system (at most 3 MiB, and with the store's own thread at most a tenth of a second's).
    /// [`Store::sync`](crate::Store::sync) makes all of it durable.
    Buffered,
}

/// What a transaction is protected from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Isolation {
    /// It reads one snapshot and loses to whoever first commits a page that it writes too. Write skew is possible.
    #[default]
    Snapshot,
    /// It also loses to whoever first commits a page that it only read: as if transactions ran one after the other.
    Serializable,
}

/// When a page's checksum is computed on reading.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Verify {
    /// At the first read of each page version after opening, at every export and at `verify`.
    #[default]
    FirstTouch,
    /// At every read.
    EveryRead,
}

/// How pages are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ReadMode {
    /// From a memory mapping of the files, in place: the fastest, and the system decides what stays in memory, within its
    /// page cache. If the medium fails under a mapped page, the process gets SIGBUS, and so it does if another process
    /// shortens a file: no store that maps its files can turn that into an error.
    #[default]
    Mapped,
    /// By read calls, into a cache of [`Options::cache_bytes`]: no file is ever mapped into the process, a failing medium is
    /// [`Error::Io`](crate::Error::Io) to whoever asked, and the next read is tried anew. A page is verified whenever it enters the cache. A
    /// read costs a copy and some 200 ns more where the page is cached, a system call where it isn't; pages that a view has
    /// handed out stay in memory until the view is dropped, beside the cache. At most 128 files are open for reading.
    Buffered,
}

/// How to open a store. Every value has a default that serves most.
///
/// ```
/// use vellum::{Durability, Options, Store};
/// # fn main() -> vellum::Result<()> {
/// let store = Store::in_memory(Options::new().page_size(8192).durability(Durability::Buffered))?;
/// assert_eq!(store.page_size(), 8192);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    page_size: Option<u32>,
    segment_size: Option<u64>,
    create: bool,
    durability: Durability,
    verify: Verify,
    limbo_bytes: u64,
    transaction_memory: u64,
    checkpoint_bytes: u64,
    background: bool,
    read_mode: ReadMode,
    cache_bytes: u64,
    table_memory: u64,
    pool_segments: u32,
    waste_percent: u32,
    pack_rate: Option<u64>,
    retained_limit: Option<(u64, RetainedPolicy)>,
    view_limit: Duration,
    disk_reserve: u64,
    #[cfg(feature = "status")]
    status_every: Option<Duration>,
    events: EventSink,
    clock: Clock,
    history: Option<History>,
}

/// Where the time comes from, if not from the system.
#[derive(Clone, Default)]
struct Clock(Option<Arc<dyn Fn() -> SystemTime + Send + Sync>>);

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "the caller's" } else { "the system's" })
    }
}

impl Default for Options {
    fn default() -> Self {
        Options {
            page_size: None,
            segment_size: None,
            create: true,
            durability: Durability::Sync,
            verify: Verify::FirstTouch,
            limbo_bytes: 64 << 20,
            transaction_memory: 1 << 30,
            checkpoint_bytes: 64 << 20,
            background: true,
            read_mode: ReadMode::Mapped,
            cache_bytes: 64 << 20,
            table_memory: 1 << 30,
            pool_segments: 4,
            waste_percent: 25,
            pack_rate: None,
            retained_limit: None,
            view_limit: Duration::from_secs(10),
            disk_reserve: 256 << 20,
            #[cfg(feature = "status")]
            status_every: None,
            events: EventSink::default(),
            clock: Clock::default(),
            history: None,
        }
    }
}

const PAGE_SIZE: u32 = 4096;
const SEGMENT_SIZE: u64 = 64 << 20;

impl Options {
    /// The defaults: pages of 4 KiB, synced commits, a store that is created if there is none.
    #[must_use]
    pub fn new() -> Options {
        Options::default()
    }

    /// Bytes of a page: a power of two from 512 to 65,536. Fixed at creation; opening a store with another size is an
    /// error, opening it without a size takes the store's. Default 4,096.
    #[must_use]
    pub fn page_size(mut self, bytes: u32) -> Options {
        self.page_size = Some(bytes);
        self
    }

    /// Bytes of a segment file: a power of two of at least 8 pages, from 64 KiB to 1 GiB. Fixed at creation; when
    /// an existing store is opened its own size counts. Default 64 MiB. Smaller segments make smaller stores, and
    /// more files.
    #[must_use]
    pub fn segment_size(mut self, bytes: u64) -> Options {
        self.segment_size = Some(bytes);
        self
    }

    /// Whether to create the store if there is none (default), or to fail with [`Error::NotFound`](crate::Error::NotFound).
    #[must_use]
    pub fn create(mut self, create: bool) -> Options {
        self.create = create;
        self
    }

    /// What `commit` waits for. Default [`Durability::Sync`].
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Options {
        self.durability = durability;
        self
    }

    /// When pages are verified on reading. Default [`Verify::FirstTouch`].
    #[must_use]
    pub fn verify(mut self, verify: Verify) -> Options {
        self.verify = verify;
        self
    }

    /// How pages are read. Default [`ReadMode::Mapped`].
    #[must_use]
    pub fn read_mode(mut self, mode: ReadMode) -> Options {
        self.read_mode = mode;
        self
    }

    /// Most bytes of memory that cached pages may take under [`ReadMode::Buffered`]. At least 1 MiB. Default 64 MiB.
    #[must_use]
    pub fn cache_bytes(mut self, bytes: u64) -> Options {
        self.cache_bytes = bytes;
        self
    }

    /// Bytes of memory that the page table should take at most: some 17 a page if all of it is in memory. Beyond that, nodes that
    /// are on disk are dropped and read again when they are needed, and a checkpoint is written early when half of it
    /// is nodes that aren't on disk yet. Views that stay open long, and what only they or old snapshots see, may take
    /// more. At least 1 MiB. Default 1 GiB, enough for 60 million pages.
    #[must_use]
    pub fn table_memory(mut self, bytes: u64) -> Options {
        self.table_memory = bytes;
        self
    }

    /// Most bytes of memory that may wait for open views before commits are held up, and then refused with
    /// [`Error::LimboFull`](crate::Error::LimboFull). At least 64 KiB. Default 64 MiB.
    #[must_use]
    pub fn limbo_bytes(mut self, bytes: u64) -> Options {
        self.limbo_bytes = bytes;
        self
    }

    /// Most bytes that one transaction may keep in memory before it is refused with
    /// [`Error::TransactionTooLarge`](crate::Error::TransactionTooLarge). At least one page. Default 1 GiB.
    #[must_use]
    pub fn transaction_memory(mut self, bytes: u64) -> Options {
        self.transaction_memory = bytes;
        self
    }

    /// Bytes of log after which a checkpoint is written; opening after a crash reads about so much at most. Four times as
    /// much while commits come fast and none of them syncs, so that they needn't wait for the disk. At least 64 KiB. Default 64 MiB.
    #[must_use]
    pub fn checkpoint_bytes(mut self, bytes: u64) -> Options {
        self.checkpoint_bytes = bytes;
        self
    }

    /// Whether a thread of the store's own writes checkpoints and reclaims (default). Without it, committing threads do
    /// that in between, and [`Store::maintain`](crate::Store::maintain) does it on request.
    #[must_use]
    pub fn background(mut self, background: bool) -> Options {
        self.background = background;
        self
    }

    /// How many dead segment files are kept for reuse instead of being removed: overwriting a file syncs in half the
    /// time of filling a fresh one. Default 4 (256 MiB with the default segment size). When nobody has committed for six seconds, the
    /// store's own thread removes all but one at most.
    #[must_use]
    pub fn pool_segments(mut self, segments: u32) -> Options {
        self.pool_segments = segments;
        self
    }

    /// How much dead data the segment files may carry, in percent of what is alive in them, before the store's own
    /// thread rewrites the sparsest. Less makes smaller files and more copying. From 5 to 1,000; default 25. While commits
    /// bring more than 4 MiB/s it is three times as much, unless the disk is short of room (see [`Options::disk_reserve`]): packing
    /// beside them would take its share of the disk, and costs the less the sparser the segments have become. A segment that is nearly
    /// dead (a sixteenth of what is freed, or less, to be copied) is rewritten in any case, so that the log can go on in its file. When nobody has committed
    /// for three seconds, the thread rewrites whatever is a fifth dead, but never copies more in all than was committed since the opening,
    /// and neither of the two where more than 100 are allowed here.
    #[must_use]
    pub fn waste_percent(mut self, percent: u32) -> Options {
        self.waste_percent = percent;
        self
    }

    /// Most bytes a second that rewriting copies, so that it leaves the disk to others. At least 1 MiB; without a limit
    /// by default.
    #[must_use]
    pub fn pack_rate(mut self, bytes_per_second: u64) -> Options {
        self.pack_rate = Some(bytes_per_second);
        self
    }

    /// Most bytes that old versions may keep for snapshots, named ones and transactions, and what happens beyond: see
    /// [`RetainedPolicy`]. Looked at ten times a second by the store's own thread, or, without it, every 64 commits and
    /// by [`Store::maintain`](crate::Store::maintain). No limit by default.
    ///
    /// ```
    /// # fn main() -> vellum::Result<()> {
    /// use vellum::{Event, Options, RetainedPolicy, Store};
    /// let options = Options::new().retained_limit(1 << 30, RetainedPolicy::Warn).on_event(|event| match event {
    ///     Event::RetainedLimit { retained_bytes, pins, .. } => eprintln!("{retained_bytes} bytes for {pins:?}"),
    ///     other => eprintln!("{other:?}"),
    /// });
    /// let store = Store::in_memory(options)?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn retained_limit(mut self, bytes: u64, policy: RetainedPolicy) -> Options {
        self.retained_limit = Some((bytes, policy));
        self
    }

    /// How long a view may stay open before [`Event::ViewStalled`] tells of it. Default 10 s.
    #[must_use]
    pub fn view_limit(mut self, time: Duration) -> Options {
        self.view_limit = time;
        self
    }

    /// When less than so many bytes are free on the disk and the log needs another file, commits wait for what can be
    /// reclaimed first, so that the disk isn't full before it is full of what is needed. Of this reserve, commits that
    /// write pages leave at least two segments' bytes for checkpoints, for rewriting and for commits that free pages; they are
    /// refused with [`Error::Full`](crate::Error::Full) instead. 0: no reserve. Default 256 MiB.
    #[must_use]
    pub fn disk_reserve(mut self, bytes: u64) -> Options {
        self.disk_reserve = bytes;
        self
    }

    /// How often the store's own thread writes down how the store stands, for those who can't open it while this process has
    /// it: [`Status`](crate::Status) as JSON in the file `status.json` of the store's directory, which is what `vellum top`
    /// shows. Looking takes a twentieth of the thread's time at most: if it is costly, it is done less often. The file is
    /// replaced as a whole, not synced, removed when the store is closed, and never read by the store. At least 100 ms;
    /// needs the store's own thread ([`Options::background`]). With the feature `status`. Off by default.
    #[cfg(feature = "status")]
    #[must_use]
    pub fn status_every(mut self, time: Duration) -> Options {
        self.status_every = Some(time);
        self
    }

    /// Whom the store tells what happens by itself. Called by the store's own thread, or by a committing one; it should
    /// return soon, and must not commit to this store.
    #[must_use]
    pub fn on_event(mut self, observer: impl Fn(&Event) + Send + Sync + 'static) -> Options {
        self.events = EventSink::new(observer);
        self
    }

    #[cfg(feature = "status")]
    pub(crate) fn status_interval(&self) -> Option<Duration> {
        self.status_every
    }

    /// Where the store takes the time from that versions and snapshots are stamped with, and that holds are held against: for engines
    /// and tests with a time of their own. The system's clock by default. A version's time is never before the one of the
    /// version before it, whatever the clock says.
    #[must_use]
    pub fn clock(mut self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Options {
        self.clock = Clock(Some(Arc::new(now)));
        self
    }

    /// Which versions the store keeps without a name: opening sets it as [`Store::set_history`](crate::Store::set_history) does, which
    /// is a commit if another policy stood there. Without this, what the store was told last stays in force.
    #[must_use]
    pub fn history(mut self, history: History) -> Options {
        self.history = Some(history);
        self
    }

    pub(crate) fn without_history(mut self) -> Options {
        self.history = None;
        self
    }

    pub(crate) fn history_wanted(&self) -> Option<History> {
        self.history
    }

    /// What the clock says, in milliseconds since 1970 (UTC).
    pub(crate) fn clock_ms(&self) -> u64 {
        self.clock.0.as_ref().map_or_else(now_ms, |now| millis_of(now()))
    }

    pub(crate) fn retained_max(&self) -> Option<(u64, RetainedPolicy)> {
        self.retained_limit
    }

    pub(crate) fn disk_reserve_min(&self) -> u64 {
        self.disk_reserve
    }

    pub(crate) fn view_max(&self) -> Duration {
        self.view_limit
    }

    pub(crate) fn events(&self) -> &EventSink {
        &self.events
    }

    /// The size of the page cache, if pages are to be read through one.
    pub(crate) fn cache_max(&self) -> Option<u64> {
        (self.read_mode == ReadMode::Buffered).then_some(self.cache_bytes)
    }

    pub(crate) fn pool_max(&self) -> usize {
        self.pool_segments as usize
    }

    pub(crate) fn waste_max(&self) -> u32 {
        self.waste_percent
    }

    pub(crate) fn pack_rate_max(&self) -> Option<u64> {
        self.pack_rate
    }

    pub(crate) fn creates(&self) -> bool {
        self.create
    }

    pub(crate) fn default_durability(&self) -> Durability {
        self.durability
    }

    pub(crate) fn verifies_always(&self) -> bool {
        self.verify == Verify::EveryRead
    }

    pub(crate) fn table_memory_max(&self) -> u64 {
        self.table_memory
    }

    pub(crate) fn limbo_bytes_max(&self) -> u64 {
        self.limbo_bytes
    }

    pub(crate) fn transaction_memory_max(&self) -> u64 {
        self.transaction_memory
    }

    pub(crate) fn checkpoint_every(&self) -> u64 {
        self.checkpoint_bytes
    }

    pub(crate) fn has_thread(&self) -> bool {
        self.background
    }

    /// These options for a store without a thread, and hence without what only the thread does.
    pub(crate) fn without_thread(mut self) -> Options {
        self.background = false;
        #[cfg(feature = "status")]
        {
            self.status_every = None;
        }
        self
    }

    /// The page size that was asked for, if one was.
    pub(crate) fn asked_page_size(&self) -> Option<u32> {
        self.page_size
    }

    /// The geometry of a store that these options create.
    pub(crate) fn geometry(&self) -> Geometry {
        let page_size = self.page_size.unwrap_or(PAGE_SIZE);
        let slots = self.segment_size.unwrap_or(SEGMENT_SIZE) / u64::from(page_size);
        Geometry::new(page_size, u32::try_from(slots).expect("checked: at most 1 GiB of 512 bytes"))
    }
}
