//! The engine seen from the worker: one object-safe trait for what runs tasks, and its vocabulary.
//!
//! An engine knows tasks by their ids and runs each exactly once: `claim`, `resolve`, `prepare`, `start`; then the task
//! ends by itself or by `stop`, and `remove` forgets it. A task outlives the daemon, so an engine keeps what it must
//! know outside of the daemon's process; after a restart, `adopt` lists the tasks. Every method is idempotent: a worker
//! that lost an answer asks again.
//!
//! An engine deliberately decides nothing. What should run, in which order, how long to wait, and what an unhealthy
//! task means are decided by `task::core`. Engines live in `essaim-engines`; the simulated one is `sim`, in this crate.
//! What an engine does not support in a service is listed in `model::service::support`, which managers check before
//! they accept the service.
//!
//! - [`Run`]: one task, as its engine gets it. [`Progress`]: progress of a long preparation.
//! - [`Interactive`]: exec, attach and dial, for engines that support them.
//! - [`Connected`]: a TCP connection to a task, or to a client of it. [`Packets`]: datagrams to and from a task.
//! - [`Addresses`]: a pool of addresses, for engines that give each task one.

mod addresses;
mod connected;
mod interactive;
mod log;
mod packets;
mod progress;
mod run;

pub use addresses::Addresses;
pub use connected::Connected;
pub use essaim_model::{HostPort, Signal, UnknownSignal};
pub use essaim_protocol::{LogLine, LogPlace, LogStream, TerminalSize};
pub use interactive::{Attached, Duplex, Exec, ExecError, Executed, Interactive, Program};
pub use log::LogOptions;
pub(crate) use packets::with_buffer;
pub use packets::{Packets, packets};
pub use progress::Progress;
pub use run::{Limits, Payloads, Run};

use essaim_model::{ContainerId, EngineKind, GenericStock, Hardware, Health, Image, Labels, Platform, Plugin, TaskId};
use essaim_wire::{NodeId, Timestamp};
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

