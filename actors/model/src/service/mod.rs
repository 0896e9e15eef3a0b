//! A service: the wish. How many tasks of what kind, where, and how they follow a change of the wish.
//!
//! Settings that an operator left out stay `None`, so that the API shows a spec as it was given; the methods named
//! after them give the value in force. A spec holds every setting of Swarm, whether or not anything honours it yet:
//! [`support`] says which settings a cluster and an engine do not honour, and they are refused when a service is
//! created or updated.
//!
//! - [`container`]: what one task runs; [`health`], [`mount`], [`reference`] are parts of it.
//! - [`resources`]: what a task may use, and what is set aside for it.
//! - [`support`]: which settings have no effect yet, and the words that refuse them.

pub mod container;
pub mod health;
pub mod mount;
pub mod reference;
pub mod resources;
pub mod support;

pub use container::{
    AppArmor, Capability, ContainerSpec, CredentialSpec, DnsConfig, HostEntry, Image, Isolation, OomScoreAdj,
    Privileges, SeLinux, Seccomp, Ulimit, Variable,
};
pub use health::{HealthCheck, HealthTest, HealthTimes};
pub use mount::{BindOptions, Driver, Mount, MountSource, Mounts, Propagation, TmpfsOptions, VolumeOptions};
pub use reference::{
    ConfigReference, ConfigReferences, ConfigTarget, FileTarget, NetworkAttachment, SecretReference, SecretReferences,
};
pub use resources::{GenericResources, Resources, Share, Swap, Swappiness};

use crate::{EngineKind, Labels, Meta, Name, Placement, ServiceId};
use bincode::{Decode, Encode};
use essaim_wire::record;
use essaim_wire::{Index, Timestamp};
use std::time::Duration;

/// The label that chooses a service's engine.
pub const ENGINE_LABEL: &str = "essaim.engine";

/// The label that says whether the tasks of an unreachable node are replaced at once (`replace`) or only when it is
/// down (`wait`).
pub const ON_UNREACHABLE_LABEL: &str = "essaim.on-unreachable";

/// The label that asks for the old task to be stopped first when its node drains (`stop-first`).
pub const DRAIN_LABEL: &str = "essaim.drain";

/// A wish, and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its identity.
    pub id: ServiceId,
    /// Version and dates.
    pub meta: Meta,
    /// What is wished.
    pub spec: ServiceSpec,
    /// The place in the log where this spec was set. A task names it; see `State::spec`.
    pub spec_version: Index,
    /// What was wished before, and where that was set: the way back.
    pub previous: Option<(Index, ServiceSpec)>,
    /// How the last update goes or went.
    pub update: Option<UpdateStatus>,
}
record!(Service { 1: id, meta, spec, spec_version, previous, update });

impl Service {
    /// Whether the tasks of these two versions of the spec are alike: nothing of what makes a task has changed. Where
    /// they may run is no part of that; see [`same_places`](Self::same_places).
    pub fn same_task(a: &ServiceSpec, b: &ServiceSpec) -> bool {
        let (x, y) = (&a.task, &b.task);
        x.container == y.container
            && x.resources == y.resources
            && x.networks == y.networks
            && x.log_driver == y.log_driver
            && x.force_update == y.force_update
            && a.endpoint == b.endpoint
            && a.engine() == b.engine()
    }

    /// Whether the tasks of these two versions of the spec may run in the same places.
    pub fn same_places(a: &ServiceSpec, b: &ServiceSpec) -> bool {
        a.task.placement() == b.task.placement()
    }
}

/// What an operator wishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSpec {
    /// What it is called; unique.
    pub name: Name,
    /// Free labels; those that begin with `essaim.` have a meaning.
    pub labels: Labels,
    /// What each of its tasks is.
    pub task: TaskSpec,
    /// How many, and where one is due.
    pub mode: Mode,
    /// How its tasks follow a new spec.
    pub update: Option<UpdateConfig>,
    /// How they follow a rollback.
    pub rollback: Option<UpdateConfig>,
    /// How it is reached.
    pub endpoint: Option<EndpointSpec>,
}
record!(ServiceSpec { 1: name, labels, task, mode, update, rollback, endpoint });

impl ServiceSpec {
    /// The engine it asks for, if it asks for one that exists.
    pub fn engine(&self) -> Option<EngineKind> {
        match self.labels.get(ENGINE_LABEL).map(String::as_str) {
            Some("process") => Some(EngineKind::Process),
            Some("docker") => Some(EngineKind::Docker),
            Some("actor") => Some(EngineKind::Actor),
            _ => None,
        }
    }

    /// Whether the tasks of an unreachable node wait for it to be down before they are replaced.
    pub fn waits_for_down(&self) -> bool {
        self.labels.get(ON_UNREACHABLE_LABEL).is_some_and(|value| value == "wait")
    }

    /// Whether a task that moves away from a draining node is stopped before its replacement runs.
    pub fn drains_stop_first(&self) -> bool {
        matches!(self.mode, Mode::Global) || self.labels.get(DRAIN_LABEL).is_some_and(|value| value == "stop-first")
    }

    /// How many tasks are wished, where that does not depend on the nodes.
    pub const fn replicas(&self) -> Option<u32> {
        match self.mode {
            Mode::Replicated { replicas } => Some(replicas),
            Mode::Global | Mode::ReplicatedJob { .. } | Mode::GlobalJob => None,
        }
    }
}

