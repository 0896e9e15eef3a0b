//! Turns of an update: whether a task that is to replace another one may be given its node now.
//!
//! A replacement interrupts something from the moment at which it has a node: stop-first, the replaced task is told to
//! end then; start-first, two tasks of the slot run. So that is the moment at which the bounds of the update apply,
//! however long the replacement has waited before: several replacements may find their nodes at the same time, and the
//! parallelism may have been lowered, or the update paused, since they were created.
//!
//! A slot is *in flight* while its newest wanted task follows the spec in force, has a node and has not settled, and
//! another task of the slot shows that it was updated. A task has settled when it has run for the delay of the update; a
//! slot whose first task of this spec ended by itself is left to the restart policy. A slot of a global service whose node
//! does not answer, or drains, is not in flight: the node may stay away, and must not hold up the others.
//!
//! A task needs a turn if another task of its slot is wanted on a node that may keep it. As many turns are left as the
//! parallelism exceeds the number of slots in flight, and none while the update is paused. The scheduler takes the turns:
//! it alone gives tasks their nodes, and it has one proposal under way at a time, so two decisions never take the same
//! turn. How many replacements are created is decided before that, by `reconcile::rollout`.

use crate::restart;
use crate::scene::{Condition, Scene};
use essaim_model::{Desired, Placement, Service, ServiceId, Slot, State, Task, UpdateConfig, UpdateState};
use essaim_wire::planted::{Bug, planted};
use essaim_wire::{Index, NodeId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Reason of a pending task that could have a node and waits for its turn.
pub(crate) const NO_TURN: &str = "waits for its turn in the update of its service";

/// No node is released: a task on a lost node is not one that its node may keep, released or not.
static NO_NODES: BTreeSet<NodeId> = BTreeSet::new();

/// Configuration of the update of a service, or of the rollback if one is under way.
pub(crate) fn config(service: &Service) -> UpdateConfig {
    let state = service.update.as_ref().map(|status| status.state);
    let backwards = matches!(state, Some(UpdateState::RollbackStarted | UpdateState::RollbackPaused));
    if backwards { &service.spec.rollback } else { &service.spec.update }.clone().unwrap_or_default()
}

/// Whether the update of a service, or its rollback, is paused.
pub(crate) fn is_paused(service: &Service) -> bool {
    let state = service.update.as_ref().map(|status| status.state);
    matches!(state, Some(UpdateState::Paused | UpdateState::RollbackPaused)) && !planted(Bug::FailedUpdateGoesOn)
}

/// The turns that are left in the update of one service.
pub(crate) struct Turns<'a> {
    scene: Scene<'a>,
    service: Option<&'a Service>,
    placement: Placement,
    /// Turns taken, by earlier tasks of the same proposal as well.
    taken: usize,
    /// Turns that there were when the first was taken; computed when a task first needs one.
    all: Option<usize>,
    refused: BTreeSet<Slot>,
    /// Time at which the first slot in flight settles, as far as that is known.
    again: Option<Timestamp>,
}

impl<'a> Turns<'a> {
    /// The turns of a service in this state, of which `taken` are used up by tasks that are to be proposed and therefore not
    /// in the state.
    pub(crate) fn of(state: &'a State, service: ServiceId, now: Timestamp, taken: usize) -> Self {
        let service = state.service(service).map(|service| &**service).filter(|it| !it.spec.mode.is_job());
        let placement = service.map(|service| service.spec.task.placement()).unwrap_or_default();
        let scene = Scene { state, now, released: &NO_NODES };
        Self { scene, service, placement, taken, all: None, refused: BTreeSet::new(), again: None }
    }

    /// Takes a turn for a task that is to get a node in this slot, if it needs one. Returns false when none is left.
    pub(crate) fn take(&mut self, slot: Slot) -> bool {
        let has_one = self.has(slot);
        if has_one && self.needs_one(slot) {
            self.taken += 1;
        }
        has_one
    }

    /// Whether a task that is to get a node in this slot needs no turn, or one is left.
    pub(crate) fn has(&mut self, slot: Slot) -> bool {
        let has_one = !self.needs_one(slot) || self.left() > 0;
        if !has_one {
            self.refused.insert(slot);
        }
        has_one
    }

    /// Turns taken so far.
    pub(crate) const fn taken(&self) -> usize {
        self.taken
    }

    /// The slots that would have got a node if a turn had been left.
    pub(crate) const fn refused(&self) -> &BTreeSet<Slot> {
        &self.refused
    }

