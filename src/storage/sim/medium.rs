//! One simulated file: what everybody sees of it, and what the disk would still have after a power cut.
//!
//! The visible bytes are kept whole; of the durable ones only where they differ. A sector that was written since the
//! last sync remembers what the disk holds for it, and what it held in between, for a kernel may write a page back at
//! any moment, and between any two writes to it. Each of these versions has a serial number, in the order of writing
//! over the whole disk: so a power cut can lose any sector by itself, or everything after a moment.

use std::collections::BTreeMap;
use std::io;

use super::fault::Rng;
use crate::storage::Mapping;
use crate::storage::buffer::Contents;

/// What a disk writes as a whole.
pub(super) const SECTOR_BYTES: usize = 512;
/// How many versions between the durable and the visible one are remembered for a sector.
const BETWEEN_MAX: usize = 3;

type Sector = [u8; SECTOR_BYTES];

/// Gives out serial numbers, rising with every change of anything on the disk.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Clock(u64);

impl Clock {
    pub(super) fn tick(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }

    pub(super) fn now(self) -> u64 {
        self.0
    }
}

/// Decides which unsynced changes a power cut spares.
#[derive(Debug)]
pub(super) enum Judge {
    /// None of them.
    Nothing,
    /// All of them.
    Everything,
    /// Those up to a serial number.
    Until(u64),
    /// Each by itself, so many out of eight.
    Each(Rng, u64),
    /// Those with these serial numbers, in rising order.
    Chosen(Vec<u64>),
}

impl Judge {
    pub(super) fn spares(&mut self, serial: u64) -> bool {
        match self {
            Judge::Nothing => false,
            Judge::Everything => true,
            Judge::Until(last) => serial <= *last,
            Judge::Each(rng, eighths) => rng.chance(*eighths),
            Judge::Chosen(serials) => serials.binary_search(&serial).is_ok(),
        }
    }
}

/// A sector whose visible bytes are not known to be durable.
#[derive(Debug, Clone)]
struct Unsynced {
    durable: Box<Sector>,
    /// Versions after the durable and before the visible one, oldest first.
    between: Vec<(u64, Box<Sector>)>,
    /// When the visible bytes were written.
    serial: u64,
}

/// A file's visible and durable bytes.
#[derive(Debug)]
pub(super) struct Medium {
    contents: Contents,
    unsynced: BTreeMap<u64, Unsynced>,
    /// What the disk holds where a failed sync left the kernel believing that it holds the visible bytes.
    lost: BTreeMap<u64, Box<Sector>>,
    durable_len: u64,
    /// The lengths set since the last sync, oldest first; the last one is the visible length.
    unsynced_lens: Vec<(u64, u64)>,
}

impl Medium {
    /// A file of `len` zero bytes, of which the disk knows nothing yet.
    pub(super) fn new(len: u64, clock: &mut Clock) -> io::Result<Medium> {
        let mut medium = Medium::durable(Contents::new(len)?);
        if len > 0 {
            medium.durable_len = 0;
            medium.unsynced_lens.push((clock.tick(), len));
        }
        Ok(medium)
    }

    /// A file whose visible bytes are the durable ones.
    pub(super) fn durable(contents: Contents) -> Medium {
        Medium {
            durable_len: contents.len(),
            contents,
            unsynced: BTreeMap::new(),
            lost: BTreeMap::new(),
            unsynced_lens: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.contents.len()
    }

    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.contents.read(buf, offset)
    }

    pub(super) fn map(&self, len: usize) -> io::Result<Mapping> {
        self.contents.map(len)
    }

