//! What everybody needs to say about a node: its role, and whether it can be reached.

use crate::{Generation, NodeId};
use bincode::{Decode, Encode};
use std::fmt;
use std::str::FromStr;

/// What a node may do. The order is that of trust: a manager may do whatever a worker may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Role {
    /// Runs tasks.
    Worker,
    /// Runs tasks, votes, and serves the API of the cluster.
    Manager,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Worker => "worker",
            Self::Manager => "manager",
        })
    }
}

/// The text names no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown role {0:?}: a role is \"worker\" or \"manager\"")]
pub struct UnknownRole(String);

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        match text {
            "worker" => Ok(Self::Worker),
            "manager" => Ok(Self::Manager),
            other => Err(UnknownRole(other.into())),
        }
    }
}

/// Whether a node can be reached, as managers record it. Two tiers, because what is quick must be reversible and
/// what is final must be sure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Encode, Decode)]
pub enum Reachability {
    /// Never yet heard of since it was accepted.
    #[default]
    Unknown,
    /// Alive, as far as anybody knows.
    Reachable,
    /// A quorum of observers misses it: its tasks are replaced, and everything can still be taken back.
    Unreachable,
    /// Unreachable for longer than the grace, or gone with a goodbye: its tasks are written off for good. The node
    /// itself may return under the same identity.
    Down,
}

/// What one observer says of one node: that it misses the node in this start and incarnation. It holds until the observer
/// takes it back, or the node is heard of in a later incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Accusation {
    /// The node that is missed.
    pub node: NodeId,
    /// The start of its daemon.
    pub generation: Generation,
    /// How often it had taken something back in that start.
    pub incarnation: u32,
}

#[cfg(test)]
essaim_wire::golden_bytes!("node": Role, Reachability, Accusation);
