//! One peer as its parent sees it: a process that stands still until it is asked for something.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Result;
use crate::cgroup::Group as ControlGroup;
use crate::process::read_through;
use crate::record::Peer;
use crate::work::{Answer, Ready, Request, Work};

/// Whoever took longer for a sample of what copies or overwrites everything takes no further one of it: some peers would take most of a
/// run.
pub(crate) const SLOW: Duration = Duration::from_secs(4);

/// What a peer's samples of one work gave, by value; or why there are none.
#[derive(Default)]
pub(crate) struct Samples {
    pub(crate) values: BTreeMap<String, Vec<f64>>,
    pub(crate) note: Option<String>,
    is_slow: bool,
}

impl Samples {
    /// Whether another sample is to be taken, of a work that `is_long` or isn't.
    pub(crate) fn want_more(&self, is_long: bool) -> bool {
        self.note.is_none() && !(is_long && self.is_slow)
    }
}

pub(crate) struct Contender {
    pub(crate) name: String,
    settings: String,
    pub(crate) is_floor: bool,
    process: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    // What it takes to start it again.
    dir: PathBuf,
    pages: u64,
    memory: Option<u64>,
    group: Option<ControlGroup>,
    /// Whether its pages lie in its files, and so in the system's page cache, and not in a cache of its own.
    is_in_files: bool,
    /// Whether some of its pages may be new to its cache: it was started, or wrote, since all were read.
    has_written: bool,
    /// How it ended, if it did: nothing more is asked of it.
    pub(crate) ended: Option<String>,
}

impl Contender {
    /// Starts the process; [`Contender::get_ready`] waits for it.
    pub(crate) fn start(name: &str, dir: &Path, pages: u64, memory: Option<u64>) -> Result<Contender> {
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
        Ok(Contender {
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
            is_in_files: false,
            has_written: true,
            ended: None,
        })
    }

    /// Waits until the store is open, and filled if it is new; gives the milliseconds that it took.
    pub(crate) fn get_ready(&mut self) -> Result<f64> {
        let ready: Ready = serde_json::from_str(&self.line()?)?;
        self.signal(Signal::STOP)?;
        (self.settings, self.is_floor) = (ready.settings, ready.is_floor);
        self.is_in_files = ready.is_in_files;
        Ok(ready.opening_ms)
    }

    pub(crate) fn facts(&self) -> Peer {
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
    pub(crate) fn take(&mut self, request: &Request, samples: &mut Samples) -> Result {
        if let Some(ended) = &self.ended {
            samples.note = Some(format!("failed: it {ended}"));
            return Ok(());
        }
        let start = Instant::now();
        let answer = match self.ask(request) {
            Ok(answer) => answer,
            Err(error) => {
                // Whatever it was, nobody knows what this child would answer next.
                let ended = self.ended.get_or_insert_with(|| error.to_string()).clone();
                eprintln!("{}, asked for {:?}: {ended}", self.name, request.work);
                Answer::Failed(format!("it {ended}"))
            }
        };
        samples.is_slow |= start.elapsed() > SLOW;
        self.has_written |= request.work.writes();
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

    /// Brings its pages into memory before its turn, untimed: what is measured is the store, and not what the system has
    /// taken out of its page cache meanwhile, for others or because nobody looked at it. A limit on memory is there to be felt:
    /// then nothing is done.
    ///
    /// Its files are read if that is where it keeps its pages. In the first turn for other works, when it has written since, each
    /// page is read by the store's own way too, whose cache may not know it.
    pub(crate) fn warm(&mut self, is_first: bool) -> Result {
        if self.memory.is_some() || self.ended.is_some() {
            return Ok(());
        }
        if is_first && self.has_written { self.check() } else { self.warm_files() }
    }

    /// The child can't do it itself: a process that closes any file of a store loses its POSIX locks on it.
    fn warm_files(&self) -> Result {
        if self.is_in_files {
            read_through(&self.dir.join("store"))?;
        }
        Ok(())
    }

    /// Compares every page with the oracle, and so has read them all. A check that couldn't be made is as bad as one that
    /// found something; of a process that has ended nothing is asked.
    pub(crate) fn check(&mut self) -> Result {
        if self.memory.is_none() {
            self.warm_files()?;
        }
        let mut samples = Samples::default();
        self.take(&Request { work: Work::Check, millis: 0, seed: 0 }, &mut samples)?;
        match samples.note {
            Some(note) if self.ended.is_none() => {
                Err(format!("{} couldn't be checked: {note}", self.name).into())
            }
            _ => {
                self.has_written = false;
                Ok(())
            }
        }
    }

    /// Kills the process, starts it again, and adds the milliseconds that opening took.
    pub(crate) fn kill_and_reopen(&mut self, samples: &mut Samples) -> Result {
        self.process.kill()?;
        self.process.wait()?;
        // A group goes when nobody is in it, and the next process gets one of the same name.
        self.group = None;
        let started = Self::start(&self.name, &self.dir, self.pages, self.memory).and_then(|mut again| {
            let ms = again.get_ready()?;
            Ok((again, ms))
        });
        match started {
            Ok((again, ms)) => {
                *self = again;
                samples.values.entry("ms".to_owned()).or_default().push(ms);
                samples.is_slow |= ms > SLOW.as_secs_f64() * 1e3;
            }
            Err(error) => {
                let ended = format!("doesn't open after it was killed: {error}");
                eprintln!("{} {ended}", self.name);
                samples.note = Some(format!("failed: it {ended}"));
                self.ended = Some(ended);
            }
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
