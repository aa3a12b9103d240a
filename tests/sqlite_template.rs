//! Goal: each test has a database of its own, from one that was built once, in any number of threads and processes, and
//! nothing of it is left.
//!
//! Method: forks and clones written to side by side; this test binary starts itself several times, as a runner that has a process for
//! each test does, and kills one in the middle. Under such a runner itself (`cargo nextest run --all-features --test sqlite_template`) the
//! cases of `shared` are processes that share one template.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use rusqlite::Connection;
use vellum::sqlite::Template;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

const SCHEMA: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, x);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) INSERT INTO t SELECT i, i * 7 FROM n;";

fn fill(uri: &str) -> Outcome {
    Connection::open(uri)?.execute_batch(SCHEMA)?;
    Ok(())
}

fn sum(uri: &str) -> i64 {
    let db = Connection::open(uri).unwrap();
    let ok: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(ok, "ok");
    db.query_row("SELECT sum(x) FROM t", [], |row| row.get(0)).unwrap()
}

const GOLDEN: i64 = 7 * 500 * 501 / 2;

#[test]
fn forks_share_nothing_but_their_beginning() {
    let template = Template::build(fill).unwrap();
    std::thread::scope(|scope| {
        for case in 1..=8 {
            let template = &template;
            scope.spawn(move || {
                for round in 0..5 {
                    let database = template.fork().unwrap();
                    let db = Connection::open(database.uri()).unwrap();
                    assert_eq!(sum(database.uri()), GOLDEN);
                    db.execute("UPDATE t SET x = x + ?1", [case + round]).unwrap();
                    assert_eq!(sum(database.uri()), GOLDEN + 500 * (case + round));
                }
            });
        }
    });
    let kept = template.fork().unwrap();
    drop(template);
    assert_eq!(sum(kept.uri()), GOLDEN, "a fork keeps what it needs");
    let uri = kept.uri().to_owned();
    drop(kept);
    assert!(Connection::open(format!("{uri}&mode=rw")).is_err(), "gone with its handle");
}

#[test]
fn clones_are_directories_that_go_with_their_handle() {
    let home = tempfile::tempdir().unwrap();
    let template = Template::build(fill).unwrap();
    let clone = template.clone_to(home.path().join("odd name 100%")).unwrap();
    Connection::open(clone.uri()).unwrap().execute("DELETE FROM t WHERE id > 1", []).unwrap();
    assert_eq!(sum(clone.uri()), 7);
    assert_eq!(sum(template.fork().unwrap().uri()), GOLDEN);
    let path = clone.path().to_owned();
    assert!(path.is_dir());
    drop(clone);
    assert!(!path.exists());
}

#[test]
fn any_snapshot_is_a_template() {
    let template = Template::build(fill).unwrap();
    let first = template.fork().unwrap();
    Connection::open(first.uri()).unwrap().execute("UPDATE t SET x = 1", []).unwrap();
    let second = Template::of(&first.store().snapshot());
    Connection::open(first.uri()).unwrap().execute("UPDATE t SET x = 2", []).unwrap();
    assert_eq!(sum(second.fork().unwrap().uri()), 500);
}

#[test]
fn a_failed_build_leaves_nothing_and_is_tried_again() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("templates");
    let failed = Template::build_in(&dir, SCHEMA, |uri| {
        fill(uri)?;
        Err::<(), Box<dyn std::error::Error>>("fixtures are missing".into())
    });
    assert!(failed.unwrap_err().to_string().contains("fixtures"));
    let template = Template::build_in(&dir, SCHEMA, fill).unwrap();
    assert_eq!(sum(template.fork().unwrap().uri()), GOLDEN);
    // Not built again; under another key it is.
    let never = |_: &str| -> Outcome { Err("it was built".into()) };
    let again = Template::build_in(&dir, SCHEMA, never).unwrap();
    assert!(Template::build_in(&dir, "another schema", never).is_err());
    assert_eq!(sum(again.fork().unwrap().uri()), GOLDEN, "those that have it go on");
}

const CHILD_DIR: &str = "VELLUM_TEMPLATE_CHILD";

/// Not a test: one of the processes that share a template.
#[test]
#[ignore = "started by the test of processes"]
fn a_process_with_one_test() {
    let Ok(dir) = std::env::var(CHILD_DIR) else { return };
    let template = Template::build_in(Path::new(&dir), SCHEMA, |uri| {
        println!("built here");
        fill(uri)
    })
    .unwrap();
    let database = template.fork().unwrap();
    assert_eq!(sum(database.uri()), GOLDEN);
    Connection::open(database.uri()).unwrap().execute("DELETE FROM t", []).unwrap();
    if std::env::var_os("VELLUM_TEMPLATE_STAYS").is_some() {
        println!("ready");
        std::thread::sleep(std::time::Duration::from_mins(10));
    }
}

fn start(dir: &Path, stays: bool) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "a_process_with_one_test", "--ignored", "--nocapture"]).env(CHILD_DIR, dir);
    if stays {
        command.env("VELLUM_TEMPLATE_STAYS", "1");
    }
    command.stdout(Stdio::piped()).spawn().unwrap()
}

#[test]
fn processes_build_once_and_leave_nothing() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("templates");
    // One that is killed with its clone in use.
    let mut killed = start(&dir, true);
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(killed.stdout.take().unwrap()));
    assert!(lines.any(|line| line.unwrap().ends_with("ready")));
    killed.kill().unwrap();
    killed.wait().unwrap();
    let left = |prefix: &str| {
        let names =
            std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(prefix)).count()
    };
    assert_eq!((left("golden-"), left("case-")), (1, 1));
    let children: Vec<Child> = (0..4).map(|_| start(&dir, false)).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}");
        assert!(!text.contains("built here"), "the first had built it");
    }
    assert_eq!((left("golden-"), left("case-"), left("building")), (1, 0, 0));
}

/// The suite of somebody who has a template: each case gets its own database, whichever thread or process it runs in.
mod shared {
    use super::*;

    fn case(change: &str, expected: i64) {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sqlite_template_shared");
        let template = Template::build_in(dir, SCHEMA, fill).unwrap();
        for _ in 0..5 {
            let database = template.fork().unwrap();
            assert_eq!(sum(database.uri()), GOLDEN);
            Connection::open(database.uri()).unwrap().execute_batch(change).unwrap();
            assert_eq!(sum(database.uri()), expected);
        }
    }

    #[test]
    fn one_case_doubles() {
        case("UPDATE t SET x = 2 * x", 2 * GOLDEN);
    }

    #[test]
    fn one_case_deletes() {
        case("DELETE FROM t WHERE id <> 100", 700);
    }

    #[test]
    fn one_case_inserts() {
        case("INSERT INTO t VALUES (501, 5)", GOLDEN + 5);
    }

    #[test]
    fn one_case_vacuums() {
        case("DELETE FROM t WHERE id > 10; VACUUM", 7 * 55);
    }

    #[test]
    fn one_case_changes_the_schema() {
        case("CREATE TABLE u AS SELECT * FROM t; DROP TABLE t; ALTER TABLE u RENAME TO t", GOLDEN);
    }
}
