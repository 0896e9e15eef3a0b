//! The board: an index of tasks by node that placement needs, which follows the state event by event.
//!
//! A task *counts* on its node while it is wanted, and *takes up room* there (reservations, host ports) until it has
//! ended: a task that was told to stop reduces the load of its node at once, but its memory and its port are free only
//! when it has ended.

use super::filter::Explanation;
use super::needs::{Group, Needs};
use super::seat::Seat;
use super::waiting::Waiting;
use essaim_model::{
    Change, Desired, EngineKind, Event, Hardware, Node, ServiceId, Slot, State, Task, TaskId, TaskState, loopback,
};
use essaim_wire::{Index, NodeId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Index of tasks by node; see the module.
#[derive(Debug, Clone, Default)]
pub struct Board {
    pub(super) seats: BTreeMap<NodeId, Seat>,
    /// Nodes by the number of tasks that count on them.
    pub(super) by_load: BTreeSet<(u32, NodeId)>,
    pub(super) of_service: BTreeMap<ServiceId, BTreeMap<NodeId, u32>>,
    /// Failures of a group's tasks on each node, by time.
    pub(super) failures: BTreeMap<Group, BTreeMap<NodeId, BTreeSet<(Timestamp, TaskId)>>>,
    tasks: BTreeMap<TaskId, Booking>,
    pub(super) waiting: Waiting,
    needs: BTreeMap<Group, Arc<Needs>>,
    default_engine: Option<EngineKind>,
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
            Change::WriteOffTask { id, .. } => *id,
            _ => return,
        };
        if let Some(mut booking) = self.tasks.get(&id).cloned() {
            booking.counts = false;
            self.enter(id, Some(booking));
        }
    }

    /// Undoes the bookings of changes that were not committed: books their tasks as the state has them.
    pub fn retract(&mut self, state: &State, changes: &[Change]) {
        for change in changes {
            let id = match change {
                Change::CreateTask(task) => task.id,
                Change::AssignTask { id, .. } | Change::SetDesired { id, .. } | Change::WriteOffTask { id, .. } => *id,
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

    /// Whether a node of these tasks has too few free addresses for one more task of this kind.
    pub(super) fn are_short_of_addresses(&self, needs: &Needs, tasks: &[TaskId]) -> bool {
        let nodes = tasks.iter().filter_map(|id| self.tasks.get(id)?.node);
        let mut seats = nodes.filter_map(|node| self.seats.get(&node));
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
            failed_at: None,
        };
        self.tally(TaskId::from_bits(0), &booking, add);
    }

    /// Takes these tasks off the board as if they had ended. Returns the bookings to restore.
    pub(super) fn lift(&mut self, tasks: &[TaskId]) -> Vec<(TaskId, Booking)> {
        let bookings = tasks.iter().filter_map(|id| self.tasks.get(id).map(|booking| (*id, booking.clone())));
        let bookings: Vec<_> = bookings.collect();
        for (id, booking) in &bookings {
            self.enter(*id, Some(Booking { counts: false, room: None, ..booking.clone() }));
        }
        bookings
    }

    /// Whether this node may have a task with these needs; if not, why.
    pub(super) fn may_have(&self, needs: &Needs, node: NodeId) -> Result<(), Explanation> {
        let mut explanation = Explanation::default();
        let Some(seat) = self.seats.get(&node) else { return Err(explanation) };
        match needs.refused_by(seat, self.count_of(needs.service, node)) {
            None => Ok(()),
            Some(reason) => {
                explanation.count(reason, &seat.node);
                Err(explanation)
            }
        }
    }

    /// Why no node may have a task with these needs at present.
    pub(super) fn explain(&self, needs: &Needs) -> Explanation {
        let mut explanation = Explanation::default();
        for (node, seat) in &self.seats {
            if let Some(reason) = needs.refused_by(seat, self.count_of(needs.service, *node)) {
                explanation.count(reason, &seat.node);
            }
        }
        explanation
    }

    /// Number of tasks of a service that count on a node.
    pub(super) fn count_of(&self, service: ServiceId, node: NodeId) -> u32 {
        self.of_service.get(&service).and_then(|nodes| nodes.get(&node)).copied().unwrap_or_default()
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
        match self.seats.get_mut(&node.id) {
            Some(seat) => seat.node = Arc::clone(node),
            None => {
                let seat = Seat {
                    node: Arc::clone(node),
                    load: 0,
                    used: Hardware::default(),
                    ports: BTreeMap::new(),
                    addresses: 0,
                };
                self.seats.insert(node.id, seat);
                self.by_load.insert((0, node.id));
            }
        }
        self.waiting.note_room(node.id);
    }

    fn unseat(&mut self, id: NodeId) {
        if let Some(seat) = self.seats.remove(&id) {
            self.by_load.remove(&(seat.load, id));
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
            failed_at: failed.then_some(task.observed.at),
        };
        self.enter(task.id, Some(booking));
    }

    fn release(&mut self, id: TaskId) {
        self.enter(id, None);
    }

    /// Replaces the booking of a task.
    pub(super) fn enter(&mut self, id: TaskId, new: Option<Booking>) {
        let old = match &new {
            Some(new) => self.tasks.insert(id, new.clone()),
            None => self.tasks.remove(&id),
        };
        if old == new {
            return;
        }
        if let Some(old) = old {
            self.tally(id, &old, false);
        }
        if let Some(new) = new {
            self.tally(id, &new, true);
        }
    }

    fn tally(&mut self, id: TaskId, booking: &Booking, add: bool) {
        let step = |count: &mut u32| *count = if add { *count + 1 } else { count.saturating_sub(1) };
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
        if booking.counts {
            let nodes = self.of_service.entry(booking.group.0).or_default();
            let count = nodes.entry(node).or_default();
            step(count);
            if *count == 0 {
                nodes.remove(&node);
            }
            if nodes.is_empty() {
                self.of_service.remove(&booking.group.0);
            }
        }
        if let Some(at) = booking.failed_at {
            let nodes = self.failures.entry(booking.group).or_default();
            let on_node = nodes.entry(node).or_default();
            if add {
                on_node.insert((at, id))
            } else {
                on_node.remove(&(at, id))
            };
            if on_node.is_empty() {
                nodes.remove(&node);
            }
            if nodes.is_empty() {
                self.failures.remove(&booking.group);
            }
        }
        let Some(seat) = self.seats.get_mut(&node) else { return };
        if booking.counts {
            self.by_load.remove(&(seat.load, node));
            step(&mut seat.load);
            self.by_load.insert((seat.load, node));
        }
        if let Some(needs) = &booking.room {
            seat.take(needs, add);
        }
    }
}
