//! Pending tasks: the tasks that wait for a node, and when it is worth trying them again.
//!
//! A task that found no node waits until a node may have room: because the node changed, or because a booking on it was
//! undone. For each group of like tasks, the board therefore keeps the nodes that may have room since the group was
//! last tried ([`Chance`]). An event costs a look at one node for each waiting group, however many tasks wait in it;
//! tasks are looked at only when a node has room for them (`retry`).

use super::needs::Group;
use essaim_model::{ServiceId, Slot, State, TaskId};
use essaim_wire::{NodeId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// The pending tasks of one group.
#[derive(Debug, Clone, Default)]
pub(super) struct Queue {
    /// Pending tasks by slot, then by id: the order in which they are given nodes.
    pub(super) tasks: BTreeSet<(Slot, TaskId)>,
    pub(super) chance: Chance,
    pub(super) explained: Option<Explained>,
}

/// Which nodes may have room for a waiting group.
#[derive(Debug, Clone, Default)]
pub(super) enum Chance {
    /// Any node may have room, because the group was not tried yet.
    #[default]
    Anywhere,
    /// These nodes changed since the group was tried; every other node refused it. The slots are those with a task on a
    /// changed node, where the room of that task counts as free for the pending task that is to replace it, and those
    /// whose pending task could have a node and waits for its turn.
    On(BTreeSet<NodeId>, BTreeSet<Slot>),
}

impl Chance {
    pub(super) const fn none() -> Self {
        Self::On(BTreeSet::new(), BTreeSet::new())
    }
}

/// When the reason of a group was last written, and for which edition of the board.
#[derive(Debug, Clone, Copy)]
pub(super) struct Explained {
    pub(super) at: Timestamp,
    pub(super) edition: u64,
}

/// All pending tasks, by group.
#[derive(Debug, Clone, Default)]
pub(super) struct Waiting {
    pub(super) queues: BTreeMap<Group, Queue>,
    /// Nodes with more room or another record since they were last offered to the groups.
    changed: BTreeSet<NodeId>,
    /// Counter of what may change a reason.
    pub(super) edition: u64,
    /// Whether changes of the board are ignored, because they will be undone in a moment.
    hushed: bool,
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// The groups in the order in which they are given room: first those of global services, whose tasks have one node each,
    /// while those of the others may go elsewhere.
    pub(super) fn groups(&self) -> Vec<Group> {
        let mut groups: Vec<(bool, Group)> = Vec::with_capacity(self.queues.len());
        for (group, queue) in &self.queues {
            groups.push((matches!(queue.tasks.first(), Some((Slot::Number(_), _))), *group));
        }
        groups.sort_unstable();
        groups.into_iter().map(|(_, group)| group).collect()
    }

    /// Adds a pending task.
    pub(super) fn enter(&mut self, group: Group, slot: Slot, id: TaskId) {
        let queue = self.queues.entry(group).or_default();
        if queue.tasks.insert((slot, id)) {
            queue.chance = Chance::Anywhere;
        }
    }

    /// Removes a task that is no longer pending.
    pub(super) fn leave(&mut self, group: Group, slot: Slot, id: TaskId) {
        if let Some(queue) = self.queues.get_mut(&group) {
            queue.tasks.remove(&(slot, id));
            if queue.tasks.is_empty() {
                self.queues.remove(&group);
            }
        }
    }

    /// Sets whether changes of the board are ignored, because they will be undone.
    pub(super) const fn hush(&mut self, hushed: bool) {
        self.hushed = hushed;
    }

    /// Notes that a node may have more room than before.
    pub(super) fn note_room(&mut self, node: NodeId) {
        self.note_change();
        if !self.queues.is_empty() && !self.hushed {
            self.changed.insert(node);
        }
    }

    /// Notes that a node has less room than before, or is gone, which may change reasons.
    pub(super) const fn note_change(&mut self) {
        if !self.hushed {
            self.edition += 1;
        }
    }

    /// Notes that the needs of every group may have changed.
    pub(super) fn note_everything(&mut self) {
        self.note_change();
        self.queues.values_mut().for_each(|queue| queue.chance = Chance::Anywhere);
    }

    /// The chance of a group before more of its tasks are tried.
    pub(super) fn before(&self, group: Group) -> Tried {
        Tried(self.queues.get(&group).map_or_else(Chance::none, |queue| queue.chance.clone()))
    }

    /// Notes that tasks of the group were just tried on every node, and that those still pending carry the reason.
    pub(super) fn tried(&mut self, group: Group, before: Tried, now: Timestamp) {
        let edition = self.edition;
        if let Some(queue) = self.queues.get_mut(&group) {
            queue.chance = before.0;
            queue.explained.get_or_insert(Explained { at: now, edition });
        }
    }
}

impl Waiting {
    /// Has the pending tasks of these slots tried again, although no node changed: they lack a turn only.
    pub(super) fn keep_trying(&mut self, group: Group, without_turn: &BTreeSet<Slot>) {
        if let Some(Queue { chance: Chance::On(_, slots), .. }) = self.queues.get_mut(&group) {
            slots.extend(without_turn);
        }
    }
}

/// Nodes that changed, and the slots of the tasks there that have not ended.
pub(super) struct Changed {
    pub(super) nodes: BTreeSet<NodeId>,
    pub(super) slots: BTreeSet<(ServiceId, Slot)>,
}

impl Waiting {
    pub(super) fn take_changed(&mut self, state: &State) -> Changed {
        let nodes = std::mem::take(&mut self.changed);
        let there = nodes.iter().flat_map(|node| state.tasks_on(*node)).filter(|task| !task.has_ended());
        let slots = there.map(|task| (task.service, task.slot)).collect();
        Changed { nodes, slots }
    }
}

/// The chance of a group before more of its tasks were created; see [`Waiting::before`].
pub(super) struct Tried(Chance);

/// The pending tasks of one slot.
pub(super) fn tasks_at(tasks: &BTreeSet<(Slot, TaskId)>, slot: Slot) -> impl Iterator<Item = TaskId> + '_ {
    let all = (slot, TaskId::from_bits(0))..=(slot, TaskId::from_bits(u128::MAX));
    tasks.range(all).map(|(_, id)| *id)
}
