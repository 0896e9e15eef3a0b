//! A simulated machine and its engine: tasks are values in virtual time.
//!
//! A [`SimMachine`] stands for what survives a daemon: drop every engine made from it, make a new one, and the tasks
//! still exist, as processes under shims would. A test sets what images do ([`Behaviour`]), ends tasks by hand, cuts
//! the power ([`SimMachine::power_off`]), and inspects the tasks ([`SimMachine::tasks`]).
//!
//! The inside of a task is not simulated.

use crate::engine::{
    Addresses, Adopted, Description, Ended, Engine, EngineError, Exit, LogLine, LogOptions, LogStream, Observation,
    Phase, Progress, Run, Signal, Started, Stats,
};
use essaim_model::{EngineKind, GenericStock, Hardware, Health, Image, Labels, Platform, TaskId};
use essaim_wire::{NodeId, Timestamp};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Log lines kept per task: a bound that no test reaches.
const LOG_LINES_MAX: usize = 1000;

/// Behaviour of the tasks of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behaviour {
    /// The task runs until stopped, and ends at once when asked.
    Forever,
    /// The task ends by itself.
    Exits {
        /// Time from the start to the end.
        after: Duration,
        /// Exit code of the task.
        code: i32,
    },
    /// The task ignores the stop signal and runs until killed: a stop takes the whole grace.
    IgnoresStop,
    /// The program does not exist, so the task is rejected.
    Missing,
    /// The engine fails to start the task.
    FailsToStart,
    /// The task runs until stopped, after a preparation of this length that reports progress each second.
    Pulls(Duration),
    /// The task runs until stopped, with a health check.
    Checked {
        /// Time from the start until the health check passes.
        healthy_after: Duration,
        /// Time from the start until the health check fails for good; none means never.
        unhealthy_after: Option<Duration>,
    },
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
}

struct Inner {
    hardware: Hardware,
    prepare_takes: Duration,
    start_takes: Duration,
    behaviours: BTreeMap<String, Behaviour>,
    tasks: BTreeMap<TaskId, SimTask>,
    next_pid: u32,
    starts: u64,
    /// Number of preparations under way.
    preparing: u32,
}

struct SimTask {
    run: Run,
    phase: Phase,
    stopping: bool,
    log: VecDeque<LogLine>,
    written: u64,
}

/// A task of the simulated machine, as a test sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimTaskView {
    /// The task as it was prepared.
    pub run: Run,
    /// Phase of the task.
    pub phase: Phase,
    /// Whether the task was asked to end.
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
            preparing: 0,
        };
        let shared = Shared { utc: Box::new(utc), inner: Mutex::new(inner), changed: watch::Sender::new(0) };
        Self { shared: Arc::new(shared) }
    }

    /// An engine on this machine. Each daemon gets one; all of them see the same tasks.
    pub fn engine(&self) -> Arc<dyn Engine> {
        Arc::new(SimEngine { machine: self.clone(), addresses: Addresses::default() })
    }

    /// Number of preparations under way.
    pub fn preparing(&self) -> u32 {
        self.lock().preparing
    }

    /// Sets how long preparing and starting a task take.
    pub fn set_delays(&self, prepare: Duration, start: Duration) {
        let mut inner = self.lock();
        (inner.prepare_takes, inner.start_takes) = (prepare, start);
    }

    /// Sets the behaviour of tasks of `image` from now on.
    pub fn behave(&self, image: impl Into<String>, behaviour: Behaviour) {
        self.lock().behaviours.insert(image.into(), behaviour);
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
        let view = |task: &SimTask| SimTaskView { run: task.run.clone(), phase: task.phase, stopping: task.stopping };
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

    fn behaviour(&self, image: &Image) -> Option<Behaviour> {
        self.lock().behaviours.get(image.as_str()).cloned()
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
    addresses: Addresses,
}

/// Guard that counts a preparation for as long as its future lives.
struct Preparing<'a>(&'a SimMachine);

impl<'a> Preparing<'a> {
    fn begin(machine: &'a SimMachine) -> Self {
        machine.lock().preparing += 1;
        Self(machine)
    }
}

