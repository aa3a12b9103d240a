//! The real `vellum` binary, as a shell would run it: what it prints, what it writes, how it exits.
#![allow(clippy::cast_possible_truncation, reason = "tests count in small numbers")]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use vellum::{Options, Store};

const PAGE: usize = 512;

/// A directory to work in, which is also the commands' working directory.
struct Bench(TempDir);

/// How a command ended, as text.
struct Done {
    code: i32,
    stdout: Vec<u8>,
    stderr: String,
}

impl Bench {
    fn new() -> Bench {
        Bench(TempDir::new().unwrap())
    }

    /// A bench with a store `s` of small segments that holds the file `f` of `pages` pages.
    fn loaded(pages: usize) -> (Bench, Vec<u8>) {
        let bench = Bench::new();
        bench.ok(&["init", "s", "--page-size", "512", "--segment-size", "65536"]);
        let bytes = page_file(pages);
        bench.write("f", &bytes);
        bench.ok(&["load", "s", "f"]);
        (bench, bytes)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vellum"));
        command.args(args).current_dir(self.0.path()).stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Done {
        Done::from(self.command(args).output().unwrap())
    }

    /// Runs what must succeed, silently as far as standard error goes; gives standard output.
    fn ok(&self, args: &[&str]) -> String {
        let done = self.run(args);
        assert_eq!((done.code, &*done.stderr), (0, ""), "{args:?}");
        String::from_utf8(done.stdout).unwrap()
    }

    fn json(&self, args: &[&str]) -> Value {
        let text = self.ok(&[args, &["--json"]].concat());
        assert_eq!(text.lines().count(), 1, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Runs what must fail; gives the error object.
    fn refused(&self, args: &[&str], code: i32, kind: &str) -> Value {
        let done = self.run(&[args, &["--json"]].concat());
        let error = serde_json::from_str::<Value>(&done.stderr).unwrap()["error"].clone();
        assert_eq!((done.code, error["kind"].as_str()), (code, Some(kind)), "{args:?}: {}", done.stderr);
        error
    }

    /// Runs what must fail, as text and as JSON, without any trace in the directory; gives the error object.
    fn fails(&self, args: &[&str], code: i32, kind: &str) -> Value {
        let before = tree(self.0.path());
        let done = self.run(args);
        assert_eq!((done.code, done.stdout.len()), (code, 0), "{args:?}: {}", done.stderr);
        let message = done.stderr.strip_prefix("vellum: ").unwrap().trim_end();
        assert_eq!(message.lines().count(), 1, "{message}");
        let done = self.run(&[args, &["--json"]].concat());
        assert_eq!((done.code, done.stdout.len()), (code, 0), "{args:?}: {}", done.stderr);
        let error: Value = serde_json::from_str(&done.stderr).unwrap();
        assert_eq!(error["error"]["kind"], kind, "{error}");
        assert_eq!(error["error"]["exit_code"], code);
        assert_eq!(error["error"]["message"], message);
        assert_eq!(tree(self.0.path()), before, "{args:?} left something behind");
        error["error"].clone()
    }

    /// Flips a bit of the store's copy of `page`.
    fn damage(&self, page: &[u8]) {
        for entry in fs::read_dir(self.path("s")).unwrap() {
            let path = entry.unwrap().path();
            let mut bytes = fs::read(&path).unwrap();
            if let Some(at) = bytes.chunks(PAGE).position(|slot| slot == page) {
                bytes[at * PAGE + 100] ^= 1;
                return fs::write(&path, bytes).unwrap();
            }
        }
        panic!("the page is nowhere");
    }
}

impl From<Output> for Done {
    fn from(output: Output) -> Done {
        let code = output.status.code().expect("no signal");
        Done { code, stdout: output.stdout, stderr: String::from_utf8(output.stderr).unwrap() }
    }
}

/// Every name below `dir`.
fn tree(dir: &Path) -> Vec<PathBuf> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            names.extend(tree(&path));
        }
        names.push(path);
    }
    names.sort();
    names
}

/// `pages` pages, each different, except that page 1 is all zeros.
fn page_file(pages: usize) -> Vec<u8> {
    let fill =
        |id: usize| if id == 1 { vec![0; PAGE] } else { format!("{id:08}").repeat(PAGE / 8).into_bytes() };
    (0..pages).flat_map(fill).collect()
}

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
    assert_eq!(versions, bench.json(&["log", "s"]));
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
    let store = Store::open(bench.path("s"), Options::new()).unwrap();
    let mut txn = store.begin().unwrap();
    txn.free(0.into()).unwrap();
    txn.commit().unwrap();
    store.close().unwrap();
    assert_eq!(bench.fails(&["cat", "s", "0"], 5, "page_not_allocated")["page"], 0);
}

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

const READERS: [&[&str]; 7] =
    [&["info"], &["ls"], &["log"], &["stat"], &["verify"], &["cat", "0"], &["export", "out"]];

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

#[test]
fn help_teaches() {
    let bench = Bench::new();
    let help = bench.ok(&["--help"]);
    for part in ["Exit codes:", "6  the disk is full", "locks the store", "Example:"] {
        assert!(help.contains(part), "{part}");
    }
    let commands =
        ["init", "info", "load", "ls", "log", "cat", "export", "import", "apply", "fold", "verify", "stat"];
    let groups = ["snapshot", "hold", "bookmark", "compact", "clone"];
    for command in commands.into_iter().chain(groups) {
        let help = bench.ok(&[command, "--help"]);
        assert!(help.contains("Example:\n  vellum "), "{command}");
        assert!(help.lines().all(|line| line.chars().count() <= 120), "{help}");
    }
    assert!(bench.ok(&["--version"]).starts_with("vellum "));
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
fn versions_are_kept_compared_and_gone_back_to() {
    let (bench, bytes) = Bench::loaded(20);
    let made = bench.json(&["snapshot", "create", "s", "monday", "--label", "by=hand", "--expires", "7d"]);
    assert_eq!((made["name"].as_str(), made["labels"].as_str()), (Some("monday"), Some("by=hand")));
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
}
