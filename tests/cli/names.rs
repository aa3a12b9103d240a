//! Versions are kept by name, compared, and gone back to.

use std::fs;

use serde_json::Value;

use crate::bench::{Bench, PAGE};

#[test]
fn versions_are_kept_compared_and_gone_back_to() {
    let (bench, bytes) = Bench::loaded(20);
    let made = bench.json(&["snapshot", "create", "s", "monday", "--label", "by=hand", "--expires", "7d"]);
    assert_eq!((&made["name"], &made["labels"]["by"]), (&"monday".into(), &"hand".into()));
    assert!(bench.ok(&["snapshot", "ls", "s"]).contains("by=hand"));
    let mut changed = bytes.clone();
    changed[3 * PAGE..5 * PAGE].fill(0xEE);
    bench.write("g", &changed[..18 * PAGE]);
    bench.ok(&["load", "s", "g"]);
    let diff = bench.json(&["snapshot", "diff", "s", "monday"]);
    assert_eq!((diff["pages_written"].as_u64(), diff["pages_freed"].as_u64()), (Some(2), Some(2)));
    assert_eq!(diff["changes"][0]["first_page"], 3);
    let space = bench.json(&["snapshot", "space", "s"]);
    assert!(space["snapshots"][0]["unique_bytes"].as_u64().unwrap() >= 4 * PAGE as u64, "{space}");
    bench.ok(&["export", "s", "old", "--raw", "--snapshot", "monday"]);
    assert_eq!(fs::read(bench.path("old")).unwrap(), bytes);
    let back = bench.json(&["snapshot", "rollback", "s", "monday"]);
    assert_eq!((back["pages_written"].as_u64(), back["pages_freed"].as_u64()), (Some(4), Some(0)));
    bench.ok(&["export", "s", "now", "--raw"]);
    assert_eq!(fs::read(bench.path("now")).unwrap(), bytes);
    let kept = back["kept_as"].as_str().unwrap();
    bench.ok(&["export", "s", "head", "--raw", "--snapshot", kept]);
    assert_eq!(fs::read(bench.path("head")).unwrap(), &changed[..18 * PAGE]);

    let clone = bench.json(&["clone", "s", "copy", "--snapshot", kept]);
    assert_eq!(clone["bytes_copied"], 0);
    bench.ok(&["export", "copy", "cloned", "--raw"]);
    assert_eq!(fs::read(bench.path("cloned")).unwrap(), &changed[..18 * PAGE]);
    assert_eq!(bench.run(&["clone", "s", "copy"]).code, 1, "it is there already");

    bench.ok(&["hold", "add", "s", "monday", "auditor"]);
    assert_eq!(
        bench.refused(&["snapshot", "rm", "s", "monday"], 1, "snapshot_held")["holders"][0],
        "auditor"
    );
    let dry = bench.json(&["snapshot", "rm", "s", kept, "--dry-run"]);
    assert_eq!(dry["bytes_freed"], bench.json(&["snapshot", "rm", "s", kept])["bytes_freed"]);
    bench.ok(&["snapshot", "rm", "s", "monday", "--when-released"]);
    bench.ok(&["hold", "rm", "s", "monday", "auditor"]);
    assert_eq!(bench.json(&["snapshot", "ls", "s"])["snapshots"].as_array().unwrap().len(), 0);
    bench.ok(&["snapshot", "create", "s", "a"]);
    bench.ok(&["snapshot", "rename", "s", "a", "b"]);
    assert!(bench.ok(&["ls", "s"]).contains("b "));
    assert_eq!(bench.run(&["snapshot", "rollback", "s", "a"]).code, 5);
    assert_eq!(bench.run(&["snapshot", "create", "s", "c", "--expires", "soon"]).code, 2);
    assert_eq!(bench.run(&["snapshot", "create", "s", " c"]).code, 2);
}

