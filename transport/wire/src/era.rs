//! Numbers that only grow, each counting the eras of one thing, so that an old message is known as old.

use crate::NodeId;
use bincode::{Decode, Encode};
use std::fmt;

/// How often a node's daemon has started, counted on its disk. A higher one replaces every session, heartbeat and
/// accusation of a lower one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct Generation(pub u64);

impl Generation {
    /// How far a start may be ahead of the last one known: no machine starts so often, and no one word uses the numbers
    /// up.
    pub const JUMP_MAX: u64 = 1 << 32;

    /// The next start of the same node.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A place in the replicated log. Versions of objects are places in the log as well: the same on every manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct Index(pub u64);

/// A Raft term: at most one leader each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct Term(pub u64);

/// Which unbroken history a log belongs to. `--force-new-cluster` and `restore` begin a new one, and whatever
/// carries the old one (a manager that was away, an assignment in flight) is refused from then on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct Lineage {
    /// How many histories came before this one in the cluster. The greater number is the one in force.
    pub ordinal: u32,
    /// Tells apart two histories that were begun independently with the same ordinal.
    pub nonce: u64,
}

impl fmt::Debug for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:016x}", self.ordinal, self.nonce)
    }
}

/// Names one request for ever: a retry carries the same, and is applied once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct RequestId {
    /// The node that stamped the request.
    pub origin: NodeId,
    /// The start of that node: its counter begins anew with each.
    pub generation: Generation,
    /// Counts the requests of that start.
    pub seq: u64,
}

#[cfg(test)]
essaim_wire::golden_bytes!("era": Generation, Index, Term, Lineage, RequestId);
