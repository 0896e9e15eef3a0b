//! Placing: gives wanted tasks their nodes, and creates them.
//!
//! The nodes come from `spread`, except that a slot may have one node only: the node itself in a global service, and the
//! node on which its data is in a service with `essaim.sticky`. A task that finds none is created pending, with the reason;
//! so is one that needs a turn in the update of its service when none is left (`turns`).

use super::board::Board;
use super::filter::Explanation;
use super::needs::{Group, Needs};
use crate::Wanted;
use crate::turns::NO_TURN;
use essaim_model::service::Sticky;
use essaim_model::{Assigned, Change, Desired, GenericStock, Meta, Observed, Slot, State, Task, TaskId};
use essaim_wire::planted::{Bug, planted};
use essaim_wire::{NodeId, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A slot that is to get a task.
pub(super) struct Spot {
    slot: Slot,
    /// The node on which the slot's data is, while the task has to wait for it.
    pub(super) home: Option<NodeId>,
    /// Tasks of the slot that will have ended before the new one starts, so that their room counts as free.
    pub(super) replaces: Vec<TaskId>,
}

impl Spot {
    /// The spot of a task that is created with `desired` and has been pending since `since`: a task created `Ready` waits
    /// for the end of the others in its slot.
    pub(super) fn of(
        state: &State,
        (service, version): Group,
        slot: Slot,
        desired: Desired,
        since: Timestamp,
        now: Timestamp,
    ) -> Self {
        let replaces = match desired {
            Desired::Ready => {
                let others = state.tasks_in(service, slot).filter(|task| task.node().is_some() && !task.has_ended());
                others.map(|task| task.id).collect()
            }
            _ => Vec::new(),
        };
        let is_there =
            |home: &NodeId| state.node(*home).is_some_and(|node| node.is_ready() || !planted(Bug::DataLeftBehind));
        let home = state.home(service, slot).filter(is_there);
        let sticky = || state.spec(service, version).and_then(|spec| spec.sticky());
        let home = home.filter(|_| match sticky() {
            None => false,
            Some(Sticky::Wait) => true,
            Some(Sticky::For(patience)) => now < since + patience,
        });
        Self { slot, home, replaces }
    }

    /// The spot of a pending task.
    pub(super) fn of_pending(state: &State, task: &Task, now: Timestamp) -> Self {
        Self::of(state, (task.service, task.spec_version), task.slot, task.desired, task.meta.created_at, now)
    }

    /// The only node that the slot may have, if there is one.
    const fn only_node(&self) -> Option<NodeId> {
        match self.slot {
            Slot::Node(node) => Some(node),
            Slot::Number(_) => self.home,
        }
    }
}

/// Result for a spot: a node; or none, with the explanation where it concerns this spot alone.
pub(super) type Found = Result<NodeId, Option<Explanation>>;

impl Board {
    /// Creates the wanted tasks, each assigned to a node or pending with the reason, and books them. `draw` gives their
    /// ids. Left out are tasks whose service has a newer spec by now, which will be wanted anew, and tasks that `room`
    /// refuses: only the returned tasks are booked.
    pub fn create_tasks(
        &mut self,
        state: &State,
        now: Timestamp,
        wanted: &[Wanted],
        draw: &mut dyn FnMut() -> u128,
        room: &mut dyn FnMut(&Change) -> bool,
    ) -> Vec<Change> {
        // Global services come first, because each of their tasks has one node only.
        let mut groups: BTreeMap<(bool, Group), Vec<&Wanted>> = BTreeMap::new();
        for wish in wanted {
            let is_numbered = matches!(wish.slot, Slot::Number(_));
            groups.entry((is_numbered, (wish.service, wish.spec_version))).or_default().push(wish);
        }
        let mut changes = Vec::with_capacity(wanted.len());
        for ((_, group), wishes) in groups {
            let Some(needs) = self.needs_of(state, group) else { continue };
            let spots: Vec<Spot> =
                wishes.iter().map(|wish| Spot::of(state, group, wish.slot, wish.desired, now, now)).collect();
            let found = self.place(group, &needs, now, &spots);
            let before = self.waiting.before(group);
            let mut turns = self.turns(state, group.0, now);
            let (placed, others): (Vec<_>, Vec<_>) =
                wishes.into_iter().zip(&spots).zip(found).partition(|(_, found)| found.is_ok());
            let mut nowhere: Option<String> = None;
            for ((wish, spot), found) in placed.into_iter().chain(others) {
                let mut generic = GenericStock::default();
                let found = found.and_then(|node| {
                    generic = self.give(&needs, node, &spot.replaces).ok_or(None)?;
                    Ok(node)
                });
                let assigned = match found {
                    Ok(_) if !turns.take(wish.slot) => {
                        generic = GenericStock::default();
                        Assigned::Pending { reason: NO_TURN.to_owned() }
                    }
                    Ok(node) => Assigned::Node(node),
                    Err(Some(why)) => Assigned::Pending { reason: why.to_string() },
                    Err(None) => {
                        // Computed after the placed tasks of the group were booked, because these are part of the
                        // reason.
                        let reason = nowhere.get_or_insert_with(|| self.explain(&needs).to_string());
                        Assigned::Pending { reason: reason.clone() }
                    }
                };
                let task = Task {
                    id: TaskId::from_bits(draw()),
                    meta: Meta::default(),
                    service: wish.service,
                    spec_version: wish.spec_version,
                    slot: wish.slot,
                    engine: needs.terrain.engine,
                    assigned,
                    generic,
                    desired: wish.desired,
                    observed: Observed::nothing(now),
                    written_off: None,
                    rejected_at: None,
                    restarts: wish.restarts,
                    began_at: None,
                    ended_at: None,
                    job_iteration: None,
                };
                let change = Change::CreateTask(Box::new(task));
                if !room(&change) {
                    self.waiting.tried(group, before, now);
                    self.waiting.keep_trying(group, turns.refused());
                    self.note_turns(state, group.0, &turns);
                    return changes;
                }
                if let Change::CreateTask(task) = &change {
                    self.book_new(task, &needs);
                }
                changes.push(change);
            }
            self.waiting.tried(group, before, now);
            self.waiting.keep_trying(group, turns.refused());
            self.note_turns(state, group.0, &turns);
        }
        changes
    }

    /// Finds a node for each of these spots of a group. The board is unchanged when this returns.
    ///
    /// All spots are placed in one batch. Only where room is scarce (reservations, host ports, a limit per node, a node
    /// without a free address), each spot that replaces a task is placed on its own: the room of the replaced task
    /// counts as free for that spot alone. So is each slot that is bound to its data, since several may be bound to one
    /// node.
    pub(super) fn place(&mut self, group: Group, needs: &Arc<Needs>, now: Timestamp, spots: &[Spot]) -> Vec<Found> {
        // Bookings that are lifted or set aside below are restored before this returns.
        self.waiting.hush(true);
        let scarce = |spot: &Spot| {
            needs.take_room()
                || matches!(spot.slot, Slot::Node(_))
                || self.are_short_of_addresses(needs, &spot.replaces)
        };
        let single = |spot: &Spot| spot.home.is_some() || (!spot.replaces.is_empty() && scarce(spot));
        let (singles, together): (Vec<_>, Vec<_>) = spots.iter().enumerate().partition(|(_, spot)| single(spot));
        let one_batch = singles.is_empty();
        let batches = std::iter::once(together).chain(singles.into_iter().map(|it| vec![it]));
        let mut found: Vec<Found> = spots.iter().map(|_| Err(None)).collect();
        // Nodes found so far, whose room stays set aside while the other spots are placed.
        let mut given = Vec::new();
        for batch in batches.filter(|batch| !batch.is_empty()) {
            let replaced: Vec<TaskId> = batch.iter().flat_map(|(_, spot)| spot.replaces.iter().copied()).collect();
            let lifted = self.lift(&replaced);
            let only: Vec<Option<NodeId>> = batch.iter().map(|(_, spot)| spot.only_node()).collect();
            let mut nodes = self.place_batch(group, needs, now, &only);
            for ((_, spot), found) in batch.iter().zip(&mut nodes) {
                if let (Some(home), Err(Some(why))) = (spot.home, found) {
                    why.home = self.seats.get(home).and_then(|seat| seat.node.as_ref()).map(|node| node.name());
                }
            }
            if !replaced.is_empty() {
                let own = nodes.iter_mut().filter(|found| matches!(found, Err(None)));
                own.for_each(|found| *found = Err(Some(self.explain(needs))));
            }
            for (id, booking) in lifted {
                self.enter(id, Some(booking));
            }
            for ((at, _), node) in batch.into_iter().zip(nodes) {
                if let (Ok(node), false) = (&node, one_batch) {
                    given.push(*node);
                    self.set_aside(needs, *node, true);
                }
                found[at] = node;
            }
        }
        for node in given {
            self.set_aside(needs, node, false);
        }
        self.waiting.hush(false);
        found
    }

    /// Finds a node for each of these slots of a group in one batch; a slot may have any node, or only the given one. The
    /// board is unchanged when this returns.
    fn place_batch(&mut self, group: Group, needs: &Needs, now: Timestamp, slots: &[Option<NodeId>]) -> Vec<Found> {
        let anywhere = slots.iter().filter(|only| only.is_none()).count();
        let mut chosen = self.spread(group, needs, now, anywhere, None).into_iter();
        slots
            .iter()
            .map(|only| match only {
                Some(node) => self.may_have(needs, *node).map(|()| *node).map_err(Some),
                None => chosen.next().ok_or(None),
            })
            .collect()
    }
}