#[test]
fn the_log_is_the_history_of_what_is_kept() {
    let (bench, mut bytes) = Bench::loaded(20);
    bench.ok(&["snapshot", "create", "s", "monday"]);
    bench.ok(&["bookmark", "create", "s", "sent"]);
    bytes[3 * PAGE..5 * PAGE].fill(0xEE);
    bench.write("g", &bytes[..18 * PAGE]);
    bench.ok(&["load", "s", "g"]);
    bench.ok(&["bookmark", "create", "s", "passed"]);
    bytes[..PAGE].fill(0xDD);
    bench.write("g", &bytes[..18 * PAGE]);
    bench.ok(&["load", "s", "g"]);
    bench.ok(&["snapshot", "create", "s", "tuesday"]);

    let log = bench.json(&["log", "s"]);
    let versions = log["versions"].as_array().unwrap();
    let numbers: Vec<u64> = versions.iter().map(|line| line["version"].as_u64().unwrap()).collect();
    // A name is a commit too.
    assert_eq!(numbers, [7, 4, 2], "the newest first: {log}");
    assert_eq!((&versions[0]["is_current"], &versions[0]["snapshots"][0]), (&true.into(), &"tuesday".into()));
    // Against monday, since nothing of what was only remembered is left to compare with.
    assert_eq!((&versions[0]["pages_written"], &versions[0]["pages_freed"]), (&3.into(), &2.into()));
    assert_eq!(versions[1]["bookmarks"][0], "passed");
    assert!(versions[1]["pages_written"].is_null() && versions[1]["live_pages"].is_null());
    assert_eq!(versions[1]["fingerprint"].as_str().unwrap().len(), 32);
    assert_eq!(
        (&versions[2]["snapshots"][0], &versions[2]["bookmarks"][0]),
        (&"monday".into(), &"sent".into())
    );
    assert!(versions[2]["pages_written"].is_null(), "nothing before it is kept");
    let text = bench.ok(&["log", "s", "-n", "1"]);
    assert!(text.starts_with("VERSION  CREATED AT") && text.lines().count() == 2, "{text}");
    assert_eq!(bench.run(&["log", "s", "--limit", "0"]).code, 2);
}

#[test]
fn a_command_about_a_version_takes_any_that_is_kept() {
    let (bench, bytes) = Bench::loaded(20);
    bench.ok(&["snapshot", "create", "s", "monday"]);
    bench.write("g", &bytes[..2 * PAGE]);
    bench.ok(&["load", "s", "g"]);
    assert_eq!(bench.run(&["cat", "s", "7", "--snapshot", "monday"]).stdout, bytes[7 * PAGE..8 * PAGE]);
    assert_eq!(bench.fails(&["cat", "s", "7"], 5, "page_out_of_range")["page_count"], 2);
    assert_eq!(bench.json(&["verify", "s"])["pages"], 2);
    assert_eq!(bench.json(&["verify", "s", "--snapshot", "monday"])["pages"], 20);
    let all = bench.json(&["verify", "s", "--all"]);
    assert_eq!((&all["versions"][0]["name"], &all["versions"][0]["pages"]), (&Value::Null, &2.into()));
    assert_eq!((&all["versions"][1]["name"], &all["versions"][1]["pages"]), (&"monday".into(), &20.into()));
    assert_eq!(bench.refused(&["verify", "s", "--snapshot", "no"], 5, "snapshot_not_found")["name"], "no");
    bench.fails(&["verify", "g", "--all"], 2, "usage");
    bench.fails(&["verify", "g", "f", "--snapshot", "monday"], 2, "usage");
    assert_eq!(bench.run(&["verify", "s", "--all", "--snapshot", "monday"]).code, 2);

    // What is damaged in an old version only is found where that is looked at.
    bench.damage(&bytes[9 * PAGE..10 * PAGE]);
    bench.ok(&["verify", "s"]);
    bench.fails(&["verify", "s", "--all"], 3, "corrupt");
    bench.fails(&["cat", "s", "9", "--snapshot", "monday"], 3, "corrupt");
}

