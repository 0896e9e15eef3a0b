//! Reconciliation of one service: from its spec to the changes that are needed.
//!
//! A service is a set of *slots*: numbered ones when it is replicated, one for each eligible node when it is global.
//! Which slots there should be is decided first, in this module. Then each slot is looked at on its own (`slot`): the
//! condition of its tasks (sound, leaving, lost, gone) decides what it needs. Then slots that follow an older spec are
//! updated, as many at a time as the service allows (`rollout`). A job has slots as well, and fills each until a task has
//! completed in it (`job`). A service that asks for it moves slots to nodes that have few of them (`rebalance`).
//!
//! A slot whose last task ended by itself and is not to be restarted still counts: a service of three replicas of which
//! two have completed has one task left, not three.
//!
//! Creation, scaling, a crash, a drain and the loss of a node all lead to this function, which looks at the state only.
//! Called again on a state that has what it asked for, it asks for nothing.

mod job;
mod rebalance;
mod rollout;
mod slot;

#[cfg(test)]
mod away;
#[cfg(test)]
mod beyond;
#[cfg(test)]
mod globals;
#[cfg(test)]
mod jobs;
#[cfg(test)]
mod places;
#[cfg(test)]
mod replicas;
#[cfg(test)]
mod restarts;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod updates;

use crate::scene::Condition;
use crate::{Plan, Scene, Wanted, restart};
use essaim_model::{Availability, Change, Desired, Mode, Node, Placement, Service, Slot, Task, TaskId, UpdateState};
use essaim_wire::planted::{Bug, planted};
use essaim_wire::{Index, NodeId, Timestamp};
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// What this leader has observed of the tasks of a service, and when. A new leader begins with an empty watch, and errs
/// on the side of caution.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    /// Tasks that wait for their turn, with the time at which this leader first saw each waiting. The creation date is
    /// not used: another leader set it by another clock, and two tasks of a slot might run at a time.
    waiting: BTreeMap<TaskId, Timestamp>,
    /// Tasks with `essaim.on-disconnect=stop` that have not ended as far as is known and whose node does not answer, with
    /// the time at which this leader first saw that: their worker ends them when its lease has lapsed.
    adrift: BTreeMap<TaskId, Timestamp>,
}

impl Watch {
    /// Records the present tasks, and drops tasks that the state has forgotten.
    fn observe(&mut self, scene: &Scene<'_>, service: &Service) {
        let is_there = |id: &TaskId| scene.state.task(*id).is_some();
        self.waiting.retain(|id, _| is_there(id));
        let is_adrift = |id: &TaskId| scene.state.task(*id).is_some_and(|task| scene.is_adrift(task));
        self.adrift.retain(|id, _| is_adrift(id));
        for task in scene.state.tasks_of(service.id) {
            if scene.is_adrift(task) && !self.adrift.contains_key(&task.id) && may_still_run(scene, task) {
                self.adrift.insert(task.id, scene.now);
            }
            if !task.is_running() && task.desired == Desired::Ready {
                self.waiting.entry(task.id).or_insert(scene.now);
            }
        }
    }
}

/// Whether a task that is adrift was not given up so long ago that its worker has ended it for certain.
fn may_still_run(scene: &Scene<'_>, task: &Task) -> bool {
    let followed = scene.state.spec(task.service, task.spec_version);
    let drifts = followed.map_or(Duration::ZERO, |spec| restart::drifts_for(spec));
    task.written_off.as_ref().is_none_or(|off| scene.now < off.at + drifts * 2)
}

/// The plan for `service`. `watch` belongs to the service and is kept between calls.
pub fn reconcile(scene: &Scene<'_>, service: &Service, watch: &mut Watch) -> Plan {
    watch.observe(scene, service);
    let mut work = Work::new(scene, service, watch);
    match service.spec.mode {
        Mode::Replicated { replicas } => work.replicated(replicas as usize),
        Mode::Global => work.global(),
        Mode::ReplicatedJob { .. } | Mode::GlobalJob => work.job(),
    }
    if !service.spec.mode.is_job() {
        work.roll();
    }
    work.plan
}

