//! The parent: starts the children, has them measure in turn, and writes down what came out.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::args::Run;
use crate::calm::{Calm, fetch_memory};
use crate::child::PEERS;
use crate::contender::{Contender, Samples};
use crate::figures::{metrics, name};
use crate::numbers::Random;
use crate::pages::PAGE;
use crate::plan::{Group, Scale, Stage, stages};
use crate::plot::{FLOOR, OURS};
use crate::process::Written;
use crate::record::{Figure, Line, Run as RunFacts, Value, number};
use crate::work::{Request, Work};
use crate::{Result, machine};

/// Peers that fill their stores, or are checked, beside each other: nobody measures that.
const TOGETHER: usize = 2;

/// Shows what can be chosen.
pub(crate) fn list() {
    println!("peers: {}", PEERS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "));
    println!("works: {}", group_names(&stages()).join(", "));
}

fn group_names(stages: &[Stage]) -> Vec<&'static str> {
    stages.iter().flat_map(|stage| &stage.groups).map(|group| group.name).collect()
}

fn scale(args: &Run) -> Result<Scale> {
    let (pages, rounds, long_rounds, millis) =
        if args.quick { (32 << 10, 3, 1, 80) } else { (256 << 10, 3, 3, 150) };
    let scale = Scale {
        pages: args.pages.unwrap_or(pages),
        rounds: args.rounds.unwrap_or(rounds),
        long_rounds: args.rounds.map_or(long_rounds, |rounds| rounds.min(long_rounds)),
        millis: args.millis.unwrap_or(millis),
    };
    if scale.pages < 8192 || scale.rounds == 0 || scale.millis == 0 {
        return Err("--pages of at least 8192, and --rounds and --millis of at least 1 are needed".into());
    }
    Ok(scale)
}

/// What was chosen by name, all if nothing was.
fn chosen<'a>(what: &str, known: &[&'a str], wanted: &[String]) -> Result<Vec<&'a str>> {
    if let Some(unknown) = wanted.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(format!("no {what} called {unknown}: {} are there", known.join(", ")).into());
    }
    let is_wanted = |name: &&str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    Ok(known.iter().copied().filter(is_wanted).collect())
}

pub(crate) fn run(args: &Run) -> Result {
    let scale = scale(args)?;
    let names: Vec<&str> = PEERS.iter().map(|(name, _)| *name).collect();
    let peers = chosen("peer", &names, &args.peers)?;
    let mut stages = stages();
    let works = chosen("works", &group_names(&stages), &args.works)?;
    for stage in &mut stages {
        stage.groups.retain(|group| works.contains(&group.name));
    }
    // A thousand readers may need as many files.
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most })?;

    let place = args.dir.clone().map_or_else(beside_program, Ok)?;
    let mut out: Box<dyn Write> = match &args.out {
        Some(path) => Box::new(File::create(path)?),
        None => Box::new(std::io::stdout()),
    };
    write_line(&mut out, &Line::Run(facts(&scale, args, &place)?))?;
    let start = Instant::now();
    let mut ended = Vec::new();
    for (heat, peers) in (0..).zip(heats(&peers, args.together)) {
        eprintln!("{} ({:.0} s since the start)", peers.join(", "), start.elapsed().as_secs_f64());
        let dir = tempfile::Builder::new().prefix("vellum-peers-").tempdir_in(&place)?;
        let children = start_all(&peers, dir.path(), scale.pages, args.memory.map(|mib| mib << 20));
        if children.is_empty() {
            return Err("no peer could be started".into());
        }
        let calm = Calm::new(dir.path())?;
        let mut contest = Contest { scale, heat, seed: 0, children, calm };
        contest.go(&stages, start, &mut |line| write_line(&mut out, line))?;
        let children = contest.children.iter().filter(|child| child.ended.is_some());
        ended.extend(children.map(|child| child.name.clone()));
    }
    if !ended.is_empty() {
        return Err(
            format!("measured to the end, but without {}, which ended on the way", ended.join(", ")).into()
        );
    }
    eprintln!(
        "every page of every store is as the oracle says; {:.0} s in all",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Who takes turns with whom: some peers at a time, and with them those that all are held against.
fn heats<'a>(peers: &[&'a str], together: u32) -> Vec<Vec<&'a str>> {
    let (standing, others): (Vec<&str>, Vec<&str>) =
        peers.iter().partition(|name| [FLOOR, OURS].contains(name));
    if others.is_empty() {
        return vec![standing];
    }
    others.chunks(together as usize).map(|some| [&standing, some].concat()).collect()
}

