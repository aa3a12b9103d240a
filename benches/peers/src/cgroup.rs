//! A limit on memory, page cache and all: a control group for each peer, in version 1 or 2 of the system's interface.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::Result;

static LIMIT: OnceLock<u64> = OnceLock::new();

/// The limit that this process was started under, if any.
pub(crate) fn limit_of_this_process() -> Option<u64> {
    LIMIT.get().copied()
}

/// Puts this process into `group`, which holds it to `bytes`.
pub(crate) fn enter(group: &Path, bytes: u64) -> Result {
    LIMIT.set(bytes).map_err(|_| "a process enters one group")?;
    fs::write(group.join("cgroup.procs"), std::process::id().to_string())
        .map_err(|error| format!("can't enter the control group {}: {error}", group.display()).into())
}

/// A group that goes when it is dropped.
pub(crate) struct Group(PathBuf);

impl Group {
    pub(crate) fn create(name: &str, bytes: u64) -> Result<Group> {
        let (root, file) = root()?;
        let path = root.join(format!("vellum-peers-{}-{name}", std::process::id()));
        let refuse = |error: std::io::Error| {
            format!(
                "--memory needs the right to make control groups, and {} was refused: {error}",
                path.display()
            )
        };
        fs::create_dir(&path).map_err(refuse)?;
        let group = Group(path.clone());
        fs::write(path.join(file), bytes.to_string()).map_err(refuse)?;
        Ok(group)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Can't be done while a process is in it; then the group stays, empty soon, and harms nobody.
        let _ = fs::remove_dir(&self.0);
    }
}

/// Where groups for memory are made, and the file that holds the limit.
fn root() -> Result<(PathBuf, &'static str)> {
    let mounts = fs::read_to_string("/proc/mounts")?;
    for fields in mounts.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()) {
        let [_, path, kind, options, ..] = fields[..] else { continue };
        if kind == "cgroup" && options.split(',').any(|option| option == "memory") {
            return Ok((path.into(), "memory.limit_in_bytes"));
        }
        let controllers = Path::new(path).join("cgroup.controllers");
        if kind == "cgroup2" && fs::read_to_string(controllers)?.split_whitespace().any(|one| one == "memory")
        {
            return Ok((path.into(), "memory.max"));
        }
    }
    Err("--memory needs control groups with the memory controller, and none is mounted here".into())
}
