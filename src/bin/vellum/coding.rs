//! How streams are written and read: compressed, with a key, at a rate.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use vellum::{ExportOptions, ImportOptions, StreamKey};

use crate::args::{Reading, Writing};
use crate::error::Failure;

impl Writing {
    pub(crate) fn options(&self) -> Result<ExportOptions, Failure> {
        let mut options = ExportOptions::new();
        if let Some(level) = self.compress {
            options = options.compress(level);
        }
        if let Some(file) = &self.key_file {
            options = options.encrypt(key(file)?);
        }
        if let Some(rate) = self.rate {
            options = options.rate(rate);
        }
        if let Some(bytes) = self.mark_every {
            options = options.mark_every(bytes);
        }
        Ok(options)
    }
}

impl Reading {
    pub(crate) fn options(&self) -> Result<ImportOptions, Failure> {
        let mut options = ImportOptions::new();
        if let Some(file) = &self.key_file {
            options = options.key(key(file)?);
        }
        if let Some(rate) = self.rate {
            options = options.rate(rate);
        }
        Ok(options)
    }
}

/// The key in a file: 32 bytes as they are, or as 64 hexadecimal digits.
pub(crate) fn key(file: &Path) -> Result<StreamKey, Failure> {
    let mut bytes = Vec::new();
    // One byte more than any key has tells that it is none.
    let read = File::open(file).and_then(|open| open.take(1024).read_to_end(&mut bytes));
    read.map_err(|error| Failure::file("read", file, error))?;
    if let Ok(key) = <[u8; 32]>::try_from(&bytes[..]) {
        return Ok(StreamKey::new(key));
    }
    let wrong = || Failure::BadKey { file: file.to_owned() };
    let digits = bytes.trim_ascii();
    if digits.len() != 64 {
        return Err(wrong());
    }
    let mut key = [0; 32];
    for (byte, pair) in key.iter_mut().zip(digits.chunks(2)) {
        let digit = |at: usize| pair.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        let value = digit(0).zip(digit(1)).map(|(high, low)| high * 16 + low);
        *byte = value.and_then(|value| u8::try_from(value).ok()).ok_or_else(wrong)?;
    }
    Ok(StreamKey::new(key))
}
