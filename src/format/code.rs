//! bincode 2 in its `legacy` configuration (fixed-width, little-endian), for the small control structures.
//!
//! This is the only module that knows bincode: the crate gets no more updates, so it must be easy to replace.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// No structure that is read in this way is larger: a greater length in front of a list is damage.
const BYTES_MAX: usize = 1 << 36;

/// The bytes of `value`.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, String> {
    bincode::serde::encode_to_vec(value, bincode::config::legacy()).map_err(|error| error.to_string())
}

/// Reads a value from the start of `bytes`; returns it with the number of bytes that it took.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, usize), String> {
    let config = bincode::config::legacy().with_limit::<BYTES_MAX>();
    bincode::serde::decode_from_slice(bytes, config).map_err(|error| error.to_string())
}
