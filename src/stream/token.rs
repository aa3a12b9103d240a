//! Exports that can be cut and gone on with: a token says what is exported and how, and holds it in the store.
//!
//! The token is a hold of its own kind: the version, and the delta's base if that is a snapshot, stay in the store, over restarts, until
//! the export is ended or the token expires. Together with a [`ResumePoint`] it determines every further byte: pages come in the order
//! of their ids, records break where the bytes before them say, and the token keeps the options, the salt and the version of zstd.

use std::fmt;
use std::io::Write;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use super::StreamSummary;
use super::codec;
use super::delta::DeltaBase;
use super::options::ExportOptions;
use super::point::ResumePoint;
use super::printed;
use super::seal::{Salt, draw_salt};
use super::write::Plan;
use crate::error::{Error, Result};
use crate::format::bytes::{Reader, Writer};
use crate::format::names::{BookmarkRecord, HoldRecord};
use crate::format::stream::{BaseState, Coding, SALT_BYTES};
use crate::id::{Fingerprint, StoreId, Version};
use crate::names::{Bookmark, time_of};
use crate::progress::Observer;
use crate::snapshot::Snapshot;
use crate::store::Store;

const NAME: &str = "vellum-export";
/// Rises when this build would write other bytes for the same token.
const REVISION: u16 = 1;

/// What a delta begins at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TokenBase {
    state: BaseState,
    is_bookmark: bool,
}

/// An export that was begun with [`Snapshot::begin_export`]. It is printed as one word, and read from one; it holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportToken {
    id: u128,
    store_id: StoreId,
    version: Version,
    base: Option<TokenBase>,
    coding: Coding,
    salt: Option<Salt>,
    /// Of zstd, if the stream is compressed.
    codec_revision: u32,
    expires_at_ms: u64,
}

impl ExportToken {
    /// The version that is exported.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The version that a delta begins at.
    pub fn base_version(&self) -> Option<Version> {
        self.base.map(|base| base.state.version)
    }

    /// The store that gave the token.
    pub fn store_id(&self) -> StoreId {
        self.store_id
    }

    /// From when on the token is refused, and no longer holds anything.
    pub fn expires_at(&self) -> SystemTime {
        time_of(self.expires_at_ms).unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// The owner of the token's holds, as [`Store::snapshots`] tells of them.
    pub fn owner(&self) -> String {
        format!("export {:032x}", self.id)
    }
}

impl fmt::Display for ExportToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Writer::default();
        out.u16(REVISION);
        out.u128(self.id);
        out.u128(self.store_id.0);
        out.u64(self.version.0);
        out.u8(self.base.map_or(0, |base| if base.is_bookmark { 2 } else { 1 }));
        out.u64(self.base.map_or(0, |base| base.state.version.0));
        out.u128(self.base.map_or(0, |base| base.state.fingerprint.0));
        out.u8(self.coding.codec);
        out.u8(self.coding.cipher);
        out.raw(&self.coding.level.to_le_bytes());
        out.u64(self.coding.mark_bytes);
        out.raw(&self.salt.unwrap_or_default());
        out.u32(self.codec_revision);
        out.u64(self.expires_at_ms);
        printed::print(NAME, &out.bytes, f)
    }
}

impl FromStr for ExportToken {
    type Err = Error;

