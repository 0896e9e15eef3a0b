//! What Raft carries: a proposal of changes, and what became of it.
//!
//! A proposal is all or nothing. Each change names what it was planned from: the version of the object it replaces,
//! or the facts it relies on (the service still has that spec, the node still takes tasks, no other plan was carried out).
//! If something in between took these away, the proposal is refused and whoever planned it plans again.

use crate::{
    AnyId, AnyPut, Cluster, ClusterSpec, Desired, ManagerStatus, Node, NodeDescription, NodeSpec, Observed, Refusal,
    ServiceId, ServiceSpec, Task, TaskId, UpdateStatus,
};
use bincode::{Decode, Encode};
use essaim_wire::record;
use essaim_wire::{Generation, Index, Level, Lineage, NodeId, Reachability, RequestId, Role, Term, Timestamp};
use std::net::SocketAddr;

/// A place in the replicated log, and the term of the leader that put it there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Encode, Decode)]
pub struct Position {
    /// Who led.
    pub term: Term,
    /// Where.
    pub index: Index,
}

/// Changes that are made together or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// A retry carries the same; it is applied once.
    pub request: RequestId,
    /// When it was made, by the proposer's clock. The state's own time never goes back.
    pub at: Timestamp,
    /// The term in which alone it is valid: that of the leader whose actor decided it.
    pub fence: Option<Term>,
    /// What to change, in this order.
    pub changes: Vec<Change>,
}
record!(Proposal { 1: request, at, fence, changes });

/// What became of a proposal.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Outcome {
    /// Every change was made, at this place in the log.
    Done(Index),
    /// Nothing was changed, and why.
    Refused(Refusal),
}

/// How a cluster begins: itself and its first manager.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Founding {
    /// The cluster.
    pub cluster: Cluster,
    /// Its first node.
    pub node: Node,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Change {
    /// The first change of all.
    Found(Box<Founding>),
    /// An operator set the cluster's settings.
    SetCluster {
        /// The version it was read at.
        expect: Index,
        /// The new settings.
        spec: ClusterSpec,
    },
    /// A join token was replaced.
    RotateJoinSecret {
        /// Whose.
        role: Role,
        /// The new secret.
        secret: [u8; 16],
    },
    /// A new history begins, with this node as its only manager: the way out when the others are gone for good.
    BeginLineage {
        /// The new history.
        lineage: Lineage,
        /// The manager that is left.
        survivor: NodeId,
        /// Its number in the new group.
        raft_id: u64,
    },

    /// A machine was let in. Its `loopback` share is chosen here.
    AcceptNode(Box<Node>),
    /// A machine said what it is, or its address or generation changed.
    DescribeNode {
        /// Which.
        id: NodeId,
        /// The start of its daemon; an older one is ignored.
        generation: Generation,
        /// Where it was seen.
        addr: SocketAddr,
        /// The highest level that its program understands.
        level: Level,
        /// What it says of itself, if it said anything new.
        description: Option<NodeDescription>,
    },
    /// An operator set what a node shall be.
    SetNode {
        /// Which.
        id: NodeId,
        /// The version it was read at.
        expect: Index,
        /// What it shall be.
        spec: NodeSpec,
    },
    /// A node has its role now: after the group of managers took it up, or let it go.
    SetRole {
        /// Which.
        id: NodeId,
        /// The role it has.
        role: Role,
        /// Its place in the group of managers.
        manager: Option<ManagerStatus>,
    },
    /// The leader concluded whether a node can be reached.
    SetReachability {
        /// Which.
        id: NodeId,
        /// The start of its daemon that this is about; void for a newer one.
        generation: Generation,
        /// The conclusion.
        reachability: Reachability,
        /// Why, in words for people.
        message: String,
    },
    /// The leader concluded whether a node was unreachable too often.
    SetSteadiness {
        /// Which.
        id: NodeId,
        /// Whether it gets no new tasks.
        unsteady: bool,
    },
    /// A node was removed; its certificate is refused until then.
    RemoveNode {
        /// Which.
        id: NodeId,
        /// When its certificate has expired and the record of its removal may go.
        until: Timestamp,
        /// Whether it is removed although it is not down.
        force: bool,
    },

    /// A service was created.
    CreateService {
        /// Its id.
        id: ServiceId,
        /// The wish.
        spec: Box<ServiceSpec>,
    },
    /// A service was given a new spec, or its former one again.
    UpdateService {
        /// Which.
        id: ServiceId,
        /// The version it was read at.
        expect: Index,
        /// The new wish; `None` for the former one.
        spec: Option<Box<ServiceSpec>>,
    },
    /// An update got further.
    SetUpdateStatus {
        /// Whose.
        id: ServiceId,
        /// Which spec this is about; void for another.
        spec_version: Index,
        /// How far.
        status: UpdateStatus,
    },
    /// A service was removed; its tasks end and are forgotten.
    RemoveService {
        /// Which.
        id: ServiceId,
    },

    /// A task was created, assigned to a node or pending.
    CreateTask(Box<Task>),
    /// A pending task found its node.
    AssignTask {
        /// Which.
        id: TaskId,
        /// Where.
        node: NodeId,
        /// The version of the spec that the node was found for; refused if the task follows another by now.
        spec_version: Index,
    },
    /// A pending task found none, for another reason than before.
    PendTask {
        /// Which.
        id: TaskId,
        /// Why.
        reason: String,
    },
    /// What a task shall be.
    SetDesired {
        /// Which.
        id: TaskId,
        /// What.
        desired: Desired,
    },
    /// A task was given up with its node.
    WriteOffTask {
        /// Which.
        id: TaskId,
        /// Why.
        why: String,
    },
    /// What a worker saw of its tasks.
    Observe {
        /// The worker.
        node: NodeId,
        /// What it saw.
        reports: Vec<(TaskId, Observed)>,
    },
    /// A task that has ended is forgotten.
    ForgetTask {
        /// Which.
        id: TaskId,
    },
    /// The other changes of this proposal are what a service was found to need. Refused if another plan for it was
    /// carried out since: whoever made this one may have died over that, or been told nothing of it.
    CarryOutPlan {
        /// The service.
        service: ServiceId,
        /// The place of the state that the plan was made from.
        seen: Index,
    },
    /// Every manager understands this level: changes that need it are allowed from here on.
    RaiseLevel(Level),

    /// An operator created or updated an object that has nothing but a spec.
    PutObject(Box<AnyPut>),
    /// An operator removed such an object.
    RemoveObject(AnyId),
    /// A node said that it is about to leave the cluster, or that it has left.
    DepartNode {
        /// Which.
        id: NodeId,
        /// The start of its daemon that said so; void for a newer one.
        generation: Generation,
        /// Whether its tasks have ended and it goes now.
        left: bool,
    },
}

#[cfg(test)]
essaim_wire::golden_bytes!("change": Position, Outcome, Founding, Change, Proposal);
