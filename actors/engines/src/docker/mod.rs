//! The Docker engine: a task is a container of the machine's Docker Engine, from 20.10 on, that is not in swarm mode.
//!
//! The engine keeps nothing of its own on disk. A container is named and labelled as Swarm does
//! (`web.1.<task>`, `com.docker.swarm.…`), and everything is found again by these labels: after a restart of the
//! daemon, after a restart of dockerd, after a step whose answer was lost. `prepare` pulls the image and creates the
//! container, `start` starts it, and a container that ended is never started again. Containers without the labels of
//! this node are never touched.
//!
//! dockerd may hang, die or be upgraded at any time, and its containers live or die with it as it was configured
//! (`live-restore`). Every call has a patience ([`client`]), and is given up when [`events`] finds that the engine hangs; after a call whose outcome is unknown, the container is
//! inspected, and its state decides what follows. When nobody listens at the socket, dockerd is gone, and only the kernel
//! knows whether a container still runs ([`process`]).
//!
//! In suggested reading order: [`client`] (the connection, and what can go wrong with it), [`names`] (which containers
//! are ours), [`fields`] (the table of settings), [`files`] (secrets and configs), [`image`] and [`layers`] (pulls),
//! [`state`] (what a container's state means), [`process`], [`events`] (when to look again), [`stream`] and [`frames`]
//! (what the engine sends without end), [`logs`], [`interactive`].

mod client;
mod events;
mod fields;
mod files;
mod frames;
mod image;
mod interactive;
mod layers;
mod logs;
mod names;
mod process;
mod state;
mod stream;

pub use client::ConnectError;

use crate::memory::Folders;
use crate::process::Utc;
use bollard::Docker;
use bollard::models::{GenericResourcesInner, SystemInfo};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, KillContainerOptionsBuilder, RemoveContainerOptionsBuilder,
};
use client::{CallError, Client, QUICK, SLOW, ask, within};
use essaim_model::service::RegistryAuth;
use essaim_model::{EngineKind, GenericStock, Hardware, HostPort, Image, Platform, Plugin, TaskId};
use essaim_wire::NodeId;
use essaim_worker::engine::{
    Adopted, Description, Ended, Engine, EngineError, Exit, Interactive, LogLine, LogOptions, Observation, Payloads,
    Phase, Progress, Run, Signal, Started, Stats,
};
use events::{Events, Hint};
use frames::Form;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryFutureExt, TryStreamExt};
use image::Images;
use parking_lot::Mutex;
use process::FirstProcess;
use state::{Seen, exit_of, runs_again};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{OnceCell, Semaphore};

/// The usual address of a Docker Engine.
pub const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";

/// Containers that are inspected at the same time. After a restart of dockerd all watchers look at once, and the engine
/// has other things to do.
const LOOKS_MAX: usize = 16;

/// Locks by a part of the task's id, held while the task's container is created or removed: a request to create that
/// was given up must not create the container after `remove` has found none.
const MAKING_LOCKS: usize = 64;

/// Time after which a watcher looks without a hint: a safety net, if an event was lost.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Time after SIGKILL in which a container has to end. The engine needs a second to unmount it on a busy disk; after
/// this one the stop is tried again.
const KILLED_WITHIN: Duration = Duration::from_secs(15);

/// Network mode of containers that have no network.
const NO_NETWORK: &str = "none";

/// The Docker engine of this machine. Clones share it.
#[derive(Clone)]
pub struct DockerEngine {
    shared: Arc<Shared>,
}

struct Shared {
    client: Arc<Client>,
    utc: Utc,
    events: Events,
    images: Images,
    files: Folders,
    /// Containers of tasks that were seen once.
    containers: Mutex<BTreeMap<TaskId, String>>,
    /// Addresses of the containers that were dialled, until their tasks have ended.
    dialled: Mutex<BTreeMap<TaskId, IpAddr>>,
    /// First processes of the containers that were last seen running.
    processes: Mutex<BTreeMap<TaskId, LastSeen>>,
    making: [Arc<tokio::sync::Mutex<()>>; MAKING_LOCKS],
    looks: Semaphore,
    /// Whether the engine is known to have a bridge. One without is asked again for each container: it may be started with
    /// one while this program runs.
    has_bridge: OnceCell<()>,
}

