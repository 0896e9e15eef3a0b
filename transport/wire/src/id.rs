//! Ids: 128 bits, printed as 25 characters of base 36, the format of Docker's ids.
//!
//! The proposer of an object draws its id from the node's seeded randomness; nothing is derived from an id and nothing
//! is packed into it. 36^25 is just above 2^128, so 25 characters always suffice, and the text is padded so that ids of
//! one kind align and sort in a table.

use std::fmt;

/// Number of characters in the text of an id.
const TEXT_LEN: usize = 25;

/// The text is not an id: it must be 25 characters of `0-9a-z` that fit into 128 bits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an id: an id is {TEXT_LEN} characters of 0-9 and a-z")]
pub struct InvalidId {
    text: String,
}

/// Declares a kind of id: a `u128` in a type of its own, so that a task's id cannot be passed as a node's.
#[macro_export]
macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, $crate::bincode::Encode, $crate::bincode::Decode)]
        #[bincode(crate = "::essaim_wire::bincode")]
        pub struct $name(u128);

        impl $name {
            /// The id with these 128 bits.
            pub const fn from_bits(bits: u128) -> Self {
                Self(bits)
            }

            /// The 128 bits of the id.
            pub const fn bits(self) -> u128 {
                self.0
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                $crate::write_base36(self.0, f)
            }
        }

        impl ::std::fmt::Debug for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                $crate::write_base36(self.0, f)
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = $crate::InvalidId;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $crate::parse_base36(text).map(Self)
            }
        }
    };
}

id! {
    /// A machine of the cluster, from its first enrolment until it is removed. Its certificate contains the id.
    NodeId
}

id! {
    /// A cluster; drawn at init. Certificates contain the id, so a node of another cluster is refused on connecting.
    ClusterId
}

/// Writes 128 bits as 25 characters of base 36.
pub fn write_base36(bits: u128, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut text = [b'0'; TEXT_LEN];
    let mut rest = bits;
    for place in text.iter_mut().rev() {
        *place = DIGITS[(rest % 36) as usize];
        rest /= 36;
    }
    f.pad(std::str::from_utf8(&text).expect("base-36 digits are ASCII"))
}

/// Parses what [`write_base36`] wrote.
pub fn parse_base36(text: &str) -> Result<u128, InvalidId> {
    let invalid = || InvalidId { text: text.chars().take(64).collect() };
    if text.len() != TEXT_LEN {
        return Err(invalid());
    }
    let mut bits: u128 = 0;
    for byte in text.bytes() {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'z' => byte - b'a' + 10,
            _ => return Err(invalid()),
        };
        bits = bits.checked_mul(36).and_then(|bits| bits.checked_add(u128::from(digit))).ok_or_else(invalid)?;
    }
    Ok(bits)
}

#[cfg(test)]
essaim_wire::golden_bytes!("id": NodeId, ClusterId);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_smallest_and_the_largest_id_have_25_characters() {
        assert_eq!(NodeId::from_bits(0).to_string(), "0000000000000000000000000");
        assert_eq!(NodeId::from_bits(u128::MAX).to_string(), "f5lxx1zz5pnorynqglhzmsp33");
    }

    #[test]
    fn what_is_no_id_is_refused_with_its_text() {
        for text in ["", "abc", "f5lxx1zz5pnorynqglhzmsp34", "F5LXX1ZZ5PNORYNQGLHZMSP33", "zzzzzzzzzzzzzzzzzzzzzzzzz"] {
            let refused = text.parse::<NodeId>().expect_err(text);
            assert!(refused.to_string().starts_with(&format!("{text:?} is not an id")));
        }
    }

    proptest! {
        #[test]
        fn an_id_survives_its_text(bits: u128) {
            prop_assert_eq!(NodeId::from_bits(bits).to_string().parse(), Ok(NodeId::from_bits(bits)));
        }

        #[test]
        fn text_sorts_as_bits_do(a: u128, b: u128) {
            let (x, y) = (NodeId::from_bits(a), NodeId::from_bits(b));
            prop_assert_eq!(x.cmp(&y), x.to_string().cmp(&y.to_string()));
        }
    }
}
