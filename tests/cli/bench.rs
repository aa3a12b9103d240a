//! Where commands run, and what is expected of each whether it succeeds or fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) const PAGE: usize = 512;

/// A directory to work in, which is also the commands' working directory.
pub(crate) struct Bench(pub(crate) TempDir);

/// How a command ended, as text.
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Bench {
    pub(crate) fn new() -> Bench {
        Bench(TempDir::new().unwrap())
    }

    /// A bench with a store `s` of small segments that holds the file `f` of `pages` pages.
    pub(crate) fn loaded(pages: usize) -> (Bench, Vec<u8>) {
        let bench = Bench::new();
        bench.ok(&["init", "s", "--page-size", "512", "--segment-size", "65536"]);
        let bytes = page_file(pages);
        bench.write("f", &bytes);
        bench.ok(&["load", "s", "f"]);
        (bench, bytes)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vellum"));
        command.args(args).current_dir(self.0.path()).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Done {
        Done::from(self.command(args).output().unwrap())
    }

    /// Runs what must succeed, silently as far as standard error goes; gives standard output.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let done = self.run(args);
        assert_eq!((done.code, &*done.stderr), (0, ""), "{args:?}");
        String::from_utf8(done.stdout).unwrap()
    }

    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let text = self.ok(&[args, &["--json"]].concat());
        assert_eq!(text.lines().count(), 1, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Runs what must fail; gives the error object.
    pub(crate) fn refused(&self, args: &[&str], code: i32, kind: &str) -> Value {
        let done = self.run(&[args, &["--json"]].concat());
        let error = serde_json::from_str::<Value>(&done.stderr).unwrap()["error"].clone();
        assert_eq!((done.code, error["kind"].as_str()), (code, Some(kind)), "{args:?}: {}", done.stderr);
        error
    }

    /// Runs what must fail, as text and as JSON, without any trace in the directory; gives the error object.
    pub(crate) fn fails(&self, args: &[&str], code: i32, kind: &str) -> Value {
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
    pub(crate) fn damage(&self, page: &[u8]) {
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
pub(crate) fn tree(dir: &Path) -> Vec<PathBuf> {
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
pub(crate) fn page_file(pages: usize) -> Vec<u8> {
    let fill =
        |id: usize| if id == 1 { vec![0; PAGE] } else { format!("{id:08}").repeat(PAGE / 8).into_bytes() };
    (0..pages).flat_map(fill).collect()
}
