//! Written by `just mutants`: which of the changes in this program is on.

use std::io::Write as _;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

static CHOSEN: LazyLock<usize> =
    LazyLock::new(|| std::env::var("MUTANT").ok().and_then(|number| number.parse().ok()).unwrap_or(usize::MAX));
static REACHED: [AtomicBool; COUNT] = [const { AtomicBool::new(false) }; COUNT];

/// Whether the change of this number is on; that it was asked for is noted in the file that `MUTANTS_REACHED` names.
pub(crate) fn on(number: usize) -> bool {
    if !REACHED[number].load(Ordering::Relaxed) && !REACHED[number].swap(true, Ordering::Relaxed) {
        note(number);
    }
    *CHOSEN == number
}

#[cold]
fn note(number: usize) {
    if let Some(path) = std::env::var_os("MUTANTS_REACHED") {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
        let _ = file.and_then(|mut file| file.write_all(format!("{number}\n").as_bytes()));
    }
}

