//! Several stores are kept, exported and brought back as of one moment.

use std::fs;

use crate::bench::{Bench, PAGE};

#[test]
fn a_group_is_kept_exported_checked_and_brought_back_as_one() {
    let (bench, bytes) = Bench::loaded(30);
    bench.ok(&["init", "t", "--page-size", "512", "--segment-size", "65536"]);
    bench.write("h", &bytes[..7 * PAGE]);
    bench.ok(&["load", "t", "h"]);
    let made = bench.json(&["group", "create", "nightly", "s", "t", "--label", "by=hand"]);
    let dirs: Vec<&str> =
        made["members"].as_array().unwrap().iter().map(|member| member["dir"].as_str().unwrap()).collect();
    assert!(dirs.len() == 2 && dirs.contains(&"s") && dirs.contains(&"t"), "{made}");
    // What comes after isn't in it.
    bench.write("g", &bytes[..3 * PAGE]);
    bench.ok(&["load", "s", "g"]);
    bench.ok(&["load", "t", "g"]);
    let listed = bench.json(&["group", "ls", "t", "s"]);
    assert_eq!(
        (&listed["groups"][0]["name"], &listed["groups"][0]["is_complete"]),
        (&"nightly".into(), &true.into())
    );
    assert_eq!(listed["groups"][0]["id"], made["id"]);
    let part = bench.json(&["group", "ls", "s"]);
    assert_eq!(part["groups"][0]["is_complete"], false);
    assert_eq!(
        bench.refused(&["group", "export", "nightly", "x", "s"], 1, "group_incomplete")["name"],
        "nightly"
    );

    let written = bench.json(&["group", "export", "nightly", "out", "s", "t", "--jobs", "2"]);
    assert_eq!(written["id"], made["id"]);
    let checked = bench.json(&["group", "verify", "out"]);
    assert_eq!(checked["members"], written["members"]);
    let back = bench.json(&["group", "import", "out", "back"]);
    for (index, member) in back["members"].as_array().unwrap().iter().enumerate() {
        assert_eq!(member["fingerprint"], made["members"][index]["fingerprint"]);
        let pages = if dirs[index] == "s" { 30 } else { 7 };
        assert_eq!(
            bench.run(&["export", member["dir"].as_str().unwrap(), "--raw"]).stdout,
            bytes[..pages * PAGE]
        );
    }
    bench.fails(&["group", "import", "out", "back"], 1, "already_exists");
    bench.refused(&["group", "export", "nightly", "out", "s", "t"], 1, "already_exists");

    let file = bench.path("out").join(written["members"][0]["file"].as_str().unwrap());
    let mut damaged = fs::read(&file).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    fs::write(&file, damaged).unwrap();
    assert_eq!(bench.run(&["group", "verify", "out"]).code, 3);
    assert_eq!(bench.run(&["group", "import", "out", "new"]).code, 3);
    assert!(!bench.path("new").exists());

    bench.ok(&["group", "rm", "nightly", "s", "t"]);
    assert_eq!(bench.json(&["group", "ls", "s", "t"])["groups"].as_array().unwrap().len(), 0);
    assert_eq!(bench.run(&["group", "rm", "nightly", "s", "t"]).code, 5);
    bench.refused(&["group", "create", "again", "s", "s"], 2, "usage");
    assert_eq!(bench.run(&["group", "create", "again"]).code, 2);
    assert_eq!(bench.run(&["group", "verify", "out", "--jobs", "0"]).code, 2);
}