    /// Time at which a turn comes without an event, if one was refused.
    pub(crate) fn again(&self) -> Option<Timestamp> {
        self.again.filter(|_| !self.refused.is_empty())
    }

    fn needs_one(&self, slot: Slot) -> bool {
        let Some(service) = self.service else { return false };
        let is_kept = |task: &Arc<Task>| {
            task.is_wanted()
                && task.node().is_some()
                && self.scene.condition(task, &service.spec, &self.placement) == Condition::Sound
        };
        self.scene.state.tasks_in(service.id, slot).any(is_kept)
    }

    fn left(&mut self) -> usize {
        let all = self.all.unwrap_or_else(|| self.count());
        self.all = Some(all);
        all.saturating_sub(self.taken)
    }

    fn count(&mut self) -> usize {
        self.service.map_or(usize::MAX, |service| match config(service).parallelism {
            _ if is_paused(service) => 0,
            0 => usize::MAX,
            _ if planted(Bug::ParallelismExceeded) => usize::MAX,
            most => usize::try_from(most).unwrap_or(usize::MAX).saturating_sub(self.in_flight(service)),
        })
    }

    /// Number of slots in flight. Notes when the first of them settles.
    fn in_flight(&mut self, service: &Service) -> usize {
        let mut slots: BTreeMap<Slot, Vec<&Arc<Task>>> = BTreeMap::new();
        for task in self.scene.state.tasks_of(service.id).filter(|task| task.desired != Desired::Remove) {
            slots.entry(task.slot).or_default().push(task);
        }
        let mut alike = BTreeMap::new();
        let delay = config(service).delay;
        let mut flights = 0;
        for tasks in slots.into_values() {
            let Some(settled) = self.settles(service, &tasks, &mut alike) else { continue };
            let over = settled.map(|settled| settled + delay);
            if over.is_none_or(|over| self.scene.now < over) {
                flights += 1;
                self.again = self.again.into_iter().chain(over).min();
            }
        }
        flights
    }

    /// Time since when the slot with these tasks is settled but for the delay, if it was updated and its new task has a
    /// node; `None` for another slot.
    fn settles(
        &self,
        service: &Service,
        tasks: &[&Arc<Task>],
        alike: &mut BTreeMap<Index, bool>,
    ) -> Option<Option<Timestamp>> {
        let state = self.scene.state;
        let mut is_alike = |version: Index| {
            *alike.entry(version).or_insert_with(|| {
                let spec = state.spec(service.id, version);
                version == service.spec_version || spec.is_some_and(|spec| Service::same_task(spec, &service.spec))
            })
        };
        let newest = tasks.iter().filter(|task| task.is_wanted()).max_by_key(|task| (task.meta.created_at, task.id))?;
        let node = state.node(newest.node()?);
        let counts = match newest.slot {
            Slot::Number(_) => true,
            Slot::Node(_) => self.scene.condition(newest, &service.spec, &self.placement) == Condition::Sound,
        };
        let fits = |task: &Task| {
            let node = task.node().and_then(|node| state.node(node));
            task.has_ended() || node.is_none_or(|node| self.placement.allows(node) || task.is_silent_on(node))
        };
        let is_new = counts && node.is_some() && is_alike(newest.spec_version);
        if !is_new || tasks.iter().all(|task| is_alike(task.spec_version) && fits(task)) {
            return None;
        }
        Some(settled_at(service, tasks.iter().map(|task| &***task)).or(newest.began_at))
    }
}

