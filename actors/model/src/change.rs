//! Changes: what Raft carries. A [`Proposal`] holds changes, and its [`Outcome`] says what became of them.
//!
//! A proposal is all or nothing. Each change names what it was planned from: the version of the object it replaces, or
//! the facts it relies on (the service still has that spec, the node still takes tasks, no other plan was carried out).
//! If another change took these away, the proposal is refused and its proposer must plan again.

use crate::{
    AnyId, AnyPut, Cluster, ClusterSpec, Desired, GenericStock, ManagerStatus, Node, NodeDescription, NodeSpec,
    Observed, Payload, PayloadId, Refusal, ServiceId, ServiceSpec, Task, TaskId, UpdateStatus,
};
use bincode::{Decode, Encode};
use essaim_wire::record;
use essaim_wire::{Generation, Index, Level, Lineage, NodeId, Reachability, RequestId, Role, Term, Timestamp};
use std::net::SocketAddr;

/// A position in the replicated log: an index, and the term of the leader that appended the entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Encode, Decode)]
pub struct Position {
    /// Term of the leader that appended the entry.
    pub term: Term,
    /// Index of the entry in the log.
    pub index: Index,
}

/// Changes that are made together or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// Identity of the request. A retry carries the same one, and is applied once.
    pub request: RequestId,
    /// Time of the proposal, by the proposer's clock. The state's own time never goes back, whatever this says.
    pub at: Timestamp,
    /// Fence: the only term in which the proposal is valid, that of the leader whose actor decided on it. `None` when
    /// it is valid in every term.
    pub fence: Option<Term>,
    /// The changes, in the order in which they are made.
    pub changes: Vec<Change>,
}
record!(Proposal { 1: request, at, fence, changes });

/// What became of a proposal.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Outcome {
    /// Every change was made, at this index of the log.
    Done(Index),
    /// Nothing was changed, for this reason.
    Refused(Refusal),
}

/// The founding of a cluster: its cluster object and its first manager.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Founding {
    /// The new cluster.
    pub cluster: Cluster,
    /// First node of the cluster, a manager.
    pub node: Node,
}

