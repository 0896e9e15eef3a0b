//! The process engine: a task is a program of the host.
//!
//! Each task has a folder and, while it runs, a shim: this program again, started as `task-shim FOLDER` in a session of
//! its own. The shim is the parent of the task and of every process the task leaves behind, owns the task's output and
//! writes down how the task ended. The daemon may therefore end and start again: all it needs is in the folder, and a
//! lock that the shim holds says whether the shim lives. There are no sockets and no paths of limited length, and a
//! reused process id cannot be mistaken for a task.
//!
//! ```text
//! <root>/<task id>/
//!   plan      what is to run; written once, before the folder gets its name
//!   lock      held by the shim as long as it lives
//!   control   a fifo: the daemon writes, the shim reads
//!   shim      the shim's process; once it is there, the task is never started again
//!   started   the task's process and when it started
//!   exit      how it ended; the last thing a shim writes
//!   log.N     what the task wrote; the two newest segments are kept
//!   executed  a program was executed beside the task, and may have left processes behind
//! ```
//!
//! In suggested reading order: [`program`] and [`user`] (what an image and a user mean here), [`limits`] (cgroups), [`open_files`] (how many files the daemon and its children may open),
//! [`address`] (claims of loopback addresses), [`files`] (secrets and configs), [`exec`] (programs beside a task), [`folder`] (what is kept of a task), [`keeper`] (the daemon's side of a shim),
//! [`ring`] (the log), [`proc_tree`] (descendants of a process).

pub(crate) mod address;
mod exec;
mod files;
pub(crate) mod folder;
pub(crate) mod keeper;
mod limits;
pub(crate) mod open_files;
pub(crate) mod proc_tree;
mod program;
pub(crate) mod ring;
mod user;

use crate::memory::Folders;
use essaim_model::{
    ContainerSpec, EngineKind, GenericStock, Hardware, HostPort, Image, Labels, Platform, PortConfig, TaskId,
};
use essaim_wire::{NodeId, Timestamp};
use essaim_worker::engine::{
    Addresses, Adopted, Connected, Description, Duplex, Ended, Engine, EngineError, Exec, ExecError, Executed,
    Interactive, LogLine, LogOptions, Observation, Packets, Payloads, Phase, Progress, Run, Signal, Started, Stats,
    packets,
};
use folder::{Folder, Launch};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Clock for stored times: that of `Env`, as a function.
pub type Utc = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Bytes per segment of a task's log; two segments are kept.
const LOG_SEGMENT_BYTES: u64 = 5 << 20;

/// Paths and settings of the process engine.
#[derive(Clone)]
pub struct Config {
    /// Folder that holds the tasks' folders.
    pub root: PathBuf,
    /// The program that becomes the shim when called with `task-shim`.
    pub shim: PathBuf,
    /// Program that the image `essaim` stands for.
    pub own_program: PathBuf,
    /// Search path for programs without a slash, and the `PATH` of tasks.
    pub path: OsString,
    /// Bytes per segment of a task's log, of which two are kept.
    pub log_segment_bytes: u64,
    /// Clock for stored times.
    pub utc: Utc,
}

impl Config {
    /// Configuration with tasks below `root`: the shim and `essaim` are the running program, and programs are searched
    /// along the daemon's own PATH.
    pub fn new(root: impl Into<PathBuf>, utc: Utc) -> Self {
        Self {
            root: root.into(),
            // Not the program's path: its file may be replaced while the daemon runs, and daemon and shim must share
            // one format.
            shim: "/proc/self/exe".into(),
            own_program: std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into()),
            path: std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into()),
            log_segment_bytes: LOG_SEGMENT_BYTES,
            utc,
        }
    }
}

/// Runs tasks as host processes. Clones share all state; dropping all of them ends no task.
#[derive(Clone)]
pub struct ProcessEngine {
    config: Arc<Config>,
    /// Loopback addresses of the node's subnet, by the task that has each of them.
    addresses: Addresses,
    /// Locks by a part of the task's id, held while the task's folder is created or removed: a preparation that was
    /// dropped must not create a folder after `remove` has removed it.
    folders: Arc<[Mutex<()>; FOLDER_LOCKS]>,
    /// Folders in memory for the files of secrets and configs.
    files: Arc<Folders>,
}

