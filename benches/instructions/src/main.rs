//! Instructions of a pin, a read and a commit, counted by valgrind's callgrind and held against bounds: `just instructions`.
//!
//! Counts don't depend on the machine's load and hardly on the machine, so this can fail a build where a time can't. Each
//! case is run twice in a process of its own, the second time with more steps, and what the further steps took is what
//! counts: nothing of starting and filling a store is in it. The store lies on the disk and is read through its mapping, as
//! a user's is, but has no thread of its own. Instructions of the system don't count.
//!
//! What does depend on the machine: how the C library copies memory (it picks the widest instructions that the processor
//! has). It is told to use the oldest way ([`PLAIN_COPIES`]); one that doesn't listen may take 5% off a commit of many pages.
//! vellum's own checksums are compiled for the plain x86-64. The compiler matters: the bounds are of Rust 1.95.
//!
//! A count beyond its bound by more than [`TOLERANCE`] fails. If that is the price of something wanted, write the new count into
//! [`CASES`] in the same change, and say why; a count far below its bound asks for the same, or the next slip hides in
//! what was won.

use std::error::Error;
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use vellum::{Durability, Options, PageId, Store};

type Result<T = (), E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// Something that is done `steps` times.
type Steps = fn(&Store, u64) -> vellum::Result<()>;

/// A case: its name, what is done, how often at least, and the instructions of one step.
struct Case {
    name: &'static str,
    steps: Steps,
    few: u64,
    bound: u64,
}

const CASES: [Case; 8] = [
    Case { name: "pin and drop a view", steps: pin, few: 2000, bound: 187 },
    Case { name: "take and drop a snapshot", steps: snapshot, few: 2000, bound: 243 },
    Case { name: "read 8 bytes of a random page in a view", steps: read, few: 20_000, bound: 80 },
    Case { name: "the same in a snapshot, copied", steps: read_copied, few: 4000, bound: 1_608 },
    Case { name: "commit 1 page, buffered", steps: commit_1, few: 500, bound: 20_111 },
    Case { name: "commit 64 pages, buffered", steps: commit_64, few: 50, bound: 607_582 },
    Case { name: "commit 1 page, synced", steps: commit_synced, few: 500, bound: 25_387 },
    Case { name: "commit 1 page beside 1,000 snapshots", steps: commit_beside, few: 500, bound: 20_880 },
];

/// Percent that a count may be above its bound.
const TOLERANCE: u64 = 3;
/// Percent that a count may be below its bound before the bound has to follow.
const SLACK: u64 = 15;
/// How many times as many steps the second run does.
const MORE: u64 = 3;
const PAGES: u64 = 4096;
/// Keeps glibc from choosing how to copy by what the processor has.
const PLAIN_COPIES: (&str, &str) = (
    "GLIBC_TUNABLES",
    "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX2,-AVX2_Usable,-AVX,-AVX_Fast_Unaligned_Load,-ERMS,-FSRM,-Fast_Unaligned_Copy",
);

fn pin(store: &Store, steps: u64) -> vellum::Result<()> {
    (0..steps).for_each(|_| drop(black_box(store.view())));
    Ok(())
}

fn snapshot(store: &Store, steps: u64) -> vellum::Result<()> {
    (0..steps).for_each(|_| drop(black_box(store.snapshot())));
    Ok(())
}

