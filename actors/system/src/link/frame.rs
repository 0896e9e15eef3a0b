//! The frames that are written on a link.

use bincode::{Decode, Encode};

/// One frame of a link. New variants are appended.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) enum Frame {
    /// First frame in each direction: the revision of the link protocol that the sender speaks.
    Open { revision: u32 },
    /// The sender exports an actor: from now on the peer may address it by `key`. `hears` names its message type.
    Export { key: u64, name: String, hears: String },
    /// An actor that the sender exported has ended.
    Down { key: u64, failed: bool, why: String },
    /// A message for an actor that the peer exported.
    Cast { to: u64, variant: String, args: Vec<u8> },
    /// A question for an actor that the peer exported; the reply carries the same tag.
    Call { to: u64, tag: u64, within_ms: u64, variant: String, args: Vec<u8> },
    /// The reply to a question, or `None` when there will be no reply.
    Reply { tag: u64, answer: Option<Vec<u8>> },
    /// The sender ends the link on purpose.
    Close { why: String },
}

impl Frame {
    /// Upper bound of the encoded length in bytes, for frames that carry messages; other frames count as nothing.
    pub(super) fn len_about(&self) -> usize {
        /// Bytes of a frame without its text and arguments: the variant, three numbers and two lengths, nine bytes each
        /// at most.
        const NUMBERS: usize = 1 + 5 * 9;
        NUMBERS
            + match self {
                Self::Cast { variant, args, .. } | Self::Call { variant, args, .. } => variant.len() + args.len(),
                Self::Reply { answer, .. } => answer.as_ref().map_or(0, Vec::len),
                Self::Open { .. } | Self::Export { .. } | Self::Down { .. } | Self::Close { .. } => 0,
            }
    }
}

#[cfg(test)]
essaim_wire::golden_bytes!("link-frame": Frame);
