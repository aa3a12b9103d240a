//! The process that is to be ended: several writers on one store, which tell all that they do.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use vellum::{Budget, Durability, Options, PageId, Snapshot, Store};

use crate::common::{PAGE, Random, contents};

pub(crate) const WRITERS: usize = 3;
/// Pages of each writer: the first holds the number of its commits.
const PAGES: u64 = 48;

pub(crate) fn options() -> Options {
    Options::new().page_size(512).segment_size(64 << 10).checkpoint_bytes(64 << 10)
}

fn page_of(writer: u64, index: u64) -> PageId {
    PageId(writer * 1000 + index)
}

/// The pages that a writer's n-th commit writes, beside the first.
fn written_by(n: u64) -> impl Iterator<Item = u64> {
    let mut random = Random(n);
    (0..=random.below(5)).map(move |_| 1 + random.below(PAGES - 1))
}

fn counted(n: u64) -> Vec<u8> {
    let mut page = n.to_le_bytes().to_vec();
    page.resize(PAGE, 0x5a);
    page
}

/// How many commits of a writer a snapshot holds; all its pages must be as those left them.
pub(crate) fn commits_in(snapshot: &Snapshot, writer: u64) -> Result<u64, String> {
    if snapshot.page_count() == 0 {
        return Ok(0);
    }
    let view = snapshot.view();
    let page = |index| view.page(page_of(writer, index)).map_err(|error| error.to_string());
    let Some(first) = page(0)? else { return Ok(0) };
    let n = u64::from_le_bytes(first[..8].try_into().expect("8 bytes"));
    let mut last: BTreeMap<u64, u64> = BTreeMap::new();
    // The last writes of each page lie among the last few hundred commits, but for the odd one.
    for commit in n.saturating_sub(600).max(1)..=n {
        last.extend(written_by(commit).map(|index| (index, commit)));
    }
    for (index, commit) in last {
        if page(index)? != Some(&contents(page_of(writer, index).0, commit)[..]) {
            return Err(format!("page {index} of writer {writer} isn't as commit {commit} of {n} left it"));
        }
    }
    Ok(n)
}

/// Tells a line as a whole: the pipe takes it in one piece.
fn tell(line: &str) {
    let mut out = std::io::stdout().lock();
    // A parent that has gone away has no more use for it.
    let _ = out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush());
}

/// One writer, until it fails or has done its work.
fn write(store: &Store, writer: u64, mut n: u64, commits: u64, mut random: Random) {
    let mut names: Vec<String> = store.snapshots().into_iter().map(|named| named.name).collect();
    for _ in 0..commits {
        n += 1;
        let durability = if random.below(3) == 0 { Durability::Sync } else { Durability::Buffered };
        let commit = || {
            let mut txn = store.begin()?;
            for index in written_by(n) {
                let id = page_of(writer, index);
                txn.write(id, &contents(id.0, n))?;
            }
            txn.write(page_of(writer, 0), &counted(n))?;
            txn.commit_with(durability)
        };
        match commit() {
            Ok(version) => {
                let how = if durability == Durability::Sync { "synced" } else { "buffered" };
                tell(&format!("ack {writer} {n} {} {how}", version.0));
            }
            Err(error) => return tell(&format!("failed {writer} {error}")),
        }
        if writer == 0 && n.is_multiple_of(16) {
            let name = format!("s{n}");
            tell(&format!("naming {name} {n}"));
            match store.create_snapshot(&name) {
                Ok(_) => tell(&format!("named {name} {n}")),
                Err(error) => return tell(&format!("failed {writer} {error}")),
            }
            names.push(name);
            if names.len() > 4 {
                let name = names.remove(random.index(names.len()));
                tell(&format!("dropping {name}"));
                match store.drop_snapshot(&name) {
                    Ok(()) => tell(&format!("dropped {name}")),
                    Err(error) => return tell(&format!("failed {writer} {error}")),
                }
            }
        }
        if writer == 1
            && random.below(60) == 0
            && let Err(error) = store.maintain(Budget::unlimited())
        {
            return tell(&format!("failed {writer} {error}"));
        }
    }
}

