//! Output of a decision: changes to propose, tasks to create, and when to decide again.

use essaim_model::{Change, Desired, ServiceId, Slot};
use essaim_wire::{Index, Timestamp};

/// What one service needs to get closer to its spec.
///
/// In one proposal, the changes come before the creation of the wanted tasks, so that a slot is vacated before it is
/// filled again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Changes to propose.
    pub changes: Vec<Change>,
    /// Tasks to create; `place` finds their nodes.
    pub wanted: Vec<Wanted>,
    /// When to decide again without an event.
    pub again: Option<Timestamp>,
    /// Reasons of unusual decisions, as text for the operator.
    pub notes: Vec<String>,
}

/// A task that a service lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    /// Service of the task.
    pub service: ServiceId,
    /// Version of the spec that the task follows: the one in force at the decision.
    pub spec_version: Index,
    /// Slot that the task fills. A slot of a global service can be filled on its own node only.
    pub slot: Slot,
    /// Desired state at the creation: running, or ready and waiting.
    pub desired: Desired,
    /// Restarts of the slot that count against the limit of attempts, including this task if it is a restart.
    pub restarts: u32,
}

impl Plan {
    /// Whether there is nothing to propose.
    pub const fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.wanted.is_empty()
    }

    /// Asks to decide again at `at`, or earlier if that was asked for already.
    pub(crate) fn look_again(&mut self, at: Timestamp) {
        self.again = Some(self.again.map_or(at, |earlier| earlier.min(at)));
    }
}
