//! First committer wins: which transactions of a batch may commit.
//!
//! A transaction may commit if nothing that it wrote (serializable: or read) was committed by another after its snapshot,
//! neither in the tip nor earlier in the same batch (invariant 11). What counts is the birth of a page's entry; freed
//! pages keep a tombstone with its birth, and pages beyond a truncation are covered by the list of recent
//! truncations, so delete-and-recreate doesn't escape.

use std::collections::HashSet;

use crossbeam_epoch::Guard;

use super::request::Request;
use crate::error::{Error, Result};
use crate::id::{Fingerprint, PageId, Version};
use crate::table::lookup::{lookup, youngest_from};
use crate::table::root::Root;
use crate::table::slab::Slab;

/// A truncation that open transactions may still be older than.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Truncation {
    pub(crate) version: Version,
    pub(crate) page_count: u64,
}

/// Decides, one transaction after the other, who may join the batch that becomes `version`.
pub(crate) struct Validator<'a> {
    slab: &'a Slab,
    tip: &'a Root,
    guard: &'a Guard,
    truncations: &'a [Truncation],
    version: Version,
    /// What transactions that were let in write; empty as long as there is only one.
    claimed: HashSet<PageId>,
    claims_meta: bool,
    claims_page_count: bool,
    cut_to: Option<u64>,
}

impl<'a> Validator<'a> {
    pub(crate) fn new(
        slab: &'a Slab,
        tip: &'a Root,
        guard: &'a Guard,
        truncations: &'a [Truncation],
        version: Version,
    ) -> Self {
        let claimed = HashSet::new();
        Validator {
            slab,
            tip,
            guard,
            truncations,
            version,
            claimed,
            claims_meta: false,
            claims_page_count: false,
            cut_to: None,
        }
    }

    /// Lets the transaction in, or says why not. `is_only`: no other will be asked about in this batch.
    pub(crate) fn admit(&mut self, request: &Request, is_only: bool) -> Result<()> {
        for (id, _, _) in &request.writes {
            self.check_page(*id, request.snapshot)?;
        }
        for id in &request.freed {
            self.check_page(*id, request.snapshot)?;
        }
        let changes_page_count = request.truncate_to.is_some() || request.page_count > self.tip.page_count;
        if let Some(page_count) = request.truncate_to {
            self.check_truncation(page_count, request.snapshot)?;
        }
        if request.meta.is_some() {
            self.check_meta(request.snapshot)?;
        }
        if let Some(reads) = &request.reads {
            for id in &reads.pages {
                self.check_page(*id, request.snapshot)?;
            }
            if reads.page_count {
                self.check_page_count(request.snapshot)?;
            }
            if reads.meta {
                self.check_meta(request.snapshot)?;
            }
            if let Some(contents) = reads.contents {
                self.check_contents(contents, request.snapshot)?;
            }
        }
        if !is_only {
            self.claimed.extend(request.writes.iter().map(|(id, _, _)| *id));
            self.claimed.extend(&request.freed);
        }
        self.claims_meta |= request.meta.is_some();
        self.claims_page_count |= changes_page_count;
        if let Some(page_count) = request.truncate_to {
            self.cut_to = Some(self.cut_to.map_or(page_count, |cut| cut.min(page_count)));
        }
        Ok(())
    }

    fn conflict<T>(&self, page: PageId, winner: Version, snapshot: Version) -> Result<T> {
        Err(Error::Conflict { page, winner, snapshot })
    }

    fn check_page(&self, id: PageId, snapshot: Version) -> Result<()> {
        if self.claimed.contains(&id) || self.cut_to.is_some_and(|cut| id.0 >= cut) {
            return self.conflict(id, self.version, snapshot);
        }
        let birth = lookup(self.slab, self.tip, id, self.guard)?.birth();
        if birth > snapshot {
            return self.conflict(id, birth, snapshot);
        }
        let later = self.truncations.iter().rev().take_while(|cut| cut.version > snapshot);
        match later.filter(|cut| id.0 >= cut.page_count).last() {
            Some(cut) => self.conflict(id, cut.version, snapshot),
            None => Ok(()),
        }
    }

    fn check_page_count(&self, snapshot: Version) -> Result<()> {
        if self.claims_page_count {
            return self.conflict(PageId::PAGE_COUNT, self.version, snapshot);
        }
        if self.tip.page_count_birth > snapshot {
            return self.conflict(PageId::PAGE_COUNT, self.tip.page_count_birth, snapshot);
        }
        Ok(())
    }

    fn check_truncation(&self, page_count: u64, snapshot: Version) -> Result<()> {
        if let Some(id) = self.claimed.iter().find(|id| id.0 >= page_count) {
            return self.conflict(*id, self.version, snapshot);
        }
        if let Some((id, winner)) = youngest_from(self.slab, self.tip, page_count, snapshot)? {
            return self.conflict(id, winner, snapshot);
        }
        self.check_page_count(snapshot)
    }

    /// For those who depend on every page: a new version with the same pages (a name, say) does no harm.
    fn check_contents(&self, contents: (Fingerprint, u64), snapshot: Version) -> Result<()> {
        if !self.claimed.is_empty() || self.claims_page_count {
            return self.conflict(PageId(0), self.version, snapshot);
        }
        match (self.tip.fingerprint, self.tip.page_count) == contents {
            true => Ok(()),
            false => self.conflict(PageId(0), self.tip.version, snapshot),
        }
    }

    fn check_meta(&self, snapshot: Version) -> Result<()> {
        if self.claims_meta {
            return self.conflict(PageId::META, self.version, snapshot);
        }
        if self.tip.meta_birth > snapshot {
            return self.conflict(PageId::META, self.tip.meta_birth, snapshot);
        }
        Ok(())
    }
}
