//! What surrounds the daemon on its machine, as `essaim doctor` looks at it: the interfaces, the systemd unit that it runs
//! in, and its control group.

use crate::address::interfaces;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

/// Mount point of cgroup v2.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Controllers that the limits of a process task need.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// The addresses of this machine, each with its interface and the bytes that a packet there may have (MTU).
pub(crate) fn mtus() -> Vec<(IpAddr, String, u32)> {
    let mtu = |interface: &str| fs::read_to_string(format!("/sys/class/net/{interface}/mtu")).ok()?.trim().parse().ok();
    let told = interfaces().into_iter().filter_map(|it| mtu(&it.interface).map(|mtu| (it.address, it.interface, mtu)));
    told.collect()
}

/// The systemd unit that this process runs in and its `KillMode`; `None` outside of a unit of the system.
pub(crate) fn kill_mode() -> Option<(String, String)> {
    if !Path::new("/run/systemd/system").exists() {
        return None;
    }
    let unit = unit_of(&fs::read_to_string("/proc/self/cgroup").ok()?)?;
    let answer = Command::new("systemctl").args(["show", "--property=KillMode", "--value", &unit]).output().ok()?;
    let mode = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
    (!mode.is_empty()).then_some((unit, mode))
}

/// The system's unit that a process belongs to, by its `/proc/PID/cgroup`. A unit of a user's own systemd is not told: the
/// system's knows nothing of it.
fn unit_of(cgroup: &str) -> Option<String> {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let is_unit = |part: &&str| part.ends_with(".service") || part.ends_with(".scope");
    let unit = path.split('/').rfind(is_unit)?;
    (unit.ends_with(".service") && !path.contains("user@")).then(|| unit.to_owned())
}

/// Why tasks that run as processes can have no limits of processors, memory and processes here; `None` when they can.
pub(crate) fn cgroup_fault() -> Option<String> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default().to_owned();
    fault_of(Path::new(CGROUPS), &own)
}

/// The same for a process in the group `own` below `mount`. A task's group is made in that group or beside it.
fn fault_of(mount: &Path, own: &str) -> Option<String> {
    if !mount.join("cgroup.controllers").exists() {
        return Some(format!("{} is no cgroup v2", mount.display()));
    }
    let own = mount.join(own);
    let parents = [Some(own.as_path()), own.parent().filter(|it| it.starts_with(mount))];
    let faults: Vec<_> = parents.into_iter().flatten().map(fault_below).collect();
    if faults.contains(&None) { None } else { faults.into_iter().next().flatten() }
}

fn fault_below(parent: &Path) -> Option<String> {
    let there = fs::read_to_string(parent.join("cgroup.controllers")).unwrap_or_default();
    let lacks: Vec<_> = CONTROLLERS.into_iter().filter(|it| !there.split_whitespace().any(|one| one == *it)).collect();
    if !lacks.is_empty() {
        return Some(format!("{} lacks the controllers {}", parent.display(), lacks.join(", ")));
    }
    let may_write = nix::unistd::access(&parent.join("cgroup.subtree_control"), nix::unistd::AccessFlags::W_OK);
    may_write.err().map(|why| format!("{} may not be written: {why}", parent.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_has_an_mtu() {
        let all = mtus();
        assert!(all.iter().any(|(address, _, mtu)| address.is_loopback() && *mtu > 1280), "{all:?}");
    }

    #[test]
    fn the_unit_of_a_process_is_the_innermost_service_of_the_system() {
        let of = |path: &str| unit_of(&format!("1:name=systemd:/old\n0::/{path}\n"));
        assert_eq!(of("system.slice/essaim.service").as_deref(), Some("essaim.service"));
        assert_eq!(of("system.slice/essaim.service/daemon").as_deref(), Some("essaim.service"));
        assert_eq!(of("user.slice/user-1000.slice/user@1000.service/app.slice/term.scope"), None);
        assert_eq!(of("user.slice/user-1000.slice/user@1000.service/app.slice/mine.service"), None);
        assert_eq!((of(""), unit_of("")), (None, None));
    }

    #[test]
    fn a_group_that_was_not_handed_down_is_named_with_what_it_lacks() {
        let mount = tempfile::tempdir().expect("a folder");
        let fault = |own: &str| fault_of(mount.path(), own);
        assert!(fault("").is_some_and(|why| why.ends_with("is no cgroup v2")));
        let group = |path: &str, controllers: &str| {
            let group = mount.path().join(path);
            fs::create_dir_all(&group).expect("made");
            fs::write(group.join("cgroup.controllers"), controllers).expect("written");
            fs::write(group.join("cgroup.subtree_control"), "").expect("written");
        };
        group("", "cpu memory pids io");
        group("unit", "memory");
        group("unit/daemon", "");
        assert!(
            fault("unit/daemon")
                .is_some_and(|why| why.ends_with("unit/daemon lacks the controllers cpu, memory, pids"))
        );
        assert_eq!(fault("unit"), None, "the group can be beside it");
        group("unit", "cpu pids memory");
        assert_eq!(fault("unit/daemon"), None);
    }
}
