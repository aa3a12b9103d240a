//! Exports are whole or not there; what was exported is imported, applied, folded and checked.

use std::fs::{self, File};
use std::process::Stdio;

use serde_json::Value;

use crate::bench::{Bench, PAGE};

#[test]
fn an_export_is_whole_or_not_there() {
    let (bench, bytes) = Bench::loaded(1000);
    let done = bench.json(&["export", "s", "x"]);
    assert_eq!(done["bytes"], fs::metadata(bench.path("x")).unwrap().len());
    assert_eq!(done["pages"], 1000);
    assert!(!bench.path("x.part").exists());
    bench.fails(&["export", "s", "x"], 1, "already_exists");
    // A part that a killed export left is overwritten.
    bench.write("raw.part", &vec![9; 1 << 20]);
    assert!(bench.ok(&["export", "s", "raw", "--raw"]).contains("page count   1000"));
    assert_eq!(fs::read(bench.path("raw")).unwrap(), bytes);
    assert!(!bench.path("raw.part").exists());
    assert_eq!(bench.run(&["export", "s", "-", "--raw"]).stdout, bytes);
    bench.ok(&["export", "s", "raw", "--force"]);
    assert_eq!(fs::read(bench.path("raw")).unwrap(), fs::read(bench.path("x")).unwrap());
    // Neither is replaced by a file, nor a missing directory made.
    bench.fails(&["export", "s", "s", "--force"], 1, "not_plain");
    bench.fails(&["export", "s", "/dev/null", "--force"], 1, "not_plain");
    bench.fails(&["export", "s", "no/x"], 5, "io");
    bench.fails(&["export", "no", "y"], 5, "not_found");

    bench.damage(&bytes[900 * PAGE..901 * PAGE]);
    bench.fails(&["export", "s", "y"], 3, "corrupt");
    bench.fails(&["export", "s", "y", "--raw"], 3, "corrupt");
    bench.fails(&["export", "s", "raw", "--force"], 3, "corrupt");
    assert_eq!(fs::read(bench.path("raw")).unwrap(), fs::read(bench.path("x")).unwrap());
}

#[test]
fn export_into_import_through_a_pipe() {
    let (bench, bytes) = Bench::loaded(3000);
    let mut export = bench.command(&["export", "s"]).stdout(Stdio::piped()).spawn().unwrap();
    let import = bench
        .command(&["import", "copy", "--segment-size", "65536", "--json"])
        .stdin(export.stdout.take().unwrap())
        .output()
        .unwrap();
    assert!(export.wait().unwrap().success() && import.status.success());
    assert!(import.stderr.is_empty());
    let made: Value = serde_json::from_slice(&import.stdout).unwrap();
    let (info, copy) = (bench.json(&["info", "s"]), bench.json(&["info", "copy"]));
    assert_eq!((&made["id"], &made["pages"]), (&copy["id"], &3000.into()));
    assert_ne!(copy["id"], info["id"]);
    for key in ["version", "created_at", "fingerprint", "page_count", "live_pages", "page_size"] {
        assert_eq!(copy[key], info[key], "{key}");
    }
    assert_eq!(bench.run(&["export", "copy", "--raw"]).stdout, bytes);
    assert_eq!(bench.run(&["export", "copy"]).stdout.len(), bench.run(&["export", "s"]).stdout.len());

    bench.ok(&["export", "s", "x"]);
    bench.fails(&["import", "copy", "x"], 1, "already_exists");
    bench.fails(&["import", "new", "no"], 5, "io");
    assert!(bench.ok(&["import", "new", "x"]).contains("pages        3000"));
}

