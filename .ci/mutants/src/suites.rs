//! Which of vellum's suites the changes are put to, and the coverage is counted over: those that go through the core most directly, and
//! are done soon.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::build::FEATURES;
use crate::{Result, root};

/// Left out: the first three take long, and what they find hangs on how the system schedules them; the others are about what stands
/// upon the core. A suite that is new is taken, unless it is named here.
const LEFT_OUT: [&str; 8] =
    ["concurrent", "histories", "kill", "group", "quiesce", "retention", "schedule", "stats"];

/// All but what is left out, and what asks for features that aren't built here.
pub(crate) fn suites() -> Result<Vec<String>> {
    let output = Command::new("cargo")
        .args(["metadata", "--locked", "--no-deps", "--format-version", "1"])
        .current_dir(root())
        .stderr(Stdio::inherit())
        .output()?;
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let targets = metadata["packages"][0]["targets"].as_array().ok_or("cargo tells of no targets")?;
    let mut left_out = Vec::new();
    let mut suites = Vec::new();
    for target in targets.iter().filter(|target| target["kind"][0] == "test") {
        let name = target["name"].as_str().ok_or("a suite has a name")?;
        let needs = target["required-features"].as_array().map(Vec::as_slice).unwrap_or_default();
        if LEFT_OUT.contains(&name) {
            left_out.push(name);
        } else if needs.iter().all(|feature| FEATURES.split(',').any(|built| feature == built)) {
            suites.push(name.to_string());
        }
    }
    if let Some(gone) = LEFT_OUT.iter().find(|name| !left_out.contains(name)) {
        return Err(format!("there is no suite {gone} to leave out").into());
    }
    suites.sort();
    Ok(suites)
}
