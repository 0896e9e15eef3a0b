//! The payload of a config or secret: bytes that tasks read and that never change.

use crate::Refusal;
use essaim_wire::record;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// Bytes that tasks read. Clones share them. They appear in no journal, log or error: `Debug` tells their number.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Payload {
    bytes: Arc<[u8]>,
    is_template: bool,
}
record!(Payload { 1: bytes, is_template });

impl Payload {
    /// The text of a Go template, which each task reads expanded.
    pub fn template(text: Vec<u8>) -> Self {
        Self { bytes: text.into(), is_template: true }
    }

    /// The payload of the next version: other bytes, which are read in the same way.
    pub fn with_bytes(&self, bytes: Vec<u8>) -> Self {
        Self { bytes: bytes.into(), is_template: self.is_template }
    }

    /// Whether the bytes are the text of a Go template, which each task reads expanded.
    pub const fn is_template(&self) -> bool {
        self.is_template
    }

    /// Refuses an empty payload, and one that is not below `limit` bytes, in Swarm's words; `word` is Docker's word for
    /// the noun.
    pub(crate) fn check(&self, word: &str, limit: usize) -> Result<(), Refusal> {
        if self.is_empty() || self.len() >= limit {
            let text = format!("{word} data must be larger than 0 and less than {limit} bytes");
            return Err(Refusal::invalid(text));
        }
        Ok(())
    }

    /// Whether an update with this payload leaves that of `self` as it is. An update without a payload does.
    pub(crate) fn is_kept_by(&self, next: &Self) -> bool {
        next.is_empty() || next == self
    }
}

impl Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl From<&[u8]> for Payload {
    fn from(bytes: &[u8]) -> Self {
        Self { bytes: bytes.into(), is_template: false }
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes: bytes.into(), is_template: false }
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

#[cfg(test)]
essaim_wire::golden_bytes!("payload": Payload);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_counted_and_never_shown() {
        assert_eq!(format!("{:?}", Payload::from(&b"s3cr3t"[..])), "6 bytes");
    }
}