/// The first process of a container that was last seen running.
struct LastSeen {
    process: FirstProcess,
    /// Whether the engine was gone when the container was last asked for.
    is_missed: bool,
}

/// Guard that sets its flag when the future of a preparation is dropped.
struct Dropped(Arc<AtomicBool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl DockerEngine {
    /// Connects to the Docker Engine at `host` (`unix:///PATH`); `utc` is the clock for stored times.
    pub async fn connect(host: &str, utc: Utc) -> Result<Self, ConnectError> {
        let client = Arc::new(Client::connect(client::socket_of(host)?).await?);
        let shared = Shared {
            events: Events::new(Arc::clone(&client), Arc::clone(&utc)),
            images: Images::new(Arc::clone(&client)),
            files: Folders::new("docker"),
            containers: Mutex::default(),
            dialled: Mutex::default(),
            processes: Mutex::default(),
            making: std::array::from_fn(|_| Arc::default()),
            looks: Semaphore::new(LOOKS_MAX),
            has_bridge: OnceCell::new(),
            client,
            utc,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Path of the engine's unix socket.
    pub fn socket(&self) -> &Path {
        self.shared.client.socket()
    }

    fn docker(&self) -> Docker {
        self.shared.client.docker()
    }

    fn utc(&self) -> Utc {
        Arc::clone(&self.shared.utc)
    }

    /// The container of a task.
    async fn container(&self, task: TaskId) -> Result<String, EngineError> {
        self.find(task).await?.ok_or(EngineError::Unknown(task))
    }

    async fn find(&self, task: TaskId) -> Result<Option<String>, CallError> {
        let known = self.shared.containers.lock().get(&task).cloned();
        if known.is_some() {
            return Ok(known);
        }
        let found = names::of_task(&self.docker(), task).await?;
        if let Some(container) = &found {
            self.shared.containers.lock().insert(task, container.clone());
        }
        Ok(found)
    }

    /// The form of the output of a container's program.
    async fn form(&self, container: &str) -> Result<Form, EngineError> {
        let found = within(QUICK, self.docker().inspect_container(container, None)).await?;
        Ok(Form::of_terminal(found.config.and_then(|it| it.tty).unwrap_or(false)))
    }

    /// Inspects the container of a task; `None` when there is none.
    async fn look(&self, task: TaskId) -> Result<Option<Seen>, CallError> {
        let _turn = self.shared.looks.acquire().await;
        let Some(container) = self.find(task).await? else { return Ok(None) };
        let docker = self.docker();
        match ask(|| docker.inspect_container(&container, None)).await {
            Ok(found) => {
                let seen = Seen::read(found).ok_or(CallError::Late)?;
                self.note_process(task, &seen);
                Ok(Some(seen))
            }
            Err(CallError::Missing(_)) => {
                self.forget(task);
                Ok(None)
            }
            Err(why @ CallError::Absent(_)) => self.ended_without_engine(task, container).map(Some).ok_or(why),
            Err(why) => Err(why),
        }
    }

    /// Notes the first process of a running container, so that its end is seen when the engine is gone.
    fn note_process(&self, task: TaskId, seen: &Seen) {
        let mut processes = self.shared.processes.lock();
        let known = processes.remove(&task).map(|last| last.process);
        let Phase::Running(Started { pid: Some(pid), .. }) = seen.phase else { return };
        if let Some(process) = known.filter(|it| it.is(pid)).or_else(|| FirstProcess::of(pid, &seen.id)) {
            processes.insert(task, LastSeen { process, is_missed: false });
        }
    }

    /// The container of a task whose engine is gone, if the container has ended: the engine took it along, as it does by
    /// default, or it was killed together with the engine. How it ended is known to nobody.
    ///
    /// The first question is left without an answer: it makes the worker tell managers that the engine is gone, and a
    /// place that is to be filled before they know it would be filled on this node.
    fn ended_without_engine(&self, task: TaskId, container: String) -> Option<Seen> {
        let mut processes = self.shared.processes.lock();
        let last = processes.get_mut(&task)?;
        let is_told = std::mem::replace(&mut last.is_missed, true) && last.process.has_ended();
        let ended = Ended { exit: Exit::Lost, at: (self.shared.utc)() };
        is_told.then_some(Seen { id: container, phase: Phase::Ended(ended), started: None })
    }

    fn forget(&self, task: TaskId) {
        self.shared.containers.lock().remove(&task);
        self.shared.dialled.lock().remove(&task);
        self.shared.processes.lock().remove(&task);
        self.shared.events.forget(task);
    }

    /// Inspects the container of a task that there has to be.
    async fn look_at(&self, task: TaskId) -> Result<Seen, EngineError> {
        self.look(task).await?.ok_or(EngineError::Unknown(task))
    }

    fn making(&self, task: TaskId) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(&self.shared.making[(task.bits() % MAKING_LOCKS as u128) as usize])
    }

    /// The network mode of containers that ask for no network: `bridge`, or `none` where the engine has no bridge.
    async fn network(&self) -> Result<&'static str, CallError> {
        let bridge = self
            .shared
            .has_bridge
            .get_or_try_init(|| async { within(QUICK, self.docker().inspect_network("bridge", None)).await.map(drop) });
        match bridge.await {
            Ok(()) => Ok("bridge"),
            Err(CallError::Missing(_)) => Ok(NO_NETWORK),
            Err(why) => Err(why),
        }
    }

    async fn prepare_now(&self, run: &Run, payloads: &Payloads, progress: &Progress) -> Result<(), EngineError> {
        if self.find(run.task).await?.is_some() {
            return Ok(());
        }
        let files = files::write(&self.shared.files, run.node(), run.task, &run.container, payloads)?;
        let body = fields::body(run, files, self.shared.client.api(), self.network().await?)?;
        let image = body.image.clone().unwrap_or_default();
        let auth = run.container.registry_auth.as_ref().map(RegistryAuth::reveal);
        let pulled = self.shared.images.ensure(&image, auth, progress).await;
        let without = |why: &CallError| match why {
            // A registry's "no" and its silence both leave the machine without the image.
            why if why.is_open() => EngineError::from(why.clone()),
            _ => EngineError::Rejected(format!("No such image: {image} ({why})")),
        };
        pulled.as_ref().map_err(without)?;

        let dropped = Arc::new(AtomicBool::new(false));
        let _dropped = Dropped(Arc::clone(&dropped));
        let making = self.making(run.task).lock_owned().await;
        let (docker, name) = (self.docker(), run.name.clone());
        // Detached from the caller: a request that was sent cannot be taken back, so `remove` waits for its answer.
        let creating = tokio::spawn(async move {
            let _making = making;
            if dropped.load(Ordering::Acquire) {
                return Err(CallError::Late);
            }
            let options = CreateContainerOptionsBuilder::new().name(&name).build();
            within(SLOW, docker.create_container(Some(options), body)).await
        });
        match creating.await.unwrap_or_else(|why| Err(CallError::Broken(why.to_string()))) {
            Ok(made) => {
                self.shared.containers.lock().insert(run.task, made.id);
                Ok(())
            }
            // A former request, whose answer was lost, has created it. A container of this name that is not the task's
            // was made by somebody else.
            Err(CallError::Conflict(words)) => match self.find(run.task).await? {
                Some(_) => Ok(()),
                None => Err(EngineError::Rejected(words)),
            },
            Err(CallError::Missing(words) | CallError::Refused(_, words)) => Err(EngineError::Rejected(words)),
            Err(why) => Err(why.into()),
        }
    }

    async fn start_now(&self, task: TaskId) -> Result<Started, EngineError> {
        loop {
            match self.look(task).await {
                Ok(None) => return Err(EngineError::Unknown(task)),
                Ok(Some(Seen { phase: Phase::Running(started), .. })) => return Ok(started),
                Ok(Some(Seen { phase: Phase::Ended(ended), started, .. })) => {
                    return Ok(Started::new(None, started.unwrap_or(ended.at)));
                }
                Ok(Some(Seen { phase: Phase::Prepared, id, .. })) => {
                    self.shared.events.expect(task);
                    match within(SLOW, self.docker().start_container(&id, None)).await {
                        Ok(()) => continue,
                        Err(CallError::Missing(_)) => return Err(EngineError::Unknown(task)),
                        // Whether the container runs is unknown, and the worker asks again.
                        Err(why) if why.is_open() => return Err(why.into()),
                        Err(why) => return Err(EngineError::Failed(format!("starting container failed: {why}"))),
                    }
                }
                Err(why) => return Err(why.into()),
            }
        }
    }

    /// Awaits a call, and no longer than until the engine is known to hang; while it is, the call is not made. What the call
    /// asked for may happen later all the same.
    async fn unless_it_hangs<T>(
        &self,
        call: impl Future<Output = Result<T, EngineError>> + Send,
    ) -> Result<T, EngineError> {
        tokio::select! {
            biased;
            () = self.shared.events.hangs() => {
                Err(EngineError::Hangs("the Docker Engine hangs: it answers nothing at all".into()))
            }
            done = call => done,
        }
    }

    /// Waits until the container has ended.
    async fn ended(&self, task: TaskId) -> Result<Ended, EngineError> {
        let mut hints = self.shared.events.of(task);
        loop {
            match self.look_at(task).await?.phase {
                Phase::Ended(ended) => return Ok(ended),
                Phase::Prepared => return Err(EngineError::Failed("the container was never started".into())),
                Phase::Running(_) => wait(&mut hints).await,
            }
        }
    }

    async fn kill(&self, container: &str, signal: Signal) -> Result<(), EngineError> {
        let options = KillContainerOptionsBuilder::new().signal(&signal.number().to_string()).build();
        match within(QUICK, self.docker().kill_container(container, Some(options))).await {
            // A container that has ended, or is gone, needs no signal.
            Ok(()) | Err(CallError::Conflict(_) | CallError::Missing(_)) => Ok(()),
            Err(why) => Err(why.into()),
        }
    }

    async fn stop_now(&self, task: TaskId, signal: Signal, grace: Duration) -> Result<Ended, EngineError> {
        let seen = self.look_at(task).await?;
        match seen.phase {
            Phase::Ended(ended) => return Ok(ended),
            Phase::Prepared => return Ok(Ended { exit: Exit::Lost, at: (self.shared.utc)() }),
            Phase::Running(_) => (),
        }
        if !grace.is_zero() {
            self.kill(&seen.id, signal).await?;
            match tokio::time::timeout(grace, self.ended(task)).await {
                Ok(ended) => return ended,
                Err(_) => tracing::debug!(%task, "the grace is over"),
            }
        }
        self.kill(&seen.id, Signal::KILL).await?;
        match tokio::time::timeout(KILLED_WITHIN, self.ended(task)).await {
            Ok(ended) => ended,
            Err(_) => Err(EngineError::Failed("the container was killed and has not ended yet".into())),
        }
    }

    async fn remove_now(&self, task: TaskId) -> Result<(), EngineError> {
        let _removing = self.making(task).lock_owned().await;
        let Some(container) = self.find(task).await? else { return Ok(()) };
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        match within(SLOW, self.docker().remove_container(&container, Some(options))).await {
            Ok(()) | Err(CallError::Missing(_)) => {
                self.forget(task);
                Ok(())
            }
            // "removal of container … is already in progress"
            Err(CallError::Conflict(words)) => Err(EngineError::Failed(words)),
            Err(why) => Err(why.into()),
        }
    }

    async fn adopt_now(&self, node: NodeId) -> Result<Vec<Adopted>, EngineError> {
        let listed = names::of_node(&self.docker(), node).await?;
        let known = listed.iter().map(|it| (it.task, it.container.clone()));
        self.shared.containers.lock().extend(known);
        let looks = listed.into_iter().map(|it| async move {
            let seen = self.look(it.task).await?;
            Ok::<_, CallError>(seen.map(|seen| Adopted { task: it.task, name: it.name, phase: seen.phase }))
        });
        let found: Vec<_> = futures::stream::iter(looks).buffer_unordered(LOOKS_MAX).try_collect().await?;
        let mut found: Vec<Adopted> = found.into_iter().flatten().collect();
        found.sort_by_key(|it| it.task);
        let live = found.iter().filter(|it| !matches!(it.phase, Phase::Ended(_))).map(|it| it.task).collect();
        self.shared.files.adopt(node, &live);
        Ok(found)
    }

    async fn stats_now(&self, task: TaskId) -> Result<Stats, EngineError> {
        let seen = self.look_at(task).await?;
        if !matches!(seen.phase, Phase::Running(_)) {
            return Ok(Stats::default());
        }
        let options = bollard::query_parameters::StatsOptionsBuilder::new().stream(false).one_shot(true).build();
        let first = async { self.docker().stats(&seen.id, Some(options)).boxed().try_next().await };
        let Some(said) = within(QUICK, first).await? else { return Ok(Stats::default()) };
        let memory = said.memory_stats.unwrap_or_default();
        // What the kernel keeps of files and could drop is not counted, as in `docker stats`.
        let cache = memory.stats.as_ref().and_then(|it| it.get("inactive_file").or(it.get("total_inactive_file")));
        let cpu = said.cpu_stats.and_then(|it| it.cpu_usage).and_then(|it| it.total_usage);
        Ok(Stats {
            cpu: Duration::from_nanos(cpu.unwrap_or_default()),
            memory_bytes: memory.usage.unwrap_or_default().saturating_sub(cache.copied().unwrap_or_default()),
            processes: u32::try_from(said.pids_stats.and_then(|it| it.current).unwrap_or_default()).unwrap_or(u32::MAX),
        })
    }
}

/// Waits for a hint that the task has changed.
async fn wait(hints: &mut tokio::sync::watch::Receiver<Hint>) {
    // The sender lives as long as this receiver.
    let _ = tokio::time::timeout(LOOK_AGAIN, hints.changed()).await;
}

impl Engine for DockerEngine {
    fn kind(&self) -> EngineKind {
        EngineKind::Docker
    }

    /// Asks the engine; while it does not answer, says what it said last.
    fn describe(&self) -> BoxFuture<'_, Result<Description, EngineError>> {
        let docker = self.docker();
        self.unless_it_hangs(async move { Ok(describe(ask(|| docker.info()).await?)) }).boxed()
    }

    /// The name is all there is: the client has pinned the digest, or did not want to.
    fn resolve<'a>(&'a self, _: &'a Image) -> BoxFuture<'a, Result<Option<String>, EngineError>> {
        std::future::ready(Ok(None)).boxed()
    }

    fn prepare<'a>(
        &'a self,
        run: &'a Run,
        payloads: &'a Payloads,
        progress: &'a Progress,
    ) -> BoxFuture<'a, Result<(), EngineError>> {
        self.unless_it_hangs(self.prepare_now(run, payloads, progress)).boxed()
    }

    fn release(&self, task: TaskId) {
        self.shared.files.remove(task);
        self.shared.dialled.lock().remove(&task);
    }

    fn start(&self, task: TaskId) -> BoxFuture<'_, Result<Started, EngineError>> {
        self.unless_it_hangs(self.start_now(task)).boxed()
    }

    fn observe(&self, task: TaskId) -> BoxStream<'static, Result<Observation, EngineError>> {
        let this = self.clone();
        let hints = this.shared.events.of(task);
        // `None` once the last observation was yielded.
        let watch = Some((this, hints, None::<Observation>, None::<Started>));
        futures::stream::unfold(watch, move |watch| async move {
            let (this, mut hints, last, mut first) = watch?;
            loop {
                let seen = match this.unless_it_hangs(this.look_at(task)).await {
                    Ok(seen) => seen,
                    Err(why) => return Some((Err(why), None)),
                };
                if let Phase::Running(now) = seen.phase
                    && runs_again(first.get_or_insert(now), &now)
                {
                    let ended = Ended { exit: exit_of(hints.borrow().exit_code), at: (this.shared.utc)() };
                    return Some((Ok(Observation::Ended(ended)), None));
                }
                match seen.observation() {
                    Observation::Ended(ended) => return Some((Ok(Observation::Ended(ended)), None)),
                    now if Some(now) != last => return Some((Ok(now), Some((this, hints, Some(now), first)))),
                    _ => wait(&mut hints).await,
                }
            }
        })
        .boxed()
    }

    fn stop(&self, task: TaskId, signal: Signal, grace: Duration) -> BoxFuture<'_, Result<Ended, EngineError>> {
        self.unless_it_hangs(self.stop_now(task, signal, grace)).boxed()
    }

    fn remove(&self, task: TaskId) -> BoxFuture<'_, Result<(), EngineError>> {
        self.unless_it_hangs(self.remove_now(task)).boxed()
    }

    fn logs(&self, task: TaskId, options: LogOptions) -> BoxStream<'static, Result<LogLine, EngineError>> {
        let this = self.clone();
        let read = async move {
            let container = this.container(task).await?;
            let form = this.form(&container).await?;
            Ok(logs::read(Arc::clone(&this.shared.client), container, form, options))
        };
        read.try_flatten_stream().boxed()
    }

    fn stats(&self, task: TaskId) -> BoxFuture<'_, Result<Stats, EngineError>> {
        self.unless_it_hangs(self.stats_now(task)).boxed()
    }

    fn phase(&self, task: TaskId) -> BoxFuture<'_, Result<Option<Phase>, EngineError>> {
        self.unless_it_hangs(async move { Ok(self.look(task).await?.map(|seen| seen.phase)) }).boxed()
    }

    fn adopt(&self, node: NodeId) -> BoxFuture<'_, Result<Vec<Adopted>, EngineError>> {
        self.unless_it_hangs(self.adopt_now(node)).boxed()
    }

    fn silence(&self) -> BoxFuture<'_, ()> {
        self.shared.events.broken().boxed()
    }

    fn revived(&self) -> BoxFuture<'_, TaskId> {
        self.shared.events.revived().boxed()
    }

    fn host_ports(&self, task: TaskId) -> BoxFuture<'_, Result<Vec<HostPort>, EngineError>> {
        async move {
            let container = self.container(task).await?;
            let found = within(QUICK, self.docker().inspect_container(&container, None)).await?;
            Ok(fields::host_ports(found.network_settings.and_then(|it| it.ports).unwrap_or_default()))
        }
        .boxed()
    }

    fn interactive(&self) -> Option<&dyn Interactive> {
        Some(self)
    }
}