    /// Writes those sectors' worth of `bytes` that `keep` keeps.
    pub(super) fn write(
        &mut self,
        bytes: &[u8],
        offset: u64,
        clock: &mut Clock,
        mut keep: impl FnMut() -> bool,
    ) -> io::Result<()> {
        if offset.checked_add(bytes.len() as u64).is_none() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut pieces = pieces(bytes, offset);
        pieces.retain(|_| keep());
        let end = pieces.last().map_or(0, |(at, piece)| at + piece.len() as u64);
        if end > self.len() {
            self.set_len(end, clock)?;
        }
        for (at, piece) in pieces {
            let index = at / SECTOR_BYTES as u64;
            let old = self.sector(index);
            let mut new = old.clone();
            let start = place_in_sector(at);
            new[start..start + piece.len()].copy_from_slice(piece);
            // The same bytes again are no change, except where the disk lacks them and now gets a second chance.
            if new != old || self.lost.contains_key(&index) {
                self.mark(index, old, clock.tick());
                self.contents.write(piece, at)?;
            }
        }
        Ok(())
    }

    pub(super) fn set_len(&mut self, len: u64, clock: &mut Clock) -> io::Result<()> {
        if len == self.len() {
            return Ok(());
        }
        // Bytes that are cut off still lie on the disk until the new length is durable.
        let first = len.min(self.len()) / SECTOR_BYTES as u64;
        let end = if len < self.len() { self.len().div_ceil(SECTOR_BYTES as u64) } else { first };
        let cut: Vec<_> = (first..end)
            .map(|index| (index, self.sector(index)))
            .filter(|(_, old)| has_bytes(&**old))
            .collect();
        self.contents.set_len(len)?;
        let serial = clock.tick();
        for (index, old) in cut {
            self.mark(index, old, serial);
        }
        self.unsynced_lens.push((serial, len));
        Ok(())
    }

    /// Makes everything visible durable, but for what a failed sync has lost.
    pub(super) fn sync(&mut self) {
        self.unsynced.clear();
        self.unsynced_lens.clear();
        self.durable_len = self.len();
    }

    /// Makes some sectors durable and loses the others, at least one; the length stays unsynced.
    pub(super) fn fail_sync(&mut self, rng: &mut Rng) {
        let surely_lost = rng.index(self.unsynced.len());
        for (position, (index, sector)) in std::mem::take(&mut self.unsynced).into_iter().enumerate() {
            if position == surely_lost || rng.chance(6) {
                self.lost.insert(index, sector.durable);
            }
        }
    }

    /// Changes bytes behind everybody's back, on the disk and in what is seen of it.
    pub(super) fn corrupt(&mut self, offset: u64, mask: u8) -> io::Result<()> {
        let mut byte = [0];
        self.contents.read(&mut byte, offset)?;
        self.contents.write(&[byte[0] ^ mask], offset)?;
        let index = offset / SECTOR_BYTES as u64;
        let place = place_in_sector(offset);
        if let Some(unsynced) = self.unsynced.get_mut(&index) {
            unsynced.durable[place] ^= mask;
            unsynced.between.iter_mut().for_each(|(_, sector)| sector[place] ^= mask);
        }
        if let Some(lost) = self.lost.get_mut(&index) {
            lost[place] ^= mask;
        }
        Ok(())
    }

