//! Removal of what a program leaves behind when it is killed before it can clean up: namespaces, the processes in them,
//! mounts, control groups, and folders.
//!
//! Their names contain the process id of the program, so that another program can find them, and only they are removed.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::hosts::{NAMESPACES, mark, namespace_file};
use super::processes::kill_all_in;

/// Mount point of the control groups.
const CONTROL_GROUPS: &str = "/sys/fs/cgroup";

/// Makes a temporary folder whose name marks it for [`sweep`].
pub fn folder() -> TempDir {
    let prefix = format!("{}-", mark(std::process::id()));
    tempfile::Builder::new().prefix(&prefix).tempdir().expect("there is room for a folder")
}

/// Name for a control group that marks it for [`sweep`].
pub fn control_group() -> String {
    format!("{}-group", mark(std::process::id()))
}

/// Removes what programs have left behind that no longer run.
pub fn sweep_abandoned() {
    let owner = |name: &str| name.strip_prefix("et")?.split_once('-')?.0.parse::<u32>().ok();
    let names = names_in(Path::new(NAMESPACES)).into_iter().chain(names_in(&std::env::temp_dir()));
    let owners: BTreeSet<u32> = names.filter_map(|name| owner(&name)).collect();
    owners.into_iter().filter(|owner| !Path::new(&format!("/proc/{owner}")).exists()).for_each(sweep);
}

/// Removes everything that the program with this process id has made.
pub fn sweep(process: u32) {
    let prefix = format!("{}-", mark(process));
    let own = |folder: &Path| names_in(folder).into_iter().filter(|name| name.starts_with(&prefix)).collect::<Vec<_>>();
    for name in own(Path::new(NAMESPACES)) {
        kill_all_in(&namespace_file(&name));
        let _ = Command::new("ip").args(["netns", "del", &name]).output();
    }
    remove_control_groups(process);
    for name in own(&std::env::temp_dir()) {
        let folder = std::env::temp_dir().join(name);
        unmount_below(&folder);
        let _ = std::fs::remove_dir_all(folder);
    }
}

/// Removes those control groups of a program in which no process runs: one below each controller, or a single one
/// (cgroup v2).
pub fn remove_control_groups(process: u32) {
    let prefix = format!("{}-", mark(process));
    let root = Path::new(CONTROL_GROUPS);
    let controllers = names_in(root).into_iter().map(|name| root.join(name)).chain([root.to_owned()]);
    for controller in controllers {
        for name in names_in(&controller).into_iter().filter(|name| name.starts_with(&prefix)) {
            let group = controller.join(name);
            for below in names_in(&group) {
                // The kernel's own files are no folders, so this fails for them, and they go with their group.
                let _ = std::fs::remove_dir(group.join(below));
            }
            let _ = std::fs::remove_dir(group);
        }
    }
}

/// Unmounts all mounts below a folder, the innermost first.
pub fn unmount_below(folder: &Path) {
    let text = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let places = text.lines().filter_map(|line| line.split(' ').nth(1));
    let mut below: Vec<_> = places.filter(|place| Path::new(place).starts_with(folder)).collect();
    below.reverse();
    for some in below.chunks(100) {
        let _ = Command::new("umount").arg("--lazy").args(some).output();
    }
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
