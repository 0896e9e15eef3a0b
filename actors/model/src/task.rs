//! A task: one attempt to fill a slot of a service.
//!
//! A task only moves forward, never changes node and is never restarted; a new task takes its slot. Managers write
//! `assigned`, `desired`, `written_off` and `rejected_at`; the worker that the task was given to writes `observed`. No
//! field has two writers, which is what makes reconciliation safe. The API computes Docker's single state from these
//! five fields.
//!
//! [`STEPS`] is the whole protocol between managers and a worker over one task, on one screen.

use crate::{EngineKind, GenericStock, HostPort, Meta, Node, Placement, ServiceId, TaskId};
use bincode::{Decode, Encode};
use essaim_wire::record;
use essaim_wire::{Index, NodeId, Timestamp, encoded_len};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

/// One attempt to fill a slot of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Id of the task.
    pub id: TaskId,
    /// Version and dates of the task.
    pub meta: Meta,
    /// Service that the task belongs to.
    pub service: ServiceId,
    /// Version of the service's spec that the task follows; see `State::spec`. While the task is pending it is the
    /// version in force.
    pub spec_version: Index,
    /// Slot that the task fills.
    pub slot: Slot,
    /// Engine that runs the task: that of its spec, or the cluster's default when the task was created.
    pub engine: EngineKind,
    /// Node that the task was given to, or the reason why it is pending. Written by managers, and only once from
    /// pending to a node.
    pub assigned: Assigned,
    /// Generic resources of its node that the task was given with the node. Written by managers, together with the node.
    pub generic: GenericStock,
    /// What managers want of the task. Written by managers.
    pub desired: Desired,
    /// What the task's worker saw of it. Written by that worker.
    pub observed: Observed,
    /// That the task was given up because its node is down or removed. Written by managers, once.
    pub written_off: Option<WrittenOff>,
    /// Time at which the task was told to end because its node no longer satisfies its constraints or reservations. Written
    /// by managers, once.
    pub rejected_at: Option<Timestamp>,
    /// Restarts of the slot that count against the service's limit of attempts, the one that created this task
    /// included. It is a count so that the ended tasks themselves need not be kept.
    pub restarts: u32,
    /// Time at which the task was first seen running, by the state's own time. Written by `apply`.
    pub began_at: Option<Timestamp>,
    /// Time at which the task was seen to have ended, by the state's own time. Written by `apply`.
    pub ended_at: Option<Timestamp>,
    /// Iteration of the job that the task belongs to; `None` when its service is no job. Written by `apply`.
    pub job_iteration: Option<u64>,
}
record!(Task {
    1: id,
    meta,
    service,
    spec_version,
    slot,
    engine,
    assigned,
    generic,
    desired,
    observed,
    written_off,
    rejected_at,
    restarts,
    began_at,
    ended_at,
    job_iteration
});

impl Task {
    /// The node that the task was given to; `None` while it is pending.
    pub const fn node(&self) -> Option<NodeId> {
        match self.assigned {
            Assigned::Node(node) => Some(node),
            Assigned::Pending { .. } => None,
        }
    }

    /// Whether the task runs or may come to run: it has not ended and is not meant to end.
    pub fn is_wanted(&self) -> bool {
        self.desired <= Desired::Running && !self.has_ended()
    }

    /// Whether the task has ended: by itself, by order, or because it was written off.
    pub const fn has_ended(&self) -> bool {
        self.written_off.is_some() || self.observed.state.is_final()
    }

    /// Whether the task's engine does not answer on this node. The node then describes itself without the engine's labels,
    /// so constraints say nothing about a task that is there.
    pub fn is_silent_on(&self, node: &Node) -> bool {
        node.description.as_ref().is_none_or(|it| !it.engines.contains(&self.engine))
    }

    /// Whether this node, which the task was given to, satisfies neither the constraints in force nor those of the spec that
    /// the task follows (`followed`).
    pub fn is_misplaced(&self, node: &Node, in_force: &Placement, followed: impl FnOnce() -> Placement) -> bool {
        !self.is_silent_on(node) && !in_force.allows(node) && !followed().allows(node)
    }

    /// Time that the task ran, until it ended or until `now`; zero if it was never seen running.
    pub fn ran_for(&self, now: Timestamp) -> Duration {
        let until = self.ended_at.unwrap_or(now);
        self.began_at.map_or(Duration::ZERO, |began| until.saturating_since(began))
    }