    /// Sets the length as if it had always been so.
    pub(super) fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.contents.set_len(len)?;
        self.unsynced_lens.clear();
        self.durable_len = len;
        let (boundary, within) = (len / SECTOR_BYTES as u64, place_in_sector(len));
        self.unsynced.retain(|index, _| *index <= boundary);
        self.lost.retain(|index, _| *index <= boundary);
        let unsynced = self.unsynced.get_mut(&boundary).into_iter().flat_map(|sector| {
            std::iter::once(&mut sector.durable).chain(sector.between.iter_mut().map(|(_, bytes)| bytes))
        });
        unsynced.chain(self.lost.get_mut(&boundary)).for_each(|bytes| bytes[within..].fill(0));
        Ok(())
    }

    /// An independent file in the same state.
    pub(super) fn copy(&self) -> io::Result<Medium> {
        Ok(Medium {
            contents: self.contents.copy(self.len())?,
            unsynced: self.unsynced.clone(),
            lost: self.lost.clone(),
            durable_len: self.durable_len,
            unsynced_lens: self.unsynced_lens.clone(),
        })
    }

    /// What is there after a power cut.
    pub(super) fn after_power_cut(&self, judge: &mut Judge) -> io::Result<Medium> {
        let mut lens = self.unsynced_lens.iter().rev();
        let len = lens.find(|(serial, _)| judge.spares(*serial)).map_or(self.durable_len, |(_, len)| *len);
        let mut contents = self.contents.copy(len)?;
        let survivors = self.unsynced.iter().filter_map(|(index, sector)| {
            if judge.spares(sector.serial) {
                return None;
            }
            let mut between = sector.between.iter().rev();
            let spared = between.find(|(serial, _)| judge.spares(*serial));
            Some((index, spared.map_or(&sector.durable, |(_, bytes)| bytes)))
        });
        for (index, bytes) in survivors.chain(&self.lost) {
            let start = index * SECTOR_BYTES as u64;
            let within = bytes_of_sector(*index, len);
            contents.write(&bytes[..within], start)?;
        }
        Ok(Medium::durable(contents))
    }

    /// The serial numbers of all changes that a power cut may lose.
    pub(super) fn unsynced_serials(&self) -> impl Iterator<Item = u64> {
        let sectors = self.unsynced.values().flat_map(|sector| {
            sector.between.iter().map(|(serial, _)| *serial).chain(std::iter::once(sector.serial))
        });
        sectors.chain(self.unsynced_lens.iter().map(|(serial, _)| *serial))
    }

    /// How many sectors a failed sync has lost.
    pub(super) fn lost_sectors(&self) -> usize {
        self.lost.len()
    }

    /// Takes note that a sector, whose visible bytes were `old`, is written.
    fn mark(&mut self, index: u64, old: Box<Sector>, serial: u64) {
        if let Some(sector) = self.unsynced.get_mut(&index) {
            if sector.between.len() == BETWEEN_MAX {
                sector.between.remove(0);
            }
            sector.between.push((sector.serial, old));
            sector.serial = serial;
        } else {
            let durable = self.lost.remove(&index).unwrap_or(old);
            self.unsynced.insert(index, Unsynced { durable, between: Vec::new(), serial });
        }
    }

    /// A sector's visible bytes; zeros beyond the end.
    fn sector(&self, index: u64) -> Box<Sector> {
        let mut bytes = Box::new([0; SECTOR_BYTES]);
        let start = index.saturating_mul(SECTOR_BYTES as u64);
        let within = bytes_of_sector(index, self.len());
        // The range was just cut to the length, so there is nothing that could fail.
        self.contents.read(&mut bytes[..within], start).ok();
        bytes
    }
}

/// Where in its sector a byte of the file lies.
fn place_in_sector(offset: u64) -> usize {
    usize::try_from(offset % SECTOR_BYTES as u64).expect("less than a sector")
}

/// How much of a sector lies within a file of length `len`.
fn bytes_of_sector(index: u64, len: u64) -> usize {
    let rest = len.saturating_sub(index.saturating_mul(SECTOR_BYTES as u64));
    usize::try_from(rest.min(SECTOR_BYTES as u64)).expect("at most a sector")
}

fn has_bytes(bytes: &[u8]) -> bool {
    bytes.iter().any(|byte| *byte != 0)
}

/// `bytes` cut where sectors begin, each piece with its offset.
fn pieces(bytes: &[u8], offset: u64) -> Vec<(u64, &[u8])> {
    let mut pieces = Vec::with_capacity(bytes.len() / SECTOR_BYTES + 2);
    let (mut at, mut rest) = (offset, bytes);
    while !rest.is_empty() {
        let room = SECTOR_BYTES - place_in_sector(at);
        let (piece, after) = rest.split_at(room.min(rest.len()));
        pieces.push((at, piece));
        at += piece.len() as u64;
        rest = after;
    }
    pieces
}
