//! Numbers that only grow. Each counts the eras of one thing, so that an old message is recognised as old.

use crate::NodeId;
use bincode::{Decode, Encode};
use std::fmt;

/// Number of starts of a node's daemon, counted on its disk. A higher generation replaces every session, heartbeat and
/// accusation of a lower one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct Generation(pub u64);

impl Generation {
    /// Upper bound on the distance between two generations: a generation further ahead of the last known one is a lie,
    /// since no machine starts so often. Without the bound, one message could use up all numbers.
    pub const JUMP_MAX: u64 = 1 << 32;

    /// Generation of the next start of the same node.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A position in the replicated log. Versions of objects are positions in the log as well, so they are the same on
/// every manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct Index(pub u64);

/// A Raft term, which has at most one leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct Term(pub u64);

/// Identity of an unbroken history of the log. `--force-new-cluster` and `restore` begin a new lineage, and everything
/// of the old one (a manager that was away, an assignment in flight) is refused from then on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct Lineage {
    /// Number of lineages before this one in the cluster. The greater number is the one in force.
    pub ordinal: u32,
    /// Random number that distinguishes two lineages that were begun independently with the same ordinal.
    pub nonce: u64,
}

impl fmt::Debug for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:016x}", self.ordinal, self.nonce)
    }
}

/// Permanent id of one request: a retry has the same id, and the request is applied once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct RequestId {
    /// Node that numbered the request.
    pub origin: NodeId,
    /// Generation of that node; its counter restarts with each.
    pub generation: Generation,
    /// Sequence number of the request within the generation.
    pub seq: u64,
}

#[cfg(test)]
essaim_wire::golden_bytes!("era": Generation, Index, Term, Lineage, RequestId);
