//! The first words on a connection and on a stream.
//!
//! On a connection: the dialler opens a stream and says [`Hello`]; the other side answers with its own, or says why
//! not. On every later stream: whoever opens it says [`Open`], and the answer says whether the lane is open. Each of
//! these frames is small and read with a small limit, because nothing has been judged yet.

use crate::admission::Denied;
use crate::lane::{Lane, Traffic};
use bincode::{Decode, Encode};
use essaim_wire::{DecodeError, Generation, Lineage, decode, decode_prefix};
use std::net::SocketAddr;

/// The version of everything that two nodes say to each other. It grows with each change that an older node could
/// not read.
pub(super) const WIRE: u16 = 1;

/// The longest frame before a lane is open. A refusal with a reason is the longest of them.
pub(super) const FRAME_MAX: usize = 4 << 10;

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct Hello {
    /// First, so that any version can read it of any other.
    pub(super) wire: u16,
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

/// Why a session was not established.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Encode, Decode)]
pub(super) enum Unwelcome {
    #[error("it speaks version {ours} of the protocol, this node version {WIRE}")]
    Version { ours: u16 },
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
    /// The history that the opener belongs to now; it may have changed since Hello.
    pub(super) lineage: Lineage,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) enum Opened {
    Yes { lineage: Lineage },
    No(Denied),
}

/// Reads a Hello of any version: one of another version is known by its first field, whatever follows.
pub(super) fn read_hello(bytes: &[u8]) -> Result<Result<Hello, Unwelcome>, DecodeError> {
    let (wire, _) = decode_prefix::<u16>(bytes)?;
    if wire != WIRE {
        return Ok(Err(Unwelcome::Version { ours: WIRE }));
    }
    decode(bytes).map(Ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_wire::{NodeId, encode};

    fn hello() -> Hello {
        Hello {
            wire: 1,
            lineage: Lineage { ordinal: 2, nonce: 3 },
            generation: Generation(4),
            advertise: SocketAddr::from(([127, 0, 0, 1], 2377)),
            traffic: Traffic::Bulk,
        }
    }

    #[test]
    fn the_bytes_of_the_first_words_never_change() {
        let check = |bytes: Vec<u8>, golden: &[u8]| assert_eq!(bytes, golden, "that is a new wire version");
        check(encode(&hello()), &[1, 2, 3, 4, 0, 127, 0, 0, 1, 251, 73, 9, 1]);
        check(encode(&Welcome::Hello(hello())), &[0, 1, 2, 3, 4, 0, 127, 0, 0, 1, 251, 73, 9, 1]);
        check(encode(&Welcome::No(Unwelcome::Duplicate)), &[1, 2]);
        check(encode(&Open { lane: Lane::Raft, lineage: Lineage { ordinal: 2, nonce: 3 } }), &[3, 2, 3]);
        check(encode(&Opened::Yes { lineage: Lineage { ordinal: 2, nonce: 3 } }), &[0, 2, 3]);
        check(encode(&Opened::No(Denied::Removed { node: NodeId::from_bits(9) })), &[1, 2, 9]);
    }

    #[test]
    fn a_hello_of_another_version_is_understood_as_such() {
        let mut bytes = encode(&Hello { wire: 2, ..hello() });
        bytes.extend([1, 2, 3]);
        assert_eq!(read_hello(&bytes), Ok(Err(Unwelcome::Version { ours: 1 })));
        assert_eq!(read_hello(&encode(&hello())), Ok(Ok(hello())));
        assert!(read_hello(&[]).is_err());
        assert!(read_hello(&[1, 2]).is_err());
    }
}