/// Folders that can be created or removed at the same time: a few for each core.
const FOLDER_LOCKS: usize = 16;

/// Guard that sets its flag when the future of a preparation is dropped.
struct Dropped(Arc<AtomicBool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl ProcessEngine {
    /// Creates the engine over `config.root`; the folder is created when it does not exist.
    pub fn new(config: Config) -> std::io::Result<Self> {
        folder::make_private(&config.root)?;
        let files = Arc::new(Folders::new("process"));
        Ok(Self { config: Arc::new(config), addresses: Addresses::default(), folders: Arc::default(), files })
    }

    fn folder(&self, task: TaskId) -> Folder {
        Folder::new(&self.config.root, task)
    }

    /// Creates the folder of a task, unless the preparation was dropped meanwhile.
    fn prepare_now(&self, run: &Run, payloads: &Payloads, dropped: &AtomicBool) -> Result<(), EngineError> {
        let folder = self.folder(run.task);
        let _making = self.folder_lock(run.task).lock();
        if folder.exists() || dropped.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut plan = self.plan(run)?;
        plan.env.extend(files::write(&self.files, (run.node(), run.task), plan.ids, &run.container, payloads)?);
        folder.create(&plan).map_err(|why| EngineError::Failed(format!("cannot make the folder of the task: {why}")))
    }

    fn folder_lock(&self, task: TaskId) -> &Mutex<()> {
        &self.folders[(task.bits() % FOLDER_LOCKS as u128) as usize]
    }

    /// Resolves a task to what its shim starts. Every reason to reject a task is found here, before anything runs.
    fn plan(&self, run: &Run) -> Result<Launch, EngineError> {
        let container = &run.container;
        let image = match &run.resolved {
            Some(path) => program::at(path, &container.image),
            None => program::of_image(&container.image, &self.config.path, &self.config.own_program)?,
        };
        let program = match container.command.first() {
            Some(command) => program::of_command(command, &self.config.path)?,
            None => image,
        };
        let first = container.command.first().cloned().unwrap_or_else(|| program.name.clone());
        let argv: Vec<String> = std::iter::once(first)
            .chain(container.command.iter().skip(1).cloned())
            .chain(container.args.iter().cloned())
            .collect();
        let identity = container.user.as_deref().map(user::resolve).transpose()?;
        let dir = container.dir.clone().filter(|dir| !dir.is_empty()).unwrap_or_else(|| "/".into());
        if !std::path::Path::new(&dir).is_dir() {
            return Err(EngineError::Rejected(format!("no such working directory: {dir}")));
        }
        let home = match &identity {
            Some(identity) => identity.home.clone(),
            None => user::own_home(),
        };
        let mut env = vec![("PATH".into(), self.config.path.to_string_lossy().into_owned()), ("HOME".into(), home)];
        env.extend(run.env.iter().cloned());
        // Processes of a task that has lost its shim are found by this variable, so no setting of the service may
        // replace it.
        env.push((folder::TASK_ID_ENV.into(), run.task.to_string()));
        let with_nul = |text: &str| text.contains('\0');
        if argv.iter().any(|arg| with_nul(arg)) || env.iter().any(|(name, value)| with_nul(name) || with_nul(value)) {
            return Err(EngineError::Rejected("arguments and environment cannot contain a zero byte".into()));
        }
        if let Some((name, _)) = env.iter().find(|(name, _)| name.is_empty() || name.contains('=')) {
            return Err(EngineError::Rejected(format!("invalid environment variable name: {name:?}")));
        }
        let cgroup = limits::prepare(run.task, &run.limits())?;
        // Nothing is pulled, so no credentials are kept beside the task.
        let container = ContainerSpec { registry_auth: None, ..container.clone() };
        Ok(Launch {
            run: Run { container, ..run.clone() },
            program: program.path.to_string_lossy().into_owned(),
            argv,
            env,
            dir,
            ids: identity.and_then(|identity| identity.change),
            cgroup,
            log_segment_bytes: self.config.log_segment_bytes,
        })
    }

    /// Refuses to start a task whose files are gone: the machine has lost its power since the task was prepared.
    fn check_files(&self, task: TaskId) -> Result<(), EngineError> {
        let plan = self.folder(task).plan().map_err(|why| folder::failed("cannot read the plan of the task", why))?;
        match plan.env.iter().rev().find(|(name, _)| name == files::FILES_ENV) {
            Some((_, folder)) if !std::path::Path::new(folder).is_dir() => Err(EngineError::Failed(
                "the secrets and configs of the task are gone: the machine was restarted".into(),
            )),
            _ => Ok(()),
        }
    }

    fn remove_now(&self, task: TaskId) -> Result<(), EngineError> {
        let folder = self.folder(task);
        let _removing = self.folder_lock(task).lock();
        if let Ok(plan) = folder.plan() {
            limits::remove(plan.cgroup.as_deref());
        }
        folder.remove().map_err(|why| EngineError::Failed(format!("cannot remove the folder of the task: {why}")))
    }

    fn phase_now(&self, task: TaskId) -> Result<Phase, EngineError> {
        let phase = keeper::phase(&self.folder(task), (self.config.utc)())?;
        Ok(match phase {
            Phase::Running(started) => Phase::Running(Started { address: self.addresses.of(task), ..started }),
            Phase::Prepared | Phase::Ended(_) => phase,
        })
    }

    /// Waits until a started task has ended.
    async fn ended(&self, task: TaskId) -> Result<Ended, EngineError> {
        loop {
            match self.blocking(move |this| this.phase_now(task)).await? {
                Phase::Ended(ended) => return Ok(ended),
                Phase::Prepared => return Err(EngineError::Failed("the task was never started".into())),
                Phase::Running(_) => keeper::gone(&self.folder(task)).await?,
            }
        }
    }

    /// Runs `work`, which waits for disks and processes, on a thread for blocking work.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let this = self.clone();
        match tokio::task::spawn_blocking(move || work(&this)).await {
            Ok(done) => done,
            Err(why) => Err(EngineError::Failed(format!("the engine's work broke off: {why}"))),
        }
    }
}

