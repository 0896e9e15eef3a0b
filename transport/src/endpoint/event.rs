//! What is told of sessions: who the peer is, that a session stands, how it ended.

use crate::admission::Denied;
use crate::code;
use crate::lane::Traffic;
use crate::network::Ended;
use crate::trust::PeerIdentity;
use bytes::Bytes;
use essaim_wire::{Generation, Lineage, NodeId, Role, WireVersion};
use std::net::SocketAddr;

/// Numbers the sessions of this node since its start. An event about one number says nothing about another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// The other end of a session, as it proved and said when the session was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    /// Which session.
    pub session: SessionId,
    /// Which node.
    pub node: NodeId,
    /// What it may do here: its certificate, less what the table takes away.
    pub role: Role,
    /// Which start of its daemon.
    pub generation: Generation,
    /// Its history of the log, when it said Hello.
    pub lineage: Lineage,
    /// The version that the two speak on this session: nothing newer is said to it.
    pub wire: WireVersion,
    /// Where its packets come from.
    pub remote: SocketAddr,
    /// Where it wants to be reached.
    pub advertise: SocketAddr,
    /// Which of the two connections.
    pub traffic: Traffic,
    /// Its certificate.
    pub identity: PeerIdentity,
}

/// What happened to control sessions, in order. Bulk sessions come and go silently: they are no evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A control session stands.
    Up(PeerInfo),
    /// A control session has ended.
    Lost {
        /// With whom.
        node: NodeId,
        /// Which.
        session: SessionId,
        /// Which start of the peer's daemon it was with.
        generation: Generation,
        /// How it ended.
        how: Lost,
    },
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lost {
    /// Another session with the same node took its place; nothing is wrong.
    Replaced,
    /// The peer has a new generation: it was restarted.
    Restarted,
    /// The table denied it.
    Denied(Denied),
    /// The peer, or this node, has another role than when the session was made.
    RoleChanged,
    /// Nobody used it for a while.
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

    /// Whether the peer fell silent without a word, or does not know the session any more. Everything else says
    /// that its daemon lives, or said goodbye.
    pub const fn is_abrupt(&self) -> bool {
        matches!(self, Self::Ended(Ended::TimedOut | Ended::Reset | Ended::Failed(_)))
    }
}

/// A datagram of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// Who sent it, by its certificate.
    pub from: NodeId,
    /// What it says.
    pub bytes: Bytes,
}
