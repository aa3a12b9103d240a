//! What moves on a terminal while a command works: on a pseudo-terminal, since that is what the tool asks for.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::process::Stdio;
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::bench::Bench;

/// A pseudo-terminal: what is written to the second end is read from the first.
pub(crate) fn terminal() -> (File, File) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
    let theirs = File::options().read(true).write(true).open(name).unwrap();
    // Unless it is told how wide it is, nothing is drawn.
    rustix::termios::tcsetwinsize(
        &theirs,
        rustix::termios::Winsize { ws_row: 25, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 },
    )
    .unwrap();
    (File::from(ours), theirs)
}

/// What a command printed on a terminal while its standard input came slowly.
fn shown(bench: &Bench, args: &[&str], input: &[u8]) -> String {
    let (mut ours, theirs) = terminal();
    let mut command = bench.command(args);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::from(theirs)).spawn().unwrap();
    // The command's own copy of the terminal's end must be the last.
    drop(command);
    let mut to = child.stdin.take().unwrap();
    for part in input.chunks(input.len().div_ceil(6)) {
        to.write_all(part).unwrap();
        std::thread::sleep(Duration::from_millis(120));
    }
    drop(to);
    let mut printed = Vec::new();
    // On Linux the end of a terminal is an error.
    let _ = ours.read_to_end(&mut printed);
    assert!(child.wait().unwrap().success());
    String::from_utf8_lossy(&printed).into_owned()
}

#[test]
fn a_terminal_sees_rate_and_time_left_of_what_takes_long() {
    let (bench, _) = Bench::loaded(20_000);
    bench.ok(&["export", "s", "x"]);
    let stream = fs::read(bench.path("x")).unwrap();
    let text = shown(&bench, &["verify", "-"], &stream);
    for part in ["verify [", "% ", " of 9.77 MiB", "/s, ", " left"] {
        assert!(text.contains(part), "{part:?} in {text:?}");
    }
    // The line is gone at the end.
    assert!(text.ends_with("\u{1b}[2K") || text.ends_with("\u{1b}[2K\r"), "{text:?}");
    assert_eq!(shown(&bench, &["verify", "-", "--quiet"], &stream), "");
}

#[test]
fn a_terminal_sees_nothing_of_what_is_quick() {
    let (bench, _) = Bench::loaded(20);
    let (mut ours, theirs) = terminal();
    let mut command = bench.command(&["snapshot", "space", "s"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::from(theirs)).spawn().unwrap();
    drop(command);
    let mut printed = Vec::new();
    let _ = ours.read_to_end(&mut printed);
    assert!(child.wait().unwrap().success() && printed.is_empty(), "{}", String::from_utf8_lossy(&printed));
}
