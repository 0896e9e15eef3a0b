//! A member: an identity as gossip sees it, and what the detector thinks of it.

use bincode::{Decode, Encode};
use essaim_wire::{Generation, Moment, NodeId, Role};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// Who somebody says to be: one start of one node, where to reach it, and in what role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// The node.
    pub node: NodeId,
    /// Which start of it.
    pub generation: Generation,
    /// Where its endpoint listens.
    pub addr: SocketAddr,
    /// Its role, as it says itself; the certificate is what counts.
    pub role: Role,
}

/// Counts within a generation how often a member took back what was said of it, or changed its address. Only the
/// member itself raises it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Encode, Decode)]
pub struct Incarnation(pub u32);

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What the detector thinks of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Should exist, as somebody told this node, but was not heard of since.
    Expected,
    /// Heard, and accused by nobody.
    Alive,
    /// Accused, but not by a quorum.
    Suspected,
    /// Missed by a quorum of its observers. It can still take that back.
    Unreachable,
    /// Said goodbye and will be back before then.
    Restarting {
        /// When it becomes `Unreachable` if it is not back.
        until: Moment,
    },
    /// Unreachable for longer than the grace, or stopped.
    Down,
    /// Left the cluster.
    Left,
}

impl State {
    /// Whether the member can be counted on for work that is already there: alive, suspected or restarting.
    pub const fn is_present(self) -> bool {
        matches!(self, Self::Alive | Self::Suspected | Self::Restarting { .. })
    }
}

/// A member as the detector sees it at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberView {
    /// Who it is.
    pub member: Member,
    /// How often it refuted.
    pub incarnation: Incarnation,
    /// Start, incarnation and state of the member are as it said itself, over a session of its own or over its signature.
    /// Otherwise others told of it, and it was not heard itself yet.
    pub proven: bool,
    /// What the detector thinks.
    pub state: State,
    /// Since when it thinks so.
    pub since: Moment,
    /// The observers that miss it, by this node's view of the rings.
    pub accusers: Vec<NodeId>,
    /// It was unreachable several times lately: no new tasks until it was steady for a while.
    pub flapping: bool,
    /// Round trip of its heartbeats, if this node observes it.
    pub rtt: Option<Duration>,
}

/// What a node that goes away means by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Goodbye {
    /// It leaves the cluster for good.
    Leaving,
    /// Its tasks have ended: `Down` at once.
    Stopped,
    /// Its tasks go on without it, and it will be back.
    Restarting {
        /// Until it is missed.
        within: Duration,
    },
}

impl Goodbye {
    /// A restart of the usual length.
    pub const RESTARTING: Self = Self::Restarting { within: Duration::from_secs(30) };
}

#[cfg(test)]
essaim_wire::golden_bytes!("member": Incarnation, Goodbye);