impl Drop for Preparing<'_> {
    fn drop(&mut self) {
        self.0.lock().preparing -= 1;
    }
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
            labels: Labels::new(),
            plugins: BTreeSet::new(),
            generic: GenericStock::default(),
        };
        async move { description }.boxed()
    }

    fn resolve<'a>(&'a self, _: &'a Image) -> BoxFuture<'a, Result<Option<String>, EngineError>> {
        async { Ok(None) }.boxed()
    }

    fn claim(&self, task: TaskId, subnet: Ipv4Addr) -> BoxFuture<'_, Result<Option<IpAddr>, EngineError>> {
        let claimed = |address: Ipv4Addr| {
            let claims =
                |task: &SimTask| task.run.address == Some(address.into()) && !matches!(task.phase, Phase::Ended(_));
            self.machine.lock().tasks.values().any(claims)
        };
        let claim = self.addresses.claim(task, subnet, |address| !claimed(address)).map(Some);
        async move { claim }.boxed()
    }

    fn release(&self, task: TaskId) {
        self.addresses.release(task);
    }

    fn prepare<'a>(&'a self, run: &'a Run, progress: &'a Progress) -> BoxFuture<'a, Result<(), EngineError>> {
        async move {
            let _preparing = Preparing::begin(&self.machine);
            let takes = self.machine.lock().prepare_takes;
            tokio::time::sleep(takes).await;
            let pulls = match self.machine.behaviour(&run.container.image) {
                Some(Behaviour::Pulls(takes)) => takes,
                _ => Duration::ZERO,
            };
            for second in 1..=pulls.as_secs() {
                progress.say(&format!("pulling {}: {second} of {} s", run.container.image, pulls.as_secs()));
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            tokio::time::sleep(Duration::from_nanos(u64::from(pulls.subsec_nanos()))).await;
            let mut inner = self.machine.lock();
            if inner.behaviours.get(run.container.image.as_str()) == Some(&Behaviour::Missing) {
                return Err(EngineError::Rejected(format!("No such image: {}", run.container.image)));
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
                    Phase::Ended(ended) => return Ok(Started::new(None, ended.at)),
                    Phase::Prepared => (),
                }
                let behaviour =
                    inner.behaviours.get(found.run.container.image.as_str()).cloned().unwrap_or(Behaviour::Forever);
                if behaviour == Behaviour::FailsToStart {
                    return Err(EngineError::Failed("the engine could not start it".into()));
                }
                let health = matches!(behaviour, Behaviour::Checked { .. }).then_some(Health::Starting);
                let (pid, address) = (Some(inner.next_pid), found.run.address);
                let started = Started { address, health, ..Started::new(pid, at) };
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
            if let Behaviour::Checked { healthy_after, unhealthy_after } = behaviour {
                let machine = self.machine.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(healthy_after).await;
                    machine.set_health(task, Health::Healthy);
                    if let Some(after) = unhealthy_after {
                        tokio::time::sleep(after.saturating_sub(healthy_after)).await;
                        machine.set_health(task, Health::Unhealthy);
                    }
                });
            }
            Ok(started)
        }
        .boxed()
    }

    fn observe(&self, task: TaskId) -> BoxStream<'static, Result<Observation, EngineError>> {
        let machine = self.machine.clone();
        let changed = machine.shared.changed.subscribe();
        let watching = (machine, changed, None::<Result<Observation, EngineError>>);
        futures::stream::unfold(watching, move |(machine, mut changed, before)| async move {
            if matches!(before, Some(Ok(Observation::Ended(_)) | Err(_))) {
                return None;
            }
            loop {
                changed.borrow_and_update();
                let seen = match machine.lock().tasks.get(&task).map(|found| found.phase) {
                    None => Err(EngineError::Unknown(task)),
                    Some(Phase::Prepared) => Err(EngineError::Failed("the task was never started".into())),
                    Some(Phase::Ended(ended)) => Ok(Observation::Ended(ended)),
                    Some(Phase::Running(started)) => Ok(match started.health {
                        None | Some(Health::Starting) => Observation::Running,
                        Some(Health::Healthy) => Observation::Healthy,
                        Some(Health::Unhealthy) => Observation::Unhealthy,
                    }),
                };
                if before.as_ref() != Some(&seen) {
                    return Some((seen.clone(), (machine, changed, Some(seen))));
                }
                if changed.changed().await.is_err() {
                    return None;
                }
            }
        })
        .boxed()
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
                match inner.behaviours.get(found.run.container.image.as_str()) {
                    Some(Behaviour::IgnoresStop) => (first, grace, Exit::Signal(Signal::KILL.number())),
                    _ => (first, Duration::from_millis(3).min(grace), Exit::Signal(signal.number())),
                }
            };
            if first {
                // A signalled task ends whether or not its daemon lives to see it.
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

    fn adopt(&self, _: NodeId) -> BoxFuture<'_, Result<Vec<Adopted>, EngineError>> {
        let mut all = Vec::new();
        for SimTask { run, phase, .. } in self.machine.lock().tasks.values() {
            if !matches!(phase, Phase::Ended(_)) {
                self.addresses.keep(run.task, run.address);
            }
            all.push(Adopted { task: run.task, name: run.name.clone(), phase: *phase });
        }
        async move { Ok(all) }.boxed()
    }
}

