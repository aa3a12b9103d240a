//! Progress: on standard error, if that is a terminal and nobody asked for quiet, and only of what takes a while.

use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use vellum::{Observer, Progress};

use crate::args::Show;

/// What is over sooner shows nothing.
const PATIENCE: Duration = Duration::from_millis(300);

fn is_shown(show: Show) -> bool {
    !show.quiet && std::io::stderr().is_terminal()
}

/// Watches an operation of the library, and shows it or not. The bar is gone when this is dropped.
pub(crate) struct Bar {
    is_shown: bool,
    begun: Instant,
    drawn: Option<ProgressBar>,
}

impl Bar {
    pub(crate) fn new(show: Show) -> Bar {
        Bar { is_shown: is_shown(show), begun: Instant::now(), drawn: None }
    }
}

impl Observer for Bar {
    fn progress(&mut self, progress: Progress) -> ControlFlow<()> {
        if !self.is_shown || self.begun.elapsed() < PATIENCE {
            return ControlFlow::Continue(());
        }
        let begun = self.begun;
        let bar = self.drawn.get_or_insert_with(|| {
            // The rate is that of the whole, not of the part that is shown.
            ProgressBar::no_length().with_elapsed(begun.elapsed()).with_message(progress.task)
        });
        let total = bytes_total(progress);
        // How much there is may become known only on the way.
        if bar.length() != total || bar.position() == 0 {
            bar.set_style(style(total.is_some()));
            total.map_or_else(|| bar.unset_length(), |total| bar.set_length(total));
        }
        bar.set_position(progress.bytes_done);
        ControlFlow::Continue(())
    }
}

/// The bytes of all pages, going by those done so far.
fn bytes_total(progress: Progress) -> Option<u64> {
    let (done, total) = (u128::from(progress.pages_done), u128::from(progress.pages_total?));
    let bytes = (u128::from(progress.bytes_done) * total).checked_div(done)?;
    u64::try_from(bytes).ok().filter(|bytes| *bytes > 0)
}

fn style(has_total: bool) -> ProgressStyle {
    let template = if has_total {
        "{msg} [{bar:24}] {percent}%  {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left"
    } else {
        "{msg} {spinner} {bytes}, {bytes_per_sec}, {elapsed}"
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("=> ")
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.drawn {
            bar.finish_and_clear();
        }
    }
}

/// Shows that something goes on that can't tell how far it is, and for how long already, until this is dropped.
pub(crate) struct Waiting(Option<(Sender<()>, JoinHandle<()>)>);

impl Waiting {
    pub(crate) fn new(task: &'static str, show: Show) -> Waiting {
        Waiting(is_shown(show).then(|| {
            let (ends, ended) = channel();
            let watch = move || {
                if ended.recv_timeout(PATIENCE) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
                let bar = ProgressBar::new_spinner().with_elapsed(PATIENCE).with_message(task);
                bar.set_style(
                    ProgressStyle::with_template("{msg} {spinner} {elapsed}")
                        .unwrap_or_else(|_| ProgressStyle::default_spinner()),
                );
                bar.enable_steady_tick(Duration::from_millis(200));
                // Nothing is ever sent: this ends when the sender goes.
                let _ = ended.recv();
                bar.finish_and_clear();
            };
            (ends, std::thread::spawn(watch))
        }))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some((ends, thread)) = self.0.take() {
            drop(ends);
            // A panic there was printed, and only the picture of progress is lost by it.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_told_in_bytes_once_it_is_known() {
        let at = |pages_done, pages_total, bytes_done| {
            bytes_total(Progress { task: "export", pages_done, pages_total, bytes_done })
        };
        assert_eq!(at(0, Some(100), 0), None);
        assert_eq!(at(10, None, 40_960), None);
        assert_eq!(at(10, Some(100), 40_960), Some(409_600));
        assert_eq!(at(100, Some(100), 409_600), Some(409_600));
        // Pages that are freed have no bytes.
        assert_eq!(at(10, Some(100), 0), None);
        assert_eq!(at(1, Some(u64::MAX), u64::MAX), None);
    }
}
