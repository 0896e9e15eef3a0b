//! Tries pending tasks again where something has changed for them, and keeps their reasons up to date.
//!
//! A task that is to replace another one in an update needs a turn besides a node (`turns`). Without one it stays pending,
//! and is tried again when there is a turn.
//!
//! The reason of a pending task counts nodes, so most events change the reason of every pending task. Reasons are
//! written again only after a pause that grows with the amount to write ([`pause`]): for a handful of tasks they follow
//! at once, and ten thousand tasks do not flood the log each time a node changes.

use super::board::Board;
use super::needs::{Group, Needs};
use super::placing::{Found, Spot};
use super::waiting::{Chance, Changed, Explained, Queue, tasks_at};
use crate::turns::{NO_TURN, Turns};
use essaim_model::service::Sticky;
use essaim_model::{Assigned, Change, GenericStock, Slot, State, Task, TaskId};
use essaim_wire::planted::{Bug, planted};
use essaim_wire::{NodeId, Timestamp};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Pause between two explanations per node that is asked: explaining costs about 100 ns a node, so it takes about a
/// thousandth of a processor for each waiting group.
const PAUSE_PER_NODE: Duration = Duration::from_micros(100);

/// Pause between two explanations per pending task: a reason takes about 130 bytes in the log, so a group writes at
/// most about 26 KB a second, however often nodes come and go.
const PAUSE_PER_TASK: Duration = Duration::from_millis(5);

/// Result of trying pending tasks again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Retried {
    /// Changes that assign tasks to nodes, or give pending tasks another reason.
    pub changes: Vec<Change>,
    /// When to try again without an event, because some reasons are out of date.
    pub again: Option<Timestamp>,
}

impl Board {
    /// Tries pending tasks again where something has changed for them. The returned changes are booked. `room` says
    /// whether a change still fits into the proposal; once it says no, the rest stays for the next time.
    pub fn assign_pending(&mut self, state: &State, now: Timestamp, room: &mut dyn FnMut(&Change) -> bool) -> Retried {
        let changed = self.waiting.take_changed(state);
        let mut pass = Pass { state, now, room, retried: Retried::default() };
        let mut is_full = false;
        for group in self.waiting.groups() {
            let Some(needs) = self.needs_of(state, group) else { continue };
            self.offer(group, &needs, &changed);
            self.offer_homes(group, &mut pass);
            let mut turns = self.turns(state, group.0, now);
            is_full = is_full
                || !self.place_waiting(group, &needs, &mut turns, &mut pass)
                || !self.explain_waiting(group, &needs, &turns, &mut pass);
            self.note_turns(state, group.0, &turns);
            turns.again().into_iter().for_each(|at| pass.look_again(at));
        }
        pass.retried
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

    /// Has the tasks of a service with `essaim.sticky` tried each time: each waits for one node, so a try is one look, and
    /// the wait ends without an event.
    fn offer_homes(&mut self, group: Group, pass: &mut Pass<'_>) {
        let Some(sticky) = pass.state.spec(group.0, group.1).and_then(|spec| spec.sticky()) else { return };
        let Some(queue) = self.waiting.queues.get_mut(&group) else { return };
        queue.chance = Chance::Anywhere;
        if let Sticky::For(patience) = sticky {
            let pending = queue.tasks.iter().filter_map(|(_, id)| pass.state.task(*id));
            let due = pending.map(|task| task.meta.created_at + patience).filter(|due| pass.now < *due).min();
            due.into_iter().for_each(|at| pass.look_again(at));
        }
    }

    /// Assigns nodes to pending tasks of the group, as far as its chance and its turns go. Returns false when the proposal
    /// is full.
    fn place_waiting(&mut self, group: Group, needs: &Arc<Needs>, turns: &mut Turns<'_>, pass: &mut Pass<'_>) -> bool {
        let Some(queue) = self.waiting.queues.get(&group) else { return true };
        let (state, now) = (pass.state, pass.now);
        // A task whose reason says that it waits for its turn is not tried again before there is one.
        let waits = |id: TaskId, turns: &mut Turns<'_>| {
            let task = state.task(id).filter(|task| task.node().is_none() && task.is_wanted());
            let task = task.filter(|task| task.spec_version == group.1)?;
            (!has_no_turn(task) || turns.has(task.slot)).then(|| Arc::clone(task))
        };
        let spot = |task: &Task| Spot::of_pending(state, task, now);
        let chance = queue.chance.clone();
        let is_numbered = matches!(queue.tasks.first(), Some((Slot::Number(_), _)));
        let mut got_through = true;
        match chance {
            Chance::Anywhere => {
                let tasks: Vec<_> = queue.tasks.iter().filter_map(|(_, id)| waits(*id, turns)).collect();
                let spots: Vec<Spot> = tasks.iter().map(|task| spot(task)).collect();
                let found = self.place(group, needs, now, &spots);
                got_through = self.take_found(needs, tasks.into_iter().zip(found), turns, pass);
            }
            Chance::On(nodes, slots) => {
                if is_numbered && !nodes.is_empty() {
                    let tasks: Vec<_> = queue.tasks.iter().filter_map(|(_, id)| waits(*id, turns)).collect();
                    let found = self.spread(group, needs, now, tasks.len(), Some(&nodes)).into_iter().map(Ok);
                    got_through = self.take_found(needs, tasks.into_iter().zip(found), turns, pass);
                }
                let places = nodes.iter().map(|node| Slot::Node(*node)).filter(|_| !is_numbered);
                for slot in places.chain(slots).collect::<BTreeSet<_>>() {
                    let queue = self.waiting.queues.get(&group);
                    let here = queue.into_iter().flat_map(|queue| tasks_at(&queue.tasks, slot));
                    for task in here.filter_map(|id| waits(id, turns)).collect::<Vec<_>>() {
                        let found = self.place(group, needs, now, &[spot(&task)]);
                        got_through = got_through && self.take_found(needs, [task].into_iter().zip(found), turns, pass);
                    }
                }
            }
        }
        if got_through && let Some(queue) = self.waiting.queues.get_mut(&group) {
            let mut slots = turns.refused().clone();
            if let Chance::On(_, tried) = &queue.chance {
                // Tasks of a proposal that is under way are tried when it is committed.
                let is_coming = |slot: &&Slot| tasks_at(&queue.tasks, **slot).any(|id| state.task(id).is_none());
                slots.extend(tried.iter().filter(is_coming));
            }
            queue.chance = Chance::On(BTreeSet::new(), slots);
        }
        got_through
    }

