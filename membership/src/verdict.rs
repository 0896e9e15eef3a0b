//! Verdicts: conclusions of the detector, for operators and for all code that acts on which members are alive.

use crate::{Member, MemberState};
use essaim_wire::{Generation, Moment, NodeId};

/// A conclusion about a member, or about this node itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// A member was heard of for the first time, or for the first time since it left or was only expected.
    Joined {
        /// Identity of the member.
        member: Member,
    },
    /// An observer misses the member; concluded again when more observers do.
    Suspected {
        /// Suspected member.
        node: NodeId,
        /// Members that accuse it.
        accusers: Vec<NodeId>,
    },
    /// A quorum of its observers misses the member. Reversible.
    Unreachable {
        /// Unreachable member.
        node: NodeId,
        /// Evidence for the verdict.
        evidence: Evidence,
    },
    /// The member refuted a suspicion or a worse verdict: it lives, in the same generation.
    Refuted {
        /// Member that refuted.
        node: NodeId,
        /// State in which this node held the member before.
        was: MemberState,
    },
    /// The member is down. Final for its tasks; the node itself may return.
    Down {
        /// Member that is down.
        node: NodeId,
        /// Cause of the verdict.
        cause: Downfall,
    },
    /// The member left the cluster.
    Left {
        /// Member that left.
        node: NodeId,
    },
    /// The member said goodbye and will be back.
    Restarting {
        /// Member that restarts.
        node: NodeId,
        /// Moment by which the member must be back.
        until: Moment,
    },
    /// The node runs again in a new generation. All verdicts about the old one are void.
    Restarted {
        /// Node that restarted.
        node: NodeId,
        /// Generation of the start that runs now.
        generation: Generation,
    },
    /// The member was unreachable too often lately.
    Flapping {
        /// Flapping member.
        node: NodeId,
    },
    /// The member was steady for long enough after flapping.
    Steady {
        /// Member that no longer flaps.
        node: NodeId,
    },
    /// A peer said something that cannot be true. It was not believed.
    Lied {
        /// Peer over whose own session the lie came.
        node: NodeId,
        /// Member that the lie is about.
        about: NodeId,
        /// Kind of the lie.
        lie: Lie,
    },
    /// This node misses more than half of its subjects: it is probably cut off itself, and accuses no member.
    Isolated,
    /// This node hears most of its subjects again.
    Rejoined,
}

impl Verdict {
    /// Member that the verdict is about; `None` means this node itself.
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

/// Statements that no honest member makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// A statement in a member's name, with a signature that is not the member's.
    Unsigned,
    /// The claim that a member went away, without the member's signed word.
    Farewell,
    /// An accusation by more observers than a member can have.
    Observers,
    /// A generation that is further ahead of the last one than any machine can have come.
    Generation,
}

/// Evidence that made a member `Unreachable`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// A quorum of the member's observers misses it.
    Quorum {
        /// Observers and slow probers that accuse the member.
        accusers: Vec<NodeId>,
        /// Observers that are accused themselves and therefore cannot vote; they count as accusers.
        implicit: Vec<NodeId>,
        /// Number of accusers that make a quorum.
        needed: usize,
    },
    /// The slow probe failed, and the member did not refute in time.
    Probed {
        /// Accusers, slow probers among them.
        accusers: Vec<NodeId>,
    },
    /// The member announced its return, and is not back.
    Overdue,
}

/// Causes of `Down`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Downfall {
    /// The member stayed `Unreachable` for the whole grace.
    Grace,
    /// The member itself said that its tasks have ended.
    Stopped,
    /// Another member reported it down when this node did not know it.
    Told,
    /// The member was expected and never heard.
    Unheard,
}
