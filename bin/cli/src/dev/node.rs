//! One daemon of a dev cluster, as a child process.

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

/// Time within which a started daemon must answer, on a machine that is busy with something else.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// Time that a daemon may take to end its tasks and itself. Demo tasks end at once.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// Interval at which a starting daemon is asked whether it answers.
const POLL: Duration = Duration::from_millis(10);

/// Lines of its log that are shown when a daemon does not start.
const LOG_LINES_SHOWN: usize = 12;

/// A node of the dev cluster; its daemon may or may not run.
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
    /// The node with this number; its daemon is not started.
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

    /// The node's entry in `cluster.json`.
    pub(super) fn record(&self) -> NodeRecord {
        let daemon = self.child.as_ref().map(|running| running.process);
        NodeRecord { name: self.name.clone(), socket: self.socket.clone(), daemon }
    }

    /// A client of the node's daemon.
    pub(super) fn client(&self) -> Client {
        Client::new(Address::Unix(self.socket.clone()))
    }

    /// Whether the node's daemon runs.
    pub(super) fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Starts the node's daemon. [`Self::ready`] waits until it answers.
    pub(super) fn start(&mut self) -> Result<(), Failure> {
        let open = |path: &Path| std::fs::OpenOptions::new().create(true).append(true).open(path);
        let log = open(&self.log).map_err(|error| cannot("write", &self.log, &error))?;
        let also = log.try_clone().map_err(|error| cannot("write", &self.log, &error))?;
        // Runs this process's own program, not its path, so that a node restarted after a build runs the same program.
        let child = Command::new("/proc/self/exe")
            .arg0("essaim")
            .arg("daemon")
            // A cluster to try things with starts nothing in an engine that the machine may have.
            .args(["--engine", "process"])
            .arg("--data-dir")
            .arg(&self.data)
            .arg("--socket")
            .arg(&self.socket)
            .arg("--listen-addr")
            .arg(self.address.to_string())
            .arg("--advertise-addr")
            .arg(self.address.to_string())
            .args(["--hostname", &self.name])
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(also)
            // In a process group of its own, so that a terminal's Ctrl-C reaches only this command, which ends the
            // daemons in order.
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

    /// Waits until the node's daemon answers.
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

    /// Exit status of the node's daemon, if it ended since the last call.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.child.try_wait().ok().flatten()?;
        self.child = None;
        Some(status)
    }

    /// Kills the node's daemon with SIGKILL and leaves its tasks alone.
    pub(super) async fn kill_daemon(&mut self) {
        if let Some(mut running) = self.child.take() {
            running.process.signal(Signal::SIGKILL);
            let _ = running.child.wait().await;
        }
    }

    /// Kills the node's daemon and all its tasks, as a power cut of a machine would.
    pub(super) async fn kill(&mut self) {
        // Tasks are killed together with the daemon, so that it cannot report their end, and once more after it, for
        // tasks that it was just starting.
        let data = self.data.clone();
        if let Some(running) = &self.child {
            running.process.signal(Signal::SIGKILL);
        }
        kill_tasks_below(&data);
        self.kill_daemon().await;
        kill_tasks_below(&data);
    }

    /// Ends the node's daemon as Ctrl-C does, tasks first. What does not end in time is killed.
    pub(super) async fn stop(&mut self) {
        if let Some(running) = &mut self.child {
            running.process.signal(Signal::SIGINT);
            let _ = tokio::time::timeout(STOP_DEADLINE, running.child.wait()).await;
        }
        self.kill().await;
    }

    /// The last lines of the daemon's log.
    pub(super) fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        let last = lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n  ");
        format!("its last words ({}):\n  {last}", self.log.display())
    }
}
