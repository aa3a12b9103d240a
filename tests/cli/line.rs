//! The command line itself: exit codes, help, and what is printed where.

use std::fs::{self, File};

use serde_json::Value;
use vellum::{Options, Store};

use crate::bench::{Bench, Done, tree};

const READERS: [&[&str]; 8] = [
    &["info"],
    &["ls"],
    &["log"],
    &["stat"],
    &["verify"],
    &["cat", "0"],
    &["export", "out"],
    &["map", "out"],
];

/// `words` with `dir` as the first argument.
fn on<'a>(words: &[&'a str], dir: &'a str) -> Vec<&'a str> {
    [&words[..1], &[dir], &words[1..]].concat()
}

#[test]
fn a_store_in_use_is_exit_code_4() {
    let (bench, _) = Bench::loaded(3);
    let held = Store::open(bench.path("s"), Options::new().create(false)).unwrap();
    for reader in READERS {
        assert_eq!(bench.fails(&on(reader, "s"), 4, "locked")["dir"], "s");
    }
    bench.fails(&["load", "s", "f"], 4, "locked");
    drop(held);
    bench.ok(&["info", "s"]);
}

#[test]
fn what_is_no_store_is_exit_code_5_and_stays_as_it_is() {
    let bench = Bench::new();
    fs::create_dir(bench.path("empty")).unwrap();
    fs::create_dir(bench.path("foreign")).unwrap();
    bench.write("foreign/file", b"mine");
    bench.write("file", &[0; 512]);
    for reader in READERS {
        bench.fails(&on(reader, "missing"), 5, if reader == ["verify"] { "io" } else { "not_found" });
        bench.fails(&on(reader, "empty"), 5, "not_found");
        bench.fails(&on(reader, "foreign"), 5, "not_a_store");
        if reader != ["verify"] {
            bench.fails(&on(reader, "file"), 5, "not_a_directory");
        }
    }
    bench.fails(&["load", "foreign", "file", "--page-size", "512"], 5, "not_a_store");
}

#[test]
fn a_wrong_command_line_is_exit_code_2() {
    let (bench, _) = Bench::loaded(1);
    let before = tree(bench.0.path());
    for args in [&["frobnicate"][..], &["cat", "s"], &["cat", "s", "x"], &["info", "s", "--nope"], &[]] {
        let done = bench.run(args);
        assert_eq!((done.code, done.stdout.len()), (2, 0), "{args:?}");
        assert!(done.stderr.contains("--help"), "{}", done.stderr);
    }
    let done = bench.run(&["cat", "s", "x", "--json"]);
    let error: Value = serde_json::from_str(&done.stderr).unwrap();
    assert_eq!((done.code, &error["error"]["kind"]), (2, &"usage".into()));
    // Standard output can't carry two things.
    let done = bench.run(&["export", "s", "--json"]);
    let error: Value = serde_json::from_str(&done.stderr).unwrap();
    assert_eq!((done.code, done.stdout.len(), &error["error"]["kind"]), (2, 0, &"usage".into()));
    assert_eq!(tree(bench.0.path()), before);
}

#[test]
fn a_full_disk_is_exit_code_6() {
    let (bench, _) = Bench::loaded(100);
    let full = || File::options().write(true).open("/dev/full").unwrap();
    for args in [&["export", "s"][..], &["export", "s", "--raw"], &["info", "s"], &["cat", "s", "0"]] {
        let done = Done::from(bench.command(args).stdout(full()).output().unwrap());
        assert_eq!(done.code, 6, "{args:?}");
        assert!(done.stderr.starts_with("vellum: can't write to standard output"), "{}", done.stderr);
    }
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let (bench, _) = Bench::loaded(3000);
    for args in [&["export", "s"][..], &["export", "s", "--raw"], &["info", "s"], &["cat", "s", "0", "--hex"]]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let done = Done::from(bench.command(args).stdout(writer).output().unwrap());
        assert_eq!((done.code, &*done.stderr), (141, ""), "{args:?}");
    }
    bench.ok(&["verify", "s"]);
}

