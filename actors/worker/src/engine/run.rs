//! What an engine needs to know to run one task: everything is resolved, nothing refers to another object.

use bincode::{Decode, Encode};
use essaim_model::TaskId;
use std::net::IpAddr;

/// One task, ready to be handed to an engine. Engines keep it on disk, so a change here is a new format there.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Run {
    /// The task.
    pub task: TaskId,
    /// `service.slot.id`, for people.
    pub name: String,
    /// The image: for the process engine, a program of the host.
    pub image: String,
    /// Overrides the program (Docker's entrypoint) when not empty.
    pub command: Vec<String>,
    /// The arguments.
    pub args: Vec<String>,
    /// The environment, in order; a later entry of a name wins.
    pub env: Vec<(String, String)>,
    /// The working directory.
    pub dir: Option<String>,
    /// Whom it runs as: a name or number, maybe with `:group`.
    pub user: Option<String>,
    /// What it may use.
    pub limits: Limits,
    /// The address that was claimed for it.
    pub address: Option<IpAddr>,
}

/// What a task may use at most; zero means no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
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
