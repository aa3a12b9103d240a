//! Which options can be.

use super::{Options, PAGE_SIZE, SEGMENT_SIZE};
use crate::error::{Error, Result};
use crate::history::History;

impl Options {
    /// Refuses what can't be honoured, before anything is touched.
    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |option: &'static str, value: u64, expected: &str| {
            Err(Error::InvalidOption { option, value: value.to_string(), expected: expected.to_owned() })
        };
        let page_size = self.page_size.unwrap_or(PAGE_SIZE);
        if !page_size.is_power_of_two() || !(512..=65536).contains(&page_size) {
            return refuse("page_size", page_size.into(), "a power of two from 512 to 65536 is");
        }
        let segment_size = self.segment_size.unwrap_or(SEGMENT_SIZE);
        if !segment_size.is_power_of_two() || !((64 << 10)..=(1 << 30)).contains(&segment_size) {
            return refuse("segment_size", segment_size, "a power of two from 65536 to 1073741824 is");
        }
        if segment_size < 8 * u64::from(page_size) {
            return refuse("segment_size", segment_size, "at least 8 pages is");
        }
        self.history.map_or(Ok(None), History::record)?;
        if self.limbo_bytes < 64 << 10 {
            return refuse("limbo_bytes", self.limbo_bytes, "65536 or more is");
        }
        if self.transaction_memory < u64::from(page_size) {
            return refuse("transaction_memory", self.transaction_memory, "one page or more is");
        }
        if self.checkpoint_bytes < 64 << 10 {
            return refuse("checkpoint_bytes", self.checkpoint_bytes, "65536 or more is");
        }
        if self.table_memory < 1 << 20 {
            return refuse("table_memory", self.table_memory, "1048576 or more is");
        }
        if self.cache_bytes < 1 << 20 {
            return refuse("cache_bytes", self.cache_bytes, "1048576 or more is");
        }
        if !(5..=1000).contains(&self.waste_percent) {
            return refuse("waste_percent", self.waste_percent.into(), "a value from 5 to 1000 is");
        }
        if let Some(rate) = self.pack_rate.filter(|rate| *rate < 1 << 20) {
            return refuse("pack_rate", rate, "1048576 or more is");
        }
        #[cfg(feature = "status")]
        if let Some(every) = self.status_every {
            let value = u64::try_from(every.as_millis()).unwrap_or(u64::MAX);
            if value < 100 {
                return refuse("status_every", value, "100 ms or more is");
            }
            if !self.background {
                return refuse(
                    "status_every",
                    value,
                    "only a store with its own thread (`background`) makes it",
                );
            }
        }
        Ok(())
    }
}