impl Engine for ProcessEngine {
    fn kind(&self) -> EngineKind {
        EngineKind::Process
    }

    fn describe(&self) -> BoxFuture<'_, Result<Description, EngineError>> {
        async { Ok(describe()) }.boxed()
    }

    fn resolve<'a>(&'a self, image: &'a Image) -> BoxFuture<'a, Result<Option<String>, EngineError>> {
        let image = image.clone();
        self.blocking(move |this| {
            let program = program::of_image(&image, &this.config.path, &this.config.own_program)?;
            Ok(Some(program.path.to_string_lossy().into_owned()))
        })
        .boxed()
    }

    fn claim(&self, task: TaskId, subnet: Ipv4Addr) -> BoxFuture<'_, Result<Option<IpAddr>, EngineError>> {
        // This claim on the machine is released at once; the shim of the task claims the address for the task's life.
        let is_free = |address: Ipv4Addr| address::claim(address.into()).is_ok();
        self.blocking(move |this| this.addresses.claim(task, subnet, is_free).map(Some)).boxed()
    }

    fn release(&self, task: TaskId) {
        self.addresses.release(task);
        self.files.remove(task);
    }

    fn prepare<'a>(
        &'a self,
        run: &'a Run,
        payloads: &'a Payloads,
        _: &'a Progress,
    ) -> BoxFuture<'a, Result<(), EngineError>> {
        let (run, payloads, dropped) = (run.clone(), payloads.clone(), Arc::new(AtomicBool::new(false)));
        let seen = Arc::clone(&dropped);
        async move {
            // Blocking work cannot be interrupted, but it is short, and it creates no folder once this guard was
            // dropped.
            let _dropped = Dropped(dropped);
            self.blocking(move |this| this.prepare_now(&run, &payloads, &seen)).await
        }
        .boxed()
    }

    fn start(&self, task: TaskId) -> BoxFuture<'_, Result<Started, EngineError>> {
        async move {
            match self.blocking(move |this| this.phase_now(task)).await? {
                Phase::Running(started) => Ok(started),
                Phase::Ended(ended) => {
                    let folder = self.folder(task);
                    Ok(folder.started().unwrap_or(Started::new(None, ended.at)))
                }
                Phase::Prepared => {
                    self.blocking(move |this| this.check_files(task)).await?;
                    // Detached from the caller: a caller that gives up must not leave a half-started shim unreaped.
                    let (folder, shim) = (self.folder(task), self.config.shim.clone());
                    let starting = tokio::spawn(async move { keeper::start(folder, shim).await });
                    let started = starting.await.unwrap_or_else(|why| Err(EngineError::Failed(why.to_string())))?;
                    Ok(Started { address: self.addresses.of(task), ..started })
                }
            }
        }
        .boxed()
    }

    /// Yields that the process runs, then that it has ended: host processes have no health check.
    fn observe(&self, task: TaskId) -> BoxStream<'static, Result<Observation, EngineError>> {
        let this = self.clone();
        futures::stream::once(async { Ok(Observation::Running) })
            .chain(futures::stream::once(async move { this.ended(task).await.map(Observation::Ended) }))
            .boxed()
    }

    fn stop(&self, task: TaskId, signal: Signal, grace: Duration) -> BoxFuture<'_, Result<Ended, EngineError>> {
        async move {
            let folder = self.folder(task);
            match self.blocking(move |this| this.phase_now(task)).await? {
                Phase::Ended(ended) => return Ok(ended),
                Phase::Prepared => {
                    let at = (self.config.utc)();
                    return self.blocking(move |this| keeper::never_started(&this.folder(task), at)).await;
                }
                Phase::Running(_) => keeper::ask_to_stop(&folder, signal, grace)?,
            }
            match tokio::time::timeout(grace + SHIM_PATIENCE, self.ended(task)).await {
                Ok(ended) => ended,
                Err(_) => {
                    // The shim itself hangs. Processes that it leaves behind are found by the environment of the task.
                    self.blocking(move |this| keeper::kill_shim(&this.folder(task))).await?;
                    self.ended(task).await
                }
            }
        }
        .boxed()
    }

    fn remove(&self, task: TaskId) -> BoxFuture<'_, Result<(), EngineError>> {
        async move {
            // Under the folder's lock: a dropped preparation that is just creating the folder has it when the lock is free.
            let exists = self.blocking(move |this| {
                let _making = this.folder_lock(task).lock();
                Ok(this.folder(task).exists())
            });
            if !exists.await? {
                return Ok(());
            }
            match self.stop(task, Signal::KILL, Duration::ZERO).await {
                Ok(_) => (),
                Err(why) => tracing::warn!(%task, %why, "removing a task that could not be stopped"),
            }
            self.blocking(move |this| this.remove_now(task)).await
        }
        .boxed()
    }

    fn logs(&self, task: TaskId, options: LogOptions) -> BoxStream<'static, Result<LogLine, EngineError>> {
        let folder = self.folder(task);
        if !folder.exists() {
            return futures::stream::once(async move { Err(EngineError::Unknown(task)) }).boxed();
        }
        ring::read(folder, options).boxed()
    }

    fn stats(&self, task: TaskId) -> BoxFuture<'_, Result<Stats, EngineError>> {
        self.blocking(move |this| match this.phase_now(task)? {
            Phase::Running(_) => keeper::stats(&this.folder(task)),
            _ => Ok(Stats::default()),
        })
        .boxed()
    }

    fn phase(&self, task: TaskId) -> BoxFuture<'_, Result<Option<Phase>, EngineError>> {
        self.blocking(move |this| match this.phase_now(task) {
            Ok(phase) => Ok(Some(phase)),
            Err(EngineError::Unknown(_)) => Ok(None),
            Err(why) => Err(why),
        })
        .boxed()
    }

    fn adopt(&self, node: NodeId) -> BoxFuture<'_, Result<Vec<Adopted>, EngineError>> {
        self.blocking(move |this| {
            let tasks = folder::list(&this.config.root)
                .map_err(|why| EngineError::Failed(format!("cannot list {}: {why}", this.config.root.display())))?;
            let mut found = Vec::new();
            for task in tasks {
                match (this.folder(task).plan(), this.phase_now(task)) {
                    (Ok(plan), Ok(phase)) => {
                        if !matches!(phase, Phase::Ended(_)) {
                            this.addresses.keep(task, plan.run.address);
                        }
                        found.push(Adopted { task, name: plan.run.name, phase });
                    }
                    (Err(why), _) => tracing::warn!(%task, %why, "a task's folder cannot be read"),
                    (_, Err(why)) => tracing::warn!(%task, %why, "a task's state cannot be read"),
                }
            }
            let live = found.iter().filter(|it| !matches!(it.phase, Phase::Ended(_))).map(|it| it.task).collect();
            this.files.adopt(node, &live);
            Ok(found)
        })
        .boxed()
    }

    fn host_ports(&self, task: TaskId) -> BoxFuture<'_, Result<Vec<HostPort>, EngineError>> {
        self.blocking(move |this| {
            let plan =
                this.folder(task).plan().map_err(|why| folder::failed("cannot read the plan of the task", why))?;
            let port = |it: &PortConfig| HostPort { protocol: it.protocol, target: it.target, published: it.published };
            Ok(plan.run.ports.iter().map(port).collect())
        })
        .boxed()
    }

    fn interactive(&self) -> Option<&dyn Interactive> {
        Some(self)
    }
}

