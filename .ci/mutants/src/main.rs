//! `just mutants`: changes one thing in vellum's core after another, and looks whether any test notices.
//!
//! What cargo-mutants does, but all the changes that are drawn are compiled into one program, each behind a switch: compiling once for
//! each of them would take longer than the tests. And since a switch notes that it was asked for, each change is
//! put only to the tests that come by it, the quickest first.
//!
//! `mutants build [--draw N] [--seed S] [--suites A,B]` draws and compiles, `mutants run [--budget SECONDS] [--jobs N] [--only N,N]` tests what is
//! not yet decided (a missed one again, if the budget is larger now), `mutants report` counts, `mutants suites` names the suites that are
//! taken if nobody names others, `mutants coverage FILE` says which lines of the core an lcov file leaves out. All of it lies in
//! `target/mutants`.

mod build;
mod coverage;
mod find;
mod run;
mod splice;
mod suites;
mod values;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A change that was drawn.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Mutant {
    /// Its place among all that the sources offer, drawn or not.
    pub(crate) number: usize,
    pub(crate) module: String,
    pub(crate) place: String,
    pub(crate) what: String,
    pub(crate) compiles: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// Of each module: what its sources offer.
    pub(crate) offered: BTreeMap<String, usize>,
    /// In the order in which they were drawn: a run that is cut short has tested a sample too.
    pub(crate) mutants: Vec<Mutant>,
    /// The test programs: the target's name, and the file.
    pub(crate) programs: Vec<(String, PathBuf)>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// By a test that failed.
    Caught(String),
    /// By a test that didn't end.
    Hung(String),
    /// By none of so many tests, of which each came by it. Some may be left that didn't fit into the budget.
    Missed { tests: usize, left: usize },
}

/// Where vellum is.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .expect("this program's sources lie in vellum's")
}

pub(crate) fn directory() -> PathBuf {
    root().join("target/mutants")
}

pub(crate) fn read<T: for<'de> Deserialize<'de>>(name: &str) -> Result<T> {
    Ok(serde_json::from_slice(&std::fs::read(directory().join(name))?)?)
}

pub(crate) fn write<T: Serialize>(name: &str, value: &T) -> Result<()> {
    let path = directory().join(name);
    let draft = path.with_extension("draft");
    std::fs::write(&draft, serde_json::to_vec_pretty(value)?)?;
    Ok(std::fs::rename(draft, path)?)
}

fn main() -> Result<()> {
    let arguments = std::env::args().skip(1).collect::<Vec<_>>();
    let option = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let number = |name: &str, default: u64| option(name).map_or(Ok(default), |text| text.parse::<u64>());
    match arguments.first().map(String::as_str) {
        Some("build") => {
            let suites = match option("--suites") {
                Some(named) => {
                    named.split(',').filter(|suite| !suite.is_empty()).map(str::to_string).collect()
                }
                None => suites::suites()?,
            };
            build::build(usize::try_from(number("--draw", 420)?)?, number("--seed", 1)?, &suites)
        }
        Some("run") => {
            let only = option("--only").unwrap_or_default();
            let only = only.split(',').filter(|number| !number.is_empty()).map(str::parse::<usize>);
            let only = only.collect::<std::result::Result<Vec<_>, _>>()?;
            run::run(number("--budget", 30)?, usize::try_from(number("--jobs", 1)?)?, &only)
        }
        Some("report") => report(),
        Some("suites") => {
            println!("{}", suites::suites()?.join("\n"));
            Ok(())
        }
        Some("coverage") => coverage::coverage(arguments.get(1).ok_or("which lcov file?")?),
        _ => Err("usage: mutants build | run | report; see the head of main.rs".into()),
    }
}

fn report() -> Result<()> {
    let plan = read::<Plan>("plan.json")?;
    let outcomes = read::<BTreeMap<usize, Outcome>>("outcomes.json")?;
    let mut rows = BTreeMap::<&str, [usize; 6]>::new();
    for mutant in &plan.mutants {
        let row = rows.entry(&mutant.module).or_default();
        row[0] += 1;
        match outcomes.get(&mutant.number) {
            _ if !mutant.compiles => row[1] += 1,
            Some(Outcome::Caught(_)) => row[2] += 1,
            Some(Outcome::Hung(_)) => row[3] += 1,
            Some(Outcome::Missed { tests, left }) => {
                row[4] += 1;
                println!(
                    "missed {:4} {}  {}  ({tests} tests, {left} left)",
                    mutant.number, mutant.place, mutant.what
                );
            }
            None => row[5] += 1,
        }
    }
    println!(
        "\n| module | offered | drawn | don't compile | caught | hung | missed | not run |\n|---|---|---|---|---|---|---|---|"
    );
    let mut sum = [0; 7];
    for (module, row) in rows {
        let cells = [plan.offered[module]].into_iter().chain(row).collect::<Vec<_>>();
        println!(
            "| `{module}` | {} |",
            cells.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ")
        );
        sum.iter_mut().zip(cells).for_each(|(sum, cell)| *sum += cell);
    }
    println!("| in all | {} |", sum.map(|cell| cell.to_string()).join(" | "));
    Ok(())
}
