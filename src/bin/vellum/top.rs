//! `top`: who keeps what, and what a store does, now: also of one that another process has open.
//!
//! A store in use can only be told of by the process that uses it, in the file that `Options::status_every` asks for. So that is
//! looked at first; a store that nobody has open is opened, looked at, and closed again. Both tell the same in the same form.

mod page;

use std::fs;
use std::io::{self, ErrorKind, IsTerminal};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use vellum::{Error, Status};

use crate::args::{Show, Top};
use crate::error::Failure;
use crate::output::put;
use crate::place::open_to_read;

/// A status is out of date if the next should have been there for so long.
const LATE: Duration = Duration::from_secs(3);

/// A store's status, and how it was come by.
struct Found {
    status: Value,
    /// How long ago it was told, if by the process that uses the store.
    told: Option<Duration>,
    /// Whether the next should be there already.
    is_late: bool,
}

pub(crate) fn top(args: &Top, show: Show) -> Result<(), Failure> {
    let mut found = look(&args.dir, show)?;
    let goes_on =
        found.told.is_some() && !found.is_late && !args.once && !show.json && io::stdout().is_terminal();
    if !goes_on {
        return print(&found, args, show);
    }
    let mut before = None;
    // The screen is cleared once, and then drawn over.
    put(b"\x1b[2J")?;
    loop {
        let page = page::page(&found, before.as_ref(), args.pins, &args.dir);
        // Each line is cleared to its end, and what is below.
        put(format!("\x1b[H{}\x1b[J", page.replace('\n', "\x1b[K\n")).as_bytes())?;
        std::thread::sleep(args.every);
        match told(&args.dir)? {
            // A rate is that between two looks of the process itself.
            Some(next) if next.status["written_at_ms"] != found.status["written_at_ms"] => {
                before = Some(std::mem::replace(&mut found, next).status);
            }
            Some(same) => found = same,
            None => return put(b"The store was closed by the process that had it open.\n"),
        }
    }
}

fn print(found: &Found, args: &Top, show: Show) -> Result<(), Failure> {
    if !show.json {
        return put(page::page(found, None, args.pins, &args.dir).as_bytes());
    }
    let mut status = found.status.clone();
    if let Value::Object(status) = &mut status {
        status.insert("is_in_use".to_owned(), found.told.is_some().into());
        status.insert("is_late".to_owned(), found.is_late.into());
    }
    put(format!("{status}\n").as_bytes())
}

fn look(dir: &Path, show: Show) -> Result<Found, Failure> {
    // Nobody is disturbed by this, as he might be by an attempt to open the store.
    let old = match told(dir) {
        Ok(Some(found)) if !found.is_late => return Ok(found),
        old => old,
    };
    match open_to_read(dir, show) {
        Ok(store) => {
            let status =
                serde_json::to_value(store.status()?).map_err(|error| Failure::stdout(error.into()))?;
            Ok(Found { status, told: None, is_late: false })
        }
        // Late is better than nothing, if it is said.
        Err(Failure::Vellum(Error::Locked { dir })) => old?.ok_or(Failure::TellsNothing { dir }),
        Err(error) => Err(error),
    }
}

/// What the process that has the store open tells, if it does.
fn told(dir: &Path) -> Result<Option<Found>, Failure> {
    let file = dir.join(Status::FILE);
    let text = match fs::read(&file) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(Failure::file("read", &file, error)),
    };
    // It is replaced as a whole, so what can't be read is no status.
    let status: Value = serde_json::from_slice(&text).unwrap_or(Value::Null);
    let format = status["format"].as_u64();
    if format != Some(Status::FORMAT.into()) {
        return Err(Failure::OtherStatus { file, found: format });
    }
    let since = Duration::from_millis(status["written_at_ms"].as_u64().unwrap_or(0));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let told = now.saturating_sub(since);
    let next = Duration::from_millis(status["next_in_ms"].as_u64().unwrap_or(0));
    Ok(Some(Found { status, told: Some(told), is_late: told > next.saturating_add(LATE) }))
}

/// The details of a failure's JSON.
pub(crate) fn other_status(file: &Path, found: Option<u64>) -> Value {
    json!({ "file": file.display().to_string(), "found": found, "supported": Status::FORMAT })
}
