//! Inputs and effects of the detector.

use crate::{Goodbye, Member, Verdict};
use bytes::Bytes;
use essaim_wire::{Moment, NodeId, Role};
use std::net::SocketAddr;

/// A fact that the detector is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Start periodic work. Before it, the detector only answers.
    Start,
    /// A datagram came over a session whose peer proved to be `from`.
    Datagram {
        /// Peer of the session.
        from: NodeId,
        /// Bytes of the datagram.
        bytes: Bytes,
    },
    /// The wake-up that [`Effect::WakeAt`] asked for is due.
    Timer(Wake),
    /// A session with a node is up.
    SessionUp {
        /// Peer of the session.
        node: NodeId,
    },
    /// A session with a node ended, and this node did not close it.
    SessionLost {
        /// Peer of the session.
        node: NodeId,
        /// Reason why the session ended.
        how: Loss,
    },
    /// The sentinel of [`Effect::Probe`] was refused: the host lives, and no process listens on the port.
    Refused(NodeId),
    /// The peer's [`Table`](crate::Table) arrived in a push-pull; both sides receive one.
    Members {
        /// Peer that sent the table.
        from: NodeId,
        /// Bytes of the table.
        bytes: Vec<u8>,
    },
    /// Members that should exist: a seed to join through, the nodes of the last run, or those of the replicated state.
    Learn(Vec<Member>),
    /// This node has another address or another role.
    Changed {
        /// Present address of this node's endpoint.
        addr: SocketAddr,
        /// Present role of this node.
        role: Role,
    },
    /// A node was removed from the cluster: the detector forgets it and does not accept it again.
    Removed(NodeId),
    /// This node goes away. Keep its endpoint open for [`Detector::FAREWELL`](crate::Detector::FAREWELL) afterwards.
    Goodbye(Goodbye),
    /// This process stood still for a while, as its runtime noticed. The detector also notices a stall itself, when a
    /// wake-up comes late.
    Stalled,
}

/// Reasons why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The peer closed the session, or the transport failed. The peer may be back in a moment, so it is asked at once,
    /// and accused only if it stays silent.
    Closed,
    /// A stateless reset: the process that held the session is gone.
    Reset,
    /// Nothing arrived for the whole idle timeout.
    TimedOut,
}

/// Number of a wake-up; a wake-up with an older number is stale and ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wake(pub(crate) u64);

/// A request of the detector to its actor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Send a datagram of at most `MAX_DATAGRAM` bytes; dial if there is no session.
    Send {
        /// Node that receives the datagram.
        to: NodeId,
        /// Bytes of the datagram.
        bytes: Bytes,
    },
    /// Come back at this moment with [`Input::Timer`]. A later request replaces an earlier one.
    WakeAt(Moment, Wake),
    /// Send a sentinel to the node's port, and report [`Input::Refused`] if the host refuses it.
    Probe(NodeId),
    /// Compare tables ([`Detector::push_pull`](crate::Detector::push_pull)) with the node over the `members` lane; if
    /// their sums differ, give each side the table of the other as [`Input::Members`].
    PushPull(NodeId),
    /// The address of a node's endpoint according to the latest gossip. It precedes everything sent to the node.
    Address {
        /// Node that has this address.
        node: NodeId,
        /// Address of the node's endpoint.
        addr: SocketAddr,
    },
    /// A conclusion about a member or about this node.
    Verdict(Verdict),
}
