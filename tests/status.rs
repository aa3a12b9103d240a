//! Goal: what a store in use tells about itself is there while it is open, costs nobody anything but its own thread, and is nothing
//! that anybody depends on.
//!
//! Method: files in the store's directory, read as another process would; and a directory in which the file can't be made.
#![allow(clippy::cast_possible_truncation, reason = "tests count in small numbers")]

mod common;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use vellum::{Error, Event, Options, PageId, Status, Store};

const EVERY: Duration = Duration::from_millis(100);

fn read(dir: &Path) -> Option<Value> {
    let text = std::fs::read(dir.join(Status::FILE)).ok()?;
    Some(serde_json::from_slice(&text).expect("it is replaced as a whole"))
}

fn await_status(dir: &Path, is_it: impl Fn(&Value) -> bool) -> Value {
    loop {
        if let Some(status) = read(dir).filter(|status| is_it(status)) {
            return status;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_file_follows_the_store_and_goes_with_it() {
    let home = TempDir::new().unwrap();
    let dir = home.path().join("s");
    let store = Store::open(&dir, Options::new().status_every(EVERY)).unwrap();
    for round in 1..=3u64 {
        let mut txn = store.begin().unwrap();
        txn.truncate(1).unwrap();
        txn.write(PageId(0), &[round as u8; 4096]).unwrap();
        txn.commit().unwrap();
        let status = await_status(&dir, |status| status["stats"]["version"] == round);
        assert_eq!(status["format"], Status::FORMAT);
        assert_eq!(status["store"], store.id().to_string());
    }
    // The greediest pins come first, and there are never more than so many.
    let pins: Vec<_> = (0..300u32).map(|index| store.snapshot_labelled(&index.to_string())).collect();
    let status = await_status(&dir, |status| status["pin_count"].as_u64() >= Some(300));
    let told = status["pins"].as_array().unwrap();
    assert_eq!(told.len(), 200);
    let kept: Vec<u64> = told.iter().map(|pin| pin["version_bytes"].as_u64().unwrap()).collect();
    assert!(kept.is_sorted_by(|a, b| a >= b));
    let same = serde_json::to_value(store.status().unwrap()).unwrap();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&same), keys(&status));
    drop((pins, store));
    assert!(read(&dir).is_none());
}

#[test]
fn a_file_that_cannot_be_made_is_told_once_and_holds_nothing_up() {
    let home = TempDir::new().unwrap();
    let dir = home.path().join("s");
    drop(Store::open(&dir, Options::new()).unwrap());
    // Neither can a file replace a directory of that name.
    std::fs::create_dir(dir.join(Status::FILE)).unwrap();
    let events = Arc::new(Mutex::new(Vec::new()));
    let options = Options::new().status_every(EVERY).on_event({
        let events = events.clone();
        move |event: &Event| events.lock().unwrap().push(event.clone())
    });
    let store = Store::open(&dir, options).unwrap();
    while events.lock().unwrap().is_empty() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut txn = store.begin().unwrap();
    txn.truncate(1).unwrap();
    txn.commit().unwrap();
    std::thread::sleep(4 * EVERY);
    let told = events.lock().unwrap().clone();
    assert!(matches!(&told[..], [Event::MaintenanceFailed { error: Error::Io { .. } }]), "{told:?}");
    store.close().unwrap();
    assert!(!dir.join("status.new").exists(), "what was begun is removed");
    Store::open(&dir, Options::new()).unwrap().verify(&mut ()).unwrap();
}

#[test]
fn only_a_store_with_a_thread_can_tell() {
    let refused = |options: Options| match Store::in_memory(options) {
        Err(Error::InvalidOption { option, .. }) => option,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(Options::new().status_every(EVERY).background(false)), "status_every");
    assert_eq!(refused(Options::new().status_every(Duration::from_millis(99))), "status_every");
    // What is made of a store that tells needn't tell.
    let store = Store::in_memory(Options::new().status_every(EVERY)).unwrap();
    store.snapshot().fork().unwrap().status().unwrap();
    let mut stream = Vec::new();
    store.snapshot().export(&mut stream).unwrap();
    let home = TempDir::new().unwrap();
    let dir = home.path().join("copy");
    let copy =
        Store::import_with(&mut &stream[..], &dir, Options::new().status_every(EVERY), &mut ()).unwrap();
    await_status(&dir, |_| true);
    drop(copy);
}