/// Result of one look at a log.
enum Look {
    Line(LogLine),
    Wait(watch::Receiver<u64>),
    Unknown,
    End,
}

/// Turns repeated looks at a log into a stream; an item of `None` says that the task is unknown.
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
    use essaim_model::ContainerSpec;

    fn run(bits: u128, image: &str) -> Run {
        let image = Image::parse(image).expect("an image");
        Run::new(TaskId::from_bits(bits), format!("web.{bits}"), ContainerSpec::new(image))
    }

    async fn exit_of(machine: &SimMachine, task: TaskId) -> Exit {
        let seen: Vec<_> = machine.engine().observe(task).collect().await;
        match seen.last() {
            Some(Ok(Observation::Ended(ended))) => ended.exit,
            other => panic!("{other:?}"),
        }
    }

    fn machine() -> SimMachine {
        SimMachine::new(|| Timestamp::from_micros(7))
    }

    async fn started(engine: &Arc<dyn Engine>, bits: u128, image: &str) -> TaskId {
        engine.prepare(&run(bits, image), &Progress::unheard()).await.unwrap();
        engine.start(TaskId::from_bits(bits)).await.unwrap();
        TaskId::from_bits(bits)
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_outlives_the_engine_that_started_it() {
        let machine = machine();
        let task = started(&machine.engine(), 1, "web").await;
        let found = machine.engine().adopt(NodeId::from_bits(1)).await.unwrap();
        assert_eq!(found.len(), 1);
        assert!(matches!(found[0].phase, Phase::Running(_)));
        machine.exit(task, 3);
        assert_eq!(exit_of(&machine, task).await, Exit::Code(3));
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
        assert_eq!(exit_of(&machine, job).await, Exit::Code(0));
        let stubborn = started(&engine, 2, "stubborn").await;
        let ended = engine.stop(stubborn, Signal::TERM, Duration::from_secs(10)).await.unwrap();
        assert_eq!(ended.exit, Exit::Signal(9));
        let unheard = Progress::unheard();
        let ghost = engine.prepare(&run(3, "ghost"), &unheard).await;
        assert_eq!(ghost, Err(EngineError::Rejected("No such image: ghost".into())));
        engine.prepare(&run(4, "broken"), &unheard).await.unwrap();
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

    #[tokio::test(start_paused = true)]
    async fn a_health_check_passes_and_fails_when_it_was_told_to() {
        let machine = machine();
        let (healthy_after, unhealthy_after) = (Duration::from_secs(1), Some(Duration::from_secs(5)));
        machine.behave("checked", Behaviour::Checked { healthy_after, unhealthy_after });
        let engine = machine.engine();
        let task = started(&engine, 1, "checked").await;
        let seen: Vec<_> = engine.observe(task).take(3).map(Result::unwrap).collect().await;
        assert_eq!(seen, [Observation::Running, Observation::Healthy, Observation::Unhealthy]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pull_says_how_far_it_is_and_ends_when_it_is_dropped() {
        let machine = machine();
        machine.behave("large", Behaviour::Pulls(Duration::from_secs(600)));
        let (engine, run) = (machine.engine(), run(1, "large"));
        let (progress, latest) = Progress::new();
        let pulling = tokio::time::timeout(Duration::from_secs(90), engine.prepare(&run, &progress));
        assert!(pulling.await.is_err(), "it takes longer");
        assert_eq!((machine.preparing(), machine.tasks().len()), (0, 0));
        assert_eq!(*latest.borrow(), "pulling large: 90 of 600 s");
    }
}
