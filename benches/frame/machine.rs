//! What it was measured on, for the programs that measure vellum alone and for the one that measures it beside its peers.

use std::path::Path;

fn unknown() -> String {
    "unknown".to_owned()
}

fn read(path: &str) -> Option<String> {
    Some(std::fs::read_to_string(path).ok()?.trim().to_owned())
}

pub(crate) fn cpu() -> String {
    let name = |text: String| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    read("/proc/cpuinfo").and_then(name).unwrap_or_else(unknown)
}

pub(crate) fn kernel() -> String {
    read("/proc/sys/kernel/osrelease").map_or_else(unknown, |release| format!("Linux {release}"))
}

/// The type of the mount that holds `dir`: the one with the longest path above it.
pub(crate) fn file_system(dir: &Path) -> String {
    let find = || {
        let (dir, mounts) = (dir.canonicalize().ok()?, read("/proc/mounts")?);
        let fields = mounts.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        fields
            .filter(|fields| fields.len() > 2 && dir.starts_with(fields[1]))
            .max_by_key(|fields| fields[1].len())
            .map(|fields| fields[2].to_owned())
    };
    find().unwrap_or_else(unknown)
}