/// One reconciliation of a service, in progress.
struct Work<'a> {
    scene: &'a Scene<'a>,
    service: &'a Service,
    watch: &'a Watch,
    placement: Placement,
    /// The tasks of each slot that are not marked for removal, oldest first.
    slots: BTreeMap<Slot, Vec<&'a Arc<Task>>>,
    /// Slots in which a task that is marked for removal still runs: on a node that will report its end, or on a lost one
    /// whose worker has not ended it for certain.
    ending: BTreeSet<Slot>,
    /// By version of the spec: whether its tasks are the same as those of the spec in force.
    alike: BTreeMap<Index, bool>,
    /// Tasks beyond the limit of tasks per node, which was lowered after they were placed.
    crowded: BTreeSet<TaskId>,
    /// Tasks whose nodes have become too small for them.
    outgrown: BTreeSet<TaskId>,
    /// Whether any node of the cluster satisfies the constraints in force; computed when first asked for.
    fits_somewhere: OnceCell<bool>,
    rollout: rollout::Rollout<'a>,
    /// Slots that move away from draining nodes already; computed when first asked for.
    under_way: OnceCell<u64>,
    /// Slots that this plan begins to move away from draining nodes.
    moves: u64,
    /// How many slots the nodes have; computed when first asked for.
    spread: OnceCell<rebalance::Spread<'a>>,
    plan: Plan,
}

impl<'a> Work<'a> {
    fn new(scene: &'a Scene<'a>, service: &'a Service, watch: &'a Watch) -> Self {
        let mut work = Self {
            scene,
            service,
            watch,
            placement: service.spec.task.placement(),
            slots: BTreeMap::new(),
            ending: BTreeSet::new(),
            alike: BTreeMap::new(),
            crowded: BTreeSet::new(),
            outgrown: BTreeSet::new(),
            fits_somewhere: OnceCell::new(),
            rollout: rollout::Rollout::default(),
            under_way: OnceCell::new(),
            moves: 0,
            spread: OnceCell::new(),
            plan: Plan::default(),
        };
        for task in scene.state.tasks_of(service.id) {
            if task.desired == Desired::Remove {
                work.let_go(task);
                let reports = task.node().is_some_and(|node| scene.answers(node));
                if !task.has_ended() && (reports || work.drifts_until(task).is_some()) {
                    work.ending.insert(task.slot);
                }
            } else {
                work.slots.entry(task.slot).or_default().push(task);
            }
        }
        for tasks in work.slots.values_mut() {
            tasks.sort_by_key(|task| (task.meta.created_at, task.id));
        }
        work.crowded = work.find_crowded();
        work.outgrown = work.find_outgrown();
        let drifting = scene.state.tasks_of(service.id).filter_map(|task| work.drifts_until(task)).min();
        if let Some(until) = drifting {
            work.plan.look_again(until);
        }
        work
    }

    /// The tasks beyond the number of slots that one node may have of the service; the slots that came last are too
    /// many. A task and its successor on the same node are one slot.
    fn find_crowded(&self) -> BTreeSet<TaskId> {
        let max = usize::try_from(self.placement.replicas_max_per_node).unwrap_or(usize::MAX);
        if max == 0 {
            return BTreeSet::new();
        }
        let mut on_node: BTreeMap<NodeId, BTreeMap<Slot, Vec<&Task>>> = BTreeMap::new();
        for task in self.slots.values().flatten().filter(|task| task.is_wanted()) {
            if let Some(node) = task.node() {
                on_node.entry(node).or_default().entry(task.slot).or_default().push(task);
            }
        }
        let mut crowded = BTreeSet::new();
        for slots in on_node.into_values().filter(|slots| slots.len() > max) {
            let mut slots: Vec<_> = slots.into_iter().collect();
            slots.sort_by_key(|(slot, tasks)| (tasks.iter().map(|task| task.meta.created_at).min(), *slot));
            crowded.extend(slots.into_iter().skip(max).flat_map(|(_, tasks)| tasks).map(|task| task.id));
        }
        crowded
    }

    /// The tasks on nodes that have fewer resources than their tasks reserve. Only a service that reserves some is asked
    /// for, because this looks at every task of its nodes.
    fn find_outgrown(&self) -> BTreeSet<TaskId> {
        let reserves = |task: &Task| {
            let spec = self.scene.state.spec(task.service, task.spec_version);
            spec.and_then(|spec| spec.task.resources.as_ref()).is_some_and(|it| {
                it.reservation.is_some_and(|it| it.nano_cpus > 0 || it.memory_bytes > 0) || !it.generic.is_empty()
            })
        };
        let placed = self.slots.values().flatten().filter(|task| task.is_wanted() && reserves(task));
        let nodes: BTreeSet<NodeId> = placed.filter_map(|task| task.node()).collect();
        nodes.into_iter().flat_map(|node| crate::enforce::misfits(self.scene.state, node)).collect()
    }

    /// Writes off a task that is marked for removal and whose end will never be reported.
    fn let_go(&mut self, task: &'a Arc<Task>) {
        if let (false, Condition::Gone(why)) = (task.has_ended(), self.condition(task)) {
            self.plan.changes.push(Change::WriteOffTask { id: task.id, why });
        }
    }

