//! Datagrams between members.
//!
//! The first byte tells two kinds apart: foca's packets, which carry gossip, and *direct* datagrams, which an observer
//! and its subject exchange. A direct datagram always contains the sender's identity and incarnation, and whether the
//! sender doubts the receiver, so an accused member learns of the accusation from the next datagram of any member
//! (Lifeguard's buddy system). The node id in the datagram must be that of the session's peer.

use crate::accusation::WireRecord;
use crate::identity::Id;
use crate::proof::{Signature, Statement};
use crate::{Goodbye, Incarnation};
use bincode::{Decode, Encode};
use bytes::Bytes;
use essaim_wire::{DecodeError, Generation, decode, encode};

/// Upper bound on a datagram in bytes: it fits into every path's MTU beside the headers of QUIC, UDP and IP.
pub(crate) const MAX_DATAGRAM: usize = 1150;

const GOSSIP: u8 = 0;
const DIRECT: u8 = 1;

/// A decoded datagram, by kind.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Datagram<'a> {
    /// Packet of foca.
    Gossip(&'a [u8]),
    Direct(Direct),
}

/// A direct datagram: from one member to another, beside foca's gossip.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Direct {
    /// Identity of the sender.
    pub(crate) id: Id,
    /// Incarnation of the sender.
    pub(crate) incarnation: Incarnation,
    /// Start and incarnation of the receiver that the sender holds for accused, unreachable, restarting or gone.
    pub(crate) doubt: Option<(Generation, Incarnation)>,
    pub(crate) say: Say,
}

/// Content of a direct datagram.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Say {
    /// Heartbeat: an observer asks its subject for an echo.
    Beat { seq: u32 },
    /// Echo: the answer to a heartbeat.
    Echo { seq: u32 },
    /// Accusations of a subject, sent to its other observers and to the subject itself.
    Accuse(WireRecord),
    /// The sender lives in this incarnation; signed, so that the receiver can pass it on.
    Alive(Signature),
    /// The sender goes away; signed, so that the receiver can pass it on.
    Farewell(Goodbye, Signature),
}

/// Broadcast items in foca's packets, beside foca's own updates.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Item {
    /// Accusations of a member. They affect what is shown and routed, and move no task.
    Accused(WireRecord),
    /// Signed statement of a member about itself.
    Stated(Statement),
}

/// Reasons to ignore a datagram.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("a datagram of {0} bytes is empty or too long")]
    Length(usize),
    #[error("no datagram begins with {0}")]
    Kind(u8),
    #[error(transparent)]
    Undecodable(#[from] DecodeError),
}

/// Decodes a datagram.
pub(crate) fn read(bytes: &[u8]) -> Result<Datagram<'_>, Unreadable> {
    match bytes {
        [] => Err(Unreadable::Length(0)),
        _ if bytes.len() > MAX_DATAGRAM => Err(Unreadable::Length(bytes.len())),
        [GOSSIP, packet @ ..] => Ok(Datagram::Gossip(packet)),
        [DIRECT, rest @ ..] => Ok(Datagram::Direct(decode(rest)?)),
        [kind, ..] => Err(Unreadable::Kind(*kind)),
    }
}

impl Direct {
    /// Encodes the datagram.
    pub(crate) fn write(&self) -> Bytes {
        let mut bytes = vec![DIRECT];
        bytes.extend(encode(self));
        debug_assert!(bytes.len() <= MAX_DATAGRAM, "a record is bounded, and nothing else varies");
        bytes.into()
    }
}

/// Wraps a packet of foca into a datagram.
pub(crate) fn write_gossip(packet: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(packet.len() + 1);
    bytes.push(GOSSIP);
    bytes.extend_from_slice(packet);
    bytes.into()
}

#[cfg(test)]
essaim_wire::golden_bytes!("datagram": Direct, Say, Item);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accusation::Record;
    use essaim_wire::{NodeId, Role};
    use proptest::prelude::*;

    fn direct(say: Say) -> Direct {
        Direct {
            id: Id {
                node: NodeId::from_bits(5),
                generation: Generation(2),
                epoch: 0,
                addr: ([127, 0, 0, 1], 2377).into(),
                role: Role::Manager,
            },
            incarnation: Incarnation(3),
            doubt: Some((Generation(1), Incarnation(0))),
            say,
        }
    }

    #[test]
    fn the_bytes_of_a_heartbeat_never_change() {
        let bytes = direct(Say::Beat { seq: 7 }).write();
        assert_eq!(&bytes[..], [1, 5, 2, 0, 0, 127, 0, 0, 1, 251, 73, 9, 1, 3, 1, 1, 0, 0, 7]);
        assert_eq!(read(&bytes), Ok(Datagram::Direct(direct(Say::Beat { seq: 7 }))));
    }

    #[test]
    fn the_bytes_of_items_never_change() {
        let said = direct(Say::Beat { seq: 1 });
        let signature = Signature { key: [6; 32], bytes: [7; 64] };
        let goodbye = Some(Goodbye::RESTARTING);
        let stated = Statement { id: said.id, incarnation: said.incarnation, goodbye, signature };
        let golden = [[1, 5, 2, 0, 0, 127, 0, 0, 1, 251, 73, 9, 1, 3, 1, 2, 30, 0].as_slice(), &[6; 32], &[7; 64]];
        assert_eq!(encode(&Item::Stated(stated)), golden.concat());
        let record = Record::new(NodeId::from_bits(1), Generation(1), Incarnation(0))
            .by_observer(0)
            .by_observer(3)
            .by_prober(NodeId::from_bits(7))
            .sealed(4);
        assert_eq!(encode(&Item::Accused((&record).into())), [0, 1, 1, 0, 9, 1, 7, 4]);
    }

    #[test]
    fn what_is_no_datagram_is_refused() {
        assert_eq!(read(&[]), Err(Unreadable::Length(0)));
        assert_eq!(read(&[0; MAX_DATAGRAM + 1]), Err(Unreadable::Length(MAX_DATAGRAM + 1)));
        assert_eq!(read(&[9, 1]), Err(Unreadable::Kind(9)));
        let mut long = direct(Say::Echo { seq: 1 }).write().to_vec();
        long.push(0);
        assert!(matches!(read(&long), Err(Unreadable::Undecodable(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
            if let Some(kind) = bytes.first_mut() {
                *kind = DIRECT;
                let _ = read(&bytes);
            }
        }
    }
}
