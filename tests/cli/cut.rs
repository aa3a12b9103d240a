//! Exports and imports that are cut are gone on with, and end as if they had not been: the same bytes, and nothing held any more.

use std::fs::{self, File};
use std::time::Duration;

use crate::bench::{Bench, Done, PAGE};

/// Marks as close as records allow.
const MARKS: [&str; 2] = ["--mark-every", "4096"];

/// A bench with a store `s` of pages that can't be compressed, and a snapshot `v` of it.
fn stored(pages: usize) -> (Bench, Vec<u8>) {
    let bench = Bench::new();
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let bytes: Vec<u8> = (0..pages * PAGE / 8).flat_map(|_| next()).collect();
    bench.write("f", &bytes);
    bench.ok(&["load", "s", "f", "--page-size", "512"]);
    bench.ok(&["snapshot", "create", "s", "v"]);
    (bench, bytes)
}

fn cut(bench: &Bench, name: &str, len: u64) {
    File::options().write(true).open(bench.path(name)).unwrap().set_len(len).unwrap();
}

/// Nothing is left of the export to `x`, and `v` can go.
fn is_let_go(bench: &Bench) {
    assert!(!bench.path("x.part").exists() && !bench.path("x.token").exists());
    assert_eq!(bench.json(&["snapshot", "ls", "s"])["snapshots"].as_array().unwrap().len(), 1);
    bench.ok(&["snapshot", "rm", "s", "v"]);
}

