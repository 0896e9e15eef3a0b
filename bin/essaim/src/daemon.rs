//! The daemon: a node with the real clock, disk, network and engines.

use crate::engines::{self, Engines, NoEngine};
use crate::notify::ServiceManager;
use crate::signal;
use essaim_api::{EngineSocket, Host, Tcp};
use essaim_model::{GenericStock, Labels};
use essaim_node::{LogBounds, MachineSockets, Parts, RealMachine, StartError, start};
use essaim_system::env::{Clock, RealClock, RealDisk};
use essaim_system::{Env, Seed};
use essaim_transport::{QuicNetwork, Utc};
use essaim_wire::Build;
use std::fs::File;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Name of the lock file that keeps a second daemon out of the data folder.
const LOCK: &str = "lock";

/// Log filter when `RUST_LOG` is not set. openraft warns of every missed heartbeat; the journal records their outcome
/// once.
const LOG_FILTER: &str = "warn,openraft=error";

/// Places and addresses with which a daemon is started.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Folder for everything that must be found again after a restart.
    pub data_dir: PathBuf,
    /// Unix socket of the API.
    pub socket: PathBuf,
    /// TCP address of the API, with its certificates; none when `None`.
    pub tcp: Option<Tcp>,
    /// Address to listen on while the node is in a cluster. An unspecified address with the default port counts as not
    /// set.
    pub listen: SocketAddr,
    /// Address that other nodes are told to use: an address or an interface.
    pub advertise: Option<String>,
    /// Name of the machine; the host's own name when `None`.
    pub hostname: Option<String>,
    /// Engines that run tasks.
    pub engines: Engines,
    /// Labels of the machine, which constraints match as `engine.labels.…`.
    pub labels: Labels,
    /// Generic resources that the machine has for tasks.
    pub generic: GenericStock,
}

impl Settings {
    /// Settings with this data folder and this socket, and the defaults of `essaim daemon` for the rest.
    pub fn new(data_dir: impl Into<PathBuf>, socket: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            socket: socket.into(),
            tcp: None,
            listen: SocketAddr::from(([0, 0, 0, 0], essaim_node::address::PORT)),
            advertise: None,
            hostname: None,
            engines: Engines::Found,
            labels: Labels::new(),
            generic: GenericStock::default(),
        }
    }
}

/// The daemon cannot run. Everything that it had started has ended, except its tasks.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The data folder cannot be used.
    #[error("cannot use the data folder {path}: {why}")]
    Folder {
        /// Path that cannot be used.
        path: PathBuf,
        /// Error of the file system.
        why: io::Error,
    },
    /// Another daemon uses the data folder.
    #[error("another daemon uses the data folder {0}: stop it, or choose another folder with --data-dir")]
    Locked(PathBuf),
    /// The Docker Engine that the daemon is to use cannot be used.
    #[error("{0}")]
    Engine(String),
    /// The node does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The signal handlers cannot be installed.
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
    /// The root of the supervision tree failed, because its children failed too often.
    #[error("the daemon failed: {0}")]
    Failed(String),
}

/// Keeps keys and secrets in this process's memory from other programs of the same user and from core dumps, of which some
/// machines keep every one on a disk.
fn keep_memory_private() -> io::Result<()> {
    Ok(nix::sys::prctl::set_dumpable(false)?)
}

/// Runs a daemon until a signal ends it.
pub async fn run(settings: Settings) -> Result<(), RunError> {
    let Settings { data_dir, socket, tcp, listen, advertise, hostname, engines, labels, generic } = settings;
    keep_memory_private().map_err(|why| RunError::Failed(format!("its memory cannot be kept private: {why}")))?;
    // Each published port and each connection takes a file. A daemon that may not ask for more works with what it has.
    let open_files = essaim_engines::raise_open_files();
    // The log serves the debugging of the daemon itself (`RUST_LOG=debug`); operators read the journal.
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| LOG_FILTER.into());
    // A program that has set its own subscriber keeps it.
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let _ = log.with_ansi(io::stderr().is_terminal()).try_init();
    if let Err(why) = open_files {
        tracing::warn!(%why, "the limit of open files stays as it is");
    }
    let folder = |why| RunError::Folder { path: data_dir.clone(), why };
    let disk = RealDisk::open(&data_dir).map_err(folder)?;
    let _lock = lock(&data_dir)?;
    let clock: Arc<dyn Clock> = Arc::new(RealClock::new());
    let utc: Utc = {
        let clock = Arc::clone(&clock);
        Arc::new(move || clock.utc())
    };
    let engines = match engines::choose(&engines, &data_dir, utc).await {
        Ok(chosen) => chosen,
        Err(NoEngine::Folder(why)) => return Err(folder(why)),
        Err(NoEngine::Docker(why)) => return Err(RunError::Engine(why)),
    };
    let engine_socket = engines.docker.as_ref().map(|engine| EngineSocket::new(engine.socket()));
    let engines = engines.all();
    let hostname = hostname.unwrap_or_else(own_hostname);
    let host = Host::read(hostname.clone(), data_dir.display().to_string(), engines[0].kind().to_string());
    let env =
        Env { clock, seed: Seed::fresh(), disk: Arc::new(disk), network: Arc::new(QuicNetwork), build: Build::NEWEST };
    let unsaid = listen.ip().is_unspecified() && listen.port() == essaim_node::address::PORT;
    let parts = Parts {
        settings: essaim_node::Settings {
            hostname,
            listen: if unsaid { String::new() } else { listen.to_string() },
            advertise: advertise.unwrap_or_default(),
            labels,
            generic,
            log: LogBounds::USUAL,
        },
        engines,
        sockets: Arc::new(MachineSockets::default()),
        machine: Arc::new(RealMachine::new(data_dir.clone())),
        faces: vec![essaim_api::face(socket, tcp, host, engine_socket)],
    };
    let manager = ServiceManager::from_environment();
    let node = start(env, parts).await?;
    manager.ready();
    let farewell = tokio::select! {
        farewell = signal::farewell() => farewell.map_err(RunError::Signals)?,
        why = node.ended() => return Err(RunError::Failed(why)),
    };
    manager.stopping();
    node.farewell(farewell).await;
    Ok(())
}

/// Locks the data folder. The lock holds while the file is open: until the process ends, in whatever way.
fn lock(data_dir: &Path) -> Result<File, RunError> {
    let path = data_dir.join(LOCK);
    let file = File::create(&path).map_err(|why| RunError::Folder { path: path.clone(), why })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(RunError::Locked(data_dir.into())),
        Err(std::fs::TryLockError::Error(why)) => Err(RunError::Folder { path, why }),
    }
}

fn own_hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "localhost".into(),
        name => name.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_whose_memory_is_private_is_not_dumped() {
        keep_memory_private().expect("it needs no privilege");
        assert_eq!(nix::sys::prctl::get_dumpable(), Ok(false));
    }
}
