//! Every byte layout that leaves memory, each with its encoder and decoder side by side.

pub(crate) mod checksum;
