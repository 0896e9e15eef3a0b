//! Conversion of services, and the filters of their lists.

use super::{Context, spec, task};
use crate::own::FormerSpec;
use crate::service::{Endpoint, JobStatus, Service, ServiceStatus, UpdateConfig, UpdateStatus};
use crate::{Filters, ObjectVersion};
use essaim_model as model;
use essaim_model::{Mode, Refusal, State, TaskState, UpdateState};
use std::collections::BTreeSet;

/// Filter keys that a list of services accepts.
pub(crate) const FILTERS: [&str; 5] = ["id", "label", "mode", "name", "runtime"];

/// The service in Docker's shape; with counts of its tasks when `status` was asked for.
pub fn show(service: &model::Service, context: &Context<'_>, status: bool) -> Service {
    let shown = spec::show(&service.spec);
    let endpoint = shown.endpoint_spec.clone().filter(|endpoint| !endpoint.ports.is_empty()).unwrap_or_default();
    let ports = service.ports.iter().map(spec::show_port).collect();
    Service {
        id: service.id.to_string(),
        version: ObjectVersion { index: service.meta.version.0 },
        created_at: service.meta.created_at.into(),
        updated_at: service.meta.updated_at.into(),
        spec: shown,
        previous_spec: service.previous.as_ref().map(|(_, previous)| spec::show(previous)),
        endpoint: Endpoint { ports, spec: endpoint, virtual_ips: Vec::new() },
        update_status: service.update.as_ref().map(show_update),
        service_status: status.then(|| count(service, context.state)),
        job_status: service.job.as_ref().map(show_job),
    }
}

fn show_job(job: &model::JobStatus) -> JobStatus {
    JobStatus { job_iteration: ObjectVersion { index: job.iteration }, last_execution: Some(job.last_execution.into()) }
}

/// Fills in the settings in force where the spec leaves them out, for `inspect` with defaults.
pub fn with_defaults(service: &mut Service) {
    let update = || UpdateConfig {
        parallelism: 1,
        failure_action: "pause".into(),
        monitor: 5_000_000_000,
        order: "stop-first".into(),
        ..UpdateConfig::default()
    };
    let spec = &mut service.spec;
    if let Some(container) = &mut spec.task_template.container_spec {
        container.stop_grace_period.get_or_insert(10_000_000_000);
    }
    let restart = spec.task_template.restart_policy.get_or_insert_default();
    if restart.condition.is_empty() {
        restart.condition = "any".into();
    }
    restart.delay.get_or_insert(5_000_000_000);
    restart.max_attempts.get_or_insert(0);
    for config in [spec.update_config.get_or_insert_with(update), spec.rollback_config.get_or_insert_with(update)] {
        if config.monitor == 0 {
            config.monitor = update().monitor;
        }
    }
}

/// Docker's word for the phase of an update.
pub(crate) const fn update_state(state: UpdateState) -> &'static str {
    match state {
        UpdateState::Updating => "updating",
        UpdateState::Paused => "paused",
        UpdateState::Completed => "completed",
        UpdateState::RollbackStarted => "rollback_started",
        UpdateState::RollbackPaused => "rollback_paused",
        UpdateState::RollbackCompleted => "rollback_completed",
    }
}

fn show_update(status: &model::UpdateStatus) -> UpdateStatus {
    UpdateStatus {
        state: update_state(status.state).into(),
        started_at: Some(status.started_at.into()),
        completed_at: status.completed_at.map(Into::into),
        message: status.message.clone(),
    }
}

/// Counts the tasks of a service that run, that are wanted, and that are complete. Of a job, only the tasks of its present
/// iteration count, and each slot completes once.
pub fn count(service: &model::Service, state: &State) -> ServiceStatus {
    let mut counts = ServiceStatus::default();
    let mut wanted = 0;
    let mut done = BTreeSet::new();
    let iteration = service.iteration();
    for task in state.tasks_of(service.id).filter(|task| task.job_iteration == iteration) {
        counts.running_tasks += u64::from(task::is_running(task, state));
        wanted += u64::from(task.is_wanted());
        if iteration.is_some() && task.observed.state == TaskState::Complete {
            done.insert(task.slot);
        }
    }
    counts.completed_tasks = done.len() as u64;
    counts.desired_tasks = match service.spec.mode {
        Mode::Replicated { replicas } => u64::from(replicas),
        Mode::ReplicatedJob { .. } => service.spec.mode.of_replicated_job().unwrap_or_default().0,
        Mode::Global | Mode::GlobalJob => wanted,
    };
    counts
}

/// The specs of a service that are kept, newest first: the one in force, and the former ones.
pub fn kept_specs(service: &model::Service, state: &State) -> Vec<FormerSpec> {
    let versions = std::iter::once(&service.spec_version).chain(service.former.iter().rev());
    let kept = versions.filter_map(|version| Some((version, state.spec(service.id, *version)?)));
    kept.map(|(version, kept)| FormerSpec {
        version: version.0,
        in_force: *version == service.spec_version,
        spec: spec::show(kept),
    })
    .collect()
}

/// Whether a list with these filters contains this service.
pub fn matches(filters: &Filters, service: &model::Service) -> bool {
    let mode = match service.spec.mode {
        Mode::Replicated { .. } => "replicated",
        Mode::Global => "global",
        Mode::ReplicatedJob { .. } => "replicated-job",
        Mode::GlobalJob => "global-job",
    };
    filters.begins("id", &service.id.to_string())
        && filters.begins("name", service.spec.name.as_str())
        && filters.labels("label", &service.spec.labels)
        && filters.equals("mode", mode)
        && filters.equals("runtime", "container")
}

/// Refuses filters with keys that a list of services does not know.
pub fn check_filters(filters: &Filters) -> Result<(), Refusal> {
    filters.expect(&FILTERS)
}
