//! Small things as words that can be copied from one screen to another: a name, a dash, and bytes with their checksum in hex.

use crate::error::{Error, Result};
use crate::format::checksum::{checksum64, holds};

/// Most characters that are looked at.
const CHARS_MAX: usize = 2048;

/// `bytes` as a word.
pub(super) fn print(name: &str, bytes: &[u8], f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
    write!(f, "{name}-")?;
    let sum = checksum64(bytes.len() as u64, bytes).to_le_bytes();
    bytes.iter().chain(&sum).try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// The bytes of a word.
pub(super) fn parse(name: &'static str, word: &str) -> Result<Vec<u8>> {
    let refused = || Error::BadToken { expected: name, found: word.chars().take(24).collect() };
    let hex = word.trim().strip_prefix(name).and_then(|rest| rest.strip_prefix('-')).ok_or_else(refused)?;
    if hex.len() > CHARS_MAX || !hex.is_ascii() || !hex.len().is_multiple_of(2) {
        return Err(refused());
    }
    let digits = hex
        .as_bytes()
        .chunks_exact(2)
        .map(|pair| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()));
    let mut bytes = digits.collect::<Option<Vec<u8>>>().ok_or_else(refused)?;
    let (_, sum) = bytes.split_last_chunk::<8>().ok_or_else(refused)?;
    let sum = u64::from_le_bytes(*sum);
    bytes.truncate(bytes.len() - 8);
    if holds(sum, checksum64(bytes.len() as u64, &bytes)) { Ok(bytes) } else { Err(refused()) }
}
