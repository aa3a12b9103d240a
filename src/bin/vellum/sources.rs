//! The streams of several files, and which of them is to blame when one of them fails.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use vellum::Error;

use crate::args::Endpoint;
use crate::error::Failure;
use crate::export::source;

/// Opened streams. The library knows them by their order only, and says what is wrong with one as soon as it has read it; so the
/// one that was read last is the one that it means.
pub(crate) struct Sources {
    sources: Vec<Source>,
    last: Rc<Cell<usize>>,
}

struct Source {
    from: Endpoint,
    inner: Box<dyn Read>,
    index: usize,
    last: Rc<Cell<usize>>,
}

impl Sources {
    pub(crate) fn open(sources: &[Endpoint]) -> Result<Sources, Failure> {
        let last = Rc::new(Cell::new(0));
        let open = |(index, from): (usize, &Endpoint)| {
            Ok(Source { from: from.clone(), inner: source(from)?, index, last: Rc::clone(&last) })
        };
        let sources = sources.iter().enumerate().map(open).collect::<Result<_, Failure>>()?;
        Ok(Sources { sources, last })
    }

    pub(crate) fn streams(&mut self) -> Vec<&mut dyn Read> {
        self.sources.iter_mut().map(|source| source as &mut dyn Read).collect()
    }

    /// Puts the file's name to an error about a stream that was read.
    pub(crate) fn blame(&self, error: Error) -> Failure {
        match self.sources.get(self.last.get()) {
            Some(source) => Failure::of_stream(error, source.from.name()),
            None => error.into(),
        }
    }
}

impl Read for Source {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.last.set(self.index);
        self.inner.read(buf)
    }
}
