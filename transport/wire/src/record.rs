//! Records: structs that are stored or sent and may grow.
//!
//! bincode is positional, so a struct that gains a field has another format. A record is therefore encoded as its
//! *version*, one byte, and the fields of that version. [`record!`](crate::record!) implements that for a struct from
//! the list of its fields, grouped by the version that introduced them:
//!
//! ```
//! # use essaim_wire::{decode, encode, record};
//! #[derive(Debug, PartialEq)]
//! struct Volume {
//!     name: String,
//!     size: u64,
//!     driver: Option<String>,
//! }
//!
//! record!(Volume { 1: name, size; 2: driver = None });
//!
//! // Nothing new is used, so the bytes are those of version 1, and an older program reads them.
//! let plain = Volume { name: "v".into(), size: 5, driver: None };
//! assert_eq!(encode(&plain), [1, 1, b'v', 5]);
//! // An older program does not know version 2, and says so.
//! let driven = Volume { driver: Some("d".into()), ..plain };
//! assert_eq!(encode(&driven), [2, 1, b'v', 5, 1, 1, b'd']);
//! # assert_eq!(decode::<Volume>(&encode(&driven)), Ok(driven));
//! ```
//!
//! The rules:
//!
//! - A value is written in the oldest version that can express it: a field that has the value given after `=` needs no
//!   newer version. So the bytes of a value that uses nothing new never change, the hashes of a state agree between
//!   builds, and an older program reads every value that does not need a newer one.
//! - A released field is never removed, moved or given another type. A change that is more than another field
//!   implements [`Record`] by hand: the former shape stays as a private struct with a conversion, and
//!   [`record_codec!`](crate::record_codec!) does the rest.
//! - A version that this program does not know is [`DecodeError::Newer`](crate::DecodeError::Newer), never skipped.
//! - A version that goes into the replicated log raises the level of the changes that contain it; see `Change::level`
//!   in `model`.

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{AllowedEnumVariants, DecodeError, EncodeError};
use bincode::{Decode, Encode};

/// A struct that is encoded as its version and the fields of that version.
pub trait Record: Sized {
    /// Newest version that this program knows; the oldest is 1.
    const NEWEST: u16;

    /// Oldest version that can express this value.
    fn version(&self) -> u16;

    /// Encodes the fields that [`Record::version`] of this value has.
    fn write_fields<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError>;

    /// Decodes the fields that `version` has, which is between 1 and [`Record::NEWEST`].
    fn read_fields<D: Decoder>(version: u16, decoder: &mut D) -> Result<Self, DecodeError>;
}

/// Encodes a record: its version and its fields.
#[doc(hidden)]
pub fn write<T: Record, E: Encoder>(value: &T, encoder: &mut E) -> Result<(), EncodeError> {
    value.version().encode(encoder)?;
    value.write_fields(encoder)
}

/// Decodes a record of any version up to the newest. `allowed` is the range of versions, for the error.
#[doc(hidden)]
pub fn read<T: Record, D: Decoder>(
    name: &'static str,
    allowed: &'static AllowedEnumVariants,
    decoder: &mut D,
) -> Result<T, DecodeError> {
    let version = u16::decode(decoder)?;
    if !(1..=T::NEWEST).contains(&version) {
        return Err(DecodeError::UnexpectedVariant { type_name: name, allowed, found: u32::from(version) });
    }
    T::read_fields(version, decoder)
}

/// Whether a field differs from its value in older versions; also checks that the default has the type of the field.
#[doc(hidden)]
pub fn differs<T: PartialEq>(value: &T, default: &T) -> bool {
    value != default
}

/// Implements [`Record`] for a struct, from its fields grouped by the version that introduced them. Every field of a
/// version after the first names its value in older versions.
#[macro_export]
macro_rules! record {
    ($name:ident { 1: $($first:ident),+ $(,)? $(; $version:literal: $($later:ident = $default:expr),+)* $(;)? }) => {
        impl $crate::Record for $name {
            const NEWEST: u16 = {
                let newest: u16 = 1;
                $(let newest: u16 = { assert!($version == newest + 1, "versions count up by one"); $version };)*
                newest
            };

            fn version(&self) -> u16 {
                let version = 1;
                $(let version = if false $(|| $crate::record::differs(&self.$later, &$default))+ {
                    $version
                } else {
                    version
                };)*
                version
            }

            fn write_fields<E: $crate::bincode::enc::Encoder>(
                &self,
                encoder: &mut E,
            ) -> Result<(), $crate::bincode::error::EncodeError> {
                // Without `..`, so that a field that belongs to no version does not compile.
                let Self { $($first,)+ $($($later,)+)* } = self;
                $($crate::bincode::Encode::encode($first, encoder)?;)+
                let _version = <Self as $crate::Record>::version(self);
                $(if _version >= $version {
                    $($crate::bincode::Encode::encode($later, encoder)?;)+
                })*
                Ok(())
            }

            fn read_fields<D: $crate::bincode::de::Decoder>(
                _version: u16,
                decoder: &mut D,
            ) -> Result<Self, $crate::bincode::error::DecodeError> {
                $(let $first = $crate::bincode::Decode::decode(decoder)?;)+
                $($(let $later = if _version >= $version {
                    $crate::bincode::Decode::decode(decoder)?
                } else {
                    $default
                };)+)*
                Ok(Self { $($first,)+ $($($later,)+)* })
            }
        }

        $crate::record_codec!($name);
    };
}

