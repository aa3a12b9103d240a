//! Rehearsed restores: what they show, what they find, and that they leave nothing behind.

use std::fs;

use crate::bench::{Bench, PAGE, tree};

/// A bench with a store `s` with snapshots `v1` and (current) `v2`, the chain `full` and `delta` of them, and an empty `scratch`.
fn chained() -> (Bench, Vec<u8>) {
    let (bench, mut bytes) = Bench::loaded(300);
    bench.ok(&["snapshot", "create", "s", "v1"]);
    bench.ok(&["export", "s", "full", "--compress"]);
    bytes[20 * PAGE..60 * PAGE].fill(7);
    bench.write("g", &bytes);
    bench.ok(&["load", "s", "g"]);
    bench.ok(&["export", "s", "delta", "--since", "v1"]);
    fs::create_dir(bench.path("scratch")).unwrap();
    (bench, bytes)
}

const SCRATCH: [&str; 2] = ["--scratch", "scratch"];

fn is_clean(bench: &Bench) {
    assert!(tree(&bench.path("scratch")).is_empty(), "{:?}", tree(&bench.path("scratch")));
}

#[test]
fn a_chain_and_a_store_are_restored_for_trial() {
    let (bench, _) = chained();
    let chain = bench.json(&[&["drill", "full", "delta"][..], &SCRATCH].concat());
    is_clean(&bench);
    let store = bench.json(&[&["drill", "s"][..], &SCRATCH].concat());
    is_clean(&bench);
    let fingerprints = [bench.json(&["verify", "full"]), bench.json(&["info", "s"])];
    assert_eq!(chain["fingerprints"][0], fingerprints[0]["fingerprint"]);
    assert_eq!(chain["fingerprints"][1], fingerprints[1]["fingerprint"]);
    assert_eq!(chain["fingerprints"].as_array().unwrap().len(), 2);
    assert_eq!(store["fingerprints"].as_array().unwrap(), &[fingerprints[1]["fingerprint"].clone()]);
    let length = |name: &str| fs::metadata(bench.path(name)).unwrap().len();
    assert_eq!(chain["stream_bytes"], length("full") + length("delta"));
    for done in [&chain, &store] {
        assert_eq!((&done["version"], &done["pages"]), (&fingerprints[1]["version"], &300.into()));
        assert_eq!(done["page_bytes"], 300 * PAGE);
        for key in ["restored_nanos", "verified_nanos", "checked_nanos"] {
            assert!(done[key].is_u64(), "{key}");
        }
    }
    let older = bench.json(&[&["drill", "s", "--snapshot", "v1"][..], &SCRATCH].concat());
    assert_eq!(
        (&older["version"], &older["fingerprints"][0]),
        (&fingerprints[0]["version"], &fingerprints[0]["fingerprint"])
    );
    let text = bench.ok(&[&["drill", "full"][..], &SCRATCH].concat());
    assert!(text.contains("restored time") && text.contains("fingerprints"), "{text}");
}

#[test]
fn the_check_has_the_last_word() {
    let (bench, _) = chained();
    // The check stands in the directory of whoever drills, and the pages are open to nobody else.
    let check = "cmp \"$VELLUM_RAW\" g && test $(stat -c %a \"$(dirname \"$VELLUM_RAW\")\") = 700";
    for paths in [&["full", "delta"][..], &["s"]] {
        let args = [&["drill"][..], paths, &SCRATCH].concat();
        bench.ok(&[&args[..], &["--run", check]].concat());
        is_clean(&bench);
        let error = bench.refused(&[&args[..], &["--run", "exit 9"]].concat(), 1, "check_failed");
        assert_eq!(error["version"], bench.json(&["info", "s"])["version"]);
        assert!(error["message"].as_str().unwrap().contains("exit 9"), "{error}");
        is_clean(&bench);
    }
    // What it prints is no part of the report.
    let done = bench.run(&["drill", "full", "--scratch", "scratch", "--run", "echo said", "--json"]);
    assert_eq!((done.code, &*done.stderr), (0, "said\n"));
    assert!(!String::from_utf8(done.stdout).unwrap().contains("said"));
}

#[test]
fn what_could_not_be_restored_is_found() {
    let (bench, bytes) = chained();
    bench.fails(&["drill", "delta", "--scratch", "scratch"], 1, "wrong_base");
    bench.fails(&["drill", "delta", "full", "--scratch", "scratch"], 1, "wrong_base");
    bench.fails(&["drill", "nothing", "--scratch", "scratch"], 5, "io");
    bench.fails(&["drill", "full", "--scratch", "nowhere"], 5, "io");
    bench.fails(&["drill", "full", "--scratch", "f"], 1, "io");
    let mut bad = fs::read(bench.path("delta")).unwrap();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    bench.write("bad", &bad);
    bench.fails(&["drill", "full", "bad", "--scratch", "scratch"], 3, "bad_stream");
    bench.damage(&bytes[200 * PAGE..201 * PAGE]);
    bench.fails(&["drill", "s", "--scratch", "scratch"], 3, "corrupt");
    is_clean(&bench);
}
