//! What a manager tells a node to do: its own tasks, and nothing about anybody else's.
//!
//! An assignment carries the place in the log at which this node's orders last changed. A worker keeps the highest it
//! has obeyed on its disk and obeys no lower one, so an old leader, an old manager or an old message cannot turn it
//! back. After the first one of a link only the difference is sent.

use bincode::{Decode, Encode};
use essaim_model::{Desired, EngineKind, Observed, ServiceId, ServiceSpec, Slot, TaskId};
use essaim_wire::{ClusterId, Index, Lineage};
use std::net::Ipv4Addr;
use std::sync::Arc;

/// Which orders: those of this place in this history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Encode, Decode)]
pub struct AssignmentVersion {
    /// The history.
    pub lineage: Lineage,
    /// The place where this node's orders last changed.
    pub index: Index,
}

/// What a node has to do.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Assignment {
    /// Which orders these are.
    pub version: AssignmentVersion,
    /// `None`: these are all its tasks, and it stops whatever else it runs. Otherwise they are the difference to
    /// that version, and a worker that has another one says hello again.
    pub base: Option<AssignmentVersion>,
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// The /24 of the loopback range from which it gives its process tasks addresses.
    pub subnet: Ipv4Addr,
    /// Tasks, new or with another wish than before.
    pub tasks: Vec<TaskOrder>,
    /// Tasks that are none of its concern any more, because they were written off or forgotten: whatever still runs of
    /// them is stopped, and nobody wants to hear of it.
    pub dropped: Vec<TaskId>,
    /// The specs that `tasks` follow and that it was not told yet.
    pub specs: Vec<(ServiceId, Index, Arc<ServiceSpec>)>,
}

/// One task, as its worker needs to know it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct TaskOrder {
    /// Its identity.
    pub id: TaskId,
    /// The service it works for.
    pub service: ServiceId,
    /// Which of the service's specs it follows.
    pub spec_version: Index,
    /// The place it fills.
    pub slot: Slot,
    /// The engine that runs it. The leader decides it when it creates the task.
    pub engine: EngineKind,
    /// What it shall be.
    pub desired: Desired,
    /// What the managers know of it, so that a worker reports only what they do not.
    pub observed: Observed,
}