    fn replicated(&mut self, replicas: usize) {
        let there: BTreeSet<Slot> = self.slots.keys().copied().collect();
        for slot in self.surplus(replicas) {
            self.remove(slot);
        }
        for (slot, tasks) in self.slots.clone() {
            self.slot(slot, &tasks, self.ending.contains(&slot));
        }
        let lacking = replicas.saturating_sub(there.len());
        let free = (1..).map(Slot::Number).filter(|slot| !there.contains(slot));
        for slot in free.take(lacking) {
            self.begin(slot);
        }
        self.rebalance();
    }

    /// The slots to remove when there are too many: first those without a task on a sound node, then those that do not
    /// run, then those on the nodes with the most tasks of this service; among equals, the higher numbers.
    fn surplus(&self, replicas: usize) -> Vec<Slot> {
        if self.slots.len() <= replicas {
            return Vec::new();
        }
        let holder = |tasks: &[&'a Arc<Task>]| {
            let wanted = tasks.iter().filter(|task| task.is_wanted() && self.condition(task) == Condition::Sound);
            wanted.max_by_key(|task| (task.node().is_some(), task.is_running())).copied()
        };
        let mut ranked: Vec<_> = self
            .slots
            .iter()
            .map(|(slot, tasks)| {
                let holder = holder(tasks);
                let node = holder.and_then(|task| task.node());
                (node.is_none(), !holder.is_some_and(|task| task.is_running()), node, *slot)
            })
            .collect();
        ranked.sort_by_key(|(unplaced, idle, _, slot)| (*unplaced, *idle, *slot));
        // Numbers the tasks of this service on each node, in that order: removing the highest number first evens them
        // out.
        let mut on_node: BTreeMap<NodeId, usize> = BTreeMap::new();
        let mut order: Vec<_> = ranked
            .into_iter()
            .map(|(unplaced, idle, node, slot)| {
                let nth = node.map_or(0, |node| {
                    let count = on_node.entry(node).or_default();
                    *count += 1;
                    *count
                });
                (unplaced, idle, nth, slot)
            })
            .collect();
        order.sort();
        order.split_off(replicas).into_iter().map(|(_, _, _, slot)| slot).collect()
    }

    fn global(&mut self) {
        self.remove_departed();
        for (slot, tasks) in self.slots.clone() {
            self.slot(slot, &tasks, self.ending.contains(&slot));
        }
        self.begin_on_nodes();
    }

    /// Removes the slots whose nodes were removed from the cluster.
    fn remove_departed(&mut self) {
        let is_there = |slot: &Slot| matches!(slot, Slot::Node(node) if self.scene.state.node(*node).is_some());
        let departed: Vec<Slot> = self.slots.keys().filter(|slot| !is_there(slot)).copied().collect();
        departed.into_iter().for_each(|slot| self.remove(slot));
    }

    /// Fills the slots of the nodes that have no task yet.
    fn begin_on_nodes(&mut self) {
        let lacking: Vec<NodeId> = self
            .scene
            .state
            .nodes()
            .filter(|node| !self.slots.contains_key(&Slot::Node(node.id)) && self.may_start_on(node))
            .map(|node| node.id)
            .collect();
        for node in lacking {
            self.begin(Slot::Node(node));
        }
    }

    /// Fills a slot that has no task. If a task of an earlier, larger service still ends there, the new one waits for
    /// it.
    fn begin(&mut self, slot: Slot) {
        self.want(slot, rollout::first_wish(self.ending.contains(&slot)));
    }

    /// Whether a global service should have a task on this node. Whether there is room is decided by `place`.
    fn may_start_on(&self, node: &Node) -> bool {
        let engine = self.scene.state.engine_of(&self.service.spec);
        node.is_ready()
            && !node.unsteady
            && node.spec.availability == Availability::Active
            && self.placement.allows(node)
            && self.placement.supports(node)
            && node.description.as_ref().is_some_and(|it| it.engines.contains(&engine))
    }

    /// Marks every task of the slot for removal.
    fn remove(&mut self, slot: Slot) {
        for task in self.slots.remove(&slot).unwrap_or_default() {
            self.let_go(task);
            self.plan.changes.push(Change::SetDesired { id: task.id, desired: Desired::Remove });
        }
    }

    fn condition(&self, task: &Task) -> Condition {
        match self.scene.condition(task, &self.service.spec, &self.placement) {
            _ if self.drifts_until(task).is_some() => Condition::Held,
            Condition::Sound if self.outgrown.contains(&task.id) => Condition::Misfit,
            condition => condition,
        }
    }