/// An engine runs tasks. All methods are idempotent, and may be called for several tasks at once.
pub trait Engine: Send + Sync + 'static {
    /// The kind of this engine. A node has at most one of each.
    fn kind(&self) -> EngineKind;

    /// Describes the engine and the resources of the machine. Called at start, about once a minute, and every few seconds
    /// while the engine does not answer. An error means that no task can be started now.
    fn describe(&self) -> BoxFuture<'_, Result<Description, EngineError>>;

    /// Resolves the name of an image to what it means now: a digest, or the path of a program. `None` when the engine
    /// has nothing more exact than the name.
    fn resolve<'a>(&'a self, image: &'a Image) -> BoxFuture<'a, Result<Option<String>, EngineError>>;

    /// Claims an address of `subnet` for the task before it is prepared; a task that has one keeps it. An engine whose
    /// tasks share the machine's addresses, or get them elsewhere, claims nothing.
    fn claim(&self, task: TaskId, subnet: Ipv4Addr) -> BoxFuture<'_, Result<Option<IpAddr>, EngineError>> {
        let _ = (task, subnet);
        std::future::ready(Ok(None)).boxed()
    }

    /// Releases the address of a task that has ended, and the files of its secrets and configs. Without any this does
    /// nothing.
    fn release(&self, task: TaskId) {
        let _ = task;
    }

    /// Fetches the image and makes everything ready to start; nothing runs yet. A task that is prepared already stays
    /// so. `payloads` are those of the task's secrets and configs, which are to be written to no disk, and to be gone when
    /// the task has ended ([`release`](Self::release)). The progress goes to `progress`. Dropping the future ends the preparation at once and leaves nothing behind
    /// that `remove` would not remove: a pull of ten minutes must not hold up a daemon that stops.
    fn prepare<'a>(
        &'a self,
        run: &'a Run,
        payloads: &'a Payloads,
        progress: &'a Progress,
    ) -> BoxFuture<'a, Result<(), EngineError>>;

    /// Starts a prepared task. For a task that runs already, returns the same answer as its start did.
    fn start(&self, task: TaskId) -> BoxFuture<'_, Result<Started, EngineError>>;

    /// Watches a started task: yields its present state, then each change, until the task has ended. A task that somebody
    /// has started again meanwhile has ended. An error, or an end of the stream without [`Observation::Ended`], means that
    /// the engine lost track of the task, not that the task ended.
    fn observe(&self, task: TaskId) -> BoxStream<'static, Result<Observation, EngineError>>;

    /// Asks the task to end, kills it with all its processes once `grace` has passed, and returns when it has ended.
    /// For a task that has ended already, returns at once.
    fn stop(&self, task: TaskId, signal: Signal, grace: Duration) -> BoxFuture<'_, Result<Ended, EngineError>>;

    /// Forgets the task with its logs, and kills it first when it runs. An unknown task is no error.
    fn remove(&self, task: TaskId) -> BoxFuture<'_, Result<(), EngineError>>;

    /// Reads the task's log, oldest line first. The times of the lines never go back, and lines of one time are counted
    /// (`LogLine::nth`), at least from the first one that this read yields. With `follow`, the stream ends when the task has ended and all lines
    /// are read.
    fn logs(&self, task: TaskId, options: LogOptions) -> BoxStream<'static, Result<LogLine, EngineError>>;

    /// Measures the resources that the task uses now.
    fn stats(&self, task: TaskId) -> BoxFuture<'_, Result<Stats, EngineError>>;

    /// The phase of a task; `None` when this engine does not know the task.
    fn phase(&self, task: TaskId) -> BoxFuture<'_, Result<Option<Phase>, EngineError>>;

    /// Lists every task of node `node` that this engine knows. After a restart of the daemon, its tasks are found again
    /// by this list. An engine that several nodes share tells their tasks apart by the node's id.
    fn adopt(&self, node: NodeId) -> BoxFuture<'_, Result<Vec<Adopted>, EngineError>>;

    /// Resolves when the engine has noticed by itself that it does not answer, or answered no more a moment ago. An engine
    /// that cannot notice it never does; tasks whose calls stay without an answer show it as well.
    fn silence(&self) -> BoxFuture<'_, ()> {
        std::future::pending().boxed()
    }

    /// Resolves with a task that was started by somebody else than this worker, as `docker start` and `docker restart` do
    /// with the container of a task, ended or not. An engine that cannot notice it never does. A start may be named that was
    /// none, so the worker asks for the task's phase.
    fn revived(&self) -> BoxFuture<'_, TaskId> {
        std::future::pending().boxed()
    }

    /// The ports in host mode of a started task, with the numbers under which they are published.
    fn host_ports(&self, task: TaskId) -> BoxFuture<'_, Result<Vec<HostPort>, EngineError>> {
        let _ = task;
        std::future::ready(Ok(Vec::new())).boxed()
    }

    /// Exec, attach and dial, if this engine supports any of them.
    fn interactive(&self) -> Option<&dyn Interactive> {
        None
    }
}

/// What an engine observes of a started task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observation {
    /// The task runs, and has no health check or none that has passed or failed yet.
    Running,
    /// A health check of the task has passed.
    Healthy,
    /// As many consecutive health checks failed as make the task unhealthy. The task still runs.
    Unhealthy,
    /// The task has ended; this is the last observation.
    Ended(Ended),
}

/// An engine's description of itself and of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Kind of the engine.
    pub kind: EngineKind,
    /// Version of the engine, shown as Docker's `EngineVersion`.
    pub version: String,
    /// Operating system and architecture of programs that the machine can run.
    pub platform: Platform,
    /// Resources that the machine has for tasks.
    pub hardware: Hardware,
    /// Labels of the engine, which constraints match as `engine.labels.…`.
    pub labels: Labels,
    /// Plugins of the engine; empty when it has none, or does not tell.
    pub plugins: BTreeSet<Plugin>,
    /// Generic resources that the engine's own configuration states.
    pub generic: GenericStock,
    /// Folder in which the engine keeps what its tasks write, if it has one of its own.
    pub root: Option<PathBuf>,
    /// Whether the engine is part of a Docker swarm of its own.
    pub in_swarm: bool,
}

