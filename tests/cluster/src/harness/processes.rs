//! Processes below a daemon (shims, and the tasks below them) or on a host, and their memory.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Number of rounds of killing: a task may be started while others are being killed, and is found in the next round.
const ROUNDS_MAX: usize = 100;

/// Time for killed processes to end before the next round.
const AGAIN: std::time::Duration = std::time::Duration::from_millis(2);

/// A process, identified by its id and its start time, since the kernel reuses ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Process id.
    pub pid: i32,
    start: u64,
}

impl Process {
    /// The variables with which the process was started, as `NAME=value`.
    pub fn environment(self) -> Vec<String> {
        let all = std::fs::read(format!("/proc/{}/environ", self.pid)).unwrap_or_default();
        all.split(|byte| *byte == 0).map(|one| String::from_utf8_lossy(one).into_owned()).collect()
    }

    /// Sends the process a signal; does nothing when the process has ended and its id belongs to another one.
    pub fn signal(self, signal: Signal) {
        if stat(self.pid).is_some_and(|stat| stat.start == self.start) {
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }
}

struct Stat {
    pid: i32,
    parent: i32,
    start: u64,
    ended: bool,
}

impl Stat {
    const fn process(&self) -> Process {
        Process { pid: self.pid, start: self.start }
    }
}

/// The shims of the tasks whose folders are below this folder.
pub fn shims_below(folder: &Path) -> Vec<Process> {
    all().into_iter().filter(|stat| !stat.ended && is_shim_below(stat.pid, folder)).map(|stat| stat.process()).collect()
}

/// The main processes of the tasks below this folder: the children of their shims, sorted by process id.
pub fn tasks_below(folder: &Path) -> Vec<Process> {
    let shims = shims_below(folder);
    let mut tasks: Vec<_> = all()
        .into_iter()
        .filter(|stat| !stat.ended && shims.iter().any(|shim| shim.pid == stat.parent))
        .map(|stat| stat.process())
        .collect();
    tasks.sort_unstable();
    tasks
}

/// Kills the shims of the tasks below this folder, and all their descendants.
pub fn kill_tasks_below(folder: &Path) {
    for _ in 0..ROUNDS_MAX {
        let shims = shims_below(folder);
        if shims.is_empty() {
            return;
        }
        for process in with_descendants(shims, &all()).into_iter().rev() {
            process.signal(Signal::SIGKILL);
        }
        std::thread::sleep(AGAIN);
    }
}

/// Kills every process in a network namespace, and all descendants of these processes, since a container has a
/// namespace of its own. The oldest is killed first: a daemon ends before its tasks and cannot report their end.
pub fn kill_all_in(namespace: &Path) {
    for _ in 0..ROUNDS_MAX {
        let all = all();
        let mut within: Vec<_> =
            all.iter().filter(|stat| !stat.ended && is_in(stat.pid, namespace)).map(Stat::process).collect();
        within.sort_unstable_by_key(|process| process.start);
        let doomed = with_descendants(within, &all);
        if doomed.is_empty() {
            return;
        }
        for process in doomed {
            process.signal(Signal::SIGKILL);
        }
        std::thread::sleep(AGAIN);
    }
}

/// Kills the Docker Engines whose files are below this folder, their containerds, and all containers.
pub fn kill_engines_below(folder: &Path) {
    for _ in 0..ROUNDS_MAX {
        let all = all();
        let own =
            all.iter().filter(|stat| !stat.ended && is_engine_below(stat.pid, folder)).map(Stat::process).collect();
        let doomed = with_descendants(own, &all);
        if doomed.is_empty() {
            return;
        }
        for process in doomed {
            process.signal(Signal::SIGKILL);
        }
        std::thread::sleep(AGAIN);
    }
}

/// The processes in a network namespace that have this name, which is cut at fifteen letters as the kernel cuts names.
pub fn named_in(namespace: &Path, name: &str) -> Vec<Process> {
    let cut = &name[..name.len().min(15)];
    let is_named =
        |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == cut);
    let all = all().into_iter();
    all.filter(|stat| !stat.ended && is_named(stat.pid) && is_in(stat.pid, namespace))
        .map(|stat| stat.process())
        .collect()
}

/// Resident memory of a process in bytes; 0 when the process has ended.
pub fn resident(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// The processes in `found` and all their descendants, parents before children.
fn with_descendants(mut found: Vec<Process>, all: &[Stat]) -> Vec<Process> {
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        let children: Vec<_> =
            all.iter().filter(|stat| stat.parent == parent.pid && !stat.ended).map(Stat::process).collect();
        for child in children {
            if !found.contains(&child) {
                found.push(child);
            }
        }
        at += 1;
    }
    found
}

fn all() -> Vec<Stat> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| stat(entry.file_name().to_str()?.parse().ok()?)).collect()
}

fn is_in(pid: i32, namespace: &Path) -> bool {
    let inode = |path: &Path| std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    let own = inode(Path::new(&format!("/proc/{pid}/ns/net")));
    own.is_some() && own == inode(namespace)
}

fn is_shim_below(pid: i32, folder: &Path) -> bool {
    let Ok(line) = std::fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    let mut words = line.split(|byte| *byte == 0).skip(1);
    words.next() == Some(b"task-shim".as_slice())
        && words.next().is_some_and(|word| Path::new(std::ffi::OsStr::from_bytes(word)).starts_with(folder))
}

/// Whether a process is a dockerd, a containerd or one of its shims, by a file below the folder in its arguments.
fn is_engine_below(pid: i32, folder: &Path) -> bool {
    let Ok(line) = std::fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    let mut words = line.split(|byte| *byte == 0).map(|word| Path::new(std::ffi::OsStr::from_bytes(word)));
    let program = words.next().and_then(Path::file_name).map_or(&[][..], |name| name.as_bytes());
    (program == b"dockerd" || program.starts_with(b"containerd")) && words.any(|word| word.starts_with(folder))
}

fn stat(pid: i32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_whitespace().collect();
    Some(Stat {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        start: fields.get(19)?.parse().ok()?,
        ended: matches!(*fields.first()?, "Z" | "X"),
    })
}
