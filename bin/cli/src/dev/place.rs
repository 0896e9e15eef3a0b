//! Where a dev cluster keeps what it needs, and how another terminal finds it.
//!
//! ```text
//! $XDG_RUNTIME_DIR/essaim-dev/<pid>/     (or below a private folder in /tmp)
//!   cluster.json     the command's process, its nodes and their processes
//!   control.sock     the control socket, where the command takes requests
//!   n1.sock …        the daemons' sockets: here, because the path of a socket must be short
//! /tmp/essaim-dev-<uid>/data-<token>/    (or below what `--dir` says)
//!   .essaim-dev      the mark: the same token
//!   n1/ …            a daemon's data, and its output in n1.log
//! ```
//!
//! In /tmp anybody may make a folder or a link of any name. So a folder is used only when each part of its path belongs
//! to this user or to root, and when nobody else may write into it; if the folder of the usual name is somebody
//! else's, a fresh one is made beside it. And a data folder is removed only when it carries the mark that its record
//! names: `--dir` says where that folder is made, and whatever else lies there is not touched.
//!
//! A command that was killed leaves all this behind, and its daemons too. The next one ends what is recorded there,
//! guarded by start times, before it begins.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::process::{Process, kill_tasks_below};
use crate::client::Address;
use crate::exit::Failure;

const STATE: &str = "cluster.json";

/// The file in a data folder that says that `essaim dev` made it, and for which record.
const MARK: &str = ".essaim-dev";

/// The longest path of a socket, the final zero included (`sun_path`).
const SOCKET_PATH_LEN_MAX: usize = 108;

/// A running cluster, as others may know it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    /// The command that runs it.
    pub(super) command: Process,
    /// Where the nodes keep their data.
    pub(super) data: PathBuf,
    /// What the mark in the data folder says, if it is the folder that was made for this cluster.
    pub(super) token: String,
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
    token: String,
}

impl Place {
    /// Makes the folders of the cluster that this process runs.
    pub(super) fn make(dir: Option<&Path>) -> Result<Self, Failure> {
        sweep();
        let token = token();
        let base = Base::of_this_user().make()?;
        let run = base.join(std::process::id().to_string());
        let below = match dir {
            Some(dir) => std::path::absolute(dir).map_err(|error| cannot("use", dir, &error))?,
            None => base,
        };
        fs::DirBuilder::new().recursive(true).create(&below).map_err(|error| cannot("make", &below, &error))?;
        let data = below.join(format!("data-{token}"));
        // A command that ended before it wrote its record may have had the same process id.
        let _ = fs::remove_dir_all(&run);
        for folder in [&run, &data] {
            make_new(folder).map_err(|error| cannot("make", folder, &error))?;
        }
        let mark = data.join(MARK);
        fs::write(&mark, &token).map_err(|error| cannot("write", &mark, &error))?;
        let place = Self { run, data, token };
        let longest = place.socket("n250");
        if longest.as_os_str().len() >= SOCKET_PATH_LEN_MAX {
            place.remove();
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
        let record = Record { command, data: self.data.clone(), token: self.token.clone(), nodes };
        let text = serde_json::to_vec_pretty(&record).map_err(|error| cannot("write", &path, &error.into()))?;
        let new = path.with_extension("new");
        fs::write(&new, text).and_then(|()| fs::rename(&new, &path)).map_err(|error| cannot("write", &path, &error))
    }

    /// Removes everything.
    pub(super) fn remove(&self) {
        remove(&self.run, &self.data, &self.token);
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
        remove(&run, &record.data, &record.token);
    }
}

fn records() -> Vec<(PathBuf, Record)> {
    let entries = Base::of_this_user().existing().into_iter().flat_map(|base| fs::read_dir(base).into_iter().flatten());
    let read = |run: PathBuf| Some((run.clone(), serde_json::from_slice(&fs::read(run.join(STATE)).ok()?).ok()?));
    entries.flatten().filter_map(|entry| read(entry.path())).collect()
}

/// Where the folders of one user's dev clusters may be.
struct Base {
    me: u32,
    /// `$XDG_RUNTIME_DIR`, which the system makes for this user alone.
    runtime: Option<PathBuf>,
    /// Where anybody may make folders.
    shared: PathBuf,
}

impl Base {
    fn of_this_user() -> Self {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_dir());
        Self { me: nix::unistd::getuid().as_raw(), runtime, shared: std::env::temp_dir() }
    }

    /// The name of this user's folder in the shared place.
    fn name(&self) -> String {
        format!("essaim-dev-{}", self.me)
    }

    /// The folder to use, which is made where it is missing.
    fn make(&self) -> Result<PathBuf, Failure> {
        let usual = self.shared.join(self.name());
        for folder in self.runtime.iter().map(|dir| dir.join("essaim-dev")).chain([usual.clone()]) {
            // It may be there already, and it may be somebody else's.
            let _ = make_new(&folder);
            if is_private(&folder, self.me) {
                return Ok(folder);
            }
        }
        let fresh = self.shared.join(format!("{}.{}", self.name(), token()));
        make_new(&fresh).map_err(|error| cannot("make", &fresh, &error))?;
        if is_private(&fresh, self.me) {
            return Ok(fresh);
        }
        let _ = fs::remove_dir(&fresh);
        Err(Failure::error(format!("others may write into a folder on the way to {}", usual.display()))
            .next("set TMPDIR or XDG_RUNTIME_DIR to a folder of your own"))
    }

