//! What a store gives back while nobody commits: room that is only worth having while somebody does.
//!
//! Beside commits packing leaves `Options::waste_percent` of what is alive lying about, because whoever copies takes the disk from them,
//! and dead segments' files stay for the log to go on in. Both are for the next commits, and a share of a large store is many times what a
//! reader that stayed has kept. So a store at rest
//! - forgets the versions that only its catalogs kept, and packs whatever is a fifth dead, the sparsest first. All packing since the opening
//!   copies at most as many bytes as the log has taken, so this writes no more than commits did, however
//!   often they rest;
//! - gives up, some time later, the files that stand ready for the log, but for what lets it go on for half a segment in blocks that were
//!   written before.
//!
//! Rest is told by versions, which commits make and nothing else, and counted in looks of the thread, so that time in which the process
//! stood still is none.

use super::{Budget, Effort, Maintenance, WASTE_WANTED};
use crate::core::Core;
use crate::error::Result;
use crate::id::Version;
use crate::sync::atomic::Ordering;

#[cfg(all(test, feature = "sim", not(any(loom, shuttle))))]
mod tests;

/// Looks without a commit, ten a second, after which a store packs. Bursts of commits that come again sooner than that, as they do where
/// people work, would each meet a round of packing that has just begun (5 looks were tried: durable commits in bursts of 150 ms, each after
/// a second of rest, came at half their rate).
const PACKS_AFTER: u32 = 30;
/// The same after which it gives files up: a burst of commits that comes again sooner finds those of the last one.
const GIVES_UP_AFTER: u32 = 60;
/// Looks until it tries again when there was nothing to pack: a dropped snapshot lets more be had.
const AGAIN_AFTER: u32 = 20;
/// The same when nothing could be packed, because somebody has an old view open: it is waited for each time.
const AGAIN_IN_VAIN_AFTER: u32 = 600;
/// The share of `Options::checkpoint_bytes` that the log must have grown by for catalogs to be written at rest.
const WORTH_CATALOGS: u64 = 2;
/// The share of a segment that is worth the walk of the whole table that packing begins with.
const WORTH_A_WALK: u64 = 4;

/// For how long nobody has committed, and what was done since.
pub(crate) struct Rest {
    version: Version,
    looks: u32,
    packs_at: u32,
    /// Bytes that had been appended when catalogs were last written at rest.
    settled_at: u64,
}

impl Rest {
    /// Of a store that was just opened.
    pub(crate) fn new() -> Rest {
        Rest { version: Version(0), looks: 0, packs_at: PACKS_AFTER, settled_at: 0 }
    }

    /// Whether what stood ready for the log was given up, and is not to be made again before somebody commits.
    pub(crate) fn has_given_up(&self) -> bool {
        self.looks >= GIVES_UP_AFTER
    }

    /// Takes note of the version that is current at one look.
    fn look(&mut self, version: Version) {
        match version == self.version {
            true => self.looks = self.looks.saturating_add(1),
            false => *self = Rest { version, looks: 0, packs_at: PACKS_AFTER, ..*self },
        }
    }
}

impl Core {
    /// To be called ten times a second. Gives room back that is only worth having beside commits, if none have come for a while, and
    /// until one does.
    pub(crate) fn give_back_at_rest(&self, rest: &mut Rest, round_bytes: u64) -> Result<()> {
        rest.look(self.current_version());
        if rest.looks >= rest.packs_at {
            let pause = self.pack_at_rest(rest, round_bytes)?;
            rest.packs_at = rest.looks.saturating_add(pause);
        }
        if rest.has_given_up() {
            self.shrink_pool()?;
        }
        Ok(())
    }

    /// Packs some segments, between which and the next the thread sees to its other duties. Returns the looks until it is to be called again.
    fn pack_at_rest(&self, rest: &mut Rest, round_bytes: u64) -> Result<u32> {
        if self.options.waste_max() > WASTE_WANTED {
            return Ok(AGAIN_AFTER);
        }
        let worth = self.options.checkpoint_every() / WORTH_CATALOGS;
        if self.appended().saturating_sub(rest.settled_at) >= worth {
            self.write_only_checkpoint()?;
            self.settle();
            rest.settled_at = self.appended();
        }
        let worth = self.segments.geometry().segment_bytes() / WORTH_A_WALK;
        let copied = self.packed_bytes.load(Ordering::Relaxed);
        let round = self.appended().saturating_sub(copied).min(round_bytes);
        // Whoever commits now has the disk for himself.
        let is_over = self.current_version() != rest.version;
        if is_over || round == 0 || self.bytes_to_gain() < worth {
            return Ok(AGAIN_AFTER);
        }
        let done = self.tidy(Effort::All, Budget::unlimited().bytes(round))?;
        Ok(if done.segments_packed > 0 { 1 } else { AGAIN_IN_VAIN_AFTER })
    }

    /// Gives up the files that stand ready for the log, as far as it has room without them.
    fn shrink_pool(&self) -> Result<()> {
        let most = {
            let log = self.log.lock();
            let most = log.appender.files_wanted_at_rest().min(self.options.pool_max());
            if log.appender.pool_len() <= most {
                return Ok(());
            }
            most
        };
        let mut space = self.space.lock();
        self.give_up_dead(&mut space, most);
        self.remove_spares(most);
        self.write_catalogs_past(&space)?;
        self.remove_retired(&mut space, most, &mut Maintenance::default())
    }
}
