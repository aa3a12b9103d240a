//! The parent: starts the children, has them measure in turn, and writes down what came out.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

use crate::args::Run;
use crate::cgroup::Group as ControlGroup;
use crate::child::PEERS;
use crate::figures::{metrics, name};
use crate::measure::Summary;
use crate::pages::PAGE;
use crate::plan::{Group, Scale, groups};
use crate::process::Written;
use crate::record::{Figure, Line, Peer, Run as RunFacts, Value, number};
use crate::work::{Answer, Ready, Request, Work};
use crate::{Result, machine};

/// Shows what can be chosen.
pub(crate) fn list() {
    println!("peers: {}", PEERS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "));
    println!("works: {}", groups().iter().map(|group| group.name).collect::<Vec<_>>().join(", "));
}

fn scale(args: &Run) -> Result<Scale> {
    let (pages, rounds, long_rounds, millis) =
        if args.quick { (32 << 10, 3, 1, 80) } else { (256 << 10, 5, 3, 200) };
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
    let groups = groups();
    let works = chosen("works", &groups.iter().map(|group| group.name).collect::<Vec<_>>(), &args.works)?;
    // A thousand readers may need as many files.
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most })?;

    let place = args.dir.clone().map_or_else(beside_program, Ok)?;
    let dir = tempfile::Builder::new().prefix("vellum-peers-").tempdir_in(place)?;
    let mut out: Box<dyn Write> = match &args.out {
        Some(path) => Box::new(File::create(path)?),
        None => Box::new(std::io::stdout()),
    };
    write_line(&mut out, &Line::Run(facts(&scale, args, dir.path())?))?;
    let start = Instant::now();
    let mut contest = Contest { scale, seed: 0, children: Vec::new() };
    for name in peers {
        let began = Instant::now();
        let memory = args.memory.map(|mib| mib << 20);
        match Contender::start(name, &dir.path().join(name), scale.pages, memory) {
            Ok(child) => {
                write_line(&mut out, &Line::Peer(child.facts()))?;
                eprintln!("{name}: filled in {:.1} s", began.elapsed().as_secs_f64());
                contest.children.push(child);
            }
            // One store that doesn't work here is no reason to measure none.
            Err(error) => eprintln!("{name}: left out: {error}"),
        }
    }
    if contest.children.is_empty() {
        return Err("no peer could be started".into());
    }
    contest.once(&Work::Check)?;
    for group in groups.iter().filter(|group| works.contains(&group.name)) {
        eprintln!("{} ({:.0} s since the start)", group.name, start.elapsed().as_secs_f64());
        for figure in contest.measure(group)? {
            write_line(&mut out, &Line::Figure(figure))?;
        }
    }
    // Whatever was written since the first check, every byte of it.
    contest.once(&Work::Check)?;
    let ended: Vec<&str> = contest
        .children
        .iter()
        .filter(|child| child.ended.is_some())
        .map(|child| child.name.as_str())
        .collect();
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
    seed: u64,
    children: Vec<Contender>,
}

/// What a peer's samples of one work gave, by value; or why there are none.
#[derive(Default)]
struct Samples {
    values: BTreeMap<String, Vec<f64>>,
    note: Option<String>,
}

impl Contest {
    /// Has every peer do something that isn't measured. A check that couldn't be made is as bad as one that found
    /// something.
    fn once(&mut self, work: &Work) -> Result {
        for child in &mut self.children {
            let request = Request { work: work.clone(), millis: self.scale.millis, seed: self.seed };
            let mut samples = Samples::default();
            child.take(&request, &mut samples)?;
            match samples.note {
                Some(note) if matches!(work, Work::Check) && child.ended.is_none() => {
                    return Err(format!("{} couldn't be checked: {note}", child.name).into());
                }
                Some(note) => eprintln!("  {}: {note}", child.name),
                None => {}
            }
        }
        Ok(())
    }

