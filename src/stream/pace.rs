//! Keeping to a rate: a stream that leaves the disk, or the line, to others.

use std::io::{self, IoSlice, Read, Write};
use std::time::{Duration, Instant};

/// Pieces a second: how evenly the bytes are spread.
const PIECES: u64 = 20;

/// Passes bytes on at a rate, if there is one.
pub(super) struct Paced<T> {
    inner: T,
    rate: Option<u64>,
    /// When the next byte may pass. Time in which nobody came isn't made up for.
    next: Instant,
}

impl<T> Paced<T> {
    pub(super) fn new(inner: T, rate: Option<u64>) -> Paced<T> {
        Paced { inner, rate, next: Instant::now() }
    }

    /// Waits until bytes may pass, and says how many of `len` at once.
    fn wait(&self, len: usize) -> usize {
        let Some(rate) = self.rate else { return len };
        std::thread::sleep(self.next.saturating_duration_since(Instant::now()));
        len.min(usize::try_from(rate / PIECES).unwrap_or(usize::MAX))
    }

    fn passed(&mut self, len: usize) {
        if let Some(rate) = self.rate {
            let nanos = (len as u64).saturating_mul(1_000_000_000) / rate;
            self.next = self.next.max(Instant::now()) + Duration::from_nanos(nanos);
        }
    }
}

impl<T: Write> Write for Paced<T> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let len = self.wait(buf.len());
        let written = self.inner.write(&buf[..len])?;
        self.passed(written);
        Ok(written)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.rate.is_none() {
            return self.inner.write_vectored(bufs);
        }
        let first = bufs.iter().find(|buf| !buf.is_empty());
        first.map_or(Ok(0), |buf| self.write(buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Read> Read for Paced<T> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.wait(buf.len());
        let read = self.inner.read(&mut buf[..len])?;
        self.passed(read);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_take_their_time_and_arrive() {
        let mut out = Vec::new();
        let begun = Instant::now();
        let mut paced = Paced::new(&mut out, Some(10 << 20));
        let bytes: Vec<u8> = (0..3u32 << 20).map(|index| index.to_le_bytes()[0]).collect();
        paced.write_all(&bytes).unwrap();
        // What a rate promises is a least time, and no machine is too fast for that.
        assert!(begun.elapsed() >= Duration::from_millis(200));
        assert!(out == bytes);
        let mut back = Vec::new();
        Paced::new(&out[..], Some(100 << 20)).read_to_end(&mut back).unwrap();
        assert!(back == bytes);
    }
}