    /// Whether the task was seen running and has not ended since.
    pub fn is_running(&self) -> bool {
        self.observed.state == TaskState::Running && self.written_off.is_none()
    }

    /// Bytes of memory that the task takes, apart from the few of the allocator.
    pub(crate) fn kept_len(&self) -> usize {
        let reason = match &self.assigned {
            Assigned::Pending { reason } => reason.len(),
            Assigned::Node(_) => 0,
        };
        let error = self.observed.error.as_ref().map_or(0, String::len);
        let why = self.written_off.as_ref().map_or(0, |written_off| written_off.why.len());
        let ports = size_of_val(&*self.observed.ports);
        let outside = ports + reason + self.observed.message.len() + error + why + encoded_len(&self.generic);
        size_of::<Self>() + outside
    }

    /// Whether the task takes up room on the node that it was given to: it has not ended, whatever is wanted of it.
    pub const fn occupies(&self) -> bool {
        !self.has_ended()
    }
}

/// A slot: one place in a service, which one task after another fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Slot {
    /// A slot of a replicated service, counted from 1, or of a replicated job, counted from 0.
    Number(u32),
    /// A slot of a global service: the node itself.
    Node(NodeId),
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Node(node) => node.fmt(f),
        }
    }
}

/// The node that a task was given to, or the reason why it has none yet.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Assigned {
    /// The task has no node yet.
    Pending {
        /// Reason, in words for people: `no suitable node (…)`.
        reason: String,
    },
    /// The task was given to this node, for ever.
    Node(NodeId),
}

/// What managers want of a task. It only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Desired {
    /// The task shall be prepared, and wait for its restart delay to pass or for its predecessor to end.
    Ready,
    /// The task shall run.
    Running,
    /// The task shall end; its record stays as history.
    Shutdown,
    /// The task shall end, and its record is then forgotten.
    Remove,
}

/// What a worker saw of a task. It only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum TaskState {
    /// No worker has reported on the task yet.
    New,
    /// The worker has received the task.
    Accepted,
    /// The engine fetches the task's image or looks up its program.
    Preparing,
    /// The task is prepared and could start.
    Ready,
    /// The task is starting.
    Starting,
    /// The task runs.
    Running,
    /// The task ended by itself, without error.
    Complete,
    /// The task ended because it was told to.
    Shutdown,
    /// The task ended with an error.
    Failed,
    /// The task could not be prepared.
    Rejected,
}

impl TaskState {
    /// Every state, in the order in which a task passes them.
    pub const ALL: [Self; 10] = [
        Self::New,
        Self::Accepted,
        Self::Preparing,
        Self::Ready,
        Self::Starting,
        Self::Running,
        Self::Complete,
        Self::Shutdown,
        Self::Failed,
        Self::Rejected,
    ];

    /// Whether the state is final: the task has ended, and no other state follows.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Complete | Self::Shutdown | Self::Failed | Self::Rejected)
    }

    /// Docker's word for the state.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Accepted => "accepted",
            Self::Preparing => "preparing",
            Self::Ready => "ready",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Complete => "complete",
            Self::Shutdown => "shutdown",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
        }
    }
}

/// Every step that `observed` may take. Managers take the steps of the other three fields: `assigned` once from pending
/// to a node, `desired` upwards, `written_off` once.
///
/// A worker may leave steps out, since it reports only the latest state; [`may_follow`] decides which reports are
/// legal.
pub(crate) const STEPS: &[(TaskState, TaskState)] = &[
    // A worker has the task and brings it to run.
    (TaskState::New, TaskState::Accepted),
    (TaskState::Accepted, TaskState::Preparing),
    (TaskState::Preparing, TaskState::Ready),
    // The task is wanted to run.
    (TaskState::Ready, TaskState::Starting),
    (TaskState::Starting, TaskState::Running),
    // The task comes to an end by itself.
    (TaskState::Preparing, TaskState::Rejected),
    (TaskState::Starting, TaskState::Failed),
    (TaskState::Running, TaskState::Complete),
    (TaskState::Running, TaskState::Failed),
    // The task is told to end.
    (TaskState::New, TaskState::Shutdown),
    (TaskState::Accepted, TaskState::Shutdown),
    (TaskState::Preparing, TaskState::Shutdown),
    (TaskState::Ready, TaskState::Shutdown),
    (TaskState::Starting, TaskState::Shutdown),
    (TaskState::Running, TaskState::Shutdown),
];

