//! Changes of tasks. A task's state only moves forward; `task::STEPS` is the table of legal steps.

use super::Made;
use crate::task::may_follow;
use crate::{
    Assigned, Availability, Desired, Event, GenericStock, Meta, Observed, Refusal, RefusalKind, ServiceId, ServiceSpec,
    Slot, State, Task, TaskId, TaskState, WrittenOff,
};
use essaim_wire::planted::{Bug, planted};
use essaim_wire::{Index, NodeId};
use std::sync::Arc;

/// Wanted tasks that one slot may have at a time: a task and its successor.
const WANTED_IN_A_SLOT_MAX: usize = 2;

impl State {
    pub(super) fn create_task(&mut self, task: &Task, events: &mut Vec<Event>) -> Made {
        let service = self.existing_service(task.service)?;
        if service.spec_version != task.spec_version {
            return Err(conflict("the service has a newer spec"));
        }
        if self.tasks.contains_key(&task.id) {
            return Err(conflict("a task with this id exists"));
        }
        let wanted = self.tasks_in(task.service, task.slot).filter(|task| task.is_wanted()).count();
        if wanted >= WANTED_IN_A_SLOT_MAX {
            return Err(conflict("the slot is filled, and its next task waits already"));
        }
        if let Some(node) = task.node() {
            self.check_takes_tasks(node)?;
        }
        let job_iteration = service.iteration();
        let meta = Meta::new(self.applied.index, self.at);
        let task = Arc::new(Task { meta, job_iteration, ..task.clone() });
        if let Some(kept) = self.specs.get_mut(&(task.service, task.spec_version)) {
            kept.tasks += 1;
        }
        self.tasks_by_service.insert((task.service, task.slot, task.id));
        if let Some(node) = task.node() {
            self.tasks_by_node.insert((node, task.id));
            self.assignments.insert(node, self.applied.index);
        }
        self.tasks.insert(task.id, Arc::clone(&task));
        events.push(Event::Task { old: None, new: Some(task) });
        Ok(())
    }

    pub(super) fn assign_task(
        &mut self,
        id: TaskId,
        node: NodeId,
        spec_version: Index,
        generic: &GenericStock,
        events: &mut Vec<Event>,
    ) -> Made {
        let task = self.existing_task(id)?;
        if task.node().is_some() || !task.is_wanted() {
            return Err(conflict("the task is no longer waiting for a node"));
        }
        if task.spec_version != spec_version {
            return Err(conflict("the task follows a newer spec"));
        }
        self.check_takes_tasks(node)?;
        self.tasks_by_node.insert((node, id));
        self.change_task(id, events, |task| {
            task.assigned = Assigned::Node(node);
            task.generic = generic.clone();
        })
    }

    pub(super) fn pend_task(&mut self, id: TaskId, reason: &str, events: &mut Vec<Event>) -> Made {
        if self.existing_task(id)?.node().is_some() {
            return Err(conflict("the task is no longer waiting for a node"));
        }
        self.change_task(id, events, |task| task.assigned = Assigned::Pending { reason: reason.into() })
    }

    /// Makes a pending task follow another version of its service's spec.
    pub(super) fn follow_spec(&mut self, id: TaskId, version: Index, events: &mut Vec<Event>) -> Made {
        let task = self.existing_task(id)?;
        let (service, old) = (task.service, task.spec_version);
        let engine = self.spec(service, version).map_or(task.engine, |spec| self.engine_of(spec));
        let iteration = self.services.get(&service).and_then(|service| service.iteration());
        self.change_task(id, events, |task| {
            (task.spec_version, task.engine, task.job_iteration) = (version, engine, iteration);
        })?;
        if let Some(kept) = self.specs.get_mut(&(service, version)) {
            kept.tasks += 1;
        }
        if let Some(kept) = self.specs.get_mut(&(service, old)) {
            kept.tasks = kept.tasks.saturating_sub(1);
        }
        self.release_spec(service, old);
        Ok(())
    }

    /// Sets what managers want of a task. A task that never had a node ends at once when it is to end; a task that is
    /// to be removed and has ended is forgotten.
    pub(super) fn set_desired(&mut self, id: TaskId, desired: Desired, events: &mut Vec<Event>) -> Made {
        let task = self.existing_task(id)?;
        if task.desired >= desired {
            return Ok(());
        }
        let never_given = task.node().is_none();
        let at = self.at;
        self.change_task(id, events, |task| {
            task.desired = desired;
            if never_given && desired >= Desired::Shutdown {
                task.observed = Observed {
                    state: TaskState::Shutdown,
                    message: "shut down before it was given to a node".into(),
                    ..Observed::nothing(at)
                };
            }
        })?;
        self.forget_if_done(id, events)
    }

    /// Tells a task to end because it no longer fits its node. A task that was told to end before keeps its reason.
    pub(super) fn reject_task(&mut self, id: TaskId, events: &mut Vec<Event>) -> Made {
        if self.existing_task(id)?.desired < Desired::Shutdown {
            let at = self.at;
            self.change_task(id, events, |task| task.rejected_at = Some(at))?;
        }
        self.set_desired(id, Desired::Shutdown, events)
    }

    pub(super) fn write_off_task(&mut self, id: TaskId, why: &str, events: &mut Vec<Event>) -> Made {
        if self.existing_task(id)?.has_ended() {
            return Ok(());
        }
        let at = self.at;
        self.change_task(id, events, |task| {
            task.desired = task.desired.max(Desired::Shutdown);
            task.written_off = Some(WrittenOff { at, why: why.into() });
        })?;
        self.forget_if_done(id, events)
    }

