//! One daemon of the dev cluster.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::place::{NodeRecord, Place, cannot};
use super::process::{Process, kill_tasks_below};
use crate::client::{Address, Client};
use crate::exit::Failure;

/// How long a daemon may take until it answers; the time of a machine that is busy with something else.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// How long a daemon may take to end its tasks and itself. Demo tasks end at once.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// How often a starting daemon is asked.
const POLL: Duration = Duration::from_millis(10);

/// How many lines of its output are shown when a daemon does not start.
const LOG_LINES_SHOWN: usize = 12;

/// A daemon, running or not.
pub(super) struct Node {
    pub(super) name: String,
    pub(super) address: SocketAddr,
    pub(super) socket: PathBuf,
    data: PathBuf,
    log: PathBuf,
    child: Option<Running>,
}

struct Running {
    child: Child,
    process: Process,
}

impl Node {
    /// Node number `number`, not yet started.
    pub(super) fn new(number: usize, address: SocketAddr, place: &Place) -> Self {
        let name = format!("n{number}");
        Self {
            socket: place.socket(&name),
            data: place.data.join(&name),
            log: place.data.join(format!("{name}.log")),
            child: None,
            address,
            name,
        }
    }

    /// What others may know of it.
    pub(super) fn record(&self) -> NodeRecord {
        let daemon = self.child.as_ref().map(|running| running.process);
        NodeRecord { name: self.name.clone(), socket: self.socket.clone(), daemon }
    }

    /// Talks to its daemon.
    pub(super) fn client(&self) -> Client {
        Client::new(Address::Unix(self.socket.clone()))
    }

    /// Whether its daemon runs.
    pub(super) fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Starts its daemon. It answers later: see [`Self::ready`].
    pub(super) fn start(&mut self) -> Result<(), Failure> {
        let open = |path: &Path| std::fs::OpenOptions::new().create(true).append(true).open(path);
        let log = open(&self.log).map_err(|error| cannot("write", &self.log, &error))?;
        let also = log.try_clone().map_err(|error| cannot("write", &self.log, &error))?;
        // Not its path: a daemon that is restarted after a build is still the one that was started.
        let child = Command::new("/proc/self/exe")
            .arg0("essaim")
            .arg("daemon")
            .arg("--data-dir")
            .arg(&self.data)
            .arg("--socket")
            .arg(&self.socket)
            .arg("--listen-addr")
            .arg(self.address.to_string())
            .arg("--advertise-addr")
            .arg(self.address.to_string())
            .args(["--engine", "process", "--hostname", &self.name])
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(also)
            // A terminal's Ctrl-C is for the command, which then ends the daemons in order.
            .process_group(0)
            .spawn()
            .map_err(|error| Failure::error(format!("cannot start the daemon of {}: {error}", self.name)))?;
        let process = child.id().and_then(|pid| Process::of(pid as i32));
        let Some(process) = process else {
            return Err(Failure::error(format!("the daemon of {} ended at once\n{}", self.name, self.last_words())));
        };
        self.child = Some(Running { child, process });
        Ok(())
    }

    /// Waits until its daemon answers.
    pub(super) async fn ready(&mut self) -> Result<(), Failure> {
        let client = self.client();
        let begun = Instant::now();
        loop {
            if self.socket.exists() && client.get("/_ping").await.is_ok() {
                return Ok(());
            }
            if let Some(status) = self.ended() {
                return Err(Failure::error(format!(
                    "the daemon of {} ended ({status})\n{}",
                    self.name,
                    self.last_words()
                )));
            }
            if begun.elapsed() > START_DEADLINE {
                return Err(Failure::error(format!(
                    "the daemon of {} does not answer\n{}",
                    self.name,
                    self.last_words()
                )));
            }
            sleep(POLL).await;
        }
    }

    /// How its daemon ended, if it did since it was last asked for.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.child.try_wait().ok().flatten()?;
        self.child = None;
        Some(status)
    }

    /// Kills its daemon alone, with SIGKILL.
    pub(super) async fn kill_daemon(&mut self) {
        if let Some(mut running) = self.child.take() {
            running.process.signal(Signal::SIGKILL);
            let _ = running.child.wait().await;
        }
    }

    /// Kills its daemon and then all its tasks, as a machine that loses its power would.
    pub(super) async fn kill(&mut self) {
        // Tasks together with the daemon, so that it cannot report their end; and again after it, for what it was
        // just starting.
        let data = self.data.clone();
        if let Some(running) = &self.child {
            running.process.signal(Signal::SIGKILL);
        }
        kill_tasks_below(&data);
        self.kill_daemon().await;
        kill_tasks_below(&data);
    }

    /// Ends its daemon as Ctrl-C does: tasks first. What does not end in time is killed.
    pub(super) async fn stop(&mut self) {
        if let Some(running) = &mut self.child {
            running.process.signal(Signal::SIGINT);
            let _ = tokio::time::timeout(STOP_DEADLINE, running.child.wait()).await;
        }
        self.kill().await;
    }

    /// The end of its output.
    pub(super) fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        let last = lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n  ");
        format!("its last words ({}):\n  {last}", self.log.display())
    }
}
