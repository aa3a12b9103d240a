//! Which versions stay: by rules, by the clock, and without a name.

use std::fs;

use serde_json::Value;

use crate::bench::{Bench, PAGE};

/// The snapshots' names.
fn names(bench: &Bench) -> Vec<String> {
    let listed = bench.json(&["snapshot", "ls", "s"]);
    let name = |line: &Value| line["name"].as_str().unwrap().to_owned();
    listed["snapshots"].as_array().unwrap().iter().map(name).collect()
}

#[test]
fn prune_says_what_goes_and_why_the_others_stay() {
    let (bench, mut bytes) = Bench::loaded(40);
    for (round, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
        bytes[round * PAGE..(round + 3) * PAGE].fill(round as u8 + 1);
        bench.write("g", &bytes);
        bench.ok(&["load", "s", "g"]);
        bench.ok(&["snapshot", "create", "s", name, "--label", &format!("round={round}")]);
    }
    bench.ok(&["snapshot", "create", "s", "mine"]);
    bench.ok(&["hold", "add", "s", "b", "auditor"]);
    let rules = ["prune", "s", "--keep-last", "2", "--keep-label", "round=2"];
    let dry = bench.json(&[&rules[..], &["--dry-run"]].concat());
    assert_eq!((&dry["kept"], &dry["dropped"]), (&4.into(), &1.into()), "{dry}");
    let why = |index: usize| dry["snapshots"][index]["why"].as_str().unwrap().to_owned();
    assert!(dry["snapshots"][0]["stays"] == false && why(0).contains("no rule keeps it"), "{dry}");
    assert!(dry["snapshots"][1]["stays"] == true && why(1).contains("held by auditor"), "{dry}");
    assert!(why(2).contains("round=2") && why(3).contains("last 2"), "{dry}");
    assert_eq!(names(&bench).len(), 5);
    assert_eq!(dry["bytes_freed"], bench.json(&["snapshot", "rm", "s", "a", "--dry-run"])["bytes_freed"]);
    assert!(bench.ok(&[&rules[..], &["--dry-run"]].concat()).contains("held by auditor"));

    let done = bench.json(&rules);
    assert_eq!((&done["dropped"], &done["bytes_freed"]), (&1.into(), &dry["bytes_freed"]));
    assert_eq!(names(&bench), ["b", "c", "d", "mine"]);
    // What has no such label neither goes nor counts.
    let done = bench.json(&["prune", "s", "--keep-last", "1", "--only-label", "round=3"]);
    assert_eq!((&done["kept"], &done["dropped"]), (&1.into(), &0.into()));
    // Without a rule only what has expired goes.
    bench.ok(&["snapshot", "create", "s", "short", "--expires", "0s"]);
    assert_eq!(bench.json(&["prune", "s"])["dropped"], 1);
    assert_eq!(names(&bench), ["b", "c", "d", "mine"]);
    assert_eq!(bench.run(&["prune", "s", "--keep-daily", "x"]).code, 2);
    // A script whose number came out as nothing must not drop everything.
    for rule in
        ["--keep-last", "--keep-hourly", "--keep-daily", "--keep-weekly", "--keep-monthly", "--keep-yearly"]
    {
        assert_eq!(bench.run(&["prune", "s", rule, "0"]).code, 2, "{rule}");
        assert_eq!(bench.run(&["tick", "s", "t", "--every", "1h", rule, "0"]).code, 2, "{rule}");
    }
    assert_eq!(names(&bench), ["b", "c", "d", "mine"]);
    // Told as people write times, and as --at takes them.
    bench.ok(&["snapshot", "create", "s", "long", "--expires", "1w"]);
    let told = bench.json(&["prune", "s", "--dry-run"]);
    let why = told["snapshots"][4]["why"].as_str().unwrap();
    let until = why.rsplit(' ').next().unwrap();
    assert!(why.contains("not expired before") && until.contains(':'), "{why}");
    bench.ok(&["cat", "s", "0", "--hex", "--at", until]);
}

