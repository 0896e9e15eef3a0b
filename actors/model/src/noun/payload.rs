//! The payload of a config or secret: bytes that tasks read and that never change.

use crate::Refusal;
use bincode::{Decode, Encode};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// Bytes that tasks read. Clones share them. They appear in no journal, log or error: `Debug` tells their number.
#[derive(Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct Payload(Arc<[u8]>);

impl Payload {
    /// Refuses an empty payload, and one that is not below `limit` bytes, in Swarm's words; `word` is Docker's word for
    /// the noun.
    pub(super) fn check(&self, word: &str, limit: usize) -> Result<(), Refusal> {
        if self.is_empty() || self.len() >= limit {
            let text = format!("{word} data must be larger than 0 and less than {limit} bytes");
            return Err(Refusal::invalid(text));
        }
        Ok(())
    }

    /// Whether an update with this payload leaves that of `self` as it is. An update without a payload does.
    pub(super) fn is_kept_by(&self, next: &Self) -> bool {
        next.is_empty() || next == self
    }
}

impl Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for Payload {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

/// Characters that the name of a config or secret may have, as in Swarm.
const NAME_LEN_MAX: usize = 64;

/// Refuses a name that Swarm refuses for a config or secret. A dot is allowed, unlike in the name of a service.
pub(super) fn check_name(name: &str) -> Result<(), Refusal> {
    if name.is_empty() {
        return Err(Refusal::invalid("name must be provided"));
    }
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    let (first, last) = (name.bytes().next(), name.bytes().next_back());
    if name.len() > NAME_LEN_MAX || !edge(first) || !edge(last) || !name.bytes().all(inner) {
        return Err(Refusal::invalid(
            "invalid name, only 64 [a-zA-Z0-9-_.] characters allowed, and the start and end character must be \
             [a-zA-Z0-9]",
        ));
    }
    Ok(())
}

#[cfg(test)]
essaim_wire::golden_bytes!("noun-payload": Payload);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_counted_and_never_shown() {
        assert_eq!(format!("{:?}", Payload::from(&b"s3cr3t"[..])), "6 bytes");
    }
}