/// The next of a row of random words.
fn step(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn read(store: &Store, steps: u64) -> vellum::Result<()> {
    let view = store.view();
    let (mut state, mut sum) = (1, 0_u64);
    for _ in 0..steps {
        let page = view.page(PageId(step(&mut state) % PAGES))?;
        let word = page.and_then(|page| page.first_chunk()).map_or(0, |word| u64::from_le_bytes(*word));
        sum = sum.wrapping_add(word);
    }
    black_box(sum);
    Ok(())
}

fn read_copied(store: &Store, steps: u64) -> vellum::Result<()> {
    let snapshot = store.snapshot();
    let (mut state, mut page) = (1, [0; 4096]);
    for _ in 0..steps {
        snapshot.read(PageId(step(&mut state) % PAGES), &mut page)?;
        black_box(&page);
    }
    Ok(())
}

fn commits(store: &Store, steps: u64, pages: u64, durability: Durability) -> vellum::Result<()> {
    let mut state = 1;
    for _ in 0..steps {
        let mut txn = store.begin()?;
        for _ in 0..pages {
            txn.write(PageId(step(&mut state) % PAGES), &[0x5A; 4096])?;
        }
        txn.commit_with(durability)?;
    }
    Ok(())
}

fn commit_1(store: &Store, steps: u64) -> vellum::Result<()> {
    commits(store, steps, 1, Durability::Buffered)
}

fn commit_64(store: &Store, steps: u64) -> vellum::Result<()> {
    commits(store, steps, 64, Durability::Buffered)
}

fn commit_synced(store: &Store, steps: u64) -> vellum::Result<()> {
    commits(store, steps, 1, Durability::Sync)
}

fn commit_beside(store: &Store, steps: u64) -> vellum::Result<()> {
    let held: Vec<_> = (0..1000).map(|_| store.snapshot()).collect();
    commits(store, steps, 1, Durability::Buffered)?;
    drop(held);
    Ok(())
}

/// What callgrind watches.
fn run_case(case: &Case, steps: u64, dir: &Path) -> vellum::Result<()> {
    let store = Store::open(dir, Options::new().background(false).segment_size(16 << 20))?;
    let mut txn = store.begin()?;
    txn.truncate(PAGES)?;
    for id in 0..PAGES {
        txn.write(PageId(id), &[0xA5; 4096])?;
    }
    txn.commit()?;
    // Another segment, so that those pages are read from a sealed one; and each is verified once.
    commits(&store, 1, 64, Durability::Sync)?;
    let view = store.view();
    for id in 0..PAGES {
        view.page(PageId(id))?;
    }
    drop(view);
    (case.steps)(&store, steps)
}

/// The argument that makes this program run a case.
const CHILD: &str = "--case";

/// Instructions of this program with `steps` steps of the case at `index`.
fn count(index: usize, steps: u64) -> Result<u64> {
    let dir = tempfile::tempdir_in(std::env::current_exe()?.parent().ok_or("the program lies nowhere")?)?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args([CHILD, &index.to_string(), &steps.to_string()])
        .arg(dir.path())
        .env(PLAIN_COPIES.0, PLAIN_COPIES.1)
        .output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("the counted run ended with {}:\n{told}", output.status).into());
    }
    let collected = told.lines().find_map(|line| line.split("Collected :").nth(1));
    Ok(collected.ok_or_else(|| format!("callgrind tells no count:\n{told}"))?.trim().parse()?)
}

fn is_valgrind_there() -> bool {
    let version = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

fn main() -> Result<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [first, index, steps, dir] = args.as_slice()
        && first == CHILD
    {
        let case = CASES.get(index.parse::<usize>()?).ok_or("no such case")?;
        run_case(case, steps.parse()?, dir.as_ref())?;
        return Ok(ExitCode::SUCCESS);
    }
    if !is_valgrind_there() {
        return Err("valgrind, which counts the instructions, isn't installed".into());
    }
    let mut is_over = false;
    println!("{:<42} {:>9} {:>9}", "instructions of one step", "counted", "bound");
    for (index, case) in CASES.iter().enumerate() {
        let (few, many) = (count(index, case.few)?, count(index, case.few * MORE)?);
        let each = many.saturating_sub(few) / (case.few * (MORE - 1));
        let verdict = if each * 100 > case.bound * (100 + TOLERANCE) {
            is_over = true;
            "MORE THAN ITS BOUND"
        } else if each * 100 < case.bound * (100 - SLACK) {
            "far less: lower the bound"
        } else {
            ""
        };
        println!("{:<42} {each:>9} {:>9} {verdict}", case.name, case.bound);
    }
    if is_over {
        eprintln!(
            "a step takes more instructions than it did: see the head of benches/instructions/src/main.rs"
        );
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
