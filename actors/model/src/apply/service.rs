//! Changes of services.

use super::Made;
use crate::service::FORMER_MAX;
use crate::state::KeptSpec;
use crate::{
    Desired, Event, JobStatus, Meta, Refusal, RefusalKind, RollbackCause, Service, ServiceId, ServiceSpec, Slot, State,
    Task, TaskId, UpdateState, UpdateStatus,
};
use essaim_wire::planted::{Bug, planted};
use essaim_wire::{Index, NodeId};
use std::sync::Arc;

/// Message of a rollback that an operator asked for, in Swarm's words.
const MANUAL_ROLLBACK: &str = "manually requested rollback";

/// Whether tasks of the former spec are to be replaced, because they differ or because they may run elsewhere.
fn replaces_tasks(old: &ServiceSpec, new: &ServiceSpec) -> bool {
    !Service::same_task(old, new) || !Service::same_places(old, new)
}

impl State {
    pub(super) fn create_service(&mut self, id: ServiceId, spec: &ServiceSpec, events: &mut Vec<Event>) -> Made {
        if self.services.contains_key(&id) {
            return Err(Refusal::new(RefusalKind::AlreadyExists, format!("service {id} already exists")));
        }
        self.check_service(id, spec)?;
        let ports = self.number_ports(id, spec, &[])?;
        self.take_name(id, spec)?;
        let version = self.applied.index;
        let service = Arc::new(Service {
            id,
            meta: Meta::new(version, self.at),
            spec: spec.clone(),
            spec_version: version,
            previous: None,
            former: Vec::new(),
            update: None,
            job: spec.mode.is_job().then_some(JobStatus {
                iteration: 0,
                last_execution: self.at,
                idle: spec.schedule().is_some(),
            }),
            ports,
        });
        self.index_ports(&service);
        self.services.insert(id, Arc::clone(&service));
        self.specs.insert((id, version), KeptSpec { spec: Arc::new(spec.clone()), tasks: 0 });
        events.push(Event::Service { old: None, new: Some(service) });
        Ok(())
    }

    /// Gives a service a new spec, or its former spec when `spec` is `None`. A spec that asks for other tasks, or for
    /// other places, starts an update; a spec that only scales or relabels does not. Every change of a job's spec begins
    /// a new iteration of the job. Pending tasks follow the new spec at once.
    pub(super) fn update_service(
        &mut self,
        id: ServiceId,
        expect: Index,
        spec: Option<&ServiceSpec>,
        events: &mut Vec<Event>,
    ) -> Made {
        let old = Arc::clone(self.existing_service(id)?);
        if old.meta.version != expect && !planted(Bug::VersionNotCompared) {
            return Err(Refusal::out_of_sequence());
        }
        let Some(spec) = spec else {
            let Some((version, previous)) = old.previous.clone() else {
                let text = format!("service {id} does not have a previous spec");
                return Err(Refusal::new(RefusalKind::Precondition, text));
            };
            return self.go_back(&old, (version, &previous), MANUAL_ROLLBACK.into(), true, events);
        };
        if spec.name != old.spec.name {
            return Err(Refusal::invalid("renaming services is not supported"));
        }
        if std::mem::discriminant(&spec.mode) != std::mem::discriminant(&old.spec.mode) {
            return Err(Refusal::invalid("service mode change is not allowed"));
        }
        self.update_to(&old, spec, "update in progress".into(), events)
    }

    /// Gives a service a new spec; `message` is that of the update, if one begins.
    pub(super) fn update_to(
        &mut self,
        old: &Arc<Service>,
        spec: &ServiceSpec,
        message: String,
        events: &mut Vec<Event>,
    ) -> Made {
        let mut new = (**old).clone();
        new.spec = spec.clone();
        // An update that was not complete goes on to the new spec, also when that only scales: it was paused, or has
        // tasks to replace that follow neither spec.
        let unfinished = old.update.as_ref().is_some_and(|update| update.completed_at.is_none());
        new.update = (unfinished || replaces_tasks(&old.spec, spec)).then_some(UpdateStatus {
            state: UpdateState::Updating,
            started_at: self.at,
            completed_at: None,
            message,
        });
        new.previous = Some((old.spec_version, old.spec.clone()));
        self.put_spec(old, new, events)
    }

