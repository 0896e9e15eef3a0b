//! What every object carries: its version, when it was made and last changed, and the name and labels people gave it.

use bincode::{Decode, Encode};
use essaim_wire::record;
use essaim_wire::{Index, Timestamp};
use std::collections::BTreeMap;
use std::fmt;

/// Labels: free text to free text, in the order of their keys.
pub type Labels = BTreeMap<String, String>;

/// The version of an object, and its dates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Meta {
    /// The place in the log of the last change: what `?version=` must name in an update.
    pub version: Index,
    /// When it was made, by the clock of its proposer.
    pub created_at: Timestamp,
    /// When it last changed, by the clock of whoever proposed that.
    pub updated_at: Timestamp,
}
record!(Meta { 1: version, created_at, updated_at });

impl Meta {
    /// Of an object made here and now.
    pub const fn new(version: Index, at: Timestamp) -> Self {
        Self { version, created_at: at, updated_at: at }
    }

    /// The object changed.
    pub const fn touch(&mut self, version: Index, at: Timestamp) {
        self.version = version;
        self.updated_at = at;
    }
}

/// How long a name may be: a label of the domain name system, since services are looked up by name.
pub const NAME_LEN_MAX: usize = 63;

/// The name of a service: letters, digits, `-` and `_`, beginning and ending with a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Name(String);

/// The text is no valid name; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InvalidName {
    /// Longer than [`NAME_LEN_MAX`] characters.
    TooLong,
    /// Empty, or with a character that may not stand there.
    Malformed,
}

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "name must be {NAME_LEN_MAX} characters or fewer"),
            Self::Malformed => f.write_str("name must be valid as a DNS name component"),
        }
    }
}

impl std::error::Error for InvalidName {}

impl Name {
    /// Accepts `text` as a name.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        if text.len() > NAME_LEN_MAX {
            return Err(InvalidName::TooLong);
        }
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
        let (first, last) = (text.bytes().next(), text.bytes().next_back());
        if edge(first) && edge(last) && text.bytes().all(inner) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidName::Malformed)
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
essaim_wire::golden_bytes!("meta": Name, Meta);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_component_of_a_domain_name() {
        for good in ["web", "a", "vote_db", "x-1", "7", &"n".repeat(63)] {
            assert_eq!(Name::parse(good).map(|name| name.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", "-web", "web-", "we b", "wéb", "a.b", "_x"] {
            assert_eq!(Name::parse(bad), Err(InvalidName::Malformed), "{bad:?}");
        }
        assert_eq!(Name::parse(&"n".repeat(64)), Err(InvalidName::TooLong));
    }
}
