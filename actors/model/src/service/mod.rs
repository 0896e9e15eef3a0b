//! Services: how many tasks of what kind an operator wants, where, and how they follow a change of the spec.
//!
//! Settings that an operator left out stay `None`, so that the API shows a spec as it was given; the methods named
//! after them give the value in force. A spec holds every setting of Swarm, also those that are not honoured yet:
//! [`support`] says which settings a cluster and an engine do not honour, and such a setting is refused when a service
//! is created or updated.
//!
//! - [`container`]: what one task runs; [`health`], [`mount`], [`mod@reference`] are parts of it.
//! - [`resources`]: what a task may use, and what is reserved for it.
//! - [`ports`]: which numbers ports are published under.
//! - [`labels`]: settings beyond Swarm's, which labels make.
//! - [`support`]: which settings have no effect yet, and the words that refuse them.
//! - `repository`: the grammar of image references, for engines whose images come from registries.

pub mod container;
pub mod health;
pub mod labels;
pub mod mount;
pub mod ports;
pub mod reference;
mod repository;
pub mod resources;
pub mod support;
pub mod template;

pub use crate::port::PortProtocol;
pub use container::{
    AppArmor, Capability, ContainerSpec, CredentialSpec, DnsConfig, HostEntry, Image, Isolation, OomScoreAdj,
    Privileges, RegistryAuth, SeLinux, Seccomp, Ulimit, Variable,
};
pub use health::{HealthCheck, HealthTest, HealthTimes};
pub use labels::{
    DISCONNECT_LEASE, DRAIN_LABEL, ENGINE_LABEL, ON_DISCONNECT_LABEL, ON_UNREACHABLE_LABEL, STICKY_LABEL, Sticky,
};
pub use mount::{BindOptions, Driver, Mount, MountSource, Mounts, Propagation, TmpfsOptions, VolumeOptions};
pub use ports::{DYNAMIC_PORTS, IngressPort};
pub use reference::{
    ConfigReference, ConfigReferences, ConfigTarget, FileTarget, NetworkAttachment, SecretReference, SecretReferences,
};
pub use resources::{GenericResources, Resources, Share, Swap, Swappiness};

use crate::{EngineKind, Labels, Meta, Name, Placement, ServiceId};
use bincode::{Decode, Encode};
use essaim_wire::planted::{Bug, planted};
use essaim_wire::record;
use essaim_wire::{Index, Timestamp};
use std::time::Duration;

/// A service: what an operator wants to run, and how far its last update is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Id of the service.
    pub id: ServiceId,
    /// Version and dates of the service.
    pub meta: Meta,
    /// Spec in force.
    pub spec: ServiceSpec,
    /// Version of the spec: the log index at which it was set. A task names the version it follows; see `State::spec`.
    pub spec_version: Index,
    /// Former spec and its version, to roll back to; `None` when there is none. A rollback that an operator asked for
    /// leaves the spec that it took back here, and one after a failed update leaves none, as in Swarm.
    pub previous: Option<(Index, ServiceSpec)>,
    /// Versions of the specs that were in force before, oldest first, at most [`FORMER_MAX`]. `State::spec` has each of
    /// them, so that an operator can go back by more than one.
    pub former: Vec<Index>,
    /// Status of the last update; `None` when there was none.
    pub update: Option<UpdateStatus>,
    /// Which iteration a job is in; `None` for a service that is no job.
    pub job: Option<JobStatus>,
    /// Ports of the spec in force, in its order, each with the number under which it is published: the operator's, or
    /// one of [`DYNAMIC_PORTS`]. A port in host mode that has no number gets one on each node.
    pub ports: Vec<PortConfig>,
}
record!(Service { 1: id, meta, spec, spec_version, previous, former, update, job, ports });

/// Former specs of a service that are kept, so that an operator can go back to one of them.
pub const FORMER_MAX: usize = 10;

/// The present iteration of a job. An iteration runs every slot of the job once to completion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobStatus {
    /// Number of the iteration: 0 at the creation of the job, and one more with each of its updates.
    pub iteration: u64,
    /// Time at which the iteration began.
    pub last_execution: Timestamp,
    /// Whether the iteration runs nothing: the creation or an update of a scheduled job began it, and its next run is the
    /// one that the schedule begins.
    pub idle: bool,
}
record!(JobStatus { 1: iteration, last_execution, idle });