    /// Gives a service the former spec with this version again.
    pub(super) fn roll_back_service(
        &mut self,
        id: ServiceId,
        to: Index,
        cause: RollbackCause,
        events: &mut Vec<Event>,
    ) -> Made {
        let old = Arc::clone(self.existing_service(id)?);
        let (message, asked) = match cause {
            RollbackCause::Asked { expect } if old.meta.version != expect => return Err(Refusal::out_of_sequence()),
            RollbackCause::Asked { .. } => (MANUAL_ROLLBACK.into(), true),
            RollbackCause::Failed { spec_version, .. } if old.spec_version != spec_version => {
                return Err(Refusal::new(RefusalKind::Precondition, "the service has a newer spec"));
            }
            RollbackCause::Failed { task, .. } => {
                (format!("update rolled back due to failure or early termination of task {task}"), false)
            }
        };
        let previous = old.previous.as_ref().filter(|(version, _)| *version == to).map(|(_, spec)| spec.clone());
        let kept = || old.former.contains(&to).then(|| self.spec(id, to).map(|spec| (**spec).clone())).flatten();
        let Some(spec) = previous.or_else(kept) else {
            let kept: Vec<String> = old.former.iter().map(|version| version.0.to_string()).collect();
            let kept = if kept.is_empty() { "none".into() } else { kept.join(", ") };
            let text = format!("service {id} has no former spec of version {}: kept are {kept}", to.0);
            return Err(Refusal::new(RefusalKind::Precondition, text));
        };
        self.go_back(&old, (to, &spec), message, asked, events)
    }

    /// Makes `spec` the spec in force again, as a rollback. The spec that was in force is the previous one if an
    /// operator asked for the rollback.
    fn go_back(
        &mut self,
        old: &Arc<Service>,
        (version, spec): (Index, &ServiceSpec),
        message: String,
        asked: bool,
        events: &mut Vec<Event>,
    ) -> Made {
        let mut new = (**old).clone();
        new.spec = spec.clone();
        // The same spec is in force again, under a new version.
        new.former.retain(|kept| *kept != version);
        let unfinished = old.update.as_ref().is_some_and(|update| update.completed_at.is_none());
        new.update = (unfinished || replaces_tasks(&old.spec, spec)).then_some(UpdateStatus {
            state: UpdateState::RollbackStarted,
            started_at: self.at,
            completed_at: None,
            message,
        });
        new.previous = asked.then(|| (old.spec_version, old.spec.clone()));
        self.put_spec(old, new, events)
    }

    /// Replaces a service by `new`, which has another spec.
    fn put_spec(&mut self, old: &Arc<Service>, mut new: Service, events: &mut Vec<Event>) -> Made {
        let id = old.id;
        self.check_service(id, &new.spec)?;
        new.ports = self.number_ports(id, &new.spec, &old.ports)?;
        self.unindex_ports(old);
        let version = self.applied.index;
        new.meta.touch(version, self.at);
        new.spec_version = version;
        new.former.push(old.spec_version);
        let surplus = new.former.len().saturating_sub(FORMER_MAX);
        new.former.drain(..surplus);
        if let Some(job) = &mut new.job {
            // An operator who forces an update of a scheduled job wants it to run now.
            let forced = new.spec.task.force_update != old.spec.task.force_update;
            let idle = new.spec.schedule().is_some() && !forced;
            *job = JobStatus { iteration: job.iteration + 1, last_execution: self.at, idle };
            // A job is not updated task by task.
            new.update = None;
        }
        let new = Arc::new(new);
        self.index_ports(&new);
        self.services.insert(id, Arc::clone(&new));
        self.specs.insert((id, version), KeptSpec { spec: Arc::new(new.spec.clone()), tasks: 0 });
        for former in old.former.iter().chain([&old.spec_version]) {
            self.release_spec(id, *former);
        }
        events.push(Event::Service { old: Some(Arc::clone(old)), new: Some(new) });
        if !planted(Bug::PendingKeepsItsSpec) {
            self.bring_pending_forward(id, version, events)?;
        }
        Ok(())
    }

