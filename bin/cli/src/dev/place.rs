//! Where a dev cluster keeps what it needs, and how another terminal finds it.
//!
//! ```text
//! $XDG_RUNTIME_DIR/essaim-dev/<pid>/     (or /tmp/essaim-dev-<uid>/<pid>/)
//!   cluster.json     the command's process, its nodes and their processes
//!   control.sock     where it takes requests
//!   n1.sock …        the daemons' sockets: here, because the path of a socket must be short
//! /tmp/essaim-dev-<uid>/data-<pid>/      or what `--dir` says
//!   n1/ …            a daemon's data, and its output in n1.log
//! ```
//!
//! A command that was killed leaves all this behind, and its daemons too. The next one ends what is recorded there,
//! guarded by start times, before it begins.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::process::{Process, kill_tasks_below};
use crate::client::Address;
use crate::exit::Failure;

const STATE: &str = "cluster.json";

/// The longest path of a socket, the final zero included (`sun_path`).
const SOCKET_PATH_LEN_MAX: usize = 108;

/// A running cluster, as others may know it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    /// The command that runs it.
    pub(super) command: Process,
    /// Where the nodes keep their data.
    pub(super) data: PathBuf,
    /// Whether the data folder is ours to remove, or only what is in it.
    pub(super) temporary: bool,
    /// Its nodes.
    pub(super) nodes: Vec<NodeRecord>,
}

/// A node of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct NodeRecord {
    /// n1, n2, …
    pub(super) name: String,
    /// Its daemon's socket.
    pub(super) socket: PathBuf,
    /// Its daemon, while it runs.
    pub(super) daemon: Option<Process>,
}

/// The folders of one cluster.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Sockets and state.
    pub(super) run: PathBuf,
    /// Data.
    pub(super) data: PathBuf,
    temporary: bool,
}

impl Place {
    /// Makes the folders of the cluster that this process runs.
    pub(super) fn make(dir: Option<&Path>) -> Result<Self, Failure> {
        sweep();
        let pid = std::process::id();
        let run = run_dir().join(pid.to_string());
        let (data, temporary) = match dir {
            Some(dir) => (std::path::absolute(dir).map_err(|error| cannot("use", dir, &error))?, false),
            None => (temporary_dir().join(format!("data-{pid}")), true),
        };
        for folder in [&run, &data] {
            make_private(folder)?;
        }
        if !temporary && fs::read_dir(&data).map_err(|error| cannot("read", &data, &error))?.next().is_some() {
            let _ = fs::remove_dir(&run);
            return Err(Failure::error(format!("{} is not empty, and it would be emptied at the end", data.display()))
                .next("name a folder that does not exist yet"));
        }
        let place = Self { run, data, temporary };
        let longest = place.socket("n250");
        if longest.as_os_str().len() >= SOCKET_PATH_LEN_MAX {
            let _ = fs::remove_dir(&place.run);
            return Err(Failure::error(format!("{} is too long for the path of a socket", longest.display()))
                .next("set XDG_RUNTIME_DIR to a shorter path, or unset it"));
        }
        Ok(place)
    }

    /// The socket of this node.
    pub(super) fn socket(&self, name: &str) -> PathBuf {
        self.run.join(format!("{name}.sock"))
    }

    /// The control socket.
    pub(super) fn control(&self) -> PathBuf {
        self.run.join("control.sock")
    }

    /// Writes down what runs.
    pub(super) fn record(&self, nodes: Vec<NodeRecord>) -> Result<(), Failure> {
        let path = self.run.join(STATE);
        let Some(command) = Process::of(std::process::id() as i32) else {
            return Err(Failure::error("cannot read /proc: `essaim dev` needs it to know its own processes"));
        };
        let record = Record { command, data: self.data.clone(), temporary: self.temporary, nodes };
        let text = serde_json::to_vec_pretty(&record).map_err(|error| cannot("write", &path, &error.into()))?;
        let new = path.with_extension("new");
        fs::write(&new, text).and_then(|()| fs::rename(&new, &path)).map_err(|error| cannot("write", &path, &error))
    }

    /// Removes everything.
    pub(super) fn remove(&self) {
        remove(&self.run, &self.data, self.temporary);
    }
}

/// The one dev cluster that runs for this user.
pub(super) fn running() -> Result<PathBuf, Failure> {
    let mut running: Vec<_> = records().into_iter().filter(|(_, record)| record.command.is_alive()).collect();
    match running.len() {
        1 => Ok(running.remove(0).0.join("control.sock")),
        0 => Err(Failure::error("no dev cluster is running").next("start one with `essaim dev --nodes 3 --demo`")),
        _ => {
            let all: Vec<_> = running.iter().map(|(run, _)| run.display().to_string()).collect();
            Err(Failure::error(format!("several dev clusters are running: {}", all.join(", ")))
                .next("end all but one with Ctrl-C in their terminals"))
        }
    }
}

/// The first node of the one dev cluster that runs, for commands that name no daemon.
pub(crate) fn socket_of_the_only_cluster() -> Option<Address> {
    let mut running: Vec<_> = records().into_iter().filter(|(_, record)| record.command.is_alive()).collect();
    if running.len() != 1 {
        return None;
    }
    let nodes = running.remove(0).1.nodes;
    nodes.into_iter().find(|node| node.daemon.is_some_and(Process::is_alive)).map(|node| Address::Unix(node.socket))
}

/// Ends what a killed command has left behind.
fn sweep() {
    for (run, record) in records() {
        if record.command.is_alive() {
            continue;
        }
        for node in &record.nodes {
            if let Some(daemon) = node.daemon {
                daemon.signal(Signal::SIGKILL);
            }
        }
        kill_tasks_below(&record.data);
        eprintln!("ended what an `essaim dev` that was killed (process {}) had left behind", record.command.pid);
        remove(&run, &record.data, record.temporary);
    }
}

fn records() -> Vec<(PathBuf, Record)> {
    let base = run_dir();
    // Only what is ours: in /tmp anybody may make a folder of that name.
    if fs::metadata(&base).map_or(true, |found| found.uid() != nix::unistd::getuid().as_raw()) {
        return Vec::new();
    }
    let entries = fs::read_dir(base).into_iter().flatten().flatten();
    let read = |run: PathBuf| Some((run.clone(), serde_json::from_slice(&fs::read(run.join(STATE)).ok()?).ok()?));
    entries.filter_map(|entry| read(entry.path())).collect()
}

fn run_dir() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_dir()) {
        Some(dir) => dir.join("essaim-dev"),
        None => temporary_dir(),
    }
}

fn temporary_dir() -> PathBuf {
    std::env::temp_dir().join(format!("essaim-dev-{}", nix::unistd::getuid()))
}

fn make_private(folder: &Path) -> Result<(), Failure> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| cannot("make", folder, &error))?;
    let owner = fs::metadata(folder).map_err(|error| cannot("read", folder, &error))?.uid();
    if owner == nix::unistd::getuid().as_raw() {
        return Ok(());
    }
    Err(Failure::error(format!("{} belongs to another user", folder.display()))
        .next("set TMPDIR or XDG_RUNTIME_DIR to a folder of your own"))
}

fn remove(run: &Path, data: &Path, temporary: bool) {
    let _ = fs::remove_dir_all(run);
    if temporary {
        let _ = fs::remove_dir_all(data);
        return;
    }
    for entry in fs::read_dir(data).into_iter().flatten().flatten() {
        let path = entry.path();
        let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    }
}

pub(super) fn cannot(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::error(format!("cannot {what} {}: {error}", path.display()))
}
