//! Members: identities as gossip sees them, and the detector's view of each.

use bincode::{Decode, Encode};
use essaim_wire::{Generation, Moment, NodeId, Role};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// Identity that a member presents: one start of one node, with its address and its role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Id of the node.
    pub node: NodeId,
    /// Number of this start of the node.
    pub generation: Generation,
    /// Address of the node's endpoint.
    pub addr: SocketAddr,
    /// Role according to the member itself; the certificate is authoritative.
    pub role: Role,
}

/// Number of times within a generation that a member refuted an accusation or changed its address or role. Only the
/// member itself raises it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Encode, Decode)]
pub struct Incarnation(pub u32);

/// As operators read it, `EPOCH.REFUTATIONS`. A member begins a new epoch when it changes its address or role, and counts
/// the suspicions that it has refuted since then. A promotion makes `0.3` into `1.0`.
impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch(), self.refuted())
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// State of a member, as the detector sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberState {
    /// The member should exist, as this node was told, but has not been heard since.
    Expected,
    /// The member is heard, and no observer accuses it.
    Alive,
    /// The member is accused, but not by a quorum.
    Suspected,
    /// A quorum of its observers misses the member. It can still refute that.
    Unreachable,
    /// The member said goodbye and will be back before `until`.
    Restarting {
        /// Moment at which the member becomes `Unreachable` if it is not back.
        until: Moment,
    },
    /// The member was unreachable for longer than the grace, or has stopped.
    Down,
    /// The member left the cluster.
    Left,
}

impl MemberState {
    /// Whether the member's present tasks can be relied on: it is alive, suspected or restarting.
    pub const fn is_present(self) -> bool {
        matches!(self, Self::Alive | Self::Suspected | Self::Restarting { .. })
    }
}

/// The detector's view of a member at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberView {
    /// Identity of the member.
    pub member: Member,
    /// Incarnation of the member.
    pub incarnation: Incarnation,
    /// Whether start, incarnation and state come from the member itself, over its own session or with its signature.
    /// Otherwise other members told of it, and it has not been heard yet.
    pub proven: bool,
    /// State of the member.
    pub state: MemberState,
    /// Moment at which this state began.
    pub since: Moment,
    /// Observers that miss the member and slow probers that failed to reach it, by this node's view of the rings.
    pub accusers: Vec<NodeId>,
    /// Whether the member was unreachable several times lately: it gets no new tasks until it has been steady for a
    /// while.
    pub flapping: bool,
    /// Round trip of heartbeats, if this node observes the member.
    pub rtt: Option<Duration>,
}

/// Meaning of a node's goodbye.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Goodbye {
    /// The node leaves the cluster for good.
    Leaving,
    /// The node's tasks have ended: it is `Down` at once.
    Stopped,
    /// The node's tasks continue without it, and it will be back.
    Restarting {
        /// Time until the node is missed.
        within: Duration,
    },
}

impl Goodbye {
    /// A restart of the usual length: 30 seconds.
    pub const RESTARTING: Self = Self::Restarting { within: Duration::from_secs(30) };
}

#[cfg(test)]
essaim_wire::golden_bytes!("member": Incarnation, Goodbye);