/// Whether a report of `next` may follow one of `now`: over one or more of [`STEPS`].
pub fn may_follow(now: TaskState, next: TaskState) -> bool {
    STEPS.iter().any(|&(from, to)| from == now && (to == next || may_follow(to, next)))
}

/// What a worker saw of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// State that the worker saw.
    pub state: TaskState,
    /// Time of the observation, by the worker's clock.
    pub at: Timestamp,
    /// Docker's word for the state (`started`, `preparing`).
    pub message: String,
    /// What went wrong; `None` when nothing did.
    pub error: Option<String>,
    /// Exit code of the task's program, once it has ended.
    pub exit_code: Option<i32>,
    /// Process id of the task while it has one.
    pub pid: Option<u32>,
    /// Address that the task listens on.
    pub address: Option<IpAddr>,
    /// Container of the task, for engines that have containers.
    pub container: Option<ContainerId>,
    /// Result of the latest health checks, if the task has any.
    pub health: Option<Health>,
    /// Numbers of the ports in host mode for which the service names none, while the task runs.
    pub ports: Vec<HostPort>,
}
record!(Observed { 1: state, at, message, error, exit_code, pid, address, container, health, ports });

/// Id of an engine's container: the 64 hexadecimal digits that the engine gives it, as 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct ContainerId([u8; 32]);

impl ContainerId {
    /// The id made of these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The error for a text that is no id of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the id of a container has 64 hexadecimal digits")]
pub struct InvalidContainerId;

impl FromStr for ContainerId {
    type Err = InvalidContainerId;

    fn from_str(text: &str) -> Result<Self, InvalidContainerId> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(InvalidContainerId);
        }
        for (place, byte) in bytes.iter_mut().enumerate() {
            let digits = &text[2 * place..2 * place + 2];
            *byte = u8::from_str_radix(digits, 16).map_err(|_| InvalidContainerId)?;
        }
        Ok(Self(bytes))
    }
}

/// Result of a task's health checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Health {
    /// No check has passed yet.
    Starting,
    /// The last check passed.
    Healthy,
    /// As many checks failed in a row as make a task unhealthy.
    Unhealthy,
}

impl Observed {
    /// The observation of a task that no worker has reported on yet.
    pub fn nothing(at: Timestamp) -> Self {
        Self {
            state: TaskState::New,
            at,
            message: "created".into(),
            error: None,
            exit_code: None,
            pid: None,
            address: None,
            container: None,
            health: None,
            ports: Vec::new(),
        }
    }
}

/// That a task was given up because its node is down or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenOff {
    /// Time at which the task was written off.
    pub at: Timestamp,
    /// Reason, in words for people.
    pub why: String,
}
record!(WrittenOff { 1: at, why });

#[cfg(test)]
essaim_wire::golden_bytes!("task": Slot, Assigned, Desired, TaskState, ContainerId, Health, Task, Observed, WrittenOff);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_goes_forward_and_none_leaves_an_end() {
        for &(from, to) in STEPS {
            assert!(from < to, "{from:?} → {to:?}");
            assert!(!from.is_final(), "{from:?} is an end");
        }
    }

    #[test]
    fn every_pair_of_states_is_legal_in_at_most_one_direction() {
        for a in TaskState::ALL {
            assert!(!may_follow(a, a));
            for b in TaskState::ALL {
                assert!(!(may_follow(a, b) && may_follow(b, a)), "{a:?} and {b:?}");
            }
        }
    }

    #[test]
    fn every_end_can_be_reached_and_every_state_can_be_told_to_end() {
        for state in TaskState::ALL {
            if state != TaskState::New {
                assert!(may_follow(TaskState::New, state), "{state:?}");
            }
            if !state.is_final() {
                assert!(may_follow(state, TaskState::Shutdown), "{state:?}");
            }
        }
    }

    #[test]
    fn a_container_is_known_by_64_digits() {
        let text = "0123456789abcdef".repeat(4);
        assert_eq!(text.parse::<ContainerId>().map(|id| id.to_string()), Ok(text.clone()));
        for bad in ["", &text[1..], &"x".repeat(64), &"é".repeat(32)] {
            assert_eq!(bad.parse::<ContainerId>(), Err(InvalidContainerId), "{bad}");
        }
    }

    #[test]
    fn a_task_that_ran_can_no_longer_be_rejected() {
        assert!(!may_follow(TaskState::Running, TaskState::Rejected));
    }
}
