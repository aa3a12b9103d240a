//! A group snapshot as a directory: one stream for each member, and a manifest that holds them together.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::Path;
use std::time::UNIX_EPOCH;

use serde::Serialize;
use xxhash_rust::xxh3::Xxh3;

use super::Group;
use super::labels::GroupId;
use super::parallel::{Shared, for_each_limited};
use crate::error::{Error, Result};
use crate::format::group::{BYTES_MAX, GroupManifest, MANIFEST, MemberRecord, member_file};
use crate::id::{Fingerprint, StoreId, Version};
use crate::log::backing::disk_error;
use crate::progress::Observer;
use crate::stream::staging::{Staging, named, refuse_occupied};
use crate::stream::{StreamSummary, verify_stream};

/// Bytes that are handed to the system, or had from it, at a time.
const BUFFER_BYTES: usize = 1 << 20;

/// One member of an exported group.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemberSummary {
    /// The store that was exported.
    pub store_id: StoreId,
    /// The version that was exported.
    pub version: Version,
    /// The fingerprint of its contents.
    pub fingerprint: Fingerprint,
    /// Its stream, in the directory of the export.
    pub file: String,
    /// Pages in the stream.
    pub pages: u64,
    /// Bytes of the stream.
    pub bytes: u64,
}

/// An exported group.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupSummary {
    /// Which group snapshot it is.
    pub id: GroupId,
    /// Its name.
    pub name: String,
    /// In the order of the stores' ids.
    pub members: Vec<MemberSummary>,
}

impl GroupSummary {
    pub(super) fn of(manifest: &GroupManifest) -> GroupSummary {
        let member = |(index, record): (usize, &MemberRecord)| MemberSummary {
            store_id: record.store_id,
            version: record.version,
            fingerprint: record.fingerprint,
            file: member_file(index),
            pages: record.pages,
            bytes: record.bytes,
        };
        GroupSummary {
            id: GroupId(manifest.id),
            name: manifest.name.clone(),
            members: manifest.members.iter().enumerate().map(member).collect(),
        }
    }
}

impl Group {
    /// Writes a group snapshot to a new directory: a stream for each member, at most `concurrency` at a time (1: one after the
    /// other), and a manifest with their checksums. The directory appears in one step, when everything in it is on the disk.
    ///
    /// ```
    /// # fn main() -> vellum::Result<()> {
    /// # let home = tempfile::tempdir().unwrap();
    /// # let (dir, restored) = (home.path().join("nightly"), home.path().join("restored"));
    /// use vellum::{Group, Options, Store};
    /// let (orders, stock) = (Store::in_memory(Options::new())?, Store::in_memory(Options::new())?);
    /// let group = Group::new(&[&orders, &stock])?;
    /// group.create_snapshot("nightly")?;
    /// group.export("nightly", &dir, 2, &mut ())?;
    /// // In the order of the members' ids, as `Group::members` has them.
    /// let stores = Group::import(&dir, &restored, Options::new(), 2, &mut ())?;
    /// assert_eq!(stores.len(), group.members().len());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Group::open_snapshot`] and [`Snapshot::export`](crate::Snapshot::export); [`Error::AlreadyExists`] if `dir` holds
    /// anything, [`Error::Full`], [`Error::Io`], [`Error::Cancelled`]. After any of them `dir` is as it was.
    pub fn export(
        &self,
        name: &str,
        dir: impl AsRef<Path>,
        concurrency: usize,
        observer: &mut (dyn Observer + Send),
    ) -> Result<GroupSummary> {
        let dir = &named(dir.as_ref())?;
        refuse_occupied(dir)?;
        let staging = Staging::new(dir, "exporting");
        staging.check_parent()?;
        let group = self.complete(name)?;
        let snapshots = self.open_snapshot(name)?;
        let failed = |operation, path: &Path| {
            let path = path.to_owned();
            move |error| disk_error(operation, path, 0, error)
        };
        fs::create_dir(&staging.path).map_err(failed("create", &staging.path))?;
        let total = snapshots.iter().map(crate::Snapshot::live_pages).sum();
        let shared = Shared::new("export", Some(total), observer);
        let members = for_each_limited(snapshots.len(), concurrency, &|index| {
            let (snapshot, path) = (&snapshots[index], staging.path.join(member_file(index)));
            let file = File::create_new(&path).map_err(failed("create", &path))?;
            let mut hashed = Hashed::new(BufWriter::with_capacity(BUFFER_BYTES, file));
            let summary = snapshot.export_with(&mut hashed, &mut shared.part())?;
            let (buffered, bytes, digest) = hashed.finish();
            let file =
                buffered.into_inner().map_err(|error| failed("write to", &path)(error.into_error()))?;
            file.sync_all().map_err(failed("sync", &path))?;
            let StreamSummary { version, fingerprint, pages, .. } = summary;
            Ok(MemberRecord {
                store_id: self.members[index].id(),
                version,
                fingerprint,
                pages,
                bytes,
                digest,
            })
        })?;
        let created_at = group.created_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let manifest = GroupManifest {
            id: group.id.0,
            name: group.name,
            created_at_ms: u64::try_from(created_at.as_millis()).unwrap_or(u64::MAX),
            members,
        };
        let path = staging.path.join(MANIFEST);
        let bytes =
            manifest.encode().map_err(|found| Error::corrupt(path.clone(), 0, "a manifest", found))?;
        let mut file = File::create_new(&path).map_err(failed("create", &path))?;
        file.write_all(&bytes).map_err(failed("write to", &path))?;
        file.sync_all().map_err(failed("sync", &path))?;
        File::open(&staging.path).and_then(|dir| dir.sync_all()).map_err(failed("sync", &staging.path))?;
        staging.become_store(dir)?;
        Ok(GroupSummary::of(&manifest))
    }
}