/// One change of the state.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Change {
    /// Founds the cluster. It is the first change of every log.
    Found(Box<Founding>),
    /// An operator set the cluster's settings.
    SetCluster {
        /// Version at which the operator read the cluster; refused when it has changed since.
        expect: Index,
        /// New settings of the cluster.
        spec: ClusterSpec,
    },
    /// An operator replaced a join token.
    RotateJoinSecret {
        /// Role that the token grants.
        role: Role,
        /// The new secret half of the token.
        secret: [u8; 16],
    },
    /// A new lineage begins with this node as its only manager: the way to recover when the other managers are lost for
    /// good.
    BeginLineage {
        /// Number of the new lineage.
        lineage: Lineage,
        /// The only manager of the new lineage.
        survivor: NodeId,
        /// The survivor's number in the new Raft group.
        raft_id: u64,
    },

    /// A machine was enrolled. `apply` chooses its `loopback` share.
    AcceptNode(Box<Node>),
    /// A machine reported what it is, or its address or generation changed.
    DescribeNode {
        /// The node that reported.
        id: NodeId,
        /// Start of the node's daemon that reported; a report of an older start is ignored.
        generation: Generation,
        /// Address at which the node was seen.
        addr: SocketAddr,
        /// Highest level that the node's program understands.
        level: Level,
        /// What the machine reports of itself; `None` when that has not changed.
        description: Option<NodeDescription>,
    },
    /// An operator set a node's spec.
    SetNode {
        /// The node that is set.
        id: NodeId,
        /// Version at which the operator read the node; refused when it has changed since.
        expect: Index,
        /// The new spec.
        spec: NodeSpec,
    },
    /// A node's role changed. Proposed after the Raft group has added the node, or removed it.
    SetRole {
        /// The node whose role changed.
        id: NodeId,
        /// The role that the node has now.
        role: Role,
        /// The node's place in the Raft group; `None` for a worker.
        manager: Option<ManagerStatus>,
    },
    /// The leader concluded whether a node can be reached.
    SetReachability {
        /// The node that the leader's conclusion is about.
        id: NodeId,
        /// Start of the node's daemon that the conclusion is about; ignored when the daemon has started again since.
        generation: Generation,
        /// Reachability that the leader concluded.
        reachability: Reachability,
        /// Reason of the leader's conclusion, in words for people.
        message: String,
    },
    /// The leader concluded whether a node was unreachable too often.
    SetSteadiness {
        /// The node that the leader's conclusion is about.
        id: NodeId,
        /// Whether the node is unsteady, and so gets no new tasks.
        unsteady: bool,
    },
    /// A node was removed. Its certificate is refused from now on.
    RemoveNode {
        /// The node that was removed.
        id: NodeId,
        /// Earliest time at which the record of the removal may be forgotten: the node's certificate has expired by
        /// then.
        until: Timestamp,
        /// Whether the node is removed although it is not down.
        force: bool,
    },

    /// A service was created.
    CreateService {
        /// Id of the new service.
        id: ServiceId,
        /// Spec of the new service.
        spec: Box<ServiceSpec>,
    },
    /// A service was given a new spec, or its former one again.
    UpdateService {
        /// The service that is updated.
        id: ServiceId,
        /// Version at which the operator read the service; refused when it has changed since.
        expect: Index,
        /// The new spec; `None` to roll back to the former one.
        spec: Option<Box<ServiceSpec>>,
    },
    /// An update of a service made progress.
    SetUpdateStatus {
        /// The service that is being updated.
        id: ServiceId,
        /// Version of the spec that the update leads to; ignored when another spec is in force.
        spec_version: Index,
        /// The update's progress.
        status: UpdateStatus,
    },
    /// A service was removed. Its tasks end and are then forgotten.
    RemoveService {
        /// The service that was removed.
        id: ServiceId,
    },

    /// A task was created, with a node or pending.
    CreateTask(Box<Task>),
    /// A pending task was given a node.
    AssignTask {
        /// The task that is pending.
        id: TaskId,
        /// The node that the pending task was given.
        node: NodeId,
        /// Version of the spec that the node was chosen for; refused when the task follows another version by now.
        spec_version: Index,
        /// Generic resources of the node that the task was given.
        generic: GenericStock,
    },
    /// No suitable node was found for a pending task, for another reason than before.
    PendTask {
        /// The task that is pending.
        id: TaskId,
        /// Reason why the task stays pending, in words for people.
        reason: String,
    },
    /// Managers want something else of a task.
    SetDesired {
        /// The task of which something else is wanted.
        id: TaskId,
        /// What managers want of the task from now on.
        desired: Desired,
    },
    /// A task was written off, because its node is down or removed.
    WriteOffTask {
        /// The task that was written off.
        id: TaskId,
        /// Reason, in words for people.
        why: String,
    },
    /// A worker reported on its tasks.
    Observe {
        /// The worker that reported.
        node: NodeId,
        /// The observed state of each task.
        reports: Vec<(TaskId, Observed)>,
    },
    /// The record of an ended task is removed.
    ForgetTask {
        /// The task that is forgotten.
        id: TaskId,
    },
    /// The other changes of this proposal carry out a plan for a service. Refused if another plan for the service was
    /// carried out since: the proposer may have died after an earlier proposal, or never have learnt its outcome.
    CarryOutPlan {
        /// The service that the plan is for.
        service: ServiceId,
        /// Index of the state that the plan was made from.
        seen: Index,
    },
    /// Raises the level of the cluster. Every manager understands this level, so changes that need it are allowed from
    /// here on.
    RaiseLevel(Level),

    /// An operator created or updated an object of a plain noun.
    PutObject(Box<AnyPut>),
    /// An operator removed an object of a plain noun.
    RemoveObject(AnyId),
    /// A node reported that it is about to leave the cluster, or that it has left.
    DepartNode {
        /// The node that leaves.
        id: NodeId,
        /// Start of the node's daemon that reported; ignored when the daemon has started again since.
        generation: Generation,
        /// Whether the node has left: its tasks have ended. Otherwise it is about to leave.
        left: bool,
    },
    /// A service was given a former spec again, by an operator or because its update failed.
    RollBackService {
        /// The service that goes back.
        id: ServiceId,
        /// Version of the spec that the service goes back to.
        to: Index,
        /// Cause of the rollback.
        cause: RollbackCause,
    },
    /// The schedule of a job began its next iteration.
    RunJob {
        /// The job that runs.
        id: ServiceId,
        /// Iteration that is over; ignored when the job is in another one by now.
        after: u64,
    },
    /// A task was told to end, because its node no longer satisfies its constraints or reservations.
    RejectTask {
        /// The task that shall end.
        id: TaskId,
    },
    /// An operator gave a secret or config new data. Another object with the new data takes over its name, and the
    /// services that use it are updated to that object.
    RotatePayload {
        /// The secret or config; refused if it has become a former version meanwhile.
        from: PayloadId,
        /// Id of the new object, which the proposer drew.
        to: PayloadId,
        /// The new data.
        data: Payload,
    },
}

/// Why a service goes back to a former spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum RollbackCause {
    /// An operator asked for the rollback.
    Asked {
        /// Version at which the operator read the service; refused when it has changed since.
        expect: Index,
    },
    /// Too many tasks of an update failed.
    Failed {
        /// Version of the spec that the update leads to; refused when another spec is in force.
        spec_version: Index,
        /// The first task that failed.
        task: TaskId,
    },
}

#[cfg(test)]
essaim_wire::golden_bytes!("change": Position, Outcome, Founding, RollbackCause, Change, Proposal);
