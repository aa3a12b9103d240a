//! Stores are made, filled, looked at and tidied.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use vellum::{Options, Store};

use crate::bench::{Bench, PAGE, page_file};

#[test]
fn init_makes_a_store_once() {
    let bench = Bench::new();
    let made = bench.json(&["init", "s", "--page-size", "8192", "--segment-size", "65536"]);
    assert_eq!((&made["page_size"], &made["segment_bytes"]), (&8192.into(), &65536.into()));
    assert_eq!(made["id"].as_str().unwrap().len(), 32);
    let error = bench.fails(&["init", "s"], 1, "already_exists");
    assert_eq!(error["dir"], "s");
    assert_eq!(bench.json(&["info", "s"])["id"], made["id"]);
    fs::create_dir(bench.path("empty")).unwrap();
    assert!(bench.ok(&["init", "empty"]).contains("4096 bytes"));
    fs::create_dir(bench.path("foreign")).unwrap();
    bench.write("foreign/file", b"mine");
    bench.fails(&["init", "foreign"], 1, "already_exists");
    bench.fails(&["init", "foreign/file"], 5, "not_a_directory");
    bench.fails(&["init", "no/parent"], 5, "io");
    bench.fails(&["init", "odd", "--page-size", "1000"], 2, "invalid_option");
    bench.fails(&["init", "odd", "--page-size", "65536", "--segment-size", "65536"], 2, "invalid_option");
}

#[test]
fn info_ls_and_stat_tell_what_is_there() {
    let (bench, _) = Bench::loaded(20);
    let info = bench.json(&["info", "s"]);
    assert_eq!(info["page_size"], 512);
    assert_eq!(info["version"], 1);
    assert_eq!((&info["page_count"], &info["live_pages"]), (&20.into(), &20.into()));
    assert_eq!(info["recovery"]["is_torn"], false);
    assert_eq!(info["fingerprint"].as_str().unwrap().len(), 32);
    let table = bench.ok(&["info", "s"]);
    assert!(table.contains(info["fingerprint"].as_str().unwrap()) && table.contains("recovery: is torn"));

    let versions = bench.json(&["ls", "s"]);
    let [version] = &versions["versions"].as_array().unwrap()[..] else { panic!("{versions}") };
    for key in ["version", "created_at", "fingerprint", "page_count", "live_pages"] {
        assert_eq!(version[key], info[key], "{key}");
    }
    let created_at = version["created_at"].as_str().unwrap();
    assert!(created_at.starts_with("20") && created_at.ends_with('Z') && created_at.len() == 24);
    let table = bench.ok(&["ls", "s"]);
    assert_eq!(table.lines().count(), 2);
    assert!(table.starts_with("NAME  VERSION  CREATED AT") && table.contains(created_at));

    let stat = bench.json(&["stat", "s"]);
    assert_eq!((&stat["segment_bytes"], &stat["live_pages"]), (&65536.into(), &20.into()));
    let stored = serde_json::to_string(&Store::in_memory(Options::new()).unwrap().stats()).unwrap();
    for key in stat.as_object().unwrap().keys() {
        assert!(stored.contains(&format!("\"{key}\":")), "{key}");
    }
    // Each of the library's numbers is told.
    let stored: serde_json::Value = serde_json::from_str(&stored).unwrap();
    assert_eq!(stat.as_object().unwrap().len(), stored.as_object().unwrap().len());
    assert_eq!(stat["recovery"].as_object().unwrap().len(), stored["recovery"].as_object().unwrap().len());
    assert_eq!(stat["sync_micros"].as_object().unwrap().len(), 4);
    assert!(bench.ok(&["stat", "s"]).contains("segment bytes"));
}

#[test]
fn load_writes_only_what_differs() {
    let (bench, mut bytes) = Bench::loaded(300);
    let again = bench.json(&["load", "s", "f"]);
    assert_eq!((&again["pages_read"], &again["pages_written"]), (&300.into(), &0.into()));
    assert_eq!((&again["version"], &again["is_new_version"]), (&1.into(), &false.into()));

    let expect = |bytes: &[u8], written: usize, version: u64| {
        bench.write("f", bytes);
        let loaded = bench.json(&["load", "s", "f"]);
        assert_eq!(loaded["pages_written"], written);
        assert_eq!((&loaded["version"], &loaded["is_new_version"]), (&version.into(), &true.into()));
        assert_eq!(bench.run(&["export", "s", "--raw"]).stdout, bytes);
        let info = bench.json(&["info", "s"]);
        assert_eq!(info["page_count"], bytes.len() / PAGE);
        assert_eq!(info["live_pages"], info["page_count"], "a page of zeros is a page");
    };
    bytes[5 * PAGE] ^= 1;
    bytes[200 * PAGE + 511] ^= 1;
    expect(&bytes, 2, 2);
    bytes.extend(vec![0; 3 * PAGE]);
    expect(&bytes, 3, 3);
    bytes.truncate(100 * PAGE);
    expect(&bytes, 0, 4);
    bytes[0] ^= 1;
    bytes.truncate(50 * PAGE);
    expect(&bytes, 1, 5);
    expect(&[], 0, 6);
    expect(&bytes, 50, 7);
    let table = bench.ok(&["load", "s", "f"]);
    assert!(table.contains("pages written   0\n") && table.contains("is new version  no\n"), "{table}");
}

