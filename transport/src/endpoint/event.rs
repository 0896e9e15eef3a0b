//! Events of sessions: the peer's identity, the beginning of a session, and its end.

use crate::admission::Denied;
use crate::code;
use crate::lane::Traffic;
use crate::network::Ended;
use crate::trust::PeerIdentity;
use bytes::Bytes;
use essaim_wire::{Generation, Lineage, NodeId, Role, WireVersion};
use std::net::SocketAddr;

/// Number of a session since this node's start. An event about one session says nothing about another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// The other end of a session, as it proved and stated when the session was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    /// Number of the session.
    pub session: SessionId,
    /// Id of the peer.
    pub node: NodeId,
    /// Effective role: that of the certificate, less what the admission table takes away.
    pub role: Role,
    /// Generation (number of the start) of the peer's daemon.
    pub generation: Generation,
    /// Lineage of the peer's log when it said Hello.
    pub lineage: Lineage,
    /// Wire version of the session: neither side sends anything newer.
    pub wire: WireVersion,
    /// Address from which the peer's packets come.
    pub remote: SocketAddr,
    /// Address at which the peer wants to be reached.
    pub advertise: SocketAddr,
    /// Kind of connection: control or bulk.
    pub traffic: Traffic,
    /// Identity in the peer's certificate.
    pub identity: PeerIdentity,
}

/// Events of control sessions, in order. Bulk sessions come and go without events, since they prove nothing about a
/// node's health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A control session is established.
    Up(PeerInfo),
    /// A control session has ended.
    Lost {
        /// Peer of the session.
        node: NodeId,
        /// Number of the session.
        session: SessionId,
        /// Generation of the peer's daemon in that session.
        generation: Generation,
        /// Reason why the session ended.
        how: Lost,
    },
}

/// Reasons why a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lost {
    /// Another session with the same node replaced it; nothing is wrong.
    Replaced,
    /// The peer runs in a new generation: it was restarted.
    Restarted,
    /// The admission table denies the peer.
    Denied(Denied),
    /// The role of the peer, or of this node, changed since the session was made.
    RoleChanged,
    /// The session was unused for a while.
    Unused,
    /// The connection ended.
    Ended(Ended),
}

impl Lost {
    pub(super) fn of(ended: Ended) -> Self {
        match ended {
            Ended::Closed { code: code::DUPLICATE, .. } => Self::Replaced,
            Ended::Closed { code: code::IDENTITY, .. } => Self::RoleChanged,
            Ended::Closed { code: code::IDLE, .. } => Self::Unused,
            other => Self::Ended(other),
        }
    }
}

/// A received datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// Sender, by its certificate.
    pub from: NodeId,
    /// Content of the datagram.
    pub bytes: Bytes,
}