    /// Books the nodes that were found for pending tasks, as far as there are turns and the changes fit into the proposal.
    /// Returns false when it is full.
    fn take_found(
        &mut self,
        needs: &Needs,
        found: impl Iterator<Item = (Arc<Task>, Found)>,
        turns: &mut Turns<'_>,
        pass: &mut Pass<'_>,
    ) -> bool {
        for (task, found) in found {
            let mut generic = GenericStock::default();
            if let Ok(node) = &found
                && !needs.generic.is_empty()
            {
                let spot = Spot::of_pending(pass.state, &task, pass.now);
                match self.give(needs, *node, &spot.replaces) {
                    Some(given) => generic = given,
                    None => continue,
                }
            }
            let (id, spec_version) = (task.id, task.spec_version);
            let mut has_turn = |slot| turns.take(slot) || planted(Bug::PendingTakesNoTurn);
            let given = found.as_ref().ok().copied().filter(|_| has_turn(task.slot));
            let change = match (&found, given, task.slot) {
                (_, Some(node), _) => Change::AssignTask { id, node, spec_version, generic: generic.clone() },
                (Ok(_), None, _) => match pend(&task, NO_TURN) {
                    Some(change) => change,
                    None => continue,
                },
                (Err(Some(why)), _, slot) if why.home.is_some() || matches!(slot, Slot::Node(_)) => {
                    match pend(&task, &why.to_string()) {
                        Some(change) => change,
                        None => continue,
                    }
                }
                // The reason of these tasks is written for the whole group.
                (Err(_), _, _) => continue,
            };
            if !(pass.room)(&change) {
                return false;
            }
            if let Some(node) = given {
                self.book(pass.state, &Task { assigned: Assigned::Node(node), generic, ..Task::clone(&task) });
            }
            pass.retried.changes.push(change);
        }
        true
    }

    /// Writes the reason of a group again, if it may have changed and the pause is over. Returns false when the
    /// proposal is full.
    fn explain_waiting(&mut self, group: Group, needs: &Needs, turns: &Turns<'_>, pass: &mut Pass<'_>) -> bool {
        let (state, now) = (pass.state, pass.now);
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
                pass.look_again(due);
                return true;
            }
        }
        let reason = self.explain(needs).to_string();
        let tasks = queue.tasks.iter().filter(|(slot, _)| !turns.refused().contains(slot));
        let of_group = tasks
            .filter_map(|(_, id)| state.task(*id))
            .filter(|task| Spot::of_pending(state, task, now).home.is_none());
        for change in of_group.filter_map(|task| pend(task, &reason)) {
            if !(pass.room)(&change) {
                return false;
            }
            pass.retried.changes.push(change);
        }
        if let Some(queue) = self.waiting.queues.get_mut(&group) {
            queue.explained = Some(Explained { at: now, edition });
        }
        true
    }
}

/// One look at all pending tasks.
struct Pass<'a> {
    state: &'a State,
    now: Timestamp,
    /// Whether a change still fits into the proposal.
    room: &'a mut dyn FnMut(&Change) -> bool,
    retried: Retried,
}

impl Pass<'_> {
    /// Asks for another look at `at`, or earlier if that was asked for already.
    fn look_again(&mut self, at: Timestamp) {
        self.retried.again = Some(self.retried.again.map_or(at, |earlier| earlier.min(at)));
    }
}

/// Whether the task could have a node when it was last tried, and waits for its turn.
fn has_no_turn(task: &Task) -> bool {
    matches!(&task.assigned, Assigned::Pending { reason } if reason == NO_TURN)
}

/// Shortest time between two explanations of a group.
fn pause(nodes: usize, tasks: usize) -> Duration {
    let times = |pause: Duration, count: usize| pause.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
    times(PAUSE_PER_NODE, nodes).saturating_add(times(PAUSE_PER_TASK, tasks))
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
