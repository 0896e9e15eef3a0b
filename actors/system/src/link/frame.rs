//! What is written on a link.

use bincode::{Decode, Encode};

/// One frame. New ones come at the end.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) enum Frame {
    /// First of all: the language.
    Open { revision: u32 },
    /// An actor can be addressed by this key from now on.
    Export { key: u64, name: String, hears: String },
    /// That actor has ended.
    Down { key: u64, failed: bool, why: String },
    /// A message for the peer's actor.
    Cast { to: u64, variant: String, args: Vec<u8> },
    /// A question for the peer's actor; the answer carries the tag.
    Call { to: u64, tag: u64, within_ms: u64, variant: String, args: Vec<u8> },
    /// The answer, or that there will be none.
    Reply { tag: u64, answer: Option<Vec<u8>> },
    /// The link ends, on purpose.
    Close { why: String },
}

impl Frame {
    /// How many bytes it takes at most, encoded, when it is one of those that come in numbers.
    pub(super) fn len_about(&self) -> usize {
        /// The number of the frame, three numbers and two lengths, nine bytes each at most.
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
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_the_frames_never_change() {
        let check = |frame: Frame, golden: &[u8]| {
            assert_eq!(essaim_wire::encode(&frame), golden, "{frame:?}");
            assert_eq!(essaim_wire::decode::<Frame>(golden), Ok(frame));
        };
        check(Frame::Open { revision: 1 }, &[0, 1]);
        check(Frame::Export { key: 1, name: "a".into(), hears: "b".into() }, &[1, 1, 1, b'a', 1, b'b']);
        check(Frame::Down { key: 1, failed: true, why: "x".into() }, &[2, 1, 1, 1, b'x']);
        check(Frame::Cast { to: 1, variant: "V".into(), args: vec![9] }, &[3, 1, 1, b'V', 1, 9]);
        let call = Frame::Call { to: 1, tag: 2, within_ms: 3, variant: "V".into(), args: vec![] };
        check(call, &[4, 1, 2, 3, 1, b'V', 0]);
        check(Frame::Reply { tag: 2, answer: None }, &[5, 2, 0]);
        check(Frame::Close { why: "x".into() }, &[6, 1, b'x']);
    }
}
