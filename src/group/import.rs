//! Stores from an exported group.

use std::fs;
use std::path::Path;

use super::Group;
use super::export::{read_manifest, total_pages, with_member};
use super::parallel::{Shared, for_each_limited};
use crate::error::{Error, Result};
use crate::log::backing::disk_error;
use crate::options::Options;
use crate::progress::Observer;
use crate::store::Store;
use crate::stream::staging::{Staging, named, refuse_occupied};

/// The directory of the store that the member at `index` becomes.
fn store_dir(index: usize) -> String {
    format!("member-{index:02}")
}

impl Group {
    /// Makes new stores of an exported group, in a new directory `to`: `member-00`, `member-01` and so on, in the order of the
    /// exported stores' ids, at most `concurrency` at a time. They are returned in that order, and have identities of their
    /// own.
    ///
    /// All is built beside `to` and moved there in one step, after the manifest and every stream were checked.
    ///
    /// # Errors
    /// As [`verify_group_export`](crate::verify_group_export) and [`Store::import_with`]. If anything fails, `to` is as it was.
    pub fn import(
        dir: impl AsRef<Path>,
        to: impl AsRef<Path>,
        options: Options,
        concurrency: usize,
        observer: &mut (dyn Observer + Send),
    ) -> Result<Vec<Store>> {
        let (dir, to) = (dir.as_ref(), &named(to.as_ref())?);
        refuse_occupied(to)?;
        let manifest = read_manifest(dir)?;
        let staging = Staging::new(to, "importing");
        staging.check_parent()?;
        fs::create_dir(&staging.path)
            .map_err(|error| disk_error("create", staging.path.clone(), 0, error))?;
        let shared = Shared::new("import", total_pages(&manifest), observer);
        for_each_limited(manifest.members.len(), concurrency, &|index| {
            let target = staging.path.join(store_dir(index));
            let store = with_member(dir, &manifest, index, |stream| {
                Store::import_with(stream, &target, options.clone(), &mut shared.part())
            })?;
            let (record, snapshot) = (&manifest.members[index], store.snapshot());
            if (snapshot.version(), snapshot.fingerprint()) != (record.version, record.fingerprint) {
                let (expected, found) = (record.fingerprint, snapshot.fingerprint());
                return Err(Error::WrongBase { expected, found });
            }
            drop(snapshot);
            store.close()
        })?;
        fs::File::open(&staging.path)
            .and_then(|dir| dir.sync_all())
            .map_err(|error| Error::io("sync", staging.path.clone(), error))?;
        staging.become_store(to)?;
        let open = move |index| Store::open(to.join(store_dir(index)), options.clone());
        (0..manifest.members.len()).map(open).collect()
    }
}
