//! What runs a task, seen from the worker: one object-safe trait, and the words it needs.
//!
//! An engine knows tasks by their ids and runs each exactly once: `claim`, `resolve`, `prepare`, `start`, then the task
//! ends by itself or by `stop`, then `remove` forgets it. A task outlives the daemon, so an engine keeps what it must
//! know outside of the process; after a restart `adopt` lists what is there. Every method may be repeated: a worker that
//! lost an answer asks again.
//!
//! An engine deliberately decides nothing: what should run, in which order and for how long to wait is `task::core`'s,
//! and so is what an unhealthy task means. Engines themselves live in `essaim-engines`; the simulated one is `sim`, in
//! this crate. What an engine cannot do with a service is listed in `model::service::support`, where managers look
//! before they accept the service.
//!
//! - [`Run`]: one task as its engine is told of it. [`Progress`]: how a long preparation goes.
//! - [`Interactive`]: exec, attach and dial, for engines that have them.
//! - [`Addresses`]: a pool of addresses, for engines whose tasks get one each.

mod addresses;
mod interactive;
mod log;
mod progress;
mod run;

pub use addresses::Addresses;
pub use essaim_model::{Signal, UnknownSignal};
pub use essaim_protocol::{LogLine, LogStream};
pub use interactive::{Attached, Duplex, Exec, Interactive};
pub use log::LogOptions;
pub use progress::{PROGRESS_LEN_MAX, Progress};
pub use run::{Limits, Run};

use essaim_model::{ContainerId, EngineKind, Hardware, Health, Image, Platform, TaskId};
use essaim_wire::Timestamp;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// Runs tasks. All methods may be repeated, and may be called for several tasks at once.
pub trait Engine: Send + Sync + 'static {
    /// The kind of this engine. A node has at most one of each.
    fn kind(&self) -> EngineKind;

    /// Describes the engine and what the machine has to give. Asked at start and now and then.
    fn describe(&self) -> BoxFuture<'_, Description>;

    /// Finds out what exactly a name of an image means now: a digest, or the path of a program. `None` when the engine
    /// has nothing more exact than the name.
    fn resolve<'a>(&'a self, image: &'a Image) -> BoxFuture<'a, Result<Option<String>, EngineError>>;

    /// Claims an address of `subnet` for the task, before it is prepared; the same again for a task that has one. An
    /// engine whose tasks share the addresses of the machine, or get them elsewhere, claims nothing.
    fn claim(&self, task: TaskId, subnet: Ipv4Addr) -> BoxFuture<'_, Result<Option<IpAddr>, EngineError>> {
        let _ = (task, subnet);
        std::future::ready(Ok(None)).boxed()
    }

    /// Gives back what was claimed for a task that has ended. Nothing claimed: fine.
    fn release(&self, task: TaskId) {
        let _ = task;
    }

    /// Fetches the image and makes everything ready to start; nothing runs yet. Prepared already: fine. How far it is
    /// goes to `progress`. Ends at once when the future is dropped, and leaves nothing behind that `remove` would not
    /// remove: a pull of ten minutes must not hold up a daemon that stops.
    fn prepare<'a>(&'a self, run: &'a Run, progress: &'a Progress) -> BoxFuture<'a, Result<(), EngineError>>;

    /// Starts a prepared task. Started already: says so by the same answer.
    fn start(&self, task: TaskId) -> BoxFuture<'_, Result<Started, EngineError>>;

    /// Watches a started task: how things stand now, then each change, until the task has ended. An error, or an end of
    /// the stream without [`Seen::Ended`], means that the engine lost track of the task, not that the task ended.
    fn observe(&self, task: TaskId) -> BoxStream<'static, Result<Seen, EngineError>>;

    /// Asks the task to end, and kills it with everything it started once `grace` has passed. Returns when it has
    /// ended. Ended already: answers at once.
    fn stop(&self, task: TaskId, signal: Signal, grace: Duration) -> BoxFuture<'_, Result<Ended, EngineError>>;

    /// Forgets the task with its logs; kills it first when it runs. Unknown: fine.
    fn remove(&self, task: TaskId) -> BoxFuture<'_, Result<(), EngineError>>;

    /// Reads what the task wrote, oldest first. With `follow` the stream ends when the task has ended and all is read.
    fn logs(&self, task: TaskId, options: LogOptions) -> BoxStream<'static, Result<LogLine, EngineError>>;

    /// Measures what the task uses now.
    fn stats(&self, task: TaskId) -> BoxFuture<'_, Result<Stats, EngineError>>;

    /// Says how far the task is; `None` when this engine does not know it.
    fn phase(&self, task: TaskId) -> BoxFuture<'_, Result<Option<Phase>, EngineError>>;

    /// Lists every task this engine knows of. After a restart of the daemon this is how its tasks are found again.
    fn adopt(&self) -> BoxFuture<'_, Result<Vec<Adopted>, EngineError>>;

    /// Exec, attach and dial, if this engine has any of them.
    fn interactive(&self) -> Option<&dyn Interactive> {
        None
    }
}

