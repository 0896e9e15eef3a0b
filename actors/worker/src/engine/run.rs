//! One task as its engine gets it: every reference to another object is resolved.

use essaim_model::{ContainerSpec, Labels, LogDriver, Payload, PayloadId, PortConfig, Resources, TaskId};
use essaim_wire::record;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// One task, ready to be given to an engine. Engines store it, so a change here changes their stored format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Id of the task.
    pub task: TaskId,
    /// Name of the task for people: `service.slot.id`.
    pub name: String,
    /// Labels by which Docker marks the container of a task: node, service and task, by name and id.
    pub labels: Labels,
    /// The container as the service specifies it. Its own `env` is part of the `env` below.
    pub container: ContainerSpec,
    /// What the image's name meant when it was resolved; see `Engine::resolve`.
    pub resolved: Option<String>,
    /// Whole environment in order; a later entry of the same name wins.
    pub env: Vec<(String, String)>,
    /// Reservations and limits of the task.
    pub resources: Resources,
    /// Log driver that the service specifies.
    pub log_driver: Option<LogDriver>,
    /// Address that was claimed for the task.
    pub address: Option<IpAddr>,
    /// Ports in host mode. An engine that can publishes them on this machine, those without a number under one of its choice.
    /// An engine that cannot remembers them, each with the number under which this program publishes it.
    pub ports: Vec<PortConfig>,
}
record!(Run { 1: task, name, labels, container, resolved, env, resources, log_driver, address, ports });

impl Run {
    /// A task that runs `container` with nothing else set.
    pub fn new(task: TaskId, name: impl Into<String>, container: ContainerSpec) -> Self {
        Self {
            task,
            name: name.into(),
            labels: Labels::new(),
            container,
            resolved: None,
            env: Vec::new(),
            resources: Resources::default(),
            log_driver: None,
            address: None,
            ports: Vec::new(),
        }
    }

    /// Id of the task's node, which a label names; empty without that label.
    pub fn node(&self) -> &str {
        self.labels.get("com.docker.swarm.node.id").map_or("", String::as_str)
    }

    /// Limits of the task, 0 where nothing is set.
    pub fn limits(&self) -> Limits {
        let limit = self.resources.limit.unwrap_or_default();
        Limits { nano_cpus: limit.nano_cpus, memory_bytes: limit.memory_bytes, pids: limit.pids }
    }
}

/// The payloads of a task's secrets and configs. They are no part of [`Run`], which engines store.
pub type Payloads = BTreeMap<PayloadId, Payload>;

/// Upper bounds on the resources of a task; zero means no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Processors, in units of a billionth of a processor.
    pub nano_cpus: u64,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Number of processes and threads.
    pub pids: u64,
}

impl Limits {
    /// Whether nothing is limited.
    pub const fn is_none(&self) -> bool {
        self.nano_cpus == 0 && self.memory_bytes == 0 && self.pids == 0
    }
}

#[cfg(test)]
essaim_wire::golden_bytes!("engine-run": Run);
