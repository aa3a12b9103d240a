//! Progress bars: on standard error, if that is a terminal and nobody asked for quiet.

use std::io::IsTerminal;
use std::ops::ControlFlow;

use indicatif::{ProgressBar, ProgressStyle};
use vellum::{Observer, Progress};

use crate::args::Show;

/// Watches an operation of the library, and shows it or not. The bar is gone when this is dropped.
pub(crate) struct Bar {
    is_shown: bool,
    bar: Option<ProgressBar>,
}

impl Bar {
    pub(crate) fn new(show: Show) -> Bar {
        Bar { is_shown: !show.quiet && std::io::stderr().is_terminal(), bar: None }
    }
}

impl Observer for Bar {
    fn progress(&mut self, progress: Progress) -> ControlFlow<()> {
        if !self.is_shown {
            return ControlFlow::Continue(());
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::no_length();
            bar.set_message(progress.task);
            bar
        });
        // How many pages there are may become known only on the way.
        if let Some(total) = progress.pages_total.filter(|total| bar.length() != Some(*total)) {
            bar.set_length(total);
        }
        if progress.pages_done == 0 || bar.position() == 0 {
            bar.set_style(style(progress.pages_total.is_some()));
        }
        bar.set_position(progress.pages_done);
        ControlFlow::Continue(())
    }
}

fn style(has_total: bool) -> ProgressStyle {
    let template = if has_total {
        "{msg} [{bar:32}] {percent}% {human_pos}/{human_len} pages, {eta} left"
    } else {
        "{msg} {spinner} {human_pos} pages, {elapsed}"
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("=> ")
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