    fn measure(&mut self, group: &Group) -> Result<Vec<Figure>> {
        let mut figures = Vec::new();
        if let Some((count, changes)) = group.held {
            self.seed += 1;
            self.once(&Work::Hold { count, changes })?;
        }
        for work in &group.works {
            let all =
                self.sample(work, if group.is_long { self.scale.long_rounds } else { self.scale.rounds })?;
            for (child, samples) in self.children.iter().zip(&all) {
                figures.extend(figures_of(group, work, &child.name, samples));
            }
        }
        if group.held.is_some() {
            self.once(&Work::Release)?;
        }
        Ok(figures)
    }

    /// Every other round goes backwards, so that nobody always comes after the same neighbour.
    fn sample(&mut self, work: &Work, rounds: u32) -> Result<Vec<Samples>> {
        let mut all: Vec<Samples> = self.children.iter().map(|_| Samples::default()).collect();
        let writes = !matches!(
            work,
            Work::Pin | Work::Read { .. } | Work::ReadTogether { .. } | Work::Fork | Work::BeforeKill
        );
        for round in 0..rounds {
            let mut order: Vec<usize> = (0..self.children.len()).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            self.seed += 1;
            for at in order {
                let (child, samples) = (&mut self.children[at], &mut all[at]);
                if samples.note.is_some() {
                    continue;
                }
                let request = Request { work: work.clone(), millis: self.scale.millis, seed: self.seed };
                child.take(&request, samples)?;
                if matches!(work, Work::BeforeKill) && samples.note.is_none() && !child.is_floor {
                    child.kill_and_reopen(samples)?;
                }
                if writes {
                    // What it left to be written is its own affair, and nobody else's.
                    let request = Request { work: Work::Sync, ..request };
                    child.take(&request, &mut Samples::default())?;
                }
            }
        }
        Ok(all)
    }
}

