//! The board: an index of tasks by node that placement needs, which follows the state event by event.
//!
//! A task *counts* on its node while it is wanted, and *takes up room* there (reservations, host ports) until it has
//! ended: a task that was told to stop reduces the load of its node at once, but its memory and its port are free only
//! when it has ended.

use super::area::Areas;
use super::filter::Explanation;
use super::needs::{Group, Needs};
use super::seat::{Place, Seats};
use super::waiting::Waiting;
use crate::turns::Turns;
use essaim_model::{
    Change, Desired, EngineKind, Event, GenericStock, Node, ServiceId, Slot, State, Task, TaskId, TaskState, loopback,
};
use essaim_wire::{Index, NodeId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Index of tasks by node; see the module.
#[derive(Debug, Clone, Default)]
pub struct Board {
    pub(super) seats: Seats,
    pub(super) areas: Areas,
    /// Number of a service's tasks that count on each node.
    pub(super) of_service: BTreeMap<ServiceId, BTreeMap<Place, u32>>,
    /// Failures of a group's tasks on each node, by time.
    pub(super) failures: BTreeMap<Group, BTreeMap<Place, BTreeSet<(Timestamp, TaskId)>>>,
    /// Room for the counts of one service by place, all zero between two calls of `spread`.
    pub(super) tally: Vec<u32>,
    /// Bookings by task. They are boxed, because the map moves its entries when it grows.
    tasks: BTreeMap<TaskId, Box<Booking>>,
    pub(super) waiting: Waiting,
    needs: BTreeMap<Group, Arc<Needs>>,
    default_engine: Option<EngineKind>,
    turns: TurnsTaken,
}

/// Turns of updates that tasks took which are proposed and not in the state yet.
#[derive(Debug, Clone, Default)]
struct TurnsTaken {
    /// The state that they were taken in. In the next one, the tasks are there or were refused.
    seen: Index,
    taken: BTreeMap<ServiceId, usize>,
}

/// What the board has counted for a task, kept so that it can be undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Booking {
    group: Group,
    slot: Slot,
    node: Option<NodeId>,
    counts: bool,
    /// Room that the task takes up; none once it has ended.
    room: Option<Arc<Needs>>,
    /// Generic resources that the task has; `None` while they are set aside but not chosen.
    generic: Option<GenericStock>,
    failed_at: Option<Timestamp>,
}

impl Board {
    /// Builds the board of a state.
    pub fn new(state: &State) -> Self {
        let mut board = Self { default_engine: state.cluster().map(|it| it.default_engine), ..Self::default() };
        for node in state.nodes() {
            board.seat(node);
        }
        for task in state.tasks() {
            board.book(state, task);
        }
        board
    }

    /// Applies an event. `state` already contains it.
    pub fn note(&mut self, state: &State, event: &Event) {
        match event {
            Event::Node { new: Some(node), .. } => self.seat(node),
            Event::Node { old: Some(node), new: None } => self.unseat(node.id),
            Event::Task { new: Some(task), .. } => self.book(state, task),
            Event::Task { old: Some(task), new: None } => self.release(task.id),
            Event::Service { old: Some(old), new } => {
                // Needs of other versions are computed again if they are asked for.
                let in_use = new.as_ref().map(|new| new.spec_version);
                self.needs.retain(|(service, version), _| *service != old.id || Some(*version) == in_use);
                self.areas.forget_unused();
                if new.is_none() {
                    self.failures.retain(|(service, _), _| *service != old.id);
                }
            }
            Event::Cluster { new, .. } if self.default_engine != Some(new.default_engine) => {
                self.default_engine = Some(new.default_engine);
                self.needs.clear();
                self.waiting.note_everything();
            }
            Event::Cluster { .. } => (),
            Event::Node { old: None, new: None }
            | Event::Task { old: None, new: None }
            | Event::Service { old: None, .. }
            | Event::Object { .. } => (),
        }
    }