/// Time at which the first of these tasks of a slot that follow the spec in force came to run, or ended by itself before
/// that: from then on the slot no longer holds up the others, beyond the delay. What becomes of its later tasks is the
/// business of the restart policy.
pub(crate) fn settled_at<'a>(service: &Service, tasks: impl Iterator<Item = &'a Task>) -> Option<Timestamp> {
    let of_update = tasks.filter(|task| task.spec_version == service.spec_version);
    of_update.filter_map(|task| task.began_at.or(task.ended_at.filter(|_| restart::ended_by_itself(task)))).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::world::{GIB, World, id};
    use essaim_model::{
        Assigned, Change, Mode, Observed, Resources, ServiceSpec, Share, TaskState, UpdateOrder, UpdateStatus,
    };
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    fn reserve(memory_bytes: u64) -> impl FnOnce(&mut ServiceSpec) {
        move |spec| {
            let reservation = Some(Share { memory_bytes, ..Share::default() });
            spec.task.resources = Some(Resources { reservation, ..Resources::default() });
        }
    }

    /// A service with four slots on four nodes that is being updated to tasks too large for any node.
    fn waiting(mode: Mode, edit: impl FnOnce(&mut UpdateConfig)) -> (World, ServiceId) {
        let mut world = World::of(4);
        let web = world.create("web", 4, |spec| {
            reserve(GIB)(spec);
            spec.mode = mode;
            let mut config = UpdateConfig { monitor: Some(Duration::ZERO), ..UpdateConfig::default() };
            edit(&mut config);
            spec.update = Some(config);
        });
        world.settle();
        world.update(web, reserve(20 * GIB));
        world.live(10 * SECOND);
        assert_eq!(world.running(web), 4);
        (world, web)
    }

    /// Makes all nodes large enough at the same time.
    fn grow(world: &mut World) {
        for node in 1..=4 {
            world.describe(node, |node| node.hardware.memory_bytes = 64 * GIB);
        }
    }

    fn status(world: &World, web: ServiceId) -> UpdateStatus {
        world.state.service(web).and_then(|it| it.update.clone()).expect("an update")
    }

    /// Number of slots whose new task has a node and does not run yet.
    fn coming(world: &World, web: ServiceId) -> usize {
        let version = world.state.service(web).expect("there").spec_version;
        let comes = |task: &&Arc<Task>| {
            task.is_wanted() && task.node().is_some() && !task.is_running() && task.spec_version == version
        };
        world.state.tasks_of(web).filter(comes).count()
    }

    /// Lets leader and workers take turns; returns the largest number of slots that were coming at a time.
    fn play(world: &mut World, web: ServiceId, turns: usize) -> usize {
        let mut most = 0;
        for _ in 0..turns {
            world.lead();
            most = most.max(coming(world, web)).max(4 - world.running(web).min(4));
            world.work();
            most = most.max(coming(world, web)).max(4 - world.running(web).min(4));
            world.pass(SECOND / 10);
        }
        most
    }

    #[test]
    fn slots_of_a_global_service_that_get_their_nodes_at_once_are_updated_as_many_at_a_time_as_it_allows() {
        for (parallelism, expected) in [(1, 1), (3, 3), (0, 4)] {
            for order in [UpdateOrder::StopFirst, UpdateOrder::StartFirst] {
                let (mut world, web) = waiting(Mode::Global, |it| (it.parallelism, it.order) = (parallelism, order));
                assert_eq!(world.reasons(web).len(), 4, "all of them wait");
                grow(&mut world);
                assert_eq!(play(&mut world, web, 60), expected, "{parallelism}, {order:?}");
                world.live(SECOND);
                assert_eq!((world.running(web), world.reasons(web).len()), (4, 0));
                assert_eq!(status(&world, web).state, UpdateState::Completed, "{parallelism}, {order:?}");
            }
        }
    }

    #[test]
    fn slots_that_have_waited_keep_the_delay_between_them_and_say_that_they_wait_for_their_turn() {
        let (mut world, web) = waiting(Mode::Global, |it| it.delay = 20 * SECOND);
        grow(&mut world);
        world.live(5 * SECOND);
        assert_eq!(world.reasons(web), [NO_TURN; 3]);
        assert_eq!(status(&world, web).message, "update in progress");
        assert!(world.again().is_some_and(|at| at <= world.now() + 20 * SECOND), "the delay ends without an event");
        world.live(100 * SECOND);
        let version = world.state.service(web).expect("there").spec_version;
        let new = world.state.tasks_of(web).filter(|task| task.spec_version == version);
        let mut began: Vec<Timestamp> = new.filter_map(|task| task.began_at).collect();
        began.sort();
        assert_eq!(began.len(), 4);
        assert!(began.windows(2).all(|two| two[0] + 20 * SECOND <= two[1]), "{began:?}");
    }

    #[test]
    fn a_parallelism_that_is_lowered_holds_for_the_slots_that_wait() {
        let (mut world, web) = waiting(Mode::Replicated { replicas: 4 }, |it| it.parallelism = 0);
        assert_eq!(world.reasons(web).len(), 4);
        world.update(web, |spec| spec.update.get_or_insert_default().parallelism = 1);
        world.settle();
        grow(&mut world);
        assert_eq!(play(&mut world, web, 60), 1);
        world.live(SECOND);
        assert_eq!((world.running(web), status(&world, web).state), (4, UpdateState::Completed));
    }

    #[test]
    fn nothing_that_waits_is_replaced_while_the_update_is_paused_unless_its_task_is_lost() {
        for mode in [Mode::Global, Mode::Replicated { replicas: 4 }] {
            let (mut world, web) = waiting(mode, |it| it.parallelism = 0);
            let before = status(&world, web);
            let spec_version = world.state.service(web).expect("there").spec_version;
            let paused = UpdateStatus { state: UpdateState::Paused, ..before };
            world.done(vec![Change::SetUpdateStatus { id: web, spec_version, status: paused }]);
            grow(&mut world);
            assert_eq!(play(&mut world, web, 60), 0, "{mode:?}");
            let tasks: Vec<_> = world.state.tasks_on(id(4)).filter(|task| task.is_running()).cloned().collect();
            let [task] = &tasks[..] else { panic!("one runs there") };
            let observed = Observed { state: TaskState::Failed, at: world.now(), ..task.observed.clone() };
            world.done(vec![Change::Observe { node: id(4), reports: vec![(task.id, observed)] }]);
            world.live(10 * SECOND);
            assert_eq!(world.running(web), 4, "an empty slot is filled");
            assert_eq!(world.reasons(web), [NO_TURN; 3], "{mode:?}");
        }
    }

    /// One proposal creates tasks and gives nodes to tasks that waited, from the same state.
    #[test]
    fn a_turn_that_a_created_task_takes_is_gone_for_those_that_wait() {
        let (mut world, web) = waiting(Mode::Global, |_| ());
        let waits = world.state.tasks_of(web).find(|task| task.node().is_none()).expect("one waits").clone();
        world.done(vec![Change::SetDesired { id: waits.id, desired: Desired::Remove }]);
        grow(&mut world);
        let (state, now) = (world.state.clone(), world.now());
        let wanted = crate::Wanted {
            service: web,
            spec_version: waits.spec_version,
            slot: waits.slot,
            desired: Desired::Ready,
            restarts: 0,
        };
        let mut changes = world.board.create_tasks(&state, now, &[wanted], &mut || 7, &mut |_| true);
        changes.extend(world.board.assign_pending(&state, now, &mut |_| true).changes);
        let given = changes.iter().filter(|change| match change {
            Change::CreateTask(task) => matches!(task.assigned, Assigned::Node(_)),
            Change::AssignTask { .. } => true,
            _ => false,
        });
        assert_eq!(given.count(), 1, "{changes:?}");
        world.board.retract(&state, &changes);
        let created = world.board.create_tasks(&state, now, &[wanted], &mut || 8, &mut |_| true);
        let [Change::CreateTask(task)] = &created[..] else { panic!("{created:?}") };
        assert!(task.node().is_some(), "a refused proposal takes no turn");
    }

    #[test]
    fn a_task_that_is_created_without_a_turn_gets_one_later() {
        let (mut world, web) = waiting(Mode::Global, |_| ());
        let waits: Vec<_> = world.state.tasks_of(web).filter(|task| task.node().is_none()).take(2).cloned().collect();
        world.done(waits.iter().map(|task| Change::SetDesired { id: task.id, desired: Desired::Remove }).collect());
        grow(&mut world);
        let (state, now) = (world.state.clone(), world.now());
        let wanted: Vec<_> = waits
            .iter()
            .map(|task| crate::Wanted {
                service: web,
                spec_version: task.spec_version,
                slot: task.slot,
                desired: Desired::Ready,
                restarts: 0,
            })
            .collect();
        let mut drawn = 1_000;
        let mut draw = || {
            drawn += 1;
            drawn
        };
        let mut changes = world.board.create_tasks(&state, now, &wanted, &mut draw, &mut |_| true);
        let has_none = |change: &&Change| match change {
            Change::CreateTask(task) => matches!(&task.assigned, Assigned::Pending { reason } if reason == NO_TURN),
            _ => false,
        };
        assert_eq!(changes.iter().filter(has_none).count(), 1, "{changes:?}");
        // The pending tasks are looked at while the creation is under way.
        changes.extend(world.board.assign_pending(&state, now, &mut |_| true).changes);
        world.done(changes);
        play(&mut world, web, 60);
        world.live(SECOND);
        assert_eq!((world.running(web), world.reasons(web)), (4, Vec::<String>::new()));
        assert_eq!(status(&world, web).state, UpdateState::Completed);
    }
}
