//! Encrypted records: XChaCha20-Poly1305, with the caller's key.
//!
//! # Why no nonce comes twice
//! The 24 bytes of the nonce are the stream's salt (16) and the record's sequence number (8). XChaCha20 makes a key of the stream's own
//! from the caller's key and the first 16 bytes, so what must not repeat is the salt under one key (it is drawn from the system's
//! randomness for each stream: 2^64 streams until a repetition is to be expected) and the number within a stream (it counts its
//! records). A stream that is resumed writes the records behind a mark a second time under the same numbers: they are the same records
//! byte for byte, because the token fixes the version, the options and the version of zstd, and whoever resumes under others is refused.
//!
//! # What is found
//! The number, the type, the length and the checksum of the record before (and so, through the chain, of all before) are authenticated
//! with each record; the last one is the trailer. So records that were altered, left out, repeated, swapped or taken from another stream
//! are found, and so is a stream without its end, whatever was done to the checksums, which are no proof against an adversary.

use super::options::StreamKey;
use crate::error::{Error, Result};
use crate::format::stream::SALT_BYTES;

/// A stream's salt.
pub(super) type Salt = [u8; SALT_BYTES];

/// Seals and opens the records of one stream.
#[cfg(feature = "encrypt")]
pub(super) struct Seal {
    cipher: chacha20poly1305::XChaCha20Poly1305,
    salt: Salt,
}

#[cfg(feature = "encrypt")]
impl Seal {
    #[expect(clippy::unnecessary_wraps, reason = "a build without the feature refuses here")]
    pub(super) fn new(key: &StreamKey, salt: Salt) -> Result<Seal> {
        use chacha20poly1305::KeyInit;
        Ok(Seal { cipher: chacha20poly1305::XChaCha20Poly1305::new(key.bytes().into()), salt })
    }

    pub(super) fn salt(&self) -> &Salt {
        &self.salt
    }

    fn nonce(&self, sequence: u64) -> chacha20poly1305::XNonce {
        let mut nonce = [0; 24];
        nonce[..SALT_BYTES].copy_from_slice(&self.salt);
        nonce[SALT_BYTES..].copy_from_slice(&sequence.to_le_bytes());
        nonce.into()
    }

    /// Encrypts `payload[from..]` in place and appends the tag.
    pub(super) fn seal(&self, sequence: u64, with: &[u8], payload: &mut Vec<u8>, from: usize) -> Result<()> {
        use chacha20poly1305::AeadInOut;
        let plain = (&mut payload[from..]).into();
        // The only way to fail is a payload of 256 GiB.
        let tag = self.cipher.encrypt_inout_detached(&self.nonce(sequence), with, plain);
        let tag = tag.map_err(|_| unsealable(sequence))?;
        payload.extend_from_slice(&tag);
        Ok(())
    }

    /// Decrypts `payload` in place and cuts the tag off; `false` if it isn't what was sealed with this key.
    pub(super) fn open(&self, sequence: u64, with: &[u8], payload: &mut Vec<u8>) -> bool {
        use chacha20poly1305::AeadInOut;
        let Some((_, tag)) = payload.split_last_chunk::<{ crate::format::stream::TAG_BYTES }>() else {
            return false;
        };
        let (tag, len) = (*tag, payload.len() - crate::format::stream::TAG_BYTES);
        payload.truncate(len);
        let sealed = (&mut payload[..]).into();
        self.cipher.decrypt_inout_detached(&self.nonce(sequence), with, sealed, &tag.into()).is_ok()
    }
}

#[cfg(feature = "encrypt")]
fn unsealable(sequence: u64) -> Error {
    Error::InvalidOption {
        option: "encrypt",
        value: format!("record {sequence}"),
        expected: "records of less than 256 GiB are".to_owned(),
    }
}

/// A salt for a new stream.
#[cfg(feature = "encrypt")]
pub(super) fn draw_salt() -> Result<Salt> {
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt)
        .map_err(|error| super::write::stream_error("draw randomness for", std::io::Error::other(error)))?;
    Ok(salt)
}

/// There is none in this build: options and headers that ask for one are refused before.
#[cfg(not(feature = "encrypt"))]
pub(super) enum Seal {}

#[cfg(not(feature = "encrypt"))]
impl Seal {
    pub(super) fn new(_key: &StreamKey, _salt: Salt) -> Result<Seal> {
        super::options::check_features(0, crate::format::stream::XCHACHA20_POLY1305).and_then(|()| no_key())
    }

    pub(super) fn salt(&self) -> &Salt {
        match *self {}
    }

    pub(super) fn seal(&self, _: u64, _: &[u8], _: &mut Vec<u8>, _: usize) -> Result<()> {
        match *self {}
    }

    pub(super) fn open(&self, _: u64, _: &[u8], _: &mut Vec<u8>) -> bool {
        match *self {}
    }
}

#[cfg(not(feature = "encrypt"))]
pub(super) fn draw_salt() -> Result<Salt> {
    super::options::check_features(0, crate::format::stream::XCHACHA20_POLY1305).and_then(|()| no_key())
}

/// What a stream that is encrypted says to those who have no key.
pub(super) fn no_key<T>() -> Result<T> {
    Err(Error::WrongKey { is_given: false })
}
