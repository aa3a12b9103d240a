//! Draws the changes, leaves out what the compiler refuses, and builds the test programs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::find::{Site, sites};
use crate::splice::{change_at, splice};
use crate::{Mutant, Plan, Result, directory, root};

/// What commits, recovers, reclaims and exports: three of four changes are drawn here.
const FIRST: [&str; 8] = ["alloc", "checkpoint", "commit", "log", "open", "space", "stream", "version"];
/// What they stand on.
const SECOND: [&str; 10] =
    ["core", "format", "history", "names", "pins", "rollback", "snapshot", "store", "table", "txn"];
/// What the test programs are built with.
pub(crate) const FEATURES: &str = "sim,zstd,encrypt";

struct Source {
    path: PathBuf,
    module: String,
    text: String,
    /// The number of its first site.
    first: usize,
    sites: Vec<Site>,
}

pub(crate) fn build(draw: usize, seed: u64, suites: &[String]) -> Result<()> {
    let tree = directory().join("tree");
    let files = Command::new("git")
        .args(["ls-files", "-z", "-co", "--exclude-standard"])
        .current_dir(root())
        .output()?;
    for name in String::from_utf8(files.stdout)?
        .split('\0')
        .filter(|name| !name.is_empty() && !name.starts_with(".ci"))
    {
        if !name.starts_with("src/") && root().join(name).is_file() {
            update(&tree.join(name), &fs::read(root().join(name))?)?;
        }
    }
    let sources = sources()?;
    let mut offered = BTreeMap::<String, usize>::new();
    for source in &sources {
        if !source.module.is_empty() {
            *offered.entry(source.module.clone()).or_default() += source.sites.len();
        }
    }
    let mut mutants = drawn(&sources, draw, seed);
    println!("{} drawn of {}", mutants.len(), offered.values().sum::<usize>());
    loop {
        let texts = lay_out(&tree, &sources, &mutants)?;
        let refused = refused(&tree, &texts)?;
        if refused.is_empty() {
            break;
        }
        println!("{} don't compile", refused.len());
        mutants
            .iter_mut()
            .filter(|mutant| refused.contains(&mutant.number))
            .for_each(|mutant| mutant.compiles = false);
    }
    let programs = compile(&tree, suites)?;
    println!(
        "{} compile; {} test programs",
        mutants.iter().filter(|mutant| mutant.compiles).count(),
        programs.len()
    );
    crate::write("plan.json", &Plan { seed, offered, mutants, programs })
}

fn sources() -> Result<Vec<Source>> {
    let mut paths = Vec::new();
    let mut left = vec![root().join("src")];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?);
        } else {
            paths.push(path.strip_prefix(root())?.to_path_buf());
        }
    }
    paths.sort();
    let mut first = 0;
    let mut sources = Vec::new();
    for path in paths {
        let text = fs::read_to_string(root().join(&path))?;
        let core = module(&path).filter(|_| !is_test(&path));
        let sites = if core.is_some() { sites(&text)? } else { Vec::new() };
        let module = core.unwrap_or_default();
        let count = sites.len();
        sources.push(Source { path, module, text, first, sites });
        first += count;
    }
    Ok(sources)
}

/// The core's module that a file of the sources belongs to.
pub(crate) fn module(path: &Path) -> Option<String> {
    let name = path.iter().nth(1)?.to_string_lossy().trim_end_matches(".rs").to_string();
    FIRST.iter().chain(&SECOND).any(|module| *module == name).then_some(name)
}

pub(crate) fn is_test(path: &Path) -> bool {
    path.iter().any(|part| part == "tests.rs" || part == "tests" || part == "edges.rs")
}

fn drawn(sources: &[Source], draw: usize, seed: u64) -> Vec<Mutant> {
    let mut all = Vec::new();
    for source in sources {
        for (index, site) in source.sites.iter().enumerate() {
            all.push(Mutant {
                number: source.first + index,
                module: source.module.clone(),
                place: format!("{}:{}", source.path.display(), site.line),
                what: site.describe(&source.text),
                compiles: true,
            });
        }
    }
    all.sort_by_key(|mutant| mixed(seed, mutant.number as u64));
    let (first, second): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|mutant| FIRST.contains(&mutant.module.as_str()));
    let many = draw * 3 / 4;
    let mut drawn =
        first.into_iter().take(many).chain(second.into_iter().take(draw - many)).collect::<Vec<_>>();
    drawn.sort_by_key(|mutant| mixed(seed ^ 1, mutant.number as u64));
    drawn
}