#[test]
fn a_killed_export_goes_on() {
    let (bench, bytes) = stored(8000);
    bench.ok(&[&["export", "s", "uncut", "--resume"][..], &MARKS].concat());
    let slow =
        [&["export", "s", "x", "--resume", "--snapshot", "v", "--rate", "1048576"][..], &MARKS].concat();
    let mut killed = bench.command(&slow).spawn().unwrap();
    // It takes four seconds, and is killed when it has written something.
    while fs::metadata(bench.path("x.part")).map_or(0, |part| part.len()) < 1 << 20 {
        assert!(killed.try_wait().unwrap().is_none(), "it ended before it could be killed");
        std::thread::sleep(Duration::from_millis(5));
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert!(!bench.path("x").exists() && bench.path("x.token").exists());
    // What is needed to go on can't go.
    bench.refused(&["snapshot", "rm", "s", "v"], 1, "snapshot_held");
    // The store may go on meanwhile.
    bench.write("g", &bytes[PAGE..]);
    bench.ok(&["load", "s", "g"]);

    bench.ok(&["export", "s", "x", "--resume"]);
    assert_eq!(fs::read(bench.path("x")).unwrap(), fs::read(bench.path("uncut")).unwrap());
    is_let_go(&bench);
    bench.ok(&["import", "copy", "x"]);
    assert_eq!(bench.run(&["export", "copy", "--raw"]).stdout, bytes);
}

#[test]
fn a_part_is_gone_on_with_wherever_it_ends() {
    let (bench, _) = stored(3000);
    bench.write("key", &[3; 32]);
    let begin =
        [&["export", "s", "-", "--token-file", "x.token", "--key-file", "key", "--compress"][..], &MARKS]
            .concat();
    let whole = bench.run(&begin);
    assert_eq!((whole.code, &*whole.stderr), (0, ""));
    let (whole, token) = (whole.stdout, fs::read(bench.path("x.token")).unwrap());
    let go_on = ["export", "s", "x", "--resume", "--force", "--key-file", "key"];
    // All but the last are ended, so what the last one holds is held again by a token of its own.
    for len in [0, 1, whole.len() / 3, whole.len() / 2, whole.len() - 1, whole.len()] {
        bench.write("x.part", &whole[..len]);
        let held = bench.path("held");
        // The token is good for as long as it isn't ended: a copy of the store is.
        let _ = fs::remove_dir_all(&held);
        copy_dir(&bench.path("s"), &held);
        bench.write("x.token", &token);
        let done = bench.json(&[&["export", "held"][..], &go_on[2..]].concat());
        assert_eq!((&done["pages"], &done["file"]), (&3000.into(), &"x".into()), "{len}");
        assert!(fs::read(bench.path("x")).unwrap() == whole, "cut at {len}");
        assert!(!bench.path("x.token").exists() && !bench.path("x.part").exists());
        bench.ok(&["snapshot", "rm", "held", "v"]);
    }
    // A part that was damaged is written anew from before the damage.
    let mut bad = whole.clone();
    bad[whole.len() / 2] ^= 1;
    fs::remove_file(bench.path("x")).unwrap();
    bench.write("x.part", &bad);
    bench.write("x.token", &token);
    bench.fails(&["export", "s", "x", "--resume"], 1, "wrong_key");
    bench.fails(&["export", "s", "x", "--resume", "--key-file", "f"], 1, "bad_key");
    bench.ok(&go_on);
    assert!(fs::read(bench.path("x")).unwrap() == whole);
    is_let_go(&bench);
}

fn copy_dir(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn an_export_that_was_whole_only_lets_go() {
    let (bench, _) = stored(100);
    // As if killed between naming the file and ending the token.
    let whole = bench.run(&["export", "s", "-", "--token-file", "x.token"]).stdout;
    bench.write("x", &whole);
    let done = bench.json(&["export", "s", "x", "--resume"]);
    assert_eq!((&done["pages"], &done["bytes"]), (&100.into(), &whole.len().into()));
    assert!(fs::read(bench.path("x")).unwrap() == whole);
    is_let_go(&bench);
    bench.fails(&["export", "s", "x", "--resume"], 1, "already_exists");
}

#[test]
fn a_token_is_for_what_it_was_begun_with() {
    let (bench, bytes) = stored(100);
    bench.write("key", &[3; 32]);
    assert_eq!(bench.run(&["export", "s", "-", "--token-file", "x.token"]).code, 0);
    bench.write("g", &bytes[PAGE..]);
    bench.ok(&["load", "s", "g"]);
    bench.ok(&["snapshot", "create", "s", "w"]);
    let error = bench.fails(&["export", "s", "x", "--resume", "--snapshot", "w"], 1, "other_export");
    assert_eq!(error["file"], "x.token");
    bench.fails(&["export", "s", "x", "--resume", "--since", "v"], 1, "other_export");
    // Who gives a key must not get a stream that lies open.
    bench.fails(&["export", "s", "x", "--resume", "--key-file", "key"], 2, "usage");
    bench.ok(&["init", "t"]);
    bench.fails(&["export", "t", "x", "--resume"], 1, "token_of_another_store");
    let done = bench.run(&["export", "s", "-", "--token-file", "x.token", "--from", "word"]);
    assert!(done.code == 2 && done.stdout.is_empty() && done.stderr.contains("\"word\""), "{}", done.stderr);

    let done = bench.json(&["export", "s", "--end", "--token-file", "x.token"]);
    assert_eq!(done["token_file"], "x.token");
    bench.fails(&["export", "s", "--end", "--token-file", "x.token"], 5, "io");
    bench.write("x.token", b"no token");
    bench.fails(&["export", "s", "x", "--resume"], 2, "bad_token");
    fs::remove_file(bench.path("x.token")).unwrap();
    bench.ok(&["snapshot", "rm", "s", "w"]);
    is_let_go(&bench);
}

#[test]
fn a_delta_that_was_cut_goes_on() {
    let (bench, mut bytes) = stored(2000);
    bench.ok(&["export", "s", "full"]);
    bytes[100 * PAGE..1900 * PAGE].rotate_left(PAGE);
    bench.write("g", &bytes);
    bench.ok(&["load", "s", "g"]);
    let version = bench.json(&["verify", "full"])["version"].clone();
    let begin = [&["export", "s", "-", "--since", "v", "--token-file", "x.token"][..], &MARKS].concat();
    let whole = bench.run(&begin).stdout;
    bench.write("x.part", &whole[..whole.len() * 2 / 3]);
    let done = bench.json(&["export", "s", "x", "--resume", "--since", "v"]);
    assert_eq!((&done["pages"], &done["since_version"]), (&1800.into(), &version));
    assert!(fs::read(bench.path("x")).unwrap() == whole);
    bench.ok(&["import", "copy", "full"]);
    bench.ok(&["apply", "copy", "x"]);
    assert_eq!(bench.run(&["export", "copy", "--raw"]).stdout, bytes);
    is_let_go(&bench);
}

#[test]
fn a_cut_import_takes_the_rest() {
    let (bench, bytes) = stored(3000);
    bench.write("key", &[3; 32]);
    let keyed = ["--key-file", "key"];
    let begin = [&["export", "s", "-", "--token-file", "x.token"][..], &keyed, &MARKS].concat();
    let whole = bench.run(&begin).stdout;
    bench.write("whole", &whole);
    assert_eq!(bench.ok(&["import", "copy", "--point"]), "");
    assert!(bench.json(&["import", "copy", "--point"])["point"].is_null());
    assert!(!bench.path("copy.inbox").exists());

    bench.write("half", &whole[..whole.len() / 2]);
    bench.refused(&[&["import", "copy", "half", "--resume"][..], &keyed].concat(), 3, "bad_stream");
    assert!(bench.path("copy.inbox").exists() && !bench.path("copy").exists());
    bench.fails(&["import", "copy", "--point"], 1, "wrong_key");
    let point = bench.ok(&[&["import", "copy", "--point"][..], &keyed].concat());
    let point = point.trim();
    assert_eq!(bench.json(&[&["import", "copy/", "--point"][..], &keyed].concat())["point"], point);

    let go_on = [&["export", "s", "-", "--token-file", "x.token", "--from", point][..], &keyed].concat();
    let rest = bench.run(&go_on);
    assert_eq!((rest.code, &*rest.stderr), (0, ""));
    assert!(rest.stdout.len() < whole.len() * 2 / 3, "not from the beginning");
    assert!(whole.ends_with(&rest.stdout));
    bench.write("rest", &rest.stdout);
    let piped = |name: &str| File::open(bench.path(name)).unwrap();
    let take = [&["import", "copy", "--resume", "--json"][..], &keyed].concat();
    // Not the rest of this stream: refused, and what was there stays.
    let done = Done::from(bench.command(&take).stdin(piped("whole")).output().unwrap());
    assert_eq!(done.code, 3, "{}", done.stderr);
    let done = Done::from(bench.command(&take).stdin(piped("rest")).output().unwrap());
    assert_eq!((done.code, &*done.stderr), (0, ""));
    assert!(!bench.path("copy.inbox").exists());
    assert_eq!(bench.run(&["export", "copy", "--raw"]).stdout, bytes);
    bench.fails(&[&["import", "copy", "whole", "--resume"][..], &keyed].concat(), 1, "already_exists");

    // A file has all of it.
    bench.refused(&[&["import", "new/", "half", "--resume"][..], &keyed].concat(), 3, "bad_stream");
    let made = bench.json(&[&["import", "new", "whole", "--resume"][..], &keyed].concat());
    assert_eq!(made["pages"], 3000);
    assert_eq!(bench.run(&["export", "new", "--raw"]).stdout, bytes);
    assert!(!bench.path("new.inbox").exists());

    bench.ok(&["export", "s", "--end", "--token-file", "x.token"]);
    is_let_go(&bench);
    // Its time is over.
    let late = bench.run(&go_on);
    assert_eq!(late.code, 2, "{}", late.stderr);
    assert!(!bench.path("x.token").exists());
}

#[test]
fn a_stream_without_marks_is_received_from_its_beginning() {
    let (bench, bytes) = stored(500);
    bench.ok(&["export", "s", "x"]);
    let len = fs::metadata(bench.path("x")).unwrap().len();
    fs::copy(bench.path("x"), bench.path("half")).unwrap();
    cut(&bench, "half", len / 2);
    bench.refused(&["import", "copy", "half", "--resume"], 3, "bad_stream");
    assert_eq!(bench.ok(&["import", "copy", "--point"]), "");
    bench.ok(&["import", "copy", "x", "--resume"]);
    assert_eq!(bench.run(&["export", "copy", "--raw"]).stdout, bytes);
}

#[test]
fn an_export_is_given_up_by_the_name_of_its_file() {
    let (bench, _) = stored(1000);
    let begin = [&["export", "s", "-", "--token-file", "x.token"][..], &MARKS].concat();
    bench.run(&begin);
    assert_eq!(bench.json(&["hold", "ls", "s"])["holds"].as_array().unwrap().len(), 1);
    // Which one it is must be said.
    for args in [&["export", "s", "--end"][..], &["export", "s", "-", "--end"]] {
        bench.fails(args, 2, "usage");
    }
    assert!(bench.ok(&["export", "s", "x", "--end"]).contains("x.token"));
    assert_eq!(bench.json(&["hold", "ls", "s"])["holds"].as_array().unwrap().len(), 0);
    is_let_go(&bench);
}
