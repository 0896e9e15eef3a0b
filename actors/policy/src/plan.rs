//! What a decision yields: changes to propose, tasks that are wanted, and when to look again.

use essaim_model::{Change, Desired, ServiceId, Slot};
use essaim_wire::{Index, Timestamp};

/// What one service needs.
///
/// The changes come before the tasks that are wanted, in one proposal: a slot is vacated before it is filled again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// What to change.
    pub changes: Vec<Change>,
    /// Which tasks to make; `place` finds their nodes.
    pub wanted: Vec<Wanted>,
    /// When to look again although nothing happened.
    pub again: Option<Timestamp>,
    /// What an operator who watches would ask the reason of, in words.
    pub notes: Vec<String>,
}

/// A task that a service lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    /// The service.
    pub service: ServiceId,
    /// The spec it follows: the one in force when this was decided.
    pub spec_version: Index,
    /// The place it fills. A place that is a node can be filled on that node only.
    pub slot: Slot,
    /// What it is wanted to be at first: running, or ready and waiting.
    pub desired: Desired,
    /// How many restarts of the slot count against the limit of attempts, this one included if it is one.
    pub restarts: u32,
}

impl Plan {
    /// Whether there is nothing to propose.
    pub const fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.wanted.is_empty()
    }

    /// Asks for another look at `at`, or earlier if that was asked for already.
    pub(crate) fn look_again(&mut self, at: Timestamp) {
        self.again = Some(self.again.map_or(at, |earlier| earlier.min(at)));
    }
}
