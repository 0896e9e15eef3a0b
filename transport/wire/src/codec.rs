//! The only codec: bincode 2 with its standard configuration, bounded in both directions.
//!
//! bincode is positional and no longer maintained upstream, so nothing else in the workspace calls it: this module is
//! the only place to change when it has to be replaced. Types derive bincode's own `Encode` and `Decode`, never
//! serde's. Bytes that are on disk, or come from another build, stay readable: structs that may grow are
//! [records](mod@crate::record), variants of enums are only appended, and golden bytes check both.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::enc::EncoderImpl;
use bincode::enc::write::SizeWriter;
use bincode::error::AllowedEnumVariants;
use bincode::{Decode, Encode};

/// Upper bound on the memory in bytes that a decoded value may claim: 16 MiB, four times the largest frame, so that a
/// length prefix invented by a broken peer is an error and not an allocation.
const DECODE_LIMIT: usize = 16 << 20;

/// bincode's configuration: little-endian, integers of variable length.
pub(crate) const CONFIG: Configuration<LittleEndian, Varint, Limit<DECODE_LIMIT>> =
    bincode::config::standard().with_limit::<DECODE_LIMIT>();

/// Reasons why bytes are no value of the expected type. No state has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes were cut, belong to another type, or are corrupt. Their sender is at fault.
    #[error("undecodable {what}: {why}")]
    Damaged {
        /// Name of the expected type.
        what: &'static str,
        /// Description of what is wrong with the bytes.
        why: String,
    },
    /// A newer program wrote the bytes: they contain a variant or a version that this one does not know. The remedy is
    /// to upgrade this program; skipping such a value would lose its content.
    #[error("written by a newer essaim: {what} has number {found}, and this build knows {known} at most")]
    Newer {
        /// Name of the enum or record with the unknown variant or version.
        what: &'static str,
        /// Number of the variant or version.
        found: u32,
        /// Highest number that this build knows.
        known: u32,
    },
}

impl DecodeError {
    /// An error about bytes that can be decoded, but to an invalid value.
    pub fn new(what: &'static str, why: impl Into<String>) -> Self {
        Self::Damaged { what, why: why.into() }
    }

    /// Whether a newer program wrote the bytes.
    pub const fn is_newer(&self) -> bool {
        matches!(self, Self::Newer { .. })
    }

    /// Whether this is the text of a [`DecodeError::Newer`]: for callers that get the error through a library that
    /// keeps only its text.
    pub fn tells_of_newer(words: &str) -> bool {
        words.contains("written by a newer essaim")
    }

    fn of<T>(why: &bincode::error::DecodeError) -> Self {
        match why {
            // Enums of other crates (an `Option`, an address) never grow, so an unknown variant of these is damage.
            // bincode names them by their path.
            bincode::error::DecodeError::UnexpectedVariant {
                type_name,
                allowed: AllowedEnumVariants::Range { max, .. },
                found,
            } if found > max && !type_name.contains("::") => {
                Self::Newer { what: type_name, found: *found, known: *max }
            }
            _ => Self::Damaged { what: short_name::<T>(), why: why.to_string() },
        }
    }
}

/// The value cannot be encoded, because it is larger than the codec's limit of 16 MiB.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot encode {what}: {why}")]
pub struct EncodeError {
    what: &'static str,
    why: String,
}

/// Encodes `value`.
///
/// # Panics
///
/// When `value` is larger than 16 MiB: every encoded value is bounded where it is made, so this is a bug of this
/// program.
pub fn encode<T: Encode>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_into(value, &mut bytes).expect("a value is bounded where it is made");
    bytes
}

/// Encodes `value` at the end of `bytes`; on an error `bytes` is unchanged.
pub fn encode_into<T: Encode>(value: &T, bytes: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = bytes.len();
    bincode::encode_into_std_write(value, bytes, CONFIG).map(|_| ()).map_err(|why| {
        bytes.truncate(start);
        EncodeError { what: short_name::<T>(), why: why.to_string() }
    })
}

/// Length in bytes of what [`encode`] would return for `value`, without encoding it.
///
/// # Panics
///
/// As [`encode`] does.
pub fn encoded_len<T: Encode>(value: &T) -> usize {
    let mut encoder = EncoderImpl::new(SizeWriter::default(), CONFIG);
    value.encode(&mut encoder).expect("a value is bounded where it is made");
    encoder.into_writer().bytes_written
}

/// Decodes a value from exactly these bytes; bytes left over are an error too.
pub fn decode<T: Decode<()>>(bytes: &[u8]) -> Result<T, DecodeError> {
    let (value, used) = decode_prefix(bytes)?;
    match bytes.len() - used {
        0 => Ok(value),
        left => Err(DecodeError::new(short_name::<T>(), format!("{left} bytes too many"))),
    }
}

/// Decodes a value from the start of `bytes`. Returns the value and its length in bytes.
pub fn decode_prefix<T: Decode<()>>(bytes: &[u8]) -> Result<(T, usize), DecodeError> {
    bincode::decode_from_slice(bytes, CONFIG).map_err(|why| DecodeError::of::<T>(&why))
}

/// The type's name without its modules, for the text of errors.
fn short_name<T>() -> &'static str {
    let name = std::any::type_name::<T>();
    let end = name.find('<').unwrap_or(name.len());
    name[..end].rfind("::").map_or(name, |colons| &name[colons + 2..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Index, RequestId, Role, Timestamp};
    use proptest::prelude::*;

    #[test]
    fn a_length_made_up_by_a_peer_is_an_error_and_no_allocation() {
        // A vector that claims 2^40 elements, in eleven bytes.
        let claim = [253, 0, 0, 0, 0, 0, 1, 0, 0];
        assert!(decode::<Vec<u64>>(&claim).is_err());
    }

    #[test]
    fn a_length_is_told_without_the_bytes() {
        let value = (Timestamp::from_micros(250), "a word".to_owned(), vec![1_u64, 1 << 40]);
        assert_eq!(encoded_len(&value), encode(&value).len());
    }

    #[test]
    fn left_over_bytes_are_refused() {
        let refused = decode::<Index>(&[1, 9, 9]).expect_err("two bytes too many");
        assert_eq!(refused.to_string(), "undecodable Index: 2 bytes too many");
    }

    #[test]
    fn a_variant_of_a_newer_program_is_told_from_damage() {
        let newer = decode::<Role>(&[2]).expect_err("there are two roles");
        assert_eq!(newer, DecodeError::Newer { what: "Role", found: 2, known: 1 });
        assert_eq!(newer.to_string(), "written by a newer essaim: Role has number 2, and this build knows 1 at most");
        assert!(!decode::<Option<Role>>(&[7]).expect_err("an option has two variants for ever").is_newer());
        assert!(!decode::<Role>(&[]).expect_err("cut short").is_newer());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes: Vec<u8>) {
            let _ = decode::<Vec<(String, Option<RequestId>, Vec<u8>)>>(&bytes);
        }
    }
}