impl Service {
    /// Number of the present iteration of a job; `None` for a service that is no job.
    pub fn iteration(&self) -> Option<u64> {
        self.job.as_ref().map(|job| job.iteration)
    }

    /// Whether both specs describe the same task: nothing that makes a task differs. Where the task may run is compared
    /// by [`same_places`](Self::same_places).
    pub fn same_task(a: &ServiceSpec, b: &ServiceSpec) -> bool {
        let (x, y) = (&a.task, &b.task);
        x.container.is_same_container(&y.container)
            && x.resources == y.resources
            && x.networks == y.networks
            && x.log_driver == y.log_driver
            && x.force_update == y.force_update
            && a.endpoint == b.endpoint
            && a.engine() == b.engine()
            && a.stops_on_disconnect() == b.stops_on_disconnect()
    }

    /// Whether tasks of both specs may run in the same places.
    pub(crate) fn same_places(a: &ServiceSpec, b: &ServiceSpec) -> bool {
        a.task.placement() == b.task.placement()
    }
}

/// What an operator wants of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSpec {
    /// Name of the service, unique among services.
    pub name: Name,
    /// Labels of the service; those that begin with `essaim.` have a meaning.
    pub labels: Labels,
    /// Description of the service's tasks.
    pub task: TaskSpec,
    /// How many tasks, and what makes a node due for one.
    pub mode: Mode,
    /// How tasks follow a new spec; Swarm's defaults when `None`.
    pub update: Option<UpdateConfig>,
    /// How tasks follow a rollback; Swarm's defaults when `None`.
    pub rollback: Option<UpdateConfig>,
    /// How the service is reached; `None` when nothing was set.
    pub endpoint: Option<EndpointSpec>,
}
record!(ServiceSpec { 1: name, labels, task, mode, update, rollback, endpoint });

impl ServiceSpec {
    /// The engine that the service asks for, if it names one that exists.
    pub fn engine(&self) -> Option<EngineKind> {
        match self.labels.get(ENGINE_LABEL).map(String::as_str) {
            Some("process") => Some(EngineKind::Process),
            Some("docker") => Some(EngineKind::Docker),
            Some("actor") => Some(EngineKind::Actor),
            _ => None,
        }
    }

    /// Whether the tasks of an unreachable node are replaced only when the node is down. Unless its label says otherwise a
    /// job waits, because a task that may still be running would do its work twice; and so does a service that writes to
    /// a path or a named volume of its node, because a second task would take writes on another, empty volume, which are
    /// lost when the node returns.
    pub fn waits_for_down(&self) -> bool {
        let waits = || self.mode.is_job() || self.keeps_data();
        self.labels.get(ON_UNREACHABLE_LABEL).map_or_else(waits, |value| value == "wait")
    }

    /// Whether tasks write to a path or a named volume of their node, so that their data stays there when they end.
    pub fn keeps_data(&self) -> bool {
        self.task.container.mounts.iter().any(Mount::keeps_data)
    }

    /// Whether a worker ends the tasks when it has had no manager for [`DISCONNECT_LEASE`].
    pub fn stops_on_disconnect(&self) -> bool {
        self.labels.get(ON_DISCONNECT_LABEL).is_some_and(|value| value == "stop")
    }

    /// Whether a task that moves away from a draining node is stopped before its replacement runs. Unless its label says
    /// otherwise, a service that writes to a path or a named volume of its node is: its replacement begins without that data,
    /// and must not take writes beside the task that has it.
    pub fn drains_stop_first(&self) -> bool {
        self.mode.is_per_node()
            || self.mode.is_job()
            || self.labels.get(DRAIN_LABEL).map_or_else(|| self.keeps_data(), |value| value == "stop-first")
    }

    /// Whether and when a task that ended is replaced. In a job, a task that completed never is: there the condition
    /// `any` means `on-failure`, as in Swarm.
    pub fn restart(&self) -> RestartPolicy {
        let mut policy = self.task.restart();
        if self.mode.is_job() && policy.condition() == RestartCondition::Any && !planted(Bug::CompletedJobRunsAgain) {
            policy.condition = Some(RestartCondition::OnFailure);
        }
        if let (Some(longest), None) = (self.restart_delay_max(), policy.window.filter(|window| !window.is_zero())) {
            // A back-off needs an end of the row of failures: a task that ran for the longest delay.
            policy.window = Some(longest);
        }
        policy
    }

