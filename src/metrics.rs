//! A store's numbers through the `metrics` facade, for whatever exporter the application has installed.

use crate::stats::Stats;

/// What a number becomes.
enum Kind {
    Counter(u64),
    Gauge(u64),
}

impl Stats {
    /// Hands the numbers to the recorder that the application has installed for the `metrics` facade, each with the label
    /// `store`. Without a recorder nothing happens. Call it as often as numbers are wanted, from any thread.
    ///
    /// Counters: `vellum_batches_total`, `vellum_transactions_total`, `vellum_refused_total`, `vellum_conflicts_total`,
    /// `vellum_pages_written_total`, `vellum_appended_bytes_total`, `vellum_prepared_bytes_total`,
    /// `vellum_packed_bytes_total`, `vellum_syncs_total`, `vellum_checkpoints_total`, `vellum_maintenance_failures_total`,
    /// `vellum_verified_bytes_total`, `vellum_table_reads_total`, `vellum_table_evictions_total`. Gauges: `vellum_version`, `vellum_durable_version`, `vellum_page_count`,
    /// `vellum_live_pages`, `vellum_segments`, `vellum_free_segments`, `vellum_packed_segments`, `vellum_disk_bytes`,
    /// `vellum_live_bytes`, `vellum_allocated_bytes`, `vellum_retained_bytes`, `vellum_pins`, `vellum_log_bytes`,
    /// `vellum_table_memory_bytes`, `vellum_limbo_bytes`, `vellum_checkpoint_age_ms`, and for `vellum_sync_micros` and
    /// `vellum_group_size` each `_p50`, `_p99`.
    ///
    /// ```
    /// # fn main() -> vellum::Result<()> {
    /// use vellum::{Options, Store};
    /// let store = Store::in_memory(Options::new())?;
    /// store.stats().publish_metrics("sessions");
    /// # Ok(()) }
    /// ```
    pub fn publish_metrics(&self, store: &str) {
        for (name, kind) in self.named() {
            match kind {
                Kind::Counter(value) => metrics::counter!(name, "store" => store.to_owned()).absolute(value),
                #[expect(clippy::cast_precision_loss, reason = "the facade's gauges are floats")]
                Kind::Gauge(value) => metrics::gauge!(name, "store" => store.to_owned()).set(value as f64),
            }
        }
    }

    fn named(&self) -> [(&'static str, Kind); 34] {
        use Kind::{Counter, Gauge};
        [
            ("vellum_batches_total", Counter(self.batches)),
            ("vellum_transactions_total", Counter(self.transactions)),
            ("vellum_refused_total", Counter(self.transactions_refused)),
            ("vellum_conflicts_total", Counter(self.conflicts)),
            ("vellum_pages_written_total", Counter(self.pages_written)),
            ("vellum_appended_bytes_total", Counter(self.appended_bytes)),
            ("vellum_prepared_bytes_total", Counter(self.prepared_bytes)),
            ("vellum_packed_bytes_total", Counter(self.packed_bytes)),
            ("vellum_syncs_total", Counter(self.syncs)),
            ("vellum_checkpoints_total", Counter(self.checkpoints)),
            ("vellum_maintenance_failures_total", Counter(self.maintenance_failures)),
            ("vellum_verified_bytes_total", Counter(self.verified_bytes)),
            ("vellum_table_reads_total", Counter(self.table_reads)),
            ("vellum_table_evictions_total", Counter(self.table_evictions)),
            ("vellum_version", Gauge(self.version.get())),
            ("vellum_durable_version", Gauge(self.durable_version.get())),
            ("vellum_page_count", Gauge(self.page_count)),
            ("vellum_live_pages", Gauge(self.live_pages)),
            ("vellum_segments", Gauge(self.segments)),
            ("vellum_free_segments", Gauge(self.free_segments)),
            ("vellum_packed_segments", Gauge(self.packed_segments)),
            ("vellum_disk_bytes", Gauge(self.disk_bytes)),
            ("vellum_live_bytes", Gauge(self.live_bytes)),
            ("vellum_allocated_bytes", Gauge(self.allocated_bytes)),
            ("vellum_retained_bytes", Gauge(self.retained_bytes())),
            ("vellum_pins", Gauge(self.pins)),
            ("vellum_log_bytes", Gauge(self.log_bytes)),
            ("vellum_table_memory_bytes", Gauge(self.table_memory_bytes)),
            ("vellum_limbo_bytes", Gauge(self.limbo_bytes)),
            ("vellum_checkpoint_age_ms", Gauge(self.checkpoint_age_ms)),
            ("vellum_sync_micros_p50", Gauge(self.sync_micros.percentile(50))),
            ("vellum_sync_micros_p99", Gauge(self.sync_micros.percentile(99))),
            ("vellum_group_size_p50", Gauge(self.group_sizes.percentile(50))),
            ("vellum_group_size_p99", Gauge(self.group_sizes.percentile(99))),
        ]
    }
}
