//! Runs the tests: once each as they are, to learn what they come by and how long they take; then for each change.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Mutant, Outcome, Plan, Result, directory, read, write};

/// The suites' own knobs: a little of everything.
const SMALL: [(&str, &str); 8] = [
    ("VELLUM_CASES", "6"),
    ("VELLUM_ROUNDS", "4"),
    ("VELLUM_SECONDS", "1"),
    ("VELLUM_GENERATIONS", "6"),
    ("VELLUM_CLONES", "5"),
    ("VELLUM_FORKS", "5"),
    ("VELLUM_FLIP_STEP", "401"),
    ("PROPTEST_CASES", "24"),
];
/// A test that takes longer by itself, in seconds, is left out.
const LONGEST: f64 = 60.0;
const TICK: Duration = Duration::from_millis(20);

/// A test, as it is without any change.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Test {
    program: usize,
    name: String,
    seconds: f64,
    passes: bool,
    reached: BTreeSet<usize>,
}

enum End {
    Passed,
    Failed,
    Hung,
}

pub(crate) fn run(budget: u64, jobs: usize, only: &[usize]) -> Result<()> {
    let plan = read::<Plan>("plan.json")?;
    let tests = learn(&plan, jobs)?;
    let before = read::<BTreeMap<usize, Outcome>>("outcomes.json").unwrap_or_default();
    // What was tried already needs no second trial: tests are in one order.
    let tried = |mutant: &Mutant| match before.get(&mutant.number) {
        None => Some(0),
        Some(Outcome::Missed { tests: tried, .. }) => {
            let all = tests.iter().filter(|test| test.reached.contains(&mutant.number)).count();
            (all > *tried).then_some(*tried)
        }
        Some(Outcome::Caught(_) | Outcome::Hung(_)) => None,
    };
    let todo = plan.mutants.iter().filter(|mutant| mutant.compiles);
    let mut todo = todo.filter_map(|mutant| Some((mutant, tried(mutant)?))).collect::<Vec<_>>();
    todo.retain(|(mutant, _)| only.is_empty() || only.contains(&mutant.number));
    todo.sort_by_key(|(_, tried)| *tried > 0);
    println!("{} to do", todo.len());
    let outcomes = Mutex::new(before.clone());
    each(&todo, jobs, |(mutant, tried), worker| {
        #[allow(clippy::cast_precision_loss, reason = "seconds")]
        let outcome = put_to_tests(&plan, &tests, mutant, *tried, budget as f64, worker)?;
        println!("{:5} {} {}: {outcome:?}", mutant.number, mutant.place, mutant.what);
        let mut outcomes = outcomes.lock().expect("no worker panics");
        outcomes.insert(mutant.number, outcome);
        write("outcomes.json", &*outcomes)
    })
}

/// Calls `work` with each item, from so many threads at once.
fn each<T: Sync>(items: &[T], jobs: usize, work: impl Fn(&T, usize) -> Result<()> + Sync) -> Result<()> {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let worker = |worker: usize| {
            while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                work(item, worker).map_err(|error| error.to_string())?;
            }
            Ok::<_, String>(())
        };
        let workers = (0..jobs).map(|number| scope.spawn(move || worker(number))).collect::<Vec<_>>();
        workers.into_iter().try_for_each(|worker| Ok(worker.join().map_err(|_| "a worker panicked")??))
    })
}

fn put_to_tests(
    plan: &Plan,
    tests: &[Test],
    mutant: &Mutant,
    tried: usize,
    budget: f64,
    worker: usize,
) -> Result<Outcome> {
    let (mut count, mut left, mut spent) = (tried, 0, 0.0);
    let number = mutant.number.to_string();
    for test in tests.iter().filter(|test| test.reached.contains(&mutant.number)).skip(tried) {
        if spent > budget {
            left += 1;
            continue;
        }
        let (program, file) = &plan.programs[test.program];
        let name = format!("{program} {}", test.name);
        match test_once(file, &test.name, 10.0 + 8.0 * test.seconds, worker, &[("MUTANT", &number)])?.0 {
            End::Passed => {}
            End::Failed => return Ok(Outcome::Caught(name)),
            End::Hung => return Ok(Outcome::Hung(name)),
        }
        count += 1;
        spent += test.seconds;
    }
    Ok(Outcome::Missed { tests: count, left })
}

