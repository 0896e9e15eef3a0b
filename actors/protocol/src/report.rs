//! What a node says of itself and of its tasks.

use crate::AssignmentVersion;
use bincode::{Decode, Encode};
use essaim_model::{Availability, NodeDescription, Observed, Refusal, ServiceId, TaskId};
use essaim_wire::record;
use essaim_wire::{Accusation, Generation, Index, Level};

/// The first sentence on a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The start of the daemon that speaks.
    pub generation: Generation,
    /// The orders it obeys; equal to the manager's means that nothing is sent.
    pub have: Option<AssignmentVersion>,
    /// The specs it has.
    pub specs: Vec<(ServiceId, Index)>,
    /// The newest that any manager told it. One that is behind that has nothing to say until it has caught up.
    pub seen: Option<AssignmentVersion>,
    /// What it is.
    pub description: NodeDescription,
    /// Whether it shall take tasks, if an operator said so when it joined and no manager was told yet.
    pub availability: Option<Availability>,
    /// The highest level of the replicated log that its program understands.
    pub level: Level,
}
record!(Hello { 1: generation, have, specs, seen, description, availability, level });

/// The machine is not what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Describe {
    /// What it is now.
    pub description: NodeDescription,
}
record!(Describe { 1: description });

/// Whom a node accuses: those it observes or has probed, and misses. Its own word, and a vote on whether their tasks run
/// elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Ballot {
    /// At most 64 are heard.
    pub accusations: Vec<Accusation>,
}

/// What a worker saw since its last report: only the latest of each task. At most 4,096 tasks and about 256 KiB; the rest
/// follows in the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Tasks and what was seen of them.
    pub tasks: Vec<(TaskId, Observed)>,
}
record!(Report { 1: tasks });

/// What became of a report.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum ReportReply {
    /// It is committed.
    Kept,
    /// It is not, and must be sent again; why, in words for people.
    Again(Refusal),
}

/// The node leaves the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Depart {
    /// Whether its tasks have ended and it goes now; otherwise it is about to.
    pub left: bool,
}

/// What became of a [`Depart`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum DepartReply {
    /// It is committed.
    Kept,
    /// It is not; why, in words for people.
    Refused(Refusal),
}

#[cfg(test)]
essaim_wire::golden_bytes!("report": Ballot, ReportReply, Depart, DepartReply, Hello, Describe, Report);
