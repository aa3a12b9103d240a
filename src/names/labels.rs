//! What can be said of a named snapshot, and which names are fit to be written.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::core::now_ms;
use crate::error::{Error, Result};
use crate::format::names::{NAME_BYTES_MAX, NameInfo};

/// Most bytes of all labels of a snapshot.
const LABEL_BYTES_MAX: usize = 512;
/// Most labels of a snapshot.
const LABELS_MAX: usize = 16;

/// What is said of a named snapshot beside its name: labels, and when it expires.
///
/// ```
/// use std::time::Duration;
/// use vellum::Naming;
/// let naming = Naming::new().label("schedule", "hourly").expires_in(Duration::from_secs(48 * 3600));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Naming {
    labels: BTreeMap<String, String>,
    expires_at_ms: Option<u64>,
}

impl Naming {
    /// No labels, no expiry.
    #[must_use]
    pub fn new() -> Naming {
        Naming::default()
    }

    /// Adds a label; a key given twice has the last value. At most 16 labels, of at most 512 bytes in all, keys and values
    /// of at most 255.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Naming {
        self.labels.insert(key.into(), value.into());
        self
    }

    pub(crate) fn has_label(&self, key: &str) -> bool {
        self.labels.contains_key(key)
    }

    /// From so long after now on, retention may drop the snapshot. Nothing drops it by itself.
    #[must_use]
    pub fn expires_in(mut self, time: Duration) -> Naming {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.expires_at_ms = Some(now_ms().saturating_add(millis));
        self
    }

    /// From this time on, retention may drop the snapshot. Nothing drops it by itself.
    #[must_use]
    pub fn expires_at(mut self, time: SystemTime) -> Naming {
        self.expires_at_ms = Some(millis_of(time));
        self
    }

    pub(crate) fn info(self) -> Result<NameInfo> {
        let labels: Vec<(String, String)> = self.labels.into_iter().collect();
        let bytes: usize = labels.iter().map(|(key, value)| key.len() + value.len()).sum();
        if bytes > LABEL_BYTES_MAX || labels.len() > LABELS_MAX {
            let expected = format!("at most {LABELS_MAX} of {LABEL_BYTES_MAX} bytes in all are kept");
            return Err(Error::InvalidName {
                what: "the labels",
                value: format!("{} labels of {bytes} bytes", labels.len()),
                expected,
            });
        }
        for (key, value) in &labels {
            check_name("a label's key", key)?;
            if !value.is_empty() {
                check_name("a label's value", value)?;
            }
        }
        Ok(NameInfo { labels, expires_at_ms: self.expires_at_ms })
    }
}

pub(crate) fn millis_of(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A time that was kept as milliseconds since 1970; `None` where the clock can't name it.
pub(crate) fn time_of(millis: u64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_millis(millis))
}

/// Refuses what can't be kept as a name or shown on a line.
pub(crate) fn check_name(what: &'static str, value: &str) -> Result<()> {
    let is_fit = !value.is_empty()
        && value.len() <= NAME_BYTES_MAX
        && !value.chars().any(char::is_control)
        && value.trim() == value;
    match is_fit {
        true => Ok(()),
        false => Err(Error::InvalidName {
            what,
            value: value.chars().take(NAME_BYTES_MAX).collect(),
            expected: format!(
                "1 to {NAME_BYTES_MAX} bytes are, without control characters or space at the ends"
            ),
        }),
    }
}
