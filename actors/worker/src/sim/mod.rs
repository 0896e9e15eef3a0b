//! A simulated machine and its engine: tasks are values in virtual time.
//!
//! A [`SimMachine`] stands for what survives a daemon: drop every engine made from it, make a new one, and the tasks
//! still exist, as processes under shims would. A test sets what images do ([`Behaviour`]), ends tasks by hand, cuts
//! the power ([`SimMachine::power_off`]), makes the engine hang or go down ([`SimMachine::set_mood`]) or forget a task
//! ([`SimMachine::forget`]), starts the container of an ended task as somebody else would ([`SimMachine::revive`]), and
//! inspects the tasks ([`SimMachine::tasks`]).
//!
//! The inside of a task is not simulated, except that its program answers at every port with the id of its task.
//!
//! - `behaviour`: what the tasks of an image do.
//! - `sockets`: the machine's published ports.
//! - `engine`: the engine on the machine. `lines`: its logs as streams.

mod behaviour;
mod engine;
mod exec;
mod lines;
mod sockets;
#[cfg(test)]
mod tests;

pub use behaviour::Behaviour;
pub use sockets::{SimClient, SimSockets};

use crate::engine::{
    Addresses, Ended, Engine, EngineError, Exit, LogLine, LogStream, Payloads, Phase, Run, Signal, Started,
};
use engine::SimEngine;
use essaim_model::{EngineKind, GenericStock, Hardware, Health, Image, PortKey, TaskId};
use essaim_wire::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::watch;
use tokio::time::Instant;

/// Log lines kept per task: a bound that no test reaches.
const LOG_LINES_MAX: usize = 1000;

/// Time between two pings of the engine, and the patience for each: those of the docker engine.
const PING: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(5));

/// Bytes of one direction of a connection to a task that are on their way at most.
const PIPE_BYTES: usize = 1 << 10;

/// Datagrams of a task that may wait to be received.
const DATAGRAMS_MAX: usize = 64;

/// Numbers from which the engine chooses for ports in host mode for which the service names none.
const HOST_PORTS: RangeInclusive<u16> = 32_768..=60_999;

/// Whether the engine answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mood {
    /// The engine answers.
    #[default]
    Well,
    /// No call is answered until the mood changes. What was asked before happens, and its answer is late.
    Hangs,
    /// As [`Hangs`](Self::Hangs), and pings are not answered either: from the first one on that is not answered in time,
    /// every call fails with [`EngineError::Hangs`].
    HangsAsAWhole,
    /// Every call fails: the engine is being restarted. What was asked before may have happened or not.
    Down,
}

/// A simulated machine, which outlives the daemons on it. Clones are the same machine.
#[derive(Clone)]
pub struct SimMachine {
    shared: Arc<Shared>,
}

struct Shared {
    utc: Box<dyn Fn() -> Timestamp + Send + Sync>,
    inner: Mutex<Inner>,
    /// Counter of changes, which wakes waiting futures to look again.
    changed: watch::Sender<u64>,
    /// Time of the engine's first ping.
    born: Instant,
}

struct Inner {
    kind: EngineKind,
    hardware: Hardware,
    /// Whether a task that starts writes a line.
    greets: bool,
    generic: GenericStock,
    prepare_takes: Duration,
    /// Whether the engine gives tasks a network.
    has_network: bool,
    start_takes: Duration,
    behaviours: BTreeMap<String, Behaviour>,
    tasks: BTreeMap<TaskId, SimTask>,
    next_pid: u32,
    starts: u64,
    /// Number of preparations under way.
    preparing: u32,
    mood: Mood,
    /// Since when the engine has this mood.
    mood_since: Instant,
    /// Images that ended once by [`Behaviour::ExitsOnce`].
    ended_once: BTreeSet<String>,
    /// Number of times that the engine was asked to start each task.
    attempts: BTreeMap<TaskId, u32>,
    /// Tasks about which the engine says nothing until this time, by [`Behaviour::SilentFor`].
    silent: BTreeMap<TaskId, Instant>,
    /// Tasks that [`SimMachine::forget`] removed.
    taken: BTreeSet<TaskId>,
    /// Tasks that [`SimMachine::revive`] started again, and that no engine has told yet.
    revived: BTreeSet<TaskId>,
    /// Tasks to which a connection was made after they were told to end.
    visited_late: BTreeSet<TaskId>,
}

