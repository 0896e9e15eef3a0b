//! The simulated engine: every call waits while the engine hangs, and fails while it is down or known to hang.
//!
//! A call that changes something looks twice, before and after the change, so that an engine that goes down meanwhile
//! has made the change or not, and its caller cannot tell.

use super::behaviour::Pull;
use super::lines::{Look, async_lines};
use super::{Behaviour, DATAGRAMS_MAX, HOST_PORTS, SimMachine, SimTask, exec};
use crate::engine::{
    Addresses, Adopted, Description, Duplex, Ended, Engine, EngineError, Exec, ExecError, Executed, Exit, Interactive,
    LogLine, LogOptions, LogStream, Observation, Packets, Payloads, Phase, Progress, Run, Signal, Started, Stats,
};
use essaim_model::{EngineKind, Health, HostPort, Image, Labels, Platform, PortConfig, PortKey, TaskId};
use essaim_wire::NodeId;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// An engine on a simulated machine.
pub(super) struct SimEngine {
    pub(super) machine: SimMachine,
    pub(super) addresses: Addresses,
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
        self.machine.lock().kind
    }

    fn describe(&self) -> BoxFuture<'_, Result<Description, EngineError>> {
        let inner = self.machine.lock();
        let description = Description {
            kind: inner.kind,
            version: "simulated".into(),
            platform: Platform { architecture: "x86_64".into(), os: "linux".into() },
            hardware: inner.hardware,
            labels: Labels::new(),
            plugins: BTreeSet::new(),
            generic: inner.generic.clone(),
            root: None,
            in_swarm: false,
        };
        drop(inner);
        async move { self.machine.answers().await.map(|()| description) }.boxed()
    }

    fn resolve<'a>(&'a self, _: &'a Image) -> BoxFuture<'a, Result<Option<String>, EngineError>> {
        async { Ok(None) }.boxed()
    }

    fn claim(&self, task: TaskId, subnet: Ipv4Addr) -> BoxFuture<'_, Result<Option<IpAddr>, EngineError>> {
        async move {
            self.machine.answers().await?;
            let claimed = |address: Ipv4Addr| {
                let claims =
                    |task: &SimTask| task.run.address == Some(address.into()) && !matches!(task.phase, Phase::Ended(_));
                self.machine.lock().tasks.values().any(claims)
            };
            self.addresses.claim(task, subnet, |address| !claimed(address)).map(Some)
        }
        .boxed()
    }

    fn release(&self, task: TaskId) {
        self.addresses.release(task);
        if let Some(task) = self.machine.lock().tasks.get_mut(&task) {
            task.payloads.clear();
        }
    }

    fn prepare<'a>(
        &'a self,
        run: &'a Run,
        payloads: &'a Payloads,
        progress: &'a Progress,
    ) -> BoxFuture<'a, Result<(), EngineError>> {
        async move {
            let _preparing = Preparing::begin(&self.machine);
            self.machine.answers().await?;
            let takes = self.machine.lock().prepare_takes;
            tokio::time::sleep(takes).await;
            let behaviour = self.machine.behaviour(&run.container.image);
            pull(&run.container.image, &behaviour.pull(), progress).await;
            self.machine.answers().await?;
            if let Some(why) = behaviour.rejection(run.container.image.as_str()) {
                return Err(EngineError::Rejected(why));
            }
            self.machine.lock().tasks.entry(run.task).or_insert_with(|| SimTask {
                run: run.clone(),
                payloads: payloads.clone(),
                phase: Phase::Prepared,
                former: None,
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
            self.machine.answers().await?;
            let image = self.machine.lock().tasks.get(&task).map(|found| found.run.container.image.clone());
            let Some(image) = image else { return Err(EngineError::Unknown(task)) };
            let behaviour = self.machine.behaviour(&image);
            self.machine.note_attempt(task);
            if behaviour == Behaviour::StartUnanswered {
                return Err(EngineError::NoAnswer("the engine said nothing of the start".into()));
            }
            let takes = match behaviour {
                Behaviour::StartTakes(takes) => takes,
                _ => self.machine.lock().start_takes,
            };
            tokio::time::sleep(takes / 2).await;
            let started = self.start_now(task, &image, &behaviour)?;
            tokio::time::sleep(takes - takes / 2).await;
            self.machine.answers().await?;
            self.machine.answers_about(task)?;
            Ok(started)
        }
        .boxed()
    }

    fn observe(&self, task: TaskId) -> BoxStream<'static, Result<Observation, EngineError>> {
        let machine = self.machine.clone();
        let changed = machine.shared.changed.subscribe();
        let first = machine.lock().tasks.get(&task).and_then(|found| found.former);
        let watching = (machine, changed, None::<Result<Observation, EngineError>>);
        futures::stream::unfold(watching, move |(machine, mut changed, before)| async move {
            if matches!(before, Some(Ok(Observation::Ended(_)) | Err(_))) {
                return None;
            }
            loop {
                if let Err(why) = machine.answers().await {
                    return Some((Err(why.clone()), (machine, changed, Some(Err(why)))));
                }
                changed.borrow_and_update();
                let found = machine.lock().tasks.get(&task).map(|found| (found.phase, found.former));
                let ended_meanwhile = found.and_then(|(_, former)| former).filter(|former| Some(*former) != first);
                let seen = match found.map(|(phase, _)| ended_meanwhile.map_or(phase, Phase::Ended)) {
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
            self.machine.answers().await?;
            self.machine.answers_about(task)?;
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
                let image = found.run.container.image.clone();
                match inner.behaviour(&image) {
                    Behaviour::IgnoresStop => (first, grace, Exit::Signal(Signal::KILL.number())),
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
            let ended = self.machine.ended(task).await;
            self.machine.answers().await?;
            ended
        }
        .boxed()
    }

    fn remove(&self, task: TaskId) -> BoxFuture<'_, Result<(), EngineError>> {
        async move {
            self.machine.answers().await?;
            self.machine.forget_all_of(task);
            Ok(())
        }
        .boxed()
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
        async move {
            self.machine.answers().await?;
            self.machine.answers_about(task)?;
            Ok(self.machine.lock().tasks.get(&task).map(|found| found.phase))
        }
        .boxed()
    }

    fn adopt(&self, _: NodeId) -> BoxFuture<'_, Result<Vec<Adopted>, EngineError>> {
        async move {
            self.machine.answers().await?;
            let mut all = Vec::new();
            for SimTask { run, phase, .. } in self.machine.lock().tasks.values() {
                if !matches!(phase, Phase::Ended(_)) {
                    self.addresses.keep(run.task, run.address);
                }
                all.push(Adopted { task: run.task, name: run.name.clone(), phase: *phase });
            }
            Ok(all)
        }
        .boxed()
    }

    fn silence(&self) -> BoxFuture<'_, ()> {
        self.machine.falls_silent().boxed()
    }

    fn revived(&self) -> BoxFuture<'_, TaskId> {
        self.machine.next_revived().boxed()
    }

    fn host_ports(&self, task: TaskId) -> BoxFuture<'_, Result<Vec<HostPort>, EngineError>> {
        let ports = self.machine.lock().tasks.get(&task).map(|found| found.run.ports.clone()).unwrap_or_default();
        let port = |it: &PortConfig| HostPort { protocol: it.protocol, target: it.target, published: it.published };
        std::future::ready(Ok(ports.iter().map(port).collect())).boxed()
    }

    fn interactive(&self) -> Option<&dyn Interactive> {
        Some(self)
    }
}

