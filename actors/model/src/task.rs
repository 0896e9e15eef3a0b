//! A task: one attempt to fill a slot of a service.
//!
//! It only moves forward, never changes node and is never restarted; a new task takes its slot. Managers write
//! `assigned`, `desired` and `written_off`, the worker it was given to writes `observed`, and no field has two
//! writers: that is what makes reconciliation safe. Docker's single state is computed from the four where the API
//! needs it.
//!
//! [`STEPS`] is the whole protocol between managers and a worker over one task, on one screen.

use crate::{EngineKind, Meta, ServiceId, TaskId};
use bincode::{Decode, Encode};
use essaim_wire::record;
use essaim_wire::{Index, NodeId, Timestamp};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

/// One attempt to fill a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its identity.
    pub id: TaskId,
    /// Version and dates.
    pub meta: Meta,
    /// The service it works for.
    pub service: ServiceId,
    /// Which version of the service's spec it follows; see `State::spec`. Until it has a node that is the one in force.
    pub spec_version: Index,
    /// The place it fills.
    pub slot: Slot,
    /// The engine that runs it: that of its spec, or the cluster's default when it was created.
    pub engine: EngineKind,
    /// Where it runs, or why nowhere yet. Written by managers, and once only from pending to a node.
    pub assigned: Assigned,
    /// What it shall be. Written by managers.
    pub desired: Desired,
    /// What it is. Written by its worker.
    pub observed: Observed,
    /// Its node is gone for good as far as its tasks are concerned. Written by managers, once.
    pub written_off: Option<WrittenOff>,
    /// How many restarts of its slot count against the service's limit of attempts, the one that made it included. It is a
    /// count so that the ended tasks themselves need not be kept.
    pub restarts: u32,
    /// When it was first seen running, by the time of the cluster. Written by `apply`.
    pub began_at: Option<Timestamp>,
    /// When it was seen to have ended, by the time of the cluster. Written by `apply`.
    pub ended_at: Option<Timestamp>,
}
record!(Task {
    1: id,
    meta,
    service,
    spec_version,
    slot,
    engine,
    assigned,
    desired,
    observed,
    written_off,
    restarts,
    began_at,
    ended_at
});

impl Task {
    /// Where it runs.
    pub const fn node(&self) -> Option<NodeId> {
        match self.assigned {
            Assigned::Node(node) => Some(node),
            Assigned::Pending { .. } => None,
        }
    }

    /// Whether it runs or may come to run: it has not ended and is not meant to end.
    pub fn is_wanted(&self) -> bool {
        self.desired <= Desired::Running && !self.has_ended()
    }

    /// Whether it has ended: by its own doing, by order, or because its node was written off.
    pub const fn has_ended(&self) -> bool {
        self.written_off.is_some() || self.observed.state.is_final()
    }

    /// How long it ran until it ended, or until `now`: nothing if nobody saw it run.
    pub fn ran_for(&self, now: Timestamp) -> Duration {
        let until = self.ended_at.unwrap_or(now);
        self.began_at.map_or(Duration::ZERO, |began| until.saturating_since(began))
    }

    /// Whether it was seen running and has not ended since.
    pub fn is_running(&self) -> bool {
        self.observed.state == TaskState::Running && self.written_off.is_none()
    }

    /// Whether it takes up room on its node: it was given to one and has not ended there.
    pub const fn occupies(&self) -> bool {
        !self.has_ended()
    }
}

/// A place in a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Slot {
    /// Of a replicated service, counted from 1.
    Number(u32),
    /// Of a global service: the node itself.
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

/// Where a task runs, or why nowhere yet.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Assigned {
    /// Nowhere yet, and why, in words for people.
    Pending {
        /// `no suitable node (…)`.
        reason: String,
    },
    /// There, for ever.
    Node(NodeId),
}

/// What managers want a task to be. It only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Desired {
    /// Prepared, and waiting for its restart delay to pass or for its predecessor to end.
    Ready,
    /// Running.
    Running,
    /// Ended; its record stays as history.
    Shutdown,
    /// Ended, and forgotten when it has.
    Remove,
}

/// What a worker saw of a task. It only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum TaskState {
    /// Nothing yet.
    New,
    /// Its worker has it.
    Accepted,
    /// Its image is fetched or its program looked up.
    Preparing,
    /// It could start.
    Ready,
    /// It starts.
    Starting,
    /// It runs.
    Running,
    /// It ended by itself, without error.
    Complete,
    /// It ended because it was told to.
    Shutdown,
    /// It ended with an error.
    Failed,
    /// It could not even be prepared.
    Rejected,
}

impl TaskState {
    /// Every state, in the order in which they are passed.
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

    /// Whether nothing follows it.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Complete | Self::Shutdown | Self::Failed | Self::Rejected)
    }

    /// Docker's word.
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

/// Every step that `observed` may take. Managers take the other three: `assigned` once from pending to a node,
/// `desired` upwards, `written_off` once.
///
/// A worker may leave steps out, since it reports only the latest state: what is legal is [`may_follow`].
pub const STEPS: &[(TaskState, TaskState)] = &[
    // It was given to a worker.
    (TaskState::New, TaskState::Accepted),
    (TaskState::Accepted, TaskState::Preparing),
    (TaskState::Preparing, TaskState::Ready),
    // It was wanted to run.
    (TaskState::Ready, TaskState::Starting),
    (TaskState::Starting, TaskState::Running),
    // It came to an end by itself.
    (TaskState::Preparing, TaskState::Rejected),
    (TaskState::Starting, TaskState::Failed),
    (TaskState::Running, TaskState::Complete),
    (TaskState::Running, TaskState::Failed),
    // It was told to end.
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
    /// How far it came.
    pub state: TaskState,
    /// When, by the worker's clock.
    pub at: Timestamp,
    /// Docker's word for it (`started`, `preparing`).
    pub message: String,
    /// What went wrong.
    pub error: Option<String>,
    /// What its program returned.
    pub exit_code: Option<i32>,
    /// The process that it is.
    pub pid: Option<u32>,
    /// The address it listens on.
    pub address: Option<IpAddr>,
    /// The container that it is, for engines that have containers.
    pub container: Option<ContainerId>,
    /// How its last health checks went, while it has some.
    pub health: Option<Health>,
}
record!(Observed { 1: state, at, message, error, exit_code, pid, address, container, health });

/// A container of an engine, by the 64 hexadecimal digits that the engine calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct ContainerId([u8; 32]);

impl ContainerId {
    /// The container with this number.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The text is no id of a container.
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

/// How the health checks of a task go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Health {
    /// None has passed yet.
    Starting,
    /// The last one passed.
    Healthy,
    /// As many failed in a row as make a task unhealthy.
    Unhealthy,
}

impl Observed {
    /// Of a task that no worker has seen yet.
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
        }
    }
}

/// That a task was given up together with its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenOff {
    /// When.
    pub at: Timestamp,
    /// Why, in words for people.
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
