//! canopydb.

use std::cell::OnceCell;
use std::path::Path;
use std::sync::Arc;

use canopydb::{Database, DbOptions, EnvOptions, ReadTransaction, Tree};
use self_cell::self_cell;

use super::cache_bytes;
use crate::Result;
use crate::engine::{Engine, Pages, Promise, Reader, Writer, lost};
use crate::pages::Page;

const TREE: &[u8] = b"pages";

#[derive(Clone)]
pub(crate) struct Canopy(Arc<Database>);

type LazyTree<'a> = OnceCell<Tree<'a>>;

self_cell!(
    /// The tree is opened at the first read: a pin alone doesn't need it.
    pub(crate) struct View {
        owner: ReadTransaction,
        #[not_covariant]
        dependent: LazyTree,
    }
);

impl Pages for View {
    fn read<R>(&self, id: u64, see: impl FnOnce(&[u8]) -> R) -> Result<R> {
        self.with_dependent(|txn, lazy| {
            if lazy.get().is_none() {
                let opened = txn.get_tree(TREE)?.ok_or("the tree is gone")?;
                lazy.get_or_init(|| opened);
            }
            let tree = lazy.get().ok_or("the tree is gone")?;
            match tree.get(&id.to_be_bytes())? {
                Some(bytes) => Ok(see(&bytes)),
                None => Err(lost(id)),
            }
        })
    }
}

impl Reader for Canopy {
    type View<'a> = View;

    fn pin(&self) -> Result<View> {
        Ok(View::new(self.0.begin_read()?, |_| OnceCell::new()))
    }
}

impl Writer for Canopy {
    fn commit(&mut self, pages: &[Page], promise: Promise) -> Result {
        let txn = self.0.begin_write()?;
        let mut tree = txn.get_or_create_tree(TREE)?;
        for page in pages {
            tree.insert(&page.id.to_be_bytes(), &page.bytes[..])?;
        }
        drop(tree);
        txn.commit_with(promise == Promise::Durable)?;
        Ok(())
    }
}

impl Engine for Canopy {
    const IS_IN_FILES: bool = false;
    const SETTINGS: &'static str = "a cache for all pages; buffered: commit_with(sync = false)";

    type Reader = Canopy;
    type Writer = Canopy;
    type Snapshot = View;

    fn open(dir: &Path, pages: u64) -> Result<Canopy> {
        std::fs::create_dir_all(dir)?;
        let mut options = EnvOptions::new(dir);
        options.page_cache_size = usize::try_from(cache_bytes(pages))?;
        let database = Database::with_options(options, DbOptions::default())?;
        Ok(Canopy(Arc::new(database)))
    }

    fn reader(&self) -> Result<Canopy> {
        Ok(self.clone())
    }

    fn writer(&self) -> Result<Canopy> {
        Ok(self.clone())
    }

    fn snapshot(&self) -> Result<View> {
        self.pin()
    }

    fn sync(&self) -> Result {
        Ok(self.0.sync()?)
    }
}
