//! The board: an index of tasks by node that placement needs, which follows the state event by event.
//!
//! A task *counts* on its node while it is wanted, and *takes up room* there (reservations, host ports) until it has
//! ended: a task that was told to stop reduces the load of its node at once, but its memory and its port are free only
//! when it has ended.

use super::filter::{Explanation, Needs};
use super::waiting::Waiting;
use crate::Wanted;
use essaim_model::{
    Assigned, Change, Desired, EngineKind, Event, Hardware, Meta, Node, Observed, PortProtocol, ServiceId, Slot, State,
    Task, TaskId, TaskState, loopback,
};
use essaim_wire::{Index, NodeId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Tasks of one version of a service, which are all alike.
pub(super) type Group = (ServiceId, Index);

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

/// A node, and the resources that its tasks take up.
#[derive(Debug, Clone)]
pub(super) struct Seat {
    pub(super) node: Arc<Node>,
    /// Number of wanted tasks on the node.
    pub(super) load: u32,
    pub(super) used: Hardware,
    pub(super) ports: BTreeMap<(PortProtocol, u16), u32>,
    /// Number of the node's task addresses in use; see `model::loopback`.
    pub(super) addresses: u32,
}

/// What the board has counted for a task, kept so that it can be undone.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Booking {
    group: Group,
    slot: Slot,
    node: Option<NodeId>,
    counts: bool,
    /// Room that the task takes up; none once it has ended.
    room: Option<Arc<Needs>>,
    failed_at: Option<Timestamp>,
}

/// A slot that is to get a task.
pub(super) struct Spot {
    slot: Slot,
    /// Tasks of the slot that will have ended before the new one starts, so that their room counts as free.
    replaces: Vec<TaskId>,
}

impl Spot {
    /// The spot of a task that is created with `desired`: a task created `Ready` waits for the end of the others in its
    /// slot.
    pub(super) fn of(state: &State, service: ServiceId, slot: Slot, desired: Desired) -> Self {
        let replaces = match desired {
            Desired::Ready => {
                let others = state.tasks_in(service, slot).filter(|task| task.node().is_some() && !task.has_ended());
                others.map(|task| task.id).collect()
            }
            _ => Vec::new(),
        };
        Self { slot, replaces }
    }
}