#[test]
fn dropping_several_drops_all_or_none() {
    let (bench, _) = Bench::loaded(5);
    for name in ["a", "b", "c"] {
        bench.ok(&["snapshot", "create", "s", name, "--expires", "2w"]);
    }
    bench.ok(&["hold", "add", "s", "b", "auditor", "--expires", "1d"]);
    let names = || {
        let listed = bench.json(&["snapshot", "ls", "s"]);
        let of = |line: &Value| line["name"].as_str().unwrap().to_owned();
        listed["snapshots"].as_array().unwrap().iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(
        bench.refused(&["snapshot", "rm", "s", "a", "b"], 1, "snapshot_held")["holders"][0],
        "auditor"
    );
    assert_eq!(bench.refused(&["snapshot", "rm", "s", "a", "d"], 5, "snapshot_not_found")["name"], "d");
    assert_eq!(names(), ["a", "b", "c"]);
    let holds = bench.json(&["hold", "ls", "s"]);
    assert_eq!((&holds["holds"][0]["name"], &holds["holds"][0]["owner"]), (&"b".into(), &"auditor".into()));
    assert!(holds["holds"][0]["expires_at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(bench.json(&["snapshot", "rm", "s", "a", "a", "b", "--when-released"])["snapshots"], 2);
    assert_eq!(names(), ["b", "c"]);
    let listed = bench.json(&["snapshot", "ls", "s"]);
    assert_eq!(listed["snapshots"][0]["is_leaving"], true);

    // What is noted is replaced as a whole.
    assert!(listed["snapshots"][1]["expires_at"].is_string());
    let noted = bench.json(&["snapshot", "describe", "s", "c", "--label", "keep=yes"]);
    assert_eq!((&noted["labels"]["keep"], &noted["expires_at"]), (&"yes".into(), &Value::Null));
    assert!(bench.ok(&["snapshot", "ls", "s"]).contains("never"));
}

#[test]
fn a_label_that_is_given_twice_is_refused() {
    let (bench, _) = Bench::loaded(5);
    bench.ok(&["snapshot", "create", "s", "a", "--label", "by=hand", "--label", "why=hand"]);
    for command in [
        &["snapshot", "create", "s", "b"][..],
        &["snapshot", "describe", "s", "a"],
        &["group", "create", "b", "s"],
        &["tick", "s", "hourly", "--every", "1h"],
    ] {
        let refused = [command, &["--label", "by=hand", "--label", "by=clock"]].concat();
        let message = bench.refused(&refused, 2, "usage")["message"].clone();
        assert!(message.as_str().unwrap().contains("the label \"by\" is given twice"), "{message}");
    }
    let listed = bench.json(&["snapshot", "ls", "s"]);
    assert_eq!(listed["snapshots"].as_array().unwrap().len(), 1, "{listed}");
    assert_eq!(listed["snapshots"][0]["labels"]["by"], "hand");
}

#[test]
fn what_is_still_held_is_not_told_as_freed() {
    let (bench, _) = Bench::loaded(20);
    bench.ok(&["snapshot", "create", "s", "held"]);
    bench.ok(&["hold", "add", "s", "held", "auditor"]);
    bench.write("g", &[7; 20 * PAGE]);
    bench.ok(&["load", "s", "g"]);
    bench.ok(&["snapshot", "create", "s", "free"]);
    bench.write("g", &[8; 20 * PAGE]);
    bench.ok(&["load", "s", "g"]);
    let free = bench.json(&["snapshot", "rm", "s", "free", "--dry-run"])["bytes_freed"].clone();
    let rm = ["snapshot", "rm", "s", "held", "free", "--when-released"];
    let dry = bench.json(&[&rm[..], &["--dry-run"]].concat());
    let done = bench.json(&rm);
    for told in [&dry, &done] {
        assert_eq!((&told["snapshots"], &told["still_held"]), (&2.into(), &1.into()), "{told}");
        assert_eq!(told["bytes_freed"], free, "{told}");
        assert!(told["bytes_still_held"].as_u64().unwrap() >= 20 * PAGE as u64, "{told}");
    }
    let space = bench.json(&["snapshot", "space", "s"]);
    assert_eq!(space["snapshots"][0]["unique_bytes"], done["bytes_still_held"], "{space}");
}

#[test]
fn snapshots_and_bookmarks_are_renamed_each_by_its_own_command() {
    let (bench, _) = Bench::loaded(5);
    bench.ok(&["snapshot", "create", "s", "kept"]);
    bench.ok(&["bookmark", "create", "s", "sent"]);
    assert_eq!(bench.json(&["bookmark", "rename", "s", "sent", "sent twice"])["name"], "sent twice");
    assert_eq!(
        bench.refused(&["bookmark", "rename", "s", "kept", "x"], 5, "bookmark_not_found")["name"],
        "kept"
    );
    let refused = bench.refused(&["bookmark", "rm", "s", "kept"], 5, "bookmark_not_found");
    assert!(refused["message"].as_str().unwrap().contains("no bookmark named \"kept\""), "{refused}");
    bench.refused(&["snapshot", "rename", "s", "sent twice", "x"], 5, "snapshot_not_found");
    bench.refused(&["snapshot", "rename", "s", "kept", "sent twice"], 1, "snapshot_exists");
    assert_eq!(bench.json(&["bookmark", "ls", "s"])["bookmarks"][0]["name"], "sent twice");
}
