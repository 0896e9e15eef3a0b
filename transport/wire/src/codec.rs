//! The one codec: bincode 2 with its standard configuration, and bounded in both directions.
//!
//! bincode is positional and no longer maintained upstream, so nothing else in the workspace calls it: this module
//! is the only place to change when it has to be replaced. Types derive bincode's own `Encode` and `Decode`, never
//! serde's. What was encoded once and lies on disk or on a wire of another version is kept readable by frozen types
//! and golden bytes, which live beside those types.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::{Decode, Encode};

/// No value that is decoded may claim more memory than this: 16 MiB, four times the largest frame, so that a
/// length prefix made up by a broken peer is an error and not an allocation.
const DECODE_LIMIT: usize = 16 << 20;

/// Little-endian, integers of variable length.
const CONFIG: Configuration<LittleEndian, Varint, Limit<DECODE_LIMIT>> =
    bincode::config::standard().with_limit::<DECODE_LIMIT>();

/// The bytes are no value of the type: they were cut, they belong to another type or version, or something rotted.
/// Nothing was changed; whoever sent them is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("undecodable {what}: {why}")]
pub struct DecodeError {
    what: &'static str,
    why: String,
}

impl DecodeError {
    /// An error about bytes that decode, but to something that may not be.
    pub fn new(what: &'static str, why: impl Into<String>) -> Self {
        Self { what, why: why.into() }
    }
}

/// The value cannot be encoded, because it is larger than the codec's limit of 16 MiB.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot encode {what}: {why}")]
pub struct EncodeError {
    what: &'static str,
    why: String,
}

/// The bytes of `value`.
///
/// # Panics
///
/// When `value` is larger than 16 MiB: whatever is encoded is bounded where it is made, so this is a fault of ours.
pub fn encode<T: Encode>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_into(value, &mut bytes).expect("a value is bounded where it is made");
    bytes
}

/// Appends the bytes of `value`; on an error `bytes` is as it was.
pub fn encode_into<T: Encode>(value: &T, bytes: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = bytes.len();
    bincode::encode_into_std_write(value, bytes, CONFIG).map(|_| ()).map_err(|why| {
        bytes.truncate(start);
        EncodeError { what: short_name::<T>(), why: why.to_string() }
    })
}

/// The value with exactly these bytes; anything left over is an error too.
pub fn decode<T: Decode<()>>(bytes: &[u8]) -> Result<T, DecodeError> {
    let (value, used) = decode_prefix(bytes)?;
    match bytes.len() - used {
        0 => Ok(value),
        left => Err(DecodeError { what: short_name::<T>(), why: format!("{left} bytes too many") }),
    }
}

/// The value at the start of `bytes`, and how many bytes it took.
pub fn decode_prefix<T: Decode<()>>(bytes: &[u8]) -> Result<(T, usize), DecodeError> {
    bincode::decode_from_slice(bytes, CONFIG)
        .map_err(|why| DecodeError { what: short_name::<T>(), why: why.to_string() })
}

/// The type's name without the modules it lives in, for people who read errors.
fn short_name<T>() -> &'static str {
    let name = std::any::type_name::<T>();
    let end = name.find('<').unwrap_or(name.len());
    name[..end].rfind("::").map_or(name, |colons| &name[colons + 2..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Generation, Index, Lineage, NodeId, Reachability, RequestId, Role, Term, Timestamp};
    use proptest::prelude::*;
    use std::fmt;

    fn check<T: Encode + Decode<()> + PartialEq + fmt::Debug>(value: T, golden: &[u8]) {
        assert_eq!(encode(&value), golden, "the bytes of {value:?} have changed: that is a new format");
        assert_eq!(decode::<T>(golden), Ok(value));
    }

    #[test]
    fn the_bytes_of_the_letters_never_change() {
        check(NodeId::from_bits(7), &[7]);
        check(Generation(300), &[251, 44, 1]);
        check(Index(1), &[1]);
        check(Term(2), &[2]);
        check(Timestamp::from_micros(250), &[250]);
        check(Lineage { ordinal: 1, nonce: 2 }, &[1, 2]);
        check(Role::Worker, &[0]);
        check(Role::Manager, &[1]);
        check(Reachability::Down, &[3]);
        check(RequestId { origin: NodeId::from_bits(1), generation: Generation(2), seq: 3 }, &[1, 2, 3]);
    }

    #[test]
    fn a_length_made_up_by_a_peer_is_an_error_and_no_allocation() {
        // A vector that claims 2^40 elements, in eleven bytes.
        let claim = [253, 0, 0, 0, 0, 0, 1, 0, 0];
        assert!(decode::<Vec<u64>>(&claim).is_err());
    }

    #[test]
    fn left_over_bytes_are_refused() {
        let refused = decode::<Index>(&[1, 9, 9]).expect_err("two bytes too many");
        assert_eq!(refused.to_string(), "undecodable Index: 2 bytes too many");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes: Vec<u8>) {
            let _ = decode::<Vec<(String, Option<RequestId>, Vec<u8>)>>(&bytes);
        }
    }
}