/// Has the peers fill their stores, some beside each other.
fn start_all(names: &[&str], dir: &Path, pages: u64, memory: Option<u64>) -> Vec<Contender> {
    // One store that doesn't work here is no reason to measure none.
    let leave_out = |name: &str, error: crate::Fault| eprintln!("{name}: left out: {error}");
    let (mut starting, mut ready) = (VecDeque::<Contender>::new(), Vec::new());
    let mut wait = |starting: &mut VecDeque<Contender>| {
        let Some(mut child) = starting.pop_front() else { return };
        match child.get_ready() {
            Ok(_) => ready.push(child),
            Err(error) => leave_out(&child.name, error),
        }
    };
    for name in names {
        if starting.len() == TOGETHER {
            wait(&mut starting);
        }
        match Contender::start(name, &dir.join(name), pages, memory) {
            Ok(child) => starting.push_back(child),
            Err(error) => leave_out(name, error),
        }
    }
    while !starting.is_empty() {
        wait(&mut starting);
    }
    ready
}

fn beside_program() -> Result<PathBuf> {
    Ok(std::env::current_exe()?.parent().ok_or("the program lies nowhere")?.to_owned())
}

fn write_line(out: &mut dyn Write, line: &Line) -> Result {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

fn facts(scale: &Scale, args: &Run, dir: &Path) -> Result<RunFacts> {
    Ok(RunFacts {
        pages: scale.pages,
        page_bytes: PAGE,
        rounds: scale.rounds,
        millis: scale.millis,
        memory_mib: args.memory,
        together: Some(args.together),
        cores: std::thread::available_parallelism().map_or(0, usize::from),
        cpu: machine::cpu(),
        kernel: machine::kernel(),
        file_system: machine::file_system(dir),
        is_written_of_device: Written::under(dir)?.is_of_device(),
    })
}

/// All that take part.
struct Contest {
    scale: Scale,
    heat: u32,
    seed: u64,
    children: Vec<Contender>,
    calm: Calm,
}

impl Contest {
    /// Measures everything, and has every byte checked before and after.
    fn go(&mut self, stages: &[Stage], start: Instant, write: &mut dyn FnMut(&Line) -> Result) -> Result {
        for child in &self.children {
            write(&Line::Peer(child.facts()))?;
        }
        eprintln!("filled ({:.0} s since the start)", start.elapsed().as_secs_f64());
        self.check()?;
        for stage in stages.iter().filter(|stage| !stage.groups.is_empty()) {
            let names: Vec<&str> = stage.groups.iter().map(|group| group.name).collect();
            eprintln!("{} ({:.0} s since the start)", names.join(", "), start.elapsed().as_secs_f64());
            for figure in self.measure(stage)? {
                write(&Line::Figure(figure))?;
            }
        }
        eprintln!("the last check ({:.0} s since the start)", start.elapsed().as_secs_f64());
        // Whatever was written since the first check, every byte of it.
        self.check()
    }

    /// Has every peer do something that isn't measured.
    fn once(&mut self, work: &Work) -> Result {
        for child in &mut self.children {
            let request = Request { work: work.clone(), millis: self.scale.millis, seed: self.seed };
            let mut samples = Samples::default();
            child.take(&request, &mut samples)?;
            if let Some(note) = samples.note {
                eprintln!("  {}: {note}", child.name);
            }
        }
        Ok(())
    }

    /// Compares every page of every store with the oracle, some beside each other.
    fn check(&mut self) -> Result {
        for some in self.children.chunks_mut(TOGETHER) {
            std::thread::scope(|scope| {
                let threads: Vec<_> = some.iter_mut().map(|child| scope.spawn(|| child.check())).collect();
                threads
                    .into_iter()
                    .try_for_each(|thread| thread.join().map_err(|_| "the one who checks panicked")?)
            })?;
        }
        Ok(())
    }

    fn measure(&mut self, stage: &Stage) -> Result<Vec<Figure>> {
        if let Some((count, changes)) = stage.held {
            self.seed += 1;
            self.once(&Work::Hold { count, changes })?;
        }
        let works: Vec<(&Group, &Work)> =
            stage.groups.iter().flat_map(|group| group.works.iter().map(move |work| (group, work))).collect();
        let all = self.sample(stage, &works)?;
        if stage.held.is_some() {
            self.once(&Work::Release)?;
        }
        if works.iter().any(|(_, work)| matches!(work, Work::BeforeKill)) {
            // What one of the kills has lost is still lost.
            self.check()?;
        }
        let mut figures = Vec::new();
        for (at, (group, work)) in works.iter().enumerate() {
            for (child, samples) in self.children.iter().zip(&all) {
                figures.extend(figures_of(stage, self.heat, (group, work), &child.name, &samples[at]));
            }
        }
        Ok(figures)
    }

    /// Each peer's samples of each of the works, which it does one after the other when it is its turn. Each round goes in an order of its
    /// own, so that nobody always comes after the same neighbour: what one has written the disk may still be busy with.
    fn sample(&mut self, stage: &Stage, works: &[(&Group, &Work)]) -> Result<Vec<Vec<Samples>>> {
        let none = || works.iter().map(|_| Samples::default()).collect::<Vec<_>>();
        let mut all: Vec<Vec<Samples>> = self.children.iter().map(|_| none()).collect();
        for round in 0..if stage.is_long { self.scale.long_rounds } else { self.scale.rounds } {
            let mut order: Vec<usize> = (0..self.children.len()).collect();
            let mut random = Random::new(self.seed);
            for last in (1..order.len()).rev() {
                order.swap(last, random.below(last as u64 + 1) as usize);
            }
            let seed = self.seed;
            self.seed += works.len() as u64;
            for at in order {
                let (child, samples) = (&mut self.children[at], &mut all[at]);
                if !samples.iter().any(|samples| samples.want_more(stage.is_long)) {
                    continue;
                }
                if stage.is_warm {
                    child.warm(round == 0)?;
                }
                self.calm.await_disk()?;
                for ((seed, samples), (_, work)) in (seed + 1..).zip(samples).zip(works) {
                    if !samples.want_more(stage.is_long) {
                        continue;
                    }
                    if work.takes_memory() {
                        fetch_memory(stage.is_long)?;
                    }
                    take(child, work, self.scale.millis, seed, samples)?;
                }
            }
        }
        Ok(all)
    }
}

/// One sample.
fn take(child: &mut Contender, work: &Work, millis: u64, seed: u64, samples: &mut Samples) -> Result {
    let request = Request { work: work.clone(), millis, seed };
    child.take(&request, samples)?;
    if matches!(work, Work::BeforeKill) {
        if samples.note.is_none() && !child.is_floor {
            child.kill_and_reopen(samples)?;
        }
    } else if work.writes() {
        // What it left to be written is its own affair, and nobody else's.
        child.take(&Request { work: Work::Sync, ..request }, &mut Samples::default())?;
    }
    Ok(())
}

/// What one peer came to in one work.
fn figures_of(
    stage: &Stage,
    heat: u32,
    (group, work): (&Group, &Work),
    peer: &str,
    samples: &Samples,
) -> Vec<Figure> {
    let (mut id, mut title) = name(work);
    if let Some((count, _)) = stage.held {
        id = format!("{id}@{count}");
        title = format!("{title}, {count} snapshots held");
    }
    let mut figures = Vec::new();
    for metric in metrics(work) {
        let values = match metric.key {
            "written_per_page" => written_per_page(samples).into_iter().collect(),
            key => samples.values.get(key).cloned().unwrap_or_default(),
        };
        let value = Value::of(values);
        let note = samples.note.clone();
        if let Some(value) = &value {
            let (median, unit) = (number(value.median), metric.unit);
            let spread = format!("{} to {}", number(value.min), number(value.max));
            eprintln!(
                "  {:<60} {peer:<10} {median:>8} {unit:<3} ({spread})",
                format!("{title}: {}", metric.title)
            );
        } else if let Some(note) = &note {
            eprintln!("  {:<60} {peer:<10} {note}", format!("{title}: {}", metric.title));
        }
        figures.push(Figure {
            id: format!("{id}/{}", metric.key),
            group: group.name.to_owned(),
            title: format!("{title}: {}", metric.title),
            unit: metric.unit.to_owned(),
            better: metric.better,
            peer: peer.to_owned(),
            heat,
            value,
            note,
        });
    }
    figures
}

/// Over all rounds together: they don't all leave the same to be cleared up.
fn written_per_page(samples: &Samples) -> Option<f64> {
    let sum = |key: &str| samples.values.get(key).map(|values| values.iter().sum::<f64>());
    Some(sum("written")? / sum("pages")? / 1e3)
}