/// How many tasks, and where one is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Mode {
    /// This many, anywhere.
    Replicated {
        /// How many.
        replicas: u32,
    },
    /// One on every node that may have it.
    Global,
    /// A job: tasks that run to completion, anywhere.
    ReplicatedJob {
        /// How many may run at a time; 1 when left out.
        concurrent_max: Option<u64>,
        /// How many must complete; as many as may run at a time when left out.
        completions: Option<u64>,
    },
    /// A job that runs to completion once on every node that may have it.
    GlobalJob,
}

/// What a task is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskSpec {
    /// What is run.
    pub container: ContainerSpec,
    /// What it may use, and what is set aside for it.
    pub resources: Option<Resources>,
    /// Whether and when a task that ended is replaced.
    pub restart: Option<RestartPolicy>,
    /// Where it may run.
    pub placement: Option<Placement>,
    /// The networks it is on.
    pub networks: Vec<NetworkAttachment>,
    /// Where its output goes.
    pub log_driver: Option<LogDriver>,
    /// Counts the times an operator asked for new tasks without changing anything else.
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

    /// Where it may run.
    pub fn placement(&self) -> Placement {
        self.placement.clone().unwrap_or_default()
    }

    /// What is set aside for it.
    pub fn reservation(&self) -> Share {
        self.resources.as_ref().and_then(|it| it.reservation).unwrap_or_default()
    }

    /// What it may use at most.
    pub fn limit(&self) -> Share {
        self.resources.as_ref().and_then(|it| it.limit).unwrap_or_default()
    }

    /// Whether and when a task that ended is replaced.
    pub fn restart(&self) -> RestartPolicy {
        self.restart.clone().unwrap_or_default()
    }
}

/// Where the output of a task goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogDriver {
    /// The driver (`json-file`); the engine's default when left out.
    pub name: Option<String>,
    /// What it is told.
    pub options: Labels,
}
record!(LogDriver { 1: name, options });

/// Whether and when a task that ended is replaced.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RestartPolicy {
    /// After which ends; any when left out.
    pub condition: Option<RestartCondition>,
    /// How long to wait; five seconds when left out.
    pub delay: Option<Duration>,
    /// How many restarts in a row may fail before the task stays ended; any number when left out or zero.
    pub max_attempts: Option<u64>,
    /// How long a task has to run for its restart to have succeeded: the next one begins to count anew. When left out or
    /// zero no restart succeeds, and all of them count.
    pub window: Option<Duration>,
}
record!(RestartPolicy { 1: condition, delay, max_attempts, window });

impl RestartPolicy {
    /// After which ends a task is replaced.
    pub fn condition(&self) -> RestartCondition {
        self.condition.unwrap_or(RestartCondition::Any)
    }

    /// How long to wait before the replacement starts: five seconds unless set, as in Swarm.
    pub fn delay(&self) -> Duration {
        self.delay.unwrap_or(Duration::from_secs(5))
    }
}

/// After which ends a task is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum RestartCondition {
    /// Never.
    None,
    /// When it failed.
    OnFailure,
    /// Always.
    Any,
}

/// How tasks follow a new spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateConfig {
    /// How many at a time; 0 means all.
    pub parallelism: u64,
    /// How long to wait between two.
    pub delay: Duration,
    /// What a failure does to the update.
    pub failure_action: FailureAction,
    /// How long a new task is watched; five seconds when left out.
    pub monitor: Option<Duration>,
    /// What share of tasks may fail, in millionths.
    pub max_failure_millionths: u32,
    /// Which comes first, the end of the old task or the start of the new.
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
    /// How long a new task is watched before it counts as well.
    pub fn monitor(&self) -> Duration {
        self.monitor.unwrap_or(Duration::from_secs(5))
    }
}

/// What a failure does to an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum FailureAction {
    /// The update stops where it is.
    Pause,
    /// It goes on.
    Continue,
    /// It is taken back.
    Rollback,
}

/// Which comes first in an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum UpdateOrder {
    /// The old task ends, then the new one starts.
    StopFirst,
    /// The new task runs, then the old one ends.
    StartFirst,
}

/// How an update goes or went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateStatus {
    /// Where it stands.
    pub state: UpdateState,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// Docker's words for it.
    pub message: String,
}
record!(UpdateStatus { 1: state, started_at, completed_at, message });

/// Where an update stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum UpdateState {
    /// Going on.
    Updating,
    /// Stopped by a failure; an operator must act.
    Paused,
    /// Every task follows the new spec.
    Completed,
    /// Going back.
    RollbackStarted,
    /// Going back was stopped by a failure.
    RollbackPaused,
    /// Every task follows the former spec again.
    RollbackCompleted,
}

/// How a service is reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EndpointSpec {
    /// By a name for each task rather than by one address for all.
    pub dns_round_robin: bool,
    /// The ports it publishes.
    pub ports: Vec<PortConfig>,
}
record!(EndpointSpec { 1: dns_round_robin, ports });

/// A published port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortConfig {
    /// What it is called.
    pub name: String,
    /// Over what.
    pub protocol: PortProtocol,
    /// The port of the task.
    pub target: u16,
    /// The port of the cluster; 0 when one is to be chosen.
    pub published: u16,
    /// On every node, or where the task is.
    pub mode: PublishMode,
}
record!(PortConfig { 1: name, protocol, target, published, mode });

/// Over what a port speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum PortProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// Where a port is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum PublishMode {
    /// On every node.
    Ingress,
    /// On the node of the task.
    Host,
}

#[cfg(test)]
essaim_wire::golden_bytes!("service": Mode, RestartCondition, FailureAction, UpdateOrder, UpdateState, PortProtocol, PublishMode, Service, ServiceSpec, TaskSpec, LogDriver, RestartPolicy, UpdateConfig, UpdateStatus, EndpointSpec, PortConfig);
