//! bincode 2 in its `legacy` configuration (fixed-width, little-endian), for the small control structures.
//!
//! This is the only module that knows bincode: the crate gets no more updates, so it must be easy to replace.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The bytes of `value`.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, String> {
    bincode::serde::encode_to_vec(value, bincode::config::legacy()).map_err(|error| error.to_string())
}

/// Reads a value from the start of `bytes`; returns it with the number of bytes that it took.
///
/// A length in front of a text or a list that is beyond what so many bytes can hold is damage, and is found before memory is
/// taken for it. bincode wants to know the limit when it is compiled, so there are a few.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, usize), String> {
    match bytes.len() {
        0..0x1000 => decode_within::<T, 0x4000>(bytes),
        0x1000..0x1_0000 => decode_within::<T, 0x4_0000>(bytes),
        0x1_0000..0x10_0000 => decode_within::<T, 0x40_0000>(bytes),
        0x10_0000..0x1000_0000 => decode_within::<T, 0x4000_0000>(bytes),
        _ => decode_within::<T, 0x10_0000_0000>(bytes),
    }
}

fn decode_within<T: DeserializeOwned, const LIMIT: usize>(bytes: &[u8]) -> Result<(T, usize), String> {
    let config = bincode::config::legacy().with_limit::<LIMIT>();
    bincode::serde::decode_from_slice(bytes, config).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_beyond_the_input_is_damage_before_it_takes_memory() {
        for len in [0x4000_u64, 26 << 30, u64::MAX] {
            let refused = decode::<String>(&len.to_le_bytes()).unwrap_err();
            assert!(refused.contains("Limit"), "{len}: {refused}");
        }
    }

    #[test]
    fn what_fills_its_bytes_is_read() {
        for len in [0, 1, 0xff8, 0xff9, 0x1_0000, 0x10_0000] {
            let (text, bytes) = ("x".repeat(len), encode(&"x".repeat(len)).unwrap());
            assert_eq!(decode::<String>(&bytes).unwrap(), (text, bytes.len()));
            let many = encode(&vec![String::new(); len]).unwrap();
            assert_eq!(decode::<Vec<String>>(&many).unwrap().1, many.len());
        }
    }
}