/// SplitMix64's last step: an order that a seed decides.
fn mixed(seed: u64, number: u64) -> u64 {
    let mut value =
        seed.wrapping_mul(0xD6E8_FEB8_6659_FD93) ^ number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

fn update(path: &Path, content: &[u8]) -> Result<()> {
    if fs::read(path).ok().as_deref() != Some(content) {
        fs::create_dir_all(path.parent().ok_or("a file has a directory")?)?;
        fs::write(path, content)?;
    }
    Ok(())
}

/// Writes the sources with the changes that may compile. Returns their texts.
fn lay_out(tree: &Path, sources: &[Source], mutants: &[Mutant]) -> Result<BTreeMap<PathBuf, String>> {
    let mut texts = BTreeMap::new();
    let mut count = 0;
    for source in sources {
        let changes = mutants
            .iter()
            .filter(|mutant| mutant.compiles)
            .filter_map(|mutant| {
                let site = source.sites.get(mutant.number.checked_sub(source.first)?)?;
                Some((mutant.number, site))
            })
            .collect::<Vec<_>>();
        let mut text = splice(&source.text, &changes);
        if source.path == Path::new("src/lib.rs") {
            text.push_str("\nmod mutants;\n");
        }
        update(&tree.join(&source.path), text.as_bytes())?;
        texts.insert(source.path.clone(), text);
        count = count.max(source.first + source.sites.len());
    }
    let switch = format!("{}const COUNT: usize = {count};\n", include_str!("switch.rs"));
    update(&tree.join("src/mutants.rs"), switch.as_bytes())?;
    Ok(texts)
}

fn cargo(tree: &Path, arguments: &[String]) -> Result<Vec<Value>> {
    let output = Command::new("cargo")
        .args(arguments)
        .args([
            "--locked",
            "--features",
            FEATURES,
            "--message-format",
            "json",
            "--config",
            "profile.dev.package.vellum.opt-level=1",
        ])
        .env("CARGO_TARGET_DIR", root().join("target"))
        .current_dir(tree)
        .stderr(Stdio::inherit())
        .output()?;
    let messages = String::from_utf8(output.stdout)?;
    Ok(messages.lines().map(serde_json::from_str).collect::<std::result::Result<_, _>>()?)
}

/// The changes that the compiler refuses.
fn refused(tree: &Path, texts: &BTreeMap<PathBuf, String>) -> Result<Vec<usize>> {
    let mut refused = Vec::new();
    let mut others = Vec::new();
    for message in cargo(tree, &["check".into(), "--lib".into(), "--quiet".into()])? {
        let message = &message["message"];
        if message["level"] != "error" {
            continue;
        }
        let spans = message["spans"].as_array().map(Vec::as_slice).unwrap_or_default();
        let found = spans.iter().filter_map(|span| {
            let text = texts.get(Path::new(span["file_name"].as_str()?))?;
            change_at(text, usize::try_from(span["byte_start"].as_u64()?).ok()?)
        });
        let count = refused.len();
        refused.extend(found);
        if refused.len() == count && !spans.is_empty() {
            others.push(message["rendered"].as_str().unwrap_or_default().to_string());
        }
    }
    refused.sort_unstable();
    refused.dedup();
    if refused.is_empty() && !others.is_empty() {
        return Err(format!("the compiler complains of no change of ours:\n{}", others.join("\n")).into());
    }
    Ok(refused)
}

fn compile(tree: &Path, suites: &[String]) -> Result<Vec<(String, PathBuf)>> {
    let mut arguments = vec!["test".to_string(), "--no-run".into(), "--lib".into()];
    for suite in suites {
        arguments.extend(["--test".to_string(), suite.clone()]);
    }
    let mut programs = Vec::new();
    for message in cargo(tree, &arguments)? {
        if let (Some(file), Some(name)) = (message["executable"].as_str(), message["target"]["name"].as_str())
        {
            programs.push((name.to_string(), PathBuf::from(file)));
        }
    }
    if programs.is_empty() { Err("the test programs don't compile".into()) } else { Ok(programs) }
}
