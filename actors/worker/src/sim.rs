//! A simulated machine and its engine: tasks are values in virtual time.
//!
//! A [`SimMachine`] stands for what survives a daemon: drop every engine made from it, make a new one, and the tasks
//! are still there, as processes under their shims would be. A test tells what images do ([`Behaviour`]), ends tasks
//! by hand, pulls the plug ([`SimMachine::power_off`]), and looks at what runs ([`SimMachine::tasks`]).
//!
//! It does not simulate what happens inside of a task.

use crate::engine::{
    Adopted, Description, Ended, Engine, EngineError, Exit, LogLine, LogOptions, LogStream, Phase, Run, Signal,
    Started, Stats,
};
use essaim_model::{EngineKind, Hardware, Platform, TaskId};
use essaim_wire::Timestamp;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How many lines of a task are kept: enough for any test, and a bound.
const LOG_LINES_MAX: usize = 1000;

/// What tasks of an image do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behaviour {
    /// Run until stopped, and end at once when asked.
    Forever,
    /// End by themselves.
    Exits {
        /// So long after the start.
        after: Duration,
        /// With this code.
        code: i32,
    },
    /// Run until killed: a stop takes the whole grace.
    IgnoresStop,
    /// There is no such program.
    Missing,
    /// The engine fails to start it.
    FailsToStart,
}

/// A machine that outlives the daemons on it. Clones are the same machine.
#[derive(Clone)]
pub struct SimMachine {
    shared: Arc<Shared>,
}

struct Shared {
    utc: Box<dyn Fn() -> Timestamp + Send + Sync>,
    inner: Mutex<Inner>,
    /// Counts changes, so that whoever waits looks again.
    changed: watch::Sender<u64>,
}

struct Inner {
    hardware: Hardware,
    prepare_takes: Duration,
    start_takes: Duration,
    behaviours: BTreeMap<String, Behaviour>,
    tasks: BTreeMap<TaskId, SimTask>,
    next_pid: u32,
    starts: u64,
}

struct SimTask {
    run: Run,
    phase: Phase,
    stopping: bool,
    log: VecDeque<LogLine>,
    written: u64,
}

/// A task of the machine, as a test sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimTaskView {
    /// What it was prepared with.
    pub run: Run,
    /// How far it is.
    pub phase: Phase,
    /// It was asked to end.
    pub stopping: bool,
}

impl SimMachine {
    /// A machine with four processors and 8 GiB, on which every program exists and runs until stopped.
    pub fn new(utc: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        let inner = Inner {
            hardware: Hardware { nano_cpus: 4_000_000_000, memory_bytes: 8 << 30 },
            prepare_takes: Duration::from_millis(2),
            start_takes: Duration::from_millis(5),
            behaviours: BTreeMap::new(),
            tasks: BTreeMap::new(),
            next_pid: 100,
            starts: 0,
        };
        let shared = Shared { utc: Box::new(utc), inner: Mutex::new(inner), changed: watch::Sender::new(0) };
        Self { shared: Arc::new(shared) }
    }

    /// An engine on this machine. One per daemon; they all see the same tasks.
    pub fn engine(&self) -> Arc<dyn Engine> {
        Arc::new(SimEngine { machine: self.clone() })
    }

    /// What it has to give.
    pub fn set_hardware(&self, hardware: Hardware) {
        self.lock().hardware = hardware;
    }

    /// How long preparing and starting a task take.
    pub fn set_delays(&self, prepare: Duration, start: Duration) {
        let mut inner = self.lock();
        (inner.prepare_takes, inner.start_takes) = (prepare, start);
    }

    /// What tasks of `image` do from now on.
    pub fn behave(&self, image: impl Into<String>, behaviour: Behaviour) {
        self.lock().behaviours.insert(image.into(), behaviour);
    }

    /// Ends a running task with `code`; false when it does not run.
    pub fn exit(&self, task: TaskId, code: i32) -> bool {
        self.end(task, Exit::Code(code))
    }

    /// Everything that ran is gone, as after a power cut.
    pub fn power_off(&self) {
        let running: Vec<TaskId> = self.running();
        for task in running {
            self.end(task, Exit::Lost);
        }
    }

