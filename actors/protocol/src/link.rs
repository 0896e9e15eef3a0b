//! The messages of the link between a worker and its manager.

use crate::{
    Assignment, AssignmentVersion, Backends, Ballot, Depart, DepartReply, Describe, Hello, Packed, PortTable,
    RenewReply, Report, ReportReply, Subscribe,
};
use essaim_wire::record;
use essaim_wire::{Generation, Index, Lineage, NodeId, Removals, Role, Timestamp};
use ractor::RpcReplyPort;
use ractor_cluster::RactorClusterMessage;
use std::net::SocketAddr;
use std::time::Duration;

/// A message from a worker's uplink to the manager's actor for that node.
#[derive(RactorClusterMessage)]
pub enum ToNode {
    /// The first message on a link: which node speaks, and which orders it has already.
    Hello(Packed<Hello>),
    /// The machine's description changed (resources, labels of its engine, a new version).
    Describe(Packed<Describe>),
    /// What the worker saw of its tasks. Answered when the report is committed.
    #[rpc]
    Report(Packed<Report>, RpcReplyPort<Packed<ReportReply>>),
    /// The node leaves the cluster. Answered when that is committed.
    #[rpc]
    Depart(Packed<Depart>, RpcReplyPort<Packed<DepartReply>>),
    /// All current accusations of the node, in place of those of its last ballot. Sent when they change.
    Accuse(Packed<Ballot>),
    /// Asks for a renewal of the lease of tasks that must end when their node has no manager. Answered after a
    /// linearizable read.
    #[rpc]
    Renew(RpcReplyPort<Packed<RenewReply>>),
    /// Asks for the table of published ports, and for the backends of the services that it names. Sent first after the
    /// hello, and whenever these services change.
    Subscribe(Packed<Subscribe>),
}

/// A message from the manager's actor for a node to that node's uplink.
#[derive(RactorClusterMessage)]
pub enum ToUplink {
    /// Orders for the node, or one part of them.
    Assign(Packed<Assignment>),
    /// The managers that the node can link to.
    Managers(Packed<Managers>),
    /// How often the node may report.
    Pace(Packed<Pace>),
    /// What it is in the cluster. It gets a certificate that fits, and takes up or gives up its part in the group of
    /// managers. Sent at first and whenever it changes.
    Role(Packed<RoleStatement>),
    /// This manager can no longer serve it: link to another.
    Detach(Packed<Detach>),
    /// The table of published ports, or a part of it. Sent when it differs from that of the node, and when it changes.
    Ports(Packed<PortTable>),
    /// The backends of a service to which the node has subscribed, or how they changed.
    Backends(Packed<Backends>),
}

/// The managers that a node can link to, and the nodes that were removed, which are to be refused. Sent first on a
/// link, and whenever it changes. After the first time on a link it carries only the differences among the removed
/// nodes, since there may be thousands of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Managers {
    /// Version of the list; a list older than one that was received before is ignored.
    pub version: AssignmentVersion,
    /// Version that `removed` is the difference to; it then has only the nodes added since. `None`: `removed` has all
    /// removed nodes.
    pub base: Option<AssignmentVersion>,
    /// The managers, each with its last known address, in the order of ids.
    pub managers: Vec<(NodeId, SocketAddr)>,
    /// The removed nodes, and the time until which each one's certificate would be valid, in the order of ids.
    pub removed: Vec<(NodeId, Timestamp)>,
    /// Nodes whose removal was forgotten since `base`.
    pub lapsed: Vec<NodeId>,
}
record!(Managers { 1: version, base, managers, removed, lapsed });

/// The managers and the removed nodes, as far as managers told a node of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownManagers {
    /// Version of the list.
    pub version: AssignmentVersion,
    /// The managers, each with its last known address, in the order of ids.
    pub managers: Vec<(NodeId, SocketAddr)>,
    /// The removed nodes.
    pub removed: Removals,
}

impl Managers {
    /// Applies this difference to the list that is known, and returns the whole list. `None` when it is a difference to
    /// another version. The cost is that of the difference, however many nodes were removed.
    pub fn on(self, known: Option<&KnownManagers>) -> Option<KnownManagers> {
        let Self { version, base, managers, removed: come, lapsed } = self;
        let mut removed = match base {
            None => Removals::default(),
            Some(base) => known.filter(|known| known.version == base)?.removed.clone(),
        };
        removed.apply(come, &lapsed);
        Some(KnownManagers { version, managers, removed })
    }
}

/// What a manager says of a node: its role in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoleStatement {
    /// The role that the node has.
    pub role: Role,
    /// The history of the log that says so.
    pub lineage: Lineage,
    /// The node's number in the group of managers, if it has a part in it.
    pub raft_id: Option<u64>,
    /// How far the manager that says so had applied the log: a statement of an earlier place is older.
    pub index: Index,
    /// A later start of the node than the one that said hello, if the cluster knows of one: the node was restored from an
    /// older copy of its disk, and what it says is ignored until it counts its starts from there.
    pub later_start: Option<Generation>,
}
record!(RoleStatement { 1: role, lineage, raft_id, index, later_start });

/// How often a node may report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Shortest interval between two reports: 0.1 s to 2 s, depending on how many nodes the manager serves.
    pub interval: Duration,
}
record!(Pace { 1: interval });

/// The notice that a manager can no longer serve a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detach {
    /// Reason, in words for people.
    pub why: String,
}
record!(Detach { 1: why });

#[cfg(test)]
essaim_wire::golden_bytes!("link": Managers, RoleStatement, Pace, Detach);
