//! Descendants of a process, read from `/proc`.
//!
//! A task may leave behind children, daemons that forked twice and processes in sessions of their own. All of them stay
//! below the shim, because the shim is a subreaper: an orphan becomes its child. The descendants of the shim are
//! therefore exactly the processes of the task. If a shim is killed, the orphans of its task are found by their
//! environment.

use essaim_model::TaskId;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// A process as `/proc` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    parent: i32,
    /// Whether the process has ended and waits to be reaped.
    zombie: bool,
    /// Processor time used, in ticks.
    cpu_ticks: u64,
    /// Start time in ticks since the machine started; together with the id it identifies a process for ever.
    pub(crate) start_ticks: u64,
    resident_pages: u64,
}

/// Every process of the machine.
fn all() -> BTreeMap<i32, Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return BTreeMap::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| Some((pid, of(pid)?))).collect()
}

/// The process with this id, if it exists.
pub(crate) fn of(pid: i32) -> Option<Process> {
    parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

impl Process {
    /// Whether the process has ended, and is only waiting to be reaped.
    pub(crate) const fn has_ended(self) -> bool {
        self.zombie
    }
}

/// Ids of the descendants of `ancestor` that still run.
pub(crate) fn descendants(ancestor: i32) -> Vec<i32> {
    below(ancestor, &all()).into_iter().filter(|(_, process)| !process.zombie).map(|(pid, _)| pid).collect()
}

/// Processor time, bytes of memory and number of the descendants of `ancestor`.
pub(crate) fn usage(ancestor: i32) -> (Duration, u64, u32) {
    let live: Vec<_> = below(ancestor, &all()).into_iter().filter(|(_, process)| !process.zombie).collect();
    let ticks: u64 = live.iter().map(|(_, process)| process.cpu_ticks).sum();
    let pages: u64 = live.iter().map(|(_, process)| process.resident_pages).sum();
    (Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND), pages * PAGE_BYTES, live.len() as u32)
}

/// Ids of the processes that carry `task` in their environment, as far as this user may read it.
pub(crate) fn strays(task: TaskId) -> Vec<i32> {
    let mark = format!("{}={task}", super::folder::TASK_ID_ENV).into_bytes();
    let carries = |pid: &i32| {
        let file = format!("/proc/{pid}/environ");
        std::fs::read(Path::new(&file)).is_ok_and(|env| env.split(|byte| *byte == 0).any(|entry| entry == mark))
    };
    all().into_iter().filter(|(_, process)| !process.zombie).map(|(pid, _)| pid).filter(carries).collect()
}

fn below(ancestor: i32, all: &BTreeMap<i32, Process>) -> Vec<(i32, Process)> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for (pid, process) in all {
        children.entry(process.parent).or_default().push(*pid);
    }
    let mut found = Vec::new();
    let mut open = vec![ancestor];
    // All ids come from one listing, in which each has one parent, so this loop ends; `found` guards against a torn
    // listing.
    while let Some(pid) = open.pop() {
        for child in children.remove(&pid).unwrap_or_default() {
            found.push((child, all[&child]));
            open.push(child);
        }
    }
    found
}

/// Parses `/proc/PID/stat`. The name in parentheses may contain anything, so fields are counted after its end.
pub(crate) fn parse(stat: &str) -> Option<Process> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // Fields by their numbers in proc(5), where the state is 3: ppid 4, utime 14, stime 15, starttime 22, rss 24.
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Process {
        parent: fields.get(1)?.parse().ok()?,
        zombie: matches!(*fields.first()?, "Z" | "X"),
        cpu_ticks: number(14)? + number(15)?,
        start_ticks: number(22)?,
        resident_pages: number(24)?,
    })
}

/// `USER_HZ`: ticks per second in all that Linux shows, fixed at 100.
const TICKS_PER_SECOND: u64 = 100;

/// Page size in bytes on x86-64, and on arm64 as distributions build it.
const PAGE_BYTES: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_is_no_obstacle() {
        let stat = "42 (a ) b (c) S 7 42 42 0 -1 0 0 0 0 0 3 4 0 0 20 0 1 0 99 1000 5 0";
        let found = parse(stat).unwrap();
        assert_eq!((found.parent, found.cpu_ticks, found.start_ticks, found.resident_pages), (7, 7, 99, 5));
        assert_eq!(parse("42 (cut"), None);
    }

    #[test]
    fn grandchildren_are_descendants_and_siblings_are_not() {
        let process = |parent| Process { parent, zombie: false, cpu_ticks: 0, start_ticks: 0, resident_pages: 0 };
        let all: BTreeMap<i32, Process> =
            [(2, 1), (3, 2), (4, 3), (5, 1)].into_iter().map(|(pid, parent)| (pid, process(parent))).collect();
        let mut found: Vec<i32> = below(2, &all).into_iter().map(|(pid, _)| pid).collect();
        found.sort_unstable();
        assert_eq!(found, [3, 4]);
    }

    #[test]
    fn this_process_is_there_with_its_start() {
        let me = of(std::process::id() as i32).expect("this process");
        assert!(me.start_ticks > 0 && !me.zombie);
        assert_eq!(of(std::process::id() as i32).map(|again| again.start_ticks), Some(me.start_ticks));
    }
}