    /// Number of tasks that are wanted, where that does not depend on the nodes.
    pub const fn replicas(&self) -> Option<u32> {
        match self.mode {
            Mode::Replicated { replicas } => Some(replicas),
            Mode::Global | Mode::ReplicatedJob { .. } | Mode::GlobalJob => None,
        }
    }
}

/// How many tasks a service has, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Mode {
    /// A replicated service: a fixed number of tasks, on any nodes.
    Replicated {
        /// Number of tasks.
        replicas: u32,
    },
    /// A global service: one task on every node that its placement allows.
    Global,
    /// A replicated job: tasks that run to completion, on any nodes.
    ReplicatedJob {
        /// Tasks that may run at a time; 1 when `None`.
        concurrent_max: Option<u64>,
        /// Tasks that must complete; as many as may run at a time when `None`.
        completions: Option<u64>,
    },
    /// A global job: one task that runs to completion on every node that its placement allows.
    GlobalJob,
}

impl Mode {
    /// Whether tasks run to completion, once in each iteration.
    pub const fn is_job(self) -> bool {
        matches!(self, Self::ReplicatedJob { .. } | Self::GlobalJob)
    }

    /// Whether the slots are nodes.
    pub const fn is_per_node(self) -> bool {
        matches!(self, Self::Global | Self::GlobalJob)
    }

    /// Tasks of a replicated job that may run at a time, and tasks that must complete, with Swarm's defaults; `None`
    /// for every other mode.
    pub fn of_replicated_job(self) -> Option<(u64, u64)> {
        let Self::ReplicatedJob { concurrent_max, completions } = self else { return None };
        let concurrent_max = concurrent_max.unwrap_or(1);
        Some((concurrent_max, completions.unwrap_or(concurrent_max)))
    }
}

/// Description of a service's tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskSpec {
    /// What each task runs.
    pub container: ContainerSpec,
    /// What a task may use, and what is reserved for it.
    pub resources: Option<Resources>,
    /// Whether and when a task that ended is replaced.
    pub restart: Option<RestartPolicy>,
    /// Where tasks may run; on any node when `None`.
    pub placement: Option<Placement>,
    /// Networks that the tasks are attached to.
    pub networks: Vec<NetworkAttachment>,
    /// Where the output of tasks goes; the engine's default when `None`.
    pub log_driver: Option<LogDriver>,
    /// Times that an operator asked for new tasks without any other change.
    pub force_update: u64,
}
record!(TaskSpec { 1: container, resources, restart, placement, networks, log_driver, force_update });

impl TaskSpec {
    /// Tasks of this container with nothing else set.
    pub const fn new(container: ContainerSpec) -> Self {
        Self {
            container,
            resources: None,
            restart: None,
            placement: None,
            networks: Vec::new(),
            log_driver: None,
            force_update: 0,
        }
    }

    /// Where tasks may run; on any node unless set.
    pub fn placement(&self) -> Placement {
        self.placement.clone().unwrap_or_default()
    }

    /// Resources reserved for each task.
    pub fn reservation(&self) -> Share {
        self.resources.as_ref().and_then(|it| it.reservation).unwrap_or_default()
    }

    /// Resources that each task may use at most.
    pub fn limit(&self) -> Share {
        self.resources.as_ref().and_then(|it| it.limit).unwrap_or_default()
    }

    /// Whether and when a task that ended is replaced.
    pub fn restart(&self) -> RestartPolicy {
        self.restart.clone().unwrap_or_default()
    }
}

/// The log driver: where the output of a task goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogDriver {
    /// Name of the driver (`json-file`); the engine's default when `None`.
    pub name: Option<String>,
    /// Options of the driver.
    pub options: Labels,
}
record!(LogDriver { 1: name, options });

/// Whether and when a task that ended is replaced.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RestartPolicy {
    /// Which outcomes of a task lead to its replacement; all of them when `None`.
    pub condition: Option<RestartCondition>,
    /// Delay before the replacement starts; five seconds when `None`.
    pub delay: Option<Duration>,
    /// Failed restarts in a row after which the slot stays empty; no limit when `None` or zero.
    pub max_attempts: Option<u64>,
    /// Time that a task must run for its restart to count as a success, after which attempts are counted anew. When
    /// `None` or zero no restart counts as a success, so all of them count as attempts.
    pub window: Option<Duration>,
}
record!(RestartPolicy { 1: condition, delay, max_attempts, window });

