//! Changes of services.

use super::Made;
use crate::state::KeptSpec;
use crate::{
    Desired, Event, JobStatus, Meta, Refusal, RefusalKind, Service, ServiceId, ServiceSpec, State, Task, TaskId,
    UpdateState, UpdateStatus,
};
use essaim_wire::Index;
use essaim_wire::planted::{Bug, planted};
use std::sync::Arc;

impl State {
    pub(super) fn create_service(&mut self, id: ServiceId, spec: &ServiceSpec, events: &mut Vec<Event>) -> Made {
        if self.services.contains_key(&id) {
            return Err(Refusal::new(RefusalKind::AlreadyExists, format!("service {id} already exists")));
        }
        self.check_service(id, spec)?;
        self.take_name(id, spec)?;
        self.index_ports(id, None, Some(spec));
        let version = self.applied.index;
        let service = Arc::new(Service {
            id,
            meta: Meta::new(version, self.at),
            spec: spec.clone(),
            spec_version: version,
            previous: None,
            update: None,
            job: spec.mode.is_job().then_some(JobStatus { iteration: 0, last_execution: self.at }),
        });
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
        let rolls_back = spec.is_none();
        let spec = match (spec, &old.previous) {
            (Some(spec), _) => spec.clone(),
            (None, Some((_, previous))) => previous.clone(),
            (None, None) => {
                return Err(Refusal::new(
                    RefusalKind::Precondition,
                    format!("service {id} does not have a previous spec"),
                ));
            }
        };
        if spec.name != old.spec.name {
            return Err(Refusal::invalid("renaming services is not supported"));
        }
        if std::mem::discriminant(&spec.mode) != std::mem::discriminant(&old.spec.mode) {
            return Err(Refusal::invalid("service mode change is not allowed"));
        }
        self.check_service(id, &spec)?;
        self.index_ports(id, Some(&old.spec), Some(&spec));
        let version = self.applied.index;
        let replaces_tasks = !Service::same_task(&old.spec, &spec) || !Service::same_places(&old.spec, &spec);
        let mut new = (*old).clone();
        new.meta.touch(version, self.at);
        new.spec = spec.clone();
        new.spec_version = version;
        new.previous = if rolls_back { None } else { Some((old.spec_version, old.spec.clone())) };
        if let Some(job) = &mut new.job {
            *job = JobStatus { iteration: job.iteration + 1, last_execution: self.at };
        }
        new.update = (replaces_tasks && new.job.is_none()).then(|| UpdateStatus {
            state: if rolls_back { UpdateState::RollbackStarted } else { UpdateState::Updating },
            started_at: self.at,
            completed_at: None,
            message: if rolls_back { "manually requested rollback" } else { "update in progress" }.into(),
        });
        let new = Arc::new(new);
        self.services.insert(id, Arc::clone(&new));
        self.specs.insert((id, version), KeptSpec { spec: Arc::new(spec), tasks: 0 });
        self.release_spec(id, old.spec_version);
        events.push(Event::Service { old: Some(old), new: Some(new) });
        if !planted(Bug::PendingKeepsItsSpec) {
            self.bring_pending_forward(id, version, events)?;
        }
        Ok(())
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
        self.index_ports(id, Some(&old.spec), None);
        self.plans.remove(&id);
        let tasks: Vec<_> = self.tasks_of(id).map(|task| task.id).collect();
        for task in tasks {
            self.set_desired(task, Desired::Remove, events)?;
        }
        self.release_spec(id, old.spec_version);
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

    /// Drops a spec that is no longer in force, unless a task still follows it.
    pub(super) fn release_spec(&mut self, id: ServiceId, version: Index) {
        let in_force = self.services.get(&id).is_some_and(|service| service.spec_version == version);
        let followed = self.specs.get(&(id, version)).is_some_and(|kept| kept.tasks > 0);
        if !in_force && !followed {
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