    /// Writes a line as the task.
    pub fn write(&self, task: TaskId, stream: LogStream, line: &str) {
        let at = (self.shared.utc)();
        if let Some(found) = self.lock().tasks.get_mut(&task) {
            found.log.push_back(LogLine { at, stream, bytes: format!("{line}\n").into_bytes() });
            found.written += 1;
            if found.log.len() > LOG_LINES_MAX {
                found.log.pop_front();
            }
        }
        self.touch();
    }

    /// Every task the machine knows of.
    pub fn tasks(&self) -> BTreeMap<TaskId, SimTaskView> {
        let view = |task: &SimTask| SimTaskView { run: task.run.clone(), phase: task.phase, stopping: task.stopping };
        self.lock().tasks.iter().map(|(id, task)| (*id, view(task))).collect()
    }

    /// The tasks that run.
    pub fn running(&self) -> Vec<TaskId> {
        let inner = self.lock();
        inner.tasks.iter().filter(|(_, task)| matches!(task.phase, Phase::Running(_))).map(|(id, _)| *id).collect()
    }

    /// Since when each task runs that does.
    pub fn running_since(&self) -> Vec<(TaskId, Timestamp)> {
        let since = |(id, task): (&TaskId, &SimTask)| match task.phase {
            Phase::Running(started) => Some((*id, started.at)),
            _ => None,
        };
        self.lock().tasks.iter().filter_map(since).collect()
    }

    /// How many tasks were ever started: an adopted one is not started again.
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