    /// Whether any task waits for a node.
    pub fn has_pending(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Anticipates a change that is about to be proposed: a task that is told to stop no longer counts.
    pub fn expect(&mut self, change: &Change) {
        let id = match change {
            Change::SetDesired { id, desired } if *desired >= Desired::Shutdown => *id,
            Change::RejectTask { id } | Change::WriteOffTask { id, .. } => *id,
            _ => return,
        };
        if let Some(mut booking) = self.tasks.get(&id).cloned() {
            booking.counts = false;
            self.enter(id, Some(*booking));
        }
    }

    /// Undoes the bookings of changes that were not committed: books their tasks as the state has them.
    pub fn retract(&mut self, state: &State, changes: &[Change]) {
        self.turns = TurnsTaken::default();
        for change in changes {
            let id = match change {
                Change::CreateTask(task) => task.id,
                Change::AssignTask { id, .. }
                | Change::SetDesired { id, .. }
                | Change::RejectTask { id }
                | Change::WriteOffTask { id, .. } => *id,
                _ => continue,
            };
            match state.task(id) {
                Some(task) => self.book(state, task),
                None => self.release(id),
            }
        }
    }

    /// Describes a task whose booking differs from `state`: a booking that was neither proposed nor committed takes up
    /// room for ever. A check for moments when no proposal is under way; it costs as much as building a new board.
    pub fn find_phantom(&self, state: &State) -> Option<String> {
        let fresh = Self::new(state);
        let differs = |id: &&TaskId| self.tasks.get(id) != fresh.tasks.get(id);
        let id = self.tasks.keys().chain(fresh.tasks.keys()).find(differs)?;
        Some(format!("task {id} is booked as {:?}, and is {:?}", self.tasks.get(id), fresh.tasks.get(id)))
    }

    /// The turns that are left in the update of a service, without those that were taken in this state already.
    pub(super) fn turns<'a>(&self, state: &'a State, service: ServiceId, now: Timestamp) -> Turns<'a> {
        let is_same = self.turns.seen == state.applied().index;
        let taken = self.turns.taken.get(&service).copied().filter(|_| is_same).unwrap_or_default();
        Turns::of(state, service, now, taken)
    }

    /// Notes how many turns of a service were taken in this state.
    pub(super) fn note_turns(&mut self, state: &State, service: ServiceId, turns: &Turns<'_>) {
        let seen = state.applied().index;
        if self.turns.seen != seen {
            self.turns = TurnsTaken { seen, taken: BTreeMap::new() };
        }
        if turns.taken() > 0 {
            self.turns.taken.insert(service, turns.taken());
        }
    }

    /// Whether a node of these tasks has too few free addresses for one more task of this kind.
    pub(super) fn are_short_of_addresses(&self, needs: &Needs, tasks: &[TaskId]) -> bool {
        let nodes = tasks.iter().filter_map(|id| self.tasks.get(id)?.node);
        let mut seats = nodes.filter_map(|node| self.seats.get(node));
        needs.addresses > 0 && seats.any(|seat| seat.addresses + needs.addresses > loopback::ADDRESSES)
    }

    /// Counts a task of this kind on a node that was found but not booked yet, or undoes that.
    pub(super) fn set_aside(&mut self, needs: &Arc<Needs>, node: NodeId, add: bool) {
        let booking = Booking {
            group: (needs.service, Index::default()),
            slot: Slot::Number(0),
            node: Some(node),
            counts: true,
            room: Some(Arc::clone(needs)),
            generic: None,
            failed_at: None,
        };
        self.count(TaskId::from_bits(0), &booking, add);
    }

    /// Takes these tasks off the board as if they had ended. Returns the bookings to restore.
    pub(super) fn lift(&mut self, tasks: &[TaskId]) -> Vec<(TaskId, Booking)> {
        let bookings = tasks.iter().filter_map(|id| Some((*id, Booking::clone(self.tasks.get(id)?))));
        let bookings: Vec<_> = bookings.collect();
        for (id, booking) in &bookings {
            self.enter(*id, Some(Booking { counts: false, room: None, ..booking.clone() }));
        }
        bookings
    }

    /// Whether this node may have a task with these needs; if not, why.
    pub(super) fn may_have(&self, needs: &Needs, node: NodeId) -> Result<(), Explanation> {
        let mut explanation = Explanation::default();
        let Some((seat, record)) = self.seats.get(node).and_then(|seat| Some((seat, seat.node.as_ref()?))) else {
            return Err(explanation);
        };
        match needs.refused_by(seat, self.count_of(needs.service, node)) {
            None => Ok(()),
            Some(reason) => {
                explanation.count(reason, record);
                Err(explanation)
            }
        }
    }

    /// Why no node may have a task with these needs at present.
    pub(super) fn explain(&self, needs: &Needs) -> Explanation {
        let mut explanation = Explanation::default();
        let counts = self.of_service.get(&needs.service);
        for (place, seat, node) in self.seats.iter() {
            let count = counts.and_then(|counts| counts.get(&place)).copied().unwrap_or_default();
            if let Some(reason) = needs.refused_by(seat, count) {
                explanation.count(reason, node);
            }
        }
        explanation
    }

    /// Number of tasks of a service that count on a node.
    pub(super) fn count_of(&self, service: ServiceId, node: NodeId) -> u32 {
        let place = self.seats.place_of(node);
        place.and_then(|place| self.of_service.get(&service)?.get(&place)).copied().unwrap_or_default()
    }

    /// Chooses the generic resources that a task with these needs gets on a node; `None` when too few are left. Those
    /// of the tasks that it replaces count as free.
    pub(super) fn give(&mut self, needs: &Needs, node: NodeId, replaces: &[TaskId]) -> Option<GenericStock> {
        if needs.generic.is_empty() {
            return Some(GenericStock::default());
        }
        self.waiting.hush(true);
        let lifted = self.lift(replaces);
        let given = self.seats.get(node).and_then(|seat| seat.choose_generic(&needs.generic));
        for (id, booking) in lifted {
            self.enter(id, Some(booking));
        }
        self.waiting.hush(false);
        given
    }

    pub(super) fn needs_of(&mut self, state: &State, group: Group) -> Option<Arc<Needs>> {
        if let Some(needs) = self.needs.get(&group) {
            return Some(Arc::clone(needs));
        }
        let spec = state.spec(group.0, group.1)?;
        let needs = Arc::new(Needs::of(group.0, spec, state.engine_of(spec)));
        self.needs.insert(group, Arc::clone(&needs));
        Some(needs)
    }

    fn seat(&mut self, node: &Arc<Node>) {
        let (place, old) = self.seats.seat(node);
        self.areas.note(place, old.as_deref(), Some(node));
        self.waiting.note_room(node.id);
    }

    fn unseat(&mut self, id: NodeId) {
        if let Some(place) = self.seats.unseat(id) {
            self.areas.note(place, None, None);
            self.waiting.note_room(id);
        }
    }

    pub(super) fn book(&mut self, state: &State, task: &Task) {
        let group = (task.service, task.spec_version);
        // The needs are kept with the booking, so that room can be given back after the spec is gone. Needs of another
        // group are not reused, because a pending task may be changed to follow a newer spec.
        let before = self.tasks.get(&task.id).filter(|booking| booking.group == group);
        let known = before.and_then(|booking| booking.room.clone());
        let room = if task.occupies() { known.or_else(|| self.needs_of(state, group)) } else { None };
        let failed =
            matches!(task.observed.state, TaskState::Failed | TaskState::Rejected) && task.written_off.is_none();
        let booking = Booking {
            group,
            slot: task.slot,
            node: task.node(),
            counts: task.is_wanted(),
            room,
            generic: Some(task.generic.clone()),
            failed_at: failed.then_some(task.observed.at),
        };
        self.enter(task.id, Some(booking));
    }

    /// Books a task that was created a moment ago and is in no state yet.
    pub(super) fn book_new(&mut self, task: &Task, needs: &Arc<Needs>) {
        let booking = Booking {
            group: (task.service, task.spec_version),
            slot: task.slot,
            node: task.node(),
            counts: true,
            room: Some(Arc::clone(needs)),
            generic: Some(task.generic.clone()),
            failed_at: None,
        };
        self.count(task.id, &booking, true);
        let old = self.tasks.insert(task.id, Box::new(booking));
        debug_assert!(old.is_none(), "a new task has an id of its own");
    }

    fn release(&mut self, id: TaskId) {
        self.enter(id, None);
    }

    /// Replaces the booking of a task.
    pub(super) fn enter(&mut self, id: TaskId, new: Option<Booking>) {
        let old = self.tasks.get(&id);
        if old.map(|old| &**old) == new.as_ref() {
            return;
        }
        if old.is_some()
            && let Some(old) = self.tasks.remove(&id)
        {
            self.count(id, &old, false);
        }
        if let Some(new) = new {
            self.count(id, &new, true);
            self.tasks.insert(id, Box::new(new));
        }
    }

    /// Adds what a booking counts, or subtracts it.
    fn count(&mut self, id: TaskId, booking: &Booking, add: bool) {
        let Some(node) = booking.node else {
            if add && booking.counts {
                self.waiting.enter(booking.group, booking.slot, id);
            } else {
                self.waiting.leave(booking.group, booking.slot, id);
            }
            return;
        };
        if add {
            self.waiting.note_change()
        } else {
            self.waiting.note_room(node)
        }
        let place = self.seats.book(node, add);
        if booking.counts {
            let nodes = self.of_service.entry(booking.group.0).or_default();
            let count = nodes.entry(place).or_default();
            *count = if add { *count + 1 } else { count.saturating_sub(1) };
            if *count == 0 {
                nodes.remove(&place);
            }
            if nodes.is_empty() {
                self.of_service.remove(&booking.group.0);
            }
            self.seats.change_load(place, add);
        }
        if let Some(at) = booking.failed_at {
            let nodes = self.failures.entry(booking.group).or_default();
            let on_node = nodes.entry(place).or_default();
            if add {
                on_node.insert((at, id))
            } else {
                on_node.remove(&(at, id))
            };
            if on_node.is_empty() {
                nodes.remove(&place);
            }
            if nodes.is_empty() {
                self.failures.remove(&booking.group);
            }
        }
        if let Some(needs) = &booking.room {
            self.seats.at_mut(place).take(needs, booking.generic.as_ref(), add);
        }
        if !add {
            self.seats.maybe_free(place);
        }
    }
}