/// A started task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    /// Process id on the host, if the engine has one.
    pub pid: Option<u32>,
    /// Time at which the task started.
    pub at: Timestamp,
    /// Address that was claimed for the task, or that it got at its start.
    pub address: Option<IpAddr>,
    /// Container of the task, for engines that have containers.
    pub container: Option<ContainerId>,
    /// State of the health check; none when neither the spec nor the image has a health check.
    pub health: Option<Health>,
}

impl Started {
    /// A started task without address, container and health check.
    pub const fn new(pid: Option<u32>, at: Timestamp) -> Self {
        Self { pid, at, address: None, container: None, health: None }
    }
}

/// A task that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// How the task ended.
    pub exit: Exit,
    /// Time at which the task ended.
    pub at: Timestamp,
}

/// How a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The task exited by itself with this code.
    Code(i32),
    /// The task was killed by this signal.
    Signal(i32),
    /// A process of the task was killed because the task, or the machine, had no memory left; the task exited with this
    /// code.
    OutOfMemory(i32),
    /// The exit status is unknown: the machine, or the task's shim, went down together with the task.
    Lost,
}

impl Exit {
    /// Exit code as shells and Docker show it: 128 + n for a signal. None when the exit status is unknown.
    pub const fn code(self) -> Option<i32> {
        match self {
            Self::Code(code) | Self::OutOfMemory(code) => Some(code),
            Self::Signal(signal) => Some(128 + signal),
            Self::Lost => None,
        }
    }

    /// Whether the task exited with code 0.
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Code(0))
    }
}

/// A task that an engine knows, found after a restart of the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopted {
    /// Id of the task.
    pub task: TaskId,
    /// Name of the task for people, as in [`Run::name`].
    pub name: String,
    /// Phase of the task.
    pub phase: Phase,
}

/// Phase of a task as its engine knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The task is ready to start.
    Prepared,
    /// The task runs.
    Running(Started),
    /// The task has ended; its logs still exist.
    Ended(Ended),
}

/// Resources that a task uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Processor time used by the processes that run now.
    pub cpu: Duration,
    /// Resident memory in bytes.
    pub memory_bytes: u64,
    /// Number of processes.
    pub processes: u32,
}

/// Why an operation of an engine failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The task can never run on this machine as specified: for example, the program is missing or a setting is not
    /// supported. Nothing runs. The text is shown to the operator.
    #[error("{0}")]
    Rejected(String),
    /// The engine answered that it, or the machine, failed. A start that failed in this way has started nothing.
    #[error("{0}")]
    Failed(String),
    /// The engine did not answer: it hangs, or went away meanwhile. Whether the operation happened is unknown. Ask again:
    /// the worker does so with a growing back-off, and gives the task up when its patience ends.
    #[error("{0}")]
    NoAnswer(String),
    /// The engine answers nothing at all: not even the question whether it is there, within seconds. Whether the operation
    /// happened is unknown. Ask again; the worker has less patience than with an engine that is slow to answer one question.
    #[error("{0}")]
    Hangs(String),
    /// Nobody listens at the engine's socket: the engine is gone, or is being restarted. Whether an earlier step of the
    /// operation happened is unknown. Ask again; the worker has less patience than with an engine that hangs.
    #[error("{0}")]
    Absent(String),
    /// This engine knows no such task. Nothing was done.
    #[error("no such task: {0}")]
    Unknown(TaskId),
}

impl EngineError {
    /// Whether the engine said nothing.
    pub const fn is_silence(&self) -> bool {
        matches!(self, Self::NoAnswer(_) | Self::Hangs(_) | Self::Absent(_))
    }
}
