//! Goal: a program that knows nothing of vellum, SQLite's own shell, works with databases in stores once it has loaded the extension.
//!
//! Method: the example `vellum_sqlite` is built (a fresh build is a matter of moments) and loaded with `.load` by the `sqlite3` on the
//! path, whose SQLite was built without batches of atomic writes. Without a shell nothing is tested, and that is said.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The extension, built with the same profile as this test.
fn extension() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let profile = own.ancestors().nth(2).unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([
        "build",
        "--quiet",
        "--locked",
        "--all-features",
        "--example",
        "vellum_sqlite",
        "--target-dir",
    ]);
    cargo.arg(profile.parent().unwrap()).current_dir(env!("CARGO_MANIFEST_DIR"));
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().unwrap().success(), "the extension doesn't build");
    profile.join("examples/libvellum_sqlite.so")
}

/// What the shell prints, or why it failed.
fn shell(script: &str) -> Option<Result<String, String>> {
    let started = Command::new("sqlite3")
        .args(["-batch", "-bail"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) => {
            println!("skipped: there is no sqlite3 on the path ({error}); install it to test the extension");
            return None;
        }
    };
    let mut input = child.stdin.take().unwrap();
    let script = script.to_owned();
    let writer = std::thread::spawn(move || {
        // A shell that stops at an error reads no further.
        let _ = input.write_all(script.as_bytes());
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    Some(if output.status.success() && err.is_empty() { Ok(out) } else { Err(format!("{out}{err}")) })
}

#[test]
fn a_store_is_opened_from_the_command_line() {
    let home = tempfile::tempdir().unwrap();
    // The shell opens what its command line names before it loads anything, so that is given to `.open`.
    let open = format!(".open file:{}?vfs=vellum", home.path().join("app.vellum").display());
    let load = format!(".load {}", extension().display());
    let ask = "CREATE TABLE t (x); SELECT vellum_snapshot('before'); SELECT name FROM vellum_snapshots";
    let Ok(done) = Command::new("sqlite3").args(["-cmd", &load, "-cmd", &open, "", ask]).output() else {
        return println!("skipped: there is no sqlite3 on the path");
    };
    let (out, err) = (String::from_utf8(done.stdout).unwrap(), String::from_utf8(done.stderr).unwrap());
    assert_eq!((&*out, &*err), ("2\nbefore\n", ""));
}

/// A script that has loaded the extension and opened a store.
fn opened(dir: &Path, rest: &str) -> String {
    format!(".load {}\n.open file:{}?vfs=vellum\n{rest}\n", extension().display(), dir.display())
}

const WORK: &str = "
CREATE TABLE t (id INTEGER PRIMARY KEY, x);
PRAGMA cache_size=10;
BEGIN;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) INSERT INTO t SELECT i, zeroblob(500) || i FROM n;
COMMIT;
CREATE INDEX i ON t (x);
BEGIN; DELETE FROM t; INSERT INTO t VALUES (1, zeroblob(900000)); ROLLBACK;
SAVEPOINT s; UPDATE t SET x = id; ROLLBACK TO s; RELEASE s;
DELETE FROM t WHERE id % 3 = 0;
VACUUM;
";

#[test]
fn the_stock_shell_works_on_a_store_and_gets_the_same() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("app.vellum");
    let ask = "SELECT count(*), sum(id), sum(length(x)) FROM t;\nPRAGMA integrity_check;\n.dump\n";
    let Some(ours) = shell(&opened(&dir, &format!("{WORK}{ask}"))) else { return };
    let stock = shell(&format!(".open {}\n{WORK}{ask}", home.path().join("stock.db").display())).unwrap();
    let ours = ours.unwrap();
    assert_eq!(ours, stock.unwrap());
    assert!(ours.contains("\nok\n"));
    // It is still there for the next process, and nothing lies beside it.
    let again =
        shell(&opened(&dir, &format!(".vfsname\n.selftest --init\n.selftest\n{ask}"))).unwrap().unwrap();
    assert!(again.starts_with("vellum\n"), "{again}");
    assert!(again.contains("0 errors out of"), "{again}");
    let mut beside: Vec<_> =
        std::fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    beside.sort();
    assert_eq!(beside, ["app.vellum", "stock.db"]);
    let store = vellum::Store::open(&dir, vellum::Options::new().create(false)).unwrap();
    store.audit().unwrap();
    store.verify(&mut ()).unwrap();
}

#[test]
fn the_shell_has_snapshots_rollback_export_and_clone() {
    let home = tempfile::tempdir().unwrap();
    let (dir, file, clone) =
        (home.path().join("store"), home.path().join("out.db"), home.path().join("clone"));
    let script = format!(
        "CREATE TABLE t (x); INSERT INTO t VALUES ('old');
         SELECT vellum_snapshot('kept') > 0; UPDATE t SET x = 'new';
         SELECT vellum_export('{file}') > 0, vellum_clone('{clone}', 'kept') > 0;
         SELECT name FROM vellum_snapshots; SELECT count(*) > 10 FROM vellum_stats;
         SELECT vellum_rollback('kept') > 0; SELECT x FROM t;
         .open {file}
         SELECT x FROM t;
         .open file:{clone}?vfs=vellum
         SELECT x FROM t;
         ATTACH 'file:{dir}?vfs=vellum&snapshot=kept' AS kept;
         SELECT x, 'kept' FROM kept.t;
         .backup {file}
         .open {file}
         SELECT x FROM t;",
        file = file.display(),
        clone = clone.display(),
        dir = dir.display(),
    );
    // The shell's own commands begin their lines.
    let script = script.lines().map(str::trim_start).collect::<Vec<_>>().join("\n");
    let Some(done) = shell(&opened(&dir, &script)) else { return };
    assert_eq!(done.unwrap(), "1\n1|1\nkept\n1\n1\nold\nnew\nold\nold|kept\nold\n");
}

#[test]
fn the_shell_is_told_what_is_wrong() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("store");
    let held = vellum::Store::open(&dir, vellum::Options::new()).unwrap();
    let Some(refused) = shell(&opened(&dir, "SELECT * FROM sqlite_schema;")) else { return };
    let refused = refused.unwrap_err();
    assert!(refused.contains("database is locked"), "{refused}");
    drop(held);
    let refused = shell(&opened(&dir, "SELECT vellum_rollback('never');")).unwrap().unwrap_err();
    assert!(refused.contains("there is no snapshot named \"never\""), "{refused}");
}

#[test]
fn the_extension_has_no_sqlite_of_its_own() {
    let bytes = std::fs::read(extension()).unwrap();
    let has = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(has("vellum_snapshots"));
    assert!(!has("malformed database schema"), "SQLite's own messages are in the extension");
}
