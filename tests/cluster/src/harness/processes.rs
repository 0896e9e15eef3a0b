//! What runs below a daemon: shims, and the tasks below them.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How often to look again for tasks that were just being started.
const ROUNDS_MAX: usize = 100;

/// A process, known by its id and by when it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    start: u64,
}

impl Process {
    /// Signals it, if it is still the same.
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

/// The shims that keep tasks below this folder.
pub fn shims_below(folder: &Path) -> Vec<Process> {
    all()
        .into_iter()
        .filter(|stat| !stat.ended && is_shim_below(stat.pid, folder))
        .map(|stat| Process { pid: stat.pid, start: stat.start })
        .collect()
}

/// The main processes of the tasks below this folder: the children of their shims, in order of their ids.
pub fn tasks_below(folder: &Path) -> Vec<Process> {
    let shims = shims_below(folder);
    let mut tasks: Vec<_> = all()
        .into_iter()
        .filter(|stat| !stat.ended && shims.iter().any(|shim| shim.pid == stat.parent))
        .map(|stat| Process { pid: stat.pid, start: stat.start })
        .collect();
    tasks.sort_unstable();
    tasks
}

/// Kills the shims below this folder and all that descends from them.
pub fn kill_tasks_below(folder: &Path) {
    for _ in 0..ROUNDS_MAX {
        let shims = shims_below(folder);
        if shims.is_empty() {
            return;
        }
        let all = all();
        let mut doomed = shims;
        let mut at = 0;
        while let Some(parent) = doomed.get(at).copied() {
            let children = all.iter().filter(|stat| stat.parent == parent.pid && !stat.ended);
            doomed.extend(children.map(|stat| Process { pid: stat.pid, start: stat.start }));
            at += 1;
        }
        for process in doomed.into_iter().rev() {
            process.signal(Signal::SIGKILL);
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

fn all() -> Vec<Stat> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| stat(entry.file_name().to_str()?.parse().ok()?)).collect()
}

fn is_shim_below(pid: i32, folder: &Path) -> bool {
    let Ok(line) = std::fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    let mut words = line.split(|byte| *byte == 0).skip(1);
    words.next() == Some(b"task-shim".as_slice())
        && words.next().is_some_and(|word| Path::new(std::ffi::OsStr::from_bytes(word)).starts_with(folder))
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
