//! One task as its engine is told of it: everything is resolved, nothing refers to another object.

use essaim_model::{ContainerSpec, LogDriver, Resources, TaskId};
use essaim_wire::record;
use std::net::IpAddr;

/// One task, ready to be handed to an engine. Engines keep it on disk, so a change here is a new format there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The task.
    pub task: TaskId,
    /// `service.slot.id`, for people.
    pub name: String,
    /// What is run, as the service says it. Its own `env` is part of the `env` below.
    pub container: ContainerSpec,
    /// What the image's name meant when it was resolved; see `Engine::resolve`.
    pub resolved: Option<String>,
    /// The whole environment, in order; a later entry of a name wins.
    pub env: Vec<(String, String)>,
    /// What the task may use.
    pub resources: Resources,
    /// Where its output goes.
    pub log_driver: Option<LogDriver>,
    /// The address that was claimed for it.
    pub address: Option<IpAddr>,
}
record!(Run { 1: task, name, container, resolved, env, resources, log_driver, address });

impl Run {
    /// A task that runs `container` with nothing else set.
    pub fn new(task: TaskId, name: impl Into<String>, container: ContainerSpec) -> Self {
        Self {
            task,
            name: name.into(),
            container,
            resolved: None,
            env: Vec::new(),
            resources: Resources::default(),
            log_driver: None,
            address: None,
        }
    }

    /// The most that the task may use.
    pub fn limits(&self) -> Limits {
        let limit = self.resources.limit.unwrap_or_default();
        Limits { nano_cpus: limit.nano_cpus, memory_bytes: limit.memory_bytes, pids: limit.pids }
    }
}

/// What a task may use at most; zero means no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Processors, in billionths of one.
    pub nano_cpus: u64,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub pids: u64,
}

impl Limits {
    /// Whether anything is limited.
    pub const fn is_none(&self) -> bool {
        self.nano_cpus == 0 && self.memory_bytes == 0 && self.pids == 0
    }
}

#[cfg(test)]
essaim_wire::golden_bytes!("engine-run": Run);
