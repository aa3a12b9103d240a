//! One peer in a process of its own: it opens its store, says so, and does what it is told, a line at a time.

use std::io::{BufRead, Write};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crate::args::Child;
use crate::engine::{Engine, Missing, Pages, Reader};
use crate::measure::Zipf;
use crate::pages::{Contents, Oracle, Wrong, first_word};
use crate::process::Written;
use crate::work::{Answer, Ready, Request, Work};
use crate::works::{Ground, Ids, fill, perform};
use crate::{Fault, Result, engines};

/// How a peer is run.
type Peer = (&'static str, fn(&Child) -> Result);

/// All peers that were built, in the order in which they are shown.
pub(crate) const PEERS: &[Peer] = &[
    ("floor", serve::<engines::floor::Floor>),
    ("vellum", serve::<engines::vellum::Vellum>),
    ("lmdb", serve::<engines::lmdb::Lmdb>),
    #[cfg(feature = "libmdbx")]
    ("libmdbx", serve::<engines::mdbx::Mdbx>),
    ("redb", serve::<engines::redb::Redb>),
    ("sqlite", serve::<engines::sqlite::Sqlite>),
    ("fjall", serve::<engines::fjall::Fjall>),
    ("canopydb", serve::<engines::canopydb::Canopy>),
    #[cfg(feature = "rocksdb")]
    ("rocksdb", serve::<engines::rocksdb::Rocks>),
    ("sled", serve::<engines::sled::Sled>),
];

pub(crate) fn run(args: &Child) -> Result {
    // A child is stopped most of the time, and wouldn't notice that its parent is gone.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    if let (Some(group), Some(bytes)) = (&args.group, args.memory) {
        crate::cgroup::enter(group, bytes)?;
    }
    let serve = PEERS.iter().find(|(name, _)| *name == args.peer).ok_or("no such peer")?.1;
    serve(args)
}

fn serve<E: Engine>(args: &Child) -> Result {
    let (store, scratch) = (args.dir.join("store"), args.dir.join("scratch"));
    let is_new = !store.exists();
    std::fs::create_dir_all(&scratch)?;
    let oracle = Oracle::open(&args.dir.join("oracle"), args.pages)?;
    let contents = Contents::new();
    let start = Instant::now();
    let engine = E::open(&store, args.pages)?;
    if is_new {
        fill(&engine, &oracle, &contents)?;
    }
    let word = engine.reader()?.pin()?.read(0, first_word)?;
    let opening_ms = start.elapsed().as_secs_f64() * 1e3;
    if word != oracle.word(0) {
        return Err("page 0 isn't what was last committed to it".into());
    }
    let zipf = Zipf::new(args.pages);
    let ids = Ids::new(args.pages, &zipf);
    let written = Written::under(&args.dir)?;
    let is_settled = AtomicBool::new(false);
    let ground = Ground { engine, oracle, contents, store, scratch, ids, zipf, written, is_settled };
    let mut held = Vec::new();
    let (settings, is_floor, is_in_files) = (E::SETTINGS.to_owned(), E::IS_FLOOR, E::IS_IN_FILES);
    say(&Ready { opening_ms, settings, is_floor, is_in_files })?;
    for line in std::io::stdin().lock().lines() {
        let request: Request = serde_json::from_str(&line?)?;
        if matches!(request.work, Work::Exit) {
            break;
        }
        let time = Duration::from_millis(request.millis);
        say(&answer(perform(&ground, &mut held, &request.work, time, request.seed)))?;
    }
    Ok(())
}

fn answer(done: Result<crate::works::Values>) -> Answer {
    let error: Fault = match done {
        Ok(values) => return Answer::Values(values),
        Err(error) => error,
    };
    if let Some(missing) = error.downcast_ref::<Missing>() {
        return Answer::Missing(missing.0.to_owned());
    }
    match error.downcast_ref::<Wrong>() {
        Some(wrong) => Answer::Wrong(wrong.0.clone()),
        None => Answer::Failed(error.to_string()),
    }
}

fn say(what: &impl serde::Serialize) -> Result {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, what)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}
