//! The real `vellum` binary, as a shell would run it: what it prints, what it writes, how it exits.
#![allow(clippy::cast_possible_truncation, reason = "tests count in small numbers")]

mod bench;
mod coded;
mod cut;
mod drill;
mod group;
mod keep;
mod line;
mod map;
mod names;
mod progress;
mod scrub;
mod stores;
mod streams;
mod top;
