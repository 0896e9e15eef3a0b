//! The first process of a container, as the kernel shows it: whether the container has ended, when the engine is gone and
//! cannot be asked.
//!
//! dockerd ends its containers when it is stopped, unless `live-restore` is set. Without this look, a task would wait for
//! an engine that may never return, although everybody can see that its container has ended.

use crate::process::proc_tree;
use std::io::ErrorKind;

/// Error of a read of `/proc/PID` when the process ended meanwhile.
const ESRCH: i32 = 3;

/// The first process of a running container. A container ends with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FirstProcess {
    pid: u32,
    /// Start time of the process: the kernel gives ids of processes again.
    start_ticks: u64,
}

impl FirstProcess {
    /// Finds the process by the id that the engine states. `None` when this machine shows no such process in a control
    /// group of the container, because the engine runs in another namespace of process ids, or the process ended.
    pub(super) fn of(pid: u32, container: &str) -> Option<Self> {
        let start_ticks = proc_tree::of(pid.try_into().ok()?)?.start_ticks;
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        groups.contains(container).then_some(Self { pid, start_ticks })
    }

    /// Whether the process has this id.
    pub(super) const fn is(self, pid: u32) -> bool {
        self.pid == pid
    }

    /// Whether the process has ended for sure.
    pub(super) fn has_ended(self) -> bool {
        match std::fs::read_to_string(format!("/proc/{}/stat", self.pid)) {
            Ok(stat) => proc_tree::parse(&stat).is_some_and(|it| it.has_ended() || it.start_ticks != self.start_ticks),
            Err(why) => why.kind() == ErrorKind::NotFound || why.raw_os_error() == Some(ESRCH),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// This process, as if it were the first one of a container.
    fn me() -> FirstProcess {
        let pid = std::process::id();
        FirstProcess { pid, start_ticks: proc_tree::of(pid as i32).expect("this process").start_ticks }
    }

    #[test]
    fn a_process_that_runs_has_not_ended_and_another_one_with_its_id_is_not_it() {
        assert!(!me().has_ended());
        assert!(FirstProcess { start_ticks: 1, ..me() }.has_ended());
        let mut child = std::process::Command::new("true").spawn().expect("it starts");
        let ended = FirstProcess { pid: child.id(), start_ticks: 1 };
        child.wait().expect("it ends");
        assert!(ended.has_ended());
    }

    #[test]
    fn a_process_outside_of_the_containers_control_group_is_not_its_first_one() {
        assert_eq!(FirstProcess::of(std::process::id(), &"0".repeat(64)), None);
        assert_eq!(FirstProcess::of(u32::MAX, ""), None);
    }
}
