//! The lines that a run leaves: what it ran on, who took part, and one for each figure of each peer.

use serde::{Deserialize, Serialize};

use crate::measure::Summary;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Line {
    Run(Run),
    Peer(Peer),
    Figure(Figure),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) pages: u64,
    pub(crate) page_bytes: usize,
    pub(crate) rounds: u32,
    pub(crate) millis: u64,
    pub(crate) memory_mib: Option<u64>,
    /// Peers that were measured in turn beside the floor and vellum.
    #[serde(default)]
    pub(crate) together: Option<u32>,
    pub(crate) cores: usize,
    pub(crate) cpu: String,
    pub(crate) kernel: String,
    pub(crate) file_system: String,
    /// Whether what is written was counted by the device, and not by the system for the process.
    #[serde(default)]
    pub(crate) is_written_of_device: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) settings: String,
    pub(crate) is_floor: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Figure {
    /// The same in every run: `durable-1-8/commits_per_s`.
    pub(crate) id: String,
    pub(crate) group: String,
    /// For people.
    pub(crate) title: String,
    pub(crate) unit: String,
    pub(crate) better: Better,
    pub(crate) peer: String,
    /// Those of one heat took turns with each other.
    #[serde(default)]
    pub(crate) heat: u32,
    /// Absent where the peer has no such thing, or failed: `note` says which.
    #[serde(flatten)]
    pub(crate) value: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) note: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Value {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) samples: Vec<f64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Better {
    More,
    Less,
}

impl Value {
    pub(crate) fn of(samples: Vec<f64>) -> Option<Value> {
        let Summary { median, min, max } = Summary::of(&samples)?;
        Some(Value { median, min, max, samples })
    }
}

impl Better {
    /// How many times better `ours` is than `theirs`.
    pub(crate) fn ratio(self, ours: f64, theirs: f64) -> f64 {
        match self {
            Better::More => ours / theirs,
            Better::Less => theirs / ours,
        }
    }
}

/// Three digits that count, and no more.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        0.0..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        100.0..10_000.0 => format!("{value:.0}"),
        10_000.0..1e6 => format!("{:.1}k", value / 1e3),
        _ => format!("{:.2}M", value / 1e6),
    }
}