#[test]
#[ignore = "run by the other tests, as a process of its own"]
fn child() {
    let dir = std::env::var("VELLUM_CHILD_DIR").expect("started by a parent");
    // The test harness has begun a line.
    tell("");
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let random = Random(number("VELLUM_CHILD_SEED").expect("started by a parent"));
    let commits = number("VELLUM_COMMITS").unwrap_or(u64::MAX);
    let store = match Store::open(&dir, options()) {
        Ok(store) => store,
        Err(error) => return tell(&format!("unopened {error}")),
    };
    let snapshot = store.snapshot();
    if snapshot.page_count() == 0 {
        let grow = || {
            let mut txn = store.begin()?;
            txn.truncate(page_of(WRITERS as u64, 0).0)?;
            txn.commit()
        };
        if let Err(error) = grow() {
            return tell(&format!("unopened {error}"));
        }
    }
    let snapshot = store.snapshot();
    let found: Result<Vec<u64>, String> =
        (0..WRITERS as u64).map(|writer| commits_in(&snapshot, writer)).collect();
    let found = match found {
        Ok(found) => found,
        Err(wrong) => return tell(&format!("wrong {wrong}")),
    };
    let mut line = format!("open {}", snapshot.version().0);
    for n in &found {
        line += " ";
        line += &n.to_string();
    }
    for named in store.snapshots() {
        line += " ";
        line += &named.name;
    }
    drop(snapshot);
    tell(&line);
    std::thread::scope(|scope| {
        for (writer, n) in (0..).zip(found) {
            let (store, random) = (&store, Random(random.0 ^ writer << 32));
            scope.spawn(move || write(store, writer, n, commits, random));
        }
    });
    // Whoever is not killed ends without a close all the same.
    std::process::exit(0);
}

/// A child, as its parent sees it.
pub(crate) struct Process {
    child: Child,
    told: BufReader<std::process::ChildStdout>,
}

impl Process {
    pub(crate) fn start(dir: &Path, seed: u64, env: &[(&str, String)]) -> Process {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "child::child", "--ignored", "--nocapture", "--test-threads=1"])
            .env("VELLUM_CHILD_DIR", dir)
            .env("VELLUM_CHILD_SEED", seed.to_string())
            .envs(env.iter().map(|(name, value)| (*name, value)))
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("a child");
        let told = BufReader::new(child.stdout.take().expect("a pipe"));
        Process { child, told }
    }

    fn next_line(&mut self) -> Option<String> {
        let mut line = String::new();
        // The last line may be torn.
        match self.told.read_line(&mut line) {
            Ok(_) if line.ends_with('\n') => Some(line.trim_end().to_owned()),
            _ => None,
        }
    }

    /// Waits until the child has opened the store, or told why it hasn't.
    pub(crate) fn read_until_open(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) = self.next_line() {
            lines.push(line);
            if ["open", "unopened", "wrong"].iter().any(|word| lines[lines.len() - 1].starts_with(word)) {
                break;
            }
        }
        lines
    }

    /// Lets the child get no further in its own code; system calls that it is in go on.
    pub(crate) fn stop(&mut self) {
        let id = self.child.id();
        let sent =
            Command::new("kill").args(["-STOP", &id.to_string()]).status().expect("a system with signals");
        assert!(sent.success(), "a child of ours");
        // Until each of its threads has stopped, or is in the kernel and will when it comes out.
        for task in std::fs::read_dir(format!("/proc/{id}/task")).expect("it lives") {
            let stat = task.expect("it lives").path().join("stat");
            let is_running = || {
                let stat = std::fs::read_to_string(&stat).unwrap_or_default();
                stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('R'))
            };
            while is_running() {
                std::thread::yield_now();
            }
        }
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("a child of ours");
    }

    /// What else it has told, when it has ended.
    pub(crate) fn finish(&mut self) -> Vec<String> {
        let lines = std::iter::from_fn(|| self.next_line()).collect();
        self.child.wait().expect("a child of ours");
        lines
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // After a failed assertion it may still be at work.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