impl Interactive for ProcessEngine {
    fn exec<'a>(&'a self, task: TaskId, exec: &'a Exec) -> BoxFuture<'a, Result<Executed, ExecError>> {
        let exec = exec.clone();
        async move {
            let started = self.blocking(move |this| match this.phase_now(task)? {
                Phase::Running(_) => {
                    Ok(exec::start(&this.folder(task), &exec, &this.config.path, Arc::clone(&this.config.utc)))
                }
                _ => Err(EngineError::Failed(format!("task {task} is not running"))),
            });
            started.await?
        }
        .boxed()
    }

    /// Dials the task's own address. A task without one listens on the machine's addresses, where a port cannot be
    /// attributed to a task, and is refused.
    fn dial(&self, task: TaskId, port: u16) -> BoxFuture<'_, Result<Box<dyn Duplex>, EngineError>> {
        async move {
            let at = SocketAddr::new(self.address(task)?, port);
            let connected = Connected::to(at).await;
            let connected = connected.map_err(|why| EngineError::Failed(format!("cannot connect to {at}: {why}")))?;
            Ok(Box::new(connected) as Box<dyn Duplex>)
        }
        .boxed()
    }

    fn dial_udp(&self, task: TaskId, port: u16) -> BoxFuture<'_, Result<Box<dyn Packets>, EngineError>> {
        async move {
            let at = SocketAddr::new(self.address(task)?, port);
            packets(at).await.map_err(|why| EngineError::Failed(format!("cannot send datagrams to {at}: {why}")))
        }
        .boxed()
    }
}

impl ProcessEngine {
    fn address(&self, task: TaskId) -> Result<IpAddr, EngineError> {
        let address = self.addresses.of(task);
        address.ok_or_else(|| EngineError::Rejected("the task has no address of its own".into()))
    }
}

/// Time after the grace that a shim may take to kill and reap everything; after it the shim itself counts as stuck.
const SHIM_PATIENCE: Duration = Duration::from_secs(10);

fn describe() -> Description {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    Description {
        kind: EngineKind::Process,
        version: env!("CARGO_PKG_VERSION").into(),
        platform: Platform { architecture: std::env::consts::ARCH.into(), os: std::env::consts::OS.into() },
        hardware: Hardware { nano_cpus: cpus * 1_000_000_000, memory_bytes: memory_bytes().unwrap_or(0) },
        labels: Labels::new(),
        plugins: BTreeSet::new(),
        generic: GenericStock::default(),
        root: None,
        in_swarm: false,
    }
}

fn memory_bytes() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let total = info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = total.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