    fn from_str(word: &str) -> Result<ExportToken> {
        let bytes = printed::parse(NAME, word)?;
        let mut reader = Reader::new(&bytes);
        let revision = reader.u16().unwrap_or(0);
        if revision != REVISION {
            return Err(other_revision(format!("revision {revision}")));
        }
        let mut read = || {
            let (id, store_id, version) = (reader.u128()?, StoreId(reader.u128()?), Version(reader.u64()?));
            let kind = reader.u8()?;
            let state =
                BaseState { version: Version(reader.u64()?), fingerprint: Fingerprint(reader.u128()?) };
            let (codec, cipher) = (reader.u8()?, reader.u8()?);
            let level = i32::from_le_bytes(reader.raw(4)?.try_into().ok()?);
            let mark_bytes = reader.u64()?;
            let salt: Salt = reader.raw(SALT_BYTES)?.try_into().ok()?;
            Some(ExportToken {
                id,
                store_id,
                version,
                base: (kind > 0).then_some(TokenBase { state, is_bookmark: kind == 2 }),
                coding: Coding { codec, level, cipher, is_chained: true, mark_bytes },
                salt: (cipher != 0).then_some(salt),
                codec_revision: reader.u32()?,
                expires_at_ms: reader.u64()?,
            })
        };
        read().ok_or_else(|| Error::BadToken { expected: NAME, found: "a shorter one".to_owned() })
    }
}

fn other_revision(found: String) -> Error {
    let supported = format!("revision {REVISION} with zstd {}", codec::revision());
    Error::Unsupported { what: "the export token".to_owned(), found, supported }
}

impl Snapshot {
    /// Begins an export that may be cut and gone on with: of the whole snapshot, or of what changed since `base`. The snapshot (and the
    /// base, if it is one) is held durably until [`Store::end_export`], or until `expires_in` has passed: under its name, or, if it has
    /// none, under one of its own that goes with the hold. Nothing is written yet: that is [`Store::run_export`].
    ///
    /// Costs a durable commit, or for a snapshot without a name two checkpoints.
    ///
    /// ```
    /// # fn main() -> vellum::Result<()> {
    /// use std::time::Duration;
    /// use vellum::{ExportOptions, ExportToken, ImportOptions, Options, Store, resume_point};
    /// let store = Store::in_memory(Options::new())?;
    /// let mut txn = store.begin()?;
    /// txn.truncate(100)?;
    /// for id in 0..100 {
    ///     txn.write(vellum::PageId(id), &[7; 4096])?;
    /// }
    /// txn.commit()?;
    /// let options = ExportOptions::new().mark_every(64 << 10);
    /// let token = store.snapshot().begin_export(None, &options, Duration::from_secs(24 * 3600))?;
    /// let word = token.to_string();
    ///
    /// // The line breaks.
    /// let mut arrived = Vec::new();
    /// store.run_export(&token, None, &mut arrived, &options, &mut ())?;
    /// arrived.truncate(300_000);
    ///
    /// // Later, and perhaps after a restart: from the last mark that arrived.
    /// let token: ExportToken = word.parse()?;
    /// let point = resume_point(&mut &arrived[..], &ImportOptions::new(), &mut ())?.expect("a mark in 300,000 bytes");
    /// arrived.truncate(point.offset() as usize);
    /// store.run_export(&token, Some(&point), &mut arrived, &options, &mut ())?;
    /// store.end_export(&token)?;
    /// vellum::verify_stream(&mut &arrived[..], &mut ())?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// What [`Snapshot::export_since_as`] refuses, [`Error::SnapshotRevoked`], and what a commit or a checkpoint gives.
    pub fn begin_export(
        &self,
        base: Option<DeltaBase<'_>>,
        options: &ExportOptions,
        expires_in: Duration,
    ) -> Result<ExportToken> {
        if let Some(base) = &base {
            self.check_base(base)?;
        }
        let coding = options.clone().resumable().coding()?;
        let token = ExportToken {
            id: crate::open::random128(),
            store_id: self.core().store_id(),
            version: self.version(),
            base: base.as_ref().map(|base| TokenBase {
                state: base.state(),
                is_bookmark: matches!(base, DeltaBase::Bookmark(_)),
            }),
            coding,
            salt: options.key().map(|_| draw_salt()).transpose()?,
            codec_revision: if coding.codec == 0 { 0 } else { codec::revision() },
            expires_at_ms: self
                .core()
                .clock_ms()
                .saturating_add(u64::try_from(expires_in.as_millis()).unwrap_or(u64::MAX)),
        };
        let hold = HoldRecord { owner: token.owner(), expires_at_ms: Some(token.expires_at_ms) };
        let (core, name) = (self.core(), format!("export-{:032x}", token.id));
        core.hold_version(self, &name, &hold)?;
        if let Some(DeltaBase::Snapshot(base)) = base
            && let Err(error) = core.hold_version(base, &format!("{name}-base"), &hold)
        {
            // If this fails too, the hold expires.
            let _ = core.release_all(&hold.owner);
            return Err(error);
        }
        Ok(token)
    }
}

