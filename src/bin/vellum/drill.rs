//! `drill`: a restore that is only a trial.

use std::fs::{self, DirBuilder, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use vellum::{Store, drill as drill_chain};

use crate::args::{Drill, Endpoint, Show};
use crate::error::Failure;
use crate::export::BUFFER;
use crate::output::{Field, Report};
use crate::place::open_to_read;
use crate::progress::Bar;
use crate::sources::Sources;

type Checked = Result<(), Box<dyn std::error::Error + Send + Sync>>;

pub(crate) fn drill(args: &Drill, show: Show) -> Result<(), Failure> {
    let private = Scratch::new(&args.scratch.clone().unwrap_or_else(std::env::temp_dir))?;
    // The command may be at home in another directory.
    let scratch =
        fs::canonicalize(&private.0).map_err(|error| Failure::file("look at", &private.0, error))?;
    let mut check = |restored: &Store| match &args.run {
        Some(command) => check_raw(restored, command, &scratch),
        None => Ok(()),
    };
    let done = match args.paths.as_slice() {
        [Endpoint::File(dir)] if dir.is_dir() => {
            if args.reading.key_file.is_some() || args.reading.rate.is_some() {
                let reason = "--key-file and --rate are for streams, not for a store's directory";
                return Err(Failure::Usage(reason.to_owned()));
            }
            let store = open_to_read(dir, show)?;
            args.which.open(&store)?.drill(&scratch, &mut check, &mut Bar::new(show))?
        }
        _ if args.which.is_given() => {
            let reason = "--snapshot and --at are for a store: give its directory, and nothing else";
            return Err(Failure::Usage(reason.to_owned()));
        }
        streams => {
            let mut sources = Sources::open(streams)?;
            let reading = args.reading.options()?;
            let mut bar = Bar::new(show);
            let done = drill_chain(&mut sources.streams(), &scratch, &reading, &mut check, &mut bar);
            done.map_err(|error| sources.blame(error))?
        }
    };
    drop(private);
    let nanos = |time: std::time::Duration| Field::Nanos(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    Report::new()
        .count("version", done.version.get())
        .with("fingerprints", Field::Texts(done.fingerprints.iter().map(ToString::to_string).collect()))
        .count("pages", done.pages)
        .bytes("stream_bytes", done.stream_bytes)
        .bytes("page_bytes", done.page_bytes)
        .with("restored_nanos", nanos(done.restored_in))
        .with("verified_nanos", nanos(done.verified_in))
        .with("checked_nanos", nanos(done.checked_in))
        .print(show)
}

/// A directory that nobody else may look into, since what was encrypted lies open there; it goes when this is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(parent: &Path) -> Result<Scratch, Failure> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let dir = parent.join(format!(".vellum-drill-{}-{}", std::process::id(), now.as_nanos()));
        let made = DirBuilder::new().mode(0o700).create(&dir);
        made.map_err(|error| Failure::file("make a directory in", parent, error))?;
        Ok(Scratch(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Writes the restored pages to a raw file, and has a command look at it.
fn check_raw(restored: &Store, command: &str, scratch: &Path) -> Checked {
    let raw = scratch.join("raw");
    let mut to = BufWriter::with_capacity(BUFFER, File::create_new(&raw)?);
    restored.snapshot().export_raw(&mut to, &mut ())?;
    to.flush()?;
    drop(to);
    let mut shell = Command::new("sh");
    // Standard output is for the report.
    let status = shell
        .args(["-c", command])
        .env("VELLUM_RAW", &raw)
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()?;
    if status.success() { Ok(()) } else { Err(format!("{command:?} ended with {status}").into()) }
}