    fn touch(&self) {
        self.shared.changed.send_modify(|changes| *changes += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.shared.inner.lock()
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

struct SimEngine {
    machine: SimMachine,
}

impl Engine for SimEngine {
    fn kind(&self) -> EngineKind {
        EngineKind::Process
    }

    fn describe(&self) -> BoxFuture<'_, Description> {
        let description = Description {
            kind: EngineKind::Process,
            version: "simulated".into(),
            platform: Platform { architecture: "x86_64".into(), os: "linux".into() },
            hardware: self.machine.lock().hardware,
        };
        async move { description }.boxed()
    }

    fn prepare<'a>(&'a self, run: &'a Run) -> BoxFuture<'a, Result<(), EngineError>> {
        async move {
            let takes = self.machine.lock().prepare_takes;
            tokio::time::sleep(takes).await;
            let mut inner = self.machine.lock();
            if inner.behaviours.get(&run.image) == Some(&Behaviour::Missing) {
                return Err(EngineError::Rejected(format!("No such image: {}", run.image)));
            }
            inner.tasks.entry(run.task).or_insert_with(|| SimTask {
                run: run.clone(),
                phase: Phase::Prepared,
                stopping: false,
                log: VecDeque::new(),
                written: 0,
            });
            Ok(())
        }
        .boxed()
    }

    fn start(&self, task: TaskId) -> BoxFuture<'_, Result<Started, EngineError>> {
        async move {
            let takes = self.machine.lock().start_takes;
            tokio::time::sleep(takes).await;
            let at = (self.machine.shared.utc)();
            let (started, behaviour) = {
                let mut guard = self.machine.lock();
                let inner = &mut *guard;
                let Some(found) = inner.tasks.get_mut(&task) else { return Err(EngineError::Unknown(task)) };
                match found.phase {
                    Phase::Running(started) => return Ok(started),
                    Phase::Ended(ended) => return Ok(Started { pid: None, at: ended.at }),
                    Phase::Prepared => (),
                }
                let behaviour = inner.behaviours.get(&found.run.image).cloned().unwrap_or(Behaviour::Forever);
                if behaviour == Behaviour::FailsToStart {
                    return Err(EngineError::Failed("the engine could not start it".into()));
                }
                let started = Started { pid: Some(inner.next_pid), at };
                inner.next_pid += 1;
                inner.starts += 1;
                found.phase = Phase::Running(started);
                (started, behaviour)
            };
            self.machine.touch();
            self.machine.write(task, LogStream::Stdout, "started");
            if let Behaviour::Exits { after, code } = behaviour {
                let machine = self.machine.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(after).await;
                    machine.exit(task, code);
                });
            }
            Ok(started)
        }
        .boxed()
    }

    fn wait(&self, task: TaskId) -> BoxFuture<'_, Result<Ended, EngineError>> {
        self.machine.ended(task).boxed()
    }

    fn stop(&self, task: TaskId, signal: Signal, grace: Duration) -> BoxFuture<'_, Result<Ended, EngineError>> {
        async move {
            let (first, takes, exit) = {
                let mut guard = self.machine.lock();
                let inner = &mut *guard;
                let Some(found) = inner.tasks.get_mut(&task) else { return Err(EngineError::Unknown(task)) };
                if matches!(found.phase, Phase::Prepared) {
                    let ended = Ended { exit: Exit::Lost, at: (self.machine.shared.utc)() };
                    found.phase = Phase::Ended(ended);
                    return Ok(ended);
                }
                let first = !found.stopping;
                found.stopping = true;
                match inner.behaviours.get(&found.run.image) {
                    Some(Behaviour::IgnoresStop) => (first, grace, Exit::Signal(Signal::KILL.number())),
                    _ => (first, Duration::from_millis(3).min(grace), Exit::Signal(signal.number())),
                }
            };
            if first {
                // Once signalled it ends, whether or not the daemon lives to see it.
                let machine = self.machine.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(takes).await;
                    machine.end(task, exit);
                });
            }
            self.machine.ended(task).await
        }
        .boxed()
    }

    fn remove(&self, task: TaskId) -> BoxFuture<'_, Result<(), EngineError>> {
        self.machine.lock().tasks.remove(&task);
        self.machine.touch();
        async { Ok(()) }.boxed()
    }

    fn logs(&self, task: TaskId, options: LogOptions) -> BoxStream<'static, Result<LogLine, EngineError>> {
        let machine = self.machine.clone();
        let mut changed = machine.shared.changed.subscribe();
        let mut pending: VecDeque<LogLine> = VecDeque::new();
        let mut read: Option<u64> = None;
        let lines = async_lines(move |known: bool| {
            changed.borrow_and_update();
            let inner = machine.lock();
            let Some(found) = inner.tasks.get(&task) else {
                return if known { Look::End } else { Look::Unknown };
            };
            let oldest = found.written - found.log.len() as u64;
            let from = read.unwrap_or(oldest).max(oldest);
            let wanted = |line: &&LogLine| options.wants(line);
            pending.extend(found.log.iter().skip((from - oldest) as usize).filter(wanted).cloned());
            if let (None, Some(tail)) = (read, options.tail) {
                let surplus = pending.len().saturating_sub(usize::try_from(tail).unwrap_or(usize::MAX));
                pending.drain(..surplus);
            }
            read = Some(found.written);
            match pending.pop_front() {
                Some(line) => {
                    read = Some(found.written);
                    Look::Line(line)
                }
                None if options.follow && !matches!(found.phase, Phase::Ended(_)) => Look::Wait(changed.clone()),
                None => Look::End,
            }
        });
        lines.map(move |line| line.ok_or(EngineError::Unknown(task))).boxed()
    }

    fn stats(&self, task: TaskId) -> BoxFuture<'_, Result<Stats, EngineError>> {
        let found = match self.machine.lock().tasks.get(&task).map(|found| found.phase) {
            None => Err(EngineError::Unknown(task)),
            Some(Phase::Running(_)) => Ok(Stats { cpu: Duration::from_millis(1), memory_bytes: 1 << 20, processes: 1 }),
            Some(_) => Ok(Stats::default()),
        };
        async move { found }.boxed()
    }

    fn phase(&self, task: TaskId) -> BoxFuture<'_, Result<Option<Phase>, EngineError>> {
        let phase = self.machine.lock().tasks.get(&task).map(|found| found.phase);
        async move { Ok(phase) }.boxed()
    }

    fn is_free(&self, address: IpAddr) -> BoxFuture<'_, bool> {
        let claims = |task: &SimTask| task.run.address == Some(address) && !matches!(task.phase, Phase::Ended(_));
        let free = !self.machine.lock().tasks.values().any(claims);
        async move { free }.boxed()
    }

    fn adopt(&self) -> BoxFuture<'_, Result<Vec<Adopted>, EngineError>> {
        let adopted = |task: &SimTask| Adopted { run: task.run.clone(), phase: task.phase };
        let all = self.machine.lock().tasks.values().map(adopted).collect();
        async move { Ok(all) }.boxed()
    }
}