impl Store {
    /// Writes the stream that the token is for: from its beginning, or from a mark in it on. The bytes are those that an export in one
    /// piece would have. Of `options` only the key and the rate count; the rest is the token's.
    ///
    /// # Errors
    /// [`Error::TokenOfAnotherStore`], [`Error::TokenExpired`], [`Error::TokenUnknown`] after [`Store::end_export`],
    /// [`Error::WrongResumePoint`], [`Error::WrongKey`] without a key, [`Error::Unsupported`] if another version of vellum or of zstd
    /// has begun it and this one can't promise the same bytes, and what [`Snapshot::export_with`] gives.
    pub fn run_export(
        &self,
        token: &ExportToken,
        from: Option<&ResumePoint>,
        w: &mut dyn Write,
        options: &ExportOptions,
        observer: &mut dyn Observer,
    ) -> Result<StreamSummary> {
        let coding = token.coding;
        super::options::check_features(coding.codec, coding.cipher)?;
        if coding.codec != 0 && token.codec_revision != codec::revision() {
            return Err(other_revision(format!("revision {REVISION} with zstd {}", token.codec_revision)));
        }
        let snapshot = self.of_token(token, token.version)?;
        let rate = options.checked_rate()?;
        let plan = Plan { coding, key: options.key(), salt: token.salt, rate, from };
        match token.base {
            None => snapshot.export_full(w, &plan, observer),
            Some(TokenBase { state, is_bookmark: true }) => {
                let (name, created_at_ms) = (token.owner(), 0);
                let BaseState { version, fingerprint } = state;
                let base = Bookmark::new(&BookmarkRecord { name, version, fingerprint, created_at_ms });
                snapshot.export_delta(DeltaBase::Bookmark(&base), w, &plan, observer)
            }
            Some(TokenBase { state, .. }) => {
                let base = self.of_token(token, state.version)?;
                snapshot.export_delta(DeltaBase::Snapshot(&base), w, &plan, observer)
            }
        }
    }

    /// Ends an export that was begun with [`Snapshot::begin_export`], whether or not it is complete: its holds go, and with them the
    /// names that were made for it. (Without the token: [`Store::release_snapshot`] with its owner.)
    ///
    /// # Errors
    /// [`Error::TokenOfAnotherStore`], [`Error::TokenUnknown`] if it was ended before, and what a commit gives.
    pub fn end_export(&self, token: &ExportToken) -> Result<()> {
        self.check_token(token)?;
        match self.core().release_all(&token.owner())? {
            0 => Err(Error::TokenUnknown { id: token.id }),
            _ => Ok(()),
        }
    }

    fn check_token(&self, token: &ExportToken) -> Result<()> {
        let (expected, found) = (token.store_id, self.core().store_id());
        if expected == found { Ok(()) } else { Err(Error::TokenOfAnotherStore { expected, found }) }
    }

    /// A version that the token holds.
    fn of_token(&self, token: &ExportToken, version: Version) -> Result<Snapshot> {
        self.check_token(token)?;
        if token.expires_at_ms <= self.core().clock_ms() {
            return Err(Error::TokenExpired { id: token.id, expired_at: token.expires_at() });
        }
        let unknown = || Error::TokenUnknown { id: token.id };
        self.core().held_version(&token.owner(), version).ok_or_else(unknown)
    }
}
