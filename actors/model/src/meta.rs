//! Metadata that every object carries: its version and dates, its labels, and the name of a service.

use bincode::{Decode, Encode};
use essaim_wire::record;
use essaim_wire::{Index, Timestamp};
use std::collections::BTreeMap;
use std::fmt;

/// Labels of an object: pairs of free text, in the order of their keys.
pub type Labels = BTreeMap<String, String>;

/// Version and dates of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Meta {
    /// Log index of the last change that counts as a new version: the value that `?version=` must name in an update.
    pub version: Index,
    /// Time of the object's creation, by the state's own time.
    pub created_at: Timestamp,
    /// Time of the object's last change, by the state's own time.
    pub updated_at: Timestamp,
}
record!(Meta { 1: version, created_at, updated_at });

impl Meta {
    /// Metadata of an object that is created at this log index and time.
    pub const fn new(version: Index, at: Timestamp) -> Self {
        Self { version, created_at: at, updated_at: at }
    }

    /// Records a change of the object at this log index and time.
    pub const fn touch(&mut self, version: Index, at: Timestamp) {
        self.version = version;
        self.updated_at = at;
    }
}

/// Characters that a name may have: those of a DNS label (RFC 1035), since services are looked up by name.
pub(crate) const NAME_LEN_MAX: usize = 63;

/// The name of a service: letters, digits, `-` and `_`, beginning and ending with a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Name(String);

/// Reason why a text is no valid name. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InvalidName {
    /// The text is longer than [`NAME_LEN_MAX`] characters.
    TooLong,
    /// The text is empty, or has a character that is not allowed at its place.
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
    /// Parses a name, or says why `text` is none.
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

    /// The name as text.
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
