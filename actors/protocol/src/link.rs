//! What a worker and the manager it is linked to say to each other.

use crate::{Assignment, AssignmentVersion, Ballot, Depart, DepartReply, Describe, Hello, Packed, Report, ReportReply};
use essaim_wire::record;
use essaim_wire::{Index, Lineage, NodeId, Role, Timestamp};
use ractor::RpcReplyPort;
use ractor_cluster::RactorClusterMessage;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// What a worker's uplink says to the actor of its node at a manager.
#[derive(RactorClusterMessage)]
pub enum ToNode {
    /// First of all: who speaks, and what it has been told so far.
    Hello(Packed<Hello>),
    /// The machine is not what it was (resources, labels of its engine, a new version).
    Describe(Packed<Describe>),
    /// What it saw of its tasks; answered when that is committed.
    #[rpc]
    Report(Packed<Report>, RpcReplyPort<Packed<ReportReply>>),
    /// It leaves the cluster; answered when that is committed.
    #[rpc]
    Depart(Packed<Depart>, RpcReplyPort<Packed<DepartReply>>),
    /// Whom it accuses now: all of it, in place of what it said before. Said when that changes.
    Accuse(Packed<Ballot>),
}

/// What the actor of a node at a manager says to that node's uplink.
#[derive(RactorClusterMessage)]
pub enum ToUplink {
    /// What to do.
    Assign(Packed<Assignment>),
    /// Which managers there are to link to.
    Managers(Packed<Managers>),
    /// How often to report.
    Pace(Packed<Pace>),
    /// What it is in the cluster. It gets a certificate that fits, and takes up or gives up its part in the group of
    /// managers. Sent at first and whenever it changes.
    Standing(Packed<Standing>),
    /// This manager can no longer serve it: link to another.
    Detach(Packed<Detach>),
}

/// Which managers there are to link to, and who is let in nowhere any more. Sent at first and whenever it changes; after the
/// first time on a link only what changed among those that were removed, since there may be thousands of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Managers {
    /// Where in which history this is; an older one than was heard before is ignored.
    pub version: AssignmentVersion,
    /// `None`: `removed` are all of them. Otherwise they are those that were added since that version.
    pub base: Option<AssignmentVersion>,
    /// Each with its last known address, by id.
    pub managers: Vec<(NodeId, SocketAddr)>,
    /// The nodes that were removed, and until when their certificates would be valid, by id.
    pub removed: Vec<(NodeId, Timestamp)>,
    /// Those whose removal needs not be remembered any more, since `base`.
    pub lapsed: Vec<NodeId>,
}
record!(Managers { 1: version, base, managers, removed, lapsed });

impl Managers {
    /// The whole list that `self`, a difference, makes of the one that is known; nothing if that is another one than it
    /// builds on.
    pub fn on(self, known: Option<&Self>) -> Option<Self> {
        let Some(base) = self.base else { return Some(self) };
        let known = known.filter(|known| known.version == base)?;
        let mut removed: BTreeMap<NodeId, Timestamp> = known.removed.iter().copied().collect();
        removed.extend(self.removed);
        removed.retain(|node, _| !self.lapsed.contains(node));
        Some(Self { base: None, removed: removed.into_iter().collect(), lapsed: Vec::new(), ..self })
    }
}

/// What a node is in its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The role it has.
    pub role: Role,
    /// The history.
    pub lineage: Lineage,
    /// Its number in the group of managers, if it has a part in it.
    pub raft_id: Option<u64>,
    /// How far the manager that says so had applied the log: what is said of an earlier place is older.
    pub index: Index,
}
record!(Standing { 1: role, lineage, raft_id, index });

/// How often to report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// At most once in this time: 0.1 s to 2 s, by how many nodes the manager serves.
    pub interval: Duration,
}
record!(Pace { 1: interval });

/// Why a manager can no longer serve a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detach {
    /// In words for people.
    pub why: String,
}
record!(Detach { 1: why });

#[cfg(test)]
essaim_wire::golden_bytes!("link": Managers, Standing, Pace, Detach);
