//! vellum.

use std::fs::File;
use std::path::Path;

use vellum::{Durability, Options, PageId, Snapshot, Store, View};

use super::fresh;
use crate::Result;
use crate::engine::{Engine, Later, Pages, Promise, Reader, Writer, lost};
use crate::pages::Page;

pub(crate) struct Vellum(Store);

impl Pages for View<'_> {
    #[inline]
    fn read<R>(&self, id: u64, see: impl FnOnce(&[u8]) -> R) -> Result<R> {
        match self.page(PageId(id))? {
            Some(bytes) => Ok(see(bytes)),
            None => Err(lost(id)),
        }
    }

    fn read_together(&self, ids: &[u64], see: impl Fn(&[u8]) -> u64) -> Result<u64> {
        let mut sum = 0_u64;
        for ids in ids.chunks(TOGETHER) {
            let mut asked = [PageId(0); TOGETHER];
            asked.iter_mut().zip(ids).for_each(|(asked, id)| *asked = PageId(*id));
            for (id, page) in ids.iter().zip(self.pages(&asked[..ids.len()])?) {
                sum = sum.wrapping_add(see(page.ok_or_else(|| lost(*id))?));
            }
        }
        Ok(sum)
    }
}

/// Pages of a call.
const TOGETHER: usize = 64;

impl Pages for Snapshot {
    fn read<R>(&self, id: u64, see: impl FnOnce(&[u8]) -> R) -> Result<R> {
        self.view().read(id, see)
    }
}

impl Reader for Store {
    type View<'a> = View<'a>;

    #[inline]
    fn pin(&self) -> Result<View<'_>> {
        Ok(self.view())
    }
}

impl Writer for Store {
    fn commit(&mut self, pages: &[Page], promise: Promise) -> Result {
        let durability = match promise {
            Promise::Durable => Durability::Sync,
            Promise::Buffered => Durability::Buffered,
        };
        let mut txn = self.begin()?;
        // Pages come in order of their ids when a store is filled.
        if let Some(last) = pages.last().filter(|last| last.id >= txn.page_count()) {
            txn.truncate(last.id + 1)?;
        }
        for page in pages {
            txn.write(PageId(page.id), &page.bytes[..])?;
        }
        txn.commit_with(durability)?;
        Ok(())
    }
}

impl Engine for Vellum {
    const IS_IN_FILES: bool = true;
    const SETTINGS: &'static str = "defaults";

    type Reader = Store;
    type Writer = Store;
    type Snapshot = Snapshot;

    fn open(dir: &Path, _pages: u64) -> Result<Vellum> {
        Ok(Vellum(Store::open(dir, Options::new().page_size(4096))?))
    }

    fn reader(&self) -> Result<Store> {
        Ok(self.0.clone())
    }

    fn writer(&self) -> Result<Store> {
        Ok(self.0.clone())
    }

    #[inline]
    fn snapshot(&self) -> Result<Snapshot> {
        Ok(self.0.snapshot())
    }

    fn sync(&self) -> Result {
        Ok(self.0.sync()?)
    }

    fn export(&self, dir: &Path, _pages: u64) -> Result {
        self.0.snapshot().export(&mut File::create_new(fresh(dir, "export"))?)?;
        Ok(())
    }

    fn delta(&self, dir: &Path) -> Result<Later<'_>> {
        let (base, to) = (self.0.snapshot(), fresh(dir, "delta"));
        Ok(Box::new(move || {
            let file = File::create_new(to)?;
            self.0.snapshot().export_since(&base, &mut &file)?;
            Ok(file.sync_all()?)
        }))
    }

    fn clone_to(&self, dir: &Path) -> Result {
        self.0.snapshot().clone_to(fresh(dir, "clone"))?;
        Ok(())
    }

    fn fork(&self) -> Result {
        drop(self.0.snapshot().fork()?);
        Ok(())
    }
}
