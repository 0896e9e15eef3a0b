//! Identity of processes, so that a signal never reaches a process that reused an id.
//!
//! A process id together with the time at which the process started names one process for ever. Both are recorded, and
//! both are compared before each signal.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// Rounds in which tasks that were just being started are looked for.
const ROUNDS_MAX: usize = 50;

/// One process of this machine, by id and start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Process {
    /// Process id.
    pub(super) pid: i32,
    /// Start time in clock ticks since the machine started.
    start: u64,
}

impl Process {
    /// The process that has this id now.
    pub(super) fn of(pid: i32) -> Option<Self> {
        Some(Self { pid, start: Stat::read(pid)?.start })
    }

    /// Whether the process still runs.
    pub(super) fn is_alive(self) -> bool {
        Stat::read(self.pid).is_some_and(|stat| stat.start == self.start && !stat.ended)
    }

    /// Sends a signal to the process, unless another process has its id now.
    pub(super) fn signal(self, signal: Signal) {
        if self.is_alive() {
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }
}

/// Kills every task whose data lies below this folder: its shim and all that descends from it.
pub(super) fn kill_tasks_below(folder: &Path) {
    for _ in 0..ROUNDS_MAX {
        let tasks = tasks_below(folder);
        if tasks.is_empty() {
            return;
        }
        for process in tasks {
            process.signal(Signal::SIGKILL);
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// The shims that keep tasks below this folder, and all their descendants. Descendants come first, because an orphan
/// could no longer be recognized as one.
fn tasks_below(folder: &Path) -> Vec<Process> {
    let mut stats = BTreeMap::new();
    let mut found = Vec::new();
    for pid in std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
    {
        if let Some(stat) = Stat::read(pid) {
            if !stat.ended && is_shim_below(pid, folder) {
                found.push(pid);
            }
            stats.insert(pid, stat);
        }
    }
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        found.extend(
            stats
                .iter()
                .filter(|(pid, stat)| stat.parent == parent && !stat.ended && !found.contains(pid))
                .map(|(pid, _)| *pid)
                .collect::<Vec<_>>(),
        );
        at += 1;
    }
    found.into_iter().rev().map(|pid| Process { pid, start: stats[&pid].start }).collect()
}

fn is_shim_below(pid: i32, folder: &Path) -> bool {
    let Ok(line) = std::fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    let mut words = line.split(|byte| *byte == 0).skip(1);
    words.next() == Some(b"task-shim".as_slice())
        && words.next().is_some_and(|word| Path::new(std::ffi::OsStr::from_bytes(word)).starts_with(folder))
}

struct Stat {
    parent: i32,
    start: u64,
    ended: bool,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        // The name in `stat` is in brackets and may contain anything, so fields are counted from the last bracket.
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_whitespace().collect();
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            start: fields.get(19)?.parse().ok()?,
            ended: matches!(*fields.first()?, "Z" | "X"),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_is_known_by_when_it_started() {
        let own = Process::of(std::process::id() as i32).unwrap();
        assert!(own.is_alive());
        let stranger = Process { start: own.start + 1, ..own };
        assert!(!stranger.is_alive());
        // The recorded start time is another one, so no signal is sent; a signal would end this test.
        stranger.signal(Signal::SIGKILL);
    }

    #[test]
    fn a_process_that_ended_is_not_alive() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::of(child.id() as i32).unwrap();
        process.signal(Signal::SIGKILL);
        child.wait().unwrap();
        assert!(!process.is_alive());
    }

    #[test]
    fn tasks_are_known_by_their_folder_and_end_with_what_they_started() {
        let folder = tempfile::tempdir().unwrap();
        // Two programs that look like shims: one below the folder, with a child, and one elsewhere.
        let shim = |folder: &Path| {
            let script = "sleep 60 & wait";
            Command::new("bash").arg0_as_shim(script, folder)
        };
        let (mut ours, mut other) = (shim(&folder.path().join("tasks/1")), shim(Path::new("/elsewhere")));
        let own = loop {
            let found = tasks_below(folder.path());
            if found.len() == 2 {
                break found;
            }
            std::thread::yield_now();
        };
        kill_tasks_below(folder.path());
        ours.wait().unwrap();
        assert!(own.iter().all(|process| !process.is_alive()));
        let other_process = Process::of(other.id() as i32).unwrap();
        assert!(other_process.is_alive());
        for process in tasks_below(Path::new("/elsewhere")) {
            process.signal(Signal::SIGKILL);
        }
        other.wait().unwrap();
    }

    trait AsShim {
        fn arg0_as_shim(&mut self, script: &str, folder: &Path) -> std::process::Child;
    }

    impl AsShim for Command {
        /// A shell whose command line reads `… task-shim FOLDER`: the script's file has that name.
        fn arg0_as_shim(&mut self, script: &str, folder: &Path) -> std::process::Child {
            let dir = tempfile::tempdir().unwrap().keep();
            std::fs::write(dir.join("task-shim"), script).unwrap();
            self.arg("task-shim").arg(folder).current_dir(dir).spawn().unwrap()
        }
    }
}