#[test]
fn verify_finds_damage() {
    let (bench, bytes) = Bench::loaded(300);
    bench.ok(&["export", "s", "x"]);
    let store = bench.json(&["verify", "s"]);
    assert_eq!((&store["kind"], &store["pages"]), (&"store".into(), &300.into()));
    let stream = bench.json(&["verify", "x"]);
    assert_eq!((&stream["kind"], &stream["pages"]), (&"stream".into(), &300.into()));
    assert_eq!(stream["fingerprint"], store["fingerprint"]);
    let piped = bench.command(&["verify", "-"]).stdin(File::open(bench.path("x")).unwrap()).output().unwrap();
    assert!(piped.status.success() && bench.ok(&["verify", "s"]).contains("kind         store"));

    let mut whole = fs::read(bench.path("x")).unwrap();
    bench.write("cut", &whole[..whole.len() - 1]);
    bench.fails(&["verify", "cut"], 3, "bad_stream");
    bench.fails(&["import", "new", "cut"], 3, "bad_stream");
    let middle = whole.len() / 2;
    whole[middle] ^= 1;
    bench.write("flipped", &whole);
    assert!(bench.fails(&["verify", "flipped"], 3, "bad_stream")["offset"].is_u64());
    bench.fails(&["import", "new", "flipped"], 3, "bad_stream");
    bench.fails(&["verify", "f"], 3, "bad_stream");
    bench.fails(&["verify", "nothing"], 5, "io");

    bench.damage(&bytes[7 * PAGE..8 * PAGE]);
    let error = bench.fails(&["verify", "s"], 3, "corrupt");
    assert!(error["file"].as_str().unwrap().contains("segment-") && error["offset"].is_u64());
    bench.fails(&["cat", "s", "7"], 3, "corrupt");
    bench.fails(&["load", "s", "f"], 3, "corrupt");
    assert_eq!(bench.run(&["cat", "s", "8"]).stdout, &bytes[8 * PAGE..9 * PAGE]);
}

#[test]
fn deltas_are_exported_applied_folded_and_checked() {
    let (bench, mut bytes) = Bench::loaded(200);
    bench.ok(&["snapshot", "create", "s", "v1"]);
    bench.ok(&["bookmark", "create", "s", "sent", "--snapshot", "v1"]);
    bench.ok(&["export", "s", "v1.full", "--snapshot", "v1"]);
    for (round, name) in ["v2", "v3"].into_iter().enumerate() {
        bytes[(10 + 50 * round) * PAGE..(12 + 50 * round) * PAGE].fill(7 + round as u8);
        bench.write("g", &bytes);
        bench.ok(&["load", "s", "g"]);
        bench.ok(&["snapshot", "create", "s", name]);
    }
    let delta = bench.json(&["export", "s", "v2.delta", "--snapshot", "v2", "--since", "sent"]);
    assert_eq!((delta["pages"].as_u64(), delta["freed"].as_u64()), (Some(2), Some(0)));
    bench.ok(&["bookmark", "rm", "s", "sent"]);
    bench.ok(&["export", "s", "v3.delta", "--snapshot", "v3", "--since", "v2"]);
    assert!(fs::metadata(bench.path("v3.delta")).unwrap().len() < 4000);
    let chain = bench.json(&["verify", "v1.full", "v2.delta", "v3.delta"]);
    assert_eq!(chain["links"].as_array().unwrap().len(), 3);
    bench.refused(&["verify", "v1.full", "v3.delta"], 1, "wrong_base");

    bench.ok(&["import", "copy", "v1.full"]);
    bench.refused(&["apply", "copy", "v3.delta"], 1, "wrong_base");
    bench.ok(&["apply", "copy", "v2.delta"]);
    bench.ok(&["apply", "copy", "v3.delta"]);
    bench.ok(&["export", "copy", "copied", "--raw"]);
    assert_eq!(fs::read(bench.path("copied")).unwrap(), bytes);
    bench.ok(&["verify", "copy"]);

    bench.ok(&["fold", "--out", "v3.full", "v1.full", "v2.delta", "v3.delta"]);
    bench.ok(&["export", "s", "direct", "--snapshot", "v3"]);
    assert_eq!(fs::read(bench.path("v3.full")).unwrap(), fs::read(bench.path("direct")).unwrap());
    assert_eq!(bench.run(&["fold", "--out", "v3.full", "v1.full"]).code, 1, "it is there already");
    let mut damaged = fs::read(bench.path("v2.delta")).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    bench.write("bad.delta", &damaged);
    assert_eq!(bench.run(&["verify", "bad.delta"]).code, 3);
    assert_eq!(bench.run(&["fold", "--out", "bad", "v1.full", "bad.delta"]).code, 3);
    assert!(!bench.path("bad").exists() && !bench.path("bad.part").exists());
    assert_eq!(bench.run(&["export", "s", "x", "--since", "nothing"]).code, 5);

    // Of several files the one that is to blame is named, whatever is done with them.
    let last = ["v1.full", "v2.delta", "bad.v3"];
    let mut damaged = fs::read(bench.path("v3.delta")).unwrap();
    damaged[middle] ^= 1;
    bench.write("bad.v3", &damaged);
    let (middle, base) = (["v1.full", "bad.delta", "v3.delta"], ["v1.full", "v3.delta", "v2.delta"]);
    for command in [&["verify"][..], &["fold", "--out", "out"], &["drill"]] {
        let told = |files: &[&str], code, kind| {
            let error = bench.fails(&[command, files].concat(), code, kind);
            assert!(error["message"].as_str().unwrap().starts_with(error["file"].as_str().unwrap()));
            error["file"].as_str().unwrap().to_owned()
        };
        assert_eq!(told(&middle, 3, "bad_stream"), "bad.delta", "{command:?}");
        assert_eq!(told(&last, 3, "bad_stream"), "bad.v3", "{command:?}");
        assert_eq!(told(&base, 1, "wrong_base"), "v3.delta", "{command:?}");
    }
    // One file alone, too; a directory among them is none that is read.
    assert_eq!(bench.fails(&["apply", "copy", "v2.delta"], 1, "wrong_base")["file"], "v2.delta");
    assert_eq!(bench.fails(&["verify", "v1.full", "s"], 1, "io")["file"], "s");
}

