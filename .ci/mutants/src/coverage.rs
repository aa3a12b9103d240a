//! What `.ci/coverage` measured, of the core's lines outside its tests.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::build::{is_test, module};
use crate::{Result, root};

/// Reads an lcov file. Prints each run of lines that no test came by, then the shares by module.
pub(crate) fn coverage(file: &str) -> Result<()> {
    let mut modules = BTreeMap::<String, [usize; 2]>::new();
    let (root, mut current) = (root(), None);
    for line in fs::read_to_string(file)?.lines() {
        if let Some(name) = line.strip_prefix("SF:") {
            let path = Path::new(name).strip_prefix(&root).ok().filter(|path| path.starts_with("src"));
            current =
                match path.and_then(|path| Some((path, module(path)?))).filter(|(path, _)| !is_test(path)) {
                    Some((path, module)) => {
                        let text = fs::read_to_string(root.join(path))?;
                        // Tests stand at the end of a file.
                        let tests = text.find("\nmod tests {").map(|tests| text[..tests].lines().count());
                        Some((path.to_path_buf(), module, text, tests))
                    }
                    None => None,
                };
            continue;
        }
        let Some((path, module, text, tests)) = &current else { continue };
        let Some((number, count)) = line.strip_prefix("DA:").and_then(|data| data.split_once(',')) else {
            continue;
        };
        let number = number.parse::<usize>()?;
        if tests.is_some_and(|tests| tests < number) {
            continue;
        }
        let [covered, all] = modules.entry(module.clone()).or_default();
        *all += 1;
        if count == "0" {
            println!(
                "{}:{number}: {}",
                path.display(),
                text.lines().nth(number - 1).unwrap_or_default().trim()
            );
        } else {
            *covered += 1;
        }
    }
    println!("\n| module | lines | come by | |\n|---|---|---|---|");
    let mut sum = [0; 2];
    for (module, [covered, all]) in modules {
        println!("| `{module}` | {all} | {covered} | {} |", share(covered, all));
        sum = [sum[0] + covered, sum[1] + all];
    }
    println!("| in all | {} | {} | {} |", sum[1], sum[0], share(sum[0], sum[1]));
    Ok(())
}

fn share(part: usize, all: usize) -> String {
    let thousandths = part * 1000 / all.max(1);
    format!("{}.{} %", thousandths / 10, thousandths % 10)
}
