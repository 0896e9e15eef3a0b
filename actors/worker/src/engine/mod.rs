//! What runs a task, seen from the worker: one object-safe trait, and the words it needs.
//!
//! An engine knows tasks by their ids and runs each exactly once: `prepare`, `start`, then it ends by itself or by
//! `stop`, then `remove` forgets it. A task outlives the daemon, so an engine keeps what it must know outside of the
//! process; after a restart `adopt` lists what is there. Every method may be repeated: a worker that lost an answer
//! asks again.
//!
//! It deliberately does not decide anything: what should run, in which order and for how long to wait is
//! `task::core`'s. Engines themselves live in `essaim-engines`; the simulated one is `sim`, in this crate.

mod log;
mod run;

pub use essaim_model::{Signal, UnknownSignal};
pub use essaim_protocol::{LogLine, LogStream};
pub use log::LogOptions;
pub use run::{Limits, Run};

use essaim_model::{EngineKind, Hardware, Platform, TaskId};
use essaim_wire::Timestamp;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use std::net::IpAddr;
use std::time::Duration;

/// Runs tasks. All methods may be repeated, and may be called for several tasks at once.
pub trait Engine: Send + Sync + 'static {
    /// Which engine it is.
    fn kind(&self) -> EngineKind;

    /// What it is and what the machine has to give. Asked at start and now and then.
    fn describe(&self) -> BoxFuture<'_, Description>;

    /// Looks for the image and makes everything ready to start; nothing runs yet. Prepared already: fine.
    fn prepare<'a>(&'a self, run: &'a Run) -> BoxFuture<'a, Result<(), EngineError>>;

    /// Starts a prepared task. Started already: says so by the same answer.
    fn start(&self, task: TaskId) -> BoxFuture<'_, Result<Started, EngineError>>;

    /// Waits until a started task has ended, for as long as it takes. Ended already: answers at once.
    fn wait(&self, task: TaskId) -> BoxFuture<'_, Result<Ended, EngineError>>;

    /// Asks the task to end, and kills it with everything it started once `grace` has passed. Returns when it has
    /// ended. Ended already: answers at once.
    fn stop(&self, task: TaskId, signal: Signal, grace: Duration) -> BoxFuture<'_, Result<Ended, EngineError>>;

    /// Forgets the task with its logs; kills it first when it runs. Unknown: fine.
    fn remove(&self, task: TaskId) -> BoxFuture<'_, Result<(), EngineError>>;

    /// What the task wrote, oldest first. With `follow` the stream ends when the task has ended and all is read.
    fn logs(&self, task: TaskId, options: LogOptions) -> BoxStream<'static, Result<LogLine, EngineError>>;

    /// What the task uses now.
    fn stats(&self, task: TaskId) -> BoxFuture<'_, Result<Stats, EngineError>>;

    /// How far the task is; `None` when this engine does not know it.
    fn phase(&self, task: TaskId) -> BoxFuture<'_, Result<Option<Phase>, EngineError>>;

    /// Whether a task that is started now could have this address of the machine: nobody claims it.
    fn is_free(&self, address: IpAddr) -> BoxFuture<'_, bool>;

    /// Every task this engine knows of. After a restart of the daemon this is how its tasks are found again.
    fn adopt(&self) -> BoxFuture<'_, Result<Vec<Adopted>, EngineError>>;
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
