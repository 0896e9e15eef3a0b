//! What goes into the detector and what comes out.

use crate::{Goodbye, Member, Verdict};
use bytes::Bytes;
use essaim_wire::{Moment, NodeId, Role};
use std::net::SocketAddr;

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Begin: from now on things happen by themselves. Before it, the detector only answers.
    Start,
    /// A datagram came over a session whose peer proved to be `from`.
    Datagram {
        /// The peer.
        from: NodeId,
        /// What it sent.
        bytes: Bytes,
    },
    /// A wake-up that was asked for by [`Effect::WakeAt`].
    Timer(Wake),
    /// A session with the node is up.
    SessionUp {
        /// The peer.
        node: NodeId,
    },
    /// A session with the node ended, and not because this node closed it.
    SessionLost {
        /// The peer.
        node: NodeId,
        /// In which way.
        how: Loss,
    },
    /// The sentinel of [`Effect::Probe`] was refused: the host lives, and nothing listens there.
    Refused(NodeId),
    /// The other half of a push-pull, on both sides: the bytes of the peer's [`Table`](crate::Table).
    Members {
        /// The peer.
        from: NodeId,
        /// Its table.
        bytes: Vec<u8>,
    },
    /// Members that should exist: a seed to join through, the nodes of the last run, those of the replicated state.
    Learn(Vec<Member>),
    /// This node listens elsewhere, or has another role.
    Changed {
        /// Where it listens now.
        addr: SocketAddr,
        /// Its role now.
        role: Role,
    },
    /// A node was removed from the cluster: it is forgotten, and not accepted again.
    Removed(NodeId),
    /// This node goes away. Keep the endpoint open for [`Detector::FAREWELL`](crate::Detector::FAREWELL) after it.
    Goodbye(Goodbye),
    /// This process stood still for a while, as somebody else noticed. The detector also notices by itself, when a
    /// wake-up comes late.
    Stalled,
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The peer closed it, or the transport failed: it may be back in a moment, so it is asked at once and accused
    /// only if it stays silent.
    Closed,
    /// A stateless reset: the process that held the session is gone.
    Reset,
    /// Nothing came for the whole idle timeout.
    TimedOut,
}

/// Numbers a wake-up; an old one is stale and ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wake(pub(crate) u64);

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Send a datagram (at most [`MAX_DATAGRAM`](crate::MAX_DATAGRAM) bytes), dialling if there is no session.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        bytes: Bytes,
    },
    /// Come back at that moment with [`Input::Timer`]. Only the last one asked for counts.
    WakeAt(Moment, Wake),
    /// Send a sentinel to the node's port and report [`Input::Refused`] if it is refused.
    Probe(NodeId),
    /// Compare tables ([`Detector::push_pull`](crate::Detector::push_pull)) with the node over the `members` lane; if
    /// their sums differ, give each side the other's as [`Input::Members`].
    PushPull(NodeId),
    /// The node is reached there, by what gossip said last. Comes before anything is sent to it.
    Address {
        /// The node.
        node: NodeId,
        /// Its endpoint.
        addr: SocketAddr,
    },
    /// A conclusion.
    Verdict(Verdict),
}