    /// All folders that are there and that nobody else can have put anything into.
    fn existing(&self) -> Vec<PathBuf> {
        let is_fresh =
            |name: &str| name.strip_prefix(&self.name()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        let shared = fs::read_dir(&self.shared).into_iter().flatten().flatten();
        let shared = shared.filter(|entry| entry.file_name().to_str().is_some_and(is_fresh)).map(|entry| entry.path());
        let mut all: Vec<_> = self.runtime.iter().map(|dir| dir.join("essaim-dev")).chain(shared).collect();
        all.retain(|folder| is_private(folder, self.me));
        all.sort();
        all
    }
}

/// Whether a path leads to a folder of this user that nobody else may enter, over folders and links that nobody else
/// may change.
fn is_private(folder: &Path, me: u32) -> bool {
    // The folder itself, not what a link leads to.
    let Ok(found) = fs::symlink_metadata(folder) else { return false };
    found.is_dir() && found.uid() == me && found.permissions().mode() & 0o077 == 0 && is_safe_way(folder, me)
}

/// Whether each part of a path, and of what it leads to over links, belongs to this user or to root, and is writable
/// for others only with the sticky bit, as /tmp is.
fn is_safe_way(path: &Path, me: u32) -> bool {
    let Ok(real) = fs::canonicalize(path) else { return false };
    path.ancestors().chain(real.ancestors()).filter(|part| !part.as_os_str().is_empty()).all(|part| {
        fs::symlink_metadata(part).is_ok_and(|found| {
            let mode = found.permissions().mode();
            let is_shared = mode & 0o022 != 0 && mode & 0o1000 == 0;
            (found.uid() == me || found.uid() == 0) && (found.is_symlink() || !is_shared)
        })
    })
}

/// Makes a folder that was not there, for this user alone.
fn make_new(folder: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(folder)
}

/// A name that no other dev cluster of this machine has.
fn token() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("{}-{:x}", std::process::id(), now.as_nanos())
}

/// Removes the folder of a run, and its data where the folder carries the mark of that very run.
fn remove(run: &Path, data: &Path, token: &str) {
    let _ = fs::remove_dir_all(run);
    let is_folder = fs::symlink_metadata(data).is_ok_and(|found| found.is_dir());
    if is_folder && fs::read_to_string(data.join(MARK)).is_ok_and(|mark| mark == token) {
        let _ = fs::remove_dir_all(data);
    }
}

pub(super) fn cannot(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::error(format!("cannot {what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn me() -> u32 {
        nix::unistd::getuid().as_raw()
    }

    /// A folder as /tmp: anybody may write into it.
    fn shared() -> (tempfile::TempDir, Base) {
        let shared = tempfile::tempdir().expect("a folder");
        fs::set_permissions(shared.path(), fs::Permissions::from_mode(0o1777)).expect("it is ours");
        let base = Base { me: me(), runtime: None, shared: shared.path().to_owned() };
        (shared, base)
    }

    #[test]
    fn the_usual_folder_is_used_again_and_again() {
        let (_shared, base) = shared();
        let made = base.make().expect("made");
        assert_eq!(base.make().expect("found"), made);
        assert_eq!(base.existing(), [made]);
    }

    #[test]
    fn a_folder_that_others_may_enter_or_that_a_link_leads_to_is_not_used() {
        for way in ["open", "link", "file"] {
            let (shared, base) = shared();
            let usual = shared.path().join(base.name());
            match way {
                "open" => {
                    fs::create_dir(&usual).expect("made");
                    fs::set_permissions(&usual, fs::Permissions::from_mode(0o755)).expect("ours");
                }
                "link" => {
                    let elsewhere = shared.path().join("elsewhere");
                    make_new(&elsewhere).expect("made");
                    symlink(&elsewhere, &usual).expect("linked");
                }
                _ => fs::write(&usual, "").expect("written"),
            }
            let fresh = base.make().expect("a fresh one");
            assert!(fresh != usual && is_private(&fresh, base.me), "{way}");
            assert_eq!(base.existing(), [fresh], "{way}");
        }
    }

    #[test]
    fn a_folder_of_another_user_is_not_used() {
        let (_shared, base) = shared();
        let made = base.make().expect("made");
        assert!(is_private(&made, me()) && !is_private(&made, me() + 1));
    }

    #[test]
    fn a_folder_on_the_way_that_others_may_write_into_spoils_everything_below() {
        let (shared, base) = shared();
        fs::set_permissions(shared.path(), fs::Permissions::from_mode(0o777)).expect("ours");
        assert!(base.make().is_err());
        assert_eq!(base.existing(), Vec::<PathBuf>::new());
    }

    #[test]
    fn only_a_folder_with_the_mark_of_that_run_is_removed() {
        let dir = tempfile::tempdir().expect("a folder");
        let (run, data) = (dir.path().join("run"), dir.path().join("data"));
        fs::create_dir(&data).expect("made");
        fs::write(data.join("precious"), "").expect("written");
        remove(&run, &data, "token");
        fs::write(data.join(MARK), "another").expect("written");
        remove(&run, &data, "token");
        assert!(data.join("precious").exists());
        let link = dir.path().join("link");
        fs::write(data.join(MARK), "token").expect("written");
        symlink(&data, &link).expect("linked");
        remove(&run, &link, "token");
        assert!(data.join("precious").exists(), "a link is not followed");
        remove(&run, &data, "token");
        assert!(!data.exists());
    }
}
