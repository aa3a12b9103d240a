//! Damage is found where it is, and mended by whoever has the right bytes.

use std::fs;

use serde_json::Value;

use crate::bench::{Bench, PAGE};

/// What a scrub prints when damage is left.
fn damaged(bench: &Bench, args: &[&str]) -> Value {
    let done = bench.run(&[args, &["--json"]].concat());
    let error: Value = serde_json::from_str(&done.stderr).unwrap();
    assert_eq!((done.code, &error["error"]["kind"]), (3, &"damage_left".into()), "{error}");
    serde_json::from_slice(&done.stdout).unwrap()
}

#[test]
fn damage_is_told_and_mended() {
    let (bench, bytes) = Bench::loaded(600);
    bench.ok(&["export", "s", "x"]);
    bench.ok(&["import", "copy", "x"]);
    fs::write(bench.path("key"), [9; 32]).unwrap();
    bench.ok(&["export", "s", "sealed", "--key-file", "key"]);
    bench.ok(&["init", "other", "--page-size", "512"]);
    let sound = bench.json(&["scrub", "s", "--rate", "67108864"]);
    assert_eq!((&sound["pages"], &sound["left"]), (&600.into(), &0.into()));
    assert!(sound["damage"].as_array().unwrap().is_empty());
    bench.fails(&["scrub", "s", "--rate", "65535"], 2, "invalid_option");
    bench.fails(&["scrub", "nothing"], 5, "not_found");

    for (source, page) in [("x", 400), ("copy", 7), ("sealed", 13)] {
        let content = &bytes[page * PAGE..(page + 1) * PAGE];
        bench.damage(content);
        let found = damaged(&bench, &["scrub", "s"]);
        assert_eq!(
            (&found["damaged_pages"], &found["left"], &found["repaired"]),
            (&1.into(), &1.into(), &0.into())
        );
        let line = &found["damage"][0];
        assert_eq!((&line["page"], &line["outcome"]), (&page.into(), &"not_tried".into()));
        let (file, offset) = (line["file"].as_str().unwrap(), line["offset"].as_u64().unwrap() as usize);
        assert!(file.contains("segment-") || file.contains("packed-"), "{file}");
        if file.contains("segment-") {
            let mut there = fs::read(bench.path(file)).unwrap()[offset..offset + PAGE].to_vec();
            there[100] ^= 1;
            assert!(there == content, "the page is at that offset");
        }

        // Who hasn't the bytes, or can't be read, is no help, and no harm.
        let found = damaged(&bench, &["scrub", "s", "--repair-from", "other", "--repair-from", "f"]);
        assert_eq!(found["damage"][0]["outcome"], "no_source");
        let failed = found["source_failures"].as_array().unwrap();
        assert!(failed.len() == 1 && failed[0]["source"] == "f", "{found}");
        bench.fails(&["verify", "s"], 3, "corrupt");

        let mended = bench.json(&[
            "scrub",
            "s",
            "--repair-from",
            "other",
            "--repair-from",
            source,
            "--key-file",
            "key",
        ]);
        assert_eq!((&mended["repaired"], &mended["left"]), (&1.into(), &0.into()), "{mended}");
        assert_eq!(mended["damage"][0]["outcome"], "repaired");
        bench.ok(&["verify", "s"]);
        assert_eq!(bench.json(&["scrub", "s"])["damaged_pages"], 0);
        assert_eq!(bench.run(&["export", "s", "--raw"]).stdout, bytes);
    }
}

/// Also where nothing is damaged: whoever scrubs with a source counts on it.
#[test]
fn a_source_that_is_not_there_is_told_at_once() {
    let (bench, _) = Bench::loaded(5);
    bench.ok(&["export", "s", "x"]);
    fs::create_dir(bench.path("empty")).unwrap();
    let from = |source| ["scrub", "s", "--repair-from", "x", "--repair-from", source];
    assert_eq!(bench.refused(&from("nowhere"), 5, "io")["file"], "nowhere");
    bench.refused(&from("empty"), 5, "not_found");
    let with_key = [&from("x")[..], &["--key-file", "nokey"]].concat();
    assert_eq!(bench.refused(&with_key, 5, "io")["file"], "nokey");
    bench.ok(&from("x"));
}
