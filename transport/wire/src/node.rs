//! Facts about a node that all crates share: its role, whether it can be reached, and accusations of it.

use crate::{Generation, NodeId};
use bincode::{Decode, Encode};
use std::fmt;
use std::str::FromStr;

/// Role of a node. The order is that of trust: a manager may do everything that a worker may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Role {
    /// The node runs tasks.
    Worker,
    /// The node runs tasks, votes, and serves the API of the cluster.
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

/// Whether a node can be reached, as managers record it. There are two tiers (`Unreachable`, `Down`), because a quick
/// verdict must be reversible and a final one must be certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Encode, Decode)]
pub enum Reachability {
    /// The node has not been heard of since it was accepted.
    #[default]
    Unknown,
    /// The node is alive, as far as the managers know.
    Reachable,
    /// A quorum of observers misses the node: its tasks are replaced, and the verdict is reversible.
    Unreachable,
    /// The node was unreachable for longer than the grace, or said goodbye: its tasks are written off for good. The
    /// node itself may return under the same identity.
    Down,
}

/// Accusation by one observer: it misses the node in this generation and incarnation. The accusation holds until the
/// observer takes it back, or the node is heard of in a later incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Accusation {
    /// Accused node.
    pub node: NodeId,
    /// Generation of the node's daemon.
    pub generation: Generation,
    /// Incarnation of the node in that generation: how often it had refuted an accusation.
    pub incarnation: u32,
}

#[cfg(test)]
essaim_wire::golden_bytes!("node": Role, Reachability, Accusation);