impl Inner {
    fn behaviour(&self, image: &Image) -> Behaviour {
        let whole = image.as_str();
        let name = whole.split_once('@').map_or(whole, |(name, _)| name);
        let found = self.behaviours.get(whole).or_else(|| self.behaviours.get(name));
        found.cloned().unwrap_or(Behaviour::Forever)
    }
}

struct SimTask {
    run: Run,
    payloads: Payloads,
    phase: Phase,
    /// How the task ended before [`SimMachine::revive`] started it again.
    former: Option<Ended>,
    stopping: bool,
    log: VecDeque<LogLine>,
    written: u64,
}

/// A task of the simulated machine, as a test sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimTaskView {
    /// The task as it was prepared.
    pub run: Run,
    /// Payloads of the task's secrets and configs that the machine still has.
    pub payloads: Payloads,
    /// Phase of the task.
    pub phase: Phase,
    /// Whether the task was asked to end.
    pub stopping: bool,
}

impl SimMachine {
    /// A machine with four processors and 8 GiB, on which every program exists and runs until stopped.
    pub fn new(utc: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        let born = Instant::now();
        let inner = Inner {
            kind: EngineKind::Process,
            hardware: Hardware { nano_cpus: 4_000_000_000, memory_bytes: 8 << 30 },
            greets: true,
            generic: GenericStock::default(),
            prepare_takes: Duration::from_millis(2),
            has_network: true,
            start_takes: Duration::from_millis(5),
            behaviours: BTreeMap::new(),
            tasks: BTreeMap::new(),
            next_pid: 100,
            starts: 0,
            preparing: 0,
            mood: Mood::Well,
            mood_since: born,
            ended_once: BTreeSet::new(),
            attempts: BTreeMap::new(),
            silent: BTreeMap::new(),
            taken: BTreeSet::new(),
            revived: BTreeSet::new(),
            visited_late: BTreeSet::new(),
        };
        let shared = Shared { utc: Box::new(utc), inner: Mutex::new(inner), changed: watch::Sender::new(0), born };
        Self { shared: Arc::new(shared) }
    }

    /// An engine on this machine. Each daemon gets one; all of them see the same tasks. It tells of no container that
    /// somebody started before.
    pub fn engine(&self) -> Arc<dyn Engine> {
        self.lock().revived.clear();
        Arc::new(SimEngine { machine: self.clone(), addresses: Addresses::default() })
    }

    /// Number of preparations under way.
    pub fn preparing(&self) -> u32 {
        self.lock().preparing
    }

    /// Sets whether a task that starts writes the line `started`, as it does unless a test sets this.
    pub fn set_greeting(&self, greets: bool) {
        self.lock().greets = greets;
    }

    /// Sets the generic resources that the engine describes.
    pub fn set_generic(&self, generic: GenericStock) {
        self.lock().generic = generic;
    }

    /// Has the engine give tasks no network from now on.
    pub fn take_network(&self) {
        self.lock().has_network = false;
    }

    /// Sets how long preparing and starting a task take.
    pub fn set_delays(&self, prepare: Duration, start: Duration) {
        let mut inner = self.lock();
        (inner.prepare_takes, inner.start_takes) = (prepare, start);
    }

    /// Sets which kind of engine the machine has, from the next start of a daemon on: it decides which settings of a
    /// service are refused.
    pub fn set_kind(&self, kind: EngineKind) {
        self.lock().kind = kind;
    }

    /// Sets the behaviour of tasks of `image` from now on; an image with a digest behaves as the one without, unless it
    /// has a behaviour of its own.
    pub fn behave(&self, image: impl Into<String>, behaviour: Behaviour) {
        self.lock().behaviours.insert(image.into(), behaviour);
    }