/// Result for a spot: a node; or none, with the explanation where it concerns this spot alone.
pub(super) type Found = Result<NodeId, Option<Explanation>>;

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
        let mut groups: BTreeMap<Group, Vec<&Wanted>> = BTreeMap::new();
        for wish in wanted {
            groups.entry((wish.service, wish.spec_version)).or_default().push(wish);
        }
        let mut changes = Vec::with_capacity(wanted.len());
        for (group, wishes) in groups {
            let Some(needs) = self.needs_of(state, group) else { continue };
            let spots = wishes.iter().map(|wish| Spot::of(state, wish.service, wish.slot, wish.desired)).collect();
            let found = self.place(group, &needs, now, spots);
            let before = self.waiting.before(group);
            let (placed, others): (Vec<_>, Vec<_>) =
                wishes.into_iter().zip(found).partition(|(_, found)| found.is_ok());
            let mut nowhere: Option<String> = None;
            for (wish, found) in placed.into_iter().chain(others) {
                let assigned = match found {
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
                    engine: needs.engine,
                    assigned,
                    desired: wish.desired,
                    observed: Observed::nothing(now),
                    written_off: None,
                    restarts: wish.restarts,
                    began_at: None,
                    ended_at: None,
                };
                let change = Change::CreateTask(Box::new(task.clone()));
                if !room(&change) {
                    self.waiting.tried(group, before, now);
                    return changes;
                }
                self.book(state, &task);
                changes.push(change);
            }
            self.waiting.tried(group, before, now);
        }
        changes
    }

    /// Finds a node for each of these spots of a group. The board is unchanged when this returns.
    ///
    /// All spots are placed in one batch. Only where room is scarce (reservations, host ports, a limit per node, a node
    /// without a free address), each spot that replaces a task is placed on its own: the room of the replaced task
    /// counts as free for that spot alone.
    pub(super) fn place(&mut self, group: Group, needs: &Arc<Needs>, now: Timestamp, spots: Vec<Spot>) -> Vec<Found> {
        // Bookings that are lifted or set aside below are restored before this returns.
        self.waiting.hush(true);
        let scarce = |spot: &Spot| {
            needs.take_room()
                || matches!(spot.slot, Slot::Node(_))
                || self.are_short_of_addresses(needs, &spot.replaces)
        };
        let single = |spot: &Spot| !spot.replaces.is_empty() && scarce(spot);
        let (singles, together): (Vec<_>, Vec<_>) = spots.iter().enumerate().partition(|(_, spot)| single(spot));
        let one_batch = singles.is_empty();
        let batches = std::iter::once(together).chain(singles.into_iter().map(|it| vec![it]));
        let mut found: BTreeMap<usize, Found> = BTreeMap::new();
        // Nodes found so far, whose room stays set aside while the other spots are placed.
        let mut given = Vec::new();
        for batch in batches.filter(|batch| !batch.is_empty()) {
            let replaced: Vec<TaskId> = batch.iter().flat_map(|(_, spot)| spot.replaces.iter().copied()).collect();
            let lifted = self.lift(&replaced);
            let slots: Vec<Slot> = batch.iter().map(|(_, spot)| spot.slot).collect();
            let mut nodes = self.place_batch(group, needs, now, &slots);
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
                found.insert(at, node);
            }
        }
        for node in given {
            self.set_aside(needs, node, false);
        }
        self.waiting.hush(false);
        found.into_values().collect()
    }

    /// Whether a node of these tasks has too few free addresses for one more task of this kind.
    fn are_short_of_addresses(&self, needs: &Needs, tasks: &[TaskId]) -> bool {
        let nodes = tasks.iter().filter_map(|id| self.tasks.get(id)?.node);
        let mut seats = nodes.filter_map(|node| self.seats.get(&node));
        needs.addresses > 0 && seats.any(|seat| seat.addresses + needs.addresses > loopback::ADDRESSES)
    }

    /// Counts a task of this kind on a node that was found but not booked yet, or undoes that.
    fn set_aside(&mut self, needs: &Arc<Needs>, node: NodeId, add: bool) {
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
    fn lift(&mut self, tasks: &[TaskId]) -> Vec<(TaskId, Booking)> {
        let bookings = tasks.iter().filter_map(|id| self.tasks.get(id).map(|booking| (*id, booking.clone())));
        let bookings: Vec<_> = bookings.collect();
        for (id, booking) in &bookings {
            self.enter(*id, Some(Booking { counts: false, room: None, ..booking.clone() }));
        }
        bookings
    }

    /// Finds a node for each of these slots of a group in one batch. The board is unchanged when this returns.
    fn place_batch(&mut self, group: Group, needs: &Needs, now: Timestamp, slots: &[Slot]) -> Vec<Found> {
        let anywhere = slots.iter().filter(|slot| matches!(slot, Slot::Number(_))).count();
        let mut chosen = self.spread(group, needs, now, anywhere, None).into_iter();
        slots
            .iter()
            .map(|slot| match slot {
                Slot::Node(node) => self.may_have(needs, *node).map(|()| *node).map_err(Some),
                Slot::Number(_) => chosen.next().ok_or(None),
            })
            .collect()
    }

    /// Whether this node may have a task with these needs; if not, why.
    pub(super) fn may_have(&self, needs: &Needs, node: NodeId) -> Result<(), Explanation> {
        let mut explanation = Explanation::default();
        let Some(seat) = self.seats.get(&node) else { return Err(explanation) };
        match needs.refused_by(seat, self.count_of(needs.service, node)) {
            None => Ok(()),
            Some(reason) => {
                explanation.count(reason);
                Err(explanation)
            }
        }
    }

    /// Why no node may have a task with these needs at present.
    pub(super) fn explain(&self, needs: &Needs) -> Explanation {
        let mut explanation = Explanation::default();
        for (node, seat) in &self.seats {
            if let Some(reason) = needs.refused_by(seat, self.count_of(needs.service, *node)) {
                explanation.count(reason);
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
    fn enter(&mut self, id: TaskId, new: Option<Booking>) {
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

impl Seat {
    /// Adds the needs of a task to the resources in use, or subtracts them.
    pub(super) fn take(&mut self, needs: &Needs, add: bool) {
        let step =
            |used: &mut u64, by: u64| *used = if add { used.saturating_add(by) } else { used.saturating_sub(by) };
        step(&mut self.used.nano_cpus, needs.reservation.nano_cpus);
        step(&mut self.used.memory_bytes, needs.reservation.memory_bytes);
        self.addresses =
            if add { self.addresses + needs.addresses } else { self.addresses.saturating_sub(needs.addresses) };
        for port in &needs.host_ports {
            if add {
                *self.ports.entry(*port).or_default() += 1;
            } else if let Some(count) = self.ports.get_mut(port) {
                *count -= 1;
                if *count == 0 {
                    self.ports.remove(port);
                }
            }
        }
    }
}