/// Implements `Encode` and `Decode` for a type that implements [`Record`] by hand.
#[macro_export]
macro_rules! record_codec {
    ($name:ident) => {
        impl $crate::bincode::Encode for $name {
            fn encode<E: $crate::bincode::enc::Encoder>(
                &self,
                encoder: &mut E,
            ) -> Result<(), $crate::bincode::error::EncodeError> {
                $crate::record::write(self, encoder)
            }
        }

        impl<Context> $crate::bincode::Decode<Context> for $name {
            fn decode<D: $crate::bincode::de::Decoder<Context = Context>>(
                decoder: &mut D,
            ) -> Result<Self, $crate::bincode::error::DecodeError> {
                const ALLOWED: $crate::bincode::error::AllowedEnumVariants =
                    $crate::bincode::error::AllowedEnumVariants::Range {
                        min: 1,
                        max: <$name as $crate::Record>::NEWEST as u32,
                    };
                $crate::record::read(stringify!($name), &ALLOWED, decoder)
            }
        }

        $crate::bincode::impl_borrow_decode!($name);
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DecodeError as Undecodable, decode, encode};

    /// An older, the present and a newer build, as three types of the same bytes.
    mod builds {
        #[derive(Debug, Clone, PartialEq)]
        pub(super) struct Old {
            pub(super) name: String,
        }
        record!(Old { 1: name });

        #[derive(Debug, Clone, PartialEq)]
        pub(super) struct New {
            pub(super) name: String,
            pub(super) count: u32,
        }
        record!(New { 1: name; 2: count = 7 });

        #[derive(Debug, Clone, PartialEq)]
        pub(super) struct Newer {
            pub(super) name: String,
            pub(super) count: u32,
            pub(super) tags: Vec<String>,
            pub(super) more: bool,
        }
        record!(Newer { 1: name; 2: count = 7; 3: tags = Vec::new(), more = false });
    }
    use builds::{New, Newer, Old};

    #[test]
    fn a_value_that_uses_nothing_new_has_the_bytes_it_always_had() {
        let old = encode(&Old { name: "a".into() });
        assert_eq!(old, [1, 1, b'a']);
        assert_eq!(encode(&New { name: "a".into(), count: 7 }), old);
        assert_eq!(encode(&Newer { name: "a".into(), count: 7, tags: vec![], more: false }), old);
    }

    #[test]
    fn what_an_older_build_wrote_is_read_with_the_defaults_of_what_it_did_not_know() {
        let newer = decode::<Newer>(&[1, 1, b'a']).expect("the first version");
        assert_eq!(newer, Newer { name: "a".into(), count: 7, tags: vec![], more: false });
        let newer = decode::<Newer>(&[2, 1, b'a', 9]).expect("the second");
        assert_eq!(newer, Newer { name: "a".into(), count: 9, tags: vec![], more: false });
        assert_eq!(encode(&newer), [2, 1, b'a', 9], "and is written as it was");
    }

    #[test]
    fn a_newer_version_takes_all_fields_along() {
        let newer = Newer { name: "a".into(), count: 7, tags: vec![], more: true };
        assert_eq!(encode(&newer), [3, 1, b'a', 7, 0, 1]);
        assert_eq!(decode(&[3, 1, b'a', 7, 0, 1]), Ok(newer));
    }

    #[test]
    fn a_version_of_a_newer_build_is_told_from_damage() {
        let newer = decode::<Old>(&[2, 1, b'a', 9]).expect_err("from a newer build");
        assert_eq!(newer, Undecodable::Newer { what: "Old", found: 2, known: 1 });
        let damaged = decode::<Old>(&[0, 1, b'a']).expect_err("there is no version 0");
        assert!(!damaged.is_newer(), "{damaged}");
    }

    /// A record whose size became a range, which is more than another field.
    #[derive(Debug, PartialEq)]
    struct Range {
        from: u32,
        to: u32,
    }

    /// Version 1 of the record.
    #[derive(Encode, Decode)]
    struct RangeV1 {
        size: u32,
    }

    impl Record for Range {
        const NEWEST: u16 = 2;

        fn version(&self) -> u16 {
            if self.from == 0 { 1 } else { 2 }
        }

        fn write_fields<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
            match self.version() {
                1 => RangeV1 { size: self.to }.encode(encoder),
                _ => (self.from, self.to).encode(encoder),
            }
        }

        fn read_fields<D: Decoder>(version: u16, decoder: &mut D) -> Result<Self, DecodeError> {
            Ok(match version {
                1 => Self { from: 0, to: RangeV1::decode(decoder)?.size },
                _ => Self { from: u32::decode(decoder)?, to: u32::decode(decoder)? },
            })
        }
    }
    record_codec!(Range);

    #[test]
    fn a_record_of_another_shape_is_converted_from_the_former_one() {
        assert_eq!(decode(&[1, 5]), Ok(Range { from: 0, to: 5 }));
        assert_eq!(encode(&Range { from: 0, to: 5 }), [1, 5]);
        assert_eq!(decode(&[2, 3, 5]), Ok(Range { from: 3, to: 5 }));
        assert_eq!(encode(&Range { from: 3, to: 5 }), [2, 3, 5]);
    }
}
