//! `top` tells of a store that nobody has open, of one that is in use, and of one whose process is gone.

use std::fs;
use std::io::Read;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use vellum::{Options, PageId, Store};

use crate::bench::{Bench, PAGE};
use crate::progress::terminal;

fn told(bench: &Bench) -> Value {
    serde_json::from_slice(&fs::read(bench.path("s/status.json")).unwrap()).unwrap()
}

/// Waits until the store's own thread has told what is asked for.
fn await_told(bench: &Bench, is_it: impl Fn(&Value) -> bool) {
    while !fs::exists(bench.path("s/status.json")).unwrap() || !is_it(&told(bench)) {
        thread::sleep(Duration::from_millis(20));
    }
}

fn open_telling(bench: &Bench) -> Store {
    let every = Duration::from_millis(100);
    Store::open(bench.path("s"), Options::new().create(false).status_every(every)).unwrap()
}

#[test]
fn a_store_that_nobody_has_open_is_shown_once() {
    let (bench, _) = Bench::loaded(50);
    bench.ok(&["snapshot", "create", "s", "monday"]);
    let text = bench.ok(&["top", "s"]);
    for part in ["s: not in use", "50 pages of 512 B", "named ", "monday"] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    let json = bench.json(&["top", "s"]);
    assert_eq!((&json["is_in_use"], &json["stats"]["live_pages"]), (&false.into(), &50.into()));
    assert!(!bench.path("s/status.json").exists(), "who only looks tells nothing");
    bench.fails(&["top", "missing"], 5, "not_found");
    bench.fails(&["top", "f"], 5, "not_a_directory");
}

#[test]
fn a_store_in_use_is_shown_by_what_its_process_tells() {
    let (bench, _) = Bench::loaded(50);
    let store = open_telling(&bench);
    let report = store.snapshot_labelled("nightly report");
    let mut txn = store.begin().unwrap();
    txn.write(PageId(3), &[7; PAGE]).unwrap();
    txn.commit().unwrap();
    await_told(&bench, |status| status["stats"]["transactions"] == 1);
    let text = bench.ok(&["top", "s"]);
    let line = text.lines().find(|line| line.contains("nightly report")).unwrap();
    assert!(line.starts_with("snapshot") && line.ends_with(" KiB"), "the old page, and a node: {text}");
    assert!(text.contains(&format!("in use by process {}", std::process::id())), "{text}");
    let json = bench.json(&["top", "s"]);
    assert_eq!((&json["is_in_use"], &json["is_late"]), (&true.into(), &false.into()));
    assert_eq!(json["store"], store.id().to_string());
    assert_eq!(json["process"], std::process::id());
    // The figures are the library's own.
    let pins = store.pins().unwrap();
    assert_eq!(json["pin_count"].as_u64().unwrap(), pins.len() as u64);
    let mine = pins.iter().find(|pin| pin.owner.as_deref() == Some("nightly report")).unwrap();
    let shown = json["pins"].as_array().unwrap().iter().find(|pin| pin["owner"] == "nightly report").unwrap();
    assert_eq!(shown["retained_bytes"], mine.retained_bytes);
    assert_eq!(shown["version_bytes"], mine.version_bytes);

    // On a terminal it is drawn again and again, until the process closes the store.
    let (mut ours, theirs) = terminal();
    let mut command = bench.command(&["top", "s", "--every", "0s"]);
    let mut child = command.stdout(Stdio::from(theirs)).stderr(Stdio::null()).spawn().unwrap();
    drop(command);
    let mut printed = Vec::new();
    let mut bytes = [0; 4096];
    while !String::from_utf8_lossy(&printed).contains("/s of pages") {
        let read = ours.read(&mut bytes).unwrap();
        printed.extend_from_slice(&bytes[..read]);
    }
    drop((report, store));
    let reading = thread::spawn(move || {
        let _ = ours.read_to_end(&mut printed);
        printed
    });
    assert!(child.wait().unwrap().success());
    let printed = String::from_utf8(reading.join().unwrap()).unwrap();
    assert!(printed.ends_with("The store was closed by the process that had it open.\r\n"), "{printed}");
    assert!(!bench.path("s/status.json").exists(), "a closed store tells nothing");
    assert!(bench.ok(&["top", "s"]).contains("not in use"));
}

#[test]
fn a_store_in_use_that_tells_nothing_is_exit_code_4() {
    let (bench, _) = Bench::loaded(3);
    let held = Store::open(bench.path("s"), Options::new().create(false)).unwrap();
    let error = bench.fails(&["top", "s"], 4, "locked");
    assert!(error["message"].as_str().unwrap().contains("Options::status_every"), "{error}");
    drop(held);
}

#[test]
fn what_a_crash_left_is_never_taken_for_the_present() {
    let (bench, _) = Bench::loaded(3);
    let store = open_telling(&bench);
    await_told(&bench, |_| true);
    let left = told(&bench);
    drop(store);
    let leave = |written_at_ms: u64| {
        let mut left = left.clone();
        left["written_at_ms"] = written_at_ms.into();
        bench.write("s/status.json", left.to_string().as_bytes());
    };
    // The process is gone: the store says itself how it stands, and opening it took away what was left.
    leave(1_000);
    assert_eq!(bench.json(&["top", "s"])["is_in_use"], false);
    assert!(!bench.path("s/status.json").exists());
    // Somebody has it open and doesn't tell any more: that is said.
    let held = Store::open(bench.path("s"), Options::new().create(false)).unwrap();
    leave(1_000);
    assert_eq!(bench.json(&["top", "s"])["is_late"], true);
    assert!(bench.ok(&["top", "s"]).contains("it may hang, or be gone"));
    // What isn't a status, or one of another version, is told apart from damage of the store.
    for (text, found) in
        [(&b"{\"format\":"[..], Value::Null), (b"{\"format\":9}", 9.into()), (b"\xff", Value::Null)]
    {
        bench.write("s/status.json", text);
        assert_eq!(bench.fails(&["top", "s"], 1, "other_status")["found"], found);
    }
    drop(held);
    assert_eq!(bench.json(&["top", "s"])["is_in_use"], false, "nobody has it open any more");
    bench.ok(&["verify", "s"]);
}
