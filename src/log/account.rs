//! What segments hold, counted: for those who free, and for those who want to know.

use std::sync::OnceLock;

use super::segment::{Segment, Segments};
use crate::format::node as node_format;
use crate::stats::SegmentSpace;
use crate::sync::atomic::Ordering;
use crate::table::node::NodeAddress;

impl Segments {
    /// Adds up what segments hold, without a lock.
    pub(crate) fn fill(&self, stats: &mut crate::stats::Stats) {
        if let Some(cache) = self.cache() {
            cache.fill(stats);
        }
        for chunk in self.chunks.iter().filter_map(OnceLock::get) {
            for segment in chunk.iter().filter_map(OnceLock::get) {
                let file_bytes = segment.file_bytes.load(Ordering::Relaxed);
                if file_bytes > 0 {
                    stats.segments += 1;
                    stats.disk_bytes += file_bytes;
                    stats.packed_segments += u64::from(segment.is_packed.load(Ordering::Relaxed));
                    let live = segment.tip_live.load(Ordering::Relaxed);
                    stats.live_bytes = stats.live_bytes.saturating_add(live);
                    let allocated = segment.allocated.load(Ordering::Relaxed);
                    stats.allocated_bytes = stats.allocated_bytes.saturating_add(allocated);
                }
            }
        }
    }

    /// What each segment that has a file holds, without a lock.
    pub(crate) fn spaces(&self, active: u32) -> Vec<SegmentSpace> {
        let known = self.chunks.iter().filter_map(OnceLock::get).flatten().filter_map(OnceLock::get);
        let space = |segment: &Segment| SegmentSpace {
            number: segment.number,
            disk_bytes: segment.file_bytes.load(Ordering::Relaxed),
            live_bytes: segment.tip_live.load(Ordering::Relaxed),
            allocated_bytes: segment.allocated.load(Ordering::Relaxed),
            is_packed: segment.is_packed.load(Ordering::Relaxed),
            is_active: segment.number == active,
        };
        known.map(|segment| space(segment)).filter(|space| space.disk_bytes > 0).collect()
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
            // A crafted catalog can lie about it; then the count wraps and the segment is never reused.
            debug_assert!(before >= bytes || cfg!(fuzzing), "invariant 5: a death is counted once");
        }
    }

    /// Counts `bytes` as freed.
    pub(crate) fn account_freed(&self, number: u32, bytes: u64) {
        if let Some(segment) = self.get(number) {
            let before = segment.allocated.fetch_sub(bytes, Ordering::Relaxed);
            debug_assert!(before >= bytes || cfg!(fuzzing), "invariant 5: each item is freed once");
        }
    }

    /// The segment and the bytes on disk of a node.
    pub(crate) fn node_place(&self, address: NodeAddress, is_leaf: bool) -> (u32, u64) {
        (self.geometry().split_node(address).0, node_format::disk_size(is_leaf) as u64)
    }
}