#[test]
fn a_tick_makes_what_is_due_once() {
    let (bench, _) = Bench::loaded(5);
    let args =
        ["tick", "s", "weekly", "--every", "4w", "--offset", "1h", "--label", "by=cron", "--keep-last", "2"];
    let first = bench.json(&args);
    let name = first["snapshot"].as_str().unwrap();
    assert!(name.starts_with("weekly-2") && first["missed"] == 0, "{first}");
    let again = bench.json(&args);
    assert!(again["snapshot"].is_null() && again["next"] == first["next"], "{again}");
    assert!(bench.ok(&args).contains("nothing was due"));
    let listed = bench.json(&["snapshot", "ls", "s"]);
    assert_eq!(listed["snapshots"][0]["labels"]["by"], "cron");
    assert_eq!(names(&bench), [name]);
    bench.refused(&["tick", "s", "never", "--every", "0s"], 2, "invalid_option");
    bench.refused(&["tick", "s", "late", "--every", "1h", "--offset", "2h"], 2, "invalid_option");
    assert_eq!(bench.refused(&["tick", "s", "", "--every", "1h"], 2, "invalid_name")["value"], "");
}

#[test]
fn versions_without_a_name_are_found_by_number_and_by_time() {
    let (bench, bytes) = Bench::loaded(20);
    assert_eq!(bench.json(&["history", "s"])["is_on"], false);
    let set = bench.json(&["history", "s", "--within", "1h"]);
    assert_eq!((&set["is_on"], &set["versions"]), (&true.into(), &1.into()), "{set}");
    let mut changed = bytes.clone();
    let mut versions = Vec::new();
    for round in 1..=3u8 {
        changed[..PAGE].fill(round);
        bench.write("g", &changed);
        versions.push(bench.json(&["load", "s", "g"])["version"].as_u64().unwrap());
    }
    let first = versions[0].to_string();
    assert_eq!(bench.run(&["cat", "s", "0", "--at", &first]).stdout, [1; PAGE]);
    assert_eq!(bench.run(&["cat", "s", "0"]).stdout, [3; PAGE]);
    let log = bench.json(&["log", "s"]);
    let told: Vec<u64> =
        log["versions"].as_array().unwrap().iter().map(|line| line["version"].as_u64().unwrap()).collect();
    assert!(
        told.is_sorted_by(|a, b| a > b) && versions.iter().all(|version| told.contains(version)),
        "{log}"
    );
    assert_eq!(log["versions"][1]["pages_written"], 1);
    let time =
        log["versions"].as_array().unwrap().iter().find(|line| line["version"] == versions[1]).unwrap();
    let time = time["created_at"].as_str().unwrap();
    assert_eq!(bench.run(&["cat", "s", "0", "--at", time]).stdout, [2; PAGE]);
    assert_eq!(bench.run(&["cat", "s", "0", "--at", "0s"]).stdout, [3; PAGE]);
    assert_eq!(bench.json(&["verify", "s", "--all"])["versions"].as_array().unwrap().len(), told.len());
    bench.ok(&["export", "s", "old", "--raw", "--at", &first]);
    assert_eq!(fs::read(bench.path("old")).unwrap()[..PAGE], [1; PAGE]);
    assert_eq!(bench.json(&["clone", "s", "copy", "--at", &first])["version"], versions[0]);

    let back = bench.json(&["snapshot", "rollback", "s", "--at", &first]);
    assert_eq!(back["pages_written"], 1);
    assert_eq!(bench.run(&["cat", "s", "0"]).stdout, [1; PAGE]);

    assert_eq!(
        bench.refused(&["cat", "s", "0", "--at", "1000000"], 5, "version_not_kept")["version"],
        1_000_000
    );
    bench.refused(&["cat", "s", "0", "--at", "2001-01-01"], 5, "time_not_kept");
    for args in [
        &["cat", "s", "0", "--at", "soon"][..],
        &["cat", "s", "0", "--at", "1", "--snapshot", "x"],
        &["history", "s", "--off", "--versions", "3"],
        &["snapshot", "rollback", "s"],
    ] {
        assert_eq!(bench.run(args).code, 2, "{args:?}");
    }
    bench.refused(&["history", "s", "--one-per", "1m"], 2, "usage");
    bench.refused(&["history", "s", "--versions", "0"], 2, "invalid_option");
    assert!(
        bench
            .ok(&["history", "s", "--versions", "2", "--one-per", "1m"])
            .contains("the last version of each 60s, 2 at most")
    );
    let off = bench.json(&["history", "s", "--off"]);
    assert_eq!((&off["is_on"], &off["keeps"]), (&false.into(), &"no versions without a name".into()));
    bench.refused(&["cat", "s", "0", "--at", &first], 5, "version_not_kept");
}