impl Interactive for SimEngine {
    fn exec<'a>(&'a self, task: TaskId, exec: &'a Exec) -> BoxFuture<'a, Result<Executed, ExecError>> {
        async move {
            self.machine.answers().await?;
            exec::start(&self.machine, task, exec)
        }
        .boxed()
    }

    fn check_network(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        let has_network = self.machine.lock().has_network;
        let refused = || EngineError::Rejected("tasks have no network here".into());
        std::future::ready(if has_network { Ok(()) } else { Err(refused()) }).boxed()
    }

    fn dial(&self, task: TaskId, _: u16) -> BoxFuture<'_, Result<Box<dyn Duplex>, EngineError>> {
        async move {
            self.machine.answers().await?;
            Ok(Box::new(self.machine.visit(task)?) as Box<dyn Duplex>)
        }
        .boxed()
    }

    fn dial_udp(&self, task: TaskId, _: u16) -> BoxFuture<'_, Result<Box<dyn Packets>, EngineError>> {
        async move {
            self.machine.answers().await?;
            let (answer, answers) = mpsc::channel(DATAGRAMS_MAX);
            let machine = self.machine.clone();
            Ok(Box::new(SimPackets { machine, task, answer, answers: answers.into() }) as Box<dyn Packets>)
        }
        .boxed()
    }
}

/// A socket for datagrams to and from a task, whose program answers each with the task's id.
struct SimPackets {
    machine: SimMachine,
    task: TaskId,
    answer: mpsc::Sender<Arc<[u8]>>,
    answers: tokio::sync::Mutex<mpsc::Receiver<Arc<[u8]>>>,
}