    /// Begins the next iteration of a job with the spec in force, and with the newest versions of its secrets and configs.
    /// The spec gets a new version, which plans name; the version of the service stays, because no operator changed it.
    pub(super) fn run_job(&mut self, id: ServiceId, after: u64, events: &mut Vec<Event>) -> Made {
        let old = Arc::clone(self.existing_service(id)?);
        if old.iteration() != Some(after) {
            return Ok(());
        }
        let version = self.applied.index;
        let mut new = (*old).clone();
        new.meta.updated_at = self.at;
        new.spec_version = version;
        new.job = Some(JobStatus { iteration: after + 1, last_execution: self.at, idle: false });
        let renewed = self.with_newest_payloads(&old.spec, |_, _| true);
        let spec = match &renewed {
            Some(renewed) => Arc::new(renewed.clone()),
            None => self.spec(id, old.spec_version).map_or_else(|| Arc::new(old.spec.clone()), Arc::clone),
        };
        new.spec = renewed.unwrap_or(new.spec);
        let new = Arc::new(new);
        self.services.insert(id, Arc::clone(&new));
        self.specs.insert((id, version), KeptSpec { spec, tasks: 0 });
        self.release_spec(id, old.spec_version);
        events.push(Event::Service { old: Some(old), new: Some(new) });
        self.bring_pending_forward(id, version, events)
    }

    /// Moves the pending tasks of a service to this version of its spec, and of a job to its present iteration. No worker
    /// has them yet, so there is nothing to replace; and the reason why a task is not placed must come from the spec in
    /// force.
    fn bring_pending_forward(&mut self, id: ServiceId, version: Index, events: &mut Vec<Event>) -> Made {
        let waits = |task: &&Arc<Task>| task.node().is_none() && task.is_wanted();
        let pending: Vec<TaskId> = self.tasks_of(id).filter(waits).map(|task| task.id).collect();
        pending.into_iter().try_for_each(|task| self.follow_spec(task, version, events))
    }

    pub(super) fn set_update_status(
        &mut self,
        id: ServiceId,
        spec_version: Index,
        status: &UpdateStatus,
        events: &mut Vec<Event>,
    ) -> Made {
        let old = Arc::clone(self.existing_service(id)?);
        if old.spec_version != spec_version || old.update.as_ref() == Some(status) {
            return Ok(());
        }
        let mut new = (*old).clone();
        new.update = Some(status.clone());
        new.meta.updated_at = self.at;
        let new = Arc::new(new);
        self.services.insert(id, Arc::clone(&new));
        events.push(Event::Service { old: Some(old), new: Some(new) });
        Ok(())
    }

    /// Removes a service. Its tasks are told to end at once, and each is forgotten when it has ended.
    pub(super) fn remove_service(&mut self, id: ServiceId, events: &mut Vec<Event>) -> Made {
        let old = Arc::clone(self.existing_service(id)?);
        self.services.remove(&id);
        self.service_by_name.remove(old.spec.name.as_str());
        self.unindex_ports(&old);
        self.plans.remove(&id);
        let homes = self.homes.range((id, Slot::Number(0))..=(id, Slot::Node(NodeId::from_bits(u128::MAX))));
        let slots: Vec<Slot> = homes.map(|((_, slot), _)| *slot).collect();
        for slot in slots {
            self.homes.remove(&(id, slot));
        }
        let tasks: Vec<_> = self.tasks_of(id).map(|task| task.id).collect();
        for task in tasks {
            self.set_desired(task, Desired::Remove, events)?;
        }
        for version in old.former.iter().chain([&old.spec_version]) {
            self.release_spec(id, *version);
        }
        events.push(Event::Service { old: Some(old), new: None });
        Ok(())
    }

    pub(super) fn carry_out_plan(&mut self, id: ServiceId, seen: Index) -> Made {
        self.existing_service(id)?;
        let place = self.applied.index;
        match self.plans.insert(id, place) {
            Some(last) if last > seen => {
                Err(Refusal::new(RefusalKind::Precondition, "another plan for the service was carried out meanwhile"))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn existing_service(&self, id: ServiceId) -> Result<&Arc<Service>, Refusal> {
        self.services.get(&id).ok_or_else(|| Refusal::not_found("service", id))
    }

    /// Drops a spec that is neither in force nor kept as a former one, unless a task still follows it.
    pub(super) fn release_spec(&mut self, id: ServiceId, version: Index) {
        let service = self.services.get(&id);
        let is_kept = service.is_some_and(|it| it.spec_version == version || it.former.contains(&version));
        let is_followed = self.specs.get(&(id, version)).is_some_and(|kept| kept.tasks > 0);
        if !is_kept && !is_followed {
            self.specs.remove(&(id, version));
        }
    }

    fn take_name(&mut self, id: ServiceId, spec: &ServiceSpec) -> Made {
        let name = spec.name.as_str();
        if self.service_by_name.contains_key(name) {
            let text = format!("name conflicts with an existing object: service {name} already exists");
            return Err(Refusal::new(RefusalKind::AlreadyExists, text));
        }
        self.service_by_name.insert(name.to_owned(), id);
        Ok(())
    }
}