#[test]
fn nothing_moves_in_a_pipe() {
    // `ok` has seen to it that standard error is empty; here, that no output has an escape code.
    let (bench, _) = Bench::loaded(2000);
    bench.ok(&["export", "s", "x"]);
    let commands: [&[&str]; 6] = [
        &["load", "s", "f"],
        &["verify", "s"],
        &["verify", "x"],
        &["export", "s", "y"],
        &["import", "copy", "x"],
        &["export", "s", "z", "--raw", "--quiet"],
    ];
    for args in commands {
        let text = bench.ok(args);
        assert!(!text.contains(['\u{1b}', '\r']), "{text}");
    }
    let done = bench.run(&["info", "nowhere"]);
    assert!(!done.stderr.contains('\u{1b}'));
}

/// Every command, with the words that lead to it.
fn commands(bench: &Bench, words: &[String]) -> Vec<Vec<String>> {
    let args: Vec<&str> = words.iter().map(String::as_str).chain(["--help"]).collect();
    let help = bench.ok(&args);
    let listed =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = listed.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let mut found = vec![words.to_vec()];
    for name in names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help") {
        found.extend(commands(bench, &[words, &[name.to_owned()]].concat()));
    }
    found
}

#[test]
fn help_teaches() {
    let bench = Bench::new();
    let help = bench.ok(&["--help"]);
    for part in ["Exit codes:", "6  the disk is full", "locks the store", "Example:"] {
        assert!(help.contains(part), "{part}");
    }
    let commands = commands(&bench, &[]);
    for known in ["log", "snapshot create", "hold ls", "bookmark rename", "completions", "man"] {
        assert!(commands.iter().any(|words| words.join(" ") == known), "{known}");
    }
    for words in commands {
        let args: Vec<&str> = words.iter().map(String::as_str).chain(["--help"]).collect();
        let help = bench.ok(&args);
        let example = format!("Example:\n  vellum {}", words.first().map_or("", String::as_str));
        assert!(help.contains(&example), "{words:?}");
        assert!(help.lines().all(|line| line.chars().count() <= 120), "{help}");
    }
    assert!(bench.ok(&["--version"]).starts_with("vellum "));
}

#[test]
fn examples_in_the_help_are_command_lines_that_there_are() {
    let bench = Bench::new();
    for words in commands(&bench, &[]) {
        let args: Vec<&str> = words.iter().map(String::as_str).chain(["--help"]).collect();
        let help = bench.ok(&args);
        let examples = help.lines().skip_while(|line| *line != "Example:").skip(1);
        let ours = examples.flat_map(|line| line.split(&['|', '>', '&'][..]));
        for line in ours.filter_map(|part| part.trim().strip_prefix("vellum ")) {
            // In an empty directory each fails, but none for making no sense; what only prints or makes something doesn't.
            let args: Vec<&str> = line
                .split(" ||")
                .next()
                .unwrap()
                .split_whitespace()
                .map(|word| word.trim_matches('\''))
                // What the shell puts there: here nothing.
                .map(|word| if word.starts_with("\"$") { "" } else { word })
                .collect();
            if args[0] != "man" {
                let done = bench.run(&args);
                assert_ne!(done.code, 2, "vellum {line}: {}", done.stderr);
            }
        }
    }
}

#[test]
fn shells_complete_and_man_pages_are_there() {
    let bench = Bench::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = bench.ok(&["completions", shell]);
        assert!(script.contains("snapshot") && script.contains("when-released"), "{shell}");
    }
    assert!(bench.json(&["completions", "bash"])["script"].as_str().unwrap().contains("complete -F _vellum"));
    assert_eq!(bench.run(&["completions", "cmd"]).code, 2);
    // A shell that is there takes it.
    bench.write("script", bench.ok(&["completions", "bash"]).as_bytes());
    if let Ok(checked) = std::process::Command::new("bash").arg("-n").arg(bench.path("script")).output() {
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    }

    let made = bench.json(&["man", "pages"]);
    let pages = fs::read_dir(bench.path("pages")).unwrap().count();
    assert_eq!(made["pages"], pages);
    assert_eq!(pages, commands(&bench, &[]).len(), "one for each command");
    let page = fs::read_to_string(bench.path("pages/vellum-snapshot-rm.1")).unwrap();
    assert!(
        page.starts_with('.') && page.contains("when\\-released") && page.contains("vellum snapshot rm shop")
    );
    assert_eq!(bench.json(&["man", "pages"])["pages"], pages, "again, in place of those that are there");
    bench.fails(&["man", "no/parent"], 5, "io");
    bench.fails(&["man", "script"], 1, "io");
}
