//! Compressed bodies: one zstd frame a record, whose length unpacked is known beforehand.

use crate::error::Result;

#[cfg(feature = "zstd")]
mod zstd_frames {
    use super::super::write::stream_error;
    use super::Result;

    /// Compresses bodies, each by itself.
    pub(crate) struct Packer(zstd::bulk::Compressor<'static>);

    impl Packer {
        pub(crate) fn new(level: i32) -> Result<Packer> {
            let packer = zstd::bulk::Compressor::new(level);
            packer.map(Packer).map_err(|error| stream_error("compress", error))
        }

        /// The frame of `body`.
        pub(crate) fn pack(&mut self, body: &[u8]) -> Result<Vec<u8>> {
            self.0.compress(body).map_err(|error| stream_error("compress", error))
        }
    }

    /// Takes frames apart.
    pub(crate) struct Unpacker(zstd::bulk::Decompressor<'static>);

    impl Unpacker {
        pub(crate) fn new() -> Result<Unpacker> {
            let unpacker = zstd::bulk::Decompressor::new();
            unpacker.map(Unpacker).map_err(|error| stream_error("unpack", error))
        }

        /// Fills `body` from a frame; `false` if the frame is damaged or holds more or less than that. Never writes beyond `body`,
        /// whatever the frame says.
        pub(crate) fn unpack(&mut self, frame: &[u8], body: &mut [u8]) -> bool {
            self.0.decompress_to_buffer(frame, body).is_ok_and(|len| len == body.len())
        }
    }

    /// What else may change the bytes of a frame.
    pub(crate) fn revision() -> u32 {
        zstd::zstd_safe::version_number()
    }
}

#[cfg(not(feature = "zstd"))]
mod zstd_frames {
    use super::Result;

    /// There is none in this build: options and headers that ask for one are refused before.
    pub(crate) enum Packer {}

    impl Packer {
        pub(crate) fn new(_level: i32) -> Result<Packer> {
            Err(super::missing())
        }

        pub(crate) fn pack(&mut self, _body: &[u8]) -> Result<Vec<u8>> {
            match *self {}
        }
    }

    /// As [`Packer`].
    pub(crate) enum Unpacker {}

    impl Unpacker {
        pub(crate) fn new() -> Result<Unpacker> {
            Err(super::missing())
        }

        pub(crate) fn unpack(&mut self, _frame: &[u8], _body: &mut [u8]) -> bool {
            match *self {}
        }
    }

    pub(crate) fn revision() -> u32 {
        0
    }
}

pub(super) use zstd_frames::{Packer, Unpacker, revision};

#[cfg(not(feature = "zstd"))]
fn missing() -> crate::error::Error {
    crate::error::Error::Unsupported {
        what: "the stream".to_owned(),
        found: "codec 1 (zstd)".to_owned(),
        supported: "no compression (codec 1 with vellum's feature `zstd`)".to_owned(),
    }
}