    /// Sets whether the engine answers.
    pub fn set_mood(&self, mood: Mood) {
        let before = std::mem::replace(&mut self.lock().mood, mood);
        if before != mood {
            self.lock().mood_since = Instant::now();
        }
        self.touch();
        if before != mood && mood == Mood::HangsAsAWhole {
            let machine = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep_until(machine.found_hanging_at()).await;
                machine.touch();
            });
        }
    }

    /// Time at which an engine that hangs as a whole since its mood changed is found out by its pings.
    fn found_hanging_at(&self) -> Instant {
        let hung_at = self.lock().mood_since.saturating_duration_since(self.shared.born);
        let pings = hung_at.as_nanos().div_ceil(PING.0.as_nanos());
        self.shared.born + PING.0 * u32::try_from(pings).unwrap_or(u32::MAX) + PING.1
    }

    /// The error of every call, once the engine is known to answer none.
    fn silence(&self) -> Option<EngineError> {
        let mood = self.lock().mood;
        match mood {
            Mood::Down => Some(EngineError::Absent("nothing listens at the engine's socket".into())),
            Mood::HangsAsAWhole if Instant::now() >= self.found_hanging_at() => {
                Some(EngineError::Hangs("the engine answers nothing at all".into()))
            }
            _ => None,
        }
    }

    /// Removes a running task from the engine, as somebody does who removes its container by force; the number draws
    /// which one. Returns the task, or `None` when no task runs.
    pub fn forget(&self, draw: u64) -> Option<TaskId> {
        let running = self.running();
        let task = *running.get(usize::try_from(draw % running.len().max(1) as u64).unwrap_or_default())?;
        let mut inner = self.lock();
        inner.tasks.remove(&task);
        inner.taken.insert(task);
        drop(inner);
        self.touch();
        Some(task)
    }

    /// Starts the container of some task again, as somebody does by `docker restart` where the task runs and by `docker
    /// start` where it has ended; the number draws which task. Returns the task, or `None` when there is none, or when
    /// the engine does not answer.
    pub fn restart_container(&self, draw: u64) -> Option<TaskId> {
        let task = {
            let inner = self.lock();
            let was_started = |task: &SimTask| !matches!(task.phase, Phase::Prepared) && !task.stopping;
            let all: Vec<TaskId> =
                inner.tasks.iter().filter(|(_, task)| was_started(task)).map(|(id, _)| *id).collect();
            let place = usize::try_from(draw % all.len().max(1) as u64).unwrap_or_default();
            all.get(place).copied().filter(|_| inner.mood == Mood::Well)?
        };
        // As a program that handles the signal, so that it differs from a task that its worker stops.
        self.end(task, Exit::Code(1));
        self.revive(task).then_some(task)
    }

    /// Running tasks that [`revive`](Self::revive) started.
    pub fn revived(&self) -> BTreeSet<TaskId> {
        let is_revived = |task: &SimTask| task.former.is_some() && matches!(task.phase, Phase::Running(_));
        self.lock().tasks.iter().filter(|(_, task)| is_revived(task)).map(|(id, _)| *id).collect()
    }

    /// Starts an ended task again behind the worker's back, as `docker start` does; false when it has not ended.
    pub fn revive(&self, task: TaskId) -> bool {
        let at = (self.shared.utc)();
        let mut guard = self.lock();
        let inner = &mut *guard;
        let Some(found) = inner.tasks.get_mut(&task) else { return false };
        let Phase::Ended(ended) = found.phase else { return false };
        inner.next_pid += 1;
        (found.phase, found.former) = (Phase::Running(Started::new(Some(inner.next_pid), at)), Some(ended));
        found.stopping = false;
        inner.revived.insert(task);
        drop(guard);
        self.touch();
        true
    }

    /// Tasks that [`forget`](Self::forget) removed.
    pub fn taken(&self) -> BTreeSet<TaskId> {
        self.lock().taken.clone()
    }

    /// Ends a running task with `code`; false when it does not run.
    pub fn exit(&self, task: TaskId, code: i32) -> bool {
        self.end(task, Exit::Code(code))
    }

    /// Ends every running task, as a power cut does; its exit status is lost.
    pub fn power_off(&self) {
        let running: Vec<TaskId> = self.running();
        for task in running {
            self.end(task, Exit::Lost);
        }
    }

    /// Writes a line to the log of the task.
    pub fn write(&self, task: TaskId, stream: LogStream, line: &str) {
        let at = (self.shared.utc)();
        if let Some(found) = self.lock().tasks.get_mut(&task) {
            let nth = found.log.back().filter(|last| last.at == at).map_or(0, |last| last.nth + 1);
            found.log.push_back(LogLine { nth, ..LogLine::new(at, stream, format!("{line}\n").into_bytes()) });
            found.written += 1;
            if found.log.len() > LOG_LINES_MAX {
                found.log.pop_front();
            }
        }
        self.touch();
    }

    /// Every task the machine knows of.
    pub fn tasks(&self) -> BTreeMap<TaskId, SimTaskView> {
        let view = |task: &SimTask| SimTaskView {
            run: task.run.clone(),
            payloads: task.payloads.clone(),
            phase: task.phase,
            stopping: task.stopping,
        };
        self.lock().tasks.iter().map(|(id, task)| (*id, view(task))).collect()
    }

    /// Ids of the running tasks.
    pub fn running(&self) -> Vec<TaskId> {
        let inner = self.lock();
        inner.tasks.iter().filter(|(_, task)| matches!(task.phase, Phase::Running(_))).map(|(id, _)| *id).collect()
    }

    /// Running tasks with the time at which each started.
    pub fn running_since(&self) -> Vec<(TaskId, Timestamp)> {
        let since = |(id, task): (&TaskId, &SimTask)| match task.phase {
            Phase::Running(started) => Some((*id, started.at)),
            _ => None,
        };
        self.lock().tasks.iter().filter_map(since).collect()
    }

    /// Takes the tasks to which a connection was made after they were told to end.
    pub fn take_visited_late(&self) -> BTreeSet<TaskId> {
        std::mem::take(&mut self.lock().visited_late)
    }

    /// Connects to a TCP port of a running task. Its program writes the task's id, and then everything that it is sent,
    /// until the other end writes no more.
    fn visit(&self, task: TaskId) -> Result<DuplexStream, EngineError> {
        self.knock(task).map_err(|_| EngineError::Failed("cannot connect: nobody listens".into()))?;
        let (near, mut far) = duplex(PIPE_BYTES);
        tokio::spawn(async move {
            // It fails when the other end has gone.
            if far.write_all(&task.bits().to_be_bytes()).await.is_ok() {
                let (mut read, mut write) = tokio::io::split(far);
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            }
        });
        Ok(near)
    }

    /// Notes that a connection or a datagram has come to a task; an error when it does not run.
    fn knock(&self, task: TaskId) -> std::io::Result<()> {
        let mut guard = self.lock();
        let inner = &mut *guard;
        match inner.tasks.get(&task) {
            Some(SimTask { phase: Phase::Running(_), stopping, .. }) => {
                if *stopping {
                    inner.visited_late.insert(task);
                }
                Ok(())
            }
            _ => Err(std::io::ErrorKind::ConnectionRefused.into()),
        }
    }

    /// The ports of the machine that the engine publishes itself, in host mode, each with its running task.
    pub fn published(&self) -> Vec<(PortKey, TaskId)> {
        let inner = self.lock();
        let running = inner.tasks.iter().filter(|(_, task)| matches!(task.phase, Phase::Running(_)));
        running.flat_map(|(id, task)| task.run.ports.iter().filter_map(|port| Some((port.key()?, *id)))).collect()
    }

    /// Kind of the machine's engine.
    pub fn kind(&self) -> EngineKind {
        self.lock().kind
    }

    /// Number of times that the engine was asked to start each task.
    pub fn attempts(&self) -> BTreeMap<TaskId, u32> {
        self.lock().attempts.clone()
    }

    /// Whether the engine says nothing about some task at the moment, by [`Behaviour::SilentFor`].
    pub fn is_silent(&self) -> bool {
        self.lock().silent.values().any(|until| *until > Instant::now())
    }

    /// Number of starts since the machine was created; adopting a task is no start.
    pub fn starts(&self) -> u64 {
        self.lock().starts
    }

    fn end(&self, task: TaskId, exit: Exit) -> bool {
        let at = (self.shared.utc)();
        let ended = match self.lock().tasks.get_mut(&task) {
            Some(found) if matches!(found.phase, Phase::Running(_)) => {
                found.phase = Phase::Ended(Ended { exit, at });
                true
            }
            _ => false,
        };
        self.touch();
        ended
    }

    fn behaviour(&self, image: &Image) -> Behaviour {
        self.lock().behaviour(image)
    }

    /// How and when a task of the image that starts now ends by itself.
    fn own_end(&self, image: &Image) -> Option<(Duration, Exit)> {
        match self.behaviour(image) {
            Behaviour::Exits { after, code } => Some((after, Exit::Code(code))),
            Behaviour::ExitsOnce { after, code } => {
                let first = self.lock().ended_once.insert(image.as_str().to_owned());
                first.then_some((after, Exit::Code(code)))
            }
            Behaviour::OutOfMemory(after) => Some((after, Exit::OutOfMemory(128 + Signal::KILL.number()))),
            _ => None,
        }
    }

    fn forget_all_of(&self, task: TaskId) {
        let mut inner = self.lock();
        inner.tasks.remove(&task);
        inner.attempts.remove(&task);
        inner.silent.remove(&task);
        drop(inner);
        self.touch();
    }

    fn note_attempt(&self, task: TaskId) {
        *self.lock().attempts.entry(task).or_default() += 1;
    }

    fn fall_silent(&self, task: TaskId, lasts: Duration) {
        self.lock().silent.insert(task, Instant::now() + lasts);
    }

    /// An error while the engine says nothing about the task.
    fn answers_about(&self, task: TaskId) -> Result<(), EngineError> {
        match self.lock().silent.get(&task) {
            Some(until) if *until > Instant::now() => {
                Err(EngineError::NoAnswer("the engine says nothing of the task".into()))
            }
            _ => Ok(()),
        }
    }

    /// Waits until the engine answers; an error when it is down, or is known to hang.
    async fn answers(&self) -> Result<(), EngineError> {
        let mut changed = self.shared.changed.subscribe();
        loop {
            changed.borrow_and_update();
            if let Some(why) = self.silence() {
                return Err(why);
            }
            if self.lock().mood == Mood::Well {
                return Ok(());
            }
            if changed.changed().await.is_err() {
                return Err(EngineError::Failed("the machine is gone".into()));
            }
        }
    }

    fn set_health(&self, task: TaskId, health: Health) {
        if let Some(SimTask { phase: Phase::Running(started), .. }) = self.lock().tasks.get_mut(&task) {
            started.health = Some(health);
        }
        self.touch();
    }

    fn touch(&self) {
        self.shared.changed.send_modify(|changes| *changes += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.shared.inner.lock()
    }

    /// Waits until the engine is known to answer nothing.
    async fn falls_silent(&self) {
        let mut changed = self.shared.changed.subscribe();
        loop {
            changed.borrow_and_update();
            if self.silence().is_some() {
                return;
            }
            // The sender lives as long as the machine.
            drop(changed.changed().await);
        }
    }

    /// Waits for a task that was started again.
    async fn next_revived(&self) -> TaskId {
        let mut changed = self.shared.changed.subscribe();
        loop {
            changed.borrow_and_update();
            let revived = self.lock().revived.pop_first();
            match revived {
                Some(task) => return task,
                // The sender lives as long as the machine.
                None => drop(changed.changed().await),
            }
        }
    }

    async fn ended(&self, task: TaskId) -> Result<Ended, EngineError> {
        let mut changed = self.shared.changed.subscribe();
        loop {
            changed.borrow_and_update();
            match self.lock().tasks.get(&task).map(|found| found.phase) {
                None => return Err(EngineError::Unknown(task)),
                Some(Phase::Ended(ended)) => return Ok(ended),
                Some(_) => (),
            }
            if changed.changed().await.is_err() {
                return Err(EngineError::Failed("the machine is gone".into()));
            }
        }
    }
}