/// What one peer came to in one work.
fn figures_of(group: &Group, work: &Work, peer: &str, samples: &Samples) -> Vec<Figure> {
    let (mut id, mut title) = name(work);
    if let Some((count, _)) = group.held {
        id = format!("{id}@{count}");
        title = format!("{title}, {count} snapshots held");
    }
    let mut figures = Vec::new();
    for metric in metrics(work) {
        let values = match metric.key {
            "written_per_page" => written_per_page(samples).into_iter().collect(),
            key => samples.values.get(key).cloned().unwrap_or_default(),
        };
        let value = Summary::of(&values).map(|summary| Value {
            median: summary.median,
            min: summary.min,
            max: summary.max,
            samples: values,
        });
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

/// One peer's process.
struct Contender {
    name: String,
    settings: String,
    is_floor: bool,
    process: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    // What it takes to start it again.
    dir: PathBuf,
    pages: u64,
    memory: Option<u64>,
    group: Option<ControlGroup>,
    /// How it ended, if it did: nothing more is asked of it.
    ended: Option<String>,
}

impl Contender {
    fn start(name: &str, dir: &Path, pages: u64, memory: Option<u64>) -> Result<Contender> {
        Ok(Self::start_and_time(name, dir, pages, memory)?.0)
    }

    /// Also the milliseconds that opening took.
    fn start_and_time(name: &str, dir: &Path, pages: u64, memory: Option<u64>) -> Result<(Contender, f64)> {
        std::fs::create_dir_all(dir)?;
        let group = memory.map(|bytes| ControlGroup::create(name, bytes)).transpose()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["child", "--peer", name, "--pages", &pages.to_string()]).arg("--dir").arg(dir);
        if let (Some(group), Some(bytes)) = (&group, memory) {
            command.args(["--memory", &bytes.to_string()]).arg("--group").arg(group.path());
        }
        // A process group of its own: when the shell that started the parent goes, and stopped children are in the parent's
        // group, the system ends the whole group by SIGHUP, without a word.
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0).spawn()?;
        let requests = process.stdin.take().ok_or("a child without an input")?;
        let answers = BufReader::new(process.stdout.take().ok_or("a child without an output")?);
        let mut child = Contender {
            name: name.to_owned(),
            settings: String::new(),
            is_floor: false,
            process,
            requests,
            answers,
            dir: dir.to_owned(),
            pages,
            memory,
            group,
            ended: None,
        };
        let ready: Ready = serde_json::from_str(&child.line()?)?;
        child.signal(Signal::STOP)?;
        (child.settings, child.is_floor) = (ready.settings, ready.is_floor);
        Ok((child, ready.opening_ms))
    }

    fn facts(&self) -> Peer {
        Peer { name: self.name.clone(), settings: self.settings.clone(), is_floor: self.is_floor }
    }

    fn signal(&self, signal: Signal) -> Result {
        let pid = Pid::from_raw(i32::try_from(self.process.id())?).ok_or("a child without a number")?;
        Ok(kill_process(pid, signal)?)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            return Err(self.end().into());
        }
        Ok(line)
    }

    /// Waits for the end of a process that says nothing more, and tells of it. What it had to say stands on the common
    /// error output.
    fn end(&mut self) -> String {
        let hint = self.memory.map_or("", |_| "; if it was killed, --memory is too little for it");
        // It may have closed its output and go on, or stand still.
        let _ = self.process.kill();
        let ended = match self.process.wait() {
            Ok(status) => format!("ended: {status}{hint}"),
            Err(error) => format!("ended, nobody knows how: {error}"),
        };
        self.ended = Some(ended.clone());
        ended
    }

    fn ask(&mut self, request: &Request) -> Result<Answer> {
        self.signal(Signal::CONT)?;
        let mut asked = serde_json::to_vec(request)?;
        asked.push(b'\n');
        // A pipe that nobody reads from tells less than the process's end does.
        if self.requests.write_all(&asked).is_err() {
            return Err(self.end().into());
        }
        let answer = serde_json::from_str(&self.line()?)?;
        self.signal(Signal::STOP)?;
        Ok(answer)
    }

    /// Asks, and adds the answer to `samples`. Only a wrong byte is an error.
    fn take(&mut self, request: &Request, samples: &mut Samples) -> Result {
        if let Some(ended) = &self.ended {
            samples.note = Some(format!("failed: it {ended}"));
            return Ok(());
        }
        let answer = match self.ask(request) {
            Ok(answer) => answer,
            Err(error) => {
                // Whatever it was, nobody knows what this child would answer next.
                let ended = self.ended.get_or_insert_with(|| error.to_string()).clone();
                eprintln!("{}, asked for {:?}: {ended}", self.name, request.work);
                Answer::Failed(format!("it {ended}"))
            }
        };
        match answer {
            Answer::Values(values) => {
                for (key, value) in values {
                    samples.values.entry(key).or_default().push(value);
                }
            }
            Answer::Missing(why) => samples.note = Some(why),
            Answer::Failed(why) => samples.note = Some(format!("failed: {why}")),
            Answer::Wrong(what) => return Err(format!("{} gave wrong bytes: {what}", self.name).into()),
        }
        Ok(())
    }

    /// Kills the process, starts it again, compares every page, and adds the milliseconds that opening took.
    fn kill_and_reopen(&mut self, samples: &mut Samples) -> Result {
        self.process.kill()?;
        self.process.wait()?;
        // A group goes when nobody is in it, and the next process gets one of the same name.
        self.group = None;
        let opened = match Self::start_and_time(&self.name, &self.dir, self.pages, self.memory) {
            Ok((again, ms)) => {
                *self = again;
                Some(ms)
            }
            Err(error) => {
                let ended = format!("doesn't open after it was killed: {error}");
                eprintln!("{} {ended}", self.name);
                self.ended = Some(ended);
                None
            }
        };
        // One that has ended leaves word of it in the samples.
        self.take(&Request { work: Work::Check, millis: 0, seed: 0 }, samples)?;
        if samples.note.is_none() {
            samples.values.entry("ms".to_owned()).or_default().extend(opened);
        }
        Ok(())
    }
}

impl Drop for Contender {
    /// Before its group is dropped, which can only go when it is empty.
    fn drop(&mut self) {
        // The stores go with their directory; nothing has to be closed well.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
