//! Pending tasks: the tasks that wait for a node, and when it is worth trying them again.
//!
//! A task that found no node waits until a node may have room: because the node changed, or because a booking on it was
//! undone. For each group of like tasks, the board therefore keeps the nodes that may have room since the group was
//! last tried ([`Chance`]). An event costs a look at one node for each waiting group, however many tasks wait in it;
//! tasks are looked at only when a node has room for them.
//!
//! The reason of a pending task counts nodes, so most events change the reason of every pending task. Reasons are
//! written again only after a pause that grows with the amount to write ([`pause`]): for a handful of tasks they follow
//! at once, and ten thousand tasks do not flood the log each time a node changes.

use super::board::{Board, Found, Group, Spot};
use super::filter::Needs;
use essaim_model::{Assigned, Change, ServiceId, Slot, State, Task, TaskId};
use essaim_wire::{NodeId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Pause between two explanations per node that is asked: explaining costs about 100 ns a node, so it takes about a
/// thousandth of a processor for each waiting group.
const PAUSE_PER_NODE: Duration = Duration::from_micros(100);

/// Pause between two explanations per pending task: a reason takes about 130 bytes in the log, so a group writes at
/// most about 26 KB a second, however often nodes come and go.
const PAUSE_PER_TASK: Duration = Duration::from_millis(5);

/// The pending tasks of one group.
#[derive(Debug, Clone, Default)]
pub(super) struct Queue {
    /// Pending tasks by slot, then by id: the order in which they are given nodes.
    tasks: BTreeSet<(Slot, TaskId)>,
    chance: Chance,
    explained: Option<Explained>,
}

/// Which nodes may have room for a waiting group.
#[derive(Debug, Clone, Default)]
enum Chance {
    /// Any node may have room, because the group was not tried yet.
    #[default]
    Anywhere,
    /// These nodes changed since the group was tried; every other node refused it. The slots are those with a task on a
    /// changed node: the room of that task counts as free for the pending task that is to replace it.
    On(BTreeSet<NodeId>, BTreeSet<Slot>),
}

impl Chance {
    const fn none() -> Self {
        Self::On(BTreeSet::new(), BTreeSet::new())
    }
}

/// When the reason of a group was last written, and for which edition of the board.
#[derive(Debug, Clone, Copy)]
struct Explained {
    at: Timestamp,
    edition: u64,
}

/// Result of trying pending tasks again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Retried {
    /// Changes that assign tasks to nodes, or give pending tasks another reason.
    pub changes: Vec<Change>,
    /// When to try again without an event, because some reasons are out of date.
    pub again: Option<Timestamp>,
}

/// Shortest time between two explanations of a group.
fn pause(nodes: usize, tasks: usize) -> Duration {
    let times = |pause: Duration, count: usize| pause.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
    times(PAUSE_PER_NODE, nodes).saturating_add(times(PAUSE_PER_TASK, tasks))
}

/// All pending tasks, by group.
#[derive(Debug, Clone, Default)]
pub(super) struct Waiting {
    queues: BTreeMap<Group, Queue>,
    /// Nodes with more room or another record since they were last offered to the groups.
    changed: BTreeSet<NodeId>,
    /// Counter of what may change a reason.
    edition: u64,
    /// Whether changes of the board are ignored, because they will be undone in a moment.
    hushed: bool,
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty()
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

/// Nodes that changed, and the slots of the tasks there that have not ended.
struct Changed {
    nodes: BTreeSet<NodeId>,
    slots: BTreeSet<(ServiceId, Slot)>,
}

impl Waiting {
    fn take_changed(&mut self, state: &State) -> Changed {
        let nodes = std::mem::take(&mut self.changed);
        let there = nodes.iter().flat_map(|node| state.tasks_on(*node)).filter(|task| !task.has_ended());
        let slots = there.map(|task| (task.service, task.slot)).collect();
        Changed { nodes, slots }
    }
}

/// The chance of a group before more of its tasks were created; see [`Waiting::before`].
pub(super) struct Tried(Chance);

impl Board {
    /// Tries pending tasks again where something has changed for them. The returned changes are booked. `room` says
    /// whether a change still fits into the proposal; once it says no, the rest stays for the next time.
    pub fn assign_pending(&mut self, state: &State, now: Timestamp, room: &mut dyn FnMut(&Change) -> bool) -> Retried {
        let changed = self.waiting.take_changed(state);
        let mut retried = Retried::default();
        let mut is_full = false;
        for group in self.waiting.queues.keys().copied().collect::<Vec<_>>() {
            let Some(needs) = self.needs_of(state, group) else { continue };
            self.offer(group, &needs, &changed);
            is_full = is_full
                || !self.place_waiting(state, group, &needs, now, room, &mut retried)
                || !self.explain_waiting(state, group, &needs, now, room, &mut retried);
        }
        retried
    }