/// What an engine sees of a started task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It runs, and has no health check or none that has passed or failed yet.
    Running,
    /// A health check has passed.
    Healthy,
    /// As many health checks failed in a row as make a task unhealthy. It still runs.
    Unhealthy,
    /// It has ended. Nothing follows.
    Ended(Ended),
}

/// What an engine says of itself and of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Which engine it is.
    pub kind: EngineKind,
    /// Its version, as Docker's `EngineVersion`.
    pub version: String,
    /// What programs the machine can run.
    pub platform: Platform,
    /// What it has to give to tasks.
    pub hardware: Hardware,
}

/// A task runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    /// The process on the host, where there is one.
    pub pid: Option<u32>,
    /// When it started.
    pub at: Timestamp,
    /// The address that was claimed for it, or that it got at its start.
    pub address: Option<IpAddr>,
    /// The container, for engines that have containers.
    pub container: Option<ContainerId>,
    /// How its health checks go; none when it has no health check, be it of the spec or of the image.
    pub health: Option<Health>,
}

impl Started {
    /// A task without address, container and health check.
    pub const fn new(pid: Option<u32>, at: Timestamp) -> Self {
        Self { pid, at, address: None, container: None, health: None }
    }
}

/// A task has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// How.
    pub exit: Exit,
    /// When.
    pub at: Timestamp,
}

/// How a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Nobody was there to see it: the machine, or the task's keeper, went down with it.
    Lost,
}

impl Exit {
    /// The code as shells and Docker show it: 128 + n for a signal. None when nobody saw it.
    pub const fn code(self) -> Option<i32> {
        match self {
            Self::Code(code) => Some(code),
            Self::Signal(signal) => Some(128 + signal),
            Self::Lost => None,
        }
    }

    /// Whether the task did what it was for.
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Code(0))
    }
}

/// A task that an engine knows of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopted {
    /// What it was prepared with.
    pub run: Run,
    /// How far it is.
    pub phase: Phase,
}

/// How far a task is, in the eyes of its engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Ready to start.
    Prepared,
    /// Running.
    Running(Started),
    /// Ended; its logs are still there.
    Ended(Ended),
}

/// What a task uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Processor time used by what runs now.
    pub cpu: Duration,
    /// Resident memory in bytes.
    pub memory_bytes: u64,
    /// How many processes.
    pub processes: u32,
}

/// Why an engine did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The task can never run on this machine as it is written: the program is missing, a setting cannot be had.
    /// Nothing runs. The words are shown to the operator.
    #[error("{0}")]
    Rejected(String),
    /// The machine or the engine failed; another try may work. Whether the task runs is unknown: ask `adopt`.
    #[error("{0}")]
    Failed(String),
    /// This engine knows no such task. Nothing was done.
    #[error("no such task: {0}")]
    Unknown(TaskId),
}