/// Every test by itself, the quickest first.
fn learn(plan: &Plan, jobs: usize) -> Result<Vec<Test>> {
    let mut tests = read::<Vec<Test>>("tests.json").unwrap_or_default();
    let built = plan.programs.iter().filter_map(|(_, file)| file.metadata().ok()?.modified().ok()).max();
    let learnt = directory().join("tests.json").metadata().and_then(|file| file.modified()).ok();
    if learnt < built || tests.is_empty() {
        let mut names = Vec::new();
        for (program, (_, file)) in plan.programs.iter().enumerate() {
            let output = Command::new(file)
                .args(["--list", "--format", "terse"])
                .current_dir(directory().join("tree"))
                .output()?;
            for line in String::from_utf8(output.stdout)?.lines() {
                names.extend(line.strip_suffix(": test").map(|name| (program, name.to_string())));
            }
        }
        let learnt = Mutex::new(Vec::new());
        each(&names, jobs, |(program, name), worker| {
            let file = directory().join(format!("reached.{worker}"));
            let _ = std::fs::remove_file(&file);
            let reached = [("MUTANTS_REACHED", file.to_str().ok_or("a path in UTF-8")?)];
            let (end, seconds) = test_once(&plan.programs[*program].1, name, LONGEST, worker, &reached)?;
            let passes = matches!(end, End::Passed);
            let reached = std::fs::read_to_string(file).unwrap_or_default();
            let reached = reached.lines().filter_map(|line| line.parse().ok()).collect::<BTreeSet<_>>();
            println!(
                "{seconds:6.2} s  {:4} reached  {} {name}{}",
                reached.len(),
                plan.programs[*program].0,
                if passes { "" } else { ": FAILS" }
            );
            learnt.lock().expect("no worker panics").push(Test {
                program: *program,
                name: name.clone(),
                seconds,
                passes,
                reached,
            });
            Ok(())
        })?;
        tests = learnt.into_inner()?;
        tests.sort_by(|one, other| one.seconds.total_cmp(&other.seconds));
        write("tests.json", &tests)?;
    }
    tests.retain(|test| test.passes);
    Ok(tests)
}

/// Runs one test. Time is counted in looks at it, so that it stands still while this program is stopped.
fn test_once(
    program: &Path,
    name: &str,
    limit: f64,
    worker: usize,
    variables: &[(&str, &str)],
) -> Result<(End, f64)> {
    let home = std::env::temp_dir().join(format!("vellum-mutants-{}-{worker}", std::process::id()));
    std::fs::create_dir_all(&home)?;
    let tree: PathBuf = directory().join("tree");
    // A change may make something grow without end.
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -c 0; ulimit -d 6000000; ulimit -f 8000000; exec \"$0\" \"$@\""])
        .arg(program)
        .args(["--exact", name, "--test-threads", "1"])
        .envs(SMALL)
        .envs(variables.iter().copied())
        .env("TMPDIR", &home)
        .env("CARGO_MANIFEST_DIR", &tree)
        .env("RUST_BACKTRACE", "0")
        .current_dir(&tree)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()?;
    let mut seconds = 0.0;
    let end = loop {
        if let Some(status) = child.try_wait()? {
            break if status.success() { End::Passed } else { End::Failed };
        }
        if seconds > limit {
            break End::Hung;
        }
        std::thread::sleep(TICK);
        seconds += TICK.as_secs_f64();
    };
    if matches!(end, End::Hung) {
        Command::new("kill").args(["-KILL", "--", &format!("-{}", child.id())]).status()?;
        child.wait()?;
    }
    let _ = std::fs::remove_dir_all(&home);
    Ok((end, seconds))
}