#[test]
fn load_creates_a_store_of_the_right_page_size() {
    let bench = Bench::new();
    let sqlite = |stored: u16, bytes: usize| {
        let mut file = b"SQLite format 3\0".to_vec();
        file.extend(stored.to_be_bytes());
        file.resize(bytes, 7);
        file
    };
    bench.write("small", &sqlite(1024, 3 * 1024));
    assert_eq!(bench.json(&["load", "a", "small"])["page_size"], 1024);
    bench.write("large", &sqlite(1, 2 * 65536));
    assert_eq!(bench.json(&["load", "b", "large"])["page_size"], 65536);
    bench.write("plain", &[1; 8192]);
    assert_eq!(bench.json(&["load", "c", "plain"])["page_size"], 4096);
    assert_eq!(bench.json(&["load", "d", "plain", "--page-size", "512"])["pages_written"], 16);
    let error = bench.fails(&["load", "d", "plain", "--page-size", "1024"], 1, "page_size_mismatch");
    assert_eq!(error["found"], 512);

    // Nothing is created for a file that can't be loaded.
    bench.write("odd", &[1; 1000]);
    let error = bench.fails(&["load", "e", "odd"], 1, "odd_length");
    assert_eq!((&error["bytes"], &error["page_size"]), (&1000.into(), &4096.into()));
    assert!(error["message"].as_str().unwrap().contains("not a multiple of the page size, 4096"));
    bench.fails(&["load", "d", "odd"], 1, "odd_length");
    bench.fails(&["load", "e", "nothing"], 5, "io");
    bench.fails(&["load", "e", "plain", "--page-size", "4095"], 1, "odd_length");
    bench.fails(&["load", "e", "plain", "--page-size", "32"], 2, "invalid_option");
    bench.fails(&["load", "e", "plain", "--memory", "5000"], 1, "transaction_too_large");
    bench.fails(&["load", "e", "a"], 1, "io");
    bench.fails(&["load", "plain", "plain"], 5, "not_a_directory");

    // What is still in the write-ahead log of a database isn't loaded, and that is said.
    bench.write("small-wal", b"frames");
    let done = bench.run(&["load", "a", "small"]);
    assert!(done.code == 0 && done.stderr.contains("small-wal"), "{}", done.stderr);
}

#[test]
fn load_reads_from_a_pipe() {
    let bench = Bench::new();
    for (bytes, code) in [(page_file(2000), 0), (vec![1; 700], 1)] {
        let mut child = bench
            .command(&["load", "s", "/dev/stdin", "--page-size", "512"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&bytes).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code));
        // The length showed only at the end, but the store is as it was.
        assert_eq!(bench.json(&["info", "s"])["page_count"], 2000);
    }
}

#[test]
fn cat_prints_a_page() {
    let (bench, bytes) = Bench::loaded(3);
    let page = &bytes[2 * PAGE..];
    assert_eq!(bench.run(&["cat", "s", "2"]).stdout, page);
    let dump = bench.ok(&["cat", "s", "2", "--hex"]);
    assert_eq!(dump.lines().count(), PAGE / 16);
    let first = "00000000  30 30 30 30 30 30 30 32  30 30 30 30 30 30 30 32  |0000000200000002|";
    assert_eq!(dump.lines().next(), Some(first));
    let json = bench.json(&["cat", "s", "2"]);
    assert_eq!((&json["page"], &json["page_size"]), (&2.into(), &512.into()));
    assert!(json["hex"].as_str().unwrap().starts_with("3030303030303032"));
    assert_eq!(bench.fails(&["cat", "s", "3"], 5, "page_out_of_range")["page_count"], 3);
    let far = (u64::MAX - 1).to_string();
    assert_eq!(bench.fails(&["cat", "s", &far], 5, "page_out_of_range")["page"], u64::MAX - 1);
    // The greatest number is no page's.
    assert_eq!(bench.run(&["cat", "s", &u64::MAX.to_string()]).code, 2);
    let store = Store::open(bench.path("s"), Options::new()).unwrap();
    let mut txn = store.begin().unwrap();
    txn.free(0.into()).unwrap();
    txn.commit().unwrap();
    store.close().unwrap();
    assert_eq!(bench.fails(&["cat", "s", "0"], 5, "page_not_allocated")["page"], 0);
}

#[test]
fn compact_gives_space_back_and_loses_nothing() {
    let (bench, bytes) = Bench::loaded(2000);
    // Most pages are written again, so that what was loaded first is mostly dead; and then most are cut off.
    let again: Vec<u8> = bytes.iter().map(|byte| byte.wrapping_add(1)).collect();
    bench.write("g", &again);
    bench.ok(&["load", "s", "g"]);
    bench.write("h", &again[..300 * 512]);
    bench.ok(&["load", "s", "h"]);
    let done = bench.json(&["compact", "s"]);
    let (before, after) = (done["bytes_before"].as_u64().unwrap(), done["bytes_after"].as_u64().unwrap());
    assert!(after * 2 < before && done["files_removed"].as_u64().unwrap() > 0, "{done}");
    bench.ok(&["verify", "s"]);
    bench.ok(&["export", "s", "--raw", "out"]);
    assert!(fs::read(bench.path("out")).unwrap() == again[..300 * 512], "the pages are what they were");
    assert!(bench.ok(&["compact", "s"]).contains("segments packed"));
}

#[test]
fn nothing_is_written_into_a_store_s_own_directory() {
    let (bench, _) = Bench::loaded(20);
    bench.ok(&["snapshot", "create", "s", "kept"]);
    let inside = "s/segment-00000000";
    for args in [
        &["export", "s", inside, "--force"][..],
        &["export", "s", inside, "--force", "--raw"],
        &["export", "s", inside, "--force", "--resume"],
        &["export", "s", "s/../s/new"],
        &["map", "s", inside, "--force"],
        &["clone", "s", "s/clone"],
    ] {
        let error = bench.fails(args, 2, "usage");
        assert!(error["message"].as_str().unwrap().contains("the store's own directory"), "{error}");
    }
    bench.ok(&["verify", "s", "--all"]);
}
