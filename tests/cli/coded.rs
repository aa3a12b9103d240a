//! Streams that are compressed, encrypted or paced: what comes out of them is what went in, and only with the right key.

use std::fs;

use crate::bench::{Bench, PAGE};

/// A bench with a store `s`, and two keys of either form: `key`, and `key.hex` for the same one, and `other`.
fn with_keys(pages: usize) -> (Bench, Vec<u8>) {
    let (bench, bytes) = Bench::loaded(pages);
    bench.write("key", &[0xAB; 32]);
    bench.write("key.hex", format!("{}\n", "aB".repeat(32)).as_bytes());
    bench.write("other", &[7; 32]);
    (bench, bytes)
}

#[test]
fn what_was_compressed_and_encrypted_comes_back() {
    let (bench, bytes) = with_keys(1000);
    let plain = bench.json(&["export", "s", "plain"])["bytes"].as_u64().unwrap();
    let small = bench.json(&["export", "s", "small", "--compress"])["bytes"].as_u64().unwrap();
    assert_eq!(small, fs::metadata(bench.path("small")).unwrap().len());
    assert!(small < plain / 4, "{small} of {plain}");
    bench.ok(&["export", "s", "best", "--compress=19"]);
    bench.ok(&["export", "s", "secret", "--key-file", "key"]);
    bench.ok(&["export", "s", "both", "--compress=1", "--key-file", "key.hex"]);
    let secret = fs::read(bench.path("secret")).unwrap();
    assert!(!secret.windows(16).any(|window| window == &bytes[..16]), "a page lies open");

    for (name, key) in [
        ("small", None),
        ("best", None),
        ("secret", Some("key.hex")),
        ("both", Some("key")),
        ("small", Some("key")),
    ] {
        let to = format!("{name}-{}", key.unwrap_or("none"));
        let keyed: Vec<&str> = key.into_iter().flat_map(|key| ["--key-file", key]).collect();
        let made = bench.json(&[&["import", &to, name][..], &keyed].concat());
        assert_eq!((&made["pages"], &made["page_count"]), (&1000.into(), &1000.into()));
        assert_eq!(bench.run(&["export", &to, "--raw"]).stdout, bytes, "{to}");
        let checked = bench.json(&[&["verify", name][..], &keyed].concat());
        assert_eq!(checked["fingerprint"], made["fingerprint"]);
    }
}

#[test]
fn a_wrong_key_opens_nothing() {
    let (bench, _) = with_keys(300);
    bench.ok(&["export", "s", "x", "--key-file", "key"]);
    for args in [&["import", "new", "x"][..], &["verify", "x"], &["drill", "x", "--scratch", "."]] {
        assert_eq!(bench.fails(args, 1, "wrong_key")["is_given"], false, "{args:?}");
        let other = [args, &["--key-file", "other"]].concat();
        assert_eq!(bench.fails(&other, 1, "wrong_key")["is_given"], true, "{args:?}");
    }
    let mut flipped = fs::read(bench.path("x")).unwrap();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    bench.write("flipped", &flipped);
    bench.fails(&["import", "new", "flipped", "--key-file", "key"], 3, "bad_stream");

    // What is no key is none, whatever it is for.
    for (name, content) in
        [("short", &[1; 31][..]), ("long", &[1; 33]), ("digits", &[b'g'; 64]), ("empty", &[])]
    {
        bench.write(name, content);
        assert_eq!(bench.fails(&["export", "s", "y", "--key-file", name], 1, "bad_key")["file"], name);
        bench.fails(&["import", "new", "x", "--key-file", name], 1, "bad_key");
    }
    bench.fails(&["export", "s", "y", "--key-file", "nothing"], 5, "io");
}

#[test]
fn options_that_would_do_nothing_are_refused() {
    let (bench, _) = with_keys(10);
    let mut refused = vec![
        vec!["export", "s", "y", "--expires", "1d"],
        vec!["export", "s", "y", "--from", "x"],
        vec!["export", "s", "--end"],
        vec!["drill", "s", "--key-file", "key"],
        vec!["drill", "f", "--snapshot", "x"],
        vec!["import", "new", "--point", "--resume"],
    ];
    // Raw pages carry no coding, so that nobody takes them for encrypted.
    for option in ["--compress", "--key-file=key", "--rate=2000000", "--mark-every=4096", "--resume"] {
        refused.push(vec!["export", "s", "y", "--raw", option]);
    }
    for args in refused {
        bench.refused(&args, 2, "usage");
        assert!(!bench.path("y").exists() && !bench.path("new").exists(), "{args:?}");
    }
}

#[test]
fn options_out_of_bounds_are_refused() {
    let (bench, bytes) = Bench::loaded(300);
    bench.ok(&["export", "s", "x", "--rate", "1048576"]);
    bench.ok(&["import", "copy", "x", "--rate", "1048576"]);
    assert_eq!(bench.run(&["export", "copy", "--raw"]).stdout, bytes);
    bench.ok(&["verify", "x", "--rate", "1048576"]);
    for args in [
        &["export", "s", "y", "--rate", "1048575"][..],
        &["import", "new", "x", "--rate", "1048575"],
        &["verify", "x", "--rate", "0"],
        &["drill", "x", "--scratch", ".", "--rate", "1"],
        &["export", "s", "y", "--compress=0"],
        &["export", "s", "y", "--compress=20", "--resume"],
        &["export", "s", "y", "--mark-every", "4095"],
    ] {
        let error = bench.fails(args, 2, "invalid_option");
        assert!(error["option"].is_string() && error["value"].is_string(), "{error}");
    }
}

#[test]
fn coded_deltas_are_applied_and_folded() {
    let (bench, mut bytes) = with_keys(400);
    bench.ok(&["snapshot", "create", "s", "v1"]);
    bench.ok(&["export", "s", "full", "--compress", "--key-file", "key"]);
    bytes[20 * PAGE..60 * PAGE].fill(7);
    bench.write("g", &bytes);
    bench.ok(&["load", "s", "g"]);
    let plain = bench.json(&["export", "s", "plain", "--since", "v1"]);
    let delta = bench.json(&["export", "s", "delta", "--since", "v1", "--compress", "--key-file", "key"]);
    assert_eq!((&delta["pages"], &delta["freed"]), (&40.into(), &0.into()));
    assert!(delta["bytes"].as_u64().unwrap() < plain["bytes"].as_u64().unwrap() / 4);

    bench.ok(&["import", "copy", "full", "--key-file", "key"]);
    bench.fails(&["apply", "copy", "delta"], 1, "wrong_key");
    bench.ok(&["apply", "copy", "delta", "--key-file", "key"]);
    assert_eq!(bench.run(&["export", "copy", "--raw"]).stdout, bytes);

    bench.fails(&["fold", "--out", "y", "full", "delta"], 1, "wrong_key");
    bench.ok(&["fold", "--out", "folded", "full", "delta", "--compress", "--key-file", "key"]);
    let chain = bench.json(&["verify", "full", "delta", "--key-file", "key"]);
    assert_eq!(chain["links"][1]["fingerprint"], delta["fingerprint"]);
    bench.fails(&["verify", "folded"], 1, "wrong_key");
    bench.ok(&["import", "again", "folded", "--key-file", "key"]);
    assert_eq!(bench.run(&["export", "again", "--raw"]).stdout, bytes);
}
