//! Bytes that the roots of a catalog keep, counted for its list of segments.
//!
//! What several versions reach together is what the newest reaches, and what each older one reaches and its next younger
//! neighbour doesn't (`table/diff.rs`): whatever a version no longer reaches, no later one does. Neighbours that are both named don't change, so their difference is walked
//! once and remembered for the next checkpoint.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::core::Core;
use crate::error::Result;
use crate::format::control::RootRecord;
use crate::format::names::NamedRecord;
use crate::id::Version;
use crate::names::table::NameList;
use crate::table::root::Root;
use crate::version::held::HeldRoot;

/// Bytes by segment.
pub(crate) type SegmentBytes = BTreeMap<u32, u64>;

/// Counts `more` in. Only what a crafted catalog lied about reaches the end of the numbers, and stays there.
pub(crate) fn add(bytes: &mut SegmentBytes, number: u32, more: u64) {
    let sum = bytes.entry(number).or_default();
    *sum = sum.saturating_add(more);
}

/// A version and the one after it.
type Neighbours = (Version, Version);

/// Differences of neighbours that the last catalog was counted with.
#[derive(Debug, Default)]
pub(crate) struct KeptCounts(HashMap<Neighbours, Arc<SegmentBytes>>);

impl Core {
    /// What the catalog says of a root whose nodes are on disk.
    pub(crate) fn record(&self, root: &Root, log_sequence: u64) -> RootRecord {
        let address = self.slab.walk().address(root.word.link());
        RootRecord { address, ..root.record(log_sequence) }
    }

    pub(crate) fn named_records(&self, list: &NameList) -> Vec<NamedRecord> {
        let record = |(record, root): &(NamedRecord, HeldRoot)| NamedRecord {
            root: self.record(root.root(), 0),
            ..record.clone()
        };
        list.snapshots.iter().map(record).collect()
    }

    /// Bytes that `tip` (which reaches `tip_bytes`), the kept `versions` and `before` reach; and the same without `before`.
    pub(crate) fn count_kept(
        &self,
        counts: &mut KeptCounts,
        mut versions: BTreeMap<Version, HeldRoot>,
        before: Option<HeldRoot>,
        tip: HeldRoot,
        tip_bytes: &SegmentBytes,
    ) -> Result<(SegmentBytes, SegmentBytes)> {
        let mut used = HashMap::new();
        let kept = self.sum_of(&versions, tip, tip_bytes, &counts.0, &mut used)?;
        let all = match before.filter(|before| !versions.contains_key(&before.root().version)) {
            Some(before) => {
                versions.insert(before.root().version, before);
                self.sum_of(&versions, tip, tip_bytes, &counts.0, &mut used)?
            }
            None => kept.clone(),
        };
        counts.0 = used;
        Ok((all, kept))
    }

    fn sum_of(
        &self,
        versions: &BTreeMap<Version, HeldRoot>,
        tip: HeldRoot,
        tip_bytes: &SegmentBytes,
        known: &HashMap<Neighbours, Arc<SegmentBytes>>,
        used: &mut HashMap<Neighbours, Arc<SegmentBytes>>,
    ) -> Result<SegmentBytes> {
        let mut sum = tip_bytes.clone();
        let older = versions.range(..tip.root().version);
        for (version, root) in older {
            let next = versions.range(version.next()..).next().map_or(tip, |(_, next)| *next);
            let key = (*version, next.root().version);
            let bytes = match used.get(&key).or_else(|| known.get(&key)) {
                Some(bytes) => bytes.clone(),
                None => Arc::new(self.bytes_only_in(root.root(), None, next.root())?),
            };
            for (number, more) in &*bytes {
                add(&mut sum, *number, *more);
            }
            used.insert(key, bytes);
        }
        Ok(sum)
    }
}