    /// Adds the changed nodes that have room for the group to its chance.
    fn offer(&mut self, group: Group, needs: &Needs, changed: &Changed) {
        let Some(queue) = self.waiting.queues.get(&group) else { return };
        let waits_in = |slot: Slot| tasks_at(&queue.tasks, slot).next().is_some();
        let has_room = |node: NodeId| match queue.tasks.first() {
            // In a global service a slot can only be filled on its own node, so a changed node is a chance for its own
            // slot only. It is also tried when it refuses, because the reason may have changed.
            Some((Slot::Node(_), _)) => waits_in(Slot::Node(node)),
            _ => self.may_have(needs, node).is_ok(),
        };
        let offers: Vec<NodeId> = changed.nodes.iter().copied().filter(|node| has_room(*node)).collect();
        let of_service = (group.0, Slot::Number(0))..=(group.0, Slot::Node(NodeId::from_bits(u128::MAX)));
        let own: Vec<Slot> =
            changed.slots.range(of_service).map(|(_, slot)| *slot).filter(|slot| waits_in(*slot)).collect();
        if let Some(Queue { chance: Chance::On(nodes, slots), .. }) = self.waiting.queues.get_mut(&group) {
            nodes.extend(offers);
            slots.extend(own);
        }
    }

    /// Assigns nodes to pending tasks of the group, as far as its chance goes. Returns false when the proposal is full.
    fn place_waiting(
        &mut self,
        state: &State,
        group: Group,
        needs: &Arc<Needs>,
        now: Timestamp,
        room: &mut dyn FnMut(&Change) -> bool,
        retried: &mut Retried,
    ) -> bool {
        let Some(queue) = self.waiting.queues.get(&group) else { return true };
        let waits = |id: TaskId| {
            let task = state.task(id).filter(|task| task.node().is_none() && task.is_wanted());
            task.filter(|task| task.spec_version == group.1).cloned()
        };
        let spot = |task: &Task| Spot::of(state, task.service, task.slot, task.desired);
        let chance = queue.chance.clone();
        let is_numbered = matches!(queue.tasks.first(), Some((Slot::Number(_), _)));
        let mut got_through = true;
        match chance {
            Chance::Anywhere => {
                let tasks: Vec<_> = queue.tasks.iter().filter_map(|(_, id)| waits(*id)).collect();
                let found = self.place(group, needs, now, tasks.iter().map(|task| spot(task)).collect());
                got_through = self.take_found(state, tasks.into_iter().zip(found), room, retried);
            }
            Chance::On(nodes, slots) => {
                if is_numbered && !nodes.is_empty() {
                    let found = self.spread(group, needs, now, queue.tasks.len(), Some(&nodes));
                    let tasks = self.waiting.queues.get(&group).into_iter().flat_map(|queue| &queue.tasks);
                    let tasks: Vec<_> = tasks.filter_map(|(_, id)| waits(*id)).take(found.len()).collect();
                    let found = tasks.into_iter().zip(found.into_iter().map(Ok));
                    got_through = self.take_found(state, found, room, retried);
                }
                let places = nodes.iter().map(|node| Slot::Node(*node)).filter(|_| !is_numbered);
                for slot in places.chain(slots).collect::<BTreeSet<_>>() {
                    let queue = self.waiting.queues.get(&group);
                    let here = queue.into_iter().flat_map(|queue| tasks_at(&queue.tasks, slot));
                    for task in here.filter_map(&waits).collect::<Vec<_>>() {
                        let found = self.place(group, needs, now, vec![spot(&task)]);
                        got_through =
                            got_through && self.take_found(state, [task].into_iter().zip(found), room, retried);
                    }
                }
            }
        }
        if got_through && let Some(queue) = self.waiting.queues.get_mut(&group) {
            queue.chance = Chance::none();
        }
        got_through
    }

