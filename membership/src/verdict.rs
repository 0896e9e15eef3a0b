//! What the detector concludes, for operators and for everything that acts on who is alive.

use crate::{Member, State};
use essaim_wire::{Generation, Moment, NodeId};

/// A conclusion about a member, or about this node itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Heard of for the first time (or for the first time since it left or was only expected).
    Joined {
        /// Who it is.
        member: Member,
    },
    /// Somebody misses it; emitted again when more do.
    Suspected {
        /// The member.
        node: NodeId,
        /// Who misses it.
        accusers: Vec<NodeId>,
    },
    /// A quorum misses it. Reversible.
    Unreachable {
        /// The member.
        node: NodeId,
        /// Why.
        evidence: Evidence,
    },
    /// It took back a suspicion or worse: it lives, in the same generation.
    Refuted {
        /// The member.
        node: NodeId,
        /// What it was taken for.
        was: State,
    },
    /// Final for its tasks; the node itself may return.
    Down {
        /// The member.
        node: NodeId,
        /// Why.
        cause: Downfall,
    },
    /// It left the cluster.
    Left {
        /// The member.
        node: NodeId,
    },
    /// It will be back.
    Restarting {
        /// The member.
        node: NodeId,
        /// By then.
        until: Moment,
    },
    /// The same node in a new generation. Whatever was thought of the old one is void.
    Restarted {
        /// The member.
        node: NodeId,
        /// The generation that runs now.
        generation: Generation,
    },
    /// It was unreachable too often lately.
    Flapping {
        /// The member.
        node: NodeId,
    },
    /// It was steady for long enough after flapping.
    Steady {
        /// The member.
        node: NodeId,
    },
    /// A peer said of others what cannot be true. It was not believed.
    Lied {
        /// The peer, whose own session it came over.
        node: NodeId,
        /// What about.
        about: NodeId,
        /// What it said.
        lie: Lie,
    },
    /// This node misses more than half of those it observes: it is the one in trouble, and accuses nobody.
    Isolated,
    /// This node hears most of those it observes again.
    Rejoined,
}

impl Verdict {
    /// Whom it is about; nobody means this node itself.
    pub const fn node(&self) -> Option<NodeId> {
        match self {
            Self::Joined { member } => Some(member.node),
            Self::Suspected { node, .. }
            | Self::Unreachable { node, .. }
            | Self::Refuted { node, .. }
            | Self::Down { node, .. }
            | Self::Left { node }
            | Self::Restarting { node, .. }
            | Self::Restarted { node, .. }
            | Self::Flapping { node }
            | Self::Steady { node }
            | Self::Lied { node, .. } => Some(*node),
            Self::Isolated | Self::Rejoined => None,
        }
    }
}

/// What no honest member says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// A statement in a member's name, with a signature that is not the member's.
    Unsigned,
    /// That a member goes away, without the member's word.
    Farewell,
    /// An accusation by more observers than a member can have.
    Observers,
    /// A start that is further ahead of the last than any machine can have come.
    Generation,
}

/// What made a member `Unreachable`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// A quorum of its observers.
    Quorum {
        /// The observers that accuse it.
        accusers: Vec<NodeId>,
        /// The observers that cannot vote because they are accused themselves; they count as accusers.
        implicit: Vec<NodeId>,
        /// How many were needed.
        needed: usize,
    },
    /// The slow probe failed, and nobody refuted in time.
    Probed {
        /// Who probed.
        accusers: Vec<NodeId>,
    },
    /// It said that it would be back, and is not.
    Overdue,
}

/// Why a member is `Down`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Downfall {
    /// It stayed `Unreachable` for the whole grace.
    Grace,
    /// It said so: its tasks have ended.
    Stopped,
    /// Another member told so when this node joined.
    Told,
    /// It was expected and never heard of.
    Unheard,
}
