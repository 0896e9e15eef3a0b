//! The first frames on a connection and on a stream.
//!
//! On a connection, the dialler opens a stream and says [`Hello`]; the other side answers with its own, or refuses with
//! a reason. Both name the range of wire versions that they speak, and the session uses the newest version in both
//! ranges. On every later stream, the opener says [`Open`], and the answer tells whether the lane is open. Each of
//! these frames is small and read with a small limit, because the peer has not been judged yet.

use crate::admission::Denied;
use crate::lane::{Lane, Traffic};
use bincode::{Decode, Encode};
use essaim_wire::{DecodeError, Generation, Lineage, WireVersion, decode_prefix};
use std::net::SocketAddr;

/// Upper bound in bytes on a frame before a lane is open. A refusal with its reason is the longest.
pub(super) const FRAME_MAX: usize = 4 << 10;

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct Hello {
    /// Range of wire versions (`oldest` to `newest`) that the sender speaks. The range comes first, so that every
    /// program can read that of any other.
    pub(super) oldest: WireVersion,
    pub(super) newest: WireVersion,
    pub(super) lineage: Lineage,
    pub(super) generation: Generation,
    pub(super) advertise: SocketAddr,
    pub(super) traffic: Traffic,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) enum Welcome {
    Hello(Hello),
    No(Unwelcome),
}

/// Reasons why a session was not established.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Encode, Decode)]
pub(super) enum Unwelcome {
    #[error(
        "it speaks the versions {oldest} to {newest} of the protocol, and this node none of them: upgrade the older"
    )]
    Version { oldest: WireVersion, newest: WireVersion },
    #[error(transparent)]
    Denied(Denied),
    #[error("another session between the two stands")]
    Duplicate,
    #[error("it knows a later start of this node (generation {})", .known.0)]
    Older { known: Generation },
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct Open {
    pub(super) lane: Lane,
    /// Present lineage of the opener; it may have changed since Hello.
    pub(super) lineage: Lineage,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) enum Opened {
    Yes { lineage: Lineage },
    No(Denied),
}

/// The newest wire version in both ranges: `oldest` to `newest` of the peer, and this program's oldest to `own_newest`.
pub(super) fn agree(
    oldest: WireVersion,
    newest: WireVersion,
    own_newest: WireVersion,
) -> Result<WireVersion, Unwelcome> {
    let spoken = newest.min(own_newest);
    if spoken < oldest.max(WireVersion::OLDEST) {
        return Err(Unwelcome::Version { oldest: WireVersion::OLDEST, newest: own_newest });
    }
    Ok(spoken)
}

/// Decodes the Hello of a program of any version, and agrees on the wire version. Bytes that a newer program adds to
/// its Hello are ignored.
pub(super) fn read_hello(
    bytes: &[u8],
    own_newest: WireVersion,
) -> Result<Result<(Hello, WireVersion), Unwelcome>, DecodeError> {
    let ((oldest, newest), _) = decode_prefix::<(WireVersion, WireVersion)>(bytes)?;
    match agree(oldest, newest, own_newest) {
        Ok(spoken) => decode_prefix(bytes).map(|(hello, _)| Ok((hello, spoken))),
        Err(unwelcome) => Ok(Err(unwelcome)),
    }
}

#[cfg(test)]
essaim_wire::golden_bytes!("endpoint-hello": Hello, Welcome, Unwelcome, Open, Opened);

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_wire::encode;

    fn hello() -> Hello {
        Hello {
            oldest: WireVersion(1),
            newest: WireVersion(2),
            lineage: Lineage { ordinal: 2, nonce: 3 },
            generation: Generation(4),
            advertise: SocketAddr::from(([127, 0, 0, 1], 2377)),
            traffic: Traffic::Bulk,
        }
    }

    #[test]
    fn two_programs_speak_the_newest_version_that_both_know() {
        let read = |newest, own| {
            let hello = Hello { newest: WireVersion(newest), ..hello() };
            let (heard, spoken) = read_hello(&encode(&hello), WireVersion(own)).expect("well formed").expect("agreed");
            assert_eq!(heard, hello);
            spoken.0
        };
        assert_eq!([read(2, 2), read(2, 1), read(1, 2), read(9, 2)], [2, 1, 1, 2]);
    }

    #[test]
    fn programs_without_a_version_in_common_say_so() {
        let mut bytes = encode(&Hello { oldest: WireVersion(3), newest: WireVersion(4), ..hello() });
        let refused = Unwelcome::Version { oldest: WireVersion(1), newest: WireVersion(2) };
        assert_eq!(read_hello(&bytes, WireVersion(2)), Ok(Err(refused)));
        // Any bytes may follow the range.
        bytes.truncate(2);
        bytes.extend([250; 9]);
        assert!(read_hello(&bytes, WireVersion(2)).expect("the range is enough").is_err());
        assert!(read_hello(&[], WireVersion(2)).is_err());
        assert!(read_hello(&[1, 2], WireVersion(2)).is_err(), "cut short");
    }

    #[test]
    fn what_a_newer_hello_says_beyond_this_program_is_left_to_those_who_know_it() {
        let mut bytes = encode(&Hello { newest: WireVersion(7), ..hello() });
        bytes.extend([1, 2, 3]);
        let (_, spoken) = read_hello(&bytes, WireVersion(2)).expect("well formed").expect("agreed");
        assert_eq!(spoken, WireVersion(2));
    }
}