/// What a look at a log yields.
enum Look {
    Line(LogLine),
    Wait(watch::Receiver<u64>),
    Unknown,
    End,
}

/// Turns looks into a stream; an item of `None` says that the task is unknown.
fn async_lines(look: impl FnMut(bool) -> Look + Send + 'static) -> impl futures::Stream<Item = Option<LogLine>> + Send {
    futures::stream::unfold(Some((look, false)), |state| async move {
        let (mut look, known) = state?;
        loop {
            match look(known) {
                Look::Line(line) => return Some((Some(line), Some((look, true)))),
                Look::Unknown => return Some((None, None)),
                Look::End => return None,
                Look::Wait(mut changed) => {
                    if changed.changed().await.is_err() {
                        return None;
                    }
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(bits: u128, image: &str) -> Run {
        Run {
            task: TaskId::from_bits(bits),
            name: format!("web.{bits}"),
            image: image.into(),
            command: vec![],
            args: vec![],
            env: vec![],
            dir: None,
            user: None,
            limits: crate::engine::Limits::default(),
            address: None,
        }
    }

    fn machine() -> SimMachine {
        SimMachine::new(|| Timestamp::from_micros(7))
    }

    async fn started(engine: &Arc<dyn Engine>, bits: u128, image: &str) -> TaskId {
        engine.prepare(&run(bits, image)).await.unwrap();
        engine.start(TaskId::from_bits(bits)).await.unwrap();
        TaskId::from_bits(bits)
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_outlives_the_engine_that_started_it() {
        let machine = machine();
        let task = started(&machine.engine(), 1, "web").await;
        let found = machine.engine().adopt().await.unwrap();
        assert_eq!(found.len(), 1);
        assert!(matches!(found[0].phase, Phase::Running(_)));
        machine.exit(task, 3);
        assert_eq!(machine.engine().wait(task).await.unwrap().exit, Exit::Code(3));
        assert_eq!(machine.starts(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn images_do_what_they_were_told() {
        let machine = machine();
        machine.behave("job", Behaviour::Exits { after: Duration::from_secs(60), code: 0 });
        machine.behave("stubborn", Behaviour::IgnoresStop);
        machine.behave("ghost", Behaviour::Missing);
        machine.behave("broken", Behaviour::FailsToStart);
        let engine = machine.engine();
        let job = started(&engine, 1, "job").await;
        assert_eq!(engine.wait(job).await.unwrap().exit, Exit::Code(0));
        let stubborn = started(&engine, 2, "stubborn").await;
        let ended = engine.stop(stubborn, Signal::TERM, Duration::from_secs(10)).await.unwrap();
        assert_eq!(ended.exit, Exit::Signal(9));
        assert_eq!(engine.prepare(&run(3, "ghost")).await, Err(EngineError::Rejected("No such image: ghost".into())));
        engine.prepare(&run(4, "broken")).await.unwrap();
        assert!(matches!(engine.start(TaskId::from_bits(4)).await, Err(EngineError::Failed(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_followed_log_ends_with_its_task() {
        let machine = machine();
        let engine = machine.engine();
        let task = started(&engine, 1, "web").await;
        machine.write(task, LogStream::Stderr, "careful");
        let options = LogOptions { follow: true, ..LogOptions::default() };
        let (lines, ()) = tokio::join!(engine.logs(task, options).collect::<Vec<_>>(), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            machine.write(task, LogStream::Stdout, "bye");
            machine.exit(task, 0);
        });
        let texts: Vec<_> = lines.into_iter().map(|line| String::from_utf8(line.unwrap().bytes).unwrap()).collect();
        assert_eq!(texts, ["started\n", "careful\n", "bye\n"]);
    }
}