impl Packets for SimPackets {
    fn recv(&self) -> BoxFuture<'_, io::Result<Arc<[u8]>>> {
        async { self.answers.lock().await.recv().await.ok_or_else(|| io::ErrorKind::NotConnected.into()) }.boxed()
    }

    fn try_send(&self, _: &[u8]) -> io::Result<()> {
        self.machine.knock(self.task)?;
        let id = self.task.bits().to_be_bytes();
        self.answer.try_send(id.as_slice().into()).map_err(|_| io::ErrorKind::WouldBlock.into())
    }
}

impl SimEngine {
    /// Publishes the ports of a task that starts, those without a number under one of the engine's choice, as Docker
    /// Engine does; an error when another running task has one of them.
    fn publish(inner: &mut super::Inner, task: TaskId) -> Result<(), EngineError> {
        let others = inner.tasks.iter().filter(|(id, it)| **id != task && matches!(it.phase, Phase::Running(_)));
        let mut taken: BTreeSet<PortKey> =
            others.flat_map(|(_, it)| it.run.ports.iter().filter_map(PortConfig::key)).collect();
        let Some(found) = inner.tasks.get_mut(&task) else { return Err(EngineError::Unknown(task)) };
        for port in &mut found.run.ports {
            let free = |number: &u16| !taken.contains(&PortKey { protocol: port.protocol, number: *number });
            let mut numbers = if port.published == 0 { HOST_PORTS } else { port.published..=port.published };
            let Some(number) = numbers.find(free) else {
                return Err(EngineError::Failed(format!("port {} is already allocated", port.published)));
            };
            port.published = number;
            taken.extend(port.key());
        }
        Ok(())
    }

    /// Makes a prepared task a running one, and begins what its image does.
    fn start_now(&self, task: TaskId, image: &Image, behaviour: &Behaviour) -> Result<Started, EngineError> {
        let at = (self.machine.shared.utc)();
        let health = behaviour.health();
        let started = {
            let mut guard = self.machine.lock();
            let inner = &mut *guard;
            if inner.mood == super::Mood::Down {
                return Err(EngineError::NoAnswer("the engine went down meanwhile".into()));
            }
            let Some(found) = inner.tasks.get_mut(&task) else { return Err(EngineError::Unknown(task)) };
            match found.phase {
                Phase::Running(started) => return Ok(started),
                Phase::Ended(ended) => return Ok(Started::new(None, ended.at)),
                Phase::Prepared => (),
            }
            if *behaviour == Behaviour::FailsToStart {
                return Err(EngineError::Failed("the engine could not start it".into()));
            }
            if inner.kind == EngineKind::Docker {
                Self::publish(inner, task)?;
            }
            let Some(found) = inner.tasks.get_mut(&task) else { return Err(EngineError::Unknown(task)) };
            let health = health.is_some().then_some(Health::Starting);
            let (pid, address) = (Some(inner.next_pid), found.run.address);
            let started = Started { address, health, ..Started::new(pid, at) };
            inner.next_pid += 1;
            inner.starts += 1;
            found.phase = Phase::Running(started);
            started
        };
        self.machine.touch();
        let greets = self.machine.lock().greets;
        if greets {
            self.machine.write(task, LogStream::Stdout, "started");
        }
        if let Behaviour::SilentFor(lasts) = behaviour {
            self.machine.fall_silent(task, *lasts);
        }
        if let Some((after, exit)) = self.machine.own_end(image) {
            let machine = self.machine.clone();
            tokio::spawn(async move {
                tokio::time::sleep(after).await;
                machine.end(task, exit);
            });
        }
        if let Some(course) = health {
            let (machine, began) = (self.machine.clone(), tokio::time::Instant::now());
            tokio::spawn(async move {
                for (after, health) in course {
                    tokio::time::sleep_until(began + after).await;
                    machine.set_health(task, health);
                }
            });
        }
        Ok(started)
    }
}

/// Passes the time of a pull, and reports its progress.
async fn pull(image: &Image, parts: &[Pull], progress: &Progress) {
    let whole = parts.iter().map(|part| match part {
        Pull::Progress(takes) => *takes,
        Pull::Silence(_) => Duration::ZERO,
    });
    let (whole, mut done) = (whole.sum::<Duration>().as_secs(), 0);
    for part in parts {
        match part {
            Pull::Progress(takes) => {
                for _ in 0..takes.as_secs() {
                    done += 1;
                    progress.say(&format!("pulling {image}: {done} of {whole} s"));
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                tokio::time::sleep(Duration::from_nanos(u64::from(takes.subsec_nanos()))).await;
            }
            Pull::Silence(lasts) => tokio::time::sleep(*lasts).await,
        }
    }
}