    /// Books the nodes that were found for pending tasks, as far as the changes fit into the proposal. Returns false
    /// when it is full.
    fn take_found(
        &mut self,
        state: &State,
        found: impl Iterator<Item = (Arc<Task>, Found)>,
        room: &mut dyn FnMut(&Change) -> bool,
        retried: &mut Retried,
    ) -> bool {
        for (task, found) in found {
            let change = match (&found, task.slot) {
                (Ok(node), _) => Change::AssignTask { id: task.id, node: *node, spec_version: task.spec_version },
                (Err(Some(why)), Slot::Node(_)) => match pend(&task, &why.to_string()) {
                    Some(change) => change,
                    None => continue,
                },
                // The reason of these tasks is written for the whole group.
                (Err(_), _) => continue,
            };
            if !room(&change) {
                return false;
            }
            if let Ok(node) = found {
                self.book(state, &Task { assigned: Assigned::Node(node), ..Task::clone(&task) });
            }
            retried.changes.push(change);
        }
        true
    }

    /// Writes the reason of a group again, if it may have changed and the pause is over. Returns false when the
    /// proposal is full.
    fn explain_waiting(
        &mut self,
        state: &State,
        group: Group,
        needs: &Needs,
        now: Timestamp,
        room: &mut dyn FnMut(&Change) -> bool,
        retried: &mut Retried,
    ) -> bool {
        let edition = self.waiting.edition;
        let Some(queue) = self.waiting.queues.get(&group) else { return true };
        if matches!(queue.tasks.first(), Some((Slot::Node(_), _))) {
            return true;
        }
        if let Some(explained) = queue.explained {
            let due = explained.at + pause(self.seats.len(), queue.tasks.len());
            if explained.edition == edition {
                return true;
            }
            if now < due {
                retried.again = Some(retried.again.map_or(due, |earlier| earlier.min(due)));
                return true;
            }
        }
        let reason = self.explain(needs).to_string();
        let tasks = queue.tasks.iter().filter_map(|(_, id)| state.task(*id));
        for change in tasks.filter_map(|task| pend(task, &reason)) {
            if !room(&change) {
                return false;
            }
            retried.changes.push(change);
        }
        if let Some(queue) = self.waiting.queues.get_mut(&group) {
            queue.explained = Some(Explained { at: now, edition });
        }
        true
    }
}

/// The pending tasks of one slot.
fn tasks_at(tasks: &BTreeSet<(Slot, TaskId)>, slot: Slot) -> impl Iterator<Item = TaskId> + '_ {
    let all = (slot, TaskId::from_bits(0))..=(slot, TaskId::from_bits(u128::MAX));
    tasks.range(all).map(|(_, id)| *id)
}

/// The change that sets the reason of a pending task, unless it has this reason already.
fn pend(task: &Task, reason: &str) -> Option<Change> {
    match &task.assigned {
        Assigned::Pending { reason: known } if known != reason => {
            Some(Change::PendTask { id: task.id, reason: reason.to_owned() })
        }
        _ => None,
    }
}