/// Checks an exported group from end to end without a store: the manifest, and each stream against it.
///
/// # Errors
/// [`Error::Corrupt`] for the manifest, a stream that is damaged, or one that isn't the manifest's,
/// [`Error::Unsupported`] for a newer format, [`Error::Io`], [`Error::Cancelled`].
pub fn verify_group_export(
    dir: impl AsRef<Path>,
    concurrency: usize,
    observer: &mut (dyn Observer + Send),
) -> Result<GroupSummary> {
    let (dir, manifest) = (dir.as_ref(), read_manifest(dir.as_ref())?);
    let shared = Shared::new("verify", total_pages(&manifest), observer);
    for_each_limited(manifest.members.len(), concurrency, &|index| {
        with_member(dir, &manifest, index, |stream| verify_stream(stream, &mut shared.part()))
    })?;
    Ok(GroupSummary::of(&manifest))
}

/// Pages of all members, as far as they can be counted.
pub(super) fn total_pages(manifest: &GroupManifest) -> Option<u64> {
    manifest.members.iter().try_fold(0u64, |sum, member| sum.checked_add(member.pages))
}

pub(super) fn read_manifest(dir: &Path) -> Result<GroupManifest> {
    let path = dir.join(MANIFEST);
    let open = File::open(&path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            Error::corrupt(path.clone(), 0, "the manifest of a group export", "no such file")
        }
        _ => Error::io("open", path.clone(), error),
    })?;
    let mut bytes = Vec::new();
    let read = open.take(BYTES_MAX as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| Error::io("read", path.clone(), error))?;
    if bytes.len() > BYTES_MAX {
        return Err(Error::corrupt(path, BYTES_MAX as u64, "the manifest's end", "more bytes"));
    }
    GroupManifest::decode(&bytes).map_err(|flaw| flaw.into_error(path, 0))
}

/// Has `work` read a member's stream, and holds what it was against the manifest.
pub(super) fn with_member<T>(
    dir: &Path,
    manifest: &GroupManifest,
    index: usize,
    work: impl FnOnce(&mut dyn Read) -> Result<T>,
) -> Result<T> {
    let (record, path) = (&manifest.members[index], dir.join(member_file(index)));
    let file = File::open(&path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Error::corrupt(path.clone(), 0, "the stream of a member", "no such file"),
        _ => Error::io("open", path.clone(), error),
    })?;
    let mut hashed = Hashed::new(BufReader::with_capacity(BUFFER_BYTES, file));
    // A reader of streams can't know which of the files it is.
    let done = work(&mut hashed).map_err(|error| match error {
        Error::BadStream { offset, expected, found } => Error::corrupt(path.clone(), offset, expected, found),
        error => error,
    })?;
    let (_, bytes, digest) = hashed.finish();
    if (bytes, digest) != (record.bytes, record.digest) {
        let expected = format!("{} bytes with digest {:032x}", record.bytes, record.digest);
        return Err(Error::corrupt(path, 0, expected, format!("{bytes} bytes with digest {digest:032x}")));
    }
    Ok(done)
}

/// Counts and digests what passes.
struct Hashed<T> {
    inner: T,
    bytes: u64,
    digest: Xxh3,
}

impl<T> Hashed<T> {
    fn new(inner: T) -> Hashed<T> {
        Hashed { inner, bytes: 0, digest: Xxh3::new() }
    }

    fn passed(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.digest.update(bytes);
    }

    fn finish(self) -> (T, u64, u128) {
        let digest = self.digest.digest128();
        (self.inner, self.bytes, digest)
    }
}

impl<T: Write> Write for Hashed<T> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.passed(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Read> Read for Hashed<T> {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(bytes)?;
        self.passed(&bytes[..read]);
        Ok(read)
    }
}
