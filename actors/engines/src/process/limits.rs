//! Limits of processor time, memory and processes, by cgroup v2. Where the daemon may not write cgroups, a task with
//! limits is refused with the reason.
//!
//! A task with limits gets a cgroup `essaim/<task>` below the daemon's own cgroup or, since a cgroup that has processes
//! cannot delegate controllers, beside it. The shim puts the task into it before its program starts.

use essaim_model::TaskId;
use essaim_worker::engine::{EngineError, Limits};
use std::path::{Path, PathBuf};

/// Mount point of cgroup v2.
const MOUNT: &str = "/sys/fs/cgroup";

/// Period of the processor quota in microseconds: the kernel's default.
const CPU_PERIOD: u64 = 100_000;

/// Creates the cgroup of a task and returns its path; none when nothing is limited.
pub(super) fn prepare(task: TaskId, limits: &Limits) -> Result<Option<String>, EngineError> {
    if limits.is_none() {
        return Ok(None);
    }
    make(Path::new(MOUNT), &own_cgroup(), task, limits).map(|made| Some(made.to_string_lossy().into_owned())).map_err(
        |why| {
            EngineError::Rejected(format!(
                "limits of CPU, memory or processes need a cgroup v2 that the daemon may write, with the controllers \
                 {}: {why}",
                wanted(limits).join(", ")
            ))
        },
    )
}

/// Removes the cgroup of a task that has ended.
pub(super) fn remove(cgroup: Option<&str>) {
    if let Some(cgroup) = cgroup {
        // The cgroup may be gone already, for example because the machine was restarted.
        let _ = std::fs::remove_dir(cgroup);
    }
}

/// The daemon's own cgroup, as a path below the mount.
fn own_cgroup() -> String {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default().to_owned()
}

fn wanted(limits: &Limits) -> Vec<&'static str> {
    let all = [("cpu", limits.nano_cpus), ("memory", limits.memory_bytes), ("pids", limits.pids)];
    all.into_iter().filter(|(_, limit)| *limit > 0).map(|(name, _)| name).collect()
}

fn make(mount: &Path, own: &str, task: TaskId, limits: &Limits) -> Result<PathBuf, String> {
    if !mount.join("cgroup.controllers").exists() {
        return Err(format!("{} is no cgroup v2", mount.display()));
    }
    let own = mount.join(own);
    let mut refused = "no cgroup to put it in".to_owned();
    for parent in [Some(own.as_path()), own.parent().filter(|parent| parent.starts_with(mount))].into_iter().flatten() {
        match make_below(parent, task, limits) {
            Ok(made) => return Ok(made),
            Err(why) => refused = why,
        }
    }
    Err(refused)
}

fn make_below(parent: &Path, task: TaskId, limits: &Limits) -> Result<PathBuf, String> {
    let wanted = wanted(limits);
    hand_down(parent, &wanted)?;
    let all = parent.join("essaim");
    make_dir(&all)?;
    hand_down(&all, &wanted)?;
    let made = all.join(task.to_string());
    make_dir(&made)?;
    let settings = [
        ("cpu.max", limits.nano_cpus, format!("{} {CPU_PERIOD}", (limits.nano_cpus / 10_000).max(1_000))),
        ("memory.max", limits.memory_bytes, limits.memory_bytes.to_string()),
        ("pids.max", limits.pids, limits.pids.to_string()),
    ];
    for (file, limit, value) in settings {
        if limit > 0 {
            write(&made.join(file), &value)?;
        }
    }
    if limits.memory_bytes > 0 {
        // On a machine without swap this file does not exist, and there is nothing to limit.
        let _ = write(&made.join("memory.swap.max"), "0");
    }
    Ok(made)
}

/// Delegates the wanted controllers to cgroups below `dir`.
fn hand_down(dir: &Path, wanted: &[&str]) -> Result<(), String> {
    let file = dir.join("cgroup.subtree_control");
    let there = std::fs::read_to_string(&file).map_err(|why| format!("{}: {why}", file.display()))?;
    let lacking: Vec<String> = wanted
        .iter()
        .filter(|name| !there.split_whitespace().any(|found| found == **name))
        .map(|name| format!("+{name}"))
        .collect();
    if lacking.is_empty() { Ok(()) } else { write(&file, &lacking.join(" ")) }
}

fn make_dir(dir: &Path) -> Result<(), String> {
    match std::fs::create_dir(dir) {
        Err(why) if why.kind() != std::io::ErrorKind::AlreadyExists => Err(format!("{}: {why}", dir.display())),
        _ => Ok(()),
    }
}

fn write(file: &Path, value: &str) -> Result<(), String> {
    std::fs::write(file, value).map_err(|why| format!("{}: {why}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { nano_cpus: 500_000_000, memory_bytes: 64 << 20, pids: 0 };

    #[test]
    fn no_limits_need_no_cgroup() {
        assert_eq!(prepare(TaskId::from_bits(1), &Limits::default()), Ok(None));
    }

    #[test]
    fn where_there_is_no_cgroup_limits_are_refused_in_words() {
        let nowhere = tempfile::tempdir().unwrap();
        let refused = make(nowhere.path(), "", TaskId::from_bits(1), &LIMITS).unwrap_err();
        assert!(refused.ends_with("is no cgroup v2"), "{refused}");
        assert_eq!(wanted(&LIMITS), ["cpu", "memory"]);
    }

    /// A folder of plain files stands in for the cgroup file system, so that the test can read what the kernel would
    /// get.
    #[test]
    fn limits_are_written_in_the_kernels_units() {
        let mount = tempfile::tempdir().unwrap();
        std::fs::write(mount.path().join("cgroup.controllers"), "cpu memory pids").unwrap();
        let all = mount.path().join("unit/essaim");
        std::fs::create_dir_all(&all).unwrap();
        for dir in [mount.path().join("unit"), all] {
            std::fs::write(dir.join("cgroup.subtree_control"), "cpu memory").unwrap();
        }
        let made = make(mount.path(), "unit", TaskId::from_bits(1), &LIMITS).unwrap();
        assert_eq!(std::fs::read_to_string(made.join("cpu.max")).unwrap(), "50000 100000");
        assert_eq!(std::fs::read_to_string(made.join("memory.max")).unwrap(), (64 << 20).to_string());
        assert!(!made.join("pids.max").exists());
    }
}
