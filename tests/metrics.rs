//! Goal: what `publish_metrics` hands to the application's recorder is what `stats` says, under the promised names.
//!
//! Method: a recorder of the test's own, installed for one thread, that keeps the last value of each name and label.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use metrics::{Counter, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use vellum::{Options, PageId, Store};

type Values = Mutex<BTreeMap<(String, String), Arc<AtomicU64>>>;

#[derive(Default)]
struct Kept {
    counters: Values,
    gauges: Values,
}

fn cell(values: &Values, key: &Key) -> Arc<AtomicU64> {
    let labels: Vec<String> =
        key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
    let label = labels.join(",");
    values.lock().unwrap().entry((key.name().to_owned(), label)).or_default().clone()
}

/// Gauges are floats; these ones are whole numbers.
struct Whole(Arc<AtomicU64>);

impl GaugeFn for Whole {
    fn increment(&self, _: f64) {
        unreachable!("vellum sets gauges")
    }

    fn decrement(&self, _: f64) {
        unreachable!("vellum sets gauges")
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole numbers")]
    fn set(&self, value: f64) {
        self.0.store(value as u64, Ordering::Relaxed);
    }
}

impl Recorder for Kept {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(cell(&self.counters, key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::new(Whole(cell(&self.gauges, key))))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        unreachable!("vellum publishes percentiles as gauges")
    }
}

#[test]
fn what_is_published_is_what_stats_says() {
    let store = Store::in_memory(Options::new().background(false)).unwrap();
    let write = |value| {
        let mut txn = store.begin().unwrap();
        txn.truncate(2).unwrap();
        txn.write(PageId(1), &[value; 4096]).unwrap();
        txn
    };
    write(1).commit().unwrap();
    let late = write(2);
    write(3).commit().unwrap();
    assert!(late.commit().is_err(), "a conflict");

    let kept = Kept::default();
    let stats = store.stats();
    metrics::with_local_recorder(&kept, || {
        stats.publish_metrics("one");
        stats.publish_metrics("two");
    });
    let told = |values: &Values, name: &str, store: &str| {
        let values = values.lock().unwrap();
        let value = values.get(&(name.to_owned(), format!("store={store}")));
        value.unwrap_or_else(|| panic!("{name} of {store} was not told")).load(Ordering::Relaxed)
    };
    for store in ["one", "two"] {
        let counter = |name| told(&kept.counters, name, store);
        let gauge = |name| told(&kept.gauges, name, store);
        assert_eq!((counter("vellum_transactions_total"), counter("vellum_conflicts_total")), (2, 1));
        assert_eq!(counter("vellum_pages_written_total"), 2);
        assert_eq!(counter("vellum_appended_bytes_total"), stats.appended_bytes);
        assert_eq!((gauge("vellum_version"), gauge("vellum_live_pages")), (2, 1));
        assert_eq!(gauge("vellum_disk_bytes"), stats.disk_bytes);
        assert_eq!(gauge("vellum_sync_micros_p99"), stats.sync_micros.percentile(99));
        assert_eq!(gauge("vellum_group_size_p50"), 1);
    }
    let all = kept.counters.lock().unwrap().len() + kept.gauges.lock().unwrap().len();
    assert_eq!(all, 2 * 34);
}