    /// Records a worker's reports of its tasks. A report is ignored when the task belongs to another node, was written
    /// off, or would step backwards.
    pub(super) fn observe(&mut self, node: NodeId, reports: &[(TaskId, Observed)], events: &mut Vec<Event>) {
        for (id, observed) in reports {
            let Some(task) = self.tasks.get(id) else { continue };
            let forward = may_follow(task.observed.state, observed.state)
                || (task.observed.state == observed.state && !observed.state.is_final())
                || planted(Bug::TaskGoesBackwards);
            if task.node() != Some(node) || task.written_off.is_some() || !forward {
                continue;
            }
            let (service, slot, spec) = (task.service, task.slot, task.spec_version);
            if task.began_at.is_none() && observed.state == TaskState::Running {
                self.find_home(node, service, slot, spec);
            }
            let now = self.at;
            let told = self.change_task(*id, events, |task| {
                task.observed = observed.clone();
                match observed.state {
                    TaskState::Running => drop(task.began_at.get_or_insert(now)),
                    state if state.is_final() => drop(task.ended_at.get_or_insert(now)),
                    _ => (),
                }
            });
            let done = told.and_then(|()| self.forget_if_done(*id, events));
            debug_assert!(done.is_ok(), "the task was there a moment ago");
        }
    }

    /// Records that a slot's data is on this node from now on, if tasks with this spec keep data. An older program would
    /// not record it, so no manager does before all of them can.
    fn find_home(&mut self, node: NodeId, service: ServiceId, slot: Slot, spec: Index) {
        let keeps_data = self.spec(service, spec).is_some_and(|spec| spec.keeps_data());
        if keeps_data && self.services.contains_key(&service) && self.level() >= ServiceSpec::STICKY_LEVEL {
            self.homes.insert((service, slot), node);
        }
    }

    /// Records where the data of every slot is, as far as there are records of tasks that ran. Nobody could record it before.
    pub(super) fn find_homes(&mut self) {
        let mut ran: Vec<_> = self.tasks.values().filter(|task| task.began_at.is_some()).cloned().collect();
        ran.sort_by_key(|task| (task.began_at, task.id));
        for task in ran {
            if let Some(node) = task.node() {
                self.find_home(node, task.service, task.slot, task.spec_version);
            }
        }
    }

    pub(super) fn forget_task(&mut self, id: TaskId, events: &mut Vec<Event>) -> Made {
        let task = Arc::clone(self.existing_task(id)?);
        if !task.has_ended() {
            return Err(conflict("the task has not ended"));
        }
        self.tasks.remove(&id);
        self.tasks_by_service.remove(&(task.service, task.slot, id));
        if let Some(node) = task.node() {
            self.tasks_by_node.remove(&(node, id));
            self.touch_assignment(node);
        }
        if let Some(kept) = self.specs.get_mut(&(task.service, task.spec_version)) {
            kept.tasks = kept.tasks.saturating_sub(1);
        }
        self.release_spec(task.service, task.spec_version);
        events.push(Event::Task { old: Some(task), new: None });
        Ok(())
    }

    fn forget_if_done(&mut self, id: TaskId, events: &mut Vec<Event>) -> Made {
        let task = self.existing_task(id)?;
        if task.desired == Desired::Remove && task.has_ended() { self.forget_task(id, events) } else { Ok(()) }
    }

    fn existing_task(&self, id: TaskId) -> Result<&Arc<Task>, Refusal> {
        self.tasks.get(&id).ok_or_else(|| Refusal::not_found("task", id))
    }

    fn check_takes_tasks(&self, node: NodeId) -> Made {
        match self.existing_node(node)?.spec.availability {
            Availability::Active => Ok(()),
            other => Err(conflict(format!("the node is set to {other}"))),
        }
    }

    fn change_task(&mut self, id: TaskId, events: &mut Vec<Event>, change: impl FnOnce(&mut Task)) -> Made {
        let old = Arc::clone(self.existing_task(id)?);
        let mut new = (*old).clone();
        change(&mut new);
        if new == *old {
            return Ok(());
        }
        // Fields that the worker itself reported are not part of its assignment, so they do not renew it. But a node keeps
        // the data of secrets and configs for as long as it has an order that uses them, and the end of a task is the end
        // of its order.
        let uses_payloads =
            || self.spec(new.service, new.spec_version).is_some_and(|it| it.task.container.payloads().next().is_some());
        let concerns_worker = (&new.assigned, new.desired, &new.written_off)
            != (&old.assigned, old.desired, &old.written_off)
            || new.has_ended() && !old.has_ended() && uses_payloads();
        new.meta.touch(self.applied.index, self.at);
        let new = Arc::new(new);
        self.tasks.insert(id, Arc::clone(&new));
        if let (true, Some(node)) = (concerns_worker, new.node()) {
            self.touch_assignment(node);
        }
        events.push(Event::Task { old: Some(old), new: Some(new) });
        Ok(())
    }

    fn touch_assignment(&mut self, node: NodeId) {
        if self.nodes.contains_key(&node) {
            self.assignments.insert(node, self.applied.index);
        }
    }
}

/// The refusal of a plan whose assumptions no longer hold; its proposer must plan again.
fn conflict(text: impl Into<String>) -> Refusal {
    Refusal::new(RefusalKind::Precondition, text)
}

impl Slot {
    /// The number of a replicated service's slot; 0 for a slot of a global service, as in Docker.
    pub const fn number(self) -> u32 {
        match self {
            Self::Number(number) => number,
            Self::Node(_) => 0,
        }
    }
}
