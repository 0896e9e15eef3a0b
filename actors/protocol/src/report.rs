//! What a node reports of itself and of its tasks.

use crate::AssignmentVersion;
use bincode::{Decode, Encode};
use essaim_model::{Availability, NodeDescription, Observed, Refusal, ServiceId, TaskId};
use essaim_wire::record;
use essaim_wire::{Accusation, Generation, Index, Level};

/// The first message of a node on a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Start of the daemon that speaks.
    pub generation: Generation,
    /// Version of the orders that the node obeys; if it is the manager's version, no orders are sent.
    pub have: Option<AssignmentVersion>,
    /// Specs that the node has, by service and version.
    pub specs: Vec<(ServiceId, Index)>,
    /// Newest version that any manager has told the node. A manager that has applied less than that stays silent until
    /// it has caught up.
    pub seen: Option<AssignmentVersion>,
    /// Description of the machine.
    pub description: NodeDescription,
    /// Availability that an operator chose when the node joined, until a manager has been told of it.
    pub availability: Option<Availability>,
    /// Highest level of the replicated log that the node's program understands.
    pub level: Level,
}
record!(Hello { 1: generation, have, specs, seen, description, availability, level });

/// The report that a machine's description changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Describe {
    /// The new description.
    pub description: NodeDescription,
}
record!(Describe { 1: description });

/// A node's accusations: the members that it observes or has probed, and does not hear from. They are the node's own
/// observation, and a vote on whether the tasks of these members are to run elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Ballot {
    /// Accused members. A manager takes at most 64 of them.
    pub accusations: Vec<Accusation>,
}

/// What a worker saw since its last report: only the latest observation of each task. At most 4,096 tasks and about 256
/// KiB; the rest follows in the next report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Tasks, each with what the worker saw of it.
    pub tasks: Vec<(TaskId, Observed)>,
}
record!(Report { 1: tasks });

/// The answer to a report.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum ReportReply {
    /// The report is committed.
    Kept,
    /// The report is not committed and must be sent again; with the reason, in words for people.
    Again(Refusal),
}

/// The answer to a node that asks to have its lease renewed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum RenewReply {
    /// The lease runs anew from the moment at which the node asked: at some moment after that, the committed state had
    /// the node as reachable.
    Renewed,
    /// The lease is not renewed, for this reason: the node counts as lost, or the manager has no quorum.
    Refused(Refusal),
}

/// The report that a node leaves the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Depart {
    /// Whether the node has left: its tasks have ended. Otherwise it is about to leave.
    pub left: bool,
}

/// The answer to a [`Depart`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum DepartReply {
    /// The departure is committed.
    Kept,
    /// The departure is not committed; with the reason, in words for people.
    Refused(Refusal),
}

#[cfg(test)]
essaim_wire::golden_bytes!("report": Ballot, ReportReply, RenewReply, Depart, DepartReply, Hello, Describe, Report);