#[test]
fn a_raw_file_is_led_on_by_raw_deltas() {
    let (bench, mut bytes) = Bench::loaded(200);
    bench.ok(&["snapshot", "create", "s", "monday"]);
    bench.ok(&["export", "s", "raw", "--raw"]);
    bytes[7 * PAGE..9 * PAGE].fill(5);
    bench.write("g", &bytes[..180 * PAGE]);
    bench.ok(&["load", "s", "g"]);
    let delta = bench.json(&["export", "s", "d", "--raw", "--since", "monday"]);
    assert_eq!(
        (&delta["format"], &delta["pages"], &delta["page_count"]),
        (&"raw delta".into(), &2.into(), &180.into())
    );
    assert_eq!(
        bench.run(&["export", "s", "--raw", "--since", "monday"]).stdout,
        fs::read(bench.path("d")).unwrap()
    );
    let checked = bench.json(&["verify", "d"]);
    assert_eq!((&checked["kind"], &checked["fingerprint"]), (&"raw delta".into(), &delta["fingerprint"]));
    assert_eq!(checked["bytes"], fs::metadata(bench.path("d")).unwrap().len());

    // What can't be applied leaves the raw file as it was.
    let before = fs::read(bench.path("raw")).unwrap();
    let mut damaged = fs::read(bench.path("d")).unwrap();
    damaged[200] ^= 1;
    bench.write("bad", &damaged);
    for (delta, code, kind) in
        [("bad", 3, "bad_stream"), ("f", 2, "usage"), ("no", 5, "io"), ("-", 2, "usage")]
    {
        bench.fails(&["apply", "raw", delta], code, kind);
    }
    assert_eq!(bench.fails(&["verify", "bad"], 3, "bad_stream")["file"], "bad");
    bench.fails(&["apply", "raw", "d", "--rate", "1048576"], 2, "usage");
    bench.fails(&["apply", "s", "d"], 2, "usage");
    bench.fails(&["export", "s", "x", "--raw", "--since", "nothing"], 5, "snapshot_not_found");
    assert_eq!(fs::read(bench.path("raw")).unwrap(), before);

    // Twice does no harm.
    for _ in 0..2 {
        assert_eq!(bench.json(&["apply", "raw", "d"])["version"], delta["version"]);
        assert_eq!(fs::read(bench.path("raw")).unwrap(), bytes[..180 * PAGE]);
    }
}