impl RestartPolicy {
    /// Which outcomes of a task lead to its replacement: all of them unless set.
    pub fn condition(&self) -> RestartCondition {
        self.condition.unwrap_or(RestartCondition::Any)
    }

    /// Delay before the replacement starts: five seconds unless set, as in Swarm.
    pub fn delay(&self) -> Duration {
        self.delay.unwrap_or(Duration::from_secs(5))
    }
}

/// Which outcomes of a task lead to its replacement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum RestartCondition {
    /// A task that ended is never replaced.
    None,
    /// A task that failed is replaced.
    OnFailure,
    /// A task that ended is always replaced.
    Any,
}

/// How tasks follow a new spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateConfig {
    /// Slots that are updated at a time; 0 means all.
    pub parallelism: u64,
    /// Delay between two slots.
    pub delay: Duration,
    /// What happens to the update when tasks fail.
    pub failure_action: FailureAction,
    /// Time that a new task is watched for failure; five seconds when `None`.
    pub monitor: Option<Duration>,
    /// Share of tasks that may fail, in millionths.
    pub max_failure_millionths: u32,
    /// Whether the old task ends first or the new one starts first.
    pub order: UpdateOrder,
}
record!(UpdateConfig { 1: parallelism, delay, failure_action, monitor, max_failure_millionths, order });

impl Default for UpdateConfig {
    fn default() -> Self {
        Self {
            parallelism: 1,
            delay: Duration::ZERO,
            failure_action: FailureAction::Pause,
            monitor: None,
            max_failure_millionths: 0,
            order: UpdateOrder::StopFirst,
        }
    }
}

impl UpdateConfig {
    /// Time that a new task is watched before it counts as successful: five seconds unless set.
    pub fn monitor(&self) -> Duration {
        self.monitor.unwrap_or(Duration::from_secs(5))
    }
}

/// What happens to an update when too many tasks fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum FailureAction {
    /// The update pauses until an operator acts.
    Pause,
    /// The update continues with the next slots.
    Continue,
    /// The service is rolled back to its former spec.
    Rollback,
}

/// Order of the old and the new task in an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum UpdateOrder {
    /// The old task ends, then the new one starts.
    StopFirst,
    /// The new task runs, then the old one ends.
    StartFirst,
}

/// Status of a service's last update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateStatus {
    /// Phase of the update.
    pub state: UpdateState,
    /// Time at which the update started.
    pub started_at: Timestamp,
    /// Time at which the update ended; `None` while it goes on.
    pub completed_at: Option<Timestamp>,
    /// Status in Docker's words.
    pub message: String,
}
record!(UpdateStatus { 1: state, started_at, completed_at, message });

/// Phase of an update or a rollback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum UpdateState {
    /// Tasks are being replaced to follow the new spec.
    Updating,
    /// The update paused after failures; an operator must act.
    Paused,
    /// Every task follows the new spec.
    Completed,
    /// Tasks are being replaced to follow the former spec again.
    RollbackStarted,
    /// The rollback paused after failures; an operator must act.
    RollbackPaused,
    /// Every task follows the former spec again.
    RollbackCompleted,
}

/// How a service is reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EndpointSpec {
    /// Whether the service's name resolves to the addresses of its tasks rather than to one address for all of them.
    pub dns_round_robin: bool,
    /// Ports that the service publishes.
    pub ports: Vec<PortConfig>,
}
record!(EndpointSpec { 1: dns_round_robin, ports });

/// A published port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortConfig {
    /// Name of the port.
    pub name: String,
    /// Transport protocol of the port.
    pub protocol: PortProtocol,
    /// Port inside the task.
    pub target: u16,
    /// Port of the cluster; 0 when it is to be chosen.
    pub published: u16,
    /// Whether the port is published on every node or on the task's node only.
    pub mode: PublishMode,
}
record!(PortConfig { 1: name, protocol, target, published, mode });

/// Where a port is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum PublishMode {
    /// The port is published on every node.
    Ingress,
    /// The port is published on the nodes that run a task of the service.
    Host,
}

#[cfg(test)]
essaim_wire::golden_bytes!("service": Mode, RestartCondition, FailureAction, UpdateOrder, UpdateState, PublishMode, Service, JobStatus, ServiceSpec, TaskSpec, LogDriver, RestartPolicy, UpdateConfig, UpdateStatus, EndpointSpec, PortConfig);