    /// The time until which the task may still run on a node that does not answer, if its worker ends it without a
    /// manager and that time is not over.
    fn drifts_until(&self, task: &Task) -> Option<Timestamp> {
        let since = *self.watch.adrift.get(&task.id)?;
        let followed = self.scene.state.spec(task.service, task.spec_version)?;
        let until = since + restart::drifts_for(followed);
        (self.scene.now < until && !planted(Bug::ReplacedWithinLease)).then_some(until)
    }

    fn shut(&mut self, task: &Task) {
        if task.desired < Desired::Shutdown {
            self.plan.changes.push(Change::SetDesired { id: task.id, desired: Desired::Shutdown });
        }
    }

    /// Tells a task to end because it no longer fits its node; `service ps` then shows it as rejected. Managers with an
    /// older program cannot read that, and the task is shut down without the reason.
    fn reject(&mut self, task: &Task) {
        let change = Change::RejectTask { id: task.id };
        if change.level() > self.scene.state.level() {
            self.shut(task);
        } else if task.desired < Desired::Shutdown {
            self.plan.changes.push(change);
        }
    }

    fn want(&mut self, slot: Slot, desired: Desired) {
        let (service, spec_version) = (self.service.id, self.service.spec_version);
        let desired = if planted(Bug::FillDoesNotWait) { Desired::Running } else { desired };
        let restarts = self.restarts_in(slot);
        self.plan.wanted.push(Wanted { service, spec_version, slot, desired, restarts });
    }

    /// Wants the successor of a task that ended by itself, which counts as one more restart.
    fn want_again(&mut self, slot: Slot, desired: Desired) {
        let is_same = |last: &&Arc<Task>| last.spec_version == self.service.spec_version;
        let is_restart = self.last_in(slot).filter(is_same).is_some();
        self.want(slot, desired);
        if let Some(wanted) = self.plan.wanted.last_mut() {
            wanted.restarts = wanted.restarts.saturating_add(u32::from(is_restart));
        }
    }

    /// Restarts of a slot that count so far. A new spec starts at zero; replacing a lost or moved task adds none.
    fn restarts_in(&self, slot: Slot) -> u32 {
        let policy = self.service.spec.restart();
        let last = self.last_in(slot).filter(|last| last.spec_version == self.service.spec_version);
        last.map_or(0, |last| restart::counted(&policy, last, self.scene.now))
    }

    /// The newest task of a slot.
    fn last_in(&self, slot: Slot) -> Option<&'a Arc<Task>> {
        self.slots.get(&slot).and_then(|tasks| tasks.last()).copied()
    }

    /// Whether the task is what the spec in force asks for, on a node that it allows. For a task that has ended, the
    /// node does not matter; but if it never ran, its image may have been refused, so the credentials for the registry do.
    fn is_current(&mut self, task: &Task) -> bool {
        self.is_alike(task.spec_version)
            && if task.has_ended() {
                task.began_at.is_some() || self.has_credentials(task.spec_version)
            } else {
                self.is_in_place(task)
            }
    }

    /// Whether this version of the spec has the credentials of the spec in force.
    fn has_credentials(&self, version: Index) -> bool {
        let followed = self.scene.state.spec(self.service.id, version);
        let own = &self.service.spec.task.container.registry_auth;
        followed.is_none_or(|spec| spec.task.container.registry_auth == *own)
    }

    fn is_alike(&mut self, version: Index) -> bool {
        let (scene, service) = (self.scene, self.service);
        *self.alike.entry(version).or_insert_with(|| {
            let goes_back = service.update.as_ref().is_some_and(|it| it.state == UpdateState::RollbackStarted);
            if goes_back && planted(Bug::RollbackReplacesHealthy) {
                return version == service.spec_version;
            }
            version == service.spec_version
                || scene.state.spec(service.id, version).is_some_and(|spec| Service::same_task(spec, &service.spec))
        })
    }

    /// Whether the placement in force allows the task on its node. A pending task counts as allowed.
    fn is_in_place(&self, task: &Task) -> bool {
        let node = task.node().and_then(|node| self.scene.state.node(node));
        node.is_none_or(|node| self.placement.allows(node) || task.is_silent_on(node))
            && !self.crowded.contains(&task.id)
    }

    /// Whether the slot is a node that the constraints in force exclude.
    fn is_excluded(&self, slot: Slot) -> bool {
        let Slot::Node(node) = slot else { return false };
        self.scene.state.node(node).is_some_and(|node| !self.placement.allows(node))
    }

    /// Whether the service is being updated to constraints that no node of the cluster satisfies.
    fn is_update_impossible(&self) -> bool {
        let updates = self.service.update.as_ref().is_some_and(|update| update.completed_at.is_none());
        let fits = || self.scene.state.nodes().any(|node| self.placement.allows(node));
        updates && !*self.fits_somewhere.get_or_init(fits)
    }
}