/// The engine's description of itself and of the machine.
fn describe(info: SystemInfo) -> Description {
    let count = |value: Option<i64>| value.and_then(|it| u64::try_from(it).ok()).unwrap_or_default();
    let label = |text: String| match text.split_once('=') {
        Some((key, value)) => (key.to_owned(), value.to_owned()),
        None => (text, String::new()),
    };
    let plugins = info.plugins.unwrap_or_default();
    let kinds = [
        ("Volume", plugins.volume),
        ("Network", plugins.network),
        ("Authorization", plugins.authorization),
        ("Log", plugins.log),
    ];
    let of_kind = |(kind, names): (&str, Option<Vec<String>>)| {
        let plugin = |name| Plugin { kind: kind.into(), name };
        names.unwrap_or_default().into_iter().map(plugin).collect::<Vec<_>>()
    };
    let in_swarm = info.swarm.as_ref().and_then(|swarm| swarm.local_node_state).is_some_and(|state| {
        use bollard::models::LocalNodeState::{ACTIVE, ERROR, LOCKED, PENDING};
        matches!(state, ACTIVE | ERROR | LOCKED | PENDING)
    });
    let mut generic = GenericStock::default();
    for GenericResourcesInner { named_resource_spec, discrete_resource_spec } in
        info.generic_resources.unwrap_or_default()
    {
        if let Some((kind, name)) = named_resource_spec.and_then(|it| it.kind.zip(it.value)) {
            generic.add_name(&kind, &name);
        }
        if let Some((kind, value)) = discrete_resource_spec.and_then(|it| it.kind.zip(it.value)) {
            generic.add_count(&kind, count(Some(value)));
        }
    }
    Description {
        kind: EngineKind::Docker,
        version: info.server_version.unwrap_or_default(),
        platform: Platform {
            architecture: info.architecture.unwrap_or_default(),
            os: info.os_type.unwrap_or_default(),
        },
        hardware: Hardware {
            nano_cpus: count(info.ncpu).saturating_mul(1_000_000_000),
            memory_bytes: count(info.mem_total),
        },
        labels: info.labels.unwrap_or_default().into_iter().map(label).collect(),
        plugins: kinds.into_iter().flat_map(of_kind).collect(),
        generic,
        root: info.docker_root_dir.map(Into::into),
        in_swarm,
    }
}
